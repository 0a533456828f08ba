package manager

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hearth-faas/hearth"
)

// Dedicated sub-pools: instances that an account has for itself alone, made
// before anybody calls, with its functions loaded. Their memory is taken from
// fixed capacity as that of one large container each, and stays taken whether
// they have work or not.

// dedication is one account's. Guarded by Manager.mu.
type dedication struct {
	sub    *subpool
	want   int // instances
	making int
	kept   []*instance
	short  bool // it was recorded that there is no room for one
}

// preloadFor is how long what is loaded ahead is asked for each time: several
// sweeps, each of which asks anew.
const preloadFor = 30 * time.Second

// dedicate says how many instances an account is to have, and returns its
// sub-pool; nil without any. Called with mu held.
func (m *Manager) dedicate(account hearth.Account, n int) *subpool {
	d := m.dedicated[account]
	if d == nil {
		if n == 0 {
			return nil
		}
		d = &dedication{sub: newSubpool(hearth.CapacityDedicated, 0, m.fixed.pool)}
		d.sub.owner = account
		m.dedicated[account] = d
	}
	d.want = n
	d.sub.mostMiB = n * m.cfg.InstanceMiB
	if n == 0 {
		return nil // it goes with its last instance
	}
	return d.sub
}

// keepDedicated makes what accounts lack of their own instances, lets go of what
// is too much, and has their functions loaded. Whatever changes either calls it,
// and the sweep.
func (m *Manager) keepDedicated() {
	var begin []*dedication
	var release []*instance
	m.mu.Lock()
	if len(m.dedicated) == 0 || m.closed.Load() {
		m.mu.Unlock()
		return
	}
	making := 0
	for _, d := range m.dedicated {
		making += d.making
	}
	all := make([]*dedication, 0, len(m.dedicated))
	for _, account := range slices.Sorted(maps.Keys(m.dedicated)) { // the same each time, for a simulation
		d := m.dedicated[account]
		for len(d.kept)+d.making < d.want && making < m.cfg.BootConcurrency {
			d.making++
			making++
			begin = append(begin, d)
		}
		if n := len(d.kept) - d.want; n > 0 {
			release = append(release, d.kept[d.want:]...)
		}
		if d.want == 0 && len(d.kept)+d.making == 0 && d.sub.ledger.committed == 0 && len(d.sub.ledger.queue) == 0 {
			delete(m.dedicated, account)
			continue
		}
		all = append(all, d)
	}
	m.mu.Unlock()
	for _, inst := range release {
		m.letGoOwn(inst, "the account is to have fewer of its own")
	}
	for _, d := range begin {
		m.background(func() { m.makeDedicated(d) })
	}
	for _, d := range all {
		m.preload(d)
	}
}

