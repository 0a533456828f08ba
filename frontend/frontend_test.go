package frontend_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/frontend"
)

// functions is a hearth.Functions of one function in whatever state.
type functions struct{ f *hearth.Function }

func (fs functions) Resolve(_ context.Context, a hearth.Account, name, qualifier string) (*hearth.Function, error) {
	if a != fs.f.Account || name != fs.f.Name {
		return nil, hearth.Errorf(hearth.NotFound, "Function not found: %s", name)
	}
	return fs.f, nil
}

// manager is the next hearth.Invoker.
type manager func(ctx context.Context, inv *hearth.Invocation) (*hearth.Result, error)

func (m manager) Invoke(ctx context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
	return m(ctx, inv)
}

func echo(_ context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
	inv.Placement = hearth.Placement{Path: hearth.PathReuse, Why: "a container with this code was idle", Instance: "i-1", Container: "c-1"}
	return &hearth.Result{Payload: inv.Payload, Version: inv.Function.Version}, nil
}

type recorder struct {
	mu  sync.Mutex
	all []hearth.Decision
}

func (r *recorder) Record(d *hearth.Decision) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, *d)
}

func newFunction() *hearth.Function {
	return &hearth.Function{Account: hearth.DefaultAccount, Region: hearth.DefaultRegion, Name: "f", Version: hearth.Latest, State: hearth.Active}
}

func newFrontend(t testing.TB, m manager, change func(*frontend.Config)) *frontend.Frontend {
	t.Helper()
	cfg := frontend.Config{Functions: functions{newFunction()}, Manager: m, Clock: clock.System()}
	if change != nil {
		change(&cfg)
	}
	f, err := frontend.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func request() *hearth.Invocation {
	inv := &hearth.Invocation{Account: hearth.DefaultAccount, Name: "f", Caller: hearth.Identity{Account: hearth.DefaultAccount}}
	inv.Timeline.Begin(time.Now())
	return inv
}

func TestWhatTheCallerLeftEmptyIsFilledIn(t *testing.T) {
	f := newFrontend(t, echo, nil)
	inv := request()
	inv.Qualifier = "live"
	r, err := f.Invoke(context.Background(), inv)
	if err != nil || string(r.Payload) != "{}" {
		t.Errorf("an invocation without a payload: %+v, %v", r, err)
	}
	if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(inv.RequestID) {
		t.Errorf("request id %q", inv.RequestID)
	}
	if !regexp.MustCompile(`^Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0;Lineage=[0-9a-f]{8}:0$`).MatchString(inv.TraceID) {
		t.Errorf("trace id %q", inv.TraceID)
	}
	if inv.InvokedARN != "arn:aws:lambda:us-east-1:000000000000:function:f:live" || inv.Outcome != "ok" {
		t.Errorf("invoked %s, outcome %s", inv.InvokedARN, inv.Outcome)
	}

	given := request()
	given.RequestID, given.TraceID, given.InvokedARN, given.Payload = "r", "t", "a", []byte("1")
	if _, err := f.Invoke(context.Background(), given); err != nil {
		t.Fatal(err)
	}
	if given.RequestID != "r" || !strings.HasPrefix(given.TraceID, "t;Lineage=") || given.InvokedARN != "a" || string(given.Payload) != "1" {
		t.Errorf("what the caller gave was changed: %+v", given)
	}
}

func TestRefusalsHaveTheServicesKindsAndWords(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*hearth.Function, *hearth.Invocation)
		kind   hearth.Kind
		words  string
	}{
		{"unknown", func(_ *hearth.Function, inv *hearth.Invocation) { inv.Name = "g" }, hearth.NotFound, "Function not found: g"},
		{"pending", func(f *hearth.Function, _ *hearth.Invocation) { f.State = hearth.Pending }, hearth.Conflict,
			"The operation cannot be performed at this time. The function is currently in the following state: Pending"},
		{"failed", func(f *hearth.Function, _ *hearth.Invocation) { f.State = hearth.Failed }, hearth.Conflict, "state: Failed"},
		{"inactive", func(f *hearth.Function, _ *hearth.Invocation) { f.State = hearth.Inactive }, hearth.Conflict, "state: Inactive"},
		{"too large", func(_ *hearth.Function, inv *hearth.Invocation) { inv.Payload = make([]byte, hearth.MaxPayload+1) }, hearth.EntityTooLarge,
			fmt.Sprintf("Request must be smaller than %d bytes for the InvokeFunction operation", hearth.MaxPayload)},
	} {
		t.Run(c.name, func(t *testing.T) {
			fn, rec := newFunction(), &recorder{}
			f := newFrontend(t, func(context.Context, *hearth.Invocation) (*hearth.Result, error) {
				t.Error("it reached the manager")
				return nil, nil
			}, func(cfg *frontend.Config) { cfg.Functions, cfg.Recorder = functions{fn}, rec })
			inv := request()
			c.change(fn, inv)
			_, err := f.Invoke(context.Background(), inv)
			if hearth.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.words) {
				t.Errorf("refused with %v, want %s: %s", err, c.kind, c.words)
			}
			f.Done(inv)
			if d := rec.all[0]; len(rec.all) != 1 || d.Kind != hearth.DecisionRefuse || d.Outcome != string(c.kind) || d.Why == "" || d.RequestID == "" {
				t.Errorf("recorded as %+v", rec.all)
			}
		})
	}
}

