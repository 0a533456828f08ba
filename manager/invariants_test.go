package manager_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/execution"
	"github.com/hearth-faas/hearth/manager"
)

// step is one event of a random history.
type step struct {
	wait     time.Duration
	what     string
	account  int
	function int
	n        int
}

var anyStep = rapid.Custom(func(t *rapid.T) step {
	return step{
		wait: time.Duration(rapid.SampledFrom([]int{0, 0, 0, 1, 20, 200, 5_000, 600_000}).Draw(t, "wait ms")) * time.Millisecond,
		what: rapid.SampledFrom([]string{"invoke", "invoke", "invoke", "invoke", "update", "delete", "kill", "kill pooled",
			"fail boot", "fail slot", "fail load", "fail init", "gone", "crash", "impatient", "provision", "provision", "overtake", "overtake", "foretell", "foretell",
			"ask", "ask", "sizing", "fail resize"}).Draw(t, "what"),
		account: rapid.IntRange(0, 2).Draw(t, "account"), function: rapid.IntRange(0, 2).Draw(t, "function"),
		n: rapid.IntRange(1, 12).Draw(t, "n"),
	}
})

// TestInvariantsHoldWhateverHappens plays random histories with faults and
// checks at each moment what must always be so: the pool's budget and the
// machine's memory are never exceeded, no instance ever has two accounts'
// code, no container has two uses at once, there are never more environments
// than callers, beside those that were to be provisioned, those that were
// foretold and those that an update made before it took over, no execution is
// cut, and in the end these
// are there or it is told why not, and after that nothing is left, in the books
// or in the worker.
func TestInvariantsHoldWhateverHappens(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(anyStep, 1, 40).Draw(rt, "steps")
		budget := rapid.SampledFrom([]float64{0, 1.5, 40, 100}).Draw(rt, "budget")
		machine := rapid.SampledFrom([]int{512, 2048, 8192}).Draw(rt, "machine")
		var wrong []string
		synctest.Test(t, func(t *testing.T) { wrong = play(t, steps, budget, machine) })
		if len(wrong) > 0 {
			rt.Fatal(wrong)
		}
	})
}

