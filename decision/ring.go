package decision

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
)

// ring holds the newest decisions. Each slot has a lock of its own, so that
// those who record meet only those who read the very same slot.
type ring struct {
	slots []ringSlot
	mask  uint64
	seq   atomic.Uint64 // the last that was given
}

type ringSlot struct {
	mu sync.Mutex
	d  hearth.Decision // Seq 0: never used
}

func newRing(keep int) *ring {
	n := 1 << bits.Len(uint(max(keep, 2)-1))
	return &ring{slots: make([]ringSlot, n), mask: uint64(n - 1)}
}

// put stores a copy of d under the next seq, which it returns.
func (r *ring) put(d *hearth.Decision, at time.Time, mono time.Duration) uint64 {
	seq := r.seq.Add(1)
	s := &r.slots[seq&r.mask]
	s.mu.Lock()
	// A recorder that was overtaken by a whole round of the ring leaves the
	// slot to the newer decision.
	if s.d.Seq < seq {
		s.d = *d
		s.d.Seq = seq
		if s.d.At.IsZero() {
			s.d.At = at
		}
		if s.d.Mono == 0 {
			s.d.Mono = mono
		}
	}
	s.mu.Unlock()
	return seq
}

// restore stores a decision that was recorded in an earlier run. They come in
// order, before any put.
func (r *ring) restore(d *hearth.Decision) {
	r.slots[d.Seq&r.mask].d = *d
	r.seq.Store(d.Seq)
}

type presence int

const (
	absent      presence = iota // not recorded yet
	present                     // copied
	overwritten                 // by one that is a round of the ring newer
)

// get copies the decision with the given seq to d.
func (r *ring) get(seq uint64, d *hearth.Decision) presence {
	s := &r.slots[seq&r.mask]
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.d.Seq == seq:
		*d = s.d
		return present
	case s.d.Seq > seq:
		return overwritten
	}
	return absent
}

func (r *ring) last() uint64 { return r.seq.Load() }

// first is the oldest seq that may still be there.
func (r *ring) first() uint64 {
	if last := r.last(); last > uint64(len(r.slots)) {
		return last - uint64(len(r.slots)) + 1
	}
	return 1
}