func TestAccountsConcurrencyIsALimitAndEachPlaceIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fail := false
		f := newFrontend(t, func(ctx context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
			time.Sleep(time.Second)
			if fail {
				return nil, hearth.Errorf(hearth.Service, "no")
			}
			return &hearth.Result{}, nil
		}, func(c *frontend.Config) { c.Limits = frontend.NewLimits(10, -1) })
		for round := range 4 {
			fail = round == 1
			var admitted, refused atomic.Int32
			var wg sync.WaitGroup
			for range 25 {
				wg.Go(func() {
					began := time.Now()
					_, err := f.Invoke(context.Background(), request())
					e, _ := err.(*hearth.Error)
					switch {
					case e != nil && e.Kind == hearth.TooManyRequests:
						refused.Add(1)
						if e.Reason != hearth.ReasonConcurrency || e.Message != "Rate Exceeded." || time.Since(began) > 0 {
							t.Errorf("refused with %+v after %v", e, time.Since(began))
						}
					default:
						admitted.Add(1)
					}
				})
			}
			wg.Wait()
			if admitted.Load() != 10 || refused.Load() != 15 {
				t.Errorf("round %d: %d admitted, %d refused, the limit is 10", round, admitted.Load(), refused.Load())
			}
		}
	})
}

func TestPanicBelowGivesThePlaceBack(t *testing.T) {
	f := newFrontend(t, func(context.Context, *hearth.Invocation) (*hearth.Result, error) { panic("below") },
		func(c *frontend.Config) { c.Limits = frontend.NewLimits(1, -1) })
	for range 3 {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			_, _ = f.Invoke(context.Background(), request())
		}()
	}
	if n := f.InFlight(); n != 0 {
		t.Errorf("%d in flight", n)
	}
}

func TestDryRunChecksAndRunsNothing(t *testing.T) {
	rec := &recorder{}
	f := newFrontend(t, func(context.Context, *hearth.Invocation) (*hearth.Result, error) {
		t.Error("a dry run reached the manager")
		return nil, nil
	}, func(c *frontend.Config) { c.Recorder = rec })
	inv := request()
	inv.DryRun = true
	r, err := f.Invoke(context.Background(), inv)
	if err != nil || r.Version != hearth.Latest || len(r.Payload) != 0 {
		t.Errorf("dry run: %+v, %v", r, err)
	}
	f.Done(inv)
	if rec.all[0].Chosen != "dry-run" || rec.all[0].Outcome != "ok" {
		t.Errorf("recorded as %+v", rec.all[0])
	}
}

func TestDecisionTellsTheWholeWay(t *testing.T) {
	for _, c := range []struct {
		name    string
		result  hearth.Result
		err     error
		outcome string
	}{
		{"ok", hearth.Result{Payload: []byte(`{"errorType":"Mine"}`)}, nil, "ok"},
		{"function error", hearth.Result{FunctionError: "Unhandled", Payload: []byte(`{"errorType":"Sandbox.Timedout","errorMessage":"x"}`)}, nil, "Sandbox.Timedout"},
		{"function error in words of its own", hearth.Result{FunctionError: "Handled", Payload: []byte(`"oops"`)}, nil, "Handled"},
		{"unknown outcome", hearth.Result{}, hearth.Errorf(hearth.Service, "x"), string(hearth.Service)},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rec := &recorder{}
				f := newFrontend(t, func(_ context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
					time.Sleep(time.Millisecond)
					inv.Timeline.End(hearth.StagePlace, time.Now())
					time.Sleep(time.Second)
					inv.Timeline.End(hearth.StageRun, time.Now())
					inv.Placement = hearth.Placement{Path: hearth.PathWarm, Why: "why", Instance: "i", Container: "c", Knew: hearth.Knowledge{Pool: 2}}
					return &c.result, c.err
				}, func(cfg *frontend.Config) { cfg.Recorder = rec })
				inv := request()
				_, _ = f.Invoke(context.Background(), inv)
				time.Sleep(2 * time.Millisecond)
				inv.Timeline.End(hearth.StageAnswer, time.Now())
				f.Done(inv)
				want := hearth.Decision{Kind: hearth.DecisionPlace, RequestID: inv.RequestID, Account: hearth.DefaultAccount, Function: "f", Version: hearth.Latest,
					Chosen: "warm", Why: "why", Instance: "i", Container: "c", Knew: hearth.Knowledge{Pool: 2}, Outcome: c.outcome,
					Spent: [hearth.Stages]time.Duration{hearth.StagePlace: time.Millisecond, hearth.StageRun: time.Second, hearth.StageAnswer: 2 * time.Millisecond}}
				if len(rec.all) != 1 || rec.all[0] != want {
					t.Errorf("recorded %+v\nwant     %+v", rec.all, want)
				}
			})
		})
	}
}

