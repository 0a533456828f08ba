package manager

import (
	"maps"
	"slices"
	"time"

	"github.com/hearth-faas/hearth"
)

// starveAfter is how long callers' own containers may hold up the pool: after
// that one instance at a time is booted beside them.
const starveAfter = time.Second

// spareLife is how long an instance keeps a spare slot that nobody takes.
const spareLife = 5 * time.Minute

// kick has the pool replenished in a moment.
func (m *Manager) kick() { m.kickIn(m.cfg.ReplenishDelay) }

func (m *Manager) kickIn(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	due := m.clock.Now().Add(d)
	if m.closed.Load() || m.cfg.PoolBudgetMiB <= 0 || m.booting.kicked && !due.Before(m.booting.due) {
		return
	}
	if m.booting.kicked {
		m.booting.timer.Stop()
	}
	m.booting.kicked, m.booting.due = true, due
	m.booting.timer = m.clock.AfterFunc(d, m.onTimer(func() {
		m.mu.Lock()
		m.booting.kicked = false
		m.mu.Unlock()
		m.replenish()
	}))
}

// job is one ready slot to be made: in the instance, or with one of its own.
type job struct {
	sub  *subpool
	boot hearth.Boot
	mib  float64
	inst *instance
}

// replenish starts as many boots as may run now. Each of them calls it again
// when it has ended.
func (m *Manager) replenish() {
	m.mu.Lock()
	jobs, starved := m.jobs()
	m.mu.Unlock()
	for _, j := range jobs {
		m.background(func() {
			m.boot(j)
			m.replenish()
		})
	}
	if starved {
		m.kickIn(starveAfter)
	}
}

// jobs decides what to make, and counts it as being made. Starved tells that
// something is lacking for which there is no processor now. Called with mu
// held.
func (m *Manager) jobs() (jobs []job, starved bool) {
	p, now := &m.booting, m.clock.Now()
	if m.closed.Load() || m.cfg.PoolBudgetMiB <= 0 {
		return nil, false
	}
	for {
		j, ok := m.nextJob(now)
		if !ok {
			p.shortSince = time.Time{}
			return jobs, false
		}
		if p.shortSince.IsZero() {
			p.shortSince = now
		}
		atOnce := m.cfg.BootConcurrency - max(m.live, int(m.inflight.Load()))
		if m.live == 0 {
			// Invocations may well be waiting for something else than a
			// processor.
			atOnce = max(atOnce, 1)
		}
		if now.Sub(p.shortSince) >= starveAfter {
			atOnce = max(atOnce, 1)
		}
		if p.now >= atOnce {
			// Whoever ends a boot calls again; if there is none, time must.
			return jobs, p.now == 0
		}
		p.now++
		j.sub.pool.usedMiB += j.mib
		if j.inst != nil {
			j.inst.making++
		} else {
			j.sub.pool.shelves[j.boot].making++
		}
		jobs = append(jobs, j)
	}
}

// nextJob decides on the next ready slot to make: first what the pool lacks,
// then spare slots for instances whose accounts showed concurrent demand.
func (m *Manager) nextJob(now time.Time) (job, bool) {
	for _, s := range m.stocked() {
		p := s.pool
		if b, ok := p.stock.Next(p.view(now, m.trend), p.usedMiB); ok {
			return job{sub: s, boot: b, mib: p.shelves[b].mib}, true
		}
	}
	for _, account := range slices.Sorted(maps.Keys(m.tenants)) { // the same each time, for a simulation
		for _, inst := range m.tenants[account] {
			if !inst.wantSpare || inst.making+len(inst.ready) > 0 || inst.room() < inst.spareMiB {
				continue
			}
			p := inst.sub.pool
			sh := p.shelves[inst.spareBoot]
			if p.usedMiB+sh.mib <= p.stock.BudgetMiB && !now.Before(sh.heldUntil) {
				return job{sub: inst.sub, boot: inst.spareBoot, mib: sh.mib, inst: inst}, true
			}
		}
	}
	return job{}, false
}

