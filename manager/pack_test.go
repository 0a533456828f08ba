package manager_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/manager"
)

func TestPackChoosesTheInstanceThatIsLeastAtWorkAndThatNobodyWillMiss(t *testing.T) {
	for _, c := range []struct {
		name  string
		need  int
		loads []manager.Load
		want  int
	}{
		{"one alone stays", 0, []manager.Load{{CapMiB: 512}}, -1},
		{"a load that needs both", 600, []manager.Load{{CapMiB: 512}, {CapMiB: 512}}, -1},
		{"a busy one, if it is the least busy", 384, []manager.Load{{CapMiB: 512, BusyMiB: 256}, {CapMiB: 512, BusyMiB: 128}}, 1},
		{"not one that is pinned", 384, []manager.Load{{CapMiB: 512, BusyMiB: 256}, {CapMiB: 512, BusyMiB: 128, Pinned: true}}, 0},
		{"none if all are", 0, []manager.Load{{CapMiB: 512, Pinned: true}, {CapMiB: 512, Pinned: true}}, -1},
		{"not one without which the rest is too small", 500, []manager.Load{{CapMiB: 3000, Pinned: false, BusyMiB: 1}, {CapMiB: 400, BusyMiB: 100, Pinned: true}}, -1},
	} {
		if got := (manager.Pack{Level: 0.5}).Choose(c.need, c.loads); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestWhatIsLeftByPackIsEnough(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		loads := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) manager.Load {
			l := manager.Load{CapMiB: rapid.IntRange(128, 4096).Draw(t, "cap"), Pinned: rapid.Bool().Draw(t, "pinned")}
			l.BusyMiB = rapid.IntRange(0, l.CapMiB).Draw(t, "busy")
			return l
		}), 0, 6).Draw(t, "loads")
		need := rapid.IntRange(0, 8192).Draw(t, "need")
		i := manager.Pack{Level: 0.5}.Choose(need, loads)
		if i < 0 {
			return
		}
		rest := 0
		for j, l := range loads {
			if j != i {
				rest += l.CapMiB
			}
		}
		if loads[i].Pinned || rest < need {
			t.Fatalf("%+v goes, and %d MiB are left for %d", loads[i], rest, need)
		}
	})
}

// gate holds each invocation until it is let go.
type gate struct {
	mu   sync.Mutex
	held map[string]map[chan struct{}]string // container, by instance
}

func (g *gate) hold(c *fakeContainer, inv *hearth.Invocation) (*hearth.Result, bool, error) {
	ch := make(chan struct{})
	g.mu.Lock()
	if g.held[c.inst.id] == nil {
		g.held[c.inst.id] = map[chan struct{}]string{}
	}
	g.held[c.inst.id][ch] = c.id
	g.mu.Unlock()
	<-ch
	return &hearth.Result{Version: inv.Function.Version}, true, nil
}

// free lets n invocations of an instance end.
func (g *gate) free(instance string, n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for ch := range g.held[instance] {
		if n--; n < 0 {
			return
		}
		delete(g.held[instance], ch)
		close(ch)
	}
}

func TestWhenTheLoadFallsABusyInstanceIsDrainedAndNothingIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		g := &gate{held: map[string]map[chan struct{}]string{}}
		w.onInvoke = g.hold
		log := &recorder{}
		m := newManager(t, w, func(c *manager.Config) { c.InstanceMiB, c.Recorder = 512, log })
		f := function(acct, "f", 128)
		var all sync.WaitGroup
		start := func(n int) {
			for range n {
				all.Go(func() { invoke(t, m, f) })
			}
			synctest.Wait()
		}
		for range 8 { // one after another: four in each of two instances
			start(1)
		}
		if len(g.held) != 2 {
			t.Fatalf("%d instances, wanted two", len(g.held))
		}
		var large, small string
		for id := range g.held {
			large, small = small, id
		}
		g.free(large, 2)
		g.free(small, 3)
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if n := m.Stats().Packed; n != 1 {
			t.Fatalf("%d instances were given up, wanted one", n)
		}
		for _, d := range log.all {
			if d.Kind == hearth.DecisionPack && (d.Instance != small || d.Knew.Busy != 1) {
				t.Errorf("given up: %+v; wanted %s with one at work", d, small)
			}
		}
		start(2) // the one with the most room is not asked
		if n := len(g.held[small]); n != 1 {
			t.Errorf("%d invocations are in the instance that was given up, wanted the one that was there", n)
		}
		g.free(small, 1)
		synctest.Wait()
		for _, i := range instanceIDs(m) {
			if i == small {
				t.Error("the instance that was given up is there when its last invocation has ended")
			}
		}
		g.free(large, 4)
		all.Wait()
		drain(t, m, w)
	})
}

func TestAnInstanceWithTheOnlyWarmContainerIsNotGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		m := newManager(t, w, func(c *manager.Config) {
			c.InstanceMiB = 256
			c.Life = manager.IdleLife{Min: time.Hour, Max: 2 * time.Hour}
		})
		a, b := function(acct, "a", 256), function(acct, "b", 256)
		invoke(t, m, a)
		invoke(t, m, b)
		time.Sleep(20 * time.Minute)
		if s := m.Stats(); s.Packed != 0 || s.Instances != 2 {
			t.Errorf("%d instances are left, %d were given up; each has the only container of its function", s.Instances, s.Packed)
		}
		if err := m.Drain(context.Background()); err != nil {
			t.Error(err)
		}
		w.check(t)
	})
}

func instanceIDs(m *manager.Manager) (ids []string) {
	for _, i := range m.Snapshot() {
		if i.Account != "" {
			ids = append(ids, i.ID)
		}
	}
	return ids
}
