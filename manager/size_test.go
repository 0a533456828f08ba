package manager_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/execution"
	"github.com/hearth-faas/hearth/manager"
	"github.com/hearth-faas/hearth/store/sqlite"
)

// sizes is a manager whose functions each need so much memory, under a sizing
// policy that can be changed.
type sizes struct {
	*testing.T
	m      *manager.Manager
	w      *fakeWorker
	told   *recorder
	policy *hearth.ExecutionPolicy
	needs  map[string]float64
	throws map[string]bool
}

func newSizes(t *testing.T, policy hearth.SizingPolicy, change func(*manager.Config)) *sizes {
	s := &sizes{T: t, w: newFakeWorker(), told: &recorder{}, policy: execution.Default(), needs: map[string]float64{}, throws: map[string]bool{}}
	s.policy.Sizing = &policy
	s.w.onInvoke = func(c *fakeContainer, inv *hearth.Invocation) (*hearth.Result, bool, error) {
		has, needs := c.memory(), s.needs[inv.Function.Name]
		inv.Use = hearth.Use{End: hearth.EndOK, MemoryMiB: has, PeakMiB: needs, Duration: 10 * time.Millisecond, CPU: time.Millisecond, Busy: 10 * time.Millisecond}
		switch {
		case needs > float64(has):
			inv.Use.End, inv.Use.PeakMiB = hearth.EndMemory, float64(has)
			c.die()
			return &hearth.Result{FunctionError: "Unhandled"}, false, nil
		case s.throws[inv.Function.Name]:
			inv.Use.End = hearth.EndError
			return &hearth.Result{FunctionError: "Unhandled"}, true, nil
		}
		return &hearth.Result{}, true, nil
	}
	s.m = newManager(t, s.w, func(c *manager.Config) {
		c.Recorder, c.Policy = s.told, func(hearth.Account, string) *hearth.ExecutionPolicy { return s.policy }
		c.MachineMiB, c.FullCPUMiB = 8192, 1769
		if change != nil {
			change(c)
		}
	})
	t.Cleanup(func() { drain(t, s.m, s.w) })
	return s
}

// runs invokes f n times, one after the other, and returns the last use.
func (s *sizes) runs(f *hearth.Function, n, asked int) (last hearth.Use) {
	s.Helper()
	for range n {
		inv := invocation(f)
		inv.MemoryMiB = asked
		if _, err := s.m.Invoke(context.Background(), inv); err != nil {
			s.Fatal(err)
		}
		last = inv.Use
	}
	return last
}

// done is what was decided about sizes, each as "chosen why".
func (s *sizes) done() (all []string) {
	s.told.mu.Lock()
	defer s.told.mu.Unlock()
	for _, d := range s.told.all {
		if d.Kind == hearth.DecisionSize {
			all = append(all, d.Chosen+" "+d.Why)
		}
	}
	return all
}

func TestTooLittleMemoryIsToldAndChangedOnlyWhereThatIsWanted(t *testing.T) {
	for mode, want := range map[string]struct {
		has  int
		done string
	}{
		"off":  {256, ""},
		"":     {256, "suggest 384 MiB instead of 256: 10 of the last 10 executions"},
		"auto": {384, "apply 384 MiB instead of 256: 10 of the last 10 executions"},
	} {
		t.Run("mode "+mode, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSizes(t, hearth.SizingPolicy{Mode: mode}, nil)
				s.needs["b"] = 300
				b := function(acct, "b", 256)
				if s.runs(b, 9, 0); len(s.done()) != 0 {
					t.Errorf("after nine: %q", s.done())
				}
				s.runs(b, 20, 0)
				synctest.Wait()
				if u := s.runs(b, 1, 0); u.MemoryMiB != want.has || (u.End == hearth.EndOK) != (mode == "auto") {
					t.Errorf("%+v", u)
				}
				synctest.Wait()
				if done := s.done(); len(done) > 1 || !strings.HasPrefix(strings.Join(done, ""), want.done) || (want.done == "") != (len(done) == 0) {
					t.Errorf("decided %q", done)
				}
				if n := s.m.Stats().Sizing.Kills; mode != "off" && n < 10 {
					t.Errorf("%d kills are counted", n)
				}
			})
		})
	}
}

func TestErrorsOfTheCodeDoNotMakeItGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSizes(t, hearth.SizingPolicy{Mode: "auto"}, nil)
		c := function(acct, "c", 128)
		s.needs["c"] = 100
		for i := range 200 {
			s.throws["c"] = i%2 == 0
			s.runs(c, 1, 0)
		}
		synctest.Wait()
		if done := s.done(); len(done) != 0 {
			t.Errorf("decided %q", done)
		}
	})
}

