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

// queued is a manager that makes one container at once, and a function for which
// n callers wait: for one a container is being made, the others' wait for their
// turn.
type queued struct {
	w      *fakeWorker
	m      *manager.Manager
	f      *hearth.Function
	began  atomic.Int32 // containers of f
	served chan *hearth.Invocation
	failed chan error
}

func newQueued(t *testing.T, n int, change func(*manager.Config)) *queued {
	t.Helper()
	return newQueuedFor(t, function(acct, "f", 128), n, change)
}

func newQueuedFor(t *testing.T, f *hearth.Function, n int, change func(*manager.Config)) *queued {
	t.Helper()
	q := &queued{w: newFakeWorker(), f: f, served: make(chan *hearth.Invocation, n), failed: make(chan error, n)}
	q.w.onLoad = func(f *hearth.Function) error {
		if f.Key() == q.f.Key() {
			q.began.Add(1)
		}
		time.Sleep(50 * time.Millisecond)
		return nil
	}
	q.m = newManager(t, q.w, func(c *manager.Config) {
		c.MakeConcurrency, c.Pressed = 1, func() bool { return true }
		if change != nil {
			change(c)
		}
	})
	for range n {
		go func() {
			inv := invocation(q.f)
			if _, err := q.m.Invoke(context.Background(), inv); err != nil {
				q.failed <- err
				return
			}
			q.served <- inv
		}()
	}
	synctest.Wait()
	return q
}

// A making that was queued for code that has been replaced is not begun: whoever
// waits for it gets the new code.
func TestNothingIsMadeOfCodeThatWasReplacedWhileItsTurnHadNotCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueued(t, 6, nil)
		now := function(acct, "f", 128)
		q.m.Changed(q.f, now)
		for range 6 {
			select {
			case inv := <-q.served:
				if ran := inv.Function; ran != now && ran != q.f {
					t.Errorf("generation %d ran", ran.Generation)
				}
			case err := <-q.failed:
				t.Error(err)
			}
		}
		if n := q.began.Load(); n != 1 {
			t.Errorf("%d containers of the old code were made, of which one had been begun", n)
		}
		drain(t, q.m, q.w)
	})
}

// The same where an update has new code ready: nothing of the old is made once
// it has taken over, neither in what is left of the update nor after it.
func TestALateMakingOfOldCodeIsNotBegunOnceTheNewHasTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSuccession(t, 1, func(c *manager.Config) { c.MakeConcurrency, c.Pressed = 1, func() bool { return true } })
		s.w.set(&s.w.invokeTime, time.Second)
		s.w.set(&s.w.bootTime, 0) // to be begun is to be loaded
		s.w.set(&s.w.loadTime, 0)
		var over atomic.Int64 // when the update was
		var late atomic.Int32
		s.w.onLoad = func(f *hearth.Function) error {
			if at := over.Load(); f == s.old && at != 0 && time.Now().UnixNano() > at {
				late.Add(1)
			}
			time.Sleep(400 * time.Millisecond)
			return nil
		}
		var burst sync.WaitGroup
		updated := make(chan struct{})
		go func() {
			defer close(updated)
			s.m.Overtake(context.Background(), s.old, s.now)
			over.Store(time.Now().UnixNano())
			s.m.Changed(s.old, s.now)
		}()
		synctest.Wait()
		for range 8 {
			burst.Go(func() { invoke(t, s.m, s.old) })
		}
		<-updated
		burst.Wait()
		if n := late.Load(); n > 0 {
			t.Errorf("%d containers of the old code were begun after the update", n)
		}
		if n, _ := s.of(s.old); n != 0 {
			t.Errorf("%d containers of the old code are left", n)
		}
		drain(t, s.m, s.w)
	})
}

func TestNothingIsMadeOfAFunctionThatWasDeletedWhileItsTurnHadNotCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueued(t, 6, nil)
		q.m.Changed(q.f, nil)
		for range 5 {
			if err := <-q.failed; hearth.KindOf(err) != hearth.NotFound {
				t.Error(err)
			}
		}
		<-q.served // its container was being made
		if n := q.began.Load(); n != 1 {
			t.Errorf("%d containers were made, of which one had been begun", n)
		}
		// Whoever was let in just before comes too late.
		if _, err := q.m.Invoke(context.Background(), invocation(q.f)); hearth.KindOf(err) != hearth.NotFound {
			t.Errorf("after the end of the function: %v", err)
		}
		again := function(acct, "f", 128) // another of that name
		q.m.Changed(nil, again)
		invoke(t, q.m, again)
		drain(t, q.m, q.w)
	})
}

// What can't be run any more, though it is not deleted, is not made either.
func TestNothingIsMadeOfWhatBecameInactiveWhileItsTurnHadNotCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueued(t, 3, nil)
		now := function(acct, "f", 128)
		now.State = hearth.Inactive
		q.m.Changed(q.f, now)
		for range 2 {
			if err := <-q.failed; hearth.KindOf(err) != hearth.Conflict {
				t.Error(err)
			}
		}
		<-q.served
		drain(t, q.m, q.w)
	})
}

