package manager

import (
	"slices"
	"sync"

	"github.com/hearth-faas/hearth"
)

// group is everything that runs, or wants to run, the same code and
// configuration: the containers of one Key and the invocations that wait for
// one. Its lock is the only one on the warm path.
type group struct {
	key  hearth.Key
	fn   *hearth.Function // of the first invocation; equal keys run the same thing
	boot hearth.Boot
	mib  int
	// What the warming pool has of the function's boot, and of none.
	exact, blank *shelf

	mu      sync.Mutex
	volume  Volume
	idle    []*container // a stack, so that what is not needed ages at the bottom
	busy    int
	waiters []*waiter // first come, first served
	// making counts the containers being made. It is raised only to the
	// number of waiters, so that there are never more environments than
	// invocations at the busiest moment.
	making int
	// parked are those of them that wait for memory or for a retry. The
	// others are at work and cannot be called off.
	parked  []*parked
	retired bool // replaced or deleted: nothing stays idle
	dead    bool // removed from the index: look it up again
}

// waiter is an invocation that waits for a container.
type waiter struct {
	ch chan grant // holds one
}

// grant is what a waiter is given: a busy container that is now its own, or
// why there is none.
type grant struct {
	c    *container
	err  error
	path hearth.Path
	why  string
	knew hearth.Knowledge
	made *hearth.Timeline // of a new container: what its making took
}

// parked is a maker that waits. quit is closed when it is called off.
type parked struct{ quit chan struct{} }

// pop takes the container that was used last, or returns nil. Those that
// somebody else has claimed meanwhile, or that have died, are dropped; who
// claims a container sees to its end.
func (g *group) pop() *container {
	for n := len(g.idle); n > 0; n-- {
		c := g.idle[n-1]
		g.idle[n-1] = nil
		g.idle = g.idle[:n-1]
		if c.died() {
			// The watcher of its death claims it, now or in a moment.
			continue
		}
		if c.move(idle, busy) {
			return c
		}
	}
	return nil
}

// remove takes a container that was claimed from the stack.
func (g *group) remove(c *container) {
	if i := slices.Index(g.idle, c); i >= 0 {
		g.idle = slices.Delete(g.idle, i, i+1)
	}
}

// next takes the first waiter, or returns nil.
func (g *group) next() *waiter {
	if len(g.waiters) == 0 {
		return nil
	}
	w := g.waiters[0]
	g.waiters[0] = nil
	g.waiters = g.waiters[1:]
	return w
}

// pooled counts the warming pool's ready instances that fit.
func (g *group) pooled() int {
	n := int(g.exact.count.Load())
	if g.blank != g.exact {
		n += int(g.blank.count.Load())
	}
	return n
}

// leave takes w out of the queue; false if it had been granted.
func (g *group) leave(w *waiter) bool {
	i := slices.Index(g.waiters, w)
	if i < 0 {
		return false
	}
	g.waiters = slices.Delete(g.waiters, i, i+1)
	return true
}

// demand returns how many makers must be started for the waiters, and counts
// them as making.
func (g *group) demand() int {
	n := max(len(g.waiters)-g.making, 0)
	g.making += n
	return n
}

// callOff stops parked makers that nobody waits for any more.
func (g *group) callOff() {
	for g.making > len(g.waiters) && len(g.parked) > 0 {
		n := len(g.parked) - 1
		close(g.parked[n].quit)
		g.parked = g.parked[:n]
		g.making--
	}
}

// park registers a maker that is going to wait; nil if nobody waits for it
// any more, in which case it is no longer counted.
func (g *group) park() *parked {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.making > len(g.waiters) {
		g.making--
		return nil
	}
	p := &parked{quit: make(chan struct{})}
	g.parked = append(g.parked, p)
	return p
}

// unpark is the maker's return to work; false if it was called off meanwhile.
func (g *group) unpark(p *parked) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.parked, p)
	if i < 0 {
		return false
	}
	g.parked = slices.Delete(g.parked, i, i+1)
	return true
}

// beingMade reports whether a maker at work will serve w, given that those
// before it in the queue are served first.
func (g *group) beingMade(w *waiter) bool {
	i := slices.Index(g.waiters, w)
	return i >= 0 && i < g.making-len(g.parked)
}

// empty reports whether nothing refers to the group.
func (g *group) empty() bool {
	return len(g.idle) == 0 && g.busy == 0 && len(g.waiters) == 0 && g.making == 0
}

// index finds groups by key. Its shards are locked apart, by generation,
// which is a number that no two functions share.
type index [64]struct {
	mu sync.Mutex
	m  map[hearth.Key]*group
}

// find returns the group of the key, or nil.
func (x *index) find(k hearth.Key) *group {
	s := &x[k.Generation%uint64(len(x))]
	s.mu.Lock()
	g := s.m[k]
	s.mu.Unlock()
	return g
}

// add makes the group of the key unless there is one. Fresh is true if it was
// made.
func (x *index) add(g *group) (found *group, fresh bool) {
	s := &x[g.key.Generation%uint64(len(x))]
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.m[g.key]; old != nil {
		return old, false
	}
	if s.m == nil {
		s.m = map[hearth.Key]*group{}
	}
	s.m[g.key] = g
	return g, true
}

// drop removes the group. The caller has marked it dead.
func (x *index) drop(g *group) {
	s := &x[g.key.Generation%uint64(len(x))]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m[g.key] == g {
		delete(s.m, g.key)
	}
}

// all returns the groups that fit.
func (x *index) all(fits func(hearth.Key) bool) []*group {
	var found []*group
	for i := range x {
		s := &x[i]
		s.mu.Lock()
		for k, g := range s.m {
			if fits(k) {
				found = append(found, g)
			}
		}
		s.mu.Unlock()
	}
	return found
}
