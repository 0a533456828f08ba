package manager

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
)

// subpool is a part of this machine's capacity under a constraint of its own
// (S07): what of the memory may be promised there, and the part of the warming
// pool whose instances become active there. Guarded by Manager.mu, except where
// said.
type subpool struct {
	kind   hearth.CapacityKind
	owner  hearth.Account // of one that is dedicated
	ledger ledger
	// pool is where its instances come from. Those of dedicated sub-pools come
	// from that of the fixed one.
	pool *pool
	// mostMiB is what there may be of it.
	mostMiB int
	used    used
}

func newSubpool(kind hearth.CapacityKind, capacityMiB int, p *pool) *subpool {
	s := &subpool{kind: kind, pool: p, mostMiB: capacityMiB}
	s.ledger.resize(capacityMiB)
	return s
}

// openSubpools divides the memory that functions may have, and the warming
// pool's budget with it.
func (m *Manager) openSubpools() {
	whole, v := m.cfg.forFunctions(), m.cfg.VariableMiB
	budget := m.cfg.PoolBudgetMiB * float64(v) / float64(whole)
	m.variableStock = Stock{Min: map[hearth.Boot]int{}, Extra: m.cfg.PoolExtra, BudgetMiB: budget}
	if v > 0 {
		for b, n := range m.cfg.PoolMin {
			m.variableStock.Min[b] = min(n, 1)
		}
	}
	m.fixed = newSubpool(hearth.CapacityFixed, whole-v, newPool(Stock{Min: m.cfg.PoolMin, Extra: m.cfg.PoolExtra, BudgetMiB: m.cfg.PoolBudgetMiB - budget}))
	m.variable = newSubpool(hearth.CapacityVariable, 0, newPool(Stock{}))
	m.variable.mostMiB = v
}

// subpools are all that there are, the fixed one first. Called with mu held.
func (m *Manager) subpools() []*subpool {
	all := []*subpool{m.fixed, m.variable}
	for _, d := range m.dedicated {
		all = append(all, d.sub)
	}
	return all
}

// stocked are the sub-pools with a part of the warming pool of their own. No
// lock is needed.
func (m *Manager) stocked() []*subpool { return []*subpool{m.fixed, m.variable} }

// route is which sub-pool serves a function or an account, and how.
type route struct {
	policy *hearth.CapacityPolicy
	home   *subpool
}

// routes are what was said for accounts (with the function "") and functions.
// It is replaced as a whole, so that whoever reads it takes no lock.
type routes map[owner]*route

// routeOf is what was said for a function; nil if nothing was.
func (m *Manager) routeOf(account hearth.Account, function string) *route {
	rs := m.routes.Load()
	if rs == nil {
		return nil
	}
	if r := (*rs)[owner{account, function}]; r != nil {
		return r
	}
	return (*rs)[owner{account, ""}]
}

// home is the sub-pool that serves a function unless it is short.
func (m *Manager) home(f *hearth.Function) *subpool {
	if f.Shared != nil { // an account's own instances run nothing but its own
		return m.fixed
	}
	if r := m.routeOf(f.Account, f.Name); r != nil {
		return r.home
	}
	return m.fixed
}

// homeOf is the sub-pool that serves an invocation.
func (m *Manager) homeOf(inv *hearth.Invocation) *subpool {
	if inv.Capacity == hearth.CapacityFixed {
		return m.fixed
	}
	return m.home(inv.Function)
}

// standardCapacity is what a policy says that says nothing.
var standardCapacity = &hearth.CapacityPolicy{}

// capacityOf is the capacity policy in force for a group.
func (m *Manager) capacityOf(g *group) *hearth.CapacityPolicy {
	if r := m.routeOf(g.key.Account, g.key.Name); r != nil && g.key.Owner == "" {
		return r.policy
	}
	return standardCapacity
}

// policyFor is the capacity policy in force for an invocation.
func (m *Manager) policyFor(inv *hearth.Invocation) *hearth.CapacityPolicy {
	if r := m.routeOf(inv.Function.Account, inv.Function.Name); r != nil && inv.Function.Shared == nil {
		return r.policy
	}
	return standardCapacity
}

