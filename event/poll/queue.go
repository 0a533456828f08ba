package poll

import (
	"context"
	"sync"

	"github.com/hearth-faas/hearth"
)

// queueRun reads a mapping's queue: takers gather batches, and one goroutine a
// batch processes it.
type queueRun struct {
	*run
	queue  Queue
	traits Traits
	hold   *hold

	mu      sync.Mutex
	pace    *pace
	running int           // batches at work
	batches int           // those, and what waits to be tried again of others
	waiting int           // records that failed and wait to be tried again
	refused int           // batches of those that were refused: as long as there are any nothing is taken
	short   bool          // since there was nothing to take, something had to wait for the pace's limit
	others  int           // takers beside the first
	change  chan struct{} // closed when there may be room
	taking  sync.WaitGroup
	atWork  sync.WaitGroup
}

func newQueueRun(r *run, q Queue) *queueRun {
	if !q.Traits().Redelivers && r.m.Settings.MaxRetries == nil {
		r.settings.tries = defaultTries
	}
	return &queueRun{run: r, queue: q, traits: q.Traits(), hold: newHold(r, q),
		pace: newPace(r.settings.least, min(r.settings.ceiling, r.cfg.Places)), change: make(chan struct{})}
}

// defaultTries is how often a record is tried whose mapping cannot say how often
// it may be, and whose queue does not count.
const defaultTries = 10

// mostWaiting is how many failed records may wait in memory.
const mostWaiting = 1000

// place waits for one of the process's places for a batch that is counted as at
// work.
func (q *queueRun) place(ctx context.Context) error {
	err := q.places.acquire(ctx, q.m.Account, q.m.ID)
	if err != nil {
		q.end(nil)
	}
	return err
}

