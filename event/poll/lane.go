package poll

import (
	"context"
	"time"
)

// lane processes what comes to lane n until ctx ends.
func (s *shardRun) lane(ctx context.Context, n int) error {
	for {
		var items []*item
		var err error
		if s.settings.tumbling > 0 {
			items, err = s.tumble(ctx)
		} else {
			items, err = s.gather(ctx, n, time.Time{}, func(*item) bool { return true })
		}
		if err != nil {
			return nil // ctx has ended; what it ended for is known
		}
		if err := s.process(ctx, items); err != nil {
			return err
		}
	}
}

// gather waits for a batch of lane n: as many records as fit, which fits all
// say so, and no more than the batching window after the first. With until it
// returns at that time with what there is, be it nothing.
func (s *shardRun) gather(ctx context.Context, n int, until time.Time, fits func(*item) bool) ([]*item, error) {
	for {
		s.mu.Lock()
		lane, change := s.lanes[n], s.change
		count, bytes, full := 0, 0, false
		for _, it := range lane {
			size := len(it.Body) + 1
			if count == s.settings.batch || count > 0 && bytes+size > MaxEvent-envelope || !fits(it) {
				full = true
				break
			}
			count, bytes = count+1, bytes+size
		}
		full = full || count == s.settings.batch
		now := s.cfg.Clock.Now()
		wait := longTake
		if !until.IsZero() {
			wait = min(wait, until.Sub(now))
			full = full || wait <= 0
		}
		if count > 0 {
			rest := lane[0].Taken.Add(s.settings.window).Sub(now)
			wait = min(wait, rest)
			full = full || rest <= 0
		}
		if full && ctx.Err() == nil {
			items := lane[:count:count]
			s.lanes[n] = lane[count:]
			s.mu.Unlock()
			return items, nil
		}
		s.mu.Unlock()
		timer := make(chan struct{})
		t := s.cfg.Clock.AfterFunc(wait, func() { close(timer) })
		select {
		case <-change:
		case <-timer:
		case <-ctx.Done():
		}
		t.Stop()
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
}

// process brings a batch to its end: one part after the other, in order.
func (s *shardRun) process(ctx context.Context, items []*item) error {
	b := &batch{ready: s.cfg.Clock.Now()}
	of := make(map[*Record]*item, len(items))
	for _, it := range items {
		b.records = append(b.records, it.Record)
		of[it.Record] = it
	}
	if s.settings.window == 0 && len(items) > 0 {
		b.ready = items[0].Taken
	}
	done := func(records []*Record) {
		passed := make([]*item, len(records))
		for i, r := range records {
			passed[i] = of[r]
		}
		s.finish(passed)
	}
	todo := []*batch{b}
	for len(todo) > 0 {
		b := todo[0]
		if b.pause > 0 && sleep(ctx, s.cfg.Clock, b.pause) != nil {
			return errStopped
		}
		if late := s.late(b); late != nil {
			if !s.park(s.stream, late, s.id, "RecordAgeExceeded", outcome{}) {
				return errStopped
			}
			done(late.records)
			if len(b.records) == 0 {
				todo = todo[1:]
				continue
			}
		}
		if err := s.place(ctx); err != nil {
			return errStopped
		}
		if b.pause > 0 {
			b.ready = s.cfg.Clock.Now()
		}
		o := s.try(b)
		s.leave()
		switch o.fate {
		case abandoned:
			return errStopped
		case refused:
			s.report("PROBLEM: " + o.answer)
			b.pause = backoff(b.refusals)
			b.refusals++
		case processed:
			s.cfg.Metrics.count(s.kind, "processed", len(b.records))
			s.report("OK")
			done(b.records)
			todo = todo[1:]
		case failed, unfit:
			s.report("PROBLEM: Function call failed")
			next, passed, err := s.failed(b, o)
			done(passed)
			if err != nil {
				return err
			}
			todo = append(next, todo[1:]...)
		}
	}
	return nil
}

// failed takes what a failed attempt leaves: what is to be tried again, in order,
// and what is done with, be it processed or parked.
func (s *shardRun) failed(b *batch, o outcome) (next []*batch, passed []*Record, err error) {
	left := b.records
	if o.fate == failed && len(o.failed) > 0 {
		// The order of a shard says: again from the first that failed on.
		for i, r := range b.records {
			if r == o.failed[0] {
				passed, left = b.records[:i:i], b.records[i:]
				break
			}
		}
	}
	s.cfg.Metrics.count(s.kind, "processed", len(passed))
	for _, n := range s.split(b, left, o, s.settings.bisect) {
		if reason := s.exhausted(n, o); reason != "" {
			if !s.park(s.stream, n, s.id, reason, o) {
				return nil, passed, errStopped
			}
			passed = append(passed, n.records...)
			continue
		}
		n.pause = backoff(n.attempts)
		s.cfg.Metrics.count(s.kind, "retried", len(n.records))
		next = append(next, n)
	}
	return next, passed, nil
}
