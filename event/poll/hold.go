package poll

import (
	"context"
	"sync"
	"time"
)

// hold keeps a queue's taken records held: until they are let go it extends
// them each third of Traits.Hold. Safe for concurrent use.
type hold struct {
	run   *run
	queue Queue
	every time.Duration // 0: nothing has to be done

	mu   sync.Mutex
	held map[*Record]time.Time // when each was last taken or extended
}

func newHold(r *run, q Queue) *hold {
	return &hold{run: r, queue: q, every: q.Traits().Hold / 3, held: map[*Record]time.Time{}}
}

func (h *hold) add(records []*Record) {
	now := h.run.cfg.Clock.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range records {
		h.held[r] = now
	}
}

func (h *hold) remove(records []*Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range records {
		delete(h.held, r)
	}
}

// keep extends what is held until ctx ends.
func (h *hold) keep(ctx context.Context) {
	if h.every <= 0 {
		return
	}
	for sleep(ctx, h.run.cfg.Clock, h.every/2) == nil {
		now := h.run.cfg.Clock.Now()
		var due []*Record
		h.mu.Lock()
		for r, at := range h.held {
			if now.Sub(at) >= h.every/2 {
				h.held[r] = now
				due = append(due, r)
			}
		}
		h.mu.Unlock()
		if len(due) == 0 {
			continue
		}
		if err := h.queue.Extend(ctx, due); err != nil && ctx.Err() == nil {
			h.run.log.Warn("records could not be kept held; they may be processed twice", "records", len(due), "error", err)
		}
	}
}
