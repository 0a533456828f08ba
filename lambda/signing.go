package lambda

import (
	"context"
	"slices"
	"strings"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/registry"
	"github.com/hearth-faas/hearth/signing"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"
)

// SigningConfigs keep the code signing configurations. Its errors are what the
// caller is told. Safe for concurrent use.
type SigningConfigs interface {
	Create(ctx context.Context, c signing.Config) (*signing.Config, error)
	Get(account hearth.Account, id string) (*signing.Config, error)
	List(account hearth.Account, after string, max int) (cs []*signing.Config, more bool)
	Update(ctx context.Context, account hearth.Account, id string, change func(*signing.Config)) (*signing.Config, error)
	Delete(ctx context.Context, account hearth.Account, id string) error
	// Bind keeps the configuration with the ARN while bind puts a function
	// under it.
	Bind(account hearth.Account, arn string, bind func() error) error
	TagStore
}

var signingOperations = operationTable{
	"CreateCodeSigningConfig":          serve((*Handler).createSigningConfig),
	"DeleteCodeSigningConfig":          serve((*Handler).deleteSigningConfig),
	"DeleteFunctionCodeSigningConfig":  serve((*Handler).deleteFunctionSigningConfig),
	"GetCodeSigningConfig":             serve((*Handler).getSigningConfig),
	"GetFunctionCodeSigningConfig":     serve((*Handler).getFunctionSigningConfig),
	"ListCodeSigningConfigs":           serve((*Handler).listSigningConfigs),
	"ListFunctionsByCodeSigningConfig": serve((*Handler).listFunctionsBySigningConfig),
	"PutFunctionCodeSigningConfig":     serve((*Handler).putFunctionSigningConfig),
	"UpdateCodeSigningConfig":          serve((*Handler).updateSigningConfig),
}

// signingConfigOf is a configuration as the API shows it.
func signingConfigOf(c *signing.Config) *types.CodeSigningConfig {
	policy := types.CodeSigningPolicyWarn
	if c.Enforce {
		policy = types.CodeSigningPolicyEnforce
	}
	return &types.CodeSigningConfig{
		CodeSigningConfigId: new(c.ID), CodeSigningConfigArn: new(c.ARN()), Description: new(c.Description),
		AllowedPublishers:   &types.AllowedPublishers{SigningProfileVersionArns: slices.Clone(c.Publishers)},
		CodeSigningPolicies: &types.CodeSigningPolicies{UntrustedArtifactOnDeployment: policy},
		LastModified:        new(c.Modified.UTC().Format("2006-01-02T15:04:05.000+0000")),
	}
}

func enforces(p *types.CodeSigningPolicies) bool {
	return p != nil && p.UntrustedArtifactOnDeployment == types.CodeSigningPolicyEnforce
}

// signingConfigID is the ID in a configuration's ARN, which has passed its
// pattern.
func (h *Handler) signingConfigID(c *call, arn *string, action string) (string, error) {
	parts := strings.Split(str(arn), ":")
	if len(parts) != 7 || parts[3] != h.region || hearth.Account(parts[4]) != c.account() {
		return "", hearth.Errorf(hearth.AccessDenied, "User: %s is not authorized to perform: lambda:%s on resource: %s", c.claim.Identity.ARN, action, str(arn))
	}
	return parts[6], nil
}

func (h *Handler) createSigningConfig(c *call, in *sdk.CreateCodeSigningConfigInput) (smithy.Serializable, error) {
	made, err := h.SigningConfigs.Create(c.ctx, signing.Config{
		Account: c.account(), Description: str(in.Description), Publishers: in.AllowedPublishers.SigningProfileVersionArns,
		Enforce: enforces(in.CodeSigningPolicies), Tags: in.Tags,
	})
	if err != nil {
		return nil, err
	}
	return &sdk.CreateCodeSigningConfigOutput{CodeSigningConfig: signingConfigOf(made)}, nil
}

func (h *Handler) getSigningConfig(c *call, in *sdk.GetCodeSigningConfigInput) (smithy.Serializable, error) {
	id, err := h.signingConfigID(c, in.CodeSigningConfigArn, "GetCodeSigningConfig")
	if err != nil {
		return nil, err
	}
	s, err := h.SigningConfigs.Get(c.account(), id)
	if err != nil {
		return nil, err
	}
	return &sdk.GetCodeSigningConfigOutput{CodeSigningConfig: signingConfigOf(s)}, nil
}

func (h *Handler) updateSigningConfig(c *call, in *sdk.UpdateCodeSigningConfigInput) (smithy.Serializable, error) {
	id, err := h.signingConfigID(c, in.CodeSigningConfigArn, "UpdateCodeSigningConfig")
	if err != nil {
		return nil, err
	}
	s, err := h.SigningConfigs.Update(c.ctx, c.account(), id, func(s *signing.Config) {
		set(&s.Description, in.Description)
		if in.AllowedPublishers != nil {
			s.Publishers = in.AllowedPublishers.SigningProfileVersionArns
		}
		if in.CodeSigningPolicies != nil && in.CodeSigningPolicies.UntrustedArtifactOnDeployment != "" {
			s.Enforce = enforces(in.CodeSigningPolicies)
		}
	})
	if err != nil {
		return nil, err
	}
	return &sdk.UpdateCodeSigningConfigOutput{CodeSigningConfig: signingConfigOf(s)}, nil
}

