package backfill

import (
	"context"
	"encoding/json"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// numbers lists the first n numbers.
type numbers struct{ n int }

func (numbers) Steady() bool { return true }
func (numbers) Close() error { return nil }

func (s numbers) Page(_ context.Context, position string, most int) (items []Item, next string, err error) {
	at, err := offset(position)
	if err != nil {
		return nil, "", err
	}
	for ; int(at) < s.n && len(items) < most; at++ {
		id := "item-" + strconv.FormatInt(at, 10)
		items = append(items, Item{ID: id, Value: json.RawMessage(`{"path":"/srv/data/` + id + `","size":4096}`)})
	}
	if int(at) < s.n {
		return items, strconv.FormatInt(at, 10), nil
	}
	return items, "", nil
}

// TestAJobsMemoryDoesNotGrowWithItsItems runs a whole job, its database and its
// files of results among it; only the function is none. The bound is the same
// for a hundred thousand items and for ten million, which are the full form.
func TestAJobsMemoryDoesNotGrowWithItsItems(t *testing.T) {
	n := 100_000
	if testing.Short() {
		n = 10_000
	}
	patience := 5 * time.Minute
	if os.Getenv("HEARTH_SCENARIOS") == "full" {
		n, patience = 10_000_000, 3*time.Hour
	}
	const bound = 32 << 20
	w := newWorld(t)
	w.source = numbers{n}
	var called atomic.Int64
	w.call = func(ev callEvent) ([]byte, error) {
		called.Add(int64(len(ev.Items)))
		return nil, nil
	}
	w.open()
	w.Jobs.recentMost = recentMost
	before := inUse()
	began := time.Now()
	id := w.start(Spec{Parallel: 4, Batch: 500})
	most := int64(0)
	for {
		s, err := w.Status(account, id)
		if err != nil {
			t.Fatal(err)
		}
		if s.Status != Running {
			if s.Status != Finished || s.Succeeded != n {
				t.Fatalf("%+v", s)
			}
			break
		}
		if time.Since(began) > patience {
			t.Fatalf("after %v: %+v", patience, s)
		}
		most = max(most, inUse()-before) // what lives, not what waits to be collected
		time.Sleep(50 * time.Millisecond)
	}
	if most > bound {
		t.Errorf("%d items take %d MiB, which is more than %d", n, most>>20, bound>>20)
	}
	if called.Load() != int64(n) {
		t.Errorf("%d items were called for, of %d", called.Load(), n)
	}
	after := inUse() - before
	runtime.KeepAlive(w)
	t.Logf("%d items: %.1f MiB of memory at most, %.1f MiB after; %.0f items a second", n, float64(most)/(1<<20), float64(after)/(1<<20), float64(n)/time.Since(began).Seconds())
}