// waits tells whether an invocation that finds no room in the group's capacity
// waits for some. In fixed capacity all do.
func (m *Manager) waits(g *group) bool {
	return g.sub == m.fixed || m.capacityOf(g).Short(g.sub.kind) == "wait"
}

// patience is how long an invocation of the group waits.
func (m *Manager) patience(g *group) time.Duration {
	if g.sub == m.fixed {
		return m.cfg.QueueWait
	}
	return m.capacityOf(g).Wait()
}

// reroute goes by the capacity policies of a function, or with "" of an
// account, as they are now.
func (m *Manager) reroute(account hearth.Account, function string) {
	of := func(name string) *hearth.CapacityPolicy {
		if p := m.cfg.Policy(account, name).Capacity; p != nil {
			return p
		}
		return standardCapacity
	}
	whole := of("")
	m.mu.Lock()
	old := m.routes.Load()
	names := map[string]bool{function: true}
	next := routes{}
	if old != nil {
		for o, r := range *old {
			if o.account == account {
				names[o.function] = true
			} else {
				next[o] = r
			}
		}
	}
	delete(names, "")
	own := m.dedicate(account, whole.Dedicated)
	at := func(p *hearth.CapacityPolicy) *route {
		switch {
		case p.Variable():
			return &route{p, m.variable}
		case own != nil:
			return &route{p, own}
		}
		return &route{p, m.fixed}
	}
	if *whole != *standardCapacity {
		next[owner{account, ""}] = at(whole)
	}
	for name := range names {
		// A function that says nothing of its own has the account's very policy.
		if p := of(name); p != whole && (*p != *standardCapacity || *whole != *standardCapacity) {
			next[owner{account, name}] = at(p)
		}
	}
	if len(next) == 0 {
		m.routes.Store(nil)
	} else {
		m.routes.Store(&next)
	}
	m.mu.Unlock()
	if own != nil || old != nil {
		m.keepDedicated()
	}
}

// used adds up what invocations have used of a sub-pool. Atomic.
type used struct {
	invocations atomic.Uint64
	mibMillis   atomic.Uint64 // memory-time
	nanos       atomic.Uint64 // what it cost, in billionths of the feed's currency
	withdrawn   atomic.Uint64 // invocations that were cut
}

// Spending is what invocations of a function have used of one kind of capacity.
// Its JSON is what is on disk.
type Spending struct {
	Invocations uint64  `json:"invocations"`
	GiBSeconds  float64 `json:"gibSeconds"`
	Cost        float64 `json:"cost"`
	Withdrawn   uint64  `json:"withdrawn,omitempty"` // of the invocations, those that were cut at least once
}

func (s *Spending) add(gibSeconds, cost float64) {
	s.Invocations++
	s.GiBSeconds += gibSeconds
	s.Cost += cost
}

// Spendings are those of one function, by kind.
type Spendings map[hearth.CapacityKind]Spending

// metering tells whether it is recorded what invocations cost: where capacity
// is of several kinds, or has a price.
func (m *Manager) metering() bool { return m.priced || m.routes.Load() != nil }

// priceOf is what a GiB of the sub-pool costs an hour now.
func (m *Manager) priceOf(s *subpool) float64 {
	if s.kind == hearth.CapacityVariable {
		return m.meter.Price()
	}
	return m.cfg.FixedPrice
}

// sumOf is what a GiB of the sub-pool has cost until now; what something costs
// is the difference between its end and its beginning.
func (m *Manager) sumOf(s *subpool, now time.Time) float64 {
	if s.kind == hearth.CapacityVariable {
		return m.meter.Sum(now)
	}
	return m.cfg.FixedPrice * now.Sub(m.start).Hours()
}

// runMetered is run's part where it matters what capacity costs.
func (m *Manager) runMetered(ctx context.Context, c *container, inv *hearth.Invocation, reusable *bool) (r *hearth.Result, err error) {
	s := c.group.sub
	inv.Placement.Capacity = s.kind
	if _, wrapped := inv.Stream.(*begun); inv.Stream != nil && !wrapped && s.kind == hearth.CapacityVariable {
		inv.Stream = &begun{ResponseStream: inv.Stream}
	}
	from := m.clock.Now()
	before := m.sumOf(s, from)
	r, *reusable, err = c.env.Invoke(ctx, inv)
	m.learn(c.group, inv)
	to := m.clock.Now()
	m.charge(c, inv, to.Sub(from), m.sumOf(s, to)-before, cutShort(c, r, err, inv))
	return r, err
}

