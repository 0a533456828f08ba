package poll

import (
	"context"
	"errors"
	"sync"
	"time"
)

// streamRun reads a mapping's stream: a shardRun for each shard that there is.
type streamRun struct {
	*run
	stream Stream
	points checkpoints
	slots  chan struct{} // one for each batch that may be at work
}

func newStreamRun(r *run, s Stream) *streamRun {
	return &streamRun{run: r, stream: s, points: checkpoints{r.cfg.Store, r.m.ID},
		slots: make(chan struct{}, max(min(r.settings.ceiling, r.cfg.Places), 1))}
}

// listEvery is how often the shards are listed.
const listEvery = 30 * time.Second

// read reads all shards until ctx ends, or one of them cannot be read any more.
// It returns when nothing is at work.
func (s *streamRun) read(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel(nil)
	running := map[string]context.CancelFunc{}
	for {
		shards, err := s.stream.Shards(ctx)
		if err != nil {
			return err
		}
		there := map[string]bool{}
		for _, shard := range shards {
			there[shard.ID] = true
			if running[shard.ID] != nil {
				continue
			}
			sctx, stop := context.WithCancel(ctx)
			running[shard.ID] = stop
			readers.Go(func() {
				if err := newShardRun(s, shard.ID).run(sctx); err != nil && sctx.Err() == nil {
					cancel(err)
				}
			})
		}
		for id, stop := range running {
			if !there[id] {
				stop()
				delete(running, id)
			}
		}
		if s.untilListed(ctx) != nil {
			return context.Cause(ctx)
		}
	}
}

// untilListed waits until the shards are to be listed again.
func (s *streamRun) untilListed(ctx context.Context) error {
	r, ok := s.stream.(Resharder)
	if !ok {
		return sleep(ctx, s.cfg.Clock, listEvery)
	}
	waiting, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		select {
		case <-r.Resharded():
			stop()
		case <-waiting.Done():
		}
	}()
	_ = sleep(waiting, s.cfg.Clock, listEvery) // it ended early: the shards are others
	return ctx.Err()
}

// place waits for one of the mapping's slots and one of the process's places.
func (s *streamRun) place(ctx context.Context) error {
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := s.places.acquire(ctx, s.m.Account, s.m.ID); err != nil {
		<-s.slots
		return err
	}
	s.cfg.Metrics.running(s.kind, 1)
	return nil
}

func (s *streamRun) leave() {
	s.cfg.Metrics.running(s.kind, -1)
	s.places.release(s.m.Account, s.m.ID)
	<-s.slots
}

// errStopped says that a shard is not read on since its mapping stops.
var errStopped = errors.New("the mapping stops")
