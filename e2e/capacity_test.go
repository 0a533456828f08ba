package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
)

// probe tells which environment serves, how that came to be, and whom it has
// served.
const probe = `
import os, time, uuid
born, seen = uuid.uuid4().hex, []
if os.environ.get('BROKEN'): raise RuntimeError('this one never starts')
def handler(event, context):
    seen.append(getattr(context, 'tenant_id', None) or '')
    time.sleep(event.get('sleep', 0))
    return {'env': born, 'init': os.environ['AWS_LAMBDA_INITIALIZATION_TYPE'], 'seen': seen}
`

type probed struct {
	Env, Init string
	Seen      []string
}

func (s *server) probe(name string, more ...func(*lambda.InvokeInput)) (p probed, err error) {
	in := &lambda.InvokeInput{FunctionName: &name, Payload: []byte(`{}`)}
	for _, change := range more {
		change(in)
	}
	out, err := s.client().Invoke(s.t.Context(), in)
	if err != nil {
		return p, err
	}
	if out.FunctionError != nil {
		return p, fmt.Errorf("%s: %s", *out.FunctionError, out.Payload)
	}
	return p, json.Unmarshal(out.Payload, &p)
}

func (s *server) mustProbe(name string, more ...func(*lambda.InvokeInput)) probed {
	s.t.Helper()
	p, err := s.probe(name, more...)
	if err != nil {
		s.t.Fatalf("invoke %s: %v", name, err)
	}
	return p
}

// publish makes a version of the function and waits until it is active.
func (s *server) publish(name string) string {
	s.t.Helper()
	v, err := s.client().PublishVersion(s.t.Context(), &lambda.PublishVersionInput{FunctionName: &name})
	if err != nil {
		s.t.Fatal(err)
	}
	s.waitActive(name + ":" + *v.Version)
	return *v.Version
}

func (s *server) provision(name, qualifier string, n int32) {
	s.t.Helper()
	_, err := s.client().PutProvisionedConcurrencyConfig(s.t.Context(), &lambda.PutProvisionedConcurrencyConfigInput{
		FunctionName: &name, Qualifier: &qualifier, ProvisionedConcurrentExecutions: &n})
	if err != nil {
		s.t.Fatal(err)
	}
}

// provisioned waits until the provisioned concurrency is in the given status.
func (s *server) provisioned(name, qualifier string, want types.ProvisionedConcurrencyStatusEnum) (out *lambda.GetProvisionedConcurrencyConfigOutput) {
	s.t.Helper()
	await(s.t, patience, fmt.Sprintf("%s:%s to be %s", name, qualifier, want), func() (done bool) {
		var err error
		out, err = s.client().GetProvisionedConcurrencyConfig(s.t.Context(), &lambda.GetProvisionedConcurrencyConfigInput{FunctionName: &name, Qualifier: &qualifier})
		if err != nil {
			s.t.Fatal(err)
		}
		return out.Status == want
	})
	return out
}

// containers counts those that fit.
func (s *server) containers(fits func(control.Container) bool) (n int) {
	s.t.Helper()
	for _, in := range s.ps().Instances {
		for _, c := range in.Containers {
			if fits(c) {
				n++
			}
		}
	}
	return n
}

// decisions are those about the function, newest first.
func (s *server) decisions(name string) []hearth.Decision {
	s.t.Helper()
	c := control.Client{Endpoint: s.endpoint, Region: s.get("AWS_REGION"), Credentials: credentials.StaticCredentialsProvider{Value: s.credentials()}}
	ds, err := c.Find(s.t.Context(), control.DecisionQuery{Function: name, Limit: 10})
	if err != nil {
		s.t.Fatal(err)
	}
	if len(ds) == 0 {
		s.t.Fatalf("no decisions about %s", name)
	}
	return ds
}

func TestConcurrencyIsReservedProvisionedAndKeptApart(t *testing.T) {
	t.Parallel()
	s := start(t)
	t.Run("reserved", s.reservedIsALimit)
	t.Run("provisioned", s.provisionedIsWarm)
	t.Run("failing", s.failingInitIsTold)
	t.Run("tenants", s.tenantsShareNothing)
	t.Run("provider", s.providerIsAShare)
}

