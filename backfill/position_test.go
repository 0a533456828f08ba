package backfill

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"testing"

	"github.com/hearth-faas/hearth/store"
)

// heldStore holds one transaction back, and tells of the next that is on disk.
type heldStore struct {
	store.Store
	hold          atomic.Bool
	held, release chan struct{}
	passed        chan struct{}
}

func (h *heldStore) Update(ctx context.Context, do func(store.Tx) error) error {
	if h.hold.CompareAndSwap(true, false) {
		close(h.held)
		<-h.release
		return h.Store.Update(ctx, do)
	}
	err := h.Store.Update(ctx, do)
	select {
	case <-h.held:
		select {
		case h.passed <- struct{}{}:
		default:
		}
	default:
	}
	return err
}

// heldNumbers has what is found on the second page held back.
type heldNumbers struct {
	numbers
	store *heldStore
}

func (s heldNumbers) Page(ctx context.Context, position string, most int) (items []Item, next string, err error) {
	if position == "1000" {
		s.store.hold.Store(true)
	}
	return s.numbers.Page(ctx, position, most)
}

// A call may end while a page is being written: a kill at that moment must not
// leave the position after the page without the page's items.
func TestThePositionIsNeverOnDiskBeforeItsItems(t *testing.T) {
	w := newWorld(t)
	held := &heldStore{Store: w.store, held: make(chan struct{}), release: make(chan struct{}), passed: make(chan struct{}, 1)}
	w.store, w.source = held, heldNumbers{numbers{3000}, held}
	calls := make(chan struct{})
	var called atomic.Int64
	w.call = func(ev callEvent) ([]byte, error) {
		<-calls
		called.Add(int64(len(ev.Items)))
		return nil, nil
	}
	w.open()
	id := w.start(Spec{Parallel: 4, Batch: 500})
	<-held.held  // the second page is about to be written
	close(calls) // and calls end
	<-held.passed
	var rec record
	err := held.View(t.Context(), func(r store.Reader) error {
		b, _, err := r.Get(jobsBucket, id)
		if err != nil {
			return err
		}
		return json.Unmarshal(b, &rec)
	})
	if err != nil || rec.Position != "1000" {
		t.Errorf("on disk is the position %q, with the items before 1000 alone; %v", rec.Position, err)
	}
	close(held.release)
	w.until(id, func(s Status) bool { return s.Status == Finished && s.Succeeded == 3000 })
	if called.Load() != 3000 {
		t.Errorf("%d items were called for", called.Load())
	}
}
