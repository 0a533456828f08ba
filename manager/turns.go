package manager

import (
	"sync"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/internal/fair"
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

const (
	// makingCost is what a making is charged as soon as it begins.
	makingCost = 5 * time.Millisecond
	// makingLead is how far an account may be ahead of one that waits, and have a
	// container made beside those that may be at once: some makings.
	makingLead = 100 * time.Millisecond
)

// turns bounds how many containers are being made at once for invocations that
// wait for them. Where there are more to be made the accounts take turns: the
// one whose makings have taken least of late, by its weight, is next, and one with
// none waits for nobody, unless it is ahead of who waits. So a burst of one account
// neither takes all of the processors nor empties the warming pool before another's
// first container is made. A weight gives no more at once than others have: a making
// is mostly work, and the processors are shared between accounts as they are. Safe
// for concurrent use.
type turns struct {
	clock   hearth.Clock
	atOnce  int
	pressed func() bool // the machine's processors are all at work
	weight  func(hearth.Account) int

	mu     sync.Mutex
	places fair.Places
	more   int // than at first may be made at once
}

func newTurns(cfg *Config) turns {
	return turns{
		clock: cfg.Clock, atOnce: cfg.MakeConcurrency, pressed: cfg.Pressed, weight: cfg.Weight,
		places: fair.Places{Now: cfg.Clock.Now, Entry: makingCost, Lead: makingLead},
	}
}

// turn is a maker's, once its place is had.
type turn struct {
	*fair.Place

	// Under turns.mu.
	over  bool
	began time.Time // zero before
	lease hearth.Timer
}

// join takes a turn, or has its maker wait for it. It is to leave in any case,
// and to begin once it has it.
func (t *turns) join(account hearth.Account) *turn {
	weight := t.weight(account)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bound()
	return &turn{Place: t.places.Join(account, weight, 1)}
}

// begin has the time of a turn that is had run.
func (t *turns) begin(x *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	x.began = t.clock.Now()
	x.lease = t.clock.AfterFunc(turnLease, func() { t.lapse(x) })
}

// leave ends a turn, or the waiting for it; more than once is no mistake.
func (t *turns) leave(x *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if x.over {
		return
	}
	x.over = true
	if x.lease != nil {
		x.lease.Stop()
	}
	t.bound()
	t.places.Leave(x.Place)
	if t.places.Waiting() == 0 {
		t.places.Even() // what was made while nobody waited is held against nobody
		if t.places.Taken() == 0 {
			t.more = 0
		}
	}
}

// bound sets how many may be made at once now. Called with mu held.
func (t *turns) bound() {
	n := max(t.atOnce/atFirst, 1)
	if !t.pressed() {
		n = min(n+t.more, t.atOnce)
	}
	t.places.Share(n)
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
	case <-x.Had():
		m.turns.begin(x)
		return x, true
	default:
	}
	parked := g.park(true)
	if parked != nil {
		select {
		case <-x.Had():
		case <-parked.quit:
		case <-m.ctx.Done(): // what comes next finds out
		}
		if g.unpark(parked) {
			m.turns.begin(x)
			return x, true
		}
	}
	m.turns.leave(x)
	return nil, false
}
