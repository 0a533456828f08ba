package manager

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/history"
	"github.com/hearth-faas/hearth/sizing"
)

// share is what containers must have in common to serve each other's
// invocations: what they run; of a function that isolates its tenants, whom
// they serve; and the memory that their callers have asked for, if they have.
type share struct {
	hearth.Key
	tenant string
	// memory is what their callers have asked for instead of what the function
	// has, in MiB; 0 for all others.
	memory int
	sub    *subpool
}

// group is everything that runs, or wants to run, the same code and
// configuration for the same tenant: the containers of one share and the
// invocations that wait for one. Its lock is the only one on the warm path.
type group struct {
	key      share
	sub      *subpool         // of the machine's capacity, in which its containers are
	fn       *hearth.Function // of the first invocation; equal keys run the same thing
	boot     hearth.Boot
	mib      int          // what the function is configured to have
	size     atomic.Int32 // what new containers get, in MiB
	sizing   atomic.Pointer[hearth.SizingPolicy]
	evidence *history.Entry[sizing.Evidence]
	spent    atomic.Pointer[history.Entry[Spendings]] // nil before the first that is charged
	// milliCPUs is what a container uses of its capacity provider's vCPUs, in
	// thousandths; 0 without one.
	milliCPUs int
	// most is how many containers there may be, or unbounded.
	most atomic.Int32
	// What the warming pool has of the function's boot, and of none.
	exact, blank *shelf

	mu    sync.Mutex
	idles IdleHistory
	kept  time.Duration // the last invocation of what of it was handed on
	took  time.Duration // the making of the last container; 0 before the first
	peak  peak
	ready []*container // those idle that are provisioned: they go first
	idle  []*container // a stack, so that what is not needed ages at the bottom
	// prepared are those idle that were made on a prediction and not used yet:
	// they go last, so that what is never used shows.
	prepared []*container
	busy     int
	waiters  []*waiter // first come, first served
	// making counts the containers being made. It is raised only to the
	// number of waiters, so that there are never more environments than
	// invocations at the busiest moment.
	making int
	// parked are those of them that wait for their turn, for memory or for a
	// retry. The others are at work and cannot be called off.
	parked []*parked
	// providing counts those being made that nobody waits for: they are
	// provisioned, or of code that is to take over.
	providing int
	// preparing counts those being made on predictions that nobody waits for,
	// and adopted those of making that began as such. adopted is written under
	// mu.
	preparing int
	adopted   atomic.Int32
	wants     []*want
	expiry    hearth.Timer  // ends what is not needed any more, when due; nil before the first
	due       time.Time     // zero is never
	runTime   time.Duration // how long an invocation keeps a container busy

	makeTime atomic.Int64 // how long the making of a container took lately, in nanoseconds

	// heir serves what is asked of this one, once new code has taken over in
	// one of the instances: in left are those in which it has. drained says
	// that the end of the last container was told.
	heir    *group
	left    map[*instance]struct{}
	drained bool

	// shut: it is of variable capacity, which does not suit its policy now.
	// Nothing of it is given to anybody.
	shut bool

	retired bool // replaced or deleted: nothing stays idle
	// Of one that is retired: what serves what is asked of it, or why nothing
	// does. Where neither is known it does so itself, as long as it is asked.
	instead *hearth.Function
	refusal error

	dead bool // removed from the index: look it up again
}

const unbounded = -1

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

// pop takes the provisioned container that was used last, without one any, or
// returns nil. Those made on predictions go last.
func (g *group) pop() *container {
	if g.shut {
		return nil
	}
	if c := pop(&g.ready); c != nil {
		return c
	}
	if c := pop(&g.idle); c != nil {
		return c
	}
	return pop(&g.prepared)
}

// pop takes the container from a stack that was used last. Those that
// somebody else has claimed meanwhile, or that have died, are dropped; who
// claims a container sees to its end.
func pop(stack *[]*container) *container {
	for n := len(*stack); n > 0; n-- {
		c := (*stack)[n-1]
		(*stack)[n-1] = nil
		*stack = (*stack)[:n-1]
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

// stack is where c lies while it is idle.
func (g *group) stack(c *container) *[]*container {
	if c.pledge != nil {
		return &g.ready
	}
	if c.foretold.Load() != nil {
		return &g.prepared
	}
	return &g.idle
}

// push puts a container that is idle now on its stack.
func (g *group) push(c *container) {
	s := g.stack(c)
	*s = append(*s, c)
}

// remove takes a container that was claimed from its stack.
func (g *group) remove(c *container) {
	for _, s := range [...]*[]*container{g.stack(c), &g.idle} {
		if i := slices.Index(*s, c); i >= 0 {
			*s = slices.Delete(*s, i, i+1)
			return
		}
	}
}

// knows is what the group tells of itself.
func (g *group) knows() hearth.Knowledge {
	return hearth.Knowledge{Idle: len(g.ready) + len(g.idle) + len(g.prepared), Busy: g.busy, Waiting: len(g.waiters)}
}

// free reports whether a container is idle.
func (g *group) free() bool { return len(g.ready)+len(g.idle)+len(g.prepared) > 0 }

// next takes the first waiter, or returns nil if there is none, or none may be
// served now.
func (g *group) next() *waiter {
	if len(g.waiters) == 0 || g.shut {
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
	if g.shut {
		return 0
	}
	n := g.adopt(len(g.waiters) - g.making)
	if most := g.most.Load(); most != unbounded {
		n = min(n, int(most)-g.all())
	}
	n = max(n, 0)
	g.making += n
	return n
}

// beingMade reports whether a maker at work, or soon at work, will serve w, given that those
// before it in the queue are served first.
func (g *group) beingMade(w *waiter) bool {
	i := slices.Index(g.waiters, w)
	short := 0
	for _, p := range g.parked {
		if !p.turn {
			short++
		}
	}
	return i >= 0 && i < g.making-short
}

// made says that the making of c has ended.
func (g *group) made(c *container) {
	switch {
	case c.pledge != nil || c.ahead:
		g.providing--
	case c.foretold.Load() != nil:
		g.wasPrepared()
	default:
		g.making--
	}
}

// goAfter has a container that was made where new code has taken over meanwhile
// end as soon as it is idle.
func (g *group) goAfter(c *container) {
	if _, left := g.left[c.inst]; left {
		c.unwanted.Store(true)
	}
}

// empty reports whether nothing refers to the group.
func (g *group) empty() bool {
	return g.all() == 0 && len(g.waiters) == 0 && len(g.wants) == 0
}

// index finds groups by share. Its shards are locked apart, by generation,
// which is a number that no two functions share.
type index [64]struct {
	mu sync.Mutex
	m  map[share]*group
}

// find returns the group of the share, or nil.
func (x *index) find(k share) *group {
	s := &x[k.Generation%uint64(len(x))]
	s.mu.Lock()
	g := s.m[k]
	s.mu.Unlock()
	return g
}

// add makes the group of the share unless there is one. Fresh is true if it was
// made.
func (x *index) add(g *group) (found *group, fresh bool) {
	s := &x[g.key.Generation%uint64(len(x))]
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.m[g.key]; old != nil {
		return old, false
	}
	if s.m == nil {
		s.m = map[share]*group{}
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
			if fits(k.Key) {
				found = append(found, g)
			}
		}
		s.mu.Unlock()
	}
	return found
}