func TestMuchUnusedMemoryIsTakenBackByLaterContainers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSizes(t, hearth.SizingPolicy{Mode: "auto"}, nil)
		d := function(acct, "d", 1024)
		s.needs["d"] = 40
		if u := s.runs(d, 200, 0); u.MemoryMiB != 1024 {
			t.Errorf("a living container has %d MiB", u.MemoryMiB)
		}
		for _, c := range s.w.containers() {
			c.die()
		}
		synctest.Wait()
		if u := s.runs(d, 1, 0); u.MemoryMiB != 128 {
			t.Errorf("the next has %d MiB", u.MemoryMiB)
		}
		if n := s.m.Stats().CommittedMiB; n != 128 {
			t.Errorf("%d MiB are promised", n)
		}
		// It turns out to be too little: what was asked for comes back at once.
		s.needs["d"] = 200
		s.runs(d, 1, 0)
		if u := s.runs(d, 1, 0); u.MemoryMiB != 1024 || u.End != hearth.EndOK {
			t.Errorf("after the first failure: %+v", u)
		}
	})
}

func TestALivingContainerGrowsFromWhatItsInstanceHasToSpare(t *testing.T) {
	for name, test := range map[string]struct {
		instance int
		fails    error
		same     bool
	}{
		"there is room":          {instance: 2048, same: true},
		"there is none":          {instance: 256},
		"the driver can't do it": {instance: 2048, fails: hearth.Errorf(hearth.Service, "no")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSizes(t, hearth.SizingPolicy{Mode: "auto"}, func(c *manager.Config) { c.InstanceMiB = test.instance })
				s.w.onResize = func(*fakeContainer) error { return test.fails }
				f := function(acct, "f", 256)
				s.needs["f"] = 100
				s.runs(f, 1, 0)
				first := s.w.containers()[0]
				// Another container of the function is killed again and again
				// while the first works.
				release := make(chan struct{})
				usual := s.w.onInvoke
				s.w.onInvoke = func(c *fakeContainer, inv *hearth.Invocation) (*hearth.Result, bool, error) {
					if inv.RequestID == "slow" {
						<-release
					}
					return usual(c, inv)
				}
				done := make(chan struct{})
				go func() {
					defer close(done)
					inv := invocation(f)
					inv.RequestID = "slow"
					if _, err := s.m.Invoke(context.Background(), inv); err != nil {
						t.Error(err)
					}
				}()
				synctest.Wait()
				s.needs["f"] = 300
				s.runs(f, 9, 0)
				s.needs["f"] = 100
				synctest.Wait() // what was killed is gone
				close(release)
				<-done
				synctest.Wait()
				inv := invoke(t, s.m, f)
				if inv.Use.MemoryMiB != 384 || (inv.Placement.Container == first.ID()) != test.same {
					t.Errorf("%+v in %s, the first was %s", inv.Use, inv.Placement.Container, first.ID())
				}
				if n := s.m.Stats().CommittedMiB; n != 384 {
					t.Errorf("%d MiB are promised", n)
				}
			})
		})
	}
}

func TestNothingGrowsWhereThereIsNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSizes(t, hearth.SizingPolicy{Mode: "auto"}, func(c *manager.Config) { c.MachineMiB = 768 })
		// Another function is at work in most of the machine.
		release := make(chan struct{})
		usual := s.w.onInvoke
		s.w.onInvoke = func(c *fakeContainer, inv *hearth.Invocation) (*hearth.Result, bool, error) {
			if inv.Function.Name == "other" {
				<-release
			}
			return usual(c, inv)
		}
		other := make(chan struct{})
		go func() { defer close(other); invoke(t, s.m, function(acct, "other", 512)) }()
		synctest.Wait()
		b := function(acct, "b", 256)
		s.needs["b"] = 300
		if u := s.runs(b, 40, 0); u.MemoryMiB != 256 {
			t.Errorf("it has %d MiB", u.MemoryMiB)
		}
		synctest.Wait()
		if done := s.done(); len(done) != 1 || !strings.HasPrefix(done[0], "decline 384 MiB instead of 256") || !strings.Contains(done[0], "no more than 256 MiB now") {
			t.Errorf("decided %q", done)
		}
		close(release)
		<-other
		synctest.Wait()
		s.runs(b, 1, 0)
		if u := s.runs(b, 1, 0); u.MemoryMiB != 384 || u.End != hearth.EndOK {
			t.Errorf("with room again: %+v", u)
		}
	})
}

func TestAGrownFunctionIsServedSmallRatherThanNotAtAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSizes(t, hearth.SizingPolicy{Mode: "auto"}, func(c *manager.Config) { c.MachineMiB = 768 })
		b := function(acct, "b", 256)
		s.needs["b"] = 300
		s.runs(b, 11, 0)
		s.needs["b"] = 100
		synctest.Wait()
		release := make(chan struct{})
		usual := s.w.onInvoke
		s.w.onInvoke = func(c *fakeContainer, inv *hearth.Invocation) (*hearth.Result, bool, error) {
			if inv.Function.Name == "other" {
				<-release
			}
			return usual(c, inv)
		}
		other := make(chan struct{})
		go func() { defer close(other); invoke(t, s.m, function(acct, "other", 512)) }()
		synctest.Wait()
		if u := s.runs(b, 1, 0); u.MemoryMiB != 256 {
			t.Errorf("%+v", u)
		}
		// One that asks for what new containers have waits for one that has it:
		// the small one will not do.
		asking := make(chan hearth.Use, 1)
		go func() { asking <- s.runs(b, 1, 300) }()
		synctest.Wait()
		early := len(asking) > 0
		close(release)
		<-other
		if u := <-asking; early || u.MemoryMiB < 300 {
			t.Errorf("one that asks for 300 MiB has %d", u.MemoryMiB)
		}
	})
}

