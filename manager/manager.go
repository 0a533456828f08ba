// Package manager owns the capacity of one machine and decides which
// container serves an invocation.
//
// What it decides, and the type that does, each pure over what it is shown:
//
//	Search    where a container is made (the search order of S00.3)
//	Stock     what the warming pool holds
//	IdleLife  how long an idle container is kept
//	Evict     what goes when memory is short
//	Backoff   how long to wait after failures
//
// The Manager feeds them and acts. Its invariants:
//
//   - A container serves one invocation at a time, and one Key for ever; an
//     instance belongs to one account for ever.
//   - For each Key there are never more containers, counting those being
//     made, than there were invocations of it at the busiest moment.
//   - The memory promised to functions never exceeds what the machine may
//     promise; a container's is given back only when it has been destroyed.
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
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
)

// Manager is the hearth.Invoker over one Worker. Safe for concurrent use.
type Manager struct {
	cfg    Config
	worker hearth.Worker
	clock  hearth.Clock
	start  time.Time

	search Search
	evict  Evict
	stock  Stock
	life   IdleLife
	retry  *Backoff // of containers
	reboot *Backoff // of the pool's instances

	groups   index
	inflight atomic.Int64
	draining atomic.Bool
	drained  chan struct{} // closed when draining and nothing is in flight
	drainOne sync.Once
	count    counters

	evicting sync.Mutex // one goroutine at a time chooses victims

	mu         sync.Mutex
	ledger     ledger
	tenants    map[hearth.Account][]*instance
	containers map[*container]struct{}
	pool       pool
	floors     map[version]uint64
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
		stock:      Stock{Min: cfg.PoolMin, Extra: cfg.PoolExtra, BudgetMiB: cfg.PoolBudgetMiB},
		life:       cfg.Life,
		retry:      NewBackoff(20*time.Millisecond, time.Second, cfg.Seed),
		reboot:     NewBackoff(100*time.Millisecond, 30*time.Second, cfg.Seed+1),
		drained:    make(chan struct{}),
		tenants:    map[hearth.Account][]*instance{},
		containers: map[*container]struct{}{},
		floors:     map[version]uint64{},
	}
	m.ledger.capacity = cfg.forFunctions()
	m.ledger.publish()
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.pool.shelves = map[hearth.Boot]*shelf{}
	m.pool.shelf("", m.worker.SlotMiB(""))
	for b := range cfg.PoolMin {
		m.pool.shelf(b, m.worker.SlotMiB(b))
	}
	needs := 0.0
	for b, n := range cfg.PoolMin {
		needs += float64(n) * m.pool.shelves[b].mib
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
	for try := 1; ; try++ {
		c, err := m.acquire(ctx, inv)
		if err != nil {
			return nil, err
		}
		r, err := m.run(ctx, c, inv)
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
	reusable := false
	defer func() { m.release(c, reusable && hearth.KindOf(err) != hearth.ContainerGone) }()
	r, reusable, err = c.env.Invoke(ctx, inv)
	return r, err
}

func (m *Manager) leave() {
	if m.inflight.Add(-1) == 0 && m.draining.Load() {
		m.drainOne.Do(func() { close(m.drained) })
	}
}

// group returns the group of f, made if there is none.
func (m *Manager) group(f *hearth.Function) *group {
	k := f.Key()
	if g := m.groups.find(k); g != nil {
		return g
	}
	boot := m.worker.BootOf(f)
	cost := m.worker.SlotMiB(boot)
	m.mu.Lock()
	exact, blank := m.pool.shelf(boot, cost), m.pool.shelves[""]
	m.mu.Unlock()
	g, fresh := m.groups.add(&group{key: k, fn: f, boot: boot, mib: max(f.MemoryMiB, 1), exact: exact, blank: blank})
	if fresh {
		// In this order, so that either Changed finds the group or the group
		// finds the generation that Changed has announced.
		m.mu.Lock()
		stale := k.Generation < m.floors[versionOf(k)]
		m.mu.Unlock()
		if stale {
			m.retire(g)
		}
	}
	return g
}

// acquire finds a container for inv, makes it its own, and ends the stage
// Place and, for a new container, Attach, Boot and Init.
func (m *Manager) acquire(ctx context.Context, inv *hearth.Invocation) (*container, error) {
	f, at := inv.Function, m.clock.Now()
	g := m.group(f)
	g.mu.Lock()
	for g.dead {
		g.mu.Unlock()
		m.groups.drop(g)
		g = m.group(f)
		g.mu.Lock()
	}
	g.volume.Add(1, at, m.life.Period)
	p := &inv.Placement
	p.Knew = hearth.Knowledge{Idle: len(g.idle), Busy: g.busy, Waiting: len(g.waiters)}
	if c := g.pop(); c != nil {
		g.busy++
		g.mu.Unlock()
		p.Path, p.Why = hearth.PathReuse, "a container with this code was idle"
		p.Instance, p.Container = c.inst.env.ID(), c.env.ID()
		m.ledger.tell(&p.Knew)
		p.Knew.Pool = g.pooled()
		m.count.path[reused].Add(1)
		inv.Timeline.End(hearth.StagePlace, m.clock.Now())
		return c, nil
	}
	w := &waiter{ch: make(chan grant, 1)}
	g.waiters = append(g.waiters, w)
	n := g.demand()
	g.mu.Unlock()
	m.count.waiting.Add(1)
	defer m.count.waiting.Add(-1)
	m.startMakers(g, n)

	gr := m.wait(ctx, g, w)
	if gr.err != nil {
		m.ledger.tell(&p.Knew)
		inv.Timeline.End(hearth.StagePlace, m.clock.Now())
		return nil, gr.err
	}
	if gr.made == nil {
		m.ledger.tell(&gr.knew)
		gr.knew.Pool = g.pooled()
	}
	p.Path, p.Why, p.Knew = gr.path, gr.why, gr.knew
	p.Instance, p.Container = gr.c.inst.env.ID(), gr.c.env.ID()
	m.count.path[pathIndex(gr.path)].Add(1)
	endPlaced(&inv.Timeline, gr.made, m.clock.Now())
	return gr.c, nil
}

// wait waits until w is granted or has waited long enough.
func (m *Manager) wait(ctx context.Context, g *group, w *waiter) grant {
	timeout := make(chan struct{}, 1)
	timer := m.clock.AfterFunc(m.cfg.QueueWait, func() { timeout <- struct{}{} })
	defer timer.Stop()
	deadline := m.clock.Now().Add(m.cfg.QueueWait + m.cfg.MakeTimeout)
	for {
		var err error
		select {
		case gr := <-w.ch:
			if gr.c != nil && ctx.Err() != nil {
				// Nobody is there to be served; another may be.
				m.release(gr.c, true)
				return grant{err: canceled(ctx, g)}
			}
			return gr
		case <-ctx.Done():
			err = canceled(ctx, g)
		case <-timeout:
			err = m.full(g)
		}
		g.mu.Lock()
		if ctx.Err() == nil && g.beingMade(w) {
			// Somebody is at work for it: not a shortage but a slow start.
			if left := deadline.Sub(m.clock.Now()); left > 0 {
				g.mu.Unlock()
				timer.Reset(min(m.cfg.QueueWait, left))
				continue
			}
			err = notMade(g, errSlow)
		}
		left := g.leave(w)
		g.callOff()
		g.mu.Unlock()
		if left {
			if hearth.KindOf(err) == hearth.TooManyRequests {
				m.count.full.Add(1)
			}
			return grant{err: err}
		}
		// Granted at the last moment: the next round takes it.
	}
}

// full is the answer to an invocation that waited in vain.
func (m *Manager) full(g *group) error {
	return &hearth.Error{Op: "manager.place", Subject: g.fn.QualifiedARN(), Kind: hearth.TooManyRequests,
		Message: "Rate Exceeded.", Reason: hearth.ReasonConcurrency, Err: errFull}
}

// notMade is the answer to an invocation for which no container could be made.
func notMade(g *group, cause error) error {
	return &hearth.Error{Op: "manager.place", Subject: g.fn.QualifiedARN(), Kind: hearth.Service,
		Message: "No execution environment could be made for the function.", Err: cause}
}

var errSlow = errors.New("the making of a container took too long")

var errFull = errors.New("no container and no memory for one came free in time")

func canceled(ctx context.Context, g *group) error {
	return &hearth.Error{Op: "manager.place", Subject: g.fn.QualifiedARN(), Kind: hearth.Canceled,
		Message: "The caller went away.", Err: context.Cause(ctx)}
}

// release ends c's invocation. A container that can serve on goes to the next
// waiter, or becomes idle; one that cannot is destroyed in the background.
func (m *Manager) release(c *container, reusable bool) {
	c.lastUsed.Store(int64(m.clock.Now().Sub(m.start)))
	if !reusable || c.died() {
		g := c.group
		g.mu.Lock()
		g.busy--
		c.mustMove(busy, ending)
		n := g.demand()
		g.mu.Unlock()
		m.startMakers(g, n)
		m.end(c)
		return
	}
	if !m.hand(c) {
		m.settle(c, busy)
	}
}

// hand gives a busy container to the first waiter; false if there is none.
func (m *Manager) hand(c *container) bool {
	g := c.group
	g.mu.Lock()
	w := g.next()
	if w == nil {
		g.mu.Unlock()
		return false
	}
	gr := g.handed(c)
	g.callOff()
	g.mu.Unlock()
	w.ch <- gr
	return true
}

// handed is the grant of a container that came free.
func (g *group) handed(c *container) grant {
	return grant{c: c, path: hearth.PathReuse, why: "waited until a container with this code had come free",
		knew: hearth.Knowledge{Busy: g.busy, Waiting: len(g.waiters)}}
}

// settle puts a container for which there was no waiter on its group's stack,
// or gives it to a waiter who has come meanwhile. from is its present state:
// busy, or loading for one whose maker has outlived its waiter.
func (m *Manager) settle(c *container, from state) {
	// Before it can be found on the stack, since Idle must not run beside
	// Invoke; and before it stops to count, since a waiter who comes now must
	// not have another one made.
	c.env.Idle()
	g := c.group
	g.mu.Lock()
	if w := g.next(); w != nil {
		if from == loading {
			g.making--
			g.busy++
			c.mustMove(loading, busy)
		}
		gr := g.handed(c)
		g.callOff()
		g.mu.Unlock()
		w.ch <- gr
		return
	}
	if from == loading {
		g.making--
	} else {
		g.busy--
	}
	if g.retired || m.closed.Load() || c.died() {
		c.mustMove(from, ending)
		g.mu.Unlock()
		m.end(c)
		return
	}
	c.mustMove(from, idle)
	g.idle = append(g.idle, c)
	g.mu.Unlock()
	if c.died() {
		// Its watcher may have found it busy and left it to us.
		m.lose(c)
		return
	}
	if m.ledger.waiting.Load() > 0 {
		m.background(m.evictForRoom)
	}
}