func (s *server) reservedIsALimit(t *testing.T) {
	s.deploy(function{name: "reserved", runtime: "python3.11", timeout: 30, files: map[string]string{"index.py": probe}})
	reserve := func(n int32) {
		t.Helper()
		if _, err := s.client().PutFunctionConcurrency(t.Context(), &lambda.PutFunctionConcurrencyInput{FunctionName: new("reserved"), ReservedConcurrentExecutions: &n}); err != nil {
			t.Fatal(err)
		}
	}
	throttled := func(err error) bool {
		e, ok := errors.AsType[*types.TooManyRequestsException](err)
		if ok && (e.Reason != types.ThrottleReasonReservedFunctionConcurrentInvocationLimitExceeded || aws.ToString(e.RetryAfterSeconds) == "") {
			t.Errorf("throttled with reason %q, retry after %q", e.Reason, aws.ToString(e.RetryAfterSeconds))
		}
		return ok
	}
	reserve(2)
	var mu sync.Mutex
	var served, refused int
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			_, err := s.probe("reserved", func(in *lambda.InvokeInput) { in.Payload = []byte(`{"sleep":5}`) })
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				served++
			case throttled(err):
				refused++
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if served != 2 || refused != 3 {
		t.Errorf("of five at once %d were served and %d throttled, with 2 reserved", served, refused)
	}
	reserve(0)
	if _, err := s.probe("reserved"); !throttled(err) {
		t.Errorf("with 0 reserved: %v", err)
	}
	if d := s.decisions("reserved")[0]; d.Kind != hearth.DecisionRefuse || d.Why != "the function had as many invocations at once as are reserved for it" {
		t.Errorf("the refusal left %+v", d)
	}
	if _, err := s.client().DeleteFunctionConcurrency(t.Context(), &lambda.DeleteFunctionConcurrencyInput{FunctionName: new("reserved")}); err != nil {
		t.Fatal(err)
	}
	s.mustProbe("reserved")
}

func (s *server) provisionedIsWarm(t *testing.T) {
	s.deploy(function{name: "ready", runtime: "python3.11", files: map[string]string{"index.py": probe}})
	s.publish("ready")
	if _, err := s.client().CreateAlias(t.Context(), &lambda.CreateAliasInput{FunctionName: new("ready"), Name: new("live"), FunctionVersion: new("1")}); err != nil {
		t.Fatal(err)
	}
	s.provision("ready", "live", 2)
	if out := s.provisioned("ready", "live", "READY"); *out.AvailableProvisionedConcurrentExecutions != 2 || *out.AllocatedProvisionedConcurrentExecutions != 2 {
		t.Errorf("ready: %+v", out)
	}
	if n := s.containers(func(c control.Container) bool { return c.Function == "ready" && c.Provisioned }); n != 2 {
		t.Errorf("hearth ps shows %d provisioned containers", n)
	}
	warm := func(s *server, version string) probed {
		t.Helper()
		p := s.mustProbe("ready:live")
		if p.Init != string(hearth.InitProvisioned) || len(p.Seen) != 1 {
			t.Errorf("the first call was served by %+v", p)
		}
		d := s.decisions("ready")[0]
		if d.Version != version || d.Chosen != string(hearth.PathReuse) || d.Why != "a provisioned container was idle" || d.Spent[hearth.StageInit] != 0 || d.Spent[hearth.StageBoot] != 0 {
			t.Errorf("the first call left %+v", d)
		}
		return p
	}
	warm(s, "1")

	// The alias moves; its environments follow.
	if _, err := s.client().UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: new("ready"), Description: new("two")}); err != nil {
		t.Fatal(err)
	}
	s.waitActive("ready")
	s.publish("ready")
	if _, err := s.client().UpdateAlias(t.Context(), &lambda.UpdateAliasInput{FunctionName: new("ready"), Name: new("live"), FunctionVersion: new("2")}); err != nil {
		t.Fatal(err)
	}
	s.provisioned("ready", "live", "READY")
	before := warm(s, "2")
	await(t, patience, "the old version's to go", func() bool {
		n := 0
		for _, in := range s.ps().Instances {
			for _, c := range in.Containers {
				if c.Function == "ready" && c.Version == "1" {
					n++
				}
			}
		}
		return n == 0
	})

	// They are there again after a start, which knows nothing but the disk.
	s.kill9()
	again := startIn(s.t, s.dir)
	*s = *again
	s.provisioned("ready", "live", "READY")
	if after := warm(s, "2"); after.Env == before.Env {
		t.Error("the environment outlived its server")
	}
	if _, err := s.client().DeleteProvisionedConcurrencyConfig(t.Context(), &lambda.DeleteProvisionedConcurrencyConfigInput{FunctionName: new("ready"), Qualifier: new("live")}); err != nil {
		t.Fatal(err)
	}
	await(t, patience, "those not asked for any more to go", func() bool { return s.busiest("ready") == 0 })
	if p := s.mustProbe("ready:live"); p.Init != string(hearth.InitOnDemand) {
		t.Errorf("after that: %+v", p)
	}
}

