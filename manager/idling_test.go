package manager_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/manager"
	"github.com/hearth-faas/hearth/store/sqlite"
)

// prewarms notes what is asked of a Prewarmer.
type prewarms struct {
	mu    sync.Mutex
	calls []prewarmed
}

type prewarmed struct {
	at, until time.Time
	name      string
	n         int
}

func (p *prewarms) Prewarm(f *hearth.Function, tenant string, n int, until time.Time, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, prewarmed{time.Now(), until, f.Name, n})
}

func (p *prewarms) take() []prewarmed {
	p.mu.Lock()
	defer p.mu.Unlock()
	calls := p.calls
	p.calls = nil
	return calls
}

func TestManagerHasAContainerMadeBeforeAScheduledCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, ahead := newFakeWorker(), &prewarms{}
		m := newManager(t, w, func(c *manager.Config) {
			c.MachineMiB, c.Prewarmer = 1<<16, ahead
		})
		defer drain(t, m, w)
		f := function(acct, "timer", 3000)
		for range 8 {
			invoke(t, m, f)
			time.Sleep(15 * time.Minute)
		}
		due := time.Now()
		invoke(t, m, f)
		ahead.take()
		time.Sleep(10 * time.Minute)
		if n := len(w.containers()); n != 0 {
			t.Errorf("%d containers ten minutes after a call, five before the next", n)
		}
		if calls := ahead.take(); len(calls) != 0 {
			t.Errorf("asked for %d containers long before the next call", len(calls))
		}
		time.Sleep(5*time.Minute - time.Second)
		calls := ahead.take()
		if len(calls) == 0 {
			t.Fatal("nothing was asked for before the next call")
		}
		due = due.Add(15 * time.Minute)
		if c := calls[0]; c.n != 1 || due.Sub(c.at) > 2*time.Minute || c.until.Before(due) {
			t.Errorf("asked for %d, %v before the call is due, until %v after it", c.n, due.Sub(c.at), c.until.Sub(due))
		}
	})
}

func TestATimersContainerIsLetGoAndMadeAgainInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		w.loadTime = 2 * time.Second
		m := newManager(t, w, func(c *manager.Config) { c.MachineMiB, c.KeepThrough = 1<<16, false })
		defer drain(t, m, w)
		f := function(acct, "timer", 1024)
		reused := 0
		for range 40 {
			if invoke(t, m, f).Placement.Path == hearth.PathReuse {
				reused++
			}
			time.Sleep(15 * time.Minute)
		}
		s := m.Stats()
		if reused < 36 || s.Prepared.Hit < 20 {
			t.Errorf("%d of 40 calls found a container, %d of them one that had been made in time", reused, s.Prepared.Hit)
		}
		if kept := 40 * 15 * 60 * 1024.0; s.Prepared.IdleMiBSeconds+s.Prepared.WastedMiBSeconds > kept/4 {
			t.Errorf("what was made ahead waited for %.0f MiB-seconds; kept all the time it is %.0f", s.Prepared.IdleMiBSeconds, kept)
		}
	})
}

func TestWithoutAPrewarmerContainersAreKeptThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		m := newManager(t, w, func(c *manager.Config) { c.MachineMiB = 1 << 16 })
		defer drain(t, m, w)
		f := function(acct, "timer", 256)
		for i := range 9 {
			if inv := invoke(t, m, f); i > 0 && inv.Placement.Path != hearth.PathReuse {
				t.Errorf("call %d took the way %q", i, inv.Placement.Path)
			}
			time.Sleep(15 * time.Minute)
		}
	})
}

func TestWhatWasLearnedOutlivesAGenerationAndTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records, err := sqlite.Open(context.Background(), t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := records.Close(); err != nil {
				t.Error(err)
			}
		}()
		w, ahead := newFakeWorker(), &prewarms{}
		begin := func() *manager.Manager {
			return newManager(t, w, func(c *manager.Config) {
				c.MachineMiB, c.Prewarmer, c.Records = 1<<16, ahead, records
			})
		}
		m := begin()
		f := function(acct, "timer", 3000)
		for i := range 8 {
			if i == 6 {
				now := *f
				now.Generation++
				m.Changed(f, &now)
				f = &now
			}
			if i == 7 {
				if err := m.Drain(context.Background()); err != nil {
					t.Fatal(err)
				}
				m = begin()
			}
			invoke(t, m, f)
			ahead.take()
			time.Sleep(15*time.Minute - time.Second)
			if calls := ahead.take(); i >= 6 && len(calls) == 0 {
				t.Errorf("nothing was asked for before call %d", i+1)
			}
			time.Sleep(time.Second)
		}
		drain(t, m, w)
	})
}

// What was learned of a function outlives its versions: they have it in common.
func TestWhatWasLearnedOutlivesAVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		m := newManager(t, w, nil)
		defer drain(t, m, w)
		f, first := function(acct, "f", 128), function(acct, "f", 128)
		first.Version = "1"
		m.Changed(nil, f)
		m.Changed(nil, first)
		invoke(t, m, f)
		now := function(acct, "f", 128)
		m.Changed(f, now)
		m.Changed(first, nil)
		time.Sleep(time.Minute)
		second := function(acct, "f", 128)
		second.Version = "2"
		m.Prepare(manager.Preparation{Function: second, Count: 1, Until: time.Now().Add(time.Second), Why: "a test"})
		if _, known := m.Idling(second); !known {
			t.Error("nothing is known of the function since one of its versions was deleted")
		}
		m.Changed(now, nil)
		other := function(acct, "f", 128)
		m.Prepare(manager.Preparation{Function: other, Count: 1, Until: time.Now().Add(time.Second), Why: "a test"})
		if _, known := m.Idling(other); known {
			t.Error("what is known is of a function that was deleted")
		}
	})
}
