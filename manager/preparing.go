package manager

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
)

// preparations are what is made on predictions. Guarded by Manager.mu.
type preparations struct {
	making map[*preparing]struct{}
	// held is the memory of what is ready or being made, by account.
	held map[hearth.Account]int
	// later are the groups that lack something and wait for makers.
	later map[*group]struct{}
	// sums of what was made, by account.
	sums map[hearth.Account]*PreparedStats
	told time.Time // the last time that a refusal was recorded
}

// PreparedStats is what came of what was made on predictions.
type PreparedStats struct {
	Made, Hit, Wasted uint64 // containers; those that are neither are ready now
	Declined          uint64 // predictions of which nothing came for want of room
	// IdleMiBSeconds is the memory-time of those hit until they were, and
	// WastedMiBSeconds that of the others until they were ended.
	IdleMiBSeconds, WastedMiBSeconds float64
}

func (s *PreparedStats) add(o PreparedStats) {
	s.Made += o.Made
	s.Hit += o.Hit
	s.Wasted += o.Wasted
	s.Declined += o.Declined
	s.IdleMiBSeconds += o.IdleMiBSeconds
	s.WastedMiBSeconds += o.WastedMiBSeconds
}

// preparing is one container that is being made on a prediction.
type preparing struct {
	group *group
	want  *want
	mib   int // counted of the account's budget
	mu    atomic.Pointer[context.CancelFunc]
	off   atomic.Bool
}

// under notes how the making is called off, and calls it off if it is.
func (p *preparing) under(cancel context.CancelFunc) {
	p.mu.Store(&cancel)
	if p.off.Load() {
		cancel()
	}
}

// callOff ends the making soon: its memory is needed.
func (p *preparing) callOff() {
	p.off.Store(true)
	if cancel := p.mu.Load(); cancel != nil {
		(*cancel)()
	}
}

// headroom is the memory that is never taken on a prediction, so that an
// invocation finds some at once.
func (s *subpool) headroom() int {
	if s.kind == hearth.CapacityDedicated {
		return 0 // it is there for what is made ahead
	}
	return s.ledger.capacity / 8
}

// prepareMore begins to make what the group's wants lack, as far as it may.
func (m *Manager) prepareMore(g *group) (did Prepared) {
	for {
		g.mu.Lock()
		w, most := g.lacking(m.clock.Now())
		if w == nil || most || g.retired || g.heir != nil || g.shut {
			g.mu.Unlock()
			if most {
				did.Why = whyMostReady
			}
			return did
		}
		g.preparing++
		knew := g.knows()
		g.mu.Unlock()
		pr := &preparing{group: g, want: w}
		p, why := m.placePrepared(pr, knew)
		if p == nil {
			if g.unprepared() {
				m.background(func() { m.makeFor(g) })
			}
			did.Why = why
			return did
		}
		did.Making++
		m.background(func() { m.makePrepared(pr, p) })
	}
}

// placePrepared finds where to make a container: in memory that is free, and
// within what the account may use on predictions.
func (m *Manager) placePrepared(pr *preparing, knew hearth.Knowledge) (p *plan, why string) {
	g := pr.group
	m.mu.Lock()
	defer m.mu.Unlock()
	ps, s := &m.ahead, g.sub
	account, mib := g.key.Account, g.newMiB()
	switch {
	case m.closed.Load():
		return nil, whyClosed
	case len(ps.making) >= m.cfg.PrepareConcurrency:
		ps.later[g] = struct{}{}
		return nil, whyMachines
	case ps.held[account]+mib > or(pr.want.BudgetMiB, m.cfg.PrepareMiB):
		return nil, whyBudget
	case len(s.ledger.queue) > 0 || s.ledger.committed+mib > s.ledger.capacity-s.headroom():
		return nil, whyMemory
	case !m.allotFree(g):
		return nil, whyVCPUs
	}
	if !s.ledger.take(mib) {
		m.unallot(g)
		return nil, whyMemory
	}
	pr.mib = mib
	ps.held[account] += mib
	ps.making[pr] = struct{}{}
	p = m.choose(g, mib, knew)
	p.preparing = pr
	return p, ""
}

