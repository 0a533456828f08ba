package market

import (
	"sync"
	"time"

	"github.com/hearth-faas/hearth"
)

// Timing decides when asynchronous invocations that wait for a better time are
// started: it has what is known of the price, and what it was lately. Safe for
// concurrent use.
type Timing struct {
	Delay Delay
	// Room is how much memory there is of fixed or variable capacity, and how
	// much of it is promised.
	Room func(hearth.CapacityKind) (capacityMiB, committedMiB int)

	mu    sync.Mutex
	known State
	seen  Prices
}

// Note says what is known from now on.
func (t *Timing) Note(now time.Time, s State) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.known = s
	if s.Fresh {
		t.seen.Note(now, s.Price)
	}
}

// Holds tells whether a function's asynchronous invocations may have to wait.
func (t *Timing) Holds(p *hearth.CapacityPolicy) bool {
	return p.Delay() > 0 || p.Variable() && p.Short(hearth.CapacityVariable) == "wait"
}

// Start decides for the one that was accepted first, while running of its
// function are at work. It uses mib MiB. What only waits for variable capacity
// does so for maxAge.
func (t *Timing) Start(p *hearth.CapacityPolicy, mib, running int, accepted time.Time, maxAge time.Duration, now time.Time) Start {
	w := Waiting{Accepted: accepted, Variable: p.Variable(), MaxPrice: p.MaxPrice, Below: p.DelayBelow, Running: running}
	fixed, used := t.Room(hearth.CapacityFixed)
	w.FixedUse = float64(used) / float64(max(fixed, 1))
	room := fixed
	if w.Variable {
		room, _ = t.Room(hearth.CapacityVariable)
	}
	w.Room = room / max(mib, 1)
	t.mu.Lock()
	defer t.mu.Unlock()
	if p.Delay() == 0 {
		w.Latest = accepted.Add(maxAge)
		return Wait(w, t.known, now)
	}
	w.Latest = accepted.Add(p.Delay())
	return t.Delay.Decide(w, t.known, &t.seen, now)
}
