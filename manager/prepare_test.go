package manager_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/manager"
)

// fates collects what became of what was prepared.
type fates struct {
	mu  sync.Mutex
	all []manager.Fate
}

func (f *fates) add(fate manager.Fate) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, fate)
}

func (f *fates) hits() (hit, wasted int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fate := range f.all {
		if fate.Hit {
			hit++
		} else {
			wasted++
		}
	}
	return hit, wasted
}

func foretell(fn *hearth.Function, n int, d time.Duration, f *fates) manager.Preparation {
	return manager.Preparation{Function: fn, Count: n, Until: time.Now().Add(d), Why: "a test", Fate: f.add}
}

func preparing(t *testing.T, act func(t *testing.T, w *fakeWorker, m *manager.Manager, rec *recorder), change func(*manager.Config)) {
	synctest.Test(t, func(t *testing.T) {
		w, rec := newFakeWorker(), &recorder{}
		w.bootTime, w.loadTime, w.invokeTime = time.Second, time.Second, time.Second
		m := newManager(t, w, func(c *manager.Config) {
			c.Recorder = rec
			if change != nil {
				change(c)
			}
		})
		act(t, w, m, rec)
		drain(t, m, w)
	})
}

func TestWhatIsForetoldIsReadyAndOnlyTheShortfallIsMade(t *testing.T) {
	preparing(t, func(t *testing.T, w *fakeWorker, m *manager.Manager, rec *recorder) {
		f, fate := function("000000000001", "f", 128), &fates{}
		first := invoke(t, m, f)
		if did := m.Prepare(foretell(f, 3, time.Minute, fate)); did.Making != 2 {
			t.Errorf("one is idle and three are foretold: %+v", did)
		}
		if did := m.Prepare(foretell(f, 2, time.Minute, fate)); did.Making != 2 {
			t.Errorf("two more that others foretold: %+v", did)
		}
		time.Sleep(10 * time.Second)
		served, failed := together(m, f, 5)
		if len(failed) > 0 {
			t.Fatal(failed)
		}
		old := 0
		for _, inv := range served {
			if inv.Placement.Path != hearth.PathReuse || inv.Timeline.Spent[hearth.StagePlace] != 0 {
				t.Errorf("placed by %+v after %v", inv.Placement, inv.Timeline.Spent)
			}
			if inv.Placement.Container == first.Placement.Container {
				old++
			}
		}
		if old != 1 {
			t.Errorf("the container that was idle served %d", old)
		}
		if hit, wasted := fate.hits(); hit != 4 || wasted != 0 {
			t.Errorf("%d hit, %d wasted", hit, wasted)
		}
		if s := m.PreparedStats(f.Account); s.Made != 4 || s.Hit != 4 || s.IdleMiBSeconds != 4*8*128 {
			t.Errorf("%+v", s)
		}
		if n := rec.kinds()[hearth.DecisionPrepare]; n != 8 {
			t.Errorf("%d decisions tell of four made and four used", n)
		}
	}, nil)
}

func TestWhatIsNotUsedInTimeIsEndedAndCounted(t *testing.T) {
	preparing(t, func(t *testing.T, w *fakeWorker, m *manager.Manager, rec *recorder) {
		f, fate := function("000000000001", "f", 256), &fates{}
		m.Prepare(foretell(f, 3, 30*time.Second, fate))
		time.Sleep(10 * time.Second)
		invoke(t, m, f)
		time.Sleep(time.Minute)
		if all, _ := w.loaded(f); all != 1 {
			t.Errorf("%d containers are left, one was used", all)
		}
		if hit, wasted := fate.hits(); hit != 1 || wasted != 2 {
			t.Errorf("%d hit, %d wasted", hit, wasted)
		}
		if s := m.PreparedStats(f.Account); s.WastedMiBSeconds != 2*28*256 {
			t.Errorf("%v MiB-seconds are wasted; two containers of 256 were ready for 28 s", s.WastedMiBSeconds)
		}
	}, nil)
}