// makePrepared makes one container and puts it where invocations find it.
func (m *Manager) makePrepared(pr *preparing, p *plan) {
	g := pr.group
	over := func(err error) {
		m.preparedEnds(pr)
		m.notHeld(g, pr.mib)
		m.count.makeFailures.Add(1)
		if !pr.off.Load() && !m.closed.Load() {
			m.cfg.Log.Warn("a container could not be made ahead", "function", g.fn.QualifiedARN(), "for", pr.want.Why, "error", err)
		}
		// What can't be made now is not tried again on this prediction.
		g.mu.Lock()
		if pr.want.left--; pr.want.left <= 0 {
			g.forgetWants(m.clock.Now())
		}
		g.mu.Unlock()
		if g.unprepared() {
			m.makeFor(g)
		}
		m.prepareLater()
	}
	c, _, err, late := m.buildInTime(g, p, func() { over(errSlow) })
	switch {
	case late:
	case err != nil:
		over(err)
	default:
		now := m.clock.Now()
		c.foretold.Store(&foretold{pr.want, now, pr.mib})
		m.preparedEnds(pr)
		m.mu.Lock()
		m.sumsOf(g.key.Account).Made++
		m.mu.Unlock()
		m.record(&hearth.Decision{Kind: hearth.DecisionPrepare, Account: g.key.Account, Function: g.key.Name, Version: g.key.Version,
			Chosen: string(p.Path), Instance: c.inst.env.ID(), Container: c.env.ID(), Knew: p.knew,
			Why: "made ready for " + pr.want.Why})
		m.settle(c, loading)
		g.mu.Lock()
		m.expireAt(g, pr.want.Until)
		g.mu.Unlock()
		m.prepareLater()
	}
}

// preparedEnds says that the making has ended.
func (m *Manager) preparedEnds(pr *preparing) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.ahead.making, pr)
}

// notHeld gives back what a container used of its account's budget.
func (m *Manager) notHeld(g *group, mib int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	held := m.ahead.held
	if held[g.key.Account] -= mib; held[g.key.Account] <= 0 {
		delete(held, g.key.Account)
	}
}

// prepareLater goes on with what waits for makers.
func (m *Manager) prepareLater() {
	m.mu.Lock()
	later := make([]*group, 0, len(m.ahead.later))
	for g := range m.ahead.later {
		later = append(later, g)
	}
	clear(m.ahead.later)
	m.mu.Unlock()
	slices.SortFunc(later, func(a, b *group) int { return cmp.Compare(a.key.Generation, b.key.Generation) })
	for _, g := range later {
		m.prepareMore(g)
	}
}

// sumsOf are the sums of an account. Called with mu held.
func (m *Manager) sumsOf(a hearth.Account) *PreparedStats {
	s := m.ahead.sums[a]
	if s == nil {
		s = &PreparedStats{}
		m.ahead.sums[a] = s
	}
	return s
}

// PreparedStats tells what came of what was made for the account on
// predictions.
func (m *Manager) PreparedStats(a hearth.Account) PreparedStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.ahead.sums[a]; s != nil {
		return *s
	}
	return PreparedStats{}
}

// hit says that an invocation uses a container that was made for it.
func (m *Manager) hit(c *container, f *foretold, inv *hearth.Invocation) {
	fate := Fate{Hit: true, Idle: m.clock.Now().Sub(f.since), MiB: f.mib}
	inv.Placement.Why = "a container that was made ready for it was there"
	m.fated(c, f, fate, inv.RequestID, "hit", fmt.Sprintf("made ready for %s, and used after %v", f.Why, fate.Idle.Round(time.Millisecond)))
}

