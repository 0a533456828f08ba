package lambda

import (
	"testing"

	hearth "github.com/hearth-faas/hearth"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

func (w *world) publishAs(name, alias, version string) {
	w.t.Helper()
	if _, err := w.lambda.PublishVersion(w.t.Context(), &sdk.PublishVersionInput{FunctionName: &name}); err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.lambda.CreateAlias(w.t.Context(), &sdk.CreateAliasInput{FunctionName: &name, Name: &alias, FunctionVersion: &version}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) provision(name, qualifier string, n int32) error {
	return failed(w.lambda.PutProvisionedConcurrencyConfig(w.t.Context(), &sdk.PutProvisionedConcurrencyConfigInput{
		FunctionName: &name, Qualifier: &qualifier, ProvisionedConcurrentExecutions: &n}))
}

func (w *world) unprovision(name, qualifier string) error {
	return failed(w.lambda.DeleteProvisionedConcurrencyConfig(w.t.Context(), &sdk.DeleteProvisionedConcurrencyConfigInput{FunctionName: &name, Qualifier: &qualifier}))
}

func (w *world) reserve(name string, n int32) error {
	return failed(w.lambda.PutFunctionConcurrency(w.t.Context(), &sdk.PutFunctionConcurrencyInput{FunctionName: &name, ReservedConcurrentExecutions: &n}))
}

func provokeConcurrency(p *provoker) {
	p.create("hello")
	p.publishAs("hello", "live", "1")
	p.publishAs("hello", "latest", "$LATEST")
	get := func(name, qualifier string) {
		p.t.Helper()
		p.try(failed(p.lambda.GetProvisionedConcurrencyConfig(p.t.Context(), &sdk.GetProvisionedConcurrencyConfigInput{FunctionName: &name, Qualifier: &qualifier})))
	}
	get("doesnotexist", "noalias")
	get("doesnotexist", "1")
	get("hello", "noalias")
	get("hello", "$LATEST")
	get("hello", "1")
	get("hello", "live")
	p.try(p.provision("hello", "live", 0))
	p.try(p.provision("hello", "doesnotexist", 1))
	p.try(p.provision("hello", "$LATEST", 1))
	p.try(p.provision("hello", "latest", 1))
	p.try(p.provision("hello", "1", 1001))
	p.try(p.provision("hello", "1", 901))
	p.try(p.reserve("hello", 901))
	if err := p.provision("hello", "1", 1); err != nil {
		p.t.Fatal(err)
	}
	p.try(p.provision("hello", "live", 1))
	if err := p.unprovision("hello", "1"); err != nil {
		p.t.Fatal(err)
	}
	if err := p.provision("hello", "live", 1); err != nil {
		p.t.Fatal(err)
	}
	p.try(p.provision("hello", "1", 1))
}

func TestReservationIsSeenEverywhereAndTakenBack(t *testing.T) {
	w := newWorld(t)
	w.create("f")
	seen := func() (function, own, unreserved int32) {
		f, err := w.lambda.GetFunction(t.Context(), &sdk.GetFunctionInput{FunctionName: new("f")})
		if err != nil {
			t.Fatal(err)
		}
		c, err := w.lambda.GetFunctionConcurrency(t.Context(), &sdk.GetFunctionConcurrencyInput{FunctionName: new("f")})
		if err != nil {
			t.Fatal(err)
		}
		a, err := w.lambda.GetAccountSettings(t.Context(), &sdk.GetAccountSettingsInput{})
		if err != nil {
			t.Fatal(err)
		}
		function, own = -1, -1
		if f.Concurrency != nil {
			function = *f.Concurrency.ReservedConcurrentExecutions
		}
		if c.ReservedConcurrentExecutions != nil {
			own = *c.ReservedConcurrentExecutions
		}
		return function, own, *a.AccountLimit.UnreservedConcurrentExecutions
	}
	expect := func(wantOwn, wantUnreserved int32) {
		t.Helper()
		if function, own, unreserved := seen(); function != wantOwn || own != wantOwn || unreserved != wantUnreserved {
			t.Errorf("GetFunction says %d, GetFunctionConcurrency %d, the account %d; want %d and %d", function, own, unreserved, wantOwn, wantUnreserved)
		}
	}
	expect(-1, 1000)
	for _, n := range []int32{7, 0, 900} {
		if err := w.reserve("f", n); err != nil {
			t.Fatal(err)
		}
		expect(n, 1000-n)
	}
	if _, err := w.lambda.DeleteFunctionConcurrency(t.Context(), &sdk.DeleteFunctionConcurrencyInput{FunctionName: new("f")}); err != nil {
		t.Fatal(err)
	}
	expect(-1, 1000)
}

// progress is a Provisioner whose answer can be set.
type progress struct{ now hearth.Provisioned }

func (p *progress) Provisioned(hearth.Account, string, string) hearth.Provisioned { return p.now }

func TestProvisionedConcurrencyTellsWhatCameOfIt(t *testing.T) {
	now := &progress{hearth.Provisioned{State: hearth.ProvisionInProgress}}
	w := newWorld(t, func(c *Config) { c.Provisioner = now })
	w.create("f")
	w.publishAs("f", "a", "1")
	put, err := w.lambda.PutProvisionedConcurrencyConfig(t.Context(), &sdk.PutProvisionedConcurrencyConfigInput{
		FunctionName: new("f"), Qualifier: new("a"), ProvisionedConcurrentExecutions: new(int32(3))})
	if err != nil {
		t.Fatal(err)
	}
	if put.Status != types.ProvisionedConcurrencyStatusEnumInProgress || *put.RequestedProvisionedConcurrentExecutions != 3 || *put.AllocatedProvisionedConcurrentExecutions != 0 {
		t.Errorf("put: %+v", put)
	}
	now.now = hearth.Provisioned{State: hearth.ProvisionFailed, Reason: "FUNCTION_ERROR_INIT_FAILURE", Allocated: 2, Available: 1}
	got, err := w.lambda.GetProvisionedConcurrencyConfig(t.Context(), &sdk.GetProvisionedConcurrencyConfigInput{FunctionName: new("f:a"), Qualifier: new("a")})
	if err != nil {
		t.Fatal(err)
	}
	if got.Status != types.ProvisionedConcurrencyStatusEnumFailed || *got.StatusReason != "FUNCTION_ERROR_INIT_FAILURE" ||
		*got.AllocatedProvisionedConcurrentExecutions != 2 || *got.AvailableProvisionedConcurrentExecutions != 1 || *got.LastModified == "" {
		t.Errorf("get: %+v", got)
	}
	var arns []string
	pages := sdk.NewListProvisionedConcurrencyConfigsPaginator(w.lambda, &sdk.ListProvisionedConcurrencyConfigsInput{FunctionName: new("f"), MaxItems: new(int32(1))})
	for _, alias := range []string{"b", "c"} {
		if _, err := w.lambda.CreateAlias(t.Context(), &sdk.CreateAliasInput{FunctionName: new("f"), Name: &alias, FunctionVersion: new("1")}); err != nil {
			t.Fatal(err)
		}
		if err := w.provision("f", alias, 1); err != nil {
			t.Fatal(err)
		}
	}
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(page.ProvisionedConcurrencyConfigs) != 1 {
			t.Fatalf("a page of %d", len(page.ProvisionedConcurrencyConfigs))
		}
		arns = append(arns, *page.ProvisionedConcurrencyConfigs[0].FunctionArn)
	}
	if len(arns) != 3 || arns[0] != arnPrefix+"f:a" || arns[2] != arnPrefix+"f:c" {
		t.Errorf("listed %v", arns)
	}
	for range 2 { // the second finds nothing, which is no error
		if err := w.unprovision("f", "a"); err != nil {
			t.Fatal(err)
		}
	}
}
