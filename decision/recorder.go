// Package decision keeps the records of what the system chose and why
// (hearth.Decision): the newest in memory, more of them in a log on disk
// which is bounded too and outlives the process.
//
// Recording costs a copy into memory that was set aside at the start. A
// goroutine in the background reads from there and writes the log; when the
// disk is slow or full, decisions are missing from the log, and counted, but
// nobody waits.
package decision

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
)

// Config is what a Recorder is made of. Clock is needed.
type Config struct {
	Clock hearth.Clock
	Log   *slog.Logger // of what goes wrong with the disk; nil is nowhere
	// Keep is how many decisions are kept in memory, rounded up to a power
	// of two. 0 is 8192, about 3 MiB.
	Keep int
	// Dir is the folder of the log, made if it is not there; "" is no log.
	Dir string
	// MaxBytes bounds the log on disk. 0 is 64 MiB.
	MaxBytes int64
	// FlushEvery is how long a decision may wait to be written. 0 is 100 ms.
	FlushEvery time.Duration
}

// Recorder is the hearth.Recorder. Safe for concurrent use.
type Recorder struct {
	clock hearth.Clock
	log   *slog.Logger
	start time.Time
	flush time.Duration
	ring  *ring
	disk  *segments // nil without a log; used by the writer, except its reading

	awake   atomic.Bool // the writer has work and will look for it
	wake    chan struct{}
	hurry   chan struct{} // half of the ring is unwritten
	written atomic.Uint64 // the last seq that the writer has seen to
	dropped atomic.Uint64

	listening atomic.Int32
	mu        sync.Mutex
	listeners map[chan struct{}]struct{}

	stop    chan struct{}
	closing sync.Once
	stopped sync.WaitGroup
	diskMu  sync.Mutex // one writes the disk at a time: the writer, or Flush
}

