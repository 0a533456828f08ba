package manager

import (
	"context"
	"time"

	"github.com/hearth-faas/hearth"
)

// Level is how far a function is made ready ahead of its invocations. The
// surer they are to come, the more of the way is gone.
type Level uint8

// The levels. Each includes those below it.
const (
	LevelContainer Level = iota // a container is loaded and initialised
	LevelCode                   // its code is in the node's cache
	LevelMachine                // a slot with its boot is ready
)

// String returns the level's name.
func (l Level) String() string {
	if int(l) < len(levels) {
		return levels[l]
	}
	return "unknown"
}

var levels = [...]string{"container", "code", "machine"}

// Preparation asks that a function be ready for invocations that are foretold.
// It is the one means by which anything is made on a prediction.
//
// What is made on it has the least claim to this machine: it takes only memory
// that is free, and leaves some free; it goes before anything else when memory
// is short; and an invocation that comes while it is being made takes it over.
// No invocation is served later than without it.
type Preparation struct {
	// Function is what will be invoked. If it was replaced meanwhile nothing is
	// made.
	Function *hearth.Function
	Tenant   string // of a function that isolates its tenants
	// Count is how many environments will be needed beside those in use. Idle
	// ones count, so that only the shortfall is made; those that others foretold
	// do not. Each invocation that comes takes one away.
	Count int
	// Until is when they will not be needed any more: what was made and not used
	// goes then, unless it is all that there is of the function and its idle
	// life would have kept it.
	Until time.Time
	Level Level
	// Key has the Preparation take the place of the function's earlier one with
	// the same Key, whose Count then counts no more. "" adds one.
	Key string
	// Why says what foretold the invocations, for decisions: "the trigger
	// page_open".
	Why string
	// BudgetMiB bounds the memory of all that is ready, or being made, for the
	// account on predictions. 0 is Config.PrepareMiB.
	BudgetMiB int
	// Fate, if it is not nil, is told what became of each container that was
	// made for this Preparation, once. It must be quick, and may be called at
	// any time from any goroutine; no lock is held.
	Fate func(Fate)
}

// Fate is what became of a container that was made on a prediction.
type Fate struct {
	Hit  bool          // an invocation came to use it
	Idle time.Duration // how long it was ready before that, or before it was ended
	MiB  int           // the memory that it held in that time
}

// MiBSeconds is the memory-time that the container was ready and not used.
func (f Fate) MiBSeconds() float64 { return float64(f.MiB) * f.Idle.Seconds() }

// Prepared is what came of a Preparation at once.
type Prepared struct {
	Making int    // begun for it
	Why    string // why not more, if more was lacking; a sentence without the final period
}

// Why less is prepared than is lacking.
const (
	whyStale     = "the function was replaced or deleted"
	whyMachines  = "as many containers are being made ahead as may be at once"
	whyBudget    = "what is ready ahead of invocations uses all the memory that the account gives to it"
	whyMemory    = "memory that is free is kept for invocations that have come"
	whyVCPUs     = "its capacity provider has no vCPUs free"
	whyMostReady = "the version has as many containers as its scaling configuration allows"
	whyClosed    = "the service is shutting down"
	whyPast      = "it would not be needed any more"
)

// maxWants bounds the Preparations that a group remembers; more are counted to
// the last of them.
const maxWants = 256

// Prepare makes f ready. It returns at once. It may be called at any time from
// any goroutine, also from a timer: one that is to have a container ready at a
// time T calls it at T − ColdStart.
func (m *Manager) Prepare(p Preparation) Prepared {
	if !m.track() {
		return Prepared{Why: whyClosed}
	}
	defer m.bg.Done()
	now := m.clock.Now()
	if p.Count <= 0 && p.Key == "" || !p.Until.After(now) {
		return Prepared{Why: whyPast}
	}
	if p.Level != LevelContainer {
		return m.prepareLess(p, now)
	}
	g := m.locked(m.home(p.Function), p.Function, p.Tenant, 0)
	if g.retired || g.heir != nil {
		g.mu.Unlock()
		return Prepared{Why: whyStale}
	}
	g.want(p, now)
	m.expireAt(g, p.Until)
	g.mu.Unlock()
	did := m.prepareMore(g)
	if did.Making > 0 || did.Why == "" || did.Why == whyMachines {
		return did
	}
	m.declined(g, p.Why, did.Why)
	return did
}

// fetcher is a Worker that can have a function's code on the node ahead of any
// container.
type fetcher interface {
	Prepare(ctx context.Context, f *hearth.Function) error
}

// prepareLess has a slot ready, and the code if that was asked for.
func (m *Manager) prepareLess(p Preparation, now time.Time) Prepared {
	boot := m.worker.BootOf(p.Function)
	cost := m.worker.SlotMiB(boot)
	m.mu.Lock()
	if sh := m.home(p.Function).pool.shelf(boot, cost); len(sh.ready)+sh.making < p.Count {
		// As a slot that was taken counts: the pool holds one more for a while,
		// within its bounds.
		m.trend.Take(&sh.takes, now, sh.lead())
	}
	m.mu.Unlock()
	m.kick()
	if w, ok := m.worker.(fetcher); ok && p.Level == LevelCode {
		m.background(func() {
			ctx, cancel := m.limited()
			defer cancel()
			if err := w.Prepare(ctx, p.Function); err != nil && ctx.Err() == nil {
				m.cfg.Log.Warn("code could not be fetched ahead", "function", p.Function.QualifiedARN(), "for", p.Why, "error", err)
			}
		})
	}
	return Prepared{}
}

// ColdStart is how long the making of a container of f took lately; 0 if none
// was made since the function's last change.
func (m *Manager) ColdStart(f *hearth.Function) time.Duration {
	if g := m.groups.find(share{f.Key(), "", 0, m.home(f)}); g != nil {
		return time.Duration(g.makeTime.Load())
	}
	return 0
}

// RunTime is how long invocations of f keep a container busy, on average
// lately; 0 if none has.
func (m *Manager) RunTime(f *hearth.Function) time.Duration {
	g := m.groups.find(share{f.Key(), "", 0, m.home(f)})
	if g == nil {
		return 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.runTime
}

// Serving tells which invocation the container with that id serves now; ok is
// false if none. It takes no lock.
func (m *Manager) Serving(id string) (inv *hearth.Invocation, ok bool) {
	if c, found := m.byID.Load(id); found {
		inv = c.(*container).serving.Load()
	}
	return inv, inv != nil
}