// boot does a job.
func (m *Manager) boot(j job) {
	began := m.clock.Now()
	s, err := m.bootSlot(j)
	cost := m.worker.SlotMiB(j.boot)

	m.mu.Lock()
	p := j.sub.pool
	now, sh := m.clock.Now(), p.shelves[j.boot]
	sh.setCost(cost)
	m.booting.now--
	if j.inst != nil {
		j.inst.making--
	} else {
		sh.making--
	}
	closed := m.closed.Load()
	if err != nil {
		p.usedMiB -= j.mib
		hold := sh.fail(now, m.reboot)
		m.mu.Unlock()
		if !closed {
			m.count.bootFailures.Add(1)
			m.cfg.Log.Warn("a slot for the pool could not be made", "boot", bootName(j.boot), "error", err, "again in", hold)
			m.clock.AfterFunc(hold, m.kick)
		}
		return
	}
	sh.booted(now.Sub(began))
	if now.Sub(sh.failed) > m.reboot.Max {
		sh.failures = 0
	}
	why := "the warming pool held less than is wanted"
	if d := m.trend.Direction(&sh.takes, now); d != Steady {
		why += ", and the demand is " + d.String()
	}
	switch {
	case closed || s.inst.ending:
		m.mu.Unlock()
		m.discard(s)
		return
	case j.inst != nil:
		s.inst.ready = append(s.inst.ready, s)
		why = "the account's requests come several at a time"
	default:
		p.put(s)
	}
	owner := s.inst.owner
	m.mu.Unlock()
	m.watch(s)
	m.count.boots.Add(1)
	m.record(&hearth.Decision{Kind: hearth.DecisionReplenish, Account: owner, Chosen: bootName(j.boot),
		Instance: s.inst.env.ID(), Container: s.env.ID(), Why: why})
}

// bootSlot has the worker make what the job asks for.
func (m *Manager) bootSlot(j job) (*slot, error) {
	ctx, cancel := m.limited()
	defer cancel()
	if j.inst != nil {
		env, err := j.inst.env.NewSlot(ctx, j.boot)
		if err != nil {
			return nil, err
		}
		return m.newSlot(j.inst, env, j.boot, j.mib), nil
	}
	env, err := m.worker.NewInstance(ctx, j.boot)
	if err != nil {
		return nil, err
	}
	inst := &instance{env: env, sub: j.sub, made: m.clock.Now()}
	return m.newSlot(inst, env.FirstSlot(), j.boot, j.mib), nil
}

func bootName(b hearth.Boot) string {
	if b == "" {
		return "blank"
	}
	return string(b)
}

// discard destroys a slot that waits, with its instance if that belongs to
// nobody, and returns its cost to the budget. It is on no list any more.
func (m *Manager) discard(s *slot) {
	close(s.gone)
	m.destroyed("container", s.env.ID(), s.env.Destroy())
	m.mu.Lock()
	owned := s.inst.owner != ""
	m.mu.Unlock()
	if !owned {
		m.destroyed("instance", s.inst.env.ID(), s.inst.env.Destroy())
	}
	m.mu.Lock()
	s.inst.sub.pool.usedMiB -= s.mib
	m.mu.Unlock()
	m.kick()
}

// trim ends what the pool holds beyond what it wants, and spare slots that
// nobody has taken for long. Called by the sweep.
func (m *Manager) trim(now time.Time) {
	var out []*slot
	m.mu.Lock()
	for _, sub := range m.stocked() {
		p := sub.pool
		for {
			b, ok := p.stock.Surplus(p.view(now, m.trend))
			if !ok {
				break
			}
			s := p.shelves[b].ready[0]
			p.remove(s)
			out = append(out, s)
		}
	}
	for _, own := range m.tenants {
		for _, inst := range own {
			for !inst.kept && len(inst.ready) > 0 && now.Sub(inst.ready[0].made) > spareLife {
				out = append(out, inst.ready[0])
				inst.ready = inst.ready[1:]
				inst.wantSpare = false
			}
		}
	}
	m.mu.Unlock()
	for _, s := range out {
		m.record(&hearth.Decision{Kind: hearth.DecisionEvict, Chosen: bootName(s.boot), Instance: s.inst.env.ID(), Container: s.env.ID(),
			Why: "more slots were ready than are wanted"})
		m.background(func() { m.discard(s) })
	}
}
