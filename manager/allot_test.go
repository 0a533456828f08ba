package manager_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/manager"
)

const provider = "arn:aws:lambda:us-east-1:000000000001:capacity-provider:p"

// placed is a version on the provider whose containers take one vCPU each.
func placed(name string) *hearth.Function {
	f := versionOf(name, "1", 256)
	f.CapacityProvider = &hearth.CapacityProvider{ARN: provider, MemoryGiBPerCPU: 0.25}
	return f
}

// throttledBecause is an invocation's refusal, which its decision explains.
func throttledBecause(t *testing.T, m *manager.Manager, f *hearth.Function, words string) {
	t.Helper()
	inv := invocation(f)
	_, err := m.Invoke(context.Background(), inv)
	if hearth.KindOf(err) != hearth.TooManyRequests || !strings.Contains(inv.Placement.Why, words) {
		t.Errorf("refused with %v because %q, want %q", err, inv.Placement.Why, words)
	}
}

func TestCapacityProviderBoundsWhatItsFunctionsUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		w.invokeTime = time.Minute
		m := newManager(t, w, nil)
		m.Allot(provider, 2)
		f, g, other := placed("f"), placed("g"), versionOf("h", "1", 256)
		for range 2 {
			go m.Invoke(context.Background(), invocation(f))
		}
		time.Sleep(time.Second)
		throttledBecause(t, m, g, "vCPUs")
		go m.Invoke(context.Background(), invocation(other)) // it is on no provider
		m.Allot(provider, 3)
		go m.Invoke(context.Background(), invocation(g))
		time.Sleep(time.Second)
		if all, _ := w.loaded(g); all != 1 {
			t.Errorf("%d of g with a third vCPU", all)
		}
		time.Sleep(2 * time.Minute)
		// Idle ones of others make way.
		for range 3 {
			go m.Invoke(context.Background(), invocation(g))
		}
		time.Sleep(time.Second)
		if all, _ := w.loaded(g); all != 3 {
			t.Errorf("%d of g, with three vCPUs of which none is at work for others", all)
		}
		time.Sleep(2 * time.Minute)
		drain(t, m, w)
		if n := m.Stats().Containers; n != 0 {
			t.Errorf("%d containers", n)
		}
	})
}

func TestScalingConfigurationIsABoundOnBothSides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		w.invokeTime = time.Minute
		m := newManager(t, w, func(c *manager.Config) { c.QueueWait = 10 * time.Second })
		f := placed("f")
		scaled := func(least, most int) *hearth.Concurrency {
			return &hearth.Concurrency{Account: f.Account, Function: f.Name, Scaling: []hearth.Scaling{{Version: "1", Function: f, Min: least, Max: most}}}
		}
		m.Provide(scaled(2, 3))
		time.Sleep(time.Second)
		if all, provisioned := w.loaded(f); all != 2 || provisioned != 2 {
			t.Errorf("%d containers, %d of them kept ready, at least 2 are asked for", all, provisioned)
		}
		results := make(chan error, 5)
		for range 5 {
			go func() {
				_, err := m.Invoke(context.Background(), invocation(f))
				results <- err
			}()
		}
		time.Sleep(time.Second)
		if all, _ := w.loaded(f); all != 3 {
			t.Errorf("%d containers for five invocations, at most 3 may be", all)
		}
		// One more may be now, and one of those who wait has it at once.
		m.Provide(scaled(2, 4))
		time.Sleep(time.Second)
		if all, _ := w.loaded(f); all != 4 {
			t.Errorf("%d containers when 4 may be", all)
		}
		time.Sleep(2 * time.Minute)
		throttled := 0
		for range 5 {
			if err := <-results; hearth.KindOf(err) == hearth.TooManyRequests {
				throttled++
			} else if err != nil {
				t.Error(err)
			}
		}
		if throttled != 1 {
			t.Errorf("%d of five were throttled, with four containers", throttled)
		}
		m.Provide(&hearth.Concurrency{Account: f.Account, Function: f.Name})
		if _, failed := together(m, f, 6); len(failed) > 0 {
			t.Errorf("without a bound: %v", failed)
		}
		drain(t, m, w)
	})
}

func TestFunctionGrowsNoFasterThanItMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		w.invokeTime = time.Hour
		m := newManager(t, w, func(c *manager.Config) { c.Scale = manager.ScaleRate{Burst: 3, PerSecond: 0.1} })
		f, g := versionOf("f", "1", 128), versionOf("g", "1", 128)
		for range 3 {
			go m.Invoke(context.Background(), invocation(f))
		}
		time.Sleep(time.Second)
		throttledBecause(t, m, f, "as many new containers lately")
		go m.Invoke(context.Background(), invocation(g)) // each function has its own
		time.Sleep(10 * time.Second)
		go m.Invoke(context.Background(), invocation(f))
		time.Sleep(time.Second)
		throttledBecause(t, m, f, "as many new containers lately")
		if all, _ := w.loaded(f); all != 4 {
			t.Errorf("%d containers of f", all)
		}
		time.Sleep(2 * time.Hour)
		drain(t, m, w)
	})
}

// Where memory is short, makers come and go with every waiter. Those that are
// called off have made nothing, and count for nothing.
func TestMakersThatAreCalledOffDoNotCountAsGrowth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		w.invokeTime = 100 * time.Millisecond
		m := newManager(t, w, func(c *manager.Config) {
			c.MachineMiB, c.PoolBudgetMiB, c.PoolMin = 128, 0, nil // one container of f
			c.Scale = manager.ScaleRate{Burst: 4, PerSecond: 0.001}
		})
		f := versionOf("f", "1", 128)
		for range 20 {
			var both sync.WaitGroup
			for range 2 {
				both.Go(func() {
					if _, err := m.Invoke(context.Background(), invocation(f)); err != nil {
						t.Error(err)
					}
				})
			}
			both.Wait()
		}
		drain(t, m, w)
	})
}

// Who is refused for want of vCPUs got no container, and counts none.
func TestWhatHasNoVCPUsDoesNotUseUpHowFastAFunctionMayGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		w.invokeTime = time.Minute
		m := newManager(t, w, func(c *manager.Config) { c.Scale = manager.ScaleRate{Burst: 2, PerSecond: 0.001} })
		m.Allot(provider, 1)
		f := placed("f")
		go m.Invoke(context.Background(), invocation(f))
		time.Sleep(time.Second)
		for range 5 {
			throttledBecause(t, m, f, "vCPUs")
		}
		m.Allot(provider, 2)
		invoke(t, m, f)
		drain(t, m, w)
	})
}
