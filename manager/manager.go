// Package manager owns the capacity of one machine and decides which
// container serves an invocation.
//
// What it decides, and the type that does, each pure over what it is shown:
//
//	Withdraw  which instances go when there is less variable capacity
//	Search    where a container is made (the search order of S00.3)
//	Stock     what the warming pool holds
//	Trend     how many will be taken from it
//	IdleLife  how long an idle container is kept
//	Evict     what goes when memory is short
//	Pack      which instance of an account goes when its load falls
//	Overlap   how many containers of new code are made before it takes over
//	Provider  how many provisioned containers are made or let go
//	Backoff   how long to wait after failures
//
// How much memory containers get is decided by package sizing.
//
// The Manager feeds them and acts. Its invariants:
//
//   - A container serves one invocation at a time, one Key for ever and, if
//     its function isolates its tenants, one tenant for ever; an instance
//     belongs to one account for ever.
//   - One that was made because an invocation had asked for more memory serves
//     only invocations that ask for the same.
//   - For each Key, tenant and amount of memory asked for there are never more containers, counting those
//     being made, than there were invocations of it at the busiest moment,
//     beside those that are provisioned, of which there are never more than
//     were asked for, and those that were made before their code took over
//     from older code, which had no fewer then;
//     and those that are prepared, of which there are never more than were
//     foretold.
//   - New code takes over only where a container of it is ready: as long as an
//     update has not ended, what is asked of a function that was warm finds a
//     container of one or the other. No execution of the old is cut.
//   - What is prepared takes only memory that nobody waits for, and leaves
//     some; an invocation never waits for it to be made ready or to end.
//   - A container serves in the sub-pool that it was made in. Nothing of
//     variable capacity is given to anybody while its gate is shut: at a price
//     that its policy does not pay, or while none is known.
//   - The memory promised to functions never exceeds what their sub-pool may
//     promise, but for variable capacity that was withdrawn, until the time of
//     grace is over; a container's is given back only when it has been destroyed.
//   - Ready slots, counting those being made or destroyed, never cost more
//     than the pool's budget.
//
// Locks, in the order in which they may be taken: evicting, then one of
// Manager.mu, group.mu or an index shard, of which no two are ever held
// together. None is ever held over a call of a Worker, Instance, Container or
// Recorder.
package manager

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/history"
	"github.com/hearth-faas/hearth/market"
	"github.com/hearth-faas/hearth/sizing"
)

// Manager is the hearth.Invoker over one Worker. Safe for concurrent use.
type Manager struct {
	cfg    Config
	worker hearth.Worker
	clock  hearth.Clock
	start  time.Time

	provider Provider
	overlap  Overlap
	evict    Evict
	trend    Trend
	life     IdleLife
	prior    atomic.Pointer[Prior]
	learned  *history.Table[IdleHistory]
	gathered time.Time // when prior was; the sweep's own
	retry    *Backoff  // of containers
	again    *Backoff  // of provisioned ones
	reboot   *Backoff  // of the pool's instances

	// Capacity of several kinds.
	routes        atomic.Pointer[routes]
	market        atomic.Pointer[market.State]
	meter         market.Meter
	priced        bool  // capacity has a price
	variableStock Stock // of the variable warming pool while there is any
	spent         *history.Table[Spendings]

	groups   index
	sizes    *history.Table[sizing.Evidence]
	seasons  *history.Table[Season] // by bootName
	inflight atomic.Int64
	draining atomic.Bool
	drained  chan struct{} // closed when draining and nothing is in flight
	drainOne sync.Once
	count    counters
	turns    turns // of makers

	evicting sync.Mutex // one goroutine at a time chooses victims

	mu         sync.Mutex
	fixed      *subpool
	variable   *subpool
	dedicated  map[hearth.Account]*dedication
	booting    booting
	tenants    map[hearth.Account][]*instance
	containers map[*container]struct{}
	newest     map[version]newest
	deleted    []version // of newest, in the order of their ends
	provisions provisions
	allotments map[string]*allotment // by capacity provider
	scales     map[owner]*bucket
	maxima     map[version]int
	packed     map[hearth.Account]time.Time // when one of its instances was given up, lately
	ahead      preparations
	byID       sync.Map    // of *container by string, those that exist
	live       int         // makers at work
	closed     atomic.Bool // set under mu: nothing is made any more
	sweeper    hearth.Timer

	ctx    context.Context // of everything made in the background
	cancel context.CancelFunc
	bg     sync.WaitGroup // Add is called under mu and not once closed
}