// charge notes what an invocation has used of its container, which it has held
// for so long, at so much a GiB.
func (m *Manager) charge(c *container, inv *hearth.Invocation, held time.Duration, price float64, cut bool) {
	s, mib := c.group.sub, c.mib()
	cost := price * float64(mib) / 1024
	inv.Placement.Cost += cost
	s.used.invocations.Add(1)
	s.used.mibMillis.Add(uint64(int64(mib) * held.Milliseconds()))
	s.used.nanos.Add(uint64(cost * 1e9))
	if cut {
		s.used.withdrawn.Add(1)
	}
	e := c.group.spent.Load()
	if e == nil { // the first time
		k := c.group.key
		e = m.spent.Of(spentKey(k.Account, k.Name))
		c.group.spent.Store(e)
	}
	e.Update(func(all *Spendings) {
		if *all == nil {
			*all = Spendings{}
		}
		one := (*all)[s.kind]
		one.add(float64(mib)/1024*held.Seconds(), cost)
		if cut {
			one.Withdrawn++
		}
		(*all)[s.kind] = one
	})
}

func spentKey(account hearth.Account, function string) string {
	return string(account) + "/" + function
}

// Spent is what the invocations of a function have used and cost, by kind of
// capacity; nil if nothing is known.
func (m *Manager) Spent(account hearth.Account, function string) Spendings {
	e := m.spent.Find(spentKey(account, function))
	if e == nil {
		return nil
	}
	all := Spendings{}
	e.View(func(s *Spendings) {
		for kind, one := range *s {
			all[kind] = one
		}
	})
	return all
}

// Room is how much memory there is of fixed or of variable capacity, and how
// much of it is promised. It takes no lock.
func (m *Manager) Room(kind hearth.CapacityKind) (capacityMiB, committedMiB int) {
	s := m.fixed
	if kind == hearth.CapacityVariable {
		s = m.variable
	}
	return s.ledger.size(), int(s.ledger.published.committed.Load())
}

// SubpoolStats is what a sub-pool has and has done.
type SubpoolStats struct {
	Kind                      hearth.CapacityKind
	Account                   hearth.Account // of a dedicated one
	CapacityMiB, CommittedMiB int
	MostMiB                   int // what there may be of it
	Instances                 int // active ones
	Warming                   int // ready ones that belong to nobody yet
	Waiting                   int // invocations that wait for it
	Price                     float64
	Used                      Spending
}

// Subpools tells of the sub-pools, the fixed one first, then the variable one,
// then dedicated ones by account.
func (m *Manager) Subpools() []SubpoolStats {
	groups := m.groups.all(func(hearth.Key) bool { return true })
	waiting := map[*subpool]int{}
	for _, g := range groups {
		g.mu.Lock()
		waiting[g.sub] += len(g.waiters)
		g.mu.Unlock()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	instances := map[*subpool]int{}
	for _, own := range m.tenants {
		for _, inst := range own {
			instances[inst.sub]++
		}
	}
	var all []SubpoolStats
	for _, s := range m.subpools() {
		st := SubpoolStats{Kind: s.kind, Account: s.owner, CapacityMiB: s.ledger.capacity, CommittedMiB: s.ledger.committed, MostMiB: s.mostMiB,
			Instances: instances[s], Waiting: waiting[s], Price: m.priceOf(s), Used: s.used.sum()}
		if s.kind != hearth.CapacityDedicated {
			for _, sh := range s.pool.shelves {
				st.Warming += len(sh.ready)
			}
		}
		all = append(all, st)
	}
	slices.SortFunc(all[2:], func(a, b SubpoolStats) int {
		if a.Account < b.Account {
			return -1
		}
		return 1
	})
	return all
}

func (u *used) sum() Spending {
	return Spending{Invocations: u.invocations.Load(), GiBSeconds: float64(u.mibMillis.Load()) / 1024 / 1000,
		Cost: float64(u.nanos.Load()) / 1e9, Withdrawn: u.withdrawn.Load()}
}
