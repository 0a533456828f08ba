package lambda

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/capacity"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/store/sqlite"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// recorded keeps decisions.
type recorded struct {
	mu        sync.Mutex
	decisions []hearth.Decision
}

func (r *recorded) Record(d *hearth.Decision) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.decisions = append(r.decisions, *d)
}

const providerARN = "arn:aws:lambda:us-east-1:000000000000:capacity-provider:p"

// withProviders gives a world capacity providers, whose users are the
// functions of its registry.
func withProviders(t *testing.T, c *Config) {
	records, err := sqlite.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	reg := c.Registry
	ps, err := capacity.Open(context.Background(), capacity.Config{
		Store: records, Clock: clock.System(), Region: "us-east-1",
		Users: func(a hearth.Account, arn string) bool {
			for range reg.PlacedOn(a, arn) {
				return true
			}
			return false
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(ps.Close(), records.Close()); err != nil {
			t.Error(err)
		}
	})
	c.CapacityProviders = ps
}

func providerInput() *sdk.CreateCapacityProviderInput {
	return &sdk.CreateCapacityProviderInput{
		CapacityProviderName:          new("p"),
		PermissionsConfig:             &types.CapacityProviderPermissionsConfig{CapacityProviderOperatorRoleArn: new("arn:aws:iam::000000000000:role/r")},
		VpcConfig:                     &types.CapacityProviderVpcConfig{SubnetIds: []string{"subnet-12345678"}, SecurityGroupIds: []string{"sg-12345678"}},
		CapacityProviderScalingConfig: &types.CapacityProviderScalingConfig{MaxVCpuCount: new(int32(4))},
		InstanceRequirements:          &types.InstanceRequirements{Architectures: []types.Architecture{types.ArchitectureX8664}, AllowedInstanceTypes: []string{"m7g.large"}},
		PropagateTags:                 &types.PropagateTags{Mode: types.PropagateTagsModeExplicit, ExplicitTags: map[string]string{"a": "b"}},
		TelemetryConfig:               &types.CapacityProviderTelemetryConfig{LoggingConfig: &types.CapacityProviderLoggingConfig{LogGroup: new("/g"), SystemLogLevel: types.SystemLogLevelWarn}},
		Tags:                          map[string]string{"t": "1"},
	}
}

func (w *world) awaitProvider(name string) {
	w.t.Helper()
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		out, err := w.lambda.GetCapacityProvider(w.t.Context(), &sdk.GetCapacityProviderInput{CapacityProviderName: &name})
		if err != nil {
			w.t.Fatal(err)
		}
		if out.CapacityProvider.State == types.CapacityProviderStateActive {
			return
		}
	}
	w.t.Fatalf("%s does not become Active", name)
}

func provokeProviders(p *provoker) {
	p.try(failed(p.lambda.ListTags(p.t.Context(), &sdk.ListTagsInput{Resource: new(providerARN)})))
	p.try(failed(p.lambda.ListTags(p.t.Context(), &sdk.ListTagsInput{Resource: new(providerARN + ":alias")})))
}

