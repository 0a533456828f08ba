package lambda

import (
	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/policy"
	"github.com/hearth-faas/hearth/registry"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/smithy-go"
)

// ownLayerVersion finds a layer version of the caller's account for an
// operation on its policy.
func (h *Handler) ownLayerVersion(c *call, name *string, version *int64, action string) (*registry.LayerVersion, error) {
	l, err := h.ownLayer(c, name, *version, action)
	if err != nil {
		return nil, err
	}
	if *version < 1 {
		return nil, badLayerVersion()
	}
	v := h.Registry.LayerVersion(l.account, l.name, int(*version))
	if v == nil {
		return nil, hearth.Errorf(hearth.NotFound, "Layer version %s does not exist.", h.layerARN(l, *version))
	}
	return v, nil
}

func (h *Handler) addLayerVersionPermission(c *call, in *sdk.AddLayerVersionPermissionInput) (smithy.Serializable, error) {
	v, err := h.ownLayerVersion(c, in.LayerName, in.VersionNumber, "AddLayerVersionPermission")
	if err != nil {
		return nil, err
	}
	s := policy.Statement{SID: str(in.StatementId), Effect: policy.Allow, Action: []string{str(in.Action)}, Resource: []string{v.ARN()}}
	if s.Principal, err = principalsOf(str(in.Principal)); err != nil {
		return nil, err
	}
	if org := str(in.OrganizationId); org != "" {
		if !s.Principal.Any {
			return nil, hearth.Errorf(hearth.InvalidParameter, "OrganizationId is only supported with the principal *")
		}
		s.Conditions = []policy.Condition{{Operator: "StringEquals", Key: "aws:PrincipalOrgID", Values: []string{org}}}
	}
	v, err = h.Registry.ConfigureLayer(c.ctx, v.Account, v.Name, v.Version, func(p *registry.Policy) (*registry.Policy, error) {
		next, err := withStatement(p, s)
		if err == nil {
			err = revised(p, in.RevisionId, "GetLayerPolicy")
		}
		return next, err
	})
	if err != nil {
		return nil, err
	}
	return &sdk.AddLayerVersionPermissionOutput{Statement: new(s.String()), RevisionId: new(v.Policy.RevisionID)}, nil
}

func (h *Handler) getLayerVersionPolicy(c *call, in *sdk.GetLayerVersionPolicyInput) (smithy.Serializable, error) {
	v, err := h.ownLayerVersion(c, in.LayerName, in.VersionNumber, "GetLayerVersionPolicy")
	if err != nil {
		return nil, err
	}
	if v.Policy == nil {
		return nil, noPolicy()
	}
	return &sdk.GetLayerVersionPolicyOutput{Policy: new(v.Policy.Document.String()), RevisionId: new(v.Policy.RevisionID)}, nil
}

func (h *Handler) removeLayerVersionPermission(c *call, in *sdk.RemoveLayerVersionPermissionInput) (smithy.Serializable, error) {
	v, err := h.ownLayerVersion(c, in.LayerName, in.VersionNumber, "RemoveLayerVersionPermission")
	if err != nil {
		return nil, err
	}
	_, err = h.Registry.ConfigureLayer(c.ctx, v.Account, v.Name, v.Version, func(p *registry.Policy) (*registry.Policy, error) {
		if p == nil {
			return nil, noPolicy()
		}
		if err := revised(p, in.RevisionId, "GetLayerPolicy"); err != nil {
			return nil, err
		}
		return withoutStatement(p, str(in.StatementId))
	})
	if err != nil {
		return nil, err
	}
	return &sdk.RemoveLayerVersionPermissionOutput{}, nil
}