func play(t *testing.T, steps []step, budget float64, machine int) (wrong []string) {
	var mu sync.Mutex
	complain := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		wrong = append(wrong, fmt.Sprintf(format, args...))
	}
	w := newFakeWorker()
	w.lateLoad = true
	w.bootTime, w.loadTime, w.invokeTime = 30*time.Millisecond, 20*time.Millisecond, 50*time.Millisecond
	var failBoot, failSlot, failLoad, failInit, failResize, gone, crash atomic.Int32
	take := func(n *atomic.Int32) bool {
		for {
			v := n.Load()
			if v <= 0 {
				return false
			}
			if n.CompareAndSwap(v, v-1) {
				return true
			}
		}
	}
	fault := func(n *atomic.Int32) error {
		if take(n) {
			return errors.New("fault")
		}
		return nil
	}
	w.onNewInstance = func() error { return fault(&failBoot) }
	w.onNewSlot = func() error { return fault(&failSlot) }
	var loads atomic.Int64
	w.onLoad = func(*hearth.Function) error {
		time.Sleep(time.Duration(loads.Add(1)%4) * 40 * time.Millisecond) // not all are ready at once
		return fault(&failLoad)
	}
	w.onProvision = func(*hearth.Function) error {
		if take(&failInit) {
			return hearth.Errorf(hearth.InitFailed, "fault")
		}
		return nil
	}
	w.onResize = func(*fakeContainer) error { return fault(&failResize) }
	w.onDestroy = func() error { time.Sleep(3 * time.Millisecond); return nil }
	w.onInvoke = func(c *fakeContainer, inv *hearth.Invocation) (*hearth.Result, bool, error) {
		if take(&gone) {
			c.die()
			return nil, false, hearth.Errorf(hearth.ContainerGone, "gone")
		}
		time.Sleep(50 * time.Millisecond)
		if take(&crash) {
			c.die()
			return &hearth.Result{FunctionError: "Unhandled"}, false, nil
		}
		// One has half of what it needs, one what it needs, one far more.
		inv.Use = hearth.Use{End: hearth.EndOK, MemoryMiB: c.memory(), PeakMiB: 120, Duration: 50 * time.Millisecond, Busy: 50 * time.Millisecond}
		if inv.Use.PeakMiB > float64(inv.Use.MemoryMiB) {
			inv.Use.End = hearth.EndMemory
			c.die()
			return &hearth.Result{FunctionError: "Unhandled"}, false, nil
		}
		return &hearth.Result{}, true, nil
	}
	var policy atomic.Pointer[hearth.ExecutionPolicy]
	sizing := func(mode string) {
		p := execution.Default()
		p.Sizing = &hearth.SizingPolicy{Mode: mode, Runs: 2, ShrinkRuns: 3}
		policy.Store(p)
	}
	sizing("auto")
	m := newManager(t, w, func(c *manager.Config) {
		c.MachineMiB, c.PoolBudgetMiB, c.InstanceMiB = machine, budget, machine/8
		c.Policy = func(hearth.Account, string) *hearth.ExecutionPolicy { return policy.Load() }
		c.PoolMin = map[hearth.Boot]int{"": 2, "node": 1}
	})

	var functions [3][3]*hearth.Function
	fresh := func(a, f int) *hearth.Function {
		fn := function(hearth.Account(fmt.Sprintf("%012d", a)), fmt.Sprint("f", f), []int{128, 256, 512}[f]/2)
		if f == 1 {
			fn.Runtime = "nodejs20.x"
		}
		return fn
	}
	for a := range functions {
		for f := range functions[a] {
			functions[a][f] = fresh(a, f)
		}
	}
	running := map[hearth.Key]int{}
	busiest := map[hearth.Key]int{}
	// What is provisioned now, and what was asked for of each key in all: one
	// that is not asked for any more still ends its invocation.
	provisioned := map[*hearth.Function]int{}
	asked := map[hearth.Key]int{}
	provide := func(fn *hearth.Function, n int) {
		mu.Lock()
		asked[fn.Key()] += max(n-provisioned[fn], 0)
		mu.Unlock()
		provisioned[fn] = n
		m.Provide(provisions(fn, n))
	}
	// Whose code each key's has taken over from, and for which that is under
	// way.
	heirOf := map[hearth.Key]hearth.Key{}
	overtaking := map[*hearth.Function]bool{}
	var bound func(k hearth.Key) int
	bound = func(k hearth.Key) int {
		n := busiest[k] + asked[k]
		if from, ok := heirOf[k]; ok { // made ahead, and asked of the old code
			n += 2 * bound(from)
		}
		return n
	}
	ended := map[string]bool{} // deleted at some time
	deleted := func(fn *hearth.Function) bool {
		mu.Lock()
		defer mu.Unlock()
		return ended[fn.ARN()]
	}
	var fated atomic.Int64 // of what was prepared
	var wg sync.WaitGroup
	call := func(fn *hearth.Function, patience time.Duration, memory int) {
		mu.Lock()
		if memory > 0 {
			asked[fn.Key()]++ // its environment serves no others
		}
		running[fn.Key()]++
		busiest[fn.Key()] = max(busiest[fn.Key()], running[fn.Key()])
		mu.Unlock()
		wg.Go(func() {
			ctx := context.Background()
			if patience > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, patience)
				defer cancel()
			}
			began := time.Now()
			inv := invocation(fn)
			inv.MemoryMiB = memory
			_, err := m.Invoke(ctx, inv)
			switch k := hearth.KindOf(err); {
			case err == nil && inv.Timeline.Total() > time.Since(began):
				complain("the stages sum up to %v in %v", inv.Timeline.Total(), time.Since(began))
			case err != nil && k != hearth.Service && k != hearth.TooManyRequests && (k != hearth.InvalidParameter || memory <= m.Stats().CapacityMiB) && (k != hearth.Canceled || patience == 0) && (k != hearth.NotFound || !deleted(fn)):
				complain("invoke: %v", err)
			}
			mu.Lock()
			running[fn.Key()]--
			mu.Unlock()
		})
	}
	look := func(after string) {
		s := m.Stats()
		if s.PoolMiB > budget || s.PoolMiB < 0 {
			complain("after %s the pool uses %v of %v MiB", after, s.PoolMiB, budget)
		}
		if s.CommittedMiB > s.CapacityMiB {
			complain("after %s %d of %d MiB are promised", after, s.CommittedMiB, s.CapacityMiB)
		}
		w.mu.Lock()
		if w.maxLoaded > s.CapacityMiB {
			complain("after %s %d of %d MiB were really loaded", after, w.maxLoaded, s.CapacityMiB)
		}
		w.mu.Unlock()
	}
	var changing sync.Mutex // of functions and what is provisioned
	for _, s := range steps {
		changing.Lock()
		fn := functions[s.account][s.function]
		switch s.what {
		case "invoke":
			for range s.n {
				call(fn, 0, 0)
			}
		case "ask":
			for range s.n {
				call(fn, 0, 100*s.n)
			}
		case "sizing":
			sizing([]string{"auto", "advise", "off"}[s.n%3])
			m.PolicyChanged(fn.Account, []string{"", fn.Name}[s.n%2])
		case "fail resize":
			failResize.Add(int32(s.n))
		case "impatient":
			for i := range s.n {
				call(fn, time.Duration(i*10+1)*time.Millisecond, 0)
			}
		case "update":
			now := fresh(s.account, s.function)
			functions[s.account][s.function] = now
			mu.Lock()
			heirOf[now.Key()] = fn.Key() // who waits for the one gets the other
			mu.Unlock()
			m.Changed(fn, now)
			n := provisioned[fn]
			delete(provisioned, fn)
			provide(now, n)
		case "overtake":
			if overtaking[fn] {
				break
			}
			overtaking[fn] = true
			now := fresh(s.account, s.function)
			mu.Lock()
			heirOf[now.Key()] = fn.Key()
			mu.Unlock()
			wg.Go(func() {
				m.Overtake(context.Background(), fn, now)
				changing.Lock()
				defer changing.Unlock()
				if at := &functions[s.account][s.function]; *at == fn { // else it was deleted, or changed
					*at = now
					m.Changed(fn, now)
					n := provisioned[fn]
					delete(provisioned, fn)
					provide(now, n)
				}
			})
		case "delete":
			now := fresh(s.account, s.function)
			mu.Lock()
			ended[fn.ARN()] = true
			heirOf[now.Key()] = fn.Key() // who comes late for the one gets what has its name by then
			mu.Unlock()
			m.Changed(fn, nil)
			delete(provisioned, fn)
			m.Provide(provisions(fn, 0))
			functions[s.account][s.function] = now
		case "provision":
			provide(fn, s.n%4)
		case "foretell":
			mu.Lock()
			asked[fn.Key()] += s.n
			mu.Unlock()
			m.Prepare(manager.Preparation{Function: fn, Count: s.n, Until: time.Now().Add(s.wait + time.Second), Why: "a test", Fate: func(f manager.Fate) {
				fated.Add(1)
			}})
		case "kill":
			for i, c := range w.containers() {
				if i < s.n {
					c.die()
				}
			}
		case "kill pooled":
			if cs := w.pooled(); len(cs) > 0 {
				cs[0].die()
			}
		case "fail boot":
			failBoot.Add(int32(s.n))
		case "fail slot":
			failSlot.Add(int32(s.n))
		case "fail load":
			failLoad.Add(int32(s.n))
		case "fail init":
			failInit.Add(int32(s.n))
		case "gone":
			gone.Add(int32(s.n))
		case "crash":
			crash.Add(int32(s.n))
		}
		changing.Unlock()
		look(s.what)
		time.Sleep(s.wait)
		look("waiting")
	}
	wg.Wait()
	for _, n := range []*atomic.Int32{&failBoot, &failSlot, &failLoad, &failInit} {
		n.Store(0)
	}
	time.Sleep(15 * time.Minute) // longer than anything is given up for
	look("the end")
	for fn, n := range provisioned {
		switch s := m.Provisioned(fn.Account, fn.Name, "q"); {
		case n == 0:
		case s.State == hearth.ProvisionInProgress,
			s.State == hearth.ProvisionReady && (s.Available != n || s.Allocated != n),
			s.State == hearth.ProvisionFailed && machine == 8192:
			complain("of %d provisioned came %+v", n, s)
		}
	}
	if s := m.Stats(); s.Waiting != 0 || s.Queued != 0 || s.InFlight != 0 {
		complain("at rest: %+v", s)
	}
	w.mu.Lock()
	for k, n := range w.maxEnvs {
		if n > bound(k) {
			complain("%d environments of %s, which had %d callers at once, %d asked for, and %d with what it took over", n, k.Name, busiest[k], asked[k], bound(k))
		}
	}
	w.mu.Unlock()
	if err := m.Drain(context.Background()); err != nil {
		complain("drain: %v", err)
	}
	if s := m.Stats(); s.CommittedMiB != 0 || s.PoolMiB != 0 || s.Containers != 0 || s.Instances != 0 {
		complain("after the drain: %+v", s)
	}
	if s := m.Stats().Prepared; s.Made != s.Hit+s.Wasted || int64(s.Made) != fated.Load() {
		complain("of what was prepared %d were told of, and %+v", fated.Load(), s)
	}
	if n := w.living(); n != 0 {
		complain("%d instances live after the drain", n)
	}
	w.mu.Lock()
	wrong = append(wrong, w.complaints...)
	w.mu.Unlock()
	return wrong
}

