package prediction_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/execution"
	"github.com/hearth-faas/hearth/manager"
	"github.com/hearth-faas/hearth/prediction"
	"github.com/hearth-faas/hearth/store/sqlite"
)

// TestHammer has all that may happen at once happen at once, for the race
// detector, also while the Predictor is closed.
func TestHammer(t *testing.T) {
	db, err := sqlite.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, db: db, policy: *execution.Default(), missing: map[string]bool{}, serving: map[string]*hearth.Invocation{}}
	w.policy.PreTrigger = &hearth.PreTriggerPolicy{WindowSeconds: 0.01}
	p, err := prediction.Open(context.Background(), prediction.Config{Functions: w, Manager: w, Policy: w.policyOf, Store: db, Clock: clock.System()})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range 300 {
				f := &hearth.Function{Account: account, Name: fmt.Sprint("f", i%5), Version: hearth.Latest, State: hearth.Active}
				inv := &hearth.Invocation{RequestID: fmt.Sprint(g, "-", i), Account: account, Name: f.Name, Function: f, Within: "c"}
				inv.TraceID = fmt.Sprintf("Root=1-%d;Lineage=%s|%s", i/2, hash(account, fmt.Sprint("f", (i+1)%5)), hash(account, f.Name))
				inv.Timeline.Begin(time.Now())
				w.mu.Lock()
				w.serving["c"] = inv
				for _, a := range w.asked {
					if a.Fate != nil {
						go a.Fate(manager.Fate{Hit: i%2 == 0, MiB: 1})
					}
				}
				w.asked = nil
				w.mu.Unlock()
				if p.Arrived(inv); i%3 == 0 {
					p.Accepted(inv)
				}
			}
		})
	}
	all.Go(func() {
		for i := range 30 {
			name := fmt.Sprint("t", i%3)
			run := ""
			if i%3 == 0 {
				run = "f0"
			}
			if _, err := p.SetTrigger(context.Background(), prediction.Trigger{Account: account, Name: name, Run: run, Functions: []string{"f1", "f2"}}); err != nil {
				t.Error(err)
			}
			for range 5 {
				if err := p.Fire(account, name); err != nil && run == "" {
					t.Error(err)
				}
			}
			if _, err := p.Hint(context.Background(), prediction.Hint{Account: account, Function: "f1", Count: 1, At: time.Now(), Until: time.Now().Add(5 * time.Millisecond)}); err != nil && hearth.KindOf(err) != hearth.TooManyRequests {
				t.Error(err)
			}
			p.Learned(account, "f1")
			if i%7 == 0 {
				p.Deleted(account, "f3")
				if err := p.RemoveTrigger(context.Background(), account, name); err != nil {
					t.Error(err)
				}
			}
		}
	})
	all.Wait()
	var late sync.WaitGroup
	late.Go(func() { p.Learned(account, "f1") })
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	late.Wait()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	time.Sleep(20 * time.Millisecond) // the last hints are over: nothing of them may touch what is closed
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}