// room waits until another batch may be at work, and counts it if it is to
// begin. To take more, there must be nothing that was refused either, and not
// too much that failed.
func (q *queueRun) room(ctx context.Context, begin, more bool) error {
	for {
		q.mu.Lock()
		stuck := more && (q.waiting >= mostWaiting || q.refused > 0)
		if q.running < q.pace.allowed() && !stuck && ctx.Err() == nil {
			if begin {
				q.running++
				q.cfg.Metrics.running(q.kind, 1)
			}
			q.mu.Unlock()
			return nil
		}
		change := q.change
		q.short = q.short || !stuck
		q.mu.Unlock()
		if stuck {
			select {
			case <-change:
			case <-ctx.Done():
			}
		} else if !q.stalled(ctx, change) {
			q.mu.Lock()
			q.paced(q.pace.stalled(q.cfg.Clock.Now(), q.cfg.Pressed()))
			q.mu.Unlock()
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// stalled waits for a change, and is false if there is none for stallTime.
func (q *queueRun) stalled(ctx context.Context, change chan struct{}) bool {
	late := make(chan struct{})
	t := q.cfg.Clock.AfterFunc(stallTime, func() { close(late) })
	defer t.Stop()
	select {
	case <-change:
		return true
	case <-ctx.Done():
		return true
	case <-late:
		return false
	}
}

func (q *queueRun) changed() {
	close(q.change)
	q.change = make(chan struct{})
}

// end counts a batch out, and tells the pace of it unless nothing is to be
// learned.
func (q *queueRun) end(e *ending) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e != nil {
		e.full, e.pressed = q.short || q.running >= q.pace.allowed(), q.cfg.Pressed()
		q.paced(q.pace.ended(*e, q.cfg.Clock.Now()))
	}
	q.running--
	q.cfg.Metrics.running(q.kind, -1)
	q.changed()
}

// nothing notes that there was nothing to take; for a while, which the pace is
// told of, or only at the moment.
func (q *queueRun) nothing(idle bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.short = false
	if idle {
		q.pace.idle(q.cfg.Clock.Now())
	}
}

// paced records that the pace is another. q.mu is held.
func (q *queueRun) paced(why string) {
	if why != "" {
		q.changed()
		q.decide("pace", why, q.pace.allowed())
	}
}

// begin has a batch processed that is counted as at work, and has its place.
func (q *queueRun) begin(ctx context.Context, b *batch) {
	q.mu.Lock()
	q.batches++
	q.mu.Unlock()
	q.atWork.Go(func() {
		q.process(ctx, b)
		q.mu.Lock()
		defer q.mu.Unlock()
		q.batches--
		q.changed()
	})
}

// process runs a batch, in its place, to the end of all its records.
func (q *queueRun) process(ctx context.Context, b *batch) {
	todo := []*batch{b}
	counted := true // in running, with a place
	for len(todo) > 0 {
		b := todo[0]
		todo = todo[1:]
		if !counted {
			if !q.again(ctx, b) {
				q.giveUp(append([]*batch{b}, todo...))
				return
			}
		}
		if late := q.late(b); late != nil {
			q.places.release(q.m.Account, q.m.ID)
			counted = false
			q.end(nil)
			q.lost(late, outcome{}, "RecordAgeExceeded")
			if len(b.records) > 0 {
				b.pause = 0
				todo = append(todo, b)
			}
			continue
		}
		o := q.attempt(q.queue, b, nil)
		q.places.release(q.m.Account, q.m.ID)
		counted = false
		q.learn(o)
		switch o.fate {
		case abandoned:
			q.giveUp(append([]*batch{b}, todo...))
			return
		case refused:
			q.report("PROBLEM: " + o.answer)
			b.pause = backoff(b.refusals)
			b.refusals++
			todo = append(todo, b)
		case processed:
			q.done(b.records)
		case failed, unfit:
			q.report("PROBLEM: Function call failed")
			todo = append(todo, q.failed(b, o)...)
		}
	}
}

// learn counts the batch out of those at work.
func (q *queueRun) learn(o outcome) {
	e := &ending{throttled: o.throttled}
	switch {
	case o.fate == processed || o.fate == failed:
		e.waited, e.took = waited(o.inv), o.inv.Timeline.Spent[hearth.StageRun]
	case !o.throttled:
		e = nil
	}
	q.end(e)
}

// again waits until b is to be tried again, and has its place; false is that
// the mapping stops.
func (q *queueRun) again(ctx context.Context, b *batch) bool {
	q.mu.Lock()
	refused := 0
	if b.refusals > 0 {
		refused = 1
	}
	q.waiting += len(b.records)
	q.refused += refused
	q.mu.Unlock()
	defer func() {
		q.mu.Lock()
		q.waiting -= len(b.records)
		q.refused -= refused
		q.changed()
		q.mu.Unlock()
	}()
	if b.pause > 0 && sleep(ctx, q.cfg.Clock, b.pause) != nil {
		return false
	}
	// What is tried again may not go beyond what is allowed either.
	if q.room(ctx, true, false) != nil || q.place(ctx) != nil {
		return false
	}
	b.ready = q.cfg.Clock.Now()
	return true
}

// done acknowledges what was processed.
func (q *queueRun) done(records []*Record) {
	if len(records) == 0 {
		return
	}
	q.cfg.Metrics.count(q.kind, "processed", len(records))
	q.ack(records)
	q.report("OK")
}

// ackTries is how often an acknowledgement is tried. If it fails in the end the
// records come again, which is what at least once means.
const ackTries = 5

func (q *queueRun) ack(records []*Record) {
	q.hold.ending(records)
	var err error
	for i := range ackTries {
		if err = q.queue.Ack(q.hard, records); err == nil || q.hard.Err() != nil {
			break
		}
		if sleep(q.hard, q.cfg.Clock, backoff(i)) != nil {
			break
		}
	}
	if err != nil {
		q.log.Warn("processed records could not be acknowledged; they will come again", "records", len(records), "error", err)
	}
	q.hold.remove(records)
}

// drop gives back records that nothing was run with.
func (q *queueRun) drop(records []*Record) { q.release(records, Unused) }

func (q *queueRun) release(records []*Record, why Reason) {
	if len(records) == 0 {
		return
	}
	q.hold.remove(records)
	if err := q.queue.Release(q.hard, records, why); err != nil && q.hard.Err() == nil {
		q.log.Warn("records could not be given back; they come again when the source finds out", "records", len(records), "error", err)
	}
}

// giveUp gives back batches since the mapping stops.
func (q *queueRun) giveUp(batches []*batch) {
	for _, b := range batches {
		q.drop(b.records)
	}
}

// failed takes what a failed attempt leaves: it acknowledges what was processed
// all the same, and returns what is to be tried again here.
func (q *queueRun) failed(b *batch, o outcome) []*batch {
	left := o.failed
	if o.fate == unfit {
		left = b.records
	}
	q.done(without(b.records, left))
	if q.traits.Redelivers && (o.fate != unfit || len(left) == 1) {
		q.cfg.Metrics.count(q.kind, "failed", len(left))
		q.release(left, Failed)
		return nil
	}
	var again []*batch
	for _, n := range q.split(b, left, o, true) {
		if reason := q.exhausted(n, o); reason != "" {
			q.lost(n, o, reason)
			continue
		}
		n.pause = backoff(n.attempts)
		q.cfg.Metrics.count(q.kind, "retried", len(n.records))
		again = append(again, n)
	}
	return again
}

// lost parks a batch and lets go of it.
func (q *queueRun) lost(b *batch, o outcome, reason string) {
	if !q.park(q.queue, b, "", reason, o) {
		q.drop(b.records) // the process stops; it comes again, and is parked then
		return
	}
	q.ack(b.records)
}

// without is records less those that are gone, both in the same order.
func without(records, gone []*Record) (rest []*Record) {
	for _, r := range records {
		if len(gone) > 0 && gone[0] == r {
			gone = gone[1:]
			continue
		}
		rest = append(rest, r)
	}
	return rest
}
