package manager_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/manager"
)

// A burst of one account has so many containers made at once and no more;
// another's first one waits for none of them.
func TestABurstTakesTurnsAndOthersDoNotWaitForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const atOnce = 4 // a quarter of what may be
		w := newFakeWorker()
		w.invokeTime = 10 * time.Second
		var now, most atomic.Int64
		w.onLoad = func(f *hearth.Function) error {
			if f.Account != acct {
				return nil
			}
			n := now.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(50 * time.Millisecond)
			now.Add(-1)
			return nil
		}
		m := newManager(t, w, func(c *manager.Config) { c.MakeConcurrency, c.MachineMiB = 4*atOnce, 64<<10 })
		defer drain(t, m, w)
		var burst sync.WaitGroup
		began := time.Now()
		for range 100 {
			burst.Go(func() { invoke(t, m, function(acct, "f", 128)) })
		}
		synctest.Wait()
		time.Sleep(75 * time.Millisecond)
		other := invocation(function("999999999999", "g", 128))
		asked := time.Now()
		if _, err := m.Invoke(context.Background(), other); err != nil {
			t.Error(err)
		}
		if waited := time.Since(asked) - w.invokeTime; waited > w.bootTime {
			t.Errorf("the other account waited for %v", waited)
		}
		burst.Wait()
		if most.Load() != atOnce {
			t.Errorf("%d were made at once", most.Load())
		}
		if took, want := time.Since(began), 100/atOnce*50*time.Millisecond+w.invokeTime; took > want+time.Second {
			t.Errorf("the burst took %v, expected %v", took, want)
		}
	})
}

// Makings that wait for something themselves hold nobody up for longer than
// the lease, and one whose turn is far off is no shortage.
func TestSlowInitsDoNotHoldUpOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		w.loadTime, w.invokeTime = 9*time.Second, 30*time.Second
		m := newManager(t, w, func(c *manager.Config) { c.MakeConcurrency, c.MachineMiB, c.QueueWait = 1, 64<<10, time.Second })
		defer drain(t, m, w)
		began := time.Now()
		ok, failed := together(m, function(acct, "f", 128), 50)
		if len(ok) != 50 {
			t.Fatalf("%d failed: %v", len(failed), failed)
		}
		// Each begins a lease after the one before.
		if took, want := time.Since(began), 49*100*time.Millisecond+w.bootTime+w.loadTime+w.invokeTime; took != want {
			t.Errorf("they took %v, expected %v", took, want)
		}
	})
}

// Whoever goes away while its container's turn has not come has none made.
func TestAMakerIsCalledOffWhileItWaitsForItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		w.loadTime = 50 * time.Millisecond
		m := newManager(t, w, func(c *manager.Config) { c.MakeConcurrency, c.MachineMiB = 1, 64<<10 })
		defer drain(t, m, w)
		ctx, cancel := context.WithTimeout(context.Background(), 120*time.Millisecond)
		defer cancel()
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if _, err := m.Invoke(ctx, invocation(function(acct, "f", 128))); err != nil && hearth.KindOf(err) != hearth.Canceled {
					t.Error(err)
				}
			})
		}
		all.Wait()
		time.Sleep(time.Second)
		if n := m.Stats().Containers; n > 4 {
			t.Errorf("%d containers were made for callers that had left", n)
		}
	})
}

// While the processors are all at work a quarter as many are made at once, and
// what waits for them keeps its turn for longer.
func TestFewerAreMadeAtOnceWhileTheProcessorsAreAtWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		w.invokeTime = time.Minute
		var now, most atomic.Int64
		w.onLoad = func(*hearth.Function) error {
			n := now.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(350 * time.Millisecond)
			now.Add(-1)
			return nil
		}
		var pressed atomic.Bool
		pressed.Store(true)
		m := newManager(t, w, func(c *manager.Config) { c.MakeConcurrency, c.MachineMiB, c.Pressed = 8, 64<<10, pressed.Load })
		defer drain(t, m, w)
		var all sync.WaitGroup
		for range 40 {
			all.Go(func() { invoke(t, m, function(acct, "f", 128)) })
		}
		time.Sleep(2 * time.Second)
		if most.Load() != 2 {
			t.Errorf("%d were made at once while the processors were at work", most.Load())
		}
		pressed.Store(false)
		time.Sleep(2 * time.Second)
		if most.Load() < 8 {
			t.Errorf("%d were made at once when they no longer were", most.Load())
		}
		all.Wait()
	})
}

// Accounts that have more containers made than may be at once have them made in
// proportion to their weights, whatever a making takes, and one of weight 1 still
// waits for nobody with its first.
func TestContainersAreMadeByTheAccountsWeights(t *testing.T) {
	for _, c := range []struct {
		atOnce  int // a quarter of which is
		weights []int
		each    []time.Duration // what a making takes
	}{
		{4, []int{4, 1}, []time.Duration{20 * time.Millisecond, 20 * time.Millisecond}},
		{8, []int{1, 3, 0}, []time.Duration{30 * time.Millisecond, 30 * time.Millisecond, 80 * time.Millisecond}},
		{32, []int{2, 1}, []time.Duration{70 * time.Millisecond, 20 * time.Millisecond}},
		{48, []int{4, 2, 1}, []time.Duration{40 * time.Millisecond, 20 * time.Millisecond, 60 * time.Millisecond}},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := len(c.weights)
			index := func(a hearth.Account) int { return int(a[len(a)-1] - '0') }
			w := newFakeWorker()
			w.invokeTime = time.Hour
			spent := make([]atomic.Int64, n+1)
			w.onLoad = func(f *hearth.Function) error {
				i := index(f.Account)
				if i == n {
					spent[i].Add(1)
					return nil
				}
				time.Sleep(c.each[i])
				spent[i].Add(int64(c.each[i]))
				return nil
			}
			m := newManager(t, w, func(cfg *manager.Config) {
				cfg.MakeConcurrency, cfg.MachineMiB = c.atOnce, 1<<20
				cfg.Weight = func(a hearth.Account) int { return append(c.weights, 0)[index(a)] }
			})
			ctx, stop := context.WithCancel(t.Context())
			var all sync.WaitGroup
			call := func(i int) {
				all.Go(func() { // it is called off in the end
					_, _ = m.Invoke(ctx, invocation(function(hearth.Account(fmt.Sprint("11112222333", i)), "f", 128)))
				})
			}
			for i := range n {
				for range 1000 {
					call(i)
				}
			}
			time.Sleep(500 * time.Millisecond)
			call(n)
			if synctest.Wait(); spent[n].Load() != 1 {
				t.Errorf("weights %v: who has nothing being made waits", c.weights)
			}
			for i := range spent {
				spent[i].Store(0)
			}
			time.Sleep(2 * time.Second)
			var parts []float64
			for i := range n {
				parts = append(parts, float64(spent[i].Load())/float64(max(c.weights[i], 1)))
			}
			if slices.Max(parts) > 1.2*slices.Min(parts) {
				t.Errorf("weights %v, %d at once: makings took %v, by the weights", c.weights, c.atOnce, parts)
			}
			stop()
			all.Wait()
			drain(t, m, w)
		})
	}
}
