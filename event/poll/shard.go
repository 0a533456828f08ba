package poll

import (
	"context"
	"errors"
	"hash/fnv"
	"sync"
	"time"
)

// shardRun reads one shard in order. Its records go to lanes, by their groups:
// each lane processes its own in order, one batch at a time. The checkpoint
// passes a record when it and all before it are done.
type shardRun struct {
	*streamRun
	id     string
	reader Reader

	mu     sync.Mutex
	point  checkpoint // as far as everything is done
	stored checkpoint // what is on disk
	taken  []*item    // read and not passed, in order
	bytes  int        // of those
	lanes  [][]*item  // what each lane has to process
	change chan struct{}

	open *window // of tumbling windows; only the lane's
}

// item is a record on its way.
type item struct {
	*Record
	done bool
}

func newShardRun(s *streamRun, id string) *shardRun {
	return &shardRun{streamRun: s, id: id, lanes: make([][]*item, s.settings.parallel), change: make(chan struct{})}
}

// run reads the shard to its end, or until ctx ends.
func (s *shardRun) run(ctx context.Context) (err error) {
	if s.point, err = s.points.claim(ctx, s.id); err != nil || s.point.Ended {
		return err
	}
	s.stored = s.point
	if w := s.point.Window; w != nil {
		s.open = new(*w)
	}
	if s.reader, err = s.stream.Open(ctx, s.id, s.point.Position); err != nil {
		return err
	}
	defer func() {
		if cerr := s.reader.Close(); cerr != nil {
			s.log.Warn("a shard did not close well", "shard", s.id, "error", cerr)
		}
	}()
	outer := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	var work sync.WaitGroup
	for n := range s.lanes {
		work.Go(func() {
			if err := s.lane(ctx, n); err != nil {
				cancel(err)
			}
		})
	}
	saving, saved := context.WithCancel(s.hard)
	var saver sync.WaitGroup
	saver.Go(func() {
		if err := s.save(saving); err != nil {
			cancel(err)
		}
	})
	err = s.read(ctx)
	if err == nil {
		// The shard has ended; the lanes end with what they have.
		err = s.drained(ctx)
	}
	cancel(err)
	work.Wait()
	saved()
	saver.Wait()
	if serr := s.keep(s.hard); serr != nil && err == nil {
		err = serr
	}
	if cause := context.Cause(ctx); err == nil || errors.Is(err, context.Canceled) {
		err = cause
	}
	if s.ended() || outer.Err() != nil {
		return nil
	}
	return err
}

// read reads ahead as far as it may, until the shard ends.
func (s *shardRun) read(ctx context.Context) error {
	room := 2 * s.settings.batch * s.settings.parallel
	for {
		s.mu.Lock()
		free := room - len(s.taken)
		if s.bytes > 2*MaxEvent*s.settings.parallel {
			free = 0
		}
		change := s.change
		s.mu.Unlock()
		if free <= 0 {
			select {
			case <-change:
				continue
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		records, err := s.reader.Read(ctx, free, longTake)
		now := s.cfg.Clock.Now()
		if len(records) > 0 {
			s.take(records, now)
		}
		switch {
		case errors.Is(err, ErrEnd):
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return err
		}
	}
}

// take gives records to their lanes.
func (s *shardRun) take(records []*Record, now time.Time) {
	s.cfg.Metrics.taken(s.kind, len(records))
	kept, dropped := s.filters.keep(s.stream, records)
	s.cfg.Metrics.count(s.kind, "filtered", len(dropped))
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range records {
		if r.Taken.IsZero() {
			r.Taken = now
		}
		it := &item{Record: r, done: len(kept) == 0 || kept[0] != r}
		s.taken = append(s.taken, it)
		s.bytes += len(r.Body)
		if !it.done {
			kept = kept[1:]
			n := s.laneOf(r)
			s.lanes[n] = append(s.lanes[n], it)
		}
	}
	s.pass()
	s.changed()
}

func (s *shardRun) laneOf(r *Record) int {
	if len(s.lanes) == 1 {
		return 0
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(r.Group)) // it cannot fail
	return int(h.Sum32() % uint32(len(s.lanes)))
}

// pass moves the checkpoint over what is done. s.mu is held.
func (s *shardRun) pass() {
	n := 0
	for n < len(s.taken) && s.taken[n].done {
		s.point.Position = s.taken[n].Position
		s.bytes -= len(s.taken[n].Body)
		s.taken[n] = nil
		n++
	}
	s.taken = s.taken[n:]
}

func (s *shardRun) changed() {
	close(s.change)
	s.change = make(chan struct{})
}

// finish marks items as done.
func (s *shardRun) finish(items []*item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, it := range items {
		it.done = true
	}
	s.pass()
	if s.open != nil {
		s.point.Window = new(*s.open)
	}
	s.changed()
}

// drained waits until everything that was read is done.
func (s *shardRun) drained(ctx context.Context) error {
	for {
		s.mu.Lock()
		left, change := len(s.taken), s.change
		if left == 0 && s.point.Window == nil {
			s.point.Ended = true
		}
		ended := s.point.Ended
		s.mu.Unlock()
		if ended {
			return nil
		}
		select {
		case <-change:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// save stores the checkpoint whenever it has moved, one after the other, so that
// it costs one write at a time however fast the shard is read.
func (s *shardRun) save(ctx context.Context) error {
	for {
		s.mu.Lock()
		change := s.change
		s.mu.Unlock()
		if err := s.keep(ctx); err != nil && ctx.Err() == nil {
			if errors.Is(err, errFenced) {
				return err
			}
			s.log.Error("a checkpoint could not be stored; it will be tried again", "shard", s.id, "error", err)
			if sleep(ctx, s.cfg.Clock, time.Second) != nil {
				return nil
			}
			continue
		}
		select {
		case <-change:
		case <-ctx.Done():
			return nil
		}
	}
}

// keep stores the checkpoint if it has moved, and tells the source.
func (s *shardRun) keep(ctx context.Context) error {
	s.mu.Lock()
	point, stored := s.point, s.stored
	s.mu.Unlock()
	if point == stored {
		return nil
	}
	if err := s.points.save(ctx, s.id, point); err != nil {
		return err
	}
	s.mu.Lock()
	s.stored = point
	s.mu.Unlock()
	if point.Position == stored.Position {
		return nil
	}
	if err := s.reader.Commit(ctx, point.Position); err != nil && ctx.Err() == nil {
		s.log.Warn("the source could not be told how far its shard was processed", "shard", s.id, "error", err)
	}
	return nil
}

// ended tells whether the shard was read to its end.
func (s *shardRun) ended() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.point.Ended
}
