package manager

import (
	"cmp"
	"slices"
	"time"

	"github.com/hearth-faas/hearth"
)

// newSlot makes a slot of what the worker has made. Its death is not watched
// yet.
func (m *Manager) newSlot(inst *instance, env hearth.Container, boot hearth.Boot, mib float64) *slot {
	return &slot{env: env, done: env.Done(), inst: inst, boot: boot, mib: mib, made: m.clock.Now(), gone: make(chan struct{})}
}

// watch waits for the death of a slot or of the container that it became, so
// that no caller is the first to find out.
func (m *Manager) watch(s *slot) {
	tracked := m.track()
	go func() {
		if tracked {
			defer m.bg.Done()
		}
		m.awaitDeath(s)
	}()
}

func (m *Manager) awaitDeath(s *slot) {
	select {
	case <-s.gone:
		return
	case <-s.done:
	}
	if c := s.container.Load(); c != nil {
		m.lose(c)
		return
	}
	m.mu.Lock()
	found := s.inst.sub.pool.remove(s)
	if !found {
		if i := slices.Index(s.inst.ready, s); i >= 0 {
			s.inst.ready = slices.Delete(s.inst.ready, i, i+1)
			found = true
		}
	}
	if !found { // taken, and its maker sees to it; or being discarded
		m.mu.Unlock()
		return
	}
	hold := s.inst.sub.pool.shelves[s.boot].fail(m.clock.Now(), m.reboot)
	m.mu.Unlock()
	m.count.lost.Add(1)
	m.record(&hearth.Decision{Kind: hearth.DecisionLost, Chosen: bootName(s.boot), Instance: s.inst.env.ID(), Container: s.env.ID(),
		Why: "a ready slot ended by itself"})
	m.clock.AfterFunc(hold, m.kick)
	m.background(func() { m.discard(s) })
}

// lose ends a container that died while it was idle. One that is busy is left
// to its invocation.
func (m *Manager) lose(c *container) {
	if !c.move(idle, ending) {
		return
	}
	m.count.lost.Add(1)
	m.evicted(c, hearth.DecisionLost, "it ended by itself while it was idle")
}

// evicted takes a container that was claimed (idle → ending) from its group's
// stack, records why, and ends it.
func (m *Manager) evicted(c *container, kind hearth.DecisionKind, why string) {
	g := c.group
	g.mu.Lock()
	g.remove(c)
	knew := g.knows()
	g.mu.Unlock()
	g.sub.ledger.tell(&knew)
	m.record(&hearth.Decision{Kind: kind, Account: g.key.Account, Function: g.key.Name, Version: g.key.Version, Generation: g.key.Generation,
		Chosen: c.env.ID(), Instance: c.inst.env.ID(), Container: c.env.ID(), Why: why, Knew: knew})
	m.end(c)
}

// end destroys a container, whose state is ending, in the background.
func (m *Manager) end(c *container) {
	if f := c.foretold.Swap(nil); f != nil {
		m.wasted(c, f, "it was ended")
	}
	m.mu.Lock()
	c.group.sub.ledger.ending += c.mib()
	m.unallot(c.group)
	if c.pledge != nil {
		delete(c.pledge.containers, c)
	}
	m.mu.Unlock()
	if c.pledge != nil {
		defer m.provide()
	}
	m.background(func() {
		close(c.gone)
		m.destroyed("container", c.env.ID(), c.env.Destroy())
		m.mu.Lock()
		c.group.sub.ledger.ending -= c.mib()
		m.mu.Unlock()
		m.forget(c.group.sub, c.inst, c.mib(), c)
		m.noteDrained(c.group)
	})
}

// forget gives back what a container, or the plan of one, was promised. An
// instance that has none left is destroyed: it is never handed back.
func (m *Manager) forget(s *subpool, inst *instance, mib int, c *container) {
	if c != nil {
		m.byID.Delete(c.env.ID())
	}
	m.mu.Lock()
	delete(m.containers, c)
	s.ledger.give(mib)
	if inst == nil {
		m.mu.Unlock()
		return
	}
	inst.usedMiB -= mib
	inst.containers--
	if inst.containers > 0 || inst.kept {
		m.mu.Unlock()
		return
	}
	end := m.finish(inst)
	m.mu.Unlock()
	end()
}

