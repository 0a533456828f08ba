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

func TestWaitingInvocationTakesWhicheverComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		w.loadTime, w.invokeTime = 100*time.Millisecond, 150*time.Millisecond
		m := newManager(t, w, nil)
		defer drain(t, m, w)
		f := function(acct, "f", 128)
		began := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() { invoke(t, m, f) }) // has its container at 100 and ends at 250
		time.Sleep(200 * time.Millisecond)
		w.set(&w.loadTime, time.Second) // a new one would be there at 1200
		second := invoke(t, m, f)
		wg.Wait()
		if took := time.Since(began); took != 400*time.Millisecond {
			t.Errorf("the second was served after %v, the freed container was there at 250ms", took)
		}
		if second.Placement.Path != hearth.PathReuse || second.Timeline.Spent[hearth.StagePlace] != 50*time.Millisecond {
			t.Errorf("%+v, waited %v", second.Placement, second.Timeline.Spent[hearth.StagePlace])
		}
		// The one that was being made is there for the next who comes.
		time.Sleep(time.Second)
		before := time.Now()
		if ok, failed := together(m, f, 2); len(ok) != 2 || time.Since(before) != 150*time.Millisecond {
			t.Errorf("two at once took %v, %v", time.Since(before), failed)
		}
		if n := w.maxEnvs[f.Key()]; n != 2 {
			t.Errorf("%d environments for two callers", n)
		}
	})
}

func TestFullMachineQueuesInOrderAndRefusesInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		w.invokeTime = 4 * time.Second
		m := newManager(t, w, func(c *manager.Config) { c.MachineMiB = 256 })
		defer drain(t, m, w)
		f := function(acct, "f", 128)
		began := time.Now()
		var mu sync.Mutex
		var after []time.Duration
		var refused []error
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				_, err := m.Invoke(context.Background(), invocation(f))
				mu.Lock()
				defer mu.Unlock()
				after = append(after, time.Since(began))
				if err != nil {
					refused = append(refused, err)
				}
			})
		}
		wg.Wait()
		// Two at a time: at 4, 8 and, those that had waited for 8 s, at 12;
		// the last two had waited for 10 s.
		if len(refused) != 2 || after[len(after)-1] != 12*time.Second {
			t.Errorf("%d refused; ended at %v", len(refused), after)
		}
		for _, err := range refused {
			e, ok := errors.AsType[*hearth.Error](err)
			if !ok || e.Kind != hearth.TooManyRequests || e.Reason != hearth.ReasonConcurrency {
				t.Errorf("refused with %v", err)
			}
		}
		if w.maxLoaded > 256 || w.maxEnvs[f.Key()] != 2 {
			t.Errorf("%d MiB in %d environments on a machine of 256", w.maxLoaded, w.maxEnvs[f.Key()])
		}
		if s := m.Stats(); s.Full != 2 || s.Queued != 0 || s.Waiting != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestCallerWhoGoesAwayLeavesNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		w.invokeTime = time.Second
		m := newManager(t, w, func(c *manager.Config) { c.MachineMiB = 128 })
		defer drain(t, m, w)
		f := function(acct, "f", 128)
		go invoke(t, m, f)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		if _, err := m.Invoke(ctx, invocation(f)); hearth.KindOf(err) != hearth.Canceled {
			t.Errorf("the caller who went away got %v", err)
		}
		synctest.Wait()
		if s := m.Stats(); s.Queued != 0 || s.Waiting != 0 || s.Containers != 1 {
			t.Errorf("left behind: %+v", s)
		}
		invoke(t, m, f)
	})
}

func TestFullMachineEndsIdleContainersOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, rec := newFakeWorker(), &recorder{}
		m := newManager(t, w, func(c *manager.Config) { c.MachineMiB, c.Recorder = 512, rec })
		defer drain(t, m, w)
		old, recent := function(acct, "old", 128), function("111111111111", "recent", 128)
		invoke(t, m, old)
		time.Sleep(time.Second)
		invoke(t, m, recent)
		time.Sleep(time.Second)
		began := time.Now()
		invoke(t, m, function("222222222222", "big", 384))
		if time.Since(began) > 0 {
			t.Errorf("waited %v", time.Since(began))
		}
		left := w.containers()
		if len(left) != 2 || left[0].fn.Name == "old" || left[1].fn.Name == "old" {
			t.Errorf("%d containers are left, the one idle for longest should be gone", len(left))
		}
		if n := rec.kinds()[hearth.DecisionEvict]; n != 1 {
			t.Errorf("%d decisions tell of it", n)
		}
		if w.maxLoaded > 512 {
			t.Errorf("%d MiB on a machine of 512", w.maxLoaded)
		}
	})
}