func TestCapacityProviderIsAnsweredAsItWasAskedFor(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	made, err := w.lambda.CreateCapacityProvider(ctx, providerInput())
	if err != nil {
		t.Fatal(err)
	}
	p := made.CapacityProvider
	if p.State != types.CapacityProviderStatePending || *p.CapacityProviderArn != providerARN || *p.CapacityProviderScalingConfig.MaxVCpuCount != 4 ||
		p.CapacityProviderScalingConfig.ScalingMode != types.CapacityProviderScalingModeAuto || p.InstanceRequirements.AllowedInstanceTypes[0] != "m7g.large" ||
		p.PropagateTags.ExplicitTags["a"] != "b" || *p.TelemetryConfig.LoggingConfig.LogGroup != "/g" || p.VpcConfig.SecurityGroupIds[0] != "sg-12345678" {
		t.Errorf("made %+v", p)
	}
	w.awaitProvider("p")
	updated, err := w.lambda.UpdateCapacityProvider(ctx, &sdk.UpdateCapacityProviderInput{CapacityProviderName: new("p"),
		CapacityProviderScalingConfig: &types.CapacityProviderScalingConfig{MaxVCpuCount: new(int32(8)), ScalingMode: types.CapacityProviderScalingModeManual,
			ScalingPolicies: []types.TargetTrackingScalingPolicy{{PredefinedMetricType: "LambdaCapacityProviderAverageCPUUtilization", TargetValue: new(50.0)}}}})
	if err != nil || *updated.CapacityProvider.CapacityProviderScalingConfig.MaxVCpuCount != 8 || *updated.CapacityProvider.CapacityProviderScalingConfig.ScalingPolicies[0].TargetValue != 50 {
		t.Errorf("updated to %+v, %v", updated, err)
	}
	if _, err := w.lambda.TagResource(ctx, &sdk.TagResourceInput{Resource: new(providerARN), Tags: map[string]string{"u": "2"}}); err != nil {
		t.Error(err)
	}
	if _, err := w.lambda.UntagResource(ctx, &sdk.UntagResourceInput{Resource: new(providerARN), TagKeys: []string{"t"}}); err != nil {
		t.Error(err)
	}
	tags, err := w.lambda.ListTags(ctx, &sdk.ListTagsInput{Resource: new(providerARN)})
	if err != nil || len(tags.Tags) != 1 || tags.Tags["u"] != "2" {
		t.Errorf("tags %v, %v", tags, err)
	}
	list, err := w.lambda.ListCapacityProviders(ctx, &sdk.ListCapacityProvidersInput{State: types.CapacityProviderStateActive})
	if err != nil || len(list.CapacityProviders) != 1 {
		t.Errorf("listed %+v, %v", list, err)
	}
	_, err = w.lambda.CreateCapacityProvider(ctx, providerInput())
	if _, ok := errors.AsType[*types.ResourceConflictException](err); !ok {
		t.Errorf("made twice: %v", err)
	}
}

