package lambda

import (
	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/policy"
	"github.com/hearth-faas/hearth/registry"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/smithy-go"
)

// The operations that read and write a whole resource-based policy. It is the
// same policy that AddPermission and its like work on.

// policyResource reads the complete ARN of a function, version or alias.
func (h *Handler) policyResource(c *call, arn *string, action string) (target, error) {
	if t, ok := parseName(str(arn)); !ok || t.account == "" || t.region == "" {
		return t, hearth.Errorf(hearth.InvalidParameter, "%s is not the complete ARN of a function, version or alias", str(arn))
	}
	return h.policyTarget(c, arn, nil, action)
}

func (h *Handler) putResourcePolicy(c *call, in *sdk.PutResourcePolicyInput) (smithy.Serializable, error) {
	t, err := h.policyResource(c, in.ResourceArn, "PutResourcePolicy")
	if err != nil {
		return nil, err
	}
	if err := h.exists(c, t); err != nil {
		return nil, err
	}
	d, err := policy.Parse([]byte(str(in.Policy)))
	if err == nil {
		err = d.Check(policy.Resource)
	}
	if err != nil {
		return nil, hearth.Errorf(hearth.InvalidParameter, "%s", err)
	}
	p, err := newPolicy(d)
	if err != nil {
		return nil, err
	}
	_, err = h.Registry.Configure(c.ctx, t.account, t.name, t.qualifier, func(set *registry.Settings) error {
		if err := revised(set.Policy, in.RevisionId, "GetResourcePolicy"); err != nil {
			return err
		}
		set.Policy = p
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &sdk.PutResourcePolicyOutput{Policy: new(d.String()), RevisionId: new(p.RevisionID)}, nil
}

func (h *Handler) getResourcePolicy(c *call, in *sdk.GetResourcePolicyInput) (smithy.Serializable, error) {
	t, err := h.policyResource(c, in.ResourceArn, "GetResourcePolicy")
	if err != nil {
		return nil, err
	}
	p, err := h.policyOf(c, t)
	if err != nil {
		return nil, err
	}
	return &sdk.GetResourcePolicyOutput{Policy: new(p.Document.String()), RevisionId: new(p.RevisionID)}, nil
}

func (h *Handler) deleteResourcePolicy(c *call, in *sdk.DeleteResourcePolicyInput) (smithy.Serializable, error) {
	t, err := h.policyResource(c, in.ResourceArn, "DeleteResourcePolicy")
	if err != nil {
		return nil, err
	}
	if err := h.exists(c, t); err != nil {
		return nil, err
	}
	_, err = h.Registry.Configure(c.ctx, t.account, t.name, t.qualifier, func(set *registry.Settings) error {
		if err := revised(set.Policy, in.RevisionId, "GetResourcePolicy"); err != nil {
			return err
		}
		if set.Policy == nil {
			return noResource()
		}
		set.Policy = nil
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &sdk.DeleteResourcePolicyOutput{}, nil
}
