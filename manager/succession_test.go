package manager_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/execution"
	"github.com/hearth-faas/hearth/manager"
)

// succession is a manager with a function that is warm in n containers, and
// what is to replace it.
type succession struct {
	t        *testing.T
	w        *fakeWorker
	m        *manager.Manager
	records  *recorder
	old, now *hearth.Function
}

func newSuccession(t *testing.T, n int, change func(*manager.Config)) *succession {
	t.Helper()
	s := &succession{t: t, w: newFakeWorker(), records: &recorder{}}
	s.w.bootTime, s.w.loadTime, s.w.invokeTime = 100*time.Millisecond, 400*time.Millisecond, 20*time.Millisecond
	s.m = newManager(t, s.w, func(c *manager.Config) {
		c.Recorder, c.InstanceMiB, c.BootConcurrency = s.records, 512, 4
		if change != nil {
			change(c)
		}
	})
	s.old = function("000000000001", "f", 128)
	s.warm(n)
	s.now = function("000000000001", "f", 128)
	return s
}

// warm has n containers of the old code that were used just now.
func (s *succession) warm(n int) {
	s.t.Helper()
	if _, failed := together(s.m, s.old, n); len(failed) > 0 {
		s.t.Fatal(failed)
	}
}

// steps are the update's decisions of a kind, in their order.
func (s *succession) steps(chosen string) (ds []hearth.Decision) {
	s.records.mu.Lock()
	defer s.records.mu.Unlock()
	for _, d := range s.records.all {
		if d.Kind == hearth.DecisionUpdate && d.Chosen == chosen {
			ds = append(ds, d)
		}
	}
	return ds
}

// of counts the containers that a function's generation has.
func (s *succession) of(f *hearth.Function) (n int, instances map[string]int) {
	instances = map[string]int{}
	for _, i := range s.m.Snapshot() {
		for _, c := range i.Containers {
			if c.Generation == f.Generation && c.State != "ending" {
				n++
				instances[i.ID]++
			}
		}
	}
	return n, instances
}

// update is what the registry does.
func (s *succession) update() {
	s.m.Overtake(context.Background(), s.old, s.now)
	s.m.Changed(s.old, s.now)
}

func TestAfterAnUpdateNobodyPaysAColdStart(t *testing.T) {
	for mode, want := range map[string]bool{"": true, "overlap": true, "wait": false} {
		synctest.Test(t, func(t *testing.T) {
			s := newSuccession(t, 6, func(c *manager.Config) {
				c.Policy = policies(hearth.UpdatePolicy{Mode: mode})
			})
			s.update()
			ok, failed := together(s.m, s.now, 6)
			reused := 0
			for _, inv := range ok {
				if inv.Placement.Path == hearth.PathReuse && inv.Timeline.Total() < 100*time.Millisecond {
					reused++
				}
			}
			if all := reused == 6; len(failed) > 0 || all != want {
				t.Errorf("mode %q: %d of 6 were warm, %v failed", mode, reused, failed)
			}
			synctest.Wait()
			if n, _ := s.of(s.old); n != 0 {
				t.Errorf("mode %q: %d containers of the old code are left", mode, n)
			}
			drain(t, s.m, s.w)
		})
	}
}

// policies is Config.Policy where everybody has the same.
func policies(u hearth.UpdatePolicy) func(hearth.Account, string) *hearth.ExecutionPolicy {
	p := execution.Default()
	p.Update = &u
	return func(hearth.Account, string) *hearth.ExecutionPolicy { return p }
}

func TestNewCodeIsMadeBesideTheOldInTheSameInstancesAndEachSwitchesWhenItsOwnIsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSuccession(t, 6, nil) // of an instance of 512 MiB four: two instances, one of them full
		var slow atomic.Int64
		s.w.onLoad = func(f *hearth.Function) error { // the last two take longer
			if f == s.now && slow.Add(1) > 4 {
				time.Sleep(5 * time.Second)
			}
			return nil
		}
		_, before := s.of(s.old)
		done := make(chan struct{})
		go func() {
			s.m.Overtake(context.Background(), s.old, s.now)
			close(done)
		}()
		time.Sleep(300 * time.Millisecond) // slots are made, code is being loaded
		if inv := invoke(t, s.m, s.old); inv.Function != s.old || inv.Placement.Path != hearth.PathReuse {
			t.Errorf("before anything is ready an invocation is given generation %d by %s", inv.Function.Generation, inv.Placement.Path)
		}
		time.Sleep(2 * time.Second)
		oldHas, oldIn := s.of(s.old)
		newHas, newIn := s.of(s.now)
		if oldHas == 0 || newHas == 0 || len(s.steps("switched")) == 0 {
			t.Errorf("in between there are %d old and %d new ones; %d instances have switched", oldHas, newHas, len(s.steps("switched")))
		}
		for id := range newIn {
			if before[id] == 0 {
				t.Errorf("instance %s has new code and had no old", id)
			}
		}
		for _, d := range s.steps("switched") {
			if oldIn[d.Instance] != 0 {
				t.Errorf("instance %s has switched, and still has %d old ones", d.Instance, oldIn[d.Instance])
			}
		}
		if ok, failed := together(s.m, s.old, 6); len(failed) > 0 {
			t.Error(failed)
		} else {
			for _, inv := range ok {
				if inv.Placement.Path != hearth.PathReuse {
					t.Errorf("in between an invocation takes the path %s", inv.Placement.Path)
				}
			}
		}
		<-done
		if _, in := s.of(s.now); len(in) != len(before) {
			t.Errorf("new code is in %v, old code was in %v", in, before)
		}
		if n, in := s.of(s.old); n != 0 {
			t.Errorf("all have switched, and the old code has %v", in)
		}
		s.m.Changed(s.old, s.now)
		synctest.Wait()
		if len(s.steps("complete")) != 1 || len(s.steps("drained")) != 1 || len(s.steps("ready")) != 6 {
			t.Errorf("steps: %+v", s.records.all)
		}
		drain(t, s.m, s.w)
	})
}

