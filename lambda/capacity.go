package lambda

import (
	"context"
	"iter"
	"maps"
	"slices"
	"strings"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/capacity"
	"github.com/hearth-faas/hearth/registry"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"
)

// capacityOperations are those of capacity providers, and of the scaling of
// functions on them.
var capacityOperations = operationTable{
	"CreateCapacityProvider":                 serve((*Handler).createCapacityProvider),
	"DeleteCapacityProvider":                 serve((*Handler).deleteCapacityProvider),
	"GetCapacityProvider":                    serve((*Handler).getCapacityProvider),
	"ListCapacityProviders":                  serve((*Handler).listCapacityProviders),
	"ListFunctionVersionsByCapacityProvider": serve((*Handler).listVersionsByProvider),
	"UpdateCapacityProvider":                 serve((*Handler).updateCapacityProvider),
	"GetFunctionScalingConfig":               serve((*Handler).getScaling),
	"PutFunctionScalingConfig":               serve((*Handler).putScaling),
}

// CapacityProviders keeps the capacity providers. Safe for concurrent use.
type CapacityProviders interface {
	Create(ctx context.Context, p capacity.Provider) (*capacity.Provider, error)
	Get(account hearth.Account, name string) (*capacity.Provider, error)
	List(account hearth.Account, after string) iter.Seq[*capacity.Provider]
	Update(ctx context.Context, account hearth.Account, name string, change func(*capacity.Provider) error) (*capacity.Provider, error)
	Delete(ctx context.Context, account hearth.Account, name string) (*capacity.Provider, error)
	TagStore
}

var _ CapacityProviders = (*capacity.Providers)(nil)

// maxPerProvider is how many function versions may be placed on a capacity
// provider, as in the service.
const maxPerProvider = 100

// capacityProvider is a provider as the API shows it.
func capacityProvider(p *capacity.Provider) *types.CapacityProvider {
	out := &types.CapacityProvider{
		CapacityProviderArn: new(p.ARN()),
		State:               types.CapacityProviderState(p.State),
		PermissionsConfig:   &types.CapacityProviderPermissionsConfig{CapacityProviderOperatorRoleArn: new(p.OperatorRole)},
		VpcConfig:           &types.CapacityProviderVpcConfig{SubnetIds: slices.Clone(p.SubnetIDs), SecurityGroupIds: slices.Clone(p.SecurityGroupIDs)},
		KmsKeyArn:           optional(p.KMSKeyARN),
		LastModified:        new(p.Modified.UTC().Format("2006-01-02T15:04:05.000+0000")),
		CapacityProviderScalingConfig: &types.CapacityProviderScalingConfig{
			MaxVCpuCount: new(int32(p.Scaling.MaxVCPUs)), ScalingMode: types.CapacityProviderScalingMode(p.Scaling.Mode),
		},
	}
	for _, policy := range p.Scaling.Policies {
		out.CapacityProviderScalingConfig.ScalingPolicies = append(out.CapacityProviderScalingConfig.ScalingPolicies, types.TargetTrackingScalingPolicy{
			PredefinedMetricType: types.CapacityProviderPredefinedMetricType(policy.Metric), TargetValue: new(policy.Target),
		})
	}
	if r := p.Requirements; r != nil {
		out.InstanceRequirements = &types.InstanceRequirements{AllowedInstanceTypes: slices.Clone(r.Allowed), ExcludedInstanceTypes: slices.Clone(r.Excluded)}
		for _, a := range r.Architectures {
			out.InstanceRequirements.Architectures = append(out.InstanceRequirements.Architectures, types.Architecture(a))
		}
	}
	if p.Propagate != nil {
		out.PropagateTags = &types.PropagateTags{Mode: types.PropagateTagsMode(p.Propagate.Mode), ExplicitTags: maps.Clone(p.Propagate.Tags)}
	}
	if l := p.Logging; l != nil {
		out.TelemetryConfig = &types.CapacityProviderTelemetryConfig{LoggingConfig: &types.CapacityProviderLoggingConfig{
			LogGroup: optional(l.Group), SystemLogLevel: types.SystemLogLevel(l.SystemLevel),
		}}
	}
	return out
}

