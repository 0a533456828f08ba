package manager

import (
	"context"
	"errors"
	"time"

	"github.com/hearth-faas/hearth"
)

// How an invocation comes by its container.

// tenant is whose containers may serve inv; "" is anybody's.
func tenant(inv *hearth.Invocation) string {
	if inv.Function.TenantIsolation == "" {
		return ""
	}
	return inv.TenantID
}

// group returns the group of f, the tenant and what was asked for in memory, in
// the sub-pool, made if there is none.
func (m *Manager) group(s *subpool, f *hearth.Function, tenant string, memory int) *group {
	k := share{f.Key(), tenant, memory, s}
	if g := m.groups.find(k); g != nil {
		return g
	}
	boot := m.worker.BootOf(f)
	cost := m.worker.SlotMiB(boot)
	m.mu.Lock()
	exact, blank := s.pool.shelf(boot, cost), s.pool.shelves[""]
	m.mu.Unlock()
	f = sized(f, memory)
	g := &group{key: k, sub: s, fn: f, boot: boot, mib: max(f.MemoryMiB, 1), milliCPUs: milliCPUs(f), exact: exact, blank: blank}
	g.most.Store(unbounded)
	g.evidence = m.sizes.Of(evidenceKey(k.Key))
	m.refresh(g)
	m.recall(g)
	g, fresh := m.groups.add(g)
	if fresh {
		m.regate(g)
		m.refresh(g) // again, for who changed the policy and did not find it
		// In this order, so that either Changed finds the group or the group
		// finds what Changed has announced. So with Provide and how many
		// containers there may be.
		m.mu.Lock()
		now, changed := m.newest[versionOf(k.Key)]
		if most, ok := m.maxima[versionOf(k.Key)]; ok {
			g.most.Store(int32(most))
		}
		m.mu.Unlock()
		if changed && now.replaces(k.Key) {
			m.retire(g, now.fn)
		}
	}
	return g
}

// locked is group, with its lock held.
func (m *Manager) locked(s *subpool, f *hearth.Function, tenant string, memory int) *group {
	g := m.group(s, f, tenant, memory)
	g.mu.Lock()
	for g.dead {
		g.mu.Unlock()
		m.groups.drop(g)
		g = m.group(s, f, tenant, memory)
		g.mu.Lock()
	}
	return g
}

// served is the group that serves inv in a sub-pool, with its lock held: its
// function's own, or that of newer code that has taken over.
func (m *Manager) served(s *subpool, inv *hearth.Invocation, memory int) *group {
	g := m.locked(s, inv.Function, tenant(inv), memory)
	if g.successor() != nil {
		g = m.toHeir(g, inv)
	}
	return g
}

// acquire finds a container for inv, makes it its own, and ends the stage
// Place and, for a new container, Attach, Boot and Init. Alone is one of those
// that are made for what inv asks for.
func (m *Manager) acquire(ctx context.Context, inv *hearth.Invocation, alone bool) (*container, error) {
	for {
		at := m.clock.Now()
		memory, err := m.asked(inv, alone)
		if err != nil {
			inv.Timeline.End(hearth.StagePlace, at)
			return nil, err
		}
		s := m.homeOf(inv)
		c, err := m.acquireIn(ctx, s, inv, memory, at)
		if err == errShort {
			c, err = m.elsewhere(ctx, s, inv, memory)
		}
		if err != errAgain {
			return c, err
		}
		if err := m.cfg.Refusal(inv); err != nil {
			inv.Timeline.End(hearth.StagePlace, m.clock.Now())
			return nil, err
		}
	}
}

// elsewhere is acquire where an invocation's own capacity is short, and its
// policy does not wait: it is refused, or spills onto fixed capacity.
func (m *Manager) elsewhere(ctx context.Context, s *subpool, inv *hearth.Invocation, memory int) (*container, error) {
	at := m.clock.Now()
	if m.policyFor(inv).Short(s.kind) == "refuse" {
		m.count.full.Add(1)
		inv.Placement.Why = errShort.Error()
		inv.Timeline.End(hearth.StagePlace, at)
		return nil, &hearth.Error{Op: "manager.place", Subject: inv.Function.QualifiedARN(), Kind: hearth.TooManyRequests,
			Message: "Rate Exceeded.", Reason: hearth.ReasonConcurrency, Err: errShort}
	}
	m.count.spilled.Add(1)
	c, err := m.acquireIn(ctx, m.fixed, inv, memory, at)
	if err == nil {
		inv.Placement.Why = string(s.kind) + " capacity was short, and its policy spills onto fixed; " + inv.Placement.Why
	}
	return c, err
}