func TestARunningExecutionOfTheOldCodeIsNeverCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSuccession(t, 2, nil)
		s.w.set(&s.w.invokeTime, time.Minute)
		var wg sync.WaitGroup
		wg.Go(func() {
			if inv := invoke(t, s.m, s.old); inv.Function != s.old {
				t.Error("it was given new code")
			}
		})
		time.Sleep(time.Second)
		s.w.set(&s.w.invokeTime, 20*time.Millisecond)
		s.update()
		if inv := invoke(t, s.m, s.now); inv.Placement.Path != hearth.PathReuse {
			t.Errorf("the new code is reached by %s", inv.Placement.Path)
		}
		if n, _ := s.of(s.old); n != 1 || len(s.steps("drained")) != 0 {
			t.Errorf("%d of the old code are left, drained: %v", n, s.steps("drained"))
		}
		wg.Wait()
		synctest.Wait()
		if n, _ := s.of(s.old); n != 0 || len(s.steps("drained")) != 1 {
			t.Errorf("%d of the old code are left, drained: %v", n, s.steps("drained"))
		}
		drain(t, s.m, s.w)
	})
}

func TestAnUpdateDeclinesWhatItMayNotHave(t *testing.T) {
	for name, c := range map[string]struct {
		warm    int
		change  func(*manager.Config)
		prepare func(*succession)
		made    int
		why     string
	}{
		"without free memory": {warm: 4, change: func(c *manager.Config) {
			c.MachineMiB, c.Policy = 512+128, policies(hearth.UpdatePolicy{MaxMiB: 512})
		},
			made: 1, why: "none is taken from others"},
		"with none at all": {warm: 4, change: func(c *manager.Config) { c.MachineMiB = 512 },
			made: 0, why: "none is taken from others"},
		"by its policy's bound": {warm: 4, change: func(c *manager.Config) { c.Policy = policies(hearth.UpdatePolicy{MaxMiB: 300}) },
			made: 2},
		"by the bound of its scaling": {warm: 4, change: nil, prepare: func(s *succession) {
			s.m.Provide(&hearth.Concurrency{Account: s.old.Account, Function: "f", Scaling: []hearth.Scaling{{Version: hearth.Latest, Max: 3}}})
		}, made: 3},
		"for nobody": {warm: 0, made: 0, why: "no container of the old code is warm"},
		"for whoever wants to wait": {warm: 3, change: func(c *manager.Config) { c.Policy = policies(hearth.UpdatePolicy{Mode: "wait"}) },
			made: 0, why: "execution policy"},
		"for what is idle, but one": {warm: 4, prepare: func(s *succession) { time.Sleep(time.Minute) }, made: 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSuccession(t, c.warm, func(cfg *manager.Config) {
					cfg.Life.Min = time.Hour
					if c.change != nil {
						c.change(cfg)
					}
				})
				if c.prepare != nil {
					c.prepare(s)
				}
				s.m.Overtake(context.Background(), s.old, s.now)
				if n, _ := s.of(s.now); n != c.made {
					t.Errorf("%d containers were made, want %d", n, c.made)
				}
				if c.why != "" {
					found := false
					for _, d := range append(s.steps("skipped"), s.steps("declined")...) {
						found = found || strings.Contains(d.Why, c.why)
					}
					if !found {
						t.Errorf("no decision says why: %+v", s.records.all)
					}
				}
				if s.m.Stats().Evicted != 0 {
					t.Error("others were ended for it")
				}
				s.m.Changed(s.old, s.now)
				if ok, failed := together(s.m, s.now, 3); len(ok) != 3 {
					t.Errorf("afterwards: %v", failed)
				}
				drain(t, s.m, s.w)
			})
		})
	}
}