func TestAnInvocationThatAsksForMoreHasItAloneAndOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSizes(t, hearth.SizingPolicy{MaxMiB: 4096}, nil)
		b := function(acct, "b", 256)
		s.needs["b"] = 100
		s.runs(b, 1, 0)
		for _, want := range []struct{ asked, has int }{{1000, 1024}, {0, 256}, {970, 1024}, {200, 256}, {256, 256}, {0, 256}, {4090, 4096}} {
			if u := s.runs(b, 1, want.asked); u.MemoryMiB != want.has {
				t.Errorf("one that asks for %d MiB has %d", want.asked, u.MemoryMiB)
			}
		}
		inv := invocation(b)
		inv.MemoryMiB = 1000
		if _, err := s.m.Invoke(context.Background(), inv); err != nil || inv.Placement.Path != hearth.PathReuse || !strings.Contains(inv.Placement.Why, "1000 MiB for this invocation alone") {
			t.Errorf("%+v, %v", inv.Placement, err)
		}
		for _, policy := range []int{4096, 0} {
			s.policy = execution.Default()
			s.policy.Sizing = &hearth.SizingPolicy{MaxMiB: policy}
			s.m.PolicyChanged(acct, "b")
			inv := invocation(b)
			inv.MemoryMiB = 9000
			_, err := s.m.Invoke(context.Background(), inv)
			if hearth.KindOf(err) != hearth.InvalidParameter || !strings.Contains(err.Error(), map[int]string{4096: "4096 MiB is the most that the function's execution policy allows", 0: "8192 MiB is the most that this machine"}[policy]) {
				t.Errorf("beyond the bounds: %v", err)
			}
			if inv.Placement.Why == "" {
				t.Error("the decision will not say why")
			}
		}
	})
}

func TestWhatIsLearnedOutlivesTheProcess(t *testing.T) {
	store, err := sqlite.Open(context.Background(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	keep := func(c *manager.Config) { c.Records, c.Clock = store, clock.System() }
	b := function(acct, "b", 256)
	s := newSizes(t, hearth.SizingPolicy{Mode: "auto"}, keep)
	s.needs["b"] = 300
	s.runs(b, 10, 0)
	// A decision is on record when what it stands on is on disk: the process
	// may be killed then.
	for deadline := time.Now().Add(2 * time.Minute); len(s.done()) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing was decided")
		}
	}
	again := newSizes(t, hearth.SizingPolicy{Mode: "auto"}, keep)
	again.needs["b"] = 300
	if u := again.runs(b, 1, 0); u.MemoryMiB != 384 {
		t.Errorf("after a restart: %+v", u)
	}
	if a := again.m.Advice(acct, "b"); len(a) != 1 || a[0].Evidence.Kills != 10 || a[0].SizeMiB != 384 || a[0].ConfiguredMiB != 256 {
		t.Errorf("%+v", a)
	}
}

func TestNewCodeBeginsNewEvidence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSizes(t, hearth.SizingPolicy{}, nil)
		s.needs["b"] = 300
		old, now := function(acct, "b", 256), function(acct, "b", 512)
		s.runs(old, 10, 0)
		s.m.Changed(old, now)
		s.runs(now, 3, 0)
		a := s.m.Advice(acct, "")
		if len(a) != 1 || a[0].ConfiguredMiB != 512 || a[0].Evidence.Runs != 3 || a[0].Suggestion.MiB != 0 {
			t.Errorf("%+v", a)
		}
		s.m.Changed(now, nil)
		if a := s.m.Advice(acct, ""); len(a) != 0 {
			t.Errorf("of a deleted function is known %+v", a)
		}
	})
}

func TestWhatOldCodeUsesIsNoEvidenceOfTheNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSizes(t, hearth.SizingPolicy{}, nil)
		s.needs["b"] = 100
		old, now := function(acct, "b", 256), function(acct, "b", 512)
		s.runs(old, 3, 0)
		release := make(chan struct{})
		usual := s.w.onInvoke
		s.w.onInvoke = func(c *fakeContainer, inv *hearth.Invocation) (*hearth.Result, bool, error) {
			if inv.Function == old {
				<-release
			}
			return usual(c, inv)
		}
		ended := make(chan struct{})
		go func() { defer close(ended); invoke(t, s.m, old) }()
		synctest.Wait()
		s.m.Changed(old, now)
		s.runs(now, 2, 0)
		close(release)
		<-ended
		if a := s.m.Advice(acct, "b"); len(a) != 1 || a[0].Evidence.Runs != 2 || a[0].ConfiguredMiB != 512 {
			t.Errorf("%+v", a)
		}
	})
}