// Open makes a Recorder and reads back what the log in cfg.Dir ended with.
func Open(cfg Config) (*Recorder, error) {
	if cfg.Clock == nil {
		return nil, errors.New("decision: Config needs a Clock")
	}
	if cfg.Keep <= 0 {
		cfg.Keep = 8192
	}
	if cfg.MaxBytes <= 0 {
		cfg.MaxBytes = 64 << 20
	}
	if cfg.FlushEvery <= 0 {
		cfg.FlushEvery = 100 * time.Millisecond
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	r := &Recorder{
		clock: cfg.Clock, log: cfg.Log, start: cfg.Clock.Now(), flush: cfg.FlushEvery, ring: newRing(cfg.Keep),
		wake: make(chan struct{}, 1), hurry: make(chan struct{}, 1), listeners: map[chan struct{}]struct{}{}, stop: make(chan struct{}),
	}
	if cfg.Dir == "" {
		return r, nil
	}
	disk, err := openSegments(cfg.Dir, cfg.MaxBytes)
	if err != nil {
		return nil, fmt.Errorf("decision: the log in %s: %w", cfg.Dir, err)
	}
	r.disk = disk
	last, err := disk.tail(len(r.ring.slots))
	if err != nil {
		return nil, fmt.Errorf("decision: the log in %s: %w", cfg.Dir, err)
	}
	for i := range last {
		r.ring.restore(&last[i])
	}
	r.written.Store(r.ring.last())
	r.stopped.Go(r.write)
	return r, nil
}

// Record keeps a copy of d with the next Seq, and with At and Mono set where
// they are zero. It never blocks on the disk and allocates nothing; d's
// strings are kept as they are.
func (r *Recorder) Record(d *hearth.Decision) {
	now := d.At
	if now.IsZero() || d.Mono == 0 {
		now = r.clock.Now()
	}
	seq := r.ring.put(d, now, now.Sub(r.start))
	if r.disk != nil {
		if !r.awake.Load() && r.awake.CompareAndSwap(false, true) {
			poke(r.wake)
		}
		if seq-r.written.Load() >= uint64(len(r.ring.slots)/2) {
			poke(r.hurry)
		}
	}
	if r.listening.Load() > 0 {
		r.mu.Lock()
		for l := range r.listeners {
			poke(l)
		}
		r.mu.Unlock()
	}
}

// poke leaves a signal unless one is there already.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// write is the writer: it wakes when there is something, waits a moment for
// more to come, and writes it all at once. While nothing is recorded it costs
// nothing.
func (r *Recorder) write() {
	for {
		select {
		case <-r.wake:
		case <-r.stop:
			return
		}
		due := make(chan struct{})
		timer := r.clock.AfterFunc(r.flush, func() { close(due) })
		select {
		case <-due:
		case <-r.hurry:
			timer.Stop()
		case <-r.stop:
			timer.Stop()
			return
		}
		// Before looking, so that what comes later wakes the writer again.
		r.awake.Store(false)
		r.Flush()
	}
}

// Flush writes to the log what is not in it yet.
func (r *Recorder) Flush() {
	if r.disk == nil {
		return
	}
	r.diskMu.Lock()
	defer r.diskMu.Unlock()
	var d hearth.Decision
	for seq := r.written.Load() + 1; ; seq++ {
		switch r.ring.get(seq, &d) {
		case present:
			if r.disk.add(&d); r.disk.full() {
				r.commit()
			}
		case overwritten:
			r.dropped.Add(1)
		case absent:
			// Nobody has recorded it, or somebody is just about to: then he
			// wakes the writer, or has, and it is written the next time.
			r.commit()
			return
		}
		r.written.Store(seq)
	}
}

// commit writes what was added. What can't be written is dropped and counted.
func (r *Recorder) commit() {
	n, err := r.disk.commit(r.clock.Now())
	r.dropped.Add(uint64(n))
	if err != nil {
		r.log.Warn("decisions can't be written, and are kept in memory only", "error", err)
	}
}

// Close writes what is not in the log yet and ends the writer. What is
// recorded afterwards stays in memory only.
func (r *Recorder) Close() error {
	var err error
	r.closing.Do(func() {
		close(r.stop)
		r.stopped.Wait()
		if r.disk == nil {
			return
		}
		r.Flush()
		r.diskMu.Lock()
		defer r.diskMu.Unlock()
		err = r.disk.close()
	})
	return err
}

// Stats tells how much there is and what was lost.
type Stats struct {
	Recorded uint64 // the last Seq
	Dropped  uint64 // not written to the log: the disk failed or was too slow
	LogBytes int64  // on disk
}

// Stats returns the present numbers.
func (r *Recorder) Stats() Stats {
	s := Stats{Recorded: r.ring.last(), Dropped: r.dropped.Load()}
	if r.disk != nil {
		s.LogBytes = r.disk.Size()
	}
	return s
}

// Follow yields the decisions that fit f, in the order of Seq, from those
// recorded after since on, and goes on as they come until ctx ends. One that
// was overwritten before it could be yielded is left out; the gap in Seq
// shows it.
func (r *Recorder) Follow(ctx context.Context, since uint64, f Filter) iter.Seq[hearth.Decision] {
	return func(yield func(hearth.Decision) bool) {
		signal := make(chan struct{}, 1)
		r.mu.Lock()
		r.listeners[signal] = struct{}{}
		r.mu.Unlock()
		r.listening.Add(1)
		defer func() {
			r.listening.Add(-1)
			r.mu.Lock()
			delete(r.listeners, signal)
			r.mu.Unlock()
		}()
		var d hearth.Decision
		for seq := since + 1; ; {
			switch r.ring.get(seq, &d) {
			case present:
				if f.fits(&d) && !yield(d) {
					return
				}
				seq++
			case overwritten:
				seq = max(seq+1, r.ring.first())
			case absent:
				select {
				case <-signal:
				case <-ctx.Done():
					return
				}
			}
		}
	}
}

// Last is the Seq of the newest decision.
func (r *Recorder) Last() uint64 { return r.ring.last() }