func TestDrainWaitsForWhatWasAdmittedAndRefusesTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFrontend(t, func(ctx context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
			time.Sleep(time.Minute)
			return echo(ctx, inv)
		}, nil)
		done := make(chan error, 1)
		go func() {
			_, err := f.Invoke(context.Background(), request())
			done <- err
		}()
		synctest.Wait()
		short, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := f.Drain(short); err != context.DeadlineExceeded {
			t.Errorf("a drain that may not wait so long: %v", err)
		}
		if _, err := f.Invoke(context.Background(), request()); hearth.KindOf(err) != hearth.Service {
			t.Errorf("an invoke while draining: %v", err)
		}
		if err := f.Drain(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Errorf("the invocation that was under way: %v", err)
		}
	})
}

func TestMetricsCountByWayAndOutcome(t *testing.T) {
	reg := prometheus.NewRegistry()
	f := newFrontend(t, echo, func(c *frontend.Config) { c.Metrics = reg })
	for range 3 {
		inv := request()
		_, _ = f.Invoke(context.Background(), inv)
		f.Done(inv)
	}
	unknown := request()
	unknown.Name = "g"
	_, _ = f.Invoke(context.Background(), unknown)
	f.Done(unknown)
	err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP hearth_refusals_total Invocations that got no container, by the error that the caller was given.
# TYPE hearth_refusals_total counter
hearth_refusals_total{error="ResourceNotFoundException"} 1
# HELP hearth_invocations_in_flight Invocations between the frontend's call and its return.
# TYPE hearth_invocations_in_flight gauge
hearth_invocations_in_flight 0
`), "hearth_refusals_total", "hearth_invocations_in_flight")
	if err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(reg, "hearth_invocations_total"); err != nil || n != 8 {
		t.Errorf("%d series of hearth_invocations_total, %v", n, err)
	}
}

func TestManyAccountsAreCountedApart(t *testing.T) {
	f := newFrontend(t, echo, func(c *frontend.Config) { c.Limits = frontend.NewLimits(1, -1); c.Functions = anything{} })
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for range 100 {
				inv := request()
				inv.Account = hearth.Account(fmt.Sprintf("%012d", i))
				inv.Caller.Account = inv.Account
				if _, err := f.Invoke(context.Background(), inv); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// anything has every function.
type anything struct{}

func (anything) Resolve(_ context.Context, a hearth.Account, name, _ string) (*hearth.Function, error) {
	f := newFunction()
	f.Account, f.Name = a, name
	return f, nil
}

type discard struct{}

func (discard) Record(*hearth.Decision) {}

func BenchmarkInvokeAndDone(b *testing.B) {
	f := newFrontend(b, echo, func(c *frontend.Config) { c.Recorder, c.Metrics = discard{}, prometheus.NewRegistry() })
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		ctx, inv := context.Background(), request()
		inv.RequestID, inv.TraceID, inv.Payload = "r", "t", []byte("{}")
		for pb.Next() {
			inv.Timeline.Begin(time.Now())
			_, _ = f.Invoke(ctx, inv)
			f.Done(inv)
		}
	})
}

func TestALoopIsStoppedUnlessTheFunctionMayLoop(t *testing.T) {
	for _, may := range []bool{false, true} {
		f := newFrontend(t, echo, func(c *frontend.Config) {
			c.MayLoop = func(*hearth.Function) bool { return may }
		})
		trace := ""
		for i := range 40 {
			inv := request()
			inv.TraceID = trace
			_, err := f.Invoke(context.Background(), inv)
			if stopped := i >= 16 && !may; stopped != (hearth.KindOf(err) == hearth.Recursive) || !stopped && err != nil {
				t.Fatalf("may loop %t: invocation %d of the chain: %v", may, i+1, err)
			}
			trace = inv.TraceID
		}
	}
}