// finish takes an instance without containers from its account, and returns
// what ends it. Called with mu held.
func (m *Manager) finish(inst *instance) (end func()) {
	inst.ending = true
	m.fixed.ledger.give(inst.reservedMiB)
	spares := inst.ready
	inst.ready = nil
	own := m.tenants[inst.owner]
	if own = slices.DeleteFunc(own, func(i *instance) bool { return i == inst }); len(own) == 0 {
		delete(m.tenants, inst.owner)
	} else {
		m.tenants[inst.owner] = own
	}
	return func() {
		for _, s := range spares {
			m.discard(s)
		}
		m.destroyed("instance", inst.env.ID(), inst.env.Destroy())
	}
}

// destroyed notes how a Destroy went. One that failed is not tried again: the
// driver cleans up what it has left when it starts next.
func (m *Manager) destroyed(what, id string, err error) {
	if err != nil {
		m.count.destroyFailures.Add(1)
		m.cfg.Log.Error("could not be destroyed", "what", what, "id", id, "error", err)
	}
}

// evictForRoom ends idle containers so that those who wait for memory get it.
func (m *Manager) evictForRoom() {
	m.mu.Lock()
	all := m.subpools()
	m.mu.Unlock()
	for _, s := range all {
		m.evictIn(s)
	}
}

// evictIn is evictForRoom in one sub-pool: for as many of those who wait there,
// in their order, as all idle containers can make room.
func (m *Manager) evictIn(s *subpool) {
	if s.ledger.waiting.Load() == 0 {
		return
	}
	m.evicting.Lock()
	defer m.evicting.Unlock()
	m.mu.Lock()
	short := s.ledger.wanting()
	if len(short) == 0 || short[len(short)-1] <= 0 {
		m.mu.Unlock()
		return
	}
	var found []*container
	total := m.yielding(s)
	for c := range m.containers {
		if c.group.sub == s && c.now() == idle && c.pledge == nil {
			found = append(found, c)
			total += c.mib()
		}
	}
	m.mu.Unlock()
	slices.SortFunc(found, func(a, b *container) int {
		return cmp.Or(cmp.Compare(a.lastUsed.Load(), b.lastUsed.Load()), cmp.Compare(a.env.ID(), b.env.ID()))
	})
	need := 0
	for _, mib := range short {
		if mib <= total {
			need = max(need, mib)
		}
	}
	if need -= m.callOffPreparing(s, need); need <= 0 {
		return
	}
	now := m.clock.Now()
	seen := make([]Idler, len(found))
	for i, c := range found {
		seen[i] = Idler{MiB: c.mib(), Idle: c.idleFor(m, now), Life: m.lifeOf(c, now), Foretold: c.foretold.Load() != nil}
	}
	for _, i := range m.evict.Choose(need, seen) {
		if c := found[i]; c.move(idle, ending) {
			m.count.evicted.Add(1)
			m.evicted(c, hearth.DecisionEvict, "its memory was needed, and it was worth least")
		}
	}
}

func (c *container) idleFor(m *Manager, now time.Time) time.Duration {
	return now.Sub(m.start) - time.Duration(c.lastUsed.Load())
}

// sweep ends what has been idle for longer than its life, forgets groups of
// which nothing is left, and trims the pool.
func (m *Manager) sweep() {
	now := m.clock.Now()
	groups := m.groups.all(func(hearth.Key) bool { return true })
	m.gather(groups, now)
	for _, g := range groups {
		m.sweepGroup(g, now)
	}
	m.trim(now)
	m.keepSeasons(now)
	m.pack(now)
	m.keepDedicated()
	m.kick()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgetScales(now)
	m.forgetDeleted(now)
	if !m.closed.Load() {
		m.sweeper = m.clock.AfterFunc(m.cfg.SweepEvery, m.onTimer(m.sweep))
	}
}

func (m *Manager) sweepGroup(g *group, now time.Time) {
	g.mu.Lock()
	old, plan, ahead := m.surplus(g, now)
	// What was learned is worth keeping at hand, but not that of each of a
	// function's tenants, or of what callers ask for.
	if g.empty() && len(old) == 0 && (g.retired || !g.recalls() || m.epoch(now)-g.idles.Last() > historyKept) {
		g.dead = true
		if g.expiry != nil {
			g.expiry.Stop()
		}
	}
	dead := g.dead
	g.mu.Unlock()
	if dead {
		m.groups.drop(g)
		m.keepIdles(g)
	}
	if ahead > 0 {
		m.cfg.Prewarmer.Prewarm(g.fn, g.key.tenant, ahead, now.Add(plan.Until-m.epoch(now)), "when it is called, as learned")
	}
	for _, c := range old {
		m.count.expired.Add(1)
		m.evicted(c, hearth.DecisionEvict, "no invocation was likely enough to come to it soon")
	}
}
