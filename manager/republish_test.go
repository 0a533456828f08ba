package manager_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hearth-faas/hearth"
)

// A version that is published anew is the same version with other code: its
// least number of environments is made of the new code, and of no other.
func TestNoEnvironmentIsKeptReadyOfCodeThatWasReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		w.bootTime, w.loadTime, w.invokeTime = time.Second, time.Second, time.Second
		m := newManager(t, w, nil)
		old := versionOf("f", hearth.LatestPublished, 128)
		least := func(f *hearth.Function) *hearth.Concurrency {
			return &hearth.Concurrency{Account: f.Account, Function: f.Name, Scaling: []hearth.Scaling{{Version: f.Version, Function: f, Min: 2, Max: -1}}}
		}
		m.Changed(nil, old)
		m.Provide(least(old))
		time.Sleep(time.Minute)
		if all, ready := w.loaded(old); all != 2 || ready != 2 {
			t.Fatalf("%d of %d are provisioned", ready, all)
		}
		made := len(w.containers())
		now := *old
		now.Generation++
		m.Changed(old, &now)
		time.Sleep(time.Minute) // before it is told what to keep ready
		if all, _ := w.loaded(old); all != 0 {
			t.Errorf("%d of the old code are left", all)
		}
		m.Provide(least(&now))
		time.Sleep(time.Minute)
		if all, ready := w.loaded(&now); all != 2 || ready != 2 {
			t.Errorf("of the new code %d of %d are provisioned", ready, all)
		}
		loadedOld := 0
		for _, c := range w.containers()[made:] {
			w.mu.Lock()
			if c.fn != nil && c.fn.Key() == old.Key() {
				loadedOld++
			}
			w.mu.Unlock()
		}
		if loadedOld != 0 {
			t.Errorf("%d more were made of the old code", loadedOld)
		}
		drain(t, m, w)
	})
}
