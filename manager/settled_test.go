package manager_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/manager"
)

// attended makes a worker whose containers have extensions that go on for d
// after each answer.
func attended(d time.Duration) *fakeWorker {
	w := newFakeWorker()
	w.onInvoke = func(c *fakeContainer, inv *hearth.Invocation) (*hearth.Result, bool, error) {
		done := make(chan struct{})
		c.attended = done
		time.AfterFunc(d, func() { close(done) })
		inv.Timeline.End(hearth.StageRun, time.Now())
		return &hearth.Result{Payload: inv.Payload}, true, nil
	}
	return w
}

func TestAContainerWhoseExtensionsAreAtWorkIsBusyThoughItsCallerIsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := attended(time.Second)
		m := newManager(t, w, nil)
		defer drain(t, m, w)
		f := function(acct, "f", 128)
		began := time.Now()
		first, second := invoke(t, m, f), invoke(t, m, f)
		if took := time.Since(began); took != 0 {
			t.Errorf("two callers waited %v for extensions", took)
		}
		if first.Placement.Container == second.Placement.Container {
			t.Error("a busy container was handed out")
		}
		time.Sleep(2 * time.Second)
		if third := invoke(t, m, f); third.Placement.Path != hearth.PathReuse {
			t.Errorf("settled, and not used again: %+v", third.Placement)
		}
	})
}

func TestWhoWaitsForMemoryGetsAContainerOnceItHasSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := attended(time.Second)
		m := newManager(t, w, func(c *manager.Config) { c.MachineMiB = 128 })
		defer drain(t, m, w)
		f := function(acct, "f", 128)
		invoke(t, m, f)
		began := time.Now()
		second := invoke(t, m, f)
		if took := time.Since(began); took != time.Second || second.Placement.Path != hearth.PathReuse {
			t.Errorf("the second was served after %v: %+v", took, second.Placement)
		}
	})
}

func TestADrainWaitsForNoExtension(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := attended(time.Hour)
		m := newManager(t, w, nil)
		f := function(acct, "f", 128)
		invoke(t, m, f)
		m.Changed(f, nil) // it is busy: it ends when it comes to rest
		invoke(t, m, function(acct, "g", 128))
		began := time.Now()
		drain(t, m, w)
		if took := time.Since(began); took > time.Second {
			t.Errorf("the drain took %v", took)
		}
		time.Sleep(2 * time.Hour) // for the timers of the test's own
	})
}

func TestAContainerThatDiesWhileItSettlesIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := attended(time.Second)
		m := newManager(t, w, nil)
		defer drain(t, m, w)
		f := function(acct, "f", 128)
		invoke(t, m, f)
		w.containers()[0].die()
		time.Sleep(2 * time.Second)
		if n := len(w.containers()); n != 0 {
			t.Errorf("%d containers are left", n)
		}
	})
}