// setScaling, setPropagate and setLogging read what Create and Update have in
// common; nil leaves it as it is.

func setScaling(p *capacity.Provider, in *types.CapacityProviderScalingConfig) {
	if in == nil {
		return
	}
	if in.MaxVCpuCount != nil {
		p.Scaling.MaxVCPUs = int(*in.MaxVCpuCount)
	}
	if in.ScalingMode != "" {
		p.Scaling.Mode = string(in.ScalingMode)
		p.Scaling.Policies = nil
	}
	if in.ScalingPolicies != nil {
		p.Scaling.Policies = nil
		for _, policy := range in.ScalingPolicies {
			p.Scaling.Policies = append(p.Scaling.Policies, capacity.Policy{Metric: string(policy.PredefinedMetricType), Target: *policy.TargetValue})
		}
	}
}

func setPropagate(p *capacity.Provider, in *types.PropagateTags) {
	if in != nil {
		p.Propagate = &capacity.Propagate{Mode: string(in.Mode), Tags: in.ExplicitTags}
	}
}

func setLogging(p *capacity.Provider, in *types.CapacityProviderTelemetryConfig) {
	if in != nil && in.LoggingConfig != nil {
		p.Logging = &capacity.Logging{Group: str(in.LoggingConfig.LogGroup), SystemLevel: string(in.LoggingConfig.SystemLogLevel)}
	}
}

func (h *Handler) createCapacityProvider(c *call, in *sdk.CreateCapacityProviderInput) (smithy.Serializable, error) {
	name := str(in.CapacityProviderName)
	if strings.Contains(name, ":") {
		return nil, hearth.Errorf(hearth.InvalidParameter, "The name of a new capacity provider must not be an ARN: %s", name)
	}
	p := capacity.Provider{
		Account: c.account(), Name: name, Tags: in.Tags, KMSKeyARN: str(in.KmsKeyArn),
		OperatorRole: str(in.PermissionsConfig.CapacityProviderOperatorRoleArn),
		SubnetIDs:    in.VpcConfig.SubnetIds, SecurityGroupIDs: in.VpcConfig.SecurityGroupIds,
	}
	if r := in.InstanceRequirements; r != nil {
		p.Requirements = &capacity.Requirements{Allowed: r.AllowedInstanceTypes, Excluded: r.ExcludedInstanceTypes}
		for _, a := range r.Architectures {
			p.Requirements.Architectures = append(p.Requirements.Architectures, string(a))
		}
	}
	setScaling(&p, in.CapacityProviderScalingConfig)
	setPropagate(&p, in.PropagateTags)
	setLogging(&p, in.TelemetryConfig)
	made, err := h.CapacityProviders.Create(c.ctx, p)
	if err != nil {
		return nil, err
	}
	return &sdk.CreateCapacityProviderOutput{CapacityProvider: capacityProvider(made)}, nil
}

func (h *Handler) getCapacityProvider(c *call, in *sdk.GetCapacityProviderInput) (smithy.Serializable, error) {
	p, err := h.CapacityProviders.Get(c.account(), str(in.CapacityProviderName))
	if err != nil {
		return nil, err
	}
	return &sdk.GetCapacityProviderOutput{CapacityProvider: capacityProvider(p)}, nil
}

func (h *Handler) listCapacityProviders(c *call, in *sdk.ListCapacityProvidersInput) (smithy.Serializable, error) {
	out := &sdk.ListCapacityProvidersOutput{CapacityProviders: []types.CapacityProvider{}}
	last := ""
	for p := range h.CapacityProviders.List(c.account(), str(in.Marker)) {
		if in.State != "" && p.State != capacity.State(in.State) {
			continue
		}
		if len(out.CapacityProviders) == pageOf(in.MaxItems) {
			out.NextMarker = &last
			break
		}
		out.CapacityProviders = append(out.CapacityProviders, *capacityProvider(p))
		last = p.Name
	}
	return out, nil
}