func (h *Handler) deleteSigningConfig(c *call, in *sdk.DeleteCodeSigningConfigInput) (smithy.Serializable, error) {
	id, err := h.signingConfigID(c, in.CodeSigningConfigArn, "DeleteCodeSigningConfig")
	if err != nil {
		return nil, err
	}
	return &sdk.DeleteCodeSigningConfigOutput{}, h.SigningConfigs.Delete(c.ctx, c.account(), id)
}

func (h *Handler) listSigningConfigs(c *call, in *sdk.ListCodeSigningConfigsInput) (smithy.Serializable, error) {
	after, _, err := afterMarker(in.Marker)
	if err != nil {
		return nil, err
	}
	cs, more := h.SigningConfigs.List(c.account(), after, pageOf(in.MaxItems))
	out := &sdk.ListCodeSigningConfigsOutput{CodeSigningConfigs: make([]types.CodeSigningConfig, len(cs))}
	for i, s := range cs {
		out.CodeSigningConfigs[i] = *signingConfigOf(s)
	}
	if more {
		out.NextMarker = markerAfter(cs[len(cs)-1].ID)
	}
	return out, nil
}

func (h *Handler) listFunctionsBySigningConfig(c *call, in *sdk.ListFunctionsByCodeSigningConfigInput) (smithy.Serializable, error) {
	id, err := h.signingConfigID(c, in.CodeSigningConfigArn, "ListFunctionsByCodeSigningConfig")
	if err != nil {
		return nil, err
	}
	s, err := h.SigningConfigs.Get(c.account(), id)
	if err != nil {
		return nil, err
	}
	under := map[string]bool{}
	for configured := range h.Registry.EverySettings() {
		if configured.Account == c.account() && configured.Settings.CodeSigningConfig == s.ARN() {
			under["arn:aws:lambda:"+h.region+":"+string(configured.Account)+":function:"+configured.Function] = true
		}
	}
	arns, next, err := pageOfKeys(under, in.Marker, pageOf(in.MaxItems))
	if err != nil {
		return nil, err
	}
	return &sdk.ListFunctionsByCodeSigningConfigOutput{FunctionArns: append([]string{}, arns...), NextMarker: next}, nil
}

// getFunctionSigningConfig answers an empty structure for a function without
// code signing: Terraform reads it with each refresh.
func (h *Handler) getFunctionSigningConfig(c *call, in *sdk.GetFunctionCodeSigningConfigInput) (smithy.Serializable, error) {
	t, err := h.unqualified(c, in.FunctionName, "GetFunctionCodeSigningConfig")
	if err != nil {
		return nil, err
	}
	s, err := h.Registry.Settings(c.ctx, t.account, t.name, "")
	if err != nil {
		return nil, err
	}
	if s.CodeSigningConfig == "" {
		return &sdk.GetFunctionCodeSigningConfigOutput{}, nil
	}
	return &sdk.GetFunctionCodeSigningConfigOutput{FunctionName: new(t.name), CodeSigningConfigArn: new(s.CodeSigningConfig)}, nil
}

func (h *Handler) putFunctionSigningConfig(c *call, in *sdk.PutFunctionCodeSigningConfigInput) (smithy.Serializable, error) {
	t, err := h.unqualified(c, in.FunctionName, "PutFunctionCodeSigningConfig")
	if err != nil {
		return nil, err
	}
	f, err := h.Registry.Get(c.ctx, t.account, t.name, "")
	if err != nil {
		return nil, err
	}
	if f.PackageType == string(types.PackageTypeImage) {
		return nil, imagesAreNotSigned()
	}
	arn := str(in.CodeSigningConfigArn)
	err = h.SigningConfigs.Bind(t.account, arn, func() error {
		_, err := h.Registry.Configure(c.ctx, t.account, t.name, "", func(s *registry.Settings) error {
			s.CodeSigningConfig = arn
			return nil
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return &sdk.PutFunctionCodeSigningConfigOutput{FunctionName: new(t.name), CodeSigningConfigArn: &arn}, nil
}

func imagesAreNotSigned() error {
	return hearth.Errorf(hearth.InvalidParameter, "Code signing is not supported for functions created with container images.")
}

func (h *Handler) deleteFunctionSigningConfig(c *call, in *sdk.DeleteFunctionCodeSigningConfigInput) (smithy.Serializable, error) {
	t, err := h.unqualified(c, in.FunctionName, "DeleteFunctionCodeSigningConfig")
	if err != nil {
		return nil, err
	}
	_, err = h.Registry.Configure(c.ctx, t.account, t.name, "", func(s *registry.Settings) error {
		s.CodeSigningConfig = ""
		return nil
	})
	return &sdk.DeleteFunctionCodeSigningConfigOutput{}, err
}
