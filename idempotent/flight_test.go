package idempotent_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
)

func TestEqualRequestsAtOnceRunOnce(t *testing.T) {
	p := newPlace(t)
	p.declare("f", oneObject)
	p.set(named, "v1")
	const callers = 50
	var runs atomic.Int64
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			inv := p.request(`{"key":"k"}`)
			r, err := p.Avoider.Invoke(t.Context(), inv, func(context.Context, *hearth.Invocation) (*hearth.Result, error) {
				runs.Add(1)
				p.await("the others", func() bool { return p.Waiting() == callers })
				return &hearth.Result{Payload: []byte("one"), LogTail: []byte("log")}, nil
			})
			if err != nil || string(r.Payload) != "one" {
				t.Errorf("%v, %v", r, err)
			}
			if inv.Recorded != "" && (r.LogTail != nil || inv.Placement.Path != hearth.PathJoined) {
				t.Errorf("who joined is answered with the log %q, by %+v", r.LogTail, inv.Placement)
			}
		})
	}
	all.Wait()
	if runs.Load() != 1 {
		t.Errorf("%d runs", runs.Load())
	}
	if c := p.Counts(ours, "f"); c.Joined != callers-1 {
		t.Errorf("counted %+v", c)
	}
	p.settle()
	if p.asked > callers+2 {
		t.Errorf("the state was asked for %d times", p.asked)
	}
}

func TestACrowdAsksForStatesTogether(t *testing.T) {
	p := newPlace(t)
	p.declare("f", oneObject)
	p.block = make(chan struct{})
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if _, err := p.answer(p.request(`{"key":"k"}`)); err != nil {
				t.Error(err)
			}
		})
	}
	p.await("all to wait", func() bool { return p.Crowd() == 50 })
	close(p.block)
	all.Wait()
	p.settle()
	if p.asked > 4 { // the first's, all the others', and after the run
		t.Errorf("the state was asked for %d times", p.asked)
	}
}

func TestWhoComesAfterAChangeDoesNotJoinWhatRanBefore(t *testing.T) {
	p := newPlace(t)
	p.declare("f", oneObject)
	p.set(named, "v1")
	began, end := make(chan struct{}), make(chan struct{})
	var first sync.WaitGroup
	first.Go(func() {
		_, err := p.Avoider.Invoke(t.Context(), p.request(`{"key":"k"}`), func(context.Context, *hearth.Invocation) (*hearth.Result, error) {
			close(began)
			<-end
			return &hearth.Result{Payload: []byte("old")}, nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-began
	p.set(named, "v2")
	inv := p.request(`{"key":"k"}`)
	if got, err := p.answer(inv); got != "run 1" || err != nil || inv.Recorded != "" {
		t.Errorf("%q, %v, recorded %q", got, err, inv.Recorded)
	}
	close(end)
	first.Wait()
	p.settle()
	p.want(`{"key":"k"}`, "run 1")
}

func TestACallerWhoLeavesDoesNotEndItForTheOthers(t *testing.T) {
	var orphaned atomic.Int64
	p := newPlace(t)
	p.declare("f", oneObject)
	p.shut()
	p.cfg.Orphaned = func(inv *hearth.Invocation, r *hearth.Result, _ error) {
		if inv.RequestID == "r1" && string(r.Payload) == "late" {
			orphaned.Add(1)
		}
	}
	p.open()
	began, end := make(chan struct{}), make(chan struct{})
	ctx, leave := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() {
		_, err := p.Avoider.Invoke(ctx, p.request(`{"key":"k"}`), func(ctx context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
			close(began)
			<-end
			return &hearth.Result{Payload: []byte("late")}, ctx.Err()
		})
		if hearth.KindOf(err) != hearth.Canceled {
			t.Errorf("who left got %v", err)
		}
	})
	<-began
	gone, goes := context.WithCancel(t.Context())
	all.Go(func() {
		if _, err := p.Avoider.Invoke(gone, p.request(`{"key":"k"}`), nil); hearth.KindOf(err) != hearth.Canceled {
			t.Errorf("who left a run of another's got %v", err)
		}
	})
	all.Go(func() {
		r, err := p.Avoider.Invoke(t.Context(), p.request(`{"key":"k"}`), nil)
		if err != nil || string(r.Payload) != "late" {
			t.Errorf("who stayed got %v, %v", r, err)
		}
	})
	p.await("three to wait", func() bool { return p.Waiting() == 3 })
	goes()
	leave()
	p.await("one to wait", func() bool { return p.Waiting() == 1 })
	close(end)
	all.Wait()
	p.settle()
	if orphaned.Load() != 1 {
		t.Errorf("%d orphaned runs were told of", orphaned.Load())
	}
	p.want(`{"key":"k"}`, "late")
}

func TestARunThatNobodyWaitsForIsCalledOff(t *testing.T) {
	p := newPlace(t)
	p.declare("f", oneObject)
	began := make(chan struct{})
	ctx, leave := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			_, err := p.Avoider.Invoke(ctx, p.request(`{"key":"k"}`), func(ctx context.Context, _ *hearth.Invocation) (*hearth.Result, error) {
				close(began)
				<-ctx.Done()
				return nil, hearth.Errorf(hearth.Canceled, "called off")
			})
			if hearth.KindOf(err) != hearth.Canceled {
				t.Error(err)
			}
		})
	}
	<-began
	p.await("three to wait", func() bool { return p.Waiting() == 3 })
	leave()
	all.Wait()
	p.want(`{"key":"k"}`, "run 1")
}