// wasted says that a container that was made on a prediction was not used.
func (m *Manager) wasted(c *container, f *foretold, why string) {
	fate := Fate{Idle: m.clock.Now().Sub(f.since), MiB: f.mib}
	m.fated(c, f, fate, "", "waste", fmt.Sprintf("made ready for %s, and not used in %v (%.0f MiB-seconds): %s", f.Why, fate.Idle.Round(time.Millisecond), fate.MiBSeconds(), why))
}

// fated counts and records what became of c, and tells whoever foretold it.
func (m *Manager) fated(c *container, f *foretold, fate Fate, request, chosen, why string) {
	g := c.group
	m.notHeld(g, f.mib)
	m.mu.Lock()
	s := m.sumsOf(g.key.Account)
	if fate.Hit {
		s.Hit++
		s.IdleMiBSeconds += fate.MiBSeconds()
	} else {
		s.Wasted++
		s.WastedMiBSeconds += fate.MiBSeconds()
	}
	m.mu.Unlock()
	m.record(&hearth.Decision{Kind: hearth.DecisionPrepare, RequestID: request, Account: g.key.Account, Function: g.key.Name, Version: g.key.Version,
		Chosen: chosen, Instance: c.inst.env.ID(), Container: c.env.ID(), Why: why})
	if f.Fate != nil {
		f.Fate(fate)
	}
}

// declined records that nothing came of a prediction: now and then, since where
// there is no room for one there is none for many.
func (m *Manager) declined(g *group, what, why string) {
	m.mu.Lock()
	m.sumsOf(g.key.Account).Declined++
	now := m.clock.Now()
	tell := now.Sub(m.ahead.told) >= time.Second
	if tell {
		m.ahead.told = now
	}
	m.mu.Unlock()
	if tell {
		m.record(&hearth.Decision{Kind: hearth.DecisionPrepare, Account: g.key.Account, Function: g.key.Name, Version: g.key.Version,
			Chosen: "none", Why: "nothing is made ready for " + what + ": " + why})
	}
}

// yielding is the memory that calling off what is being made on predictions
// would free in the sub-pool. Called with mu held.
func (m *Manager) yielding(s *subpool) (mib int) {
	for pr := range m.ahead.making {
		if pr.group.sub == s && pr.group.adopted.Load() == 0 {
			mib += pr.group.mib
		}
	}
	return mib
}

// callOffPreparing calls off what is being made on predictions until need MiB
// come free, except what somebody waits for; it returns how many will.
func (m *Manager) callOffPreparing(s *subpool, need int) (mib int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for pr := range m.ahead.making {
		if mib >= need {
			break
		}
		if pr.group.sub != s || pr.group.adopted.Load() > 0 {
			continue
		}
		pr.callOff()
		mib += pr.group.mib
	}
	return mib
}

// crowded reports whether invocations use so much that what was made on
// predictions must give way. Called with mu held.
func (m *Manager) crowded(s *subpool) int {
	if len(m.ahead.held) == 0 {
		return 0
	}
	return s.ledger.committed - s.ledger.ending - (s.ledger.capacity - s.headroom())
}

// giveWay ends what was made on predictions before memory is short.
func (m *Manager) giveWay(s *subpool) {
	m.evicting.Lock()
	defer m.evicting.Unlock()
	m.mu.Lock()
	over := m.crowded(s)
	var found []*container
	for c := range m.containers {
		if c.group.sub == s && c.now() == idle && c.foretold.Load() != nil {
			found = append(found, c)
		}
	}
	m.mu.Unlock()
	if over > 0 {
		over -= m.callOffPreparing(s, over)
	}
	slices.SortFunc(found, func(a, b *container) int { return cmp.Compare(a.env.ID(), b.env.ID()) })
	for _, c := range found {
		if over <= 0 {
			return
		}
		if c.move(idle, ending) {
			over -= c.mib()
			m.count.evicted.Add(1)
			m.evicted(c, hearth.DecisionEvict, "memory is getting short, and it was made ready for an invocation that has not come")
		}
	}
}