func (s *server) failingInitIsTold(t *testing.T) {
	s.deploy(function{name: "broken", runtime: "python3.11", files: map[string]string{"index.py": probe}, env: map[string]string{"BROKEN": "1"}})
	version := s.publish("broken")
	s.provision("broken", version, 1)
	out := s.provisioned("broken", version, "FAILED")
	if aws.ToString(out.StatusReason) != "FUNCTION_ERROR_INIT_FAILURE" || *out.AvailableProvisionedConcurrentExecutions != 0 {
		t.Errorf("failed: %+v, %s", out, aws.ToString(out.StatusReason))
	}
}

func (s *server) tenantsShareNothing(t *testing.T) {
	name := "tenants"
	_, err := s.client().CreateFunction(t.Context(), &lambda.CreateFunctionInput{
		FunctionName: &name, Runtime: "python3.11", Handler: new("index.handler"), Role: new("arn:aws:iam::000000000000:role/test"),
		Code:          &types.FunctionCode{ZipFile: zipOf(t, map[string]string{"index.py": probe})},
		TenancyConfig: &types.TenancyConfig{TenantIsolationMode: types.TenantIsolationModePerTenant},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.waitActive(name)
	f, err := s.client().GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: &name})
	if err != nil || f.TenancyConfig == nil || f.TenancyConfig.TenantIsolationMode != types.TenantIsolationModePerTenant {
		t.Errorf("shown as %+v, %v", f.TenancyConfig, err)
	}
	as := func(tenant string) func(*lambda.InvokeInput) {
		return func(in *lambda.InvokeInput) { in.TenantId = &tenant }
	}
	var mu sync.Mutex
	by := map[string]string{} // environment → tenant
	parallel(t, 12, func(i int) error {
		tenant := []string{"blue", "green", "red/1"}[i%3]
		p, err := s.probe(name, as(tenant))
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		if other, ok := by[p.Env]; ok && other != tenant {
			return fmt.Errorf("one environment served %s and %s", other, tenant)
		}
		by[p.Env] = tenant
		if slices.ContainsFunc(p.Seen, func(seen string) bool { return seen != tenant }) {
			return fmt.Errorf("the environment of %s has seen %v", tenant, p.Seen)
		}
		return nil
	})
	if n := s.containers(func(c control.Container) bool { return c.Function == name && c.Tenant == "red/1" }); n == 0 {
		t.Error("hearth ps shows no container of the tenant red/1")
	}
	refused := func(name, words string, more ...func(*lambda.InvokeInput)) {
		t.Helper()
		_, err := s.probe(name, more...)
		if e, ok := errors.AsType[*types.InvalidParameterValueException](err); !ok || e.ErrorMessage() != words {
			t.Errorf("refused with %v, want %s", err, words)
		}
	}
	refused(name, "The invoked function is enabled with tenancy configuration. Add a valid tenant ID in your request and try again.")
	refused("reserved", "The invoked function is not enabled with tenancy configuration. Remove the tenant ID from your request and try again.", as("blue"))
}

