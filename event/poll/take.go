package poll

import (
	"context"
	"sync"
	"time"
)

// taker takes and gathers batches: one goroutine's part of a queueRun. There is
// one as long as the queue is read; of a queue that is Parallel there are more
// while there is much to take.
type taker struct {
	*queueRun
	over  []*Record     // taken and filtered, and too much for the batch before
	pause time.Duration // after the next error; 0 is the first since a take went well
}

// How long a take waits when there was nothing, and how many takers there are at
// most.
const (
	longTake   = 20 * time.Second
	mostTakers = 64
)

// read takes records and has them processed, until ctx ends or the queue cannot
// be taken from while nothing is at work: the queue is then to be opened anew, by
// which what is held may come again. It returns when nothing is held any more.
func (q *queueRun) read(ctx context.Context) error {
	keeping, stop := context.WithCancel(q.hard)
	var keeper sync.WaitGroup
	keeper.Go(func() { q.hold.keep(keeping) })
	taking, end := context.WithCancel(ctx)
	err := (&taker{queueRun: q}).loop(ctx, taking, true)
	end()
	q.taking.Wait()
	q.atWork.Wait()
	stop()
	keeper.Wait()
	return err
}

// loop takes and has processed what it took until taking ends or the queue cannot
// be taken from. A taker that is not the first ends, too, when it is given less
// than it asked for.
func (t *taker) loop(ctx, taking context.Context, first bool) error {
	defer func() { t.drop(t.over) }()
	busy := !first // the last take gave something
	for {
		// While there is much to do the place comes first, so that what waits
		// for one waits in the queue. When there is nothing, no place is held
		// for the time that this lasts.
		early := busy && t.settings.window == 0
		if err := t.room(taking, early, true); err != nil {
			return err
		}
		if early {
			if err := t.place(taking); err != nil {
				return err
			}
		}
		b, more, err := t.gather(taking, busy)
		if b == nil || err != nil {
			if early {
				t.places.release(t.m.Account, t.m.ID)
				t.end(nil)
			}
			if err != nil && first && t.goesOn(taking, err) {
				busy = false
				continue
			}
			if err != nil {
				return err
			}
			t.nothing(!busy)
			if !first {
				return nil
			}
			busy = false
			continue
		}
		if more {
			t.another(ctx, taking)
		}
		if !early {
			err := t.room(taking, true, false)
			if err == nil {
				err = t.place(taking)
			}
			if err != nil {
				t.drop(b.records)
				return err
			}
		}
		busy = true
		t.begin(ctx, b)
		if !first && !more {
			return nil
		}
	}
}

// goesOn waits until the queue, of which taking has failed, may be taken from
// again. It is false if there is no need for that since nothing is at work: then
// it is better opened anew. What is at work may be so for as long as a function
// runs, and nothing would be read meanwhile.
func (t *taker) goesOn(ctx context.Context, err error) bool {
	t.drop(t.over)
	t.over = nil
	t.pause = min(max(2*t.pause, firstPause), mostPause)
	over := make(chan struct{})
	timer := t.cfg.Clock.AfterFunc(t.pause, func() { close(over) })
	defer timer.Stop()
	for told := false; ; told = true {
		t.mu.Lock()
		working, change := t.batches > 0, t.change
		t.mu.Unlock()
		if !working || ctx.Err() != nil {
			return false
		}
		if !told {
			t.report("PROBLEM: " + sentence(err))
			t.log.Warn("an event source cannot be taken from; it will be tried again while what was taken is processed", "in", t.pause, "error", err)
		}
		select {
		case <-over:
			return true
		case <-change:
		case <-ctx.Done():
		}
	}
}

// another has one more taker, if the queue can be taken from at once and as many
// batches may be at work. As each that gets as much as it asks for has another,
// they double with each answer of the queue until there is less. An error of one
// ends it alone: one that lasts is the first's, too.
func (q *queueRun) another(ctx, taking context.Context) {
	if !q.traits.Parallel {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.others+1 >= min(q.pace.allowed(), mostTakers) {
		return
	}
	q.others++
	q.taking.Go(func() {
		err := (&taker{queueRun: q}).loop(ctx, taking, false)
		if err != nil && taking.Err() == nil {
			q.log.Warn("an event source failed one of those who take from it at once", "error", err)
		}
		q.mu.Lock()
		q.others--
		q.mu.Unlock()
	})
}

// gather takes a batch: nil if there is nothing to process. now: there was
// something a moment ago, so that an empty take need not wait. more: the queue
// gave all that it was asked for, so that there may be more.
func (t *taker) gather(ctx context.Context, now bool) (b *batch, more bool, err error) {
	wait := longTake
	if now {
		wait = 0
	}
	b, more = &batch{}, true
	for {
		if b.fill(&t.over, t.settings.batch) {
			break
		}
		if len(b.records) > 0 {
			// The wait for more is from the first record on.
			if wait = b.records[0].Taken.Add(t.settings.window).Sub(t.cfg.Clock.Now()); wait <= 0 {
				break
			}
		}
		asked := t.settings.batch - len(b.records)
		taken, err := t.queue.Take(ctx, asked, wait)
		if err == nil {
			t.pause = 0
		}
		more = len(taken) >= asked
		at := t.cfg.Clock.Now()
		if len(taken) > 0 {
			t.hold.add(taken)
			t.cfg.Metrics.taken(t.kind, len(taken))
			for _, r := range taken {
				if r.Taken.IsZero() {
					r.Taken = at
				}
			}
			kept, dropped := t.filters.keep(t.queue, taken)
			if len(dropped) > 0 {
				t.cfg.Metrics.count(t.kind, "filtered", len(dropped))
				t.ack(dropped)
			}
			t.over = append(t.over, kept...)
		}
		switch {
		case err != nil || ctx.Err() != nil:
			t.drop(b.records)
			if err == nil {
				err = ctx.Err()
			}
			return nil, false, err
		case len(taken) == 0 && len(b.records) == 0:
			return nil, false, nil
		}
	}
	b.ready = b.records[0].Taken
	if t.settings.window > 0 {
		// Until now it was its owner's wish that it wait.
		b.ready = t.cfg.Clock.Now()
	}
	return b, more || len(t.over) > 0, nil
}

// fill moves records from over into b, and tells whether b is full: of records
// or of bytes.
func (b *batch) fill(over *[]*Record, most int) bool {
	for i, r := range *over {
		if size := len(r.Body) + 1; len(b.records) == most || len(b.records) > 0 && b.bytes+size > MaxEvent-envelope {
			*over = (*over)[i:]
			return true
		} else {
			b.records, b.bytes = append(b.records, r), b.bytes+size
		}
	}
	*over = nil
	return len(b.records) == most
}
