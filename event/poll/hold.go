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
	held map[*Record]held
}

type held struct {
	at     time.Time // when it was last taken or extended
	ending bool      // it is being acknowledged, so that it may be gone already
}

func newHold(r *run, q Queue) *hold {
	return &hold{run: r, queue: q, every: q.Traits().Hold / 3, held: map[*Record]held{}}
}

func (h *hold) add(records []*Record) {
	now := h.run.cfg.Clock.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range records {
		h.held[r] = held{at: now}
	}
}

// ending notes that records are being acknowledged: they are kept on until
// remove, but that they are gone is no surprise.
func (h *hold) ending(records []*Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range records {
		if of, ok := h.held[r]; ok {
			of.ending = true
			h.held[r] = of
		}
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
		for r, of := range h.held {
			if now.Sub(of.at) >= h.every/2 {
				of.at = now
				h.held[r] = of
				due = append(due, r)
			}
		}
		h.mu.Unlock()
		h.extend(ctx, due)
	}
}

// extend extends records. If that fails while some of them are let go of, it is
// tried again with the rest: only what is lost though it is needed is told.
func (h *hold) extend(ctx context.Context, due []*Record) {
	for len(due) > 0 {
		err := h.queue.Extend(ctx, due)
		if err == nil || ctx.Err() != nil {
			return
		}
		var rest []*Record
		h.mu.Lock()
		for _, r := range due {
			if of, ok := h.held[r]; ok && !of.ending {
				rest = append(rest, r)
			}
		}
		h.mu.Unlock()
		if len(rest) == len(due) {
			h.run.log.Warn("records could not be kept held; they may be processed twice", "records", len(due), "error", err)
			return
		}
		due = rest
	}
}
