package execution

import (
	"context"
	"strings"
	"testing"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/sqlite"
)

const account hearth.Account = "123456789012"

func open(t *testing.T, dir string, changed func(hearth.Account, string)) *Policies {
	t.Helper()
	s, err := sqlite.Open(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, s) })
	p, err := Open(context.Background(), s, changed)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func closeStore(t *testing.T, s store.Store) {
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func set(t *testing.T, p *Policies, function string, policy *hearth.ExecutionPolicy) {
	t.Helper()
	if err := p.Set(context.Background(), account, function, policy); err != nil {
		t.Fatal(err)
	}
}

func TestAFunctionsPolicyGoesBeforeItsAccountsAndThatBeforeTheDefault(t *testing.T) {
	dir := t.TempDir()
	var told []string
	p := open(t, dir, func(_ hearth.Account, f string) { told = append(told, f) })
	if got := p.Of(account, "f"); got.Update == nil || got.Update.Mode != "" || got.Sizing == nil {
		t.Errorf("with nothing said, the policy is %+v", got)
	}
	set(t, p, "", &hearth.ExecutionPolicy{Sizing: &hearth.SizingPolicy{Mode: "off"}, Update: &hearth.UpdatePolicy{Mode: "wait"}})
	set(t, p, "f", &hearth.ExecutionPolicy{Sizing: &hearth.SizingPolicy{Mode: "auto"}})
	for function, want := range map[string][2]string{"f": {"auto", "wait"}, "g": {"off", "wait"}, "": {"off", "wait"}} {
		if got := p.Of(account, function); got.Sizing.Mode != want[0] || got.Update.Mode != want[1] {
			t.Errorf("of %q: sizing %q, update %q; want %v", function, got.Sizing.Mode, got.Update.Mode, want)
		}
	}
	if got := p.Of("210987654321", "f"); got.Sizing.Mode != "" {
		t.Errorf("another account's function has sizing %q", got.Sizing.Mode)
	}
	set(t, p, "f", nil)
	if got := p.Of(account, "f"); got.Sizing.Mode != "off" {
		t.Errorf("taken back, f's sizing is %q", got.Sizing.Mode)
	}
	if len(told) != 3 || told[1] != "f" {
		t.Errorf("changes told: %q", told)
	}
}

func TestPoliciesSurvive(t *testing.T) {
	dir := t.TempDir()
	set(t, open(t, dir, nil), "f", &hearth.ExecutionPolicy{Prediction: &hearth.PredictionPolicy{Mode: "off"}})
	if got := open(t, dir, nil).Of(account, "f"); got.Prediction.Mode != "off" {
		t.Errorf("after a restart prediction is %q", got.Prediction.Mode)
	}
}

func TestAPolicyThatCannotBeIsRefusedByItsField(t *testing.T) {
	p := open(t, t.TempDir(), nil)
	err := p.Set(context.Background(), account, "f", &hearth.ExecutionPolicy{Sizing: &hearth.SizingPolicy{Mode: "huge"}})
	if hearth.KindOf(err) != hearth.InvalidParameter || !strings.Contains(err.Error(), `sizing: mode "huge" is none of advise, auto, off`) {
		t.Errorf("refused with %v", err)
	}
	for want, u := range map[string]hearth.UpdatePolicy{
		"maxMiB -1 is less than none":              {MaxMiB: -1},
		"waitSeconds 901 is not between 0 and 900": {WaitSeconds: 901},
		`mode "later" is none of overlap, wait`:    {Mode: "later"},
	} {
		if err := p.Set(context.Background(), account, "f", &hearth.ExecutionPolicy{Update: &u}); err == nil || !strings.Contains(err.Error(), "update: "+want) {
			t.Errorf("refused with %v, want %s", err, want)
		}
	}
	if p.Own(account, "f") != nil {
		t.Error("it was kept all the same")
	}
}

func TestDedicatedInstancesAreAnAccountsAndWhatWasSaidIsListed(t *testing.T) {
	p := open(t, t.TempDir(), nil)
	own := &hearth.ExecutionPolicy{Capacity: &hearth.CapacityPolicy{Dedicated: 2}}
	if err := p.Set(context.Background(), account, "f", own); hearth.KindOf(err) != hearth.InvalidParameter || !strings.Contains(err.Error(), "account") {
		t.Errorf("of a function: %v", err)
	}
	set(t, p, "", own)
	set(t, p, "g", &hearth.ExecutionPolicy{Capacity: &hearth.CapacityPolicy{Kind: "variable"}})
	seen := map[string]bool{}
	p.Each(func(a hearth.Account, f string) { seen[string(a)+" "+f] = true })
	if len(seen) != 2 || !seen[string(account)+" "] || !seen[string(account)+" g"] {
		t.Errorf("listed %v", seen)
	}
	for _, bad := range []hearth.CapacityPolicy{{Kind: "spot"}, {MaxPrice: -1}, {WhenShort: "x"}, {OnWithdraw: "x"}, {DelaySeconds: -1}, {WaitSeconds: 901}, {Dedicated: -1}} {
		if err := p.Set(context.Background(), account, "", &hearth.ExecutionPolicy{Capacity: &bad}); hearth.KindOf(err) != hearth.InvalidParameter {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
