package manager_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/manager"
)

const acct hearth.Account = "000000000000"

func TestWaysOfAnInvocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		w.bootTime, w.loadTime, w.invokeTime = 100*time.Millisecond, 10*time.Millisecond, time.Millisecond
		m := newManager(t, w, func(c *manager.Config) {
			c.PoolBudgetMiB, c.PoolMin = 64, map[hearth.Boot]int{"": 1}
		})
		defer drain(t, m, w)
		f, g := function(acct, "f", 128), function(acct, "g", 128)

		began := time.Now()
		cold := invoke(t, m, f)
		if cold.Placement.Path != hearth.PathCold {
			t.Errorf("with nothing ready the way was %q, want cold", cold.Placement.Path)
		}
		if s := cold.Timeline.Spent; s[hearth.StageBoot] != 100*time.Millisecond || s[hearth.StageInit] != 10*time.Millisecond ||
			s[hearth.StageRun] != time.Millisecond || s[hearth.StagePlace] != 0 {
			t.Errorf("stages of the cold way: %v", s)
		}
		if took := time.Since(began); took != cold.Timeline.Total() {
			t.Errorf("the stages sum up to %v, the caller waited %v", cold.Timeline.Total(), took)
		}
		if again := invoke(t, m, f); again.Placement.Path != hearth.PathReuse || again.Placement.Container != cold.Placement.Container {
			t.Errorf("the second invoke: %+v, want reuse of %s", again.Placement, cold.Placement.Container)
		}
		time.Sleep(time.Second) // the pool fills
		warm := invoke(t, m, g)
		if warm.Placement.Path != hearth.PathWarm || warm.Timeline.Total() != 11*time.Millisecond {
			t.Errorf("with a ready instance: %+v in %v", warm.Placement, warm.Timeline.Total())
		}
		// Two: the configured one, and one for the demand of the cold start.
		if k := warm.Placement.Knew; k.Pool != 2 || k.Room != 1 || k.Slots != 0 || k.Waiting != 1 {
			t.Errorf("what the choice of the warming pool knew: %+v", k)
		}
	})
}

func TestAccountsInstanceIsUsedBeforeABootButNotBeforeAReadyInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		w.bootTime = 100 * time.Millisecond
		m := newManager(t, w, nil)
		defer drain(t, m, w)
		first := invoke(t, m, function(acct, "f", 128))
		second := invoke(t, m, function(acct, "g", 128))
		if p := second.Placement; p.Path != hearth.PathContainer || p.Instance != first.Placement.Instance {
			t.Errorf("a second function of the account: %+v, want a container in %s", p, first.Placement.Instance)
		}
		other := invoke(t, m, function("111111111111", "f", 128))
		if p := other.Placement; p.Path != hearth.PathCold || p.Instance == first.Placement.Instance {
			t.Errorf("another account: %+v", p)
		}
	})
}

func TestConcurrentDemandEarnsTheInstanceASpareSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		w.bootTime, w.invokeTime = 100*time.Millisecond, 10*time.Millisecond
		m := newManager(t, w, func(c *manager.Config) { c.PoolBudgetMiB, c.PoolExtra = 10, -1 })
		defer drain(t, m, w)
		f := function(acct, "f", 128)
		together(m, f, 2)
		together(m, f, 3)
		time.Sleep(time.Second)
		if s := m.Stats(); s.Spares == 0 {
			t.Fatalf("no spare slot after concurrent demand: %+v", s)
		}
		p := invoke(t, m, function(acct, "g", 128)).Placement
		if p.Path != hearth.PathContainer || p.Knew.Slots == 0 {
			t.Errorf("the spare slot was not used: %+v", p)
		}
		time.Sleep(20 * time.Minute)
		if s := m.Stats(); s.Spares != 0 {
			t.Errorf("%d spare slots are still there after 20 minutes without demand", s.Spares)
		}
	})
}

func TestSixteenFirstInvokesAtOnceAreNotServedOneAfterAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		w.bootTime, w.loadTime, w.invokeTime = 100*time.Millisecond, 50*time.Millisecond, time.Second
		m := newManager(t, w, func(c *manager.Config) { c.MakeConcurrency = 64 })
		defer drain(t, m, w)
		began := time.Now()
		ok, failed := together(m, function(acct, "f", 128), 16)
		if len(ok) != 16 {
			t.Fatalf("failed: %v", failed)
		}
		if took := time.Since(began); took != 1150*time.Millisecond {
			t.Errorf("sixteen at once took %v, one takes 1.15s", took)
		}
	})
}

func TestTimedOutInvocationsFreeTheirSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		w.loadTime = 10 * time.Millisecond
		// Room for four: forty time-outs must not use it up.
		m := newManager(t, w, func(c *manager.Config) { c.MachineMiB = 512 })
		defer drain(t, m, w)
		f := function(acct, "f", 128)
		w.onInvoke = func(c *fakeContainer, inv *hearth.Invocation) (*hearth.Result, bool, error) {
			time.Sleep(f.Timeout)
			c.die()
			return &hearth.Result{FunctionError: "Unhandled"}, false, nil
		}
		for range 10 {
			if _, failed := together(m, f, 4); len(failed) > 0 {
				t.Fatalf("a timed-out invocation is a result: %v", failed)
			}
		}
		w.onInvoke = nil
		began := time.Now()
		for range 20 {
			invoke(t, m, f)
		}
		if took := time.Since(began); took > 20*time.Millisecond {
			t.Errorf("20 ordinary invokes after the time-outs took %v", took)
		}
	})
}

func TestKilledIdleContainerDoesNotMakeTheNextCallerWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, rec := newFakeWorker(), &recorder{}
		w.loadTime = 10 * time.Millisecond
		m := newManager(t, w, func(c *manager.Config) { c.Recorder = rec })
		defer drain(t, m, w)
		f := function(acct, "f", 128)
		invoke(t, m, f)
		w.containers()[0].die()
		synctest.Wait()
		if n := rec.kinds()[hearth.DecisionLost]; n != 1 {
			t.Errorf("%d decisions tell of the loss, want 1", n)
		}
		began := time.Now()
		if inv := invoke(t, m, f); inv.Placement.Path == hearth.PathReuse {
			t.Errorf("a dead container was reused: %+v", inv.Placement)
		}
		if took := time.Since(began); took > 10*time.Millisecond {
			t.Errorf("the next caller waited %v", took)
		}
	})
}

func TestContainerThatDiesUnderTheHandIsReplacedBeforeTheCallerNotices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		m := newManager(t, w, nil)
		defer drain(t, m, w)
		f := function(acct, "f", 128)
		gone := 0
		w.onInvoke = func(c *fakeContainer, inv *hearth.Invocation) (*hearth.Result, bool, error) {
			if gone++; gone <= 2 {
				return nil, false, hearth.Errorf(hearth.ContainerGone, "gone")
			}
			return &hearth.Result{}, true, nil
		}
		invoke(t, m, f)
		if gone != 3 || m.Stats().Gone != 2 {
			t.Errorf("tried %d containers, counted %d as gone", gone, m.Stats().Gone)
		}
		w.onInvoke = func(*fakeContainer, *hearth.Invocation) (*hearth.Result, bool, error) {
			return nil, false, hearth.Errorf(hearth.ContainerGone, "gone")
		}
		_, err := m.Invoke(context.Background(), invocation(f))
		if hearth.KindOf(err) != hearth.Service {
			t.Errorf("containers that always die: %v, want a ServiceException", err)
		}
	})
}

func TestAfterAnUpdateNoInvokeSeesTheOldGeneration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		w.invokeTime = 10 * time.Millisecond
		m := newManager(t, w, nil)
		defer drain(t, m, w)
		var current atomic.Pointer[hearth.Function]
		current.Store(function(acct, "f", 128))
		served := map[uint64]bool{}
		var mu sync.Mutex
		w.onInvoke = func(c *fakeContainer, inv *hearth.Invocation) (*hearth.Result, bool, error) {
			time.Sleep(10 * time.Millisecond)
			if c.fn.Generation < inv.Function.Generation {
				t.Errorf("an invoke of generation %d saw %d", inv.Function.Generation, c.fn.Generation)
			}
			mu.Lock()
			served[c.fn.Generation] = true
			mu.Unlock()
			return &hearth.Result{}, true, nil
		}
		var wg sync.WaitGroup
		stop := make(chan struct{})
		for range 8 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						invoke(t, m, current.Load())
					}
				}
			})
		}
		for range 5 {
			time.Sleep(105 * time.Millisecond)
			old, now := current.Load(), function(acct, "f", 128)
			current.Store(now)
			m.Changed(old, now)
		}
		time.Sleep(time.Second)
		close(stop)
		wg.Wait()
		synctest.Wait()
		for _, c := range w.containers() {
			if c.fn.Generation != current.Load().Generation {
				t.Errorf("a container of generation %d is left, the present one is %d", c.fn.Generation, current.Load().Generation)
			}
		}
		if len(served) != 6 {
			t.Errorf("%d generations served, want 6", len(served))
		}
		m.Changed(current.Load(), nil)
		synctest.Wait()
		if n := len(w.containers()); n != 0 {
			t.Errorf("%d containers of a deleted function are left", n)
		}
	})
}

