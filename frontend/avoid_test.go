package frontend_test

import (
	"context"
	"testing"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/frontend"
)

// recorded answers all that is declared from a record.
type recorded struct{ declared string }

func (r recorded) Declared(f *hearth.Function) bool { return f.Name == r.declared }

func (r recorded) Invoke(_ context.Context, inv *hearth.Invocation, _ func(context.Context, *hearth.Invocation) (*hearth.Result, error)) (*hearth.Result, error) {
	inv.Recorded, inv.Placement = "earlier", hearth.Placement{Path: hearth.PathRecorded, Why: "nothing has changed"}
	return &hearth.Result{Payload: []byte(`"kept"`)}, nil
}

func TestARecordedAnswerTakesNoPlaceInTheConcurrency(t *testing.T) {
	fn, rec, limits := newFunction(), &recorder{}, frontend.NewLimits(1, -1)
	limits.Set(&hearth.Concurrency{Account: fn.Account, Function: fn.Name, Reserved: new(int)}) // none
	f := newFrontend(t, echo, func(c *frontend.Config) {
		c.Functions, c.Recorder, c.Avoider, c.Limits = functions{fn}, rec, recorded{fn.Name}, limits
	})
	inv := request()
	r, err := f.Invoke(t.Context(), inv)
	if err != nil || string(r.Payload) != `"kept"` {
		t.Fatalf("%v, %v", r, err)
	}
	f.Done(inv)
	if len(rec.all) != 1 || rec.all[0].Kind != hearth.DecisionPlace || rec.all[0].Chosen != "recorded" || rec.all[0].Outcome != "ok" {
		t.Errorf("recorded as %+v", rec.all)
	}
}

func TestARecordedAnswerIsForThoseWhoMayInvoke(t *testing.T) {
	fn := newFunction()
	f := newFrontend(t, echo, func(c *frontend.Config) { c.Functions, c.Avoider = functions{fn}, recorded{fn.Name} })
	inv := request()
	inv.Caller = hearth.Identity{Account: "222222222222", ARN: "arn:aws:iam::222222222222:root"}
	if r, err := f.Invoke(t.Context(), inv); hearth.KindOf(err) != hearth.AccessDenied {
		t.Errorf("another account got %v, %v", r, err)
	}
}

func TestWhatIsNotDeclaredIsRun(t *testing.T) {
	f := newFrontend(t, echo, func(c *frontend.Config) { c.Avoider = recorded{"another"} })
	inv := request()
	if r, err := f.Invoke(t.Context(), inv); err != nil || string(r.Payload) != "{}" || inv.Recorded != "" {
		t.Errorf("%v, %v", r, err)
	}
}

// declaring is an Avoider with a map, as the real one has.
type declaring map[[2]string]bool

func (d declaring) Declared(f *hearth.Function) bool { return d[[2]string{string(f.Account), f.Name}] }

func (d declaring) Invoke(ctx context.Context, inv *hearth.Invocation, run func(context.Context, *hearth.Invocation) (*hearth.Result, error)) (*hearth.Result, error) {
	return run(ctx, inv)
}

func TestWhatIsNotDeclaredPaysNoAllocation(t *testing.T) {
	allocations := func(a frontend.Avoider) float64 {
		f := newFrontend(t, func(context.Context, *hearth.Invocation) (*hearth.Result, error) { return &result, nil }, func(c *frontend.Config) {
			c.Avoider, c.Limits = a, frontend.NewLimits(0, -1)
		})
		inv := request()
		inv.RequestID, inv.Payload = "r", []byte("{}")
		return testing.AllocsPerRun(100, func() {
			inv.TraceID = "t"
			if _, err := f.Invoke(context.Background(), inv); err != nil {
				t.Fatal(err)
			}
		})
	}
	if without, with := allocations(nil), allocations(declaring{{"000000000000", "another"}: true}); with > without {
		t.Errorf("%v allocations, and %v without", with, without)
	}
}