func TestAnUpdateWaitsNoLongerThanItMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSuccession(t, 3, func(c *manager.Config) { c.Policy = policies(hearth.UpdatePolicy{WaitSeconds: 2}) })
		s.w.set(&s.w.loadTime, 8*time.Second)
		began := time.Now()
		s.m.Overtake(context.Background(), s.old, s.now)
		if d := time.Since(began); d != 2*time.Second || len(s.steps("late")) != 1 {
			t.Errorf("it took %v, %v", d, s.steps("late"))
		}
		s.m.Changed(s.old, s.now)
		inv := invoke(t, s.m, s.now) // takes what was begun
		if d := inv.Timeline.Total(); d > 7*time.Second {
			t.Errorf("the first invocation took %v, and what was begun is of no use", d)
		}
		drain(t, s.m, s.w)
	})
}

func TestNewCodeThatCannotBeStartedLeavesTheOldUntilTheUpdateEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSuccession(t, 3, nil)
		s.w.onLoad = func(f *hearth.Function) error {
			if f == s.now {
				return errors.New("fault")
			}
			return nil
		}
		done := make(chan struct{})
		go func() {
			s.m.Overtake(context.Background(), s.old, s.now)
			close(done)
		}()
		for {
			select {
			case <-done:
			default:
				if inv := invoke(t, s.m, s.old); inv.Function != s.old || inv.Placement.Path != hearth.PathReuse {
					t.Errorf("given generation %d by %s", inv.Function.Generation, inv.Placement.Path)
				}
				continue
			}
			break
		}
		if n, _ := s.of(s.old); n != 3 || len(s.steps("switched")) != 0 || len(s.steps("skipped")) != 3 {
			t.Errorf("%d of the old code are there; %d skipped", n, len(s.steps("skipped")))
		}
		drain(t, s.m, s.w)
	})
}

func TestAFunctionThatIsDeletedWhileItIsUpdatedLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSuccession(t, 3, nil)
		go s.m.Overtake(context.Background(), s.old, s.now)
		time.Sleep(200 * time.Millisecond)
		s.m.Changed(s.old, nil)
		time.Sleep(10 * time.Second)
		for _, f := range []*hearth.Function{s.old, s.now} {
			if n, _ := s.of(f); n != 0 {
				t.Errorf("%d containers are left", n)
			}
		}
		drain(t, s.m, s.w)
	})
}

func TestADrainDuringAnUpdateWaitsForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSuccession(t, 3, nil)
		s.w.set(&s.w.loadTime, 20*time.Second)
		go s.m.Overtake(context.Background(), s.old, s.now)
		time.Sleep(200 * time.Millisecond)
		began := time.Now()
		drain(t, s.m, s.w)
		if d := time.Since(began); d > time.Second {
			t.Errorf("it took %v", d)
		}
	})
}

func TestAVersionIsReadyBeforeItsAliasMovesAndTheOldOneStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSuccession(t, 4, nil)
		next := function("000000000001", "f", 128)
		next.Version = "2"
		s.m.Ahead(context.Background(), s.old, next, 0.5)
		if n, in := s.of(next); n != 2 {
			t.Errorf("of the new version there are %v", in)
		}
		if inv := invoke(t, s.m, s.old); inv.Function != s.old || inv.Placement.Path != hearth.PathReuse {
			t.Errorf("whoever names the old version gets %s by %s", inv.Function.Version, inv.Placement.Path)
		}
		if n, _ := s.of(s.old); n != 4 {
			t.Errorf("of the old version %d are left", n)
		}
		s.m.Ahead(context.Background(), s.old, next, 1)
		if n, _ := s.of(next); n != 4 {
			t.Errorf("of the new version there are %d", n)
		}
		drain(t, s.m, s.w)
	})
}

// TestTrafficNeverMeetsAnEmptyWindow: whatever the moment, callers under a
// steady load are served by warm containers.
func TestTrafficNeverMeetsAnEmptyWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSuccession(t, 6, nil)
		var current atomic.Pointer[hearth.Function]
		current.Store(s.old)
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					named := current.Load()
					inv := invoke(t, s.m, named)
					if inv.Placement.Path != hearth.PathReuse || inv.Timeline.Total() > 40*time.Millisecond {
						t.Errorf("served by %s in %v", inv.Placement.Path, inv.Timeline.Total())
					}
					if inv.Function.Generation < named.Generation {
						t.Errorf("served by generation %d, named %d", inv.Function.Generation, named.Generation)
					}
					time.Sleep(3 * time.Millisecond)
				}
			})
		}
		for range 5 {
			s.m.Overtake(context.Background(), s.old, s.now)
			current.Store(s.now)
			s.m.Changed(s.old, s.now)
			time.Sleep(time.Second)
			s.old, s.now = s.now, function("000000000001", "f", 128)
		}
		close(stop)
		wg.Wait()
		drain(t, s.m, s.w)
	})
}