func TestContainerThatComesToRestMakesRoomForAnothersFunction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		w.invokeTime = time.Second
		m := newManager(t, w, func(c *manager.Config) { c.MachineMiB = 128 })
		defer drain(t, m, w)
		go invoke(t, m, function(acct, "f", 128))
		synctest.Wait()
		began := time.Now()
		invoke(t, m, function(acct, "g", 128))
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("the other function was served after %v, want 2s", took)
		}
		if w.maxLoaded > 128 {
			t.Errorf("%d MiB on a machine of 128", w.maxLoaded)
		}
	})
}

func TestFunctionThatNeverFitsIsRefusedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		m := newManager(t, w, func(c *manager.Config) { c.MachineMiB = 512 })
		defer drain(t, m, w)
		began := time.Now()
		_, err := m.Invoke(context.Background(), invocation(function(acct, "f", 1024)))
		if hearth.KindOf(err) != hearth.Service || time.Since(began) > 0 {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}

func TestIdleContainersAgeByDemandAndTheirInstancesGoWithTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, rec := newFakeWorker(), &recorder{}
		w.invokeTime = 10 * time.Millisecond
		m := newManager(t, w, func(c *manager.Config) { c.Recorder = rec })
		defer drain(t, m, w)
		f := function(acct, "f", 128)
		for range 20 {
			together(m, f, 10)
		}
		if n := len(w.containers()); n != 10 {
			t.Fatalf("%d containers after bursts of ten", n)
		}
		time.Sleep(2 * time.Minute)
		if n := len(w.containers()); n == 0 || n > 2 {
			t.Errorf("%d containers two minutes after the bursts, want next to none of the surplus", n)
		}
		time.Sleep(4 * time.Hour)
		if n := w.living(); n != 0 {
			t.Errorf("%d instances four hours later, which is the longest life", n)
		}
		if n := rec.kinds()[hearth.DecisionEvict]; n != 10 {
			t.Errorf("%d decisions tell of ten containers", n)
		}
	})
}

func TestWorkerThatHangsFreesItsCallersAndTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		w.ignoreContext, w.loadTime = true, 5*time.Minute
		m := newManager(t, w, nil)
		f := function(acct, "f", 128)
		began := time.Now()
		_, err := m.Invoke(context.Background(), invocation(f))
		if hearth.KindOf(err) != hearth.Service || time.Since(began) != 31*time.Second {
			t.Errorf("a hanging worker: after %v: %v", time.Since(began), err)
		}
		w.set(&w.loadTime, 0)
		began = time.Now()
		invoke(t, m, f)
		if time.Since(began) > 0 {
			t.Errorf("the next caller waited %v", time.Since(began))
		}
		time.Sleep(5 * time.Minute)
		drain(t, m, w)
	})
}

func TestPoolRefillsAfterItsSlotsDieAndBacksOffWhenBootsFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, rec := newFakeWorker(), &recorder{}
		w.bootTime = 10 * time.Millisecond
		var fail atomic.Bool
		var tries atomic.Int32
		w.onNewInstance = func() error {
			tries.Add(1)
			if fail.Load() {
				return errors.New("no more processes")
			}
			return nil
		}
		m := newManager(t, w, func(c *manager.Config) {
			c.PoolBudgetMiB, c.PoolMin, c.Recorder = 4, map[hearth.Boot]int{"": 4}, rec
		})
		defer drain(t, m, w)
		ready := func() int { return m.Stats().PoolReady[""] }
		time.Sleep(time.Second)
		if ready() != 4 {
			t.Fatalf("%d ready", ready())
		}
		for _, c := range w.pooled() {
			c.die()
		}
		synctest.Wait()
		if ready() != 0 || rec.kinds()[hearth.DecisionLost] != 4 {
			t.Errorf("%d are thought ready after all have died, %d losses recorded", ready(), rec.kinds()[hearth.DecisionLost])
		}
		fail.Store(true)
		tries.Store(0)
		time.Sleep(2 * time.Minute)
		if n := tries.Load(); n < 3 || n > 30 {
			t.Errorf("%d tries in two minutes of failures", n)
		}
		fail.Store(false)
		time.Sleep(time.Minute)
		if ready() != 4 {
			t.Errorf("%d ready after the failures have ended", ready())
		}
	})
}

func TestPoolLearnsFromDemandAndForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		w.bootTime, w.invokeTime = 20*time.Millisecond, time.Second
		m := newManager(t, w, func(c *manager.Config) { c.PoolBudgetMiB, c.MachineMiB = 512, 8192 })
		defer drain(t, m, w)
		node := function(acct, "f", 128)
		node.Runtime = "nodejs20.x"
		together(m, node, 4)
		time.Sleep(2 * time.Second)
		if n := m.Stats().PoolReady["node"]; n != 4 {
			t.Errorf("%d ready after a burst of four", n)
		}
		other := function("111111111111", "f", 128)
		other.Runtime = "nodejs20.x"
		ok, _ := together(m, other, 4)
		for _, inv := range ok {
			if inv.Placement.Path != hearth.PathWarm {
				t.Errorf("the next burst: %+v", inv.Placement)
			}
		}
		time.Sleep(2 * time.Hour)
		if n := m.Stats().PoolReady["node"]; n != 0 {
			t.Errorf("%d are still ready after two hours without demand", n)
		}
	})
}

func TestReplenishmentStandsBackForLiveWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		w.bootTime, w.loadTime = 100*time.Millisecond, 100*time.Millisecond
		m := newManager(t, w, func(c *manager.Config) { c.PoolBudgetMiB, c.PoolMin = 4, map[hearth.Boot]int{"": 2} })
		defer drain(t, m, w)
		time.Sleep(time.Second)
		booted := m.Stats().Boots
		done := make(chan struct{})
		go func() {
			defer close(done)
			together(m, function(acct, "f", 128), 4)
		}()
		time.Sleep(150 * time.Millisecond)
		if n := m.Stats().PoolMaking[""]; n != 0 {
			t.Errorf("%d boots for the pool while callers wait for as many processors as there are", n)
		}
		<-done
		time.Sleep(time.Second)
		if s := m.Stats(); s.Boots == booted || s.PoolReady[""] < 2 {
			t.Errorf("the pool was not filled up afterwards: %+v", s)
		}
	})
}

func TestDrainUnderLoadLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		w.bootTime, w.loadTime, w.invokeTime = 10*time.Millisecond, 10*time.Millisecond, 300*time.Millisecond
		m := newManager(t, w, func(c *manager.Config) {
			c.MachineMiB, c.PoolBudgetMiB, c.PoolMin = 1024, 8, map[hearth.Boot]int{"": 3}
		})
		f, g := function(acct, "f", 128), function("111111111111", "g", 256)
		var ok, refused atomic.Int32
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				fn := []*hearth.Function{f, g}[i%2]
				for {
					if _, err := m.Invoke(context.Background(), invocation(fn)); err != nil {
						if hearth.KindOf(err) != hearth.Service {
							t.Errorf("taken, and lost: %v", err)
						}
						refused.Add(1)
						return
					}
					ok.Add(1)
				}
			})
		}
		time.Sleep(time.Second)
		before := ok.Load()
		drain(t, m, w)
		wg.Wait()
		// All forty were under way or waiting when the drain began.
		if n := ok.Load() - before; n < 40 || refused.Load() != 40 {
			t.Errorf("%d ended well after the drain had begun, %d were refused", n, refused.Load())
		}
	})
}

func TestDrainThatMayNotWaitDestroysWhatRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		w.cutting = true
		m := newManager(t, w, nil)
		w.onInvoke = func(c *fakeContainer, _ *hearth.Invocation) (*hearth.Result, bool, error) {
			<-c.done
			return &hearth.Result{FunctionError: "Unhandled"}, false, nil
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			invoke(t, m, function(acct, "f", 128))
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := m.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("drain: %v", err)
		}
		<-done
		if n := w.living(); n != 0 {
			t.Errorf("%d instances live on", n)
		}
		w.check(t)
	})
}

func TestSnapshotTellsWhatThereIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		w.invokeTime = time.Second
		m := newManager(t, w, func(c *manager.Config) { c.PoolBudgetMiB, c.PoolMin = 4, map[hearth.Boot]int{"": 1} })
		defer drain(t, m, w)
		f := function(acct, "f", 128)
		together(m, f, 2)
		time.Sleep(10 * time.Second)
		go invoke(t, m, f)
		synctest.Wait()
		states := map[string]int{}
		for _, i := range m.Snapshot() {
			for _, c := range i.Containers {
				states[c.State]++
				if c.State != "ready" && (i.Account != acct || c.Function != "f" || c.MemoryMiB != 128 || c.Invocations == 0 || c.Usage.MemoryMiB != 1) {
					t.Errorf("in %+v: %+v", i, c)
				}
				if c.State == "idle" && c.IdleFor != 10*time.Second {
					t.Errorf("idle for %v", c.IdleFor)
				}
			}
		}
		if states["busy"] != 1 || states["idle"] != 1 || states["ready"] == 0 {
			t.Errorf("states: %v", states)
		}
		time.Sleep(time.Second)
	})
}
