package manager

import (
	"maps"
	"slices"
	"time"

	"github.com/hearth-faas/hearth"
)

// peak is the most that was at work or waiting at once within the last one to
// two periods. It is a value and knows no clock.
type peak struct {
	now, before int32
	since       time.Time
}

// note says how many are at work or waiting.
func (p *peak) note(n int, at time.Time, period time.Duration) {
	if at.Sub(p.since) >= period {
		p.roll(at, period)
	}
	p.now = max(p.now, int32(n))
}

func (p *peak) roll(at time.Time, period time.Duration) {
	p.before = p.now
	if at.Sub(p.since) >= 2*period {
		p.before = 0
	}
	p.now, p.since = 0, at
}

// most is how many there were; busy are there now.
func (p *peak) most(busy int, at time.Time, period time.Duration) int {
	if at.Sub(p.since) >= period {
		p.roll(at, period)
		p.now = int32(busy)
	}
	return int(max(p.now, p.before))
}

// tenancy is an account's instances and containers, as they were at a moment.
type tenancy struct {
	instances  []*instance
	containers map[*instance][]*container
	total      map[*group]int // containers
}

// pack lets go of one instance of each account that has one too many. Called
// by the sweep.
func (m *Manager) pack(now time.Time) {
	for _, account := range m.packable(now) {
		for _, s := range m.stocked() { // dedicated instances stay
			m.packIn(s, account, now)
		}
	}
}

func (m *Manager) packIn(s *subpool, account hearth.Account, now time.Time) {
	if t := m.tenancyOf(s, account); len(t.instances) > 1 {
		need, loads := m.weigh(t, now)
		if i := (Pack{Level: m.cfg.PackLevel}).Choose(need, loads); i >= 0 {
			m.vacate(account, t.instances[i], t.containers[t.instances[i]], now)
		}
	}
}

// packable are the accounts that may have one too many.
func (m *Manager) packable(now time.Time) (accounts []hearth.Account) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for account, at := range m.packed {
		if now.Sub(at) >= m.cfg.PackEvery {
			delete(m.packed, account)
		}
	}
	for _, account := range slices.Sorted(maps.Keys(m.tenants)) { // the same each time, for a simulation
		if _, lately := m.packed[account]; !lately && len(m.tenants[account]) > 1 {
			accounts = append(accounts, account)
		}
	}
	return accounts
}

func (m *Manager) tenancyOf(s *subpool, account hearth.Account) *tenancy {
	t := &tenancy{containers: map[*instance][]*container{}, total: map[*group]int{}}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, inst := range m.tenants[account] {
		if inst.sub == s && !inst.ending && !inst.vacant.Load() {
			t.instances = append(t.instances, inst)
			t.containers[inst] = nil
		}
	}
	for c := range m.containers {
		if _, ok := t.containers[c.inst]; ok && c.now() != ending {
			t.containers[c.inst] = append(t.containers[c.inst], c)
			t.total[c.group]++
		}
	}
	return t
}

// weigh tells what the account needs at once, and what Pack sees of its
// instances.
func (m *Manager) weigh(t *tenancy, now time.Time) (need int, loads []Load) {
	most := map[*group]int{}
	for g := range t.total {
		g.mu.Lock()
		most[g] = max(g.peak.most(g.busy+len(g.waiters), now, m.cfg.PackEvery), 1)
		if len(g.waiters) > 0 || g.making+g.providing > 0 {
			most[g] = max(most[g], t.total[g]+1) // none to spare
		}
		g.mu.Unlock()
		need += most[g] * g.newMiB()
	}
	for _, inst := range t.instances {
		l := Load{CapMiB: inst.capMiB}
		here := map[*group]int{}
		for _, c := range t.containers[inst] {
			here[c.group]++
			switch {
			case c.pledge != nil || c.foretold.Load() != nil || c.ahead && c.invocations.Load() == 0 || c.now() == loading:
				l.Pinned = true // it is there for what has not come yet
			case c.now() == busy:
				l.BusyMiB += c.mib()
			}
		}
		for g, n := range here {
			l.Pinned = l.Pinned || t.total[g]-n < most[g]
		}
		loads = append(loads, l)
	}
	return need, loads
}

// vacate has nothing new come to an instance. It ends when all that it has at
// work now has ended.
func (m *Manager) vacate(account hearth.Account, inst *instance, containers []*container, now time.Time) {
	m.mu.Lock()
	busyNow := 0
	for _, c := range containers {
		if c.now() == busy {
			busyNow++
		}
	}
	// What is being made in it since it was looked at keeps it.
	if inst.ending || inst.making > 0 || inst.containers > len(containers) || m.closed.Load() {
		m.mu.Unlock()
		return
	}
	inst.vacant.Store(true)
	inst.wantSpare = false
	spares := inst.ready
	inst.ready = nil
	free := inst.room()
	roomiest := 0
	for _, other := range m.tenants[account] {
		if other != inst && other.sub == inst.sub && !other.vacant.Load() {
			roomiest = max(roomiest, other.room())
		}
	}
	m.packed[account] = now
	m.mu.Unlock()
	m.count.packed.Add(1)
	why := "the account's load needs one instance less: it ends with what it has at work"
	if free > roomiest {
		why += ", and gets nothing new although it has the most room"
	}
	m.record(&hearth.Decision{Kind: hearth.DecisionPack, Account: account, Chosen: inst.env.ID(), Instance: inst.env.ID(), Why: why,
		Knew: hearth.Knowledge{Busy: busyNow, Idle: len(containers) - busyNow, FreeMiB: free}})
	for _, s := range spares {
		m.background(func() { m.discard(s) })
	}
	for _, c := range containers {
		c.unwanted.Store(true) // whoever has it ends it
		m.letGo(c)
	}
}

// whyUnwanted tells why a container that is not provisioned is let go.
func (m *Manager) whyUnwanted(c *container) string {
	if c.inst.sub.kind == hearth.CapacityDedicated && c.inst.vacant.Load() {
		return "the account is to have fewer instances of its own"
	}
	if c.inst.vacant.Load() {
		return "its instance is given up, since the account's load needs one less"
	}
	return whyDrained
}
