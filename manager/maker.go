package manager

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
)

// plan is where a container is going to be made: its memory is promised and
// its instance, where there is one, holds a place for it.
type plan struct {
	Choice
	mib  int       // what is promised
	inst *instance // nil on the path d until it was made
	slot *slot     // nil if one must be made
	knew hearth.Knowledge
	// pledge is what the container is for if it is a provisioned one.
	pledge *pledge
	ahead  bool // it is made before its code takes over from older code
	// preparing is what makes it on a prediction, else nil.
	preparing *preparing
}

// startMakers starts n makers, which the group counts already.
func (m *Manager) startMakers(g *group, n int) {
	for range n {
		m.background(func() { m.makeFor(g) })
	}
}

// makeFor makes one container of the group and gives it to the first waiter.
// It tries again after failures; each maker ends with one container, one
// waiter told that there is none, or because nobody waits any more.
func (m *Manager) makeFor(g *group) {
	for failures := 0; ; {
		x, ok := m.turn(g)
		if !ok {
			return
		}
		p, ok := m.place(g)
		if !ok {
			m.turns.leave(x)
			return
		}
		c, t, err, late := m.buildInTime(g, p, func() { m.giveUp(g, errSlow) })
		m.turns.leave(x)
		if late {
			return
		}
		if err == nil {
			m.deliver(c, p, t)
			return
		}
		failures++
		m.count.makeFailures.Add(1)
		m.cfg.Log.Warn("a container could not be made", "function", g.fn.QualifiedARN(), "path", p.Path, "failures", failures, "error", err)
		if failures >= m.cfg.Attempts || !transient(err) || m.closed.Load() {
			m.giveUp(g, err)
			return
		}
		// A slot that had died tells nothing about the next one.
		if hearth.KindOf(err) != hearth.ContainerGone && !m.pause(g, m.retry.After(failures)) {
			return
		}
	}
}

// buildInTime is build with an end, even if the worker does not keep to its
// context: then late is true, tooLate was called, and what the worker may
// still come up with is destroyed.
func (m *Manager) buildInTime(g *group, p *plan, tooLate func()) (c *container, t *hearth.Timeline, err error, late bool) {
	var over atomic.Bool
	finish := func() bool {
		if !over.CompareAndSwap(false, true) {
			return false
		}
		m.mu.Lock()
		m.live--
		m.mu.Unlock()
		m.kick()
		return true
	}
	timer := m.clock.AfterFunc(m.cfg.MakeTimeout+lateGrace, func() {
		if finish() {
			tooLate()
		}
	})
	defer timer.Stop()
	c, t, err = m.build(g, p)
	if finish() {
		return c, t, err, false
	}
	if c != nil {
		c.mustMove(loading, ending)
		m.end(c)
	}
	return nil, nil, err, true
}

// lateGrace is how long a worker may take to return after its context ended.
const lateGrace = time.Second

// limited is a context for one call of the worker in the background.
func (m *Manager) limited() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(m.ctx)
	timer := m.clock.AfterFunc(m.cfg.MakeTimeout, func() { cancel(errSlow) })
	return ctx, func() {
		timer.Stop()
		cancel(nil)
	}
}

// transient tells whether trying again may help: an error that blames the
// function will be the same each time.
func transient(err error) bool {
	k := hearth.KindOf(err)
	return k == hearth.Service || k == hearth.ContainerGone
}

// pause parks the maker for d; false if it was called off.
func (m *Manager) pause(g *group, d time.Duration) bool {
	p := g.park(false)
	if p == nil {
		return false
	}
	over := make(chan struct{})
	timer := m.clock.AfterFunc(d, func() { close(over) })
	defer timer.Stop()
	select {
	case <-over:
	case <-p.quit:
	case <-m.ctx.Done():
	}
	return g.unpark(p)
}

// giveUp tells the first waiter that no container could be made.
func (m *Manager) giveUp(g *group, err error) {
	if k := hearth.KindOf(err); err != errShort && (transient(err) || k == hearth.Canceled) {
		err = notMade(g, err)
	}
	g.mu.Lock()
	g.making--
	w := g.next()
	if w != nil {
		g.fell(m.epoch(m.clock.Now()))
	}
	n := g.demand() // where there may be no more, others wait for this one's end
	g.mu.Unlock()
	if w != nil {
		w.ch <- grant{err: err}
	}
	m.startMakers(g, n)
}

// place finds where to make a container, and waits for memory if need be. It
// counts the maker as live. False if it was called off, or has given up.
func (m *Manager) place(g *group) (*plan, bool) {
	if !m.begins(g) {
		return nil, false
	}
	if err := m.permit(g); err != nil {
		m.giveUp(g, err)
		return nil, false
	}
	p, ok := m.findRoom(g)
	if !ok {
		m.mu.Lock()
		m.unpermit(g)
		m.mu.Unlock()
	}
	return p, ok
}