// ownFunctions are the functions of an account that its own instances serve, by
// name.
func (m *Manager) ownFunctions(s *subpool) (all []*hearth.Function) {
	if m.cfg.Functions == nil {
		return nil
	}
	for _, f := range m.cfg.Functions(s.owner) {
		// Nobody knows for which tenant.
		if f.State == hearth.Active && f.TenantIsolation == "" && m.home(f) == s {
			all = append(all, f)
		}
	}
	slices.SortFunc(all, func(a, b *hearth.Function) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// makeDedicated makes one instance of an account's own, which it counts as being
// made.
func (m *Manager) makeDedicated(d *dedication) {
	mib := m.cfg.InstanceMiB
	over := func(why string) {
		m.mu.Lock()
		d.making--
		tell := !d.short && !m.closed.Load()
		d.short = true
		m.mu.Unlock()
		if tell {
			m.record(&hearth.Decision{Kind: hearth.DecisionCapacity, Account: d.sub.owner, Chosen: "short", Capacity: hearth.CapacityDedicated, Why: why})
		}
	}
	if !m.claim(m.fixed, mib) {
		over(fmt.Sprintf("fixed capacity has no %d MiB left for another instance of the account's own; it is tried again", mib))
		return
	}
	s, err := m.slotForOwn(d.sub)
	m.mu.Lock()
	if err != nil || m.closed.Load() || s.died() {
		m.fixed.ledger.give(mib)
		m.mu.Unlock()
		if err == nil {
			m.discard(s)
		} else {
			m.count.bootFailures.Add(1)
			m.cfg.Log.Warn("a dedicated instance could not be made", "account", d.sub.owner, "error", err)
		}
		over("an instance of the account's own could not be made; it is tried again")
		return
	}
	inst := s.inst
	inst.assign(d.sub.owner, mib)
	inst.sub, inst.kept, inst.reservedMiB = d.sub, true, mib
	inst.ready = append(inst.ready, s)
	m.tenants[inst.owner] = append(m.tenants[inst.owner], inst)
	d.kept = append(d.kept, inst)
	d.making--
	d.short = false
	n, want := len(d.kept), d.want
	d.sub.ledger.resize(d.sub.ledger.capacity + mib)
	m.mu.Unlock()
	m.record(&hearth.Decision{Kind: hearth.DecisionCapacity, Account: inst.owner, Chosen: "dedicate", Capacity: hearth.CapacityDedicated, Instance: inst.env.ID(),
		Why: fmt.Sprintf("%d of the %d instances that the account is to have for itself", n, want)})
	m.kick()
	m.keepDedicated()
}

// slotForOwn takes a ready slot of the warming pool for a dedicated instance, or
// makes one. It is watched.
func (m *Manager) slotForOwn(sub *subpool) (*slot, error) {
	boot := hearth.Boot("")
	if own := m.ownFunctions(sub); len(own) > 0 {
		boot = m.worker.BootOf(own[0])
	}
	m.mu.Lock()
	if sh := m.fixed.pool.shelves[boot]; sh != nil && len(sh.ready) > 0 {
		s := m.fixed.pool.take(boot)
		m.mu.Unlock()
		return s, nil
	}
	m.mu.Unlock()
	cost := m.worker.SlotMiB(boot)
	ctx, cancel := m.limited()
	defer cancel()
	env, err := m.worker.NewInstance(ctx, boot)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	m.fixed.pool.shelf(boot, cost) // of which its slots are
	m.mu.Unlock()
	s := m.newSlot(&instance{env: env, sub: sub, made: m.clock.Now()}, env.FirstSlot(), boot, 0)
	m.watch(s)
	return s, nil
}

// claim takes memory of a sub-pool for what nobody waits for: it waits only as
// long as containers that nobody uses make room.
func (m *Manager) claim(s *subpool, mib int) bool {
	m.mu.Lock()
	if s.ledger.take(mib) {
		m.mu.Unlock()
		return true
	}
	if m.reclaimable(s) < mib || len(s.ledger.queue) > 0 {
		m.mu.Unlock()
		return false
	}
	claim := s.ledger.wait(mib)
	m.mu.Unlock()
	m.evictForRoom()
	over := make(chan struct{})
	timer := m.clock.AfterFunc(m.cfg.QueueWait, func() { close(over) })
	defer timer.Stop()
	select {
	case <-claim.ok:
	case <-over:
	case <-m.ctx.Done():
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !claim.got || m.ctx.Err() != nil {
		s.ledger.withdraw(claim)
		return false
	}
	return true
}

// letGoOwn lets go of one dedicated instance: nothing new comes to it, and it
// ends with what it has at work.
func (m *Manager) letGoOwn(inst *instance, why string) {
	var mine []*container
	m.mu.Lock()
	d := m.dedicated[inst.owner]
	if !inst.kept || d == nil {
		m.mu.Unlock()
		return
	}
	inst.kept = false
	inst.vacant.Store(true)
	d.kept = slices.DeleteFunc(d.kept, func(i *instance) bool { return i == inst })
	d.sub.ledger.resize(d.sub.ledger.capacity - inst.reservedMiB)
	for c := range m.containers {
		if c.inst == inst && c.now() != ending {
			mine = append(mine, c)
		}
	}
	empty := inst.containers == 0
	var end func()
	if empty {
		end = m.finish(inst)
	}
	m.mu.Unlock()
	m.record(&hearth.Decision{Kind: hearth.DecisionCapacity, Account: inst.owner, Chosen: "release", Capacity: hearth.CapacityDedicated, Instance: inst.env.ID(), Why: why})
	if empty {
		m.background(end)
	}
	for _, c := range mine {
		c.unwanted.Store(true)
		m.letGo(c)
	}
}

// preload has the account's functions loaded in its own instances, one
// container of each in each, as far as their memory goes.
func (m *Manager) preload(d *dedication) {
	m.mu.Lock()
	n, left := len(d.kept), d.sub.ledger.capacity
	m.mu.Unlock()
	whole := left
	now := m.clock.Now()
	for _, f := range m.ownFunctions(d.sub) {
		g := m.locked(d.sub, f, "", 0)
		count := min(n, left/max(g.newMiB(), 1))
		left -= count * g.newMiB()
		count -= g.busy
		g.mu.Unlock()
		m.Prepare(Preparation{Function: f, Count: max(count, 0), Until: now.Add(preloadFor), Key: "dedicated",
			Why: "the account's own instances", BudgetMiB: whole})
	}
}
