package deadline

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
)

const ours hearth.Account = "111111111111"

// world is the clock, the functions and the machine around Calls.
type world struct {
	*Calls
	t     testing.TB
	clock *clock.Fake
	code  string // of the caller

	mu      sync.Mutex
	spare   bool
	none    string // a function whose capacity has never any to spare
	off     bool
	takes   time.Duration
	full    bool
	started []string
	done    []*hearth.Invocation
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, clock: clock.NewFake(time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)), code: "one", takes: time.Second}
	var err error
	w.Calls, err = Open(context.Background(), Config{
		Functions: w, Run: w, Clock: w.clock,
		Done: func(inv *hearth.Invocation) { w.mu.Lock(); w.done = append(w.done, inv); w.mu.Unlock() },
		Spare: func(f *hearth.Function) bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.spare && f.Name != w.none
		},
		Policy: func(hearth.Account, string) *hearth.ExecutionPolicy {
			p := &hearth.ExecutionPolicy{Deadline: &hearth.DeadlinePolicy{}}
			if w.off {
				p.Deadline.Mode = "off"
			}
			return p
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) Resolve(_ context.Context, account hearth.Account, name, _ string) (*hearth.Function, error) {
	if name == "gone" {
		return nil, hearth.Errorf(hearth.NotFound, "no %s", name)
	}
	return &hearth.Function{Account: account, Name: name, MemoryMiB: 128, Package: hearth.Package{SHA256: "callee"}}, nil
}

// Invoke runs a call for as long as the fake clock takes to get there.
func (w *world) Invoke(_ context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
	over := make(chan struct{})
	w.mu.Lock()
	if w.full {
		w.mu.Unlock()
		return nil, hearth.Errorf(hearth.TooManyRequests, "full")
	}
	w.clock.AfterFunc(w.takes, func() { close(over) })
	w.started = append(w.started, inv.RequestID)
	w.mu.Unlock()
	<-over
	inv.Placement.Path = hearth.PathReuse
	return &hearth.Result{Payload: inv.Payload}, nil
}

// pass lets time pass in steps small enough for runs to be noticed.
func (w *world) pass(d time.Duration) {
	for ; d > 0; d -= 50 * time.Millisecond {
		w.clock.Advance(min(d, 50*time.Millisecond))
		w.settle()
	}
}

// settle waits until every call that should run does, and those that are over
// have ended.
func (w *world) settle() {
	deadline := time.Now().Add(time.Minute)
	for {
		w.Calls.mu.Lock()
		running, seen := 0, 0
		for _, c := range w.of {
			select {
			case <-c.done:
				seen++
			default:
				if c.index < 0 && !c.resting {
					running++
				}
			}
		}
		w.Calls.mu.Unlock()
		w.mu.Lock()
		ok := len(w.started) == running+seen
		w.mu.Unlock()
		if ok && w.pendingRuns() == running {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatal("it does not settle within a minute")
		}
		time.Sleep(50 * time.Microsecond)
	}
}

// pendingRuns is how many timers of runs are pending: all but the queue's own and
// those that forget.
func (w *world) pendingRuns() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.Calls.mu.Lock()
	defer w.Calls.mu.Unlock()
	n := w.clock.Pending()
	for _, c := range w.of {
		select {
		case <-c.done:
			n-- // it will be forgotten
		default:
			if c.resting {
				n--
			}
		}
	}
	if w.timer != nil {
		n--
	}
	return n
}

func (w *world) call(request string, need time.Duration) Made {
	w.t.Helper()
	return w.callOf("child", request, need)
}

func (w *world) callOf(function, request string, need time.Duration) Made {
	w.t.Helper()
	caller := &hearth.Invocation{RequestID: request, TraceID: "t", Function: &hearth.Function{Account: ours, Name: "caller", Role: "arn:aws:iam::111111111111:role/r", Package: hearth.Package{SHA256: w.code}}}
	made, err := w.Call(context.Background(), Request{Caller: caller, Function: function, Event: []byte(`1`), NeedIn: need})
	if err != nil {
		w.t.Fatal(err)
	}
	w.settle()
	return made
}

// ask asks for the answer and lets time pass until it is there; it tells how long
// that was.
func (w *world) ask(id string) time.Duration {
	w.t.Helper()
	began := w.clock.Now()
	got := make(chan error, 1)
	w.Calls.mu.Lock()
	if c := w.of[id]; c != nil && !c.asked {
		w.Calls.ask(c)
	}
	w.Calls.mu.Unlock()
	go func() {
		_, err := w.Await(context.Background(), ours, "caller", id, true)
		got <- err
	}()
	w.settle()
	for range 1000 {
		select {
		case err := <-got:
			if err != nil {
				w.t.Fatal(err)
			}
			return w.clock.Now().Sub(began)
		default:
		}
		c := w.of[id]
		select {
		case <-c.done:
			if err := <-got; err != nil {
				w.t.Fatal(err)
			}
			return w.clock.Now().Sub(began)
		default:
			w.pass(50 * time.Millisecond)
		}
	}
	w.t.Fatal("it is never answered")
	return 0
}

