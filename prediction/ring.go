package prediction

import (
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
)

// observation is that an invocation has come.
type observation struct {
	function  *hearth.Function
	qualifier string // as it was asked for
	request   string
	trace     string // the trace header, lengthened by the function itself
	at        time.Time
	// caller is the invocation that the container served from which this one
	// came; "" if it came from elsewhere, or that is not known.
	caller string
	// accepted: it was not run yet, but stored; its attempts will come under the
	// same request id.
	accepted bool
}

// ringSize is how many observations wait at most. A power of two.
const ringSize = 2048

// ring is a bounded queue with many writers and one reader, none of which ever
// waits for another: a writer claims a cell by its number, and publishes it by
// the cell's own.
type ring struct {
	cells   [ringSize]cell
	tail    atomic.Uint64
	head    uint64 // the reader's
	asleep  atomic.Bool
	wake    chan struct{} // holds one
	dropped atomic.Uint64
}

// cell's turn is n when it is free for the nth entry, and n+1 when it has it.
type cell struct {
	turn atomic.Uint64
	o    observation
}

func newRing() *ring {
	r := &ring{wake: make(chan struct{}, 1)}
	for i := range r.cells {
		r.cells[i].turn.Store(uint64(i))
	}
	return r
}

// push adds o, or drops it if the ring is full.
func (r *ring) push(o observation) {
	for {
		n := r.tail.Load()
		c := &r.cells[n%ringSize]
		switch turn := c.turn.Load(); {
		case turn == n:
			if !r.tail.CompareAndSwap(n, n+1) {
				continue
			}
			c.o = o
			c.turn.Store(n + 1)
			if r.asleep.Load() && r.asleep.CompareAndSwap(true, false) {
				r.wake <- struct{}{}
			}
			return
		case turn < n:
			r.dropped.Add(1)
			return
		}
	}
}

// pop takes the oldest; ok is false if there is none.
func (r *ring) pop() (o observation, ok bool) {
	c := &r.cells[r.head%ringSize]
	if c.turn.Load() != r.head+1 {
		return o, false
	}
	o, c.o = c.o, observation{}
	c.turn.Store(r.head + ringSize)
	r.head++
	return o, true
}

// sleep has the next push wake the reader. It reports false if there is
// something already.
func (r *ring) sleep() bool {
	r.asleep.Store(true)
	if r.cells[r.head%ringSize].turn.Load() != r.head+1 {
		return true
	}
	if !r.asleep.CompareAndSwap(true, false) {
		<-r.wake // somebody was quicker to wake us
	}
	return false
}