// publishedLast has an unqualified invocation of a function on a provider run
// what was published last, and nothing if nothing was.
func (s *server) publishedLast(name string) {
	s.t.Helper()
	c, ctx := s.client(), s.t.Context()
	nothing := func() {
		s.t.Helper()
		if _, err := s.probe(name); !isA[*types.NoPublishedVersionException](err) {
			s.t.Errorf("invoked with nothing published: %v", err)
		}
	}
	nothing()
	v, err := c.PublishVersion(ctx, &lambda.PublishVersionInput{FunctionName: &name, PublishTo: types.FunctionVersionLatestPublishedLatestPublished})
	if err != nil {
		s.t.Fatal(err)
	}
	s.waitActive(name + ":" + *v.Version)
	out, err := c.Invoke(ctx, &lambda.InvokeInput{FunctionName: &name, Payload: []byte(`{}`)})
	if err != nil || out.FunctionError != nil || aws.ToString(out.ExecutedVersion) != hearth.LatestPublished {
		s.t.Fatalf("invoked: %+v, %v", out, err)
	}
	if _, err := c.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: &name, Qualifier: new(hearth.LatestPublished)}); err != nil {
		s.t.Fatal(err)
	}
	nothing()
}

func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func (s *server) providerIsAShare(t *testing.T) {
	c, name := s.client(), "placed"
	p, err := c.CreateCapacityProvider(t.Context(), &lambda.CreateCapacityProviderInput{
		CapacityProviderName:          new("share"),
		PermissionsConfig:             &types.CapacityProviderPermissionsConfig{CapacityProviderOperatorRoleArn: new("arn:aws:iam::000000000000:role/test")},
		VpcConfig:                     &types.CapacityProviderVpcConfig{SubnetIds: []string{"subnet-12345678"}, SecurityGroupIds: []string{}},
		CapacityProviderScalingConfig: &types.CapacityProviderScalingConfig{MaxVCpuCount: new(int32(2))},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.CreateFunction(t.Context(), &lambda.CreateFunctionInput{
		FunctionName: &name, Runtime: "python3.11", Handler: new("index.handler"), Role: new("arn:aws:iam::000000000000:role/test"),
		Code: &types.FunctionCode{ZipFile: zipOf(t, map[string]string{"index.py": probe})}, MemorySize: new(int32(2048)), Timeout: new(int32(30)),
		CapacityProviderConfig: &types.CapacityProviderConfig{LambdaManagedInstancesCapacityProviderConfig: &types.LambdaManagedInstancesCapacityProviderConfig{
			CapacityProviderArn: p.CapacityProvider.CapacityProviderArn, ExecutionEnvironmentMemoryGiBPerVCpu: new(2.0)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.waitActive(name)
	s.publishedLast(name)
	version := s.publish(name)
	_, err = c.PutFunctionScalingConfig(t.Context(), &lambda.PutFunctionScalingConfigInput{FunctionName: &name, Qualifier: &version,
		FunctionScalingConfig: &types.FunctionScalingConfig{MinExecutionEnvironments: new(int32(1))}})
	if err != nil {
		t.Fatal(err)
	}
	await(t, patience, "the least number of environments to be there", func() bool { return s.busiest(name) == 1 })
	if p := s.mustProbe(name + ":" + version); p.Init != string(hearth.InitManaged) {
		t.Errorf("served by %+v", p)
	}
	// Each environment is one vCPU of two.
	var mu sync.Mutex
	var wg sync.WaitGroup
	served, throttled := 0, 0
	for range 3 {
		wg.Go(func() {
			_, err := s.probe(name+":"+version, func(in *lambda.InvokeInput) { in.Payload = []byte(`{"sleep":5}`) })
			mu.Lock()
			defer mu.Unlock()
			if _, ok := errors.AsType[*types.TooManyRequestsException](err); ok {
				throttled++
			} else if err != nil {
				t.Error(err)
			} else {
				served++
			}
		})
	}
	wg.Wait()
	if served != 2 || throttled != 1 {
		t.Errorf("%d served and %d throttled, with two vCPUs", served, throttled)
	}
}
