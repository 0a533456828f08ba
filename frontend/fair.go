package frontend

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/internal/fair"
	"github.com/hearth-faas/hearth/internal/processors"
)

// Gate shares the machine fairly between accounts while its processors are all
// at work. Then only so many invocations begin at once as keep them at work,
// and the others wait, each account's in a queue of its own; who has used least
// of late is next. An account that has nothing under way waits for nobody: each
// has one slot of its own, beside those that are shared. So one account's flood
// waits behind itself, and nobody else waits behind it. An account of weight n is
// given what n accounts of weight 1 would be together. While there are
// processors to spare the gate is open, and costs two loads.
//
// An invocation holds its slot until it ends, but once its container has its
// event no longer than lease: one that waits for something itself uses no
// processor, and one that computes for long is held to its share by its control
// group. Before that it holds it for up to placing, since a container that is
// made for it does use processors. Safe for concurrent use.
type Gate struct {
	// Busy tells which part of the processors' time since it was asked last was
	// used, from 0 to 1; ok is false if it is not known. It is asked by one
	// goroutine at a time.
	Busy func() (part float64, ok bool)
	// Least is how many slots there are at least; 0 is one for each processor.
	Least int
	// Weight is an account's, asked while the gate is shut; less than 1 is 1, and
	// nil is that all accounts' is.
	Weight func(hearth.Account) int
	// Contest, if it is not nil, is told when several accounts begin to want the
	// processors while these are all at work, and when that is over. It is called
	// by one goroutine at a time.
	Contest func(bool)

	shut    atomic.Bool  // invocations take slots
	looked  atomic.Int64 // Unix nanoseconds
	looking sync.Mutex
	contest bool        // what Contest was told last; guarded by looking
	over    *time.Timer // looks when it may be over, if nobody comes; the same

	mu      sync.Mutex
	places  fair.Places
	last    hearth.Account // that came while it was shut
	several bool           // accounts came since the last look
	rivals  time.Time      // when several were seen last

	waits atomic.Uint64
	spent atomic.Int64 // nanoseconds waited
}

const (
	lookEvery = 100 * time.Millisecond
	lease     = 50 * time.Millisecond
	placing   = time.Second
	// entry is what a slot costs at once; the rest when it is given back.
	entry = 500 * time.Microsecond
	// Between calm and pressed the number of slots stays as it is.
	pressed, calm = processors.Full, processors.Calm
	// openAt times the least number of slots the gate opens: nothing is gained
	// by counting so many.
	openAt = 64
	// contestFor is how long a contest is thought to go on when one account alone
	// is seen.
	contestFor = 5 * time.Second
)

// NewGate makes a Gate that goes by what the processors have to do.
func NewGate(load *processors.Load) *Gate { return &Gate{Busy: load.Busy} }

func (g *Gate) least() int {
	if g.Least > 0 {
		return g.Least
	}
	return runtime.NumCPU()
}

// look has the processors looked at, once in a while, by a goroutine of its own.
func (g *Gate) look(now time.Time) {
	at := g.looked.Load()
	if now.UnixNano()-at < int64(lookEvery) || !g.looked.CompareAndSwap(at, now.UnixNano()) {
		return
	}
	go g.adjust()
}

// adjust shuts or opens the gate, or changes how many slots there are.
func (g *Gate) adjust() {
	if !g.looking.TryLock() {
		return // the one before is late
	}
	defer g.looking.Unlock()
	part, ok := g.Busy()
	contest := g.set(part, ok, time.Now())
	if g.Contest == nil {
		return
	}
	if contest != g.contest {
		g.contest = contest
		g.Contest(contest)
	}
	switch {
	case !contest:
	case g.over == nil:
		g.over = time.AfterFunc(contestFor, g.adjust)
	default:
		g.over.Reset(contestFor)
	}
}

// set goes by how busy the processors are, and tells whether several accounts want
// more of them than there is.
func (g *Gate) set(part float64, ok bool, now time.Time) (contest bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	least := g.least()
	switch {
	case !ok:
		g.open()
	case part >= pressed && !g.shut.Load():
		g.places.Entry, g.places.Now = entry, time.Now
		g.places.Share(2 * least)
		g.shut.Store(true)
	case part >= pressed:
		g.places.Share(max(least, g.places.Room()*3/4))
	case part < calm && g.shut.Load():
		if slots := g.places.Room() + max(1, g.places.Room()/4); slots < openAt*least {
			g.places.Share(slots)
		} else {
			g.open()
		}
	}
	if g.several {
		g.several, g.rivals = false, now
	}
	return g.shut.Load() && now.Sub(g.rivals) < contestFor
}

// open lets everybody in. Called with mu held.
func (g *Gate) open() {
	g.shut.Store(false)
	g.places.Share(fair.Unbounded)
	g.places.Even()
}

// slot is a place that an invocation has while the gate is shut; nil is none.
type slot struct {
	gate  *Gate
	place *fair.Place
	timer *time.Timer
	once  sync.Once
}

// enter takes a slot, for which it waits its account's turn. It waits no longer
// than ctx.
func (g *Gate) enter(ctx context.Context, account hearth.Account) (*slot, error) {
	weight := 1
	if g.Weight != nil {
		weight = g.Weight(account)
	}
	g.mu.Lock()
	if !g.shut.Load() {
		g.mu.Unlock()
		return nil, nil
	}
	g.several = g.several || g.last != account && g.last != ""
	g.last = account
	p := g.places.Join(account, weight, weight)
	g.mu.Unlock()
	select {
	case <-p.Had():
		return g.hold(p), nil
	default:
	}
	g.waits.Add(1)
	began := time.Now()
	defer func() { g.spent.Add(int64(time.Since(began))) }()
	select {
	case <-p.Had():
		return g.hold(p), nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.places.Leave(p) // it may be had just then
	return nil, context.Cause(ctx)
}

func (g *Gate) hold(p *fair.Place) *slot {
	s := &slot{gate: g, place: p}
	g.mu.Lock() // the time may be over before the timer is known
	s.timer = time.AfterFunc(placing, s.leave)
	g.mu.Unlock()
	return s
}

// begin says that the slot's invocation has its container.
func (s *slot) begin() {
	if s != nil {
		s.timer.Reset(lease)
	}
}

// leave gives the slot back; more than once is no mistake.
func (s *slot) leave() {
	if s == nil {
		return
	}
	s.once.Do(func() {
		s.gate.mu.Lock()
		defer s.gate.mu.Unlock()
		s.timer.Stop()
		s.gate.places.Leave(s.place)
	})
}

// GateStats tell how the gate does: whether it is shut, how many slots there
// are then, who waits, how often and how long somebody has since the start.
type GateStats struct {
	Shut           bool
	Slots, Waiting int
	Waits          uint64
	Waited         time.Duration
}

// Stats returns them.
func (g *Gate) Stats() GateStats {
	g.mu.Lock()
	defer g.mu.Unlock()
	shut, slots := g.shut.Load(), 0
	if shut {
		slots = g.places.Room()
	}
	return GateStats{shut, slots, g.places.Waiting(), g.waits.Load(), time.Duration(g.spent.Load())}
}
