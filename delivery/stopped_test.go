package delivery

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
)

// However much a stopped account has, it is in nobody's way, and all of it is
// delivered once the account goes on, also by another process.
func TestWhatAStoppedAccountHasWaitsAndIsInNobodysWay(t *testing.T) {
	w := newWorld()
	var mu sync.Mutex
	stopped := true
	open := func() *Queue {
		q := w.queue()
		q.cfg.Stopped = func(a hearth.Account) bool {
			mu.Lock()
			defer mu.Unlock()
			return stopped && a == "111111111111"
		}
		return q
	}
	const flood = 3 * aside
	for range flood {
		w.put(t, to(away, "held"))
	}
	other := to(away, "other")
	other.Account = "222222222222"
	w.put(t, other)
	q := open()
	for range 100 {
		q.Settle()
		w.clock.Advance(time.Second)
	}
	if w.got[away+" other"] != 1 || w.got[away+" held"] != 0 {
		t.Fatalf("came %v", w.got)
	}
	w.clock.Advance(48 * time.Hour) // older than they may become
	mu.Lock()
	stopped = false
	mu.Unlock()
	q = open()
	q.resumeAll()
	failures := 1
	w.errs = func(*Delivery) error {
		if failures--; failures >= 0 {
			return errors.New("once")
		}
		return nil
	}
	for range 1000 {
		q.Settle()
		w.clock.Advance(time.Second)
		if w.got[away+" held"] == flood {
			break
		}
	}
	if n := w.got[away+" held"]; n != flood || left(t, w) != 0 {
		t.Fatalf("%d of %d came, %d are left", n, flood, left(t, w))
	}
}