// What was made for each goes when it is not needed any more, in whatever order
// they were foretold.
func TestWhatIsForetoldForSeveralTimesGoesAtEach(t *testing.T) {
	preparing(t, func(t *testing.T, w *fakeWorker, m *manager.Manager, rec *recorder) {
		f, fate := function("000000000001", "f", 256), &fates{}
		for _, d := range []time.Duration{30 * time.Second, 10 * time.Second, 20 * time.Second} {
			m.Prepare(foretell(f, 1, d, fate))
		}
		time.Sleep(5 * time.Second)
		for _, want := range []int{3, 2, 1, 0} {
			if all, _ := w.loaded(f); all != want {
				t.Errorf("%d containers are left, want %d", all, want)
			}
			time.Sleep(10 * time.Second)
		}
	}, nil)
}

// timers is a clock that counts what it is asked for and has not run.
type timers struct {
	hearth.Clock
	pending atomic.Int64
}

func (c *timers) AfterFunc(d time.Duration, f func()) hearth.Timer {
	c.pending.Add(1)
	return counted{c, c.Clock.AfterFunc(d, func() {
		c.pending.Add(-1)
		f()
	})}
}

type counted struct {
	clock *timers
	hearth.Timer
}

func (t counted) Stop() bool {
	stopped := t.Timer.Stop()
	if stopped {
		t.clock.pending.Add(-1)
	}
	return stopped
}

func (t counted) Reset(d time.Duration) bool {
	active := t.Timer.Reset(d)
	if !active {
		t.clock.pending.Add(1)
	}
	return active
}

// However often it is foretold that a function is called, the manager keeps no more
// of it than it looks at.
func TestWhatIsForetoldAgainAndAgainDoesNotAddUp(t *testing.T) {
	c := &timers{Clock: clock.System()}
	preparing(t, func(t *testing.T, w *fakeWorker, m *manager.Manager, rec *recorder) {
		f, fate := function("000000000001", "f", 256), &fates{}
		before := c.pending.Load()
		for i := range 1000 {
			p := foretell(f, 1, time.Hour-time.Duration(i)*time.Second, fate)
			if i%2 == 0 {
				p.Key = "again"
			}
			m.Prepare(p)
		}
		time.Sleep(10 * time.Second)
		if n := c.pending.Load() - before; n > 5 {
			t.Errorf("%d timers wait", n)
		}
		time.Sleep(2 * time.Hour)
		if all, _ := w.loaded(f); all != 0 {
			t.Errorf("%d containers are left", all)
		}
	}, func(cfg *manager.Config) { cfg.Clock, cfg.PrepareMiB = c, 1024 })
}

func TestTheLastOfItsCodeIsKeptAsLongAsOneThatWasUsed(t *testing.T) {
	preparing(t, func(t *testing.T, w *fakeWorker, m *manager.Manager, rec *recorder) {
		f, fate := function("000000000001", "f", 256), &fates{}
		inv := invoke(t, m, f)
		for _, c := range w.containers() {
			if c.id == inv.Placement.Container {
				c.die()
			}
		}
		synctest.Wait()
		m.Prepare(foretell(f, 1, 30*time.Second, fate))
		time.Sleep(time.Minute)
		if all, _ := w.loaded(f); all != 1 {
			t.Errorf("%d containers are left", all)
		}
		if _, wasted := fate.hits(); wasted != 1 {
			t.Error("it is not counted as a waste")
		}
		time.Sleep(12 * time.Hour)
		if all, _ := w.loaded(f); all != 0 {
			t.Errorf("%d containers are left hours later", all)
		}
	}, nil)
}

