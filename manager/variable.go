package manager

import (
	"errors"
	"fmt"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/market"
)

// Variable capacity: how it comes, whom it serves while it is there, and what
// becomes of what runs on it when it goes.
//
// Each group of it has a gate: shut while the price does not suit its policy,
// or there is no such capacity. While it is shut nothing of the group is given
// to anybody, and its invocations wait; when it opens they are served in their
// order. When capacity is withdrawn what is idle ends at once, and what is at
// work has a time of grace. Whatever has not ended then is cut, and by its
// policy run again there, run again on fixed capacity, or failed.

// maxWithdrawals is how often an invocation is run again after it was cut.
const maxWithdrawals = 3

// Market is told what is known of variable capacity, by one goroutine at a
// time.
func (m *Manager) Market(s market.State) {
	if !m.track() {
		return
	}
	defer m.bg.Done()
	now := m.clock.Now()
	before := m.market.Swap(&s)
	if s.Known {
		m.meter.Set(now, s.Price)
	}
	m.mu.Lock()
	v := m.variable
	was := v.ledger.capacity
	// What is stale takes nothing away.
	if s.Known && s.Fresh {
		there := m.cfg.VariableMiB
		if s.AvailableMiB >= 0 {
			there = min(there, s.AvailableMiB)
		}
		v.ledger.resize(there)
	}
	is := v.ledger.capacity
	v.pool.stock = Stock{}
	if s.Fresh && is > 0 {
		v.pool.stock = m.variableStock
	}
	m.mu.Unlock()
	if before == nil || before.Price != s.Price || was != is || before.Fresh != s.Fresh {
		why := fmt.Sprintf("variable capacity costs %v, and there are %d MiB of it", s.Price, is)
		if !s.Fresh {
			why = "nothing new is started on variable capacity: " + s.Why
		}
		m.record(&hearth.Decision{Kind: hearth.DecisionCapacity, Chosen: "quote", Why: why, Price: s.Price,
			Capacity: hearth.CapacityVariable, Knew: hearth.Knowledge{FreeMiB: is}})
	}
	for _, g := range m.groups.all(func(hearth.Key) bool { return true }) {
		m.regate(g)
	}
	m.shrink()
	m.trim(now)
	m.kick()
}

// known is what is known of variable capacity.
func (m *Manager) known() market.State {
	if s := m.market.Load(); s != nil {
		return *s
	}
	return market.State{Why: "no feed tells of it"}
}

// regate opens or shuts the gate of a group by what is known now, and takes
// back what its policy does not pay for any more.
func (m *Manager) regate(g *group) {
	if g.sub != m.variable {
		return
	}
	p := m.capacityOf(g)
	g.mu.Lock()
	s := m.known() // with the lock held, so that the last who looks has the latest
	suits, why := s.Suits(p.MaxPrice)
	g.shut = !suits
	n := 0
	var turned []*waiter
	if suits {
		n = g.demand()
	} else {
		g.callOffAll()
		if p.Short(g.sub.kind) != "wait" {
			for len(g.waiters) > 0 {
				turned = append(turned, g.waiters[0])
				g.waiters = g.waiters[1:]
				g.fell(m.epoch(m.clock.Now()))
			}
		}
	}
	g.mu.Unlock()
	for _, w := range turned {
		w.ch <- grant{err: errShort}
	}
	m.startMakers(g, n)
	if s.Withdrawn(p.MaxPrice) {
		m.takeBackAll(g, why)
	}
}

// affords notes the price at which inv begins on the group's capacity. It is
// false if that has come to be more than its policy pays, of which the group
// may not have been told yet.
func (m *Manager) affords(g *group, inv *hearth.Invocation) bool {
	if g.sub != m.variable {
		inv.Placement.Price = m.cfg.FixedPrice
		return true
	}
	s := m.known()
	if suits, _ := s.Suits(m.capacityOf(g).MaxPrice); !suits {
		m.regate(g)
		return false
	}
	inv.Placement.Price = s.Price
	return true
}

// takeBackAll takes back all containers of a group.
func (m *Manager) takeBackAll(g *group, why string) {
	var mine []*container
	m.mu.Lock()
	for c := range m.containers {
		if c.group == g && c.now() != ending && !c.withdrawn.Load() {
			mine = append(mine, c)
		}
	}
	m.mu.Unlock()
	if len(mine) == 0 {
		return
	}
	m.takeBack(mine, why, func() bool { return m.known().Withdrawn(m.capacityOf(g).MaxPrice) })
}

// takeBack ends containers: idle ones now, busy ones after their invocation, or
// when the time of grace is over, if they are still withdrawn then.
func (m *Manager) takeBack(all []*container, why string, still func() bool) {
	var left []*container
	for _, c := range all {
		c.withdrawn.Store(true)
		c.unwanted.Store(true)
		if c.move(idle, ending) {
			m.count.withdrawn.Add(1)
			m.evicted(c, hearth.DecisionWithdraw, "its capacity is withdrawn: "+why)
		} else if c.now() != ending {
			left = append(left, c)
		}
	}
	if len(left) == 0 {
		return
	}
	m.clock.AfterFunc(m.cfg.WithdrawGrace, m.onTimer(func() {
		if !still() {
			return // it is there again: let it end
		}
		for _, c := range left {
			m.cut(c, why)
		}
	}))
}