// findRoom is place for what is permitted.
func (m *Manager) findRoom(g *group) (*plan, bool) {
	if min(g.mib, g.newMiB()) > g.sub.mostMiB {
		if !m.waits(g) {
			m.giveUp(g, errShort)
			return nil, false
		}
		m.giveUp(g, &hearth.Error{Op: "manager.place", Subject: g.fn.QualifiedARN(), Kind: hearth.Service,
			Message: "The function needs more memory than this machine gives to functions.", Err: errFull})
		return nil, false
	}
	g.mu.Lock()
	knew := g.knows()
	g.mu.Unlock()
	m.mu.Lock()
	mib, ok := m.takeFor(g)
	if ok {
		p := m.choose(g, mib, knew)
		crowded := m.crowded(g.sub) > 0
		m.mu.Unlock()
		if crowded {
			m.background(func() { m.giveWay(g.sub) })
		}
		return p, true
	}
	short := g.sub != m.fixed && m.reclaimable(g.sub) < mib+g.sub.ledger.queued()
	m.mu.Unlock()
	if short && !m.waits(g) {
		m.giveUp(g, errShort)
		return nil, false
	}

	parked := g.park(false)
	if parked == nil {
		return nil, false
	}
	m.mu.Lock()
	claim := g.sub.ledger.wait(mib)
	m.mu.Unlock()
	m.evictForRoom()
	select {
	case <-claim.ok:
	case <-parked.quit:
	case <-m.ctx.Done():
	}
	if !g.unpark(parked) {
		m.mu.Lock()
		g.sub.ledger.withdraw(claim)
		m.mu.Unlock()
		return nil, false
	}
	m.mu.Lock()
	if !claim.got { // shutting down
		g.sub.ledger.withdraw(claim)
		m.mu.Unlock()
		m.giveUp(g, context.Cause(m.ctx))
		return nil, false
	}
	p := m.choose(g, mib, knew)
	m.mu.Unlock()
	return p, true
}

// choose decides on the place of a container to which mib MiB are promised, and
// takes it. Called with mu held.
func (m *Manager) choose(g *group, mib int, knew hearth.Knowledge) *plan {
	m.live++
	own := m.tenants[g.key.Tenant()]
	rooms := make([]Room, len(own))
	for i, inst := range own {
		if inst.sub != g.sub || inst.vacant.Load() {
			rooms[i] = Room{FreeMiB: -1} // less than anybody needs
			continue
		}
		r := Room{FreeMiB: inst.room()}
		r.Exact, r.Blank = inst.readySlots(g.boot)
		rooms[i] = r
		if r.FreeMiB >= mib {
			knew.Room++
			knew.Slots += r.Exact + r.Blank
		}
	}
	exact, blank := len(g.exact.ready), 0
	if g.blank != g.exact {
		blank = len(g.blank.ready)
	}
	knew.Pool = exact + blank
	g.sub.ledger.tell(&knew)

	p := &plan{Choice: Search{Spread: g.sub.kind == hearth.CapacityDedicated}.Choose(mib, rooms, exact, blank), mib: mib, knew: knew}
	boot := g.boot
	if !p.Exact {
		boot = ""
	}
	switch p.Path {
	case hearth.PathContainer:
		p.inst = own[p.Room]
		if p.Ready {
			p.slot = p.inst.takeSlot(boot)
			g.sub.pool.usedMiB -= p.slot.mib
		}
	case hearth.PathWarm:
		p.slot = g.sub.pool.take(boot)
		p.inst = p.slot.inst
		p.inst.sub = g.sub
		p.inst.assign(g.key.Tenant(), max(m.cfg.InstanceMiB, mib))
		m.tenants[p.inst.owner] = append(own, p.inst)
	}
	if p.inst != nil {
		p.inst.containers++
		p.inst.usedMiB += mib
		if knew.Busy+knew.Waiting > 1 {
			p.inst.wantSpare, p.inst.spareBoot, p.inst.spareMiB = true, g.boot, mib
		}
	}
	// A demand that the pool did not meet counts as well: it is what the pool
	// should have held. A spare slot is not the pool's to replace.
	if p.Path != hearth.PathContainer || !p.Ready {
		m.trend.Take(&g.exact.takes, m.clock.Now(), g.exact.lead())
	}
	return p
}