func TestAnInvocationTakesOverWhatIsBeingMade(t *testing.T) {
	preparing(t, func(t *testing.T, w *fakeWorker, m *manager.Manager, rec *recorder) {
		f, fate := function("000000000001", "f", 128), &fates{}
		m.Prepare(foretell(f, 1, time.Minute, fate))
		time.Sleep(1500 * time.Millisecond)
		inv := invoke(t, m, f)
		if took := inv.Timeline.Spent[hearth.StagePlace]; took != 500*time.Millisecond {
			t.Errorf("it waited for %v; half a second of the making was left", took)
		}
		if all, _ := w.loaded(f); all != 1 {
			t.Errorf("%d containers were made", all)
		}
		if hit, _ := fate.hits(); hit != 1 {
			t.Error("that is no hit")
		}
	}, nil)
}

// A caller whose own container is long in coming takes one that was foretold; his
// is there for that then, and none is made beyond those that are needed.
func TestWhatWasMadeForACallerWhoTookAnotherCountsAsForetold(t *testing.T) {
	slow := atomic.Bool{}
	slow.Store(true)
	preparing(t, func(t *testing.T, w *fakeWorker, m *manager.Manager, rec *recorder) {
		w.onLoad = func(*hearth.Function) error {
			if slow.Swap(false) {
				time.Sleep(5 * time.Second)
			}
			return nil
		}
		f, fate := function("000000000001", "f", 128), &fates{}
		var caller sync.WaitGroup
		caller.Go(func() { invoke(t, m, f) })
		time.Sleep(100 * time.Millisecond)
		m.Prepare(foretell(f, 3, time.Hour, fate)) // two of them at first
		caller.Wait()
		time.Sleep(time.Minute)
		if all, _ := w.loaded(f); all != 3 {
			t.Errorf("%d containers for three callers, of whom one has come", all)
		}
	}, func(c *manager.Config) { c.PrepareConcurrency = 2 })
}

func TestAFailedPreparationThatIsAwaitedIsTriedAgain(t *testing.T) {
	fails := 1
	preparing(t, func(t *testing.T, w *fakeWorker, m *manager.Manager, rec *recorder) {
		w.onLoad = func(*hearth.Function) error {
			if fails--; fails >= 0 {
				return hearth.Errorf(hearth.Service, "fault")
			}
			return nil
		}
		f, fate := function("000000000001", "f", 128), &fates{}
		m.Prepare(foretell(f, 1, time.Minute, fate))
		time.Sleep(time.Second)
		if inv := invoke(t, m, f); inv.Placement.Container == "" {
			t.Error("it was not served")
		}
	}, nil)
}

func TestPreparingTakesOnlyMemoryThatNobodyNeeds(t *testing.T) {
	preparing(t, func(t *testing.T, w *fakeWorker, m *manager.Manager, rec *recorder) {
		f, g, fate := function("000000000001", "f", 256), function("000000000002", "g", 256), &fates{}
		if _, failed := together(m, g, 2); len(failed) > 0 {
			t.Fatal(failed)
		}
		// 512 of 1024 are g's, and an eighth stays free.
		if did := m.Prepare(foretell(f, 3, time.Hour, fate)); did.Making != 1 || !strings.Contains(did.Why, "memory") {
			t.Errorf("%+v", did)
		}
		time.Sleep(10 * time.Second)
		if all, _ := w.loaded(g); all != 2 {
			t.Errorf("of g's two idle containers %d are left", all)
		}
		// A third of g takes what is left, and what was prepared gives way before a
		// fourth needs it.
		if _, failed := together(m, g, 3); len(failed) > 0 {
			t.Fatal(failed)
		}
		if all, _ := w.loaded(f); all != 0 {
			t.Errorf("%d of f are still there", all)
		}
		w.set(&w.invokeTime, time.Minute)
		served, _ := together(m, g, 4)
		for _, inv := range served {
			if inv.Timeline.Spent[hearth.StagePlace] != 0 {
				t.Errorf("one waited: %v", inv.Timeline.Spent)
			}
		}
	}, func(c *manager.Config) { c.MachineMiB = 1024; c.PrepareMiB = 1024 })
}