// cut ends a container under its invocation.
func (m *Manager) cut(c *container, why string) {
	if c.now() != busy {
		return
	}
	c.cut.Store(true)
	k := c.group.key
	m.count.withdrawn.Add(1)
	d := &hearth.Decision{Kind: hearth.DecisionWithdraw, Account: k.Account, Function: k.Name, Version: k.Version, Chosen: "cut", Capacity: c.group.sub.kind,
		Instance: c.inst.env.ID(), Container: c.env.ID(), Why: fmt.Sprintf("its capacity was withdrawn %v ago, and its invocation has not ended: %s", m.cfg.WithdrawGrace, why)}
	if inv := c.serving.Load(); inv != nil {
		d.RequestID = inv.RequestID
	}
	m.record(d)
	m.background(func() { m.destroyed("container", c.env.ID(), c.env.Destroy()) })
}

// shrink withdraws instances of variable capacity as far as more of it is
// promised than there is.
func (m *Manager) shrink() {
	now := m.clock.Now()
	var holders []*instance
	var seen []Holding
	var victims []*instance
	mine := map[*instance][]*container{}
	m.mu.Lock()
	v := m.variable
	over := v.ledger.committed - v.ledger.capacity
	for _, own := range m.tenants {
		for _, inst := range own {
			if inst.sub != v {
				continue
			}
			if inst.vacant.Load() || inst.ending {
				over -= inst.usedMiB // it is on its way
				continue
			}
			mine[inst] = nil
			holders = append(holders, inst)
		}
	}
	if over <= 0 {
		m.mu.Unlock()
		return
	}
	for c := range m.containers {
		if _, ok := mine[c.inst]; ok && c.now() != ending {
			mine[c.inst] = append(mine[c.inst], c)
		}
	}
	for _, inst := range holders {
		h := Holding{MiB: inst.usedMiB}
		for _, c := range mine[inst] {
			if c.now() == busy {
				h.Lost += now.Sub(m.start) - time.Duration(c.began.Load())
			}
		}
		seen = append(seen, h)
	}
	var spares []*slot
	for _, i := range (Withdraw{}).Choose(over, seen) {
		inst := holders[i]
		inst.vacant.Store(true)
		inst.wantSpare = false
		spares = append(spares, inst.ready...)
		inst.ready = nil
		victims = append(victims, inst)
	}
	is := v.ledger.capacity
	m.mu.Unlock()
	for _, s := range spares {
		m.background(func() { m.discard(s) })
	}
	still := func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return v.ledger.committed > v.ledger.capacity
	}
	why := fmt.Sprintf("there are %d MiB of variable capacity, and %d more were in use", is, over)
	for _, inst := range victims {
		n := 0
		for _, c := range mine[inst] {
			if c.now() == busy {
				n++
			}
		}
		m.record(&hearth.Decision{Kind: hearth.DecisionWithdraw, Account: inst.owner, Chosen: "instance", Instance: inst.env.ID(), Capacity: v.kind,
			Why: fmt.Sprintf("%s; what it has at work has %v to end", why, m.cfg.WithdrawGrace), Knew: hearth.Knowledge{Busy: n, Idle: len(mine[inst]) - n}})
		m.takeBack(mine[inst], why, still)
	}
}

// cutShort tells whether an invocation did not end because its container was
// cut.
func cutShort(c *container, r *hearth.Result, err error, inv *hearth.Invocation) bool {
	if !c.cut.Load() {
		return false
	}
	return err != nil || r == nil || r.FunctionError != "" && (inv.Use.End == hearth.EndCrash || inv.Use.End == hearth.EndUnknown)
}

// withdrew decides what comes of an invocation that was cut, and how often: it
// is to be run again if the error is nil.
func (m *Manager) withdrew(c *container, inv *hearth.Invocation, times int) error {
	do := m.capacityOf(c.group).Withdrawn()
	why := "its policy says so (capacity.onWithdraw)"
	switch b, _ := inv.Stream.(*begun); {
	case b != nil && b.started:
		do, why = "fail", "its caller has had a part of the answer already"
	case do == "retry" && times > maxWithdrawals:
		do, why = "fail", fmt.Sprintf("it was cut %d times", times)
	}
	k := c.group.key
	m.record(&hearth.Decision{Kind: hearth.DecisionWithdraw, RequestID: inv.RequestID, Account: k.Account, Function: k.Name, Version: k.Version, Chosen: do,
		Capacity: c.group.sub.kind, Instance: c.inst.env.ID(), Container: c.env.ID(), Why: "its capacity was withdrawn before it had ended, and " + why})
	switch do {
	case "fail":
		return &hearth.Error{Op: "manager.Invoke", Subject: inv.Function.QualifiedARN(), Kind: hearth.Service,
			Message: "The variable capacity that the function ran on was withdrawn before it had ended.", Err: errWithdrawn}
	case "move":
		inv.Capacity = hearth.CapacityFixed
	}
	inv.Use = hearth.Use{}
	return nil
}

// begun is a stream that knows whether anything was written to it.
type begun struct {
	hearth.ResponseStream
	started bool // written by the one goroutine that has the invocation
}

func (b *begun) Start(contentType string, deadline time.Time) error {
	b.started = true
	return b.ResponseStream.Start(contentType, deadline)
}

var (
	errShort     = errors.New("its own capacity has no room, and its policy does not wait for any")
	errPrice     = errors.New("the price of variable capacity did not suit its policy, or there was none, for as long as it may wait")
	errOwnFull   = errors.New("no container came free in its own capacity, and no room for one, for as long as it may wait")
	errWithdrawn = errors.New("variable capacity was withdrawn")
)