// build makes the slot that the plan lacks, loads the function, and returns
// the container with what it took. After an error nothing is left of it.
func (m *Manager) build(g *group, p *plan) (c *container, t *hearth.Timeline, err error) {
	ctx, cancel := m.limited()
	defer cancel()
	if p.preparing != nil {
		p.preparing.under(cancel)
	}
	t = &hearth.Timeline{}
	t.Begin(m.clock.Now())
	if err := m.slotFor(ctx, g, p); err != nil {
		m.abandon(g, p)
		return nil, nil, err
	}
	if !p.Ready {
		t.End(hearth.StageBoot, m.clock.Now())
	}
	load := p.slot.env.Load
	if p.pledge != nil {
		load = p.slot.env.Provision
	}
	if err := load(ctx, sized(g.fn, p.mib), t); err != nil {
		m.abandon(g, p)
		return nil, nil, err
	}
	c = &container{slot: p.slot, group: g, pledge: p.pledge, ahead: p.ahead}
	c.size.Store(int32(p.mib))
	c.lastUsed.Store(int64(m.clock.Now().Sub(m.start)))
	p.slot.container.Store(c)
	if c.died() {
		// Its watcher may have found nothing but a taken slot.
		m.abandon(g, p)
		return nil, nil, &hearth.Error{Op: "manager.build", Kind: hearth.ContainerGone, Message: "The container ended while it was made."}
	}
	m.mu.Lock()
	m.containers[c] = struct{}{}
	m.mu.Unlock()
	m.byID.Store(c.env.ID(), c)
	g.makeTime.Store(int64(t.Total()))
	return c, t, nil
}

// slotFor makes what the plan lacks of an instance and a slot.
func (m *Manager) slotFor(ctx context.Context, g *group, p *plan) error {
	if p.slot != nil {
		return nil
	}
	if p.inst != nil {
		env, err := p.inst.env.NewSlot(ctx, g.boot)
		if err != nil {
			if p.inst.sub.kind == hearth.CapacityDedicated {
				m.letGoOwn(p.inst, "no container can be made in it any more")
			}
			return err
		}
		p.slot = m.newSlot(p.inst, env, g.boot, 0)
		m.watch(p.slot)
		return nil
	}
	env, err := m.worker.NewInstance(ctx, g.boot)
	if err != nil {
		return err
	}
	inst := &instance{env: env, sub: g.sub, made: m.clock.Now(), containers: 1, usedMiB: p.mib}
	m.mu.Lock()
	inst.assign(g.key.Tenant(), max(m.cfg.InstanceMiB, p.mib))
	m.tenants[inst.owner] = append(m.tenants[inst.owner], inst)
	m.mu.Unlock()
	p.inst, p.slot = inst, m.newSlot(inst, env.FirstSlot(), g.boot, 0)
	m.watch(p.slot)
	return nil
}

// abandon undoes a plan: what was made for it is destroyed, here and now, so
// that the next try does not add to it.
func (m *Manager) abandon(g *group, p *plan) {
	if p.slot != nil {
		close(p.slot.gone)
		m.destroyed("container", p.slot.env.ID(), p.slot.env.Destroy())
	}
	m.mu.Lock()
	m.unallot(g)
	m.mu.Unlock()
	m.forget(g.sub, p.inst, p.mib, nil)
}

// deliver gives a new container to the first waiter.
func (m *Manager) deliver(c *container, p *plan, t *hearth.Timeline) {
	g := c.group
	g.mu.Lock()
	g.took = t.Total()
	if g.shut || c.inst.vacant.Load() {
		// Its capacity went while it was made.
		g.making--
		c.mustMove(loading, ending)
		n := g.demand()
		g.mu.Unlock()
		m.startMakers(g, n)
		m.end(c)
		return
	}
	w := g.next()
	if w == nil {
		g.mu.Unlock()
		m.record(&hearth.Decision{Kind: hearth.DecisionSpare, Account: g.key.Account, Function: g.key.Name, Version: g.key.Version,
			Chosen: string(p.Path), Instance: c.inst.env.ID(), Container: c.env.ID(), Knew: p.knew,
			Why: "whoever it was made for was served by another that became free first"})
		m.settle(c, loading)
		return
	}
	g.making--
	g.busy++
	c.mustMove(loading, busy)
	g.goAfter(c)
	g.mu.Unlock()
	w.ch <- grant{c: c, path: p.Path, why: p.Why, knew: p.knew, made: t}
}

// endPlaced ends the stages of an invocation that waited until now: all that
// made does not account for was spent on finding a place. Of a making that
// had begun before the invocation came, it has waited only for the last part.
func endPlaced(t, made *hearth.Timeline, now time.Time) {
	if made == nil {
		t.End(hearth.StagePlace, now)
		return
	}
	waited := now.Sub(t.Began.Add(t.Total()))
	stages := []hearth.Stage{hearth.StageInit, hearth.StageBoot, hearth.StageAttach}
	var spent [hearth.Stages]time.Duration
	at := now
	for _, s := range stages {
		spent[s] = min(made.Spent[s], waited)
		waited -= spent[s]
		at = at.Add(-spent[s])
	}
	t.End(hearth.StagePlace, at)
	for _, s := range []hearth.Stage{hearth.StageAttach, hearth.StageBoot, hearth.StageInit} {
		at = at.Add(spent[s])
		t.End(s, at)
	}
}
