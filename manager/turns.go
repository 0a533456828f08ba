package manager

import (
	"sync"
	"time"

	"github.com/hearth-faas/hearth"
)

// How long the making of a container counts at most: one whose init phase waits
// for something itself takes nobody's turn. While the machine's processors are
// all at work it more likely waits for them: were others let in beside it, each
// would take the longer, and what runs already would wait for all of them.
const (
	turnLease    = 100 * time.Millisecond
	pressedLease = 500 * time.Millisecond
)

// atFirst is which part of what may be made at once is, until it turns out that
// makings wait for something else than the processors.
const atFirst = 4

// turns bounds how many containers are being made at once for invocations that
// wait for them. Where there are more to be made the accounts take turns: the
// one with the fewest being made is next, and one with none waits for nobody.
// So a burst of one account neither takes all of the processors nor empties the
// warming pool before another's first container is made. Safe for concurrent
// use.
type turns struct {
	clock   hearth.Clock
	atOnce  int
	pressed func() bool // the machine's processors are all at work

	mu    sync.Mutex
	taken int
	more  int // than at first may be made at once
	held  map[hearth.Account]int
	queue []*turn // first come, first
}

// turn is a maker's: it is its turn once ok is closed.
type turn struct {
	account hearth.Account
	ok      chan struct{}

	// Under turns.mu.
	had, over bool
	began     time.Time // had it
	lease     hearth.Timer
}

// join takes a turn, or has its maker wait for it. It is to leave in any case.
func (t *turns) join(account hearth.Account) *turn {
	x := &turn{account: account, ok: make(chan struct{})}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.queue = append(t.queue, x)
	t.serve()
	return x
}

// leave ends a turn, or the waiting for it; more than once is no mistake.
func (t *turns) leave(x *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if x.over {
		return
	}
	x.over = true
	if x.had {
		x.lease.Stop()
		t.taken--
		if t.held[x.account]--; t.held[x.account] == 0 {
			delete(t.held, x.account)
		}
	}
	t.serve()
}

// serve lets in whose turn it is. Called with mu held.
func (t *turns) serve() {
	for {
		next := -1
		left := t.queue[:0]
		for _, x := range t.queue {
			if x.over {
				continue
			}
			left = append(left, x)
			if next < 0 || t.held[x.account] < t.held[left[next].account] {
				next = len(left) - 1
			}
		}
		clear(t.queue[len(left):])
		t.queue = left
		if next < 0 && t.taken == 0 {
			t.more = 0
		}
		if next < 0 || t.taken >= t.limit() && t.held[left[next].account] > 0 {
			return
		}
		x := left[next]
		t.queue = append(left[:next], left[next+1:]...)
		t.taken++
		if t.held == nil {
			t.held = map[hearth.Account]int{}
		}
		t.held[x.account]++
		x.had, x.began = true, t.clock.Now()
		x.lease = t.clock.AfterFunc(turnLease, func() { t.lapse(x) })
		close(x.ok)
	}
}

// limit is how many may be made at once now.
func (t *turns) limit() int {
	n := max(t.atOnce/atFirst, 1)
	if !t.pressed() {
		n = min(n+t.more, t.atOnce)
	}
	return n
}

// lapse ends a turn whose lease is over.
func (t *turns) lapse(x *turn) {
	t.mu.Lock()
	held := t.clock.Now().Sub(x.began)
	pressed := t.pressed()
	longer := !x.over && held < pressedLease && pressed
	if longer {
		x.lease = t.clock.AfterFunc(turnLease, func() { t.lapse(x) })
	} else if !x.over && !pressed {
		t.more = min(t.more+1, t.atOnce)
	}
	t.mu.Unlock()
	if !longer {
		t.leave(x)
	}
}

// turn waits until it is the turn of a maker of the group. False if it was
// called off.
func (m *Manager) turn(g *group) (*turn, bool) {
	x := m.turns.join(g.key.Account)
	select {
	case <-x.ok:
		return x, true
	default:
	}
	parked := g.park(true)
	if parked != nil {
		select {
		case <-x.ok:
		case <-parked.quit:
		case <-m.ctx.Done(): // what comes next finds out
		}
		if g.unpark(parked) {
			return x, true
		}
	}
	m.turns.leave(x)
	return nil, false
}