func TestWhatIsBeingPreparedGivesWayToThoseWhoWait(t *testing.T) {
	preparing(t, func(t *testing.T, w *fakeWorker, m *manager.Manager, rec *recorder) {
		f, g, fate := function("000000000001", "f", 512), function("000000000002", "g", 1024), &fates{}
		w.set(&w.loadTime, time.Hour)
		m.Prepare(foretell(f, 1, 2*time.Hour, fate))
		time.Sleep(2 * time.Second)
		w.set(&w.loadTime, time.Second)
		if inv := invoke(t, m, g); inv.Timeline.Spent[hearth.StagePlace] != 0 {
			t.Errorf("it waited %v for what nobody had asked for", inv.Timeline.Spent[hearth.StagePlace])
		}
	}, func(c *manager.Config) { c.MachineMiB = 1024; c.PrepareMiB = 1024; c.MakeTimeout = 3 * time.Hour })
}

func TestAnAccountsBudgetBoundsWhatIsPrepared(t *testing.T) {
	preparing(t, func(t *testing.T, w *fakeWorker, m *manager.Manager, rec *recorder) {
		f, fate := function("000000000001", "f", 256), &fates{}
		p := foretell(f, 9, time.Minute, fate)
		p.BudgetMiB = 600
		if did := m.Prepare(p); did.Making != 2 || !strings.Contains(did.Why, "account") {
			t.Errorf("of 600 MiB for containers of 256: %+v", did)
		}
		time.Sleep(10 * time.Second)
		other := foretell(function("000000000002", "f", 256), 2, time.Minute, fate)
		other.BudgetMiB = 600
		if did := m.Prepare(other); did.Making != 2 {
			t.Errorf("the budget of another account: %+v", did)
		}
		time.Sleep(2 * time.Minute)
		if did := m.Prepare(foretell(f, 1, time.Minute, fate)); did.Making != 1 {
			t.Errorf("after all has expired: %+v", did)
		}
	}, nil)
}

func TestMakersAreBoundedAndTheRestFollows(t *testing.T) {
	preparing(t, func(t *testing.T, w *fakeWorker, m *manager.Manager, rec *recorder) {
		f, fate := function("000000000001", "f", 128), &fates{}
		if did := m.Prepare(foretell(f, 5, time.Minute, fate)); did.Making != 2 {
			t.Errorf("with two makers: %+v", did)
		}
		time.Sleep(10 * time.Second)
		if all, _ := w.loaded(f); all != 5 {
			t.Errorf("in the end %d are ready", all)
		}
	}, func(c *manager.Config) { c.PrepareConcurrency = 2 })
}

func TestAKeyReplacesWhatWasForetoldUnderIt(t *testing.T) {
	preparing(t, func(t *testing.T, w *fakeWorker, m *manager.Manager, rec *recorder) {
		f, fate := function("000000000001", "f", 128), &fates{}
		for n := 1; n <= 3; n++ {
			p := foretell(f, n, time.Minute, fate)
			p.Key = "k"
			if did := m.Prepare(p); did.Making != 1 {
				t.Errorf("one more than before: %+v", did)
			}
		}
		time.Sleep(30 * time.Second)
		p := foretell(f, 1, time.Hour, fate)
		p.Key = "k"
		m.Prepare(p)
		time.Sleep(time.Minute)
		if all, _ := w.loaded(f); all != 1 {
			t.Errorf("%d are kept of three, of which one is still foretold", all)
		}
	}, nil)
}

func TestNothingIsPreparedOfReplacedCode(t *testing.T) {
	preparing(t, func(t *testing.T, w *fakeWorker, m *manager.Manager, rec *recorder) {
		f, now, fate := function("000000000001", "f", 128), function("000000000001", "f", 128), &fates{}
		m.Prepare(foretell(f, 1, time.Hour, fate))
		time.Sleep(10 * time.Second)
		m.Changed(f, now)
		synctest.Wait()
		if all, _ := w.loaded(f); all != 0 {
			t.Errorf("%d of the old code are ready", all)
		}
		if did := m.Prepare(foretell(f, 1, time.Hour, fate)); did.Making != 0 || !strings.Contains(did.Why, "replaced") {
			t.Errorf("%+v", did)
		}
		if _, wasted := fate.hits(); wasted != 1 {
			t.Error("it is not counted as a waste")
		}
	}, nil)
}

