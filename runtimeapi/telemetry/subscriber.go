package telemetry

import (
	"context"
	"sync"
	"time"

	"github.com/hearth-faas/hearth"
)

// backlogs is how many batches a subscriber's queue holds before it drops what
// is new: the one that is being delivered is not in it.
const backlogs = 2

// subscriber is one subscription with what waits for it.
type subscriber struct {
	*subscription
	name   string
	clock  hearth.Clock
	client client
	awake  chan struct{} // holds one; says that the loop has something to look at

	mu      sync.Mutex
	queue   [][]byte
	bytes   int
	oldest  time.Time // of the queue
	dropped int
	lost    int  // bytes of what was dropped
	busy    bool // a batch is being delivered
	hurry   bool // deliver what there is
	paused  bool
	timer   hearth.Timer
}

// add queues an event, or counts it as dropped. It never waits.
func (s *subscriber) add(e *event) {
	if !s.has(e) {
		return
	}
	b := s.render(e)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) >= backlogs*s.maxItems || s.bytes+len(b) > backlogs*s.maxBytes {
		s.dropped++
		s.lost += len(b)
		return
	}
	if len(s.queue) == 0 {
		s.oldest = s.clock.Now()
		s.alarm(s.timeout)
	}
	s.queue = append(s.queue, b)
	s.bytes += len(b)
	if len(s.queue) >= s.maxItems || s.bytes >= s.maxBytes || s.hurry {
		s.wake()
	}
}

// wake has the loop look.
func (s *subscriber) wake() {
	select {
	case s.awake <- struct{}{}:
	default:
	}
}

// alarm has the loop look when d has passed. mu is held.
func (s *subscriber) alarm(d time.Duration) {
	if s.timer == nil {
		s.timer = s.clock.AfterFunc(d, s.wake)
		return
	}
	s.timer.Reset(d)
}

// take returns the next batch, nil if it is not due yet.
func (s *subscriber) take() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.paused || len(s.queue) == 0 {
		return nil
	}
	due := len(s.queue) >= s.maxItems || s.bytes >= s.maxBytes || s.hurry
	if left := s.timeout - s.clock.Now().Sub(s.oldest); !due && left > 0 {
		s.alarm(left)
		return nil
	}
	n, size := 0, 0
	for n < len(s.queue) && n < s.maxItems && (n == 0 || size+len(s.queue[n]) <= s.maxBytes) {
		size += len(s.queue[n])
		n++
	}
	batch := append([][]byte(nil), s.queue[:n]...)
	s.queue = append(s.queue[:0:0], s.queue[n:]...)
	s.bytes -= size
	if s.oldest = s.clock.Now(); len(s.queue) > 0 {
		s.wake()
	}
	if s.dropped > 0 && s.wants(Platform) {
		batch = append(batch, s.render(&event{at: s.oldest, kind: "platform.logsDropped", record: marshal(droppedRecord{
			Reason: "Consumer seems to have fallen behind as it has not acknowledged receipt of logs.", Records: s.dropped, Bytes: s.lost,
		})}))
		s.dropped, s.lost = 0, 0
	}
	s.busy = true
	return batch
}

// The pause before a batch is tried again doubles from the one to the other.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 5 * time.Second
)

// run delivers batches until ctx ends.
func (s *subscriber) run(ctx context.Context) {
	defer s.client.close()
	for ctx.Err() == nil {
		batch := s.take()
		if batch == nil {
			select {
			case <-s.awake:
			case <-ctx.Done():
			}
			continue
		}
		for pause := firstPause; !s.deliver(ctx, batch); pause = min(2*pause, lastPause) {
			if ctx.Err() != nil {
				return
			}
			s.rest(ctx, pause)
		}
		s.mu.Lock()
		s.busy = false
		s.mu.Unlock()
	}
}

// deliver reports whether the subscriber has the batch.
func (s *subscriber) deliver(ctx context.Context, batch [][]byte) bool {
	s.mu.Lock()
	paused := s.paused
	s.mu.Unlock()
	return !paused && s.client.send(ctx, batch) == nil
}

// rest waits before another try: for a moment, and while there is a pause.
func (s *subscriber) rest(ctx context.Context, d time.Duration) {
	over := make(chan struct{})
	timer := s.clock.AfterFunc(d, func() { close(over) })
	defer timer.Stop()
	select {
	case <-over:
	case <-ctx.Done():
		return
	}
	for {
		s.mu.Lock()
		paused := s.paused
		s.mu.Unlock()
		if !paused {
			return
		}
		select {
		case <-s.awake:
		case <-ctx.Done():
			return
		}
	}
}

// pause stops delivery, or lets it go on.
func (s *subscriber) pause(paused bool) {
	s.mu.Lock()
	s.paused = paused
	s.mu.Unlock()
	if !paused {
		s.wake()
	}
}

// flush has everything that is queued delivered at once; and, if forever, all
// that comes.
func (s *subscriber) flush(forever bool) {
	s.mu.Lock()
	s.hurry = s.hurry || forever
	s.oldest = s.oldest.Add(-s.timeout)
	s.mu.Unlock()
	s.wake()
}

// idle reports whether nothing waits for delivery.
func (s *subscriber) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue) == 0 && !s.busy
}

// stop ends the timer.
func (s *subscriber) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
	}
}