// learn has the caller need the answer that long after each of n calls.
func (w *world) learn(n int, need time.Duration) {
	for range n {
		made := w.call("r", 0)
		w.pass(need)
		w.ask(made.ID)
	}
}

func TestWithoutHistoryACallRunsAtOnce(t *testing.T) {
	w := newWorld(t)
	made := w.call("r", 0)
	if made.State != "running" || len(w.started) != 1 {
		t.Errorf("it is %+v", made)
	}
	w.ask(made.ID)
}

func TestACallWaitsForSpareCapacityAndIsDoneWhenItIsNeeded(t *testing.T) {
	w := newWorld(t)
	w.learn(5, 30*time.Second)
	ran := len(w.started)
	made := w.call("r", 0)
	if made.State != "queued" || !strings.Contains(made.Why, "5 earlier calls") {
		t.Fatalf("it is %+v", made)
	}
	w.pass(10 * time.Second)
	if len(w.started) != ran {
		t.Fatal("it runs in a peak")
	}
	w.mu.Lock()
	w.spare = true
	w.mu.Unlock()
	w.pass(100 * time.Millisecond)
	if len(w.started) != ran+1 {
		t.Fatal("it does not run in a trough")
	}
	w.pass(19900 * time.Millisecond)
	if waited := w.ask(made.ID); waited != 0 {
		t.Errorf("its caller waited for %v", waited)
	}
	if c := w.Counts(); c.Now != 3 || c.Spare != 1 || c.Due != 2 || c.InTime != 3 || c.Missed != 0 { // from the fourth on they wait
		t.Errorf("counted %+v", c)
	}
	if why := w.done[len(w.done)-1].Placement.Why; !strings.Contains(why, "spare capacity") {
		t.Errorf("told: %s", why)
	}
}

func TestACallWhoseCapacityHasNoneToSpareHoldsUpNoOther(t *testing.T) {
	w := newWorld(t)
	w.spare, w.none = true, "other"
	w.learn(5, 30*time.Second)
	for range 3 { // how long it takes
		w.ask(w.callOf("other", "r", 0).ID)
	}
	stuck := w.callOf("other", "r", 20*time.Second)
	made := w.callOf("child", "r", 30*time.Second)
	w.pass(100 * time.Millisecond)
	if stuck.State != "queued" || !slices.Contains(w.started, made.ID) || slices.Contains(w.started, stuck.ID) {
		t.Errorf("%+v and %+v were called, and %v run", stuck, made, w.started)
	}
}

func TestWithoutSpareCapacityItRunsInTimeForItsOwnDuration(t *testing.T) {
	w := newWorld(t)
	w.takes = 5 * time.Second
	w.learn(5, 30*time.Second)
	ran := len(w.started)
	made := w.call("r", 0)
	w.pass(23 * time.Second)
	if len(w.started) != ran {
		t.Fatal("it runs before it must")
	}
	w.pass(7 * time.Second)
	if waited := w.ask(made.ID); waited != 0 {
		t.Errorf("its caller waited for %v", waited)
	}
	if c := w.Counts(); c.Due != 3 || c.InTime != 3 { // from the fourth on they wait
		t.Errorf("counted %+v", c)
	}
}

func TestACallerWhoAsksEarlyHasItRunAtOnceAndIsLearnedFrom(t *testing.T) {
	w := newWorld(t)
	w.learn(10, 30*time.Second)
	made := w.call("r", 0)
	w.pass(8 * time.Second)
	if waited := w.ask(made.ID); waited != time.Second {
		t.Errorf("its caller waited for %v, and a run takes a second", waited)
	}
	if c := w.Counts(); c.Promoted != 1 || c.Missed != 1 {
		t.Errorf("counted %+v", c)
	}
	for range 2 { // the new way is learned after as many at the latest
		made = w.call("r", 0)
		w.pass(8 * time.Second)
		w.ask(made.ID)
	}
	if c := w.Counts(); c.Missed > 2 {
		t.Errorf("%d missed: it does not adapt", c.Missed)
	}
	w.code = "two"
	if made := w.call("r", 0); made.State != "running" {
		t.Errorf("of new code it is %+v", made)
	}
}

