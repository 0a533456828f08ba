package fleet

import (
	"sync"
	"sync/atomic"

	"github.com/hearth-faas/hearth"
)

// queue holds the invocations of a fleet for which no node has room, the
// oldest first. A node that gets room takes from it what it can serve, so that
// who has waited longest is served by whoever is free first, and no node is
// given more than it can do.
type queue struct {
	n  atomic.Int32 // how many wait; looked at without the lock
	mu sync.Mutex
	of []*waiter
}

type waiter struct {
	f    *hearth.Function
	mib  int
	took chan *Member // of one; whoever sends has taken the room
}

func (q *queue) add(w *waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.of = append(q.of, w)
	q.n.Add(1)
}

// remove takes w out; false if a node took it already.
func (q *queue) remove(w *waiter) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, x := range q.of {
		if x == w {
			q.of = append(q.of[:i], q.of[i+1:]...)
			q.n.Add(-1)
			return true
		}
	}
	return false
}

// takeFor has m take what it has room for.
func (q *queue) takeFor(m *Member) {
	if q.n.Load() == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	kept := q.of[:0]
	for _, w := range q.of {
		if m.serves(w.f, w.mib) && m.enter(w.mib) {
			q.n.Add(-1)
			w.took <- m
			continue
		}
		kept = append(kept, w)
	}
	clear(q.of[len(kept):])
	q.of = kept
}