// acquireIn is acquire in one sub-pool. The error errShort is that it has no
// room, and that the policy does not wait for any.
func (m *Manager) acquireIn(ctx context.Context, s *subpool, inv *hearth.Invocation, memory int, at time.Time) (*container, error) {
	p := &inv.Placement
	g := m.served(s, inv, memory)
	if err := g.refusal; err != nil {
		g.mu.Unlock()
		p.Why = whyRefused
		inv.Timeline.End(hearth.StagePlace, m.clock.Now())
		return nil, err
	}
	if g.shut && !m.waits(g) {
		g.mu.Unlock()
		return nil, errShort
	}
	g.idles.Rise(m.epoch(at), g.busy+len(g.waiters)+1)
	g.peak.note(g.busy+len(g.waiters)+1, at, m.cfg.PackEvery)
	p.Knew = g.knows()
	if len(g.wants) > 0 {
		g.met(at)
	}
	c := g.pop()
	if c != nil {
		g.busy++
		g.mu.Unlock()
		if c.mib() < g.newMiB() && !m.enlarge(c) {
			m.released(c, false)
			c = nil
			g = m.served(s, inv, memory)
		}
	}
	if c != nil {
		c.began.Store(int64(at.Sub(m.start)))
		p.Path, p.Why = hearth.PathReuse, "a container with this code was idle"
		if c.pledge != nil {
			p.Why = "a provisioned container was idle"
		}
		p.Instance, p.Container, p.First = c.inst.env.ID(), c.env.ID(), c.invocations.Load() == 0
		g.sub.ledger.tell(&p.Knew)
		p.Knew.Pool = g.pooled()
		m.count.path[reused].Add(1)
		if c.foretold.Load() != nil {
			m.hit(c, c.foretold.Swap(nil), inv)
		}
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
	if gr.err == errShort || gr.err == errAgain {
		return nil, gr.err
	}
	if gr.err != nil {
		p.Why = whyNot(gr.err)
		g.sub.ledger.tell(&p.Knew)
		inv.Timeline.End(hearth.StagePlace, m.clock.Now())
		return nil, gr.err
	}
	if gr.made == nil {
		g.sub.ledger.tell(&gr.knew)
		gr.knew.Pool = g.pooled()
	}
	p.Path, p.Why, p.Knew = gr.path, gr.why, gr.knew
	p.Instance, p.Container, p.First = gr.c.inst.env.ID(), gr.c.env.ID(), gr.c.invocations.Load() == 0
	m.count.path[pathIndex(gr.path)].Add(1)
	now := m.clock.Now()
	gr.c.began.Store(int64(now.Sub(m.start)))
	if f := gr.c.foretold.Swap(nil); f != nil {
		m.hit(gr.c, f, inv)
	}
	endPlaced(&inv.Timeline, gr.made, now)
	return gr.c, nil
}

// wait waits until w is granted or has waited long enough.
func (m *Manager) wait(ctx context.Context, g *group, w *waiter) grant {
	timeout := make(chan struct{}, 1)
	patience := m.patience(g)
	timer := m.clock.AfterFunc(patience, func() { timeout <- struct{}{} })
	defer timer.Stop()
	deadline := m.clock.Now().Add(patience + m.cfg.MakeTimeout)
	for {
		var err error
		select {
		case gr := <-w.ch:
			if gr.c != nil && ctx.Err() != nil {
				// Nobody is there to be served; another may be.
				m.released(gr.c, true)
				return grant{err: canceled(ctx, g)}
			}
			return gr
		case <-ctx.Done():
			err = canceled(ctx, g)
		case <-timeout:
			err = g.full()
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
		if left {
			g.fell(m.epoch(m.clock.Now()))
		}
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
func (g *group) full() error {
	switch {
	case g.sub.kind == hearth.CapacityVariable:
		return g.throttled(errPrice)
	case g.sub.kind == hearth.CapacityDedicated:
		return g.throttled(errOwnFull)
	}
	if g.most.Load() != unbounded {
		return g.throttled(errMost)
	}
	return g.throttled(errFull)
}

func (g *group) throttled(cause error) error {
	return &hearth.Error{Op: "manager.place", Subject: g.fn.QualifiedARN(), Kind: hearth.TooManyRequests,
		Message: "Rate Exceeded.", Reason: hearth.ReasonConcurrency, Err: cause}
}

// whyNot is what the decision says of an invocation that was refused for want
// of room; "" if it was for something else.
func whyNot(err error) string {
	if e, ok := errors.AsType[*hearth.Error](err); ok && e.Kind == hearth.TooManyRequests {
		return e.Err.Error()
	}
	return ""
}

// notMade is the answer to an invocation for which no container could be made.
func notMade(g *group, cause error) error {
	return &hearth.Error{Op: "manager.place", Subject: g.fn.QualifiedARN(), Kind: hearth.Service,
		Message: "No execution environment could be made for the function.", Err: cause}
}

var errSlow = errors.New("the making of a container took too long")

// Why an invocation is throttled; its decision says so.
var (
	errFull  = errors.New("no container and no memory for one came free in time")
	errMost  = errors.New("no container came free in time, and the version has as many as its scaling configuration allows, or memory is short")
	errScale = errors.New("the function has got as many new containers lately as it may")
	errVCPUs = errors.New("the containers of its capacity provider use all the vCPUs that it may")
)

func canceled(ctx context.Context, g *group) error {
	return &hearth.Error{Op: "manager.place", Subject: g.fn.QualifiedARN(), Kind: hearth.Canceled,
		Message: "The caller went away.", Err: context.Cause(ctx)}
}