// New makes a Manager and starts to fill its warming pool.
func New(cfg Config) (*Manager, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	m := &Manager{
		cfg: cfg, worker: cfg.Worker, clock: cfg.Clock, start: cfg.Clock.Now(),
		trend:      cfg.Trend,
		life:       cfg.Life,
		retry:      NewBackoff(20*time.Millisecond, time.Second, cfg.Seed),
		again:      NewBackoff(time.Second, 5*time.Minute, cfg.Seed+2),
		reboot:     NewBackoff(100*time.Millisecond, 30*time.Second, cfg.Seed+1),
		drained:    make(chan struct{}),
		turns:      newTurns(&cfg),
		tenants:    map[hearth.Account][]*instance{},
		containers: map[*container]struct{}{},
		newest:     map[version]newest{},
		allotments: map[string]*allotment{},
		scales:     map[owner]*bucket{},
		maxima:     map[version]int{},
		packed:     map[hearth.Account]time.Time{},
		dedicated:  map[hearth.Account]*dedication{},
		priced:     cfg.FixedPrice > 0 || cfg.VariableMiB > 0,
		ahead: preparations{
			making: map[*preparing]struct{}{}, held: map[hearth.Account]int{},
			later: map[*group]struct{}{}, sums: map[hearth.Account]*PreparedStats{},
		},
	}
	if cfg.Prewarmer == nil && !cfg.KeepThrough {
		m.cfg.Prewarmer = preparer{m}
	}
	m.openSubpools()
	m.ctx, m.cancel = context.WithCancel(context.Background())
	if m.sizes, err = history.Open[sizing.Evidence](m.ctx, history.Config{Store: cfg.Records, Bucket: "sizing", Clock: cfg.Clock, Log: cfg.Log}); err != nil {
		return nil, err
	}
	if m.spent, err = history.Open[Spendings](m.ctx, history.Config{Store: cfg.Records, Bucket: "spending", Clock: cfg.Clock, Log: cfg.Log}); err != nil {
		return nil, err
	}
	if err := m.openSeasons(); err != nil {
		return nil, err
	}
	if err := m.openIdles(); err != nil {
		return nil, err
	}
	m.furnish(m.fixed.pool)
	m.furnish(m.variable.pool)
	needs := 0.0
	for b, n := range cfg.PoolMin {
		needs += float64(n) * m.fixed.pool.shelves[b].mib
	}
	if needs > cfg.PoolBudgetMiB {
		cfg.Log.Info("the warming pool's budget is less than its minimum needs", "budgetMiB", cfg.PoolBudgetMiB, "neededMiB", needs)
	}
	m.mu.Lock()
	m.sweeper = m.clock.AfterFunc(cfg.SweepEvery, m.onTimer(m.sweep))
	m.mu.Unlock()
	m.replenish()
	return m, nil
}

var _ hearth.Invoker = (*Manager)(nil)

// maxGone is how many containers that turn out to be dead one invocation
// tries before it fails.
const maxGone = 5

// Invoke runs inv, whose Function is set, in a container of this machine and
// fills in its Placement.
//
// Errors: TooManyRequests if neither a container nor room for one came free
// in time, Service if no container could be made, Canceled if the caller went
// away while waiting; and those of Container.Invoke.
func (m *Manager) Invoke(ctx context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
	m.inflight.Add(1)
	defer m.leave()
	if m.draining.Load() {
		return nil, &hearth.Error{Op: "manager.Invoke", Kind: hearth.Service, Message: "The service is shutting down."}
	}
	alone := false
	for try, cuts := 1, 0; ; try++ {
		c, err := m.acquire(ctx, inv, alone)
		if err != nil {
			return nil, err
		}
		if c.mib() < inv.MemoryMiB {
			// It is from before its function's containers got what they get
			// now, and could not grow.
			alone = true
			m.released(c, true)
			try--
			continue
		}
		if c.group.key.memory != 0 {
			inv.Placement.Why += fmt.Sprintf("; the caller asked for %d MiB for this invocation alone", inv.MemoryMiB)
		}
		if c.withdrawn.Load() || !m.affords(c.group, inv) {
			// Its capacity went, or became too dear, before it had begun.
			m.released(c, false)
			try--
			continue
		}
		r, err := m.run(ctx, c, inv)
		if c.group.sub != m.fixed && cutShort(c, r, err, inv) {
			cuts++
			try = 0 // it is the capacity that went
			if err := m.withdrew(c, inv, cuts); err != nil {
				return nil, err
			}
			continue
		}
		if err == nil || hearth.KindOf(err) != hearth.ContainerGone {
			return r, err
		}
		m.count.gone.Add(1)
		if try == maxGone || ctx.Err() != nil {
			return nil, &hearth.Error{Op: "manager.Invoke", Subject: inv.Function.QualifiedARN(), Kind: hearth.Service,
				Message: "The function's execution environments ended unexpectedly.", Err: err}
		}
	}
}

// run has c serve inv and lets go of it, also when the worker panics.
func (m *Manager) run(ctx context.Context, c *container, inv *hearth.Invocation) (r *hearth.Result, err error) {
	c.invocations.Add(1)
	c.serving.Store(inv)
	if inv.Handing != nil {
		inv.Handing()
	}
	reusable := false
	defer func() { m.release(c, reusable && hearth.KindOf(err) != hearth.ContainerGone) }()
	if m.metering() {
		return m.runMetered(ctx, c, inv, &reusable)
	}
	r, reusable, err = c.env.Invoke(ctx, inv)
	m.learn(c.group, inv)
	return r, err
}

func (m *Manager) leave() {
	if m.inflight.Add(-1) == 0 && m.draining.Load() {
		m.drainOne.Do(func() { close(m.drained) })
	}
}