func TestStragglerOfAnOldGenerationGetsThePresentOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		m := newManager(t, w, nil)
		defer drain(t, m, w)
		old, now := function(acct, "f", 128), function(acct, "f", 128)
		m.Changed(old, now)
		inv := invoke(t, m, old) // resolved before the change, arrives after it
		synctest.Wait()
		if inv.Function != now {
			t.Errorf("generation %d ran, and %d is what is", inv.Function.Generation, now.Generation)
		}
		if n, _ := w.loaded(old); n != 0 {
			t.Errorf("%d containers of the old generation are left", n)
		}
		// Where one does not stand for the other, it is served as it was let in,
		// and leaves nothing.
		isolated := function(acct, "f", 128)
		isolated.TenantIsolation = "PER_TENANT"
		m.Changed(now, isolated)
		if inv := invoke(t, m, now); inv.Function != now {
			t.Errorf("an invocation without a tenant was given to %d", inv.Function.Generation)
		}
		synctest.Wait()
		if n := len(w.containers()); n != 0 {
			t.Errorf("%d containers of an old generation are left", n)
		}
	})
}

func TestOneTransientErrorAtHighConcurrencyDoesNotMultiplyEnvironments(t *testing.T) {
	const callers = 250
	for name, fault := range map[string]func(*fakeWorker, func() error){
		"NewInstance": func(w *fakeWorker, f func() error) { w.onNewInstance = f },
		"NewSlot":     func(w *fakeWorker, f func() error) { w.onNewSlot = f },
		"Load":        func(w *fakeWorker, f func() error) { w.onLoad = func(*hearth.Function) error { return f() } },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFakeWorker()
				w.bootTime, w.loadTime, w.invokeTime = 20*time.Millisecond, 20*time.Millisecond, 50*time.Millisecond
				m := newManager(t, w, func(c *manager.Config) { c.MachineMiB = 128 * 300 })
				defer drain(t, m, w)
				f := function(acct, "f", 128)
				if name == "NewSlot" {
					invoke(t, m, function(acct, "other", 128))
				}
				var once atomic.Bool
				fault(w, func() error {
					if once.CompareAndSwap(false, true) {
						return errors.New("transient")
					}
					return nil
				})
				for range 5 {
					if _, failed := together(m, f, callers); len(failed) > 0 {
						t.Fatalf("%d of %d failed: %v", len(failed), callers, failed[0])
					}
				}
				if n := w.maxEnvs[f.Key()]; n > callers {
					t.Errorf("%d environments for %d callers", n, callers)
				}
				if !once.Load() || m.Stats().Failures.Make != 1 {
					t.Errorf("the fault was met %d times, want once", m.Stats().Failures.Make)
				}
			})
		})
	}
}

func TestPermanentFailureIsToldAfterAFewTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		m := newManager(t, w, nil)
		defer drain(t, m, w)
		f := function(acct, "f", 128)
		var tries atomic.Int32
		w.onLoad = func(*hearth.Function) error { tries.Add(1); return errors.New("no space left on device") }
		_, err := m.Invoke(context.Background(), invocation(f))
		if hearth.KindOf(err) != hearth.Service || tries.Load() != 3 {
			t.Errorf("after %d tries: %v", tries.Load(), err)
		}
		tries.Store(0)
		w.onLoad = func(*hearth.Function) error {
			tries.Add(1)
			return hearth.Errorf(hearth.InvalidRuntime, "no such runtime")
		}
		_, err = m.Invoke(context.Background(), invocation(f))
		if hearth.KindOf(err) != hearth.InvalidRuntime || tries.Load() != 1 {
			t.Errorf("an error that blames the function, after %d tries: %v", tries.Load(), err)
		}
		w.onLoad = nil
		invoke(t, m, f)
	})
}