// Another account's code runs for whoever was let in to it, though its owner has
// withdrawn it since: for one who waits, and for one who comes late.
func TestSharedCodeIsMadeForWhoeverWasLetInBeforeItWasWithdrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := function(acct, "f", 128)
		f.Shared = &hearth.Shared{Owner: "999999999999"}
		q := newQueuedFor(t, f, 3, nil)
		grave := *q.f
		grave.Generation, grave.State = q.f.Generation+1, hearth.Inactive
		q.m.Changed(q.f, &grave)
		for range 3 {
			select {
			case <-q.served:
			case err := <-q.failed:
				t.Error(err)
			}
		}
		invoke(t, q.m, q.f)
		drain(t, q.m, q.w)
	})
}

func TestNothingIsMadeForAnAccountThatWasSuspendedWhileItsTurnHadNotCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		errStopped := errors.New("stopped")
		var stopped atomic.Bool
		q := newQueued(t, 6, func(c *manager.Config) {
			c.Refusal = func(*hearth.Invocation) error {
				if stopped.Load() {
					return errStopped
				}
				return nil
			}
		})
		q.m.Reconsider(acct) // nothing has changed: all wait on
		synctest.Wait()
		stopped.Store(true)
		q.m.Reconsider("999999999999") // not theirs
		synctest.Wait()
		if len(q.failed) > 0 {
			t.Fatalf("refused without cause: %v", <-q.failed)
		}
		q.m.Reconsider(acct)
		for range 5 {
			if err := <-q.failed; err != errStopped {
				t.Error(err)
			}
		}
		<-q.served
		if n := q.began.Load(); n != 1 {
			t.Errorf("%d containers were made, of which one had been begun", n)
		}
		if s := q.m.Stats(); s.Waiting != 0 {
			t.Errorf("%d wait, it is said", s.Waiting)
		}
		drain(t, q.m, q.w)
	})
}

// The same for one that waits for memory, not for its turn.
func TestWhoWaitsForMemoryGetsTheNewCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		m := newManager(t, w, func(c *manager.Config) { c.MachineMiB = 128 })
		f := function(acct, "f", 128)
		w.invokeTime = time.Second
		other := make(chan struct{})
		go func() { invoke(t, m, function("999999999999", "g", 128)); close(other) }()
		synctest.Wait()
		got := make(chan *hearth.Invocation, 1)
		go func() { got <- invoke(t, m, f) }()
		synctest.Wait()
		now := function(acct, "f", 128)
		m.Changed(f, now)
		<-other
		if inv := <-got; inv.Function != now {
			t.Error("the old code ran")
		}
		drain(t, m, w)
	})
}

// One that is to be provisioned waits for memory: once it is not wanted any more
// it is not made.
func TestNothingIsProvisionedThatIsNotAskedForAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		var loads atomic.Int32
		w.onLoad = func(f *hearth.Function) error {
			if f.Name == "f" {
				loads.Add(1)
			}
			return nil
		}
		// To be ended takes what is idle a while, in which its memory is waited for.
		w.onDestroy = func() error { time.Sleep(5 * time.Second); return nil }
		m := newManager(t, w, func(c *manager.Config) { c.MachineMiB = 128 })
		invoke(t, m, function(acct, "g", 128))
		f := versionOf("f", "1", 128)
		m.Provide(&hearth.Concurrency{Account: f.Account, Function: f.Name, Provisions: []hearth.Provision{{Qualifier: "1", Version: "1", Function: f, Count: 1}}})
		time.Sleep(time.Second)
		m.Provide(&hearth.Concurrency{Account: f.Account, Function: f.Name})
		time.Sleep(time.Minute)
		if n := loads.Load(); n != 0 {
			t.Errorf("%d were made", n)
		}
		drain(t, m, w)
	})
}

// What was deleted is remembered for a while, and no longer.
func TestDeletedFunctionsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		m := newManager(t, w, nil)
		f, g := function(acct, "f", 128), function(acct, "g", 128)
		for range 3 {
			m.Changed(f, nil)
			m.Changed(g, nil)
			f, g = function(acct, "f", 128), function(acct, "g", 128)
			m.Changed(nil, g)
			time.Sleep(40 * time.Second)
		}
		invoke(t, m, g)
		last := f
		last.Generation-- // as if it had been let in before
		m.Changed(last, nil)
		if _, err := m.Invoke(context.Background(), invocation(last)); hearth.KindOf(err) != hearth.NotFound {
			t.Error(err)
		}
		time.Sleep(10 * time.Minute)
		invoke(t, m, last) // nobody knows of it any more
		drain(t, m, w)
	})
}