func TestAFailureIsAnsweredToAllWhoJoinedAndToNobodyElse(t *testing.T) {
	p := newPlace(t)
	p.declare("f", `{}`)
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			r, err := p.Avoider.Invoke(t.Context(), p.request(`{}`), func(context.Context, *hearth.Invocation) (*hearth.Result, error) {
				p.await("the others", func() bool { return p.Waiting() == 10 })
				return &hearth.Result{FunctionError: "Unhandled", Payload: []byte(`{}`)}, nil
			})
			if err != nil || r.FunctionError != "Unhandled" {
				t.Errorf("%v, %v", r, err)
			}
		})
	}
	all.Wait()
	p.want(`{}`, "run 1")
}

// Whatever changes in whatever order, the function is run exactly once for each
// state that it was asked in, and every answer is that of a run in the states of
// the moment.
func TestModelAFunctionIsRunOnceForEachState(t *testing.T) {
	p := newPlace(t)
	rapid.Check(t, func(rt *rapid.T) {
		if err := p.Set(t.Context(), ours, "f", nil); err != nil {
			rt.Fatal(err)
		}
		p.world.reset()
		p.declare("f", `{"dependencies": [{"s3": "s3://b/one", "endpoint": "http://s3"}, {"s3": "s3://b/${$.key}", "endpoint": "http://s3"}]}`)
		seen := map[string]bool{}
		fails := false
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			switch rapid.IntRange(0, 9).Draw(rt, "what") {
			case 0:
				p.set("s3://b/one at http://s3", rapid.StringMatching("v[0-2]").Draw(rt, "one"))
			case 1:
				p.set(rapid.SampledFrom([]string{"s3://b/a at http://s3", "s3://b/b at http://s3"}).Draw(rt, "object"), rapid.StringMatching("v[0-2]").Draw(rt, "two"))
			case 2:
				f := *p.functions["f"]
				f.Package.SHA256, f.Generation = rapid.StringMatching("c[0-1]").Draw(rt, "code"), f.Generation+1
				p.functions["f"] = &f
			case 3:
				p.down = nil
				if rapid.Bool().Draw(rt, "down") {
					p.down = errors.New("away")
				}
			case 4:
				fails = rapid.Bool().Draw(rt, "fails")
			case 5:
				p.shut()
				p.open()
			default:
				key := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "key")
				state := fmt.Sprint(p.functions["f"].Package.SHA256, key, p.states["s3://b/one at http://s3"].Value, p.states["s3://b/"+key+" at http://s3"].Value)
				ran := false
				r, err := p.Avoider.Invoke(t.Context(), p.request(fmt.Sprintf(`{"key":%q}`, key)), func(context.Context, *hearth.Invocation) (*hearth.Result, error) {
					ran = true
					if fails {
						return &hearth.Result{FunctionError: "Unhandled"}, nil
					}
					return &hearth.Result{Payload: []byte(state)}, nil
				})
				if err != nil {
					rt.Fatal(err)
				}
				p.settle()
				if want := p.down != nil || !seen[state]; ran != want {
					rt.Fatalf("in state %s it was run: %v, and not %v", state, ran, want)
				}
				if r.FunctionError == "" && string(r.Payload) != state {
					rt.Fatalf("in state %s the answer is %s", state, r.Payload)
				}
				if ran && !fails && p.down == nil {
					seen[state] = true
				}
			}
		}
		if got := p.Counts(ours, "f").Records; p.down == nil && got != len(seen) {
			rt.Fatalf("%d records of %d states", got, len(seen))
		}
	})
}

// Many ask, and states change meanwhile: no answer is older than the state when
// its request was made, and what is recorded in the end is right.
func TestHammerNoAnswerIsOlderThanItsRequest(t *testing.T) {
	p := newPlace(t)
	p.declare("f", oneObject)
	var version, low atomic.Int64
	p.set(named, "0")
	stop := make(chan struct{})
	var callers, changer sync.WaitGroup
	changer.Go(func() {
		for i := int64(1); ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			version.Store(i) // before its state: a run may read what is newer, not what is older
			p.set(named, fmt.Sprint(i))
			low.Store(i)
			runtime.Gosched()
		}
	})
	for range 8 {
		callers.Go(func() {
			for range 200 {
				asked := low.Load()
				r, err := p.Avoider.Invoke(t.Context(), p.request(`{"key":"k"}`), func(context.Context, *hearth.Invocation) (*hearth.Result, error) {
					return &hearth.Result{Payload: fmt.Append(nil, version.Load())}, nil
				})
				var got int64
				if err == nil {
					_, err = fmt.Sscan(string(r.Payload), &got)
				}
				if err != nil || got < asked {
					t.Errorf("asked at %d, answered %d, %v", asked, got, err)
				}
			}
		})
	}
	callers.Wait()
	close(stop)
	changer.Wait()
	p.settle()
	r, err := p.Avoider.Invoke(t.Context(), p.request(`{"key":"k"}`), func(context.Context, *hearth.Invocation) (*hearth.Result, error) {
		return &hearth.Result{Payload: fmt.Append(nil, version.Load())}, nil
	})
	if err != nil || string(r.Payload) != fmt.Sprint(version.Load()) {
		t.Errorf("in the end %v, %v, not %d", r, err, version.Load())
	}
}