func (h *Handler) updateCapacityProvider(c *call, in *sdk.UpdateCapacityProviderInput) (smithy.Serializable, error) {
	p, err := h.CapacityProviders.Update(c.ctx, c.account(), str(in.CapacityProviderName), func(p *capacity.Provider) error {
		setScaling(p, in.CapacityProviderScalingConfig)
		setPropagate(p, in.PropagateTags)
		setLogging(p, in.TelemetryConfig)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &sdk.UpdateCapacityProviderOutput{CapacityProvider: capacityProvider(p)}, nil
}

func (h *Handler) deleteCapacityProvider(c *call, in *sdk.DeleteCapacityProviderInput) (smithy.Serializable, error) {
	p, err := h.CapacityProviders.Delete(c.ctx, c.account(), str(in.CapacityProviderName))
	if err != nil {
		return nil, err
	}
	return &sdk.DeleteCapacityProviderOutput{CapacityProvider: capacityProvider(p)}, nil
}

func (h *Handler) listVersionsByProvider(c *call, in *sdk.ListFunctionVersionsByCapacityProviderInput) (smithy.Serializable, error) {
	p, err := h.CapacityProviders.Get(c.account(), str(in.CapacityProviderName))
	if err != nil {
		return nil, err
	}
	arn := p.ARN()
	out := &sdk.ListFunctionVersionsByCapacityProviderOutput{
		CapacityProviderArn: &arn, FunctionVersions: []types.FunctionVersionsByCapacityProviderListItem{},
	}
	placed := slices.SortedFunc(h.Registry.PlacedOn(c.account(), arn), func(a, b *hearth.Function) int {
		return strings.Compare(a.QualifiedARN(), b.QualifiedARN())
	})
	for _, f := range placed {
		at := f.QualifiedARN()
		if at <= str(in.Marker) {
			continue
		}
		if n := len(out.FunctionVersions); n == pageOf(in.MaxItems) {
			out.NextMarker = out.FunctionVersions[n-1].FunctionArn
			break
		}
		out.FunctionVersions = append(out.FunctionVersions, types.FunctionVersionsByCapacityProviderListItem{FunctionArn: &at, State: types.State(f.State)})
	}
	return out, nil
}

// placement is where a request places a function's environments; nil if it
// leaves that as it is. The provider must be there.
func (h *Handler) placement(c *call, in *types.CapacityProviderConfig) (*hearth.CapacityProvider, error) {
	if in == nil {
		return nil, nil
	}
	m := in.LambdaManagedInstancesCapacityProviderConfig
	p, err := h.CapacityProviders.Get(c.account(), str(m.CapacityProviderArn))
	if err != nil {
		return nil, err
	}
	if p.State == capacity.Deleting {
		return nil, hearth.Errorf(hearth.Conflict, "The operation cannot be performed at this time. The capacity provider is currently in the following state: %s", p.State)
	}
	n := 0
	for range h.Registry.PlacedOn(c.account(), p.ARN()) {
		n++
	}
	if n >= maxPerProvider {
		return nil, hearth.Errorf(hearth.VersionsPerProviderLimit, "The maximum number of function versions that can be associated with a single capacity provider has been exceeded: %d.", maxPerProvider)
	}
	out := &hearth.CapacityProvider{ARN: p.ARN()}
	if m.ExecutionEnvironmentMemoryGiBPerVCpu != nil {
		out.MemoryGiBPerCPU = *m.ExecutionEnvironmentMemoryGiBPerVCpu
	}
	if m.PerExecutionEnvironmentMaxConcurrency != nil {
		out.MaxConcurrency = int(*m.PerExecutionEnvironmentMaxConcurrency)
	}
	return out, nil
}

// placementOf is nil for a function that is on no capacity provider.
func placementOf(p *hearth.CapacityProvider) *types.CapacityProviderConfig {
	if p == nil {
		return nil
	}
	m := &types.LambdaManagedInstancesCapacityProviderConfig{CapacityProviderArn: new(p.ARN)}
	if p.MemoryGiBPerCPU != 0 {
		m.ExecutionEnvironmentMemoryGiBPerVCpu = new(p.MemoryGiBPerCPU)
	}
	if p.MaxConcurrency != 0 {
		m.PerExecutionEnvironmentMaxConcurrency = new(int32(p.MaxConcurrency))
	}
	return &types.CapacityProviderConfig{LambdaManagedInstancesCapacityProviderConfig: m}
}

// scalable finds the version whose environments are to be bounded.
func (h *Handler) scalable(c *call, name, qualifier *string, action string) (target, *hearth.Function, error) {
	t, err := h.target(c, name, qualifier, action)
	if err != nil {
		return t, nil, err
	}
	f, err := h.Registry.Get(c.ctx, t.account, t.name, t.qualifier)
	switch {
	case err != nil:
		return t, nil, err
	case f.CapacityProvider == nil:
		return t, nil, hearth.Errorf(hearth.InvalidParameter, "The function %s is not configured with a capacity provider.", f.QualifiedARN())
	case !isNumber(t.qualifier) && t.qualifier != hearth.LatestPublished:
		return t, nil, hearth.Errorf(hearth.InvalidParameter, "The function resource provided must be a published version.")
	}
	return t, f, nil
}

func (h *Handler) putScaling(c *call, in *sdk.PutFunctionScalingConfigInput) (smithy.Serializable, error) {
	t, f, err := h.scalable(c, in.FunctionName, in.Qualifier, "PutFunctionScalingConfig")
	if err != nil {
		return nil, err
	}
	_, err = h.Registry.Configure(c.ctx, t.account, t.name, t.qualifier, func(s *registry.Settings) error {
		s.Scaling = nil
		if in.FunctionScalingConfig == nil || in.FunctionScalingConfig.MinExecutionEnvironments == nil && in.FunctionScalingConfig.MaxExecutionEnvironments == nil {
			return nil
		}
		s.Scaling = &registry.Scaling{}
		if n := in.FunctionScalingConfig.MinExecutionEnvironments; n != nil {
			s.Scaling.MinEnvironments = new(int(*n))
		}
		if n := in.FunctionScalingConfig.MaxExecutionEnvironments; n != nil {
			s.Scaling.MaxEnvironments = new(int(*n))
			if s.Scaling.MinEnvironments != nil && *s.Scaling.MinEnvironments > int(*n) {
				return hearth.Errorf(hearth.InvalidParameter, "MinExecutionEnvironments must not be greater than MaxExecutionEnvironments.")
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &sdk.PutFunctionScalingConfigOutput{FunctionState: types.State(f.State)}, nil
}

func (h *Handler) getScaling(c *call, in *sdk.GetFunctionScalingConfigInput) (smithy.Serializable, error) {
	t, f, err := h.scalable(c, in.FunctionName, in.Qualifier, "GetFunctionScalingConfig")
	if err != nil {
		return nil, err
	}
	s, err := h.Registry.Settings(c.ctx, t.account, t.name, t.qualifier)
	if err != nil {
		return nil, err
	}
	out := &sdk.GetFunctionScalingConfigOutput{FunctionArn: new(f.QualifiedARN())}
	if s.Scaling != nil {
		// What is asked for is in effect when it is answered.
		out.RequestedFunctionScalingConfig, out.AppliedFunctionScalingConfig = scalingOf(s.Scaling), scalingOf(s.Scaling)
	}
	return out, nil
}

func scalingOf(s *registry.Scaling) *types.FunctionScalingConfig {
	out := &types.FunctionScalingConfig{}
	if s.MinEnvironments != nil {
		out.MinExecutionEnvironments = new(int32(*s.MinEnvironments))
	}
	if s.MaxEnvironments != nil {
		out.MaxExecutionEnvironments = new(int32(*s.MaxEnvironments))
	}
	return out
}