// TestHammer has many goroutines invoke, update and kill in real time, for
// the race detector; the worker complains about every use that overlaps.
func TestHammer(t *testing.T) {
	w := newFakeWorker()
	w.onInvoke = func(c *fakeContainer, inv *hearth.Invocation) (*hearth.Result, bool, error) {
		return &hearth.Result{Payload: inv.Payload}, true, nil
	}
	m := newManager(t, w, func(c *manager.Config) {
		c.MachineMiB, c.PoolBudgetMiB, c.PoolMin = 4096, 16, map[hearth.Boot]int{"": 4}
	})
	var functions [6]atomic.Pointer[hearth.Function]
	fresh := func(i int) *hearth.Function {
		return function(hearth.Account(fmt.Sprintf("%012d", i%3)), fmt.Sprint("f", i), 128)
	}
	for i := range functions {
		functions[i].Store(fresh(i))
	}
	var callers, others sync.WaitGroup
	stop := make(chan struct{})
	var served atomic.Int64
	for g := range 32 {
		callers.Go(func() {
			for i := range 400 {
				inv := invocation(functions[(g+i/50)%len(functions)].Load())
				inv.Payload = fmt.Appendf(nil, "%d-%d", g, i)
				r, err := m.Invoke(context.Background(), inv)
				if err != nil {
					t.Errorf("invoke: %v", err)
					return
				}
				if string(r.Payload) != string(inv.Payload) {
					t.Errorf("%s was answered with %s", inv.Payload, r.Payload)
				}
				served.Add(1)
			}
		})
	}
	every := func(d time.Duration, f func(n int)) {
		others.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				case <-time.After(d):
					f(n)
				}
			}
		})
	}
	every(time.Millisecond, func(n int) {
		i := n % len(functions)
		old, now := functions[i].Load(), fresh(i)
		if n%3 == 0 {
			m.Overtake(context.Background(), old, now)
		}
		functions[i].Store(now)
		m.Changed(old, now)
	})
	every(700*time.Microsecond, func(n int) {
		if cs := w.containers(); len(cs) > 0 {
			cs[n%len(cs)].die()
		}
	})
	every(3*time.Millisecond, func(int) { m.Snapshot() })
	callers.Wait()
	close(stop)
	others.Wait()
	if n := served.Load(); n != 32*400 {
		t.Errorf("%d served", n)
	}
	drain(t, m, w)
}