func TestACallThatIsNeededAtOnceIsNeverQueued(t *testing.T) {
	w := newWorld(t)
	w.learn(5, 0)
	if made := w.call("r", 0); made.State != "running" || w.Counts().Queued != 0 {
		t.Errorf("it is %+v", made)
	}
}

func TestANestedCallIsNeededWhenItsCallerIsAtTheLatest(t *testing.T) {
	w := newWorld(t)
	w.learn(5, 30*time.Second)
	parent := w.call("r", 5*time.Second)
	nested := w.call(parent.ID, 0)
	if !nested.Needed.Equal(parent.Needed) || nested.State != "queued" {
		t.Errorf("the parent is needed at %v, and the nested one at %v", parent.Needed, nested.Needed)
	}
}

func TestWhatIsDeclaredGoesBeforeWhatIsLearnedAndThePolicyBeforeBoth(t *testing.T) {
	w := newWorld(t)
	w.learn(5, 0)
	if made := w.call("r", 20*time.Second); made.State != "queued" {
		t.Errorf("declared, it is %+v", made)
	}
	w.off = true
	if made := w.call("r", 20*time.Second); made.State != "running" {
		t.Errorf("with the policy off it is %+v", made)
	}
}

func TestARefusalForWantOfConcurrencyIsTriedAgain(t *testing.T) {
	w := newWorld(t)
	w.learn(5, 10*time.Second)
	made := w.call("r", 0)
	w.mu.Lock()
	w.full, w.spare = true, true
	w.mu.Unlock()
	w.pass(50 * time.Millisecond) // it is run, and refused
	w.Calls.mu.Lock()
	if c := w.of[made.ID]; !c.resting {
		t.Errorf("a refused call is %+v", c)
	}
	w.Calls.mu.Unlock()
	w.mu.Lock()
	w.full = false
	w.mu.Unlock()
	w.pass(10 * time.Second)
	if waited := w.ask(made.ID); waited != 0 {
		t.Errorf("its caller waited for %v", waited)
	}
}

func TestAnAnswerIsForTheFunctionThatCalled(t *testing.T) {
	w := newWorld(t)
	made := w.call("r", 0)
	for _, other := range []struct {
		account  hearth.Account
		function string
	}{{"222222222222", "caller"}, {ours, "other"}} {
		if _, err := w.Await(t.Context(), other.account, other.function, made.ID, true); hearth.KindOf(err) != hearth.NotFound {
			t.Errorf("%+v: %v", other, err)
		}
	}
	if _, err := w.Call(t.Context(), Request{Caller: &hearth.Invocation{Function: &hearth.Function{Account: ours}}, Function: "gone"}); hearth.KindOf(err) != hearth.NotFound {
		t.Errorf("a function that there is not: %v", err)
	}
	w.ask(made.ID)
	w.pass(time.Second)
	w.clock.Advance(kept)
	if _, err := w.Await(t.Context(), ours, "caller", made.ID, true); hearth.KindOf(err) != hearth.NotFound {
		t.Errorf("after %v: %v", kept, err)
	}
	if w.bytes != 0 || len(w.count) != 0 {
		t.Errorf("%d bytes, %d accounts are left", w.bytes, len(w.count))
	}
}

func TestWhatWaitsRunsBeforeTheProcessEnds(t *testing.T) {
	w := newWorld(t)
	w.learn(5, 30*time.Second)
	made := w.call("r", 0)
	w.Hasten()
	w.settle()
	w.pass(time.Second)
	if w.ask(made.ID); w.Counts().Waiting != 0 {
		t.Error("something waits")
	}
}

func TestADecisionNeverLeavesLessTimeThanTheRunTakes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		now := time.Unix(1_000_000, 0)
		draw := func(name string) *samples {
			s := &samples{}
			for range rapid.IntRange(0, 30).Draw(rt, name) {
				s.add(time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(rt, "d")))
			}
			return s
		}
		k := known{now: now, need: draw("needs"), run: draw("runs"), threshold: threshold}
		k.declared = time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(rt, "declared")) * time.Duration(rapid.IntRange(0, 1).Draw(rt, "is"))
		p := decide(k)
		run, known := k.run.quantile(runQuantile)
		switch {
		case p.why == "":
			rt.Fatal("it is not told why")
		case !p.now && (!known || p.startBy.Add(run).After(p.needed) || p.startBy.Before(now.Add(threshold))):
			rt.Fatalf("a run of %v is to begin at %v for %v", run, p.startBy.Sub(now), p.needed.Sub(now))
		}
		if s := fmt.Sprint(p); s == "" || len(k.need.Last) > keep {
			rt.Fatal(s)
		}
	})
}