func TestFunctionsArePlacedAndScaledOnACapacityProvider(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	placed := &types.CapacityProviderConfig{LambdaManagedInstancesCapacityProviderConfig: &types.LambdaManagedInstancesCapacityProviderConfig{
		CapacityProviderArn: new(providerARN), PerExecutionEnvironmentMaxConcurrency: new(int32(10)), ExecutionEnvironmentMemoryGiBPerVCpu: new(4.0)}}
	in := createInput("f")
	in.CapacityProviderConfig = placed
	_, err := w.lambda.CreateFunction(ctx, in)
	if _, ok := errors.AsType[*types.ResourceNotFoundException](err); !ok {
		t.Errorf("on a provider that is not there: %v", err)
	}
	if _, err := w.lambda.CreateCapacityProvider(ctx, providerInput()); err != nil {
		t.Fatal(err)
	}
	w.awaitProvider("p")
	f, err := w.lambda.CreateFunction(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	if c := f.CapacityProviderConfig.LambdaManagedInstancesCapacityProviderConfig; *c.CapacityProviderArn != providerARN || *c.PerExecutionEnvironmentMaxConcurrency != 10 || *c.ExecutionEnvironmentMemoryGiBPerVCpu != 4 {
		t.Errorf("placed on %+v", c)
	}
	if _, err := w.lambda.PublishVersion(ctx, &sdk.PublishVersionInput{FunctionName: new("f")}); err != nil {
		t.Fatal(err)
	}
	versions, err := w.lambda.ListFunctionVersionsByCapacityProvider(ctx, &sdk.ListFunctionVersionsByCapacityProviderInput{CapacityProviderName: new("p")})
	if err != nil || len(versions.FunctionVersions) != 2 || *versions.FunctionVersions[1].FunctionArn != arnPrefix+"f:1" {
		t.Errorf("its versions are %+v, %v", versions, err)
	}
	_, err = w.lambda.DeleteCapacityProvider(ctx, &sdk.DeleteCapacityProviderInput{CapacityProviderName: new("p")})
	if _, ok := errors.AsType[*types.ResourceConflictException](err); !ok {
		t.Errorf("deleted although it is used: %v", err)
	}
	put := func(least, most *int32) error {
		return failed(w.lambda.PutFunctionScalingConfig(ctx, &sdk.PutFunctionScalingConfigInput{FunctionName: new("f"), Qualifier: new("1"),
			FunctionScalingConfig: &types.FunctionScalingConfig{MinExecutionEnvironments: least, MaxExecutionEnvironments: most}}))
	}
	if _, ok := errors.AsType[*types.InvalidParameterValueException](put(new(int32(3)), new(int32(2)))); !ok {
		t.Error("at least 3 and at most 2 was taken")
	}
	if err := put(new(int32(1)), new(int32(2))); err != nil {
		t.Fatal(err)
	}
	s, err := w.lambda.GetFunctionScalingConfig(ctx, &sdk.GetFunctionScalingConfigInput{FunctionName: new("f"), Qualifier: new("1")})
	if err != nil || *s.AppliedFunctionScalingConfig.MinExecutionEnvironments != 1 || *s.RequestedFunctionScalingConfig.MaxExecutionEnvironments != 2 {
		t.Errorf("scaled as %+v, %v", s, err)
	}
	if err := put(nil, nil); err != nil {
		t.Fatal(err)
	}
	if s, err := w.lambda.GetFunctionScalingConfig(ctx, &sdk.GetFunctionScalingConfigInput{FunctionName: new("f"), Qualifier: new("1")}); err != nil || s.RequestedFunctionScalingConfig != nil {
		t.Errorf("reset to %+v, %v", s, err)
	}
	if err := w.provision("f", "1", 1); err == nil {
		t.Error("provisioned concurrency was taken for a function on a capacity provider")
	}
}

func TestLatestPublishedIsNamedByItsQualifier(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	if _, err := w.lambda.CreateCapacityProvider(ctx, providerInput()); err != nil {
		t.Fatal(err)
	}
	w.awaitProvider("p")
	in := createInput("f")
	in.PublishTo = types.FunctionVersionLatestPublishedLatestPublished
	in.CapacityProviderConfig = &types.CapacityProviderConfig{LambdaManagedInstancesCapacityProviderConfig: &types.LambdaManagedInstancesCapacityProviderConfig{CapacityProviderArn: new(providerARN)}}
	made, err := w.lambda.CreateFunction(ctx, in)
	if err != nil || *made.Version != hearth.LatestPublished {
		t.Fatalf("created %+v, %v", made, err)
	}
	const published = arnPrefix + "f:$LATEST.PUBLISHED"
	updated, err := w.lambda.UpdateFunctionCode(ctx, &sdk.UpdateFunctionCodeInput{FunctionName: new("f"), ZipFile: in.Code.ZipFile, Architectures: in.Architectures, PublishTo: in.PublishTo})
	if err != nil || *updated.FunctionArn != published {
		t.Errorf("updated %+v, %v", updated, err)
	}
	again, err := w.lambda.PublishVersion(ctx, &sdk.PublishVersionInput{FunctionName: new("f"), PublishTo: in.PublishTo})
	if err != nil || *again.FunctionArn != published || *again.Version != hearth.LatestPublished {
		t.Errorf("published %+v, %v", again, err)
	}
	for name, get := range map[string]*sdk.GetFunctionConfigurationInput{
		"by the name":      {FunctionName: new("f:$LATEST.PUBLISHED")},
		"by the qualifier": {FunctionName: new("f"), Qualifier: new(hearth.LatestPublished)},
		"by the ARN":       {FunctionName: new(published)},
	} {
		if got, err := w.lambda.GetFunctionConfiguration(ctx, get); err != nil || *got.FunctionArn != published || got.State != types.StateActive {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if _, err := w.lambda.PutFunctionScalingConfig(ctx, &sdk.PutFunctionScalingConfigInput{FunctionName: new("f"), Qualifier: new(hearth.LatestPublished),
		FunctionScalingConfig: &types.FunctionScalingConfig{MinExecutionEnvironments: new(int32(1))}}); err != nil {
		t.Error(err)
	}
	alias, err := w.lambda.CreateAlias(ctx, &sdk.CreateAliasInput{FunctionName: new("f"), Name: new("live"), FunctionVersion: new(hearth.LatestPublished)})
	if err != nil || *alias.FunctionVersion != hearth.LatestPublished {
		t.Errorf("the alias is %+v, %v", alias, err)
	}
	out, err := w.lambda.Invoke(ctx, &sdk.InvokeInput{FunctionName: new("f")})
	if err != nil || *out.ExecutedVersion != hearth.LatestPublished {
		t.Errorf("invoked: %+v, %v", out, err)
	}
	if _, err := w.lambda.DeleteAlias(ctx, &sdk.DeleteAliasInput{FunctionName: new("f"), Name: new("live")}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.lambda.DeleteFunction(ctx, &sdk.DeleteFunctionInput{FunctionName: new("f"), Qualifier: new(hearth.LatestPublished)}); err != nil {
		t.Fatal(err)
	}
	_, err = w.lambda.Invoke(ctx, &sdk.InvokeInput{FunctionName: new("f")})
	if _, ok := errors.AsType[*types.NoPublishedVersionException](err); !ok {
		t.Errorf("invoked with nothing published: %v", err)
	}
}

func TestCallersOfTheControlPlaneAreBounded(t *testing.T) {
	told := &recorded{}
	w := newWorld(t, func(c *Config) { c.Rate, c.Recorder = 3, told })
	for i := range 6 {
		if _, err := w.lambda.ListFunctions(t.Context(), &sdk.ListFunctionsInput{}); err != nil {
			t.Fatalf("request %d: %v", i+1, err)
		}
	}
	_, err := w.lambda.ListFunctions(t.Context(), &sdk.ListFunctionsInput{})
	e, ok := errors.AsType[*types.TooManyRequestsException](err)
	if !ok || e.Reason != types.ThrottleReasonCallerRateLimitExceeded || e.RetryAfterSeconds == nil || *e.RetryAfterSeconds != "1" {
		t.Fatalf("the seventh: %v", err)
	}
	for range 20 {
		_, err := w.lambda.GetAccountSettings(t.Context(), &sdk.GetAccountSettingsInput{})
		if _, ok := errors.AsType[*types.TooManyRequestsException](err); !ok {
			t.Errorf("beyond the rate: %v", err)
		}
	}
	w.clock.Advance(time.Second)
	for i := range 4 {
		if _, err := w.lambda.ListFunctions(t.Context(), &sdk.ListFunctionsInput{}); (err == nil) != (i < 3) {
			t.Errorf("a second later, request %d: %v", i+1, err)
		}
	}
	const why = "the account made more than 3 requests of the API in a second, beside invocations: "
	var whys []string
	told.mu.Lock()
	defer told.mu.Unlock()
	for _, d := range told.decisions {
		if d.Kind != hearth.DecisionRefuse || d.RequestID == "" || d.Account != hearth.DefaultAccount || d.Outcome != string(hearth.TooManyRequests) {
			t.Errorf("it left %+v", d)
		}
		whys = append(whys, d.Why)
	}
	if want := []string{why + "1 refused since this was told last, at last ListFunctions", why + "21 refused since this was told last, at last ListFunctions"}; !slices.Equal(whys, want) {
		t.Errorf("the refusals left %q", whys)
	}
}