func TestAKilledPreparedContainerCostsNoInvocation(t *testing.T) {
	preparing(t, func(t *testing.T, w *fakeWorker, m *manager.Manager, rec *recorder) {
		f, fate := function("000000000001", "f", 128), &fates{}
		m.Prepare(foretell(f, 1, time.Minute, fate))
		time.Sleep(10 * time.Second)
		for _, c := range w.containers() {
			c.die()
		}
		if inv := invoke(t, m, f); inv.Placement.Container == "" {
			t.Error("it was not served")
		}
		if hit, wasted := fate.hits(); hit != 0 || wasted != 1 {
			t.Errorf("%d hit, %d wasted", hit, wasted)
		}
	}, nil)
}

func TestAMachineIsReadyWhereNoMoreIsWorthIt(t *testing.T) {
	preparing(t, func(t *testing.T, w *fakeWorker, m *manager.Manager, rec *recorder) {
		f := function("000000000001", "f", 128)
		f.Runtime = "nodejs20.x"
		time.Sleep(time.Minute)
		p := foretell(f, 1, time.Minute, &fates{})
		p.Level = manager.LevelMachine
		m.Prepare(p)
		time.Sleep(10 * time.Second)
		if n := m.Stats().PoolReady["node"]; n != 1 {
			t.Errorf("the pool has %d slots with its boot", n)
		}
		if all, _ := w.loaded(f); all != 0 {
			t.Errorf("%d containers were made", all)
		}
	}, func(c *manager.Config) { c.PoolBudgetMiB = 100 })
}

func TestServingTellsWhatAContainerRuns(t *testing.T) {
	preparing(t, func(t *testing.T, w *fakeWorker, m *manager.Manager, rec *recorder) {
		f := function("000000000001", "f", 128)
		var seen *hearth.Invocation
		w.onInvoke = func(c *fakeContainer, inv *hearth.Invocation) (*hearth.Result, bool, error) {
			seen, _ = m.Serving(c.id)
			return &hearth.Result{}, true, nil
		}
		inv := invocation(f)
		if _, err := m.Invoke(context.Background(), inv); err != nil {
			t.Fatal(err)
		}
		if seen != inv {
			t.Errorf("while it ran: %v", seen)
		}
		if got, ok := m.Serving(inv.Placement.Container); ok {
			t.Errorf("afterwards: %v", got)
		}
	}, nil)
}

// leaving is a context of which nobody is told that it has ended: whoever waits
// finds out when there is something else.
type leaving struct {
	context.Context
	gone atomic.Bool
}

func (l *leaving) Err() error {
	if l.gone.Load() {
		return context.Canceled
	}
	return nil
}

// A container whose caller had gone when it was made has served nobody: how
// long invocations take is not told from that.
func TestACallerWhoHasGoneIsNoRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		w.invokeTime = 10 * time.Millisecond
		m := newManager(t, w, nil)
		defer drain(t, m, w)
		f := function(acct, "f", 128)
		time.Sleep(time.Hour)
		ctx := &leaving{Context: context.Background()}
		w.onLoad = func(*hearth.Function) error {
			ctx.gone.Store(true)
			return nil
		}
		if _, err := m.Invoke(ctx, invocation(f)); hearth.KindOf(err) != hearth.Canceled {
			t.Fatal(err)
		}
		invoke(t, m, f)
		if d := m.RunTime(f); d != w.invokeTime {
			t.Errorf("an invocation takes %v, it is said, and takes %v", d, w.invokeTime)
		}
	})
}
