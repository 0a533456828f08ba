package manager

import (
	"context"
	"slices"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/history"
)

// Prewarmer makes containers ahead of invocations. Safe for concurrent use;
// it returns at once.
type Prewarmer interface {
	// Prewarm asks that n containers of f, for the tenant if f isolates its
	// tenants, be idle from now on: those that are count, the others are made.
	// What is not used is to go at until. why is for decisions. A call takes
	// the place of the last one for the same function.
	Prewarm(f *hearth.Function, tenant string, n int, until time.Time, why string)
}

// preparer is the Prewarmer of a Manager of its own: what it asks for is
// prepared as what others predict is.
type preparer struct{ m *Manager }

func (p preparer) Prewarm(f *hearth.Function, tenant string, n int, until time.Time, why string) {
	p.m.Prepare(Preparation{Function: f, Tenant: tenant, Count: n, Until: until, Key: "idle times", Why: why})
}

const (
	// historyKept is how long after its last invocation the group of a function
	// stays: as long as an idle time can be counted.
	historyKept = 5 * time.Hour
	// guessedLead is how long the making of a container is thought to take
	// before one was made.
	guessedLead = time.Second
	// plenty is the share of the functions' memory from which on free memory
	// does not make waiting dearer.
	plenty = 0.5
	// dearest is by how much it is made dearer at most.
	dearest = 10
)

// openIdles reads what was learned about functions' idle times.
func (m *Manager) openIdles() (err error) {
	m.learned, err = history.Open[IdleHistory](context.Background(), history.Config{
		Store: m.cfg.Records, Bucket: "idle-times", Clock: m.clock, Log: m.cfg.Log,
	})
	return err
}

// recalls tells whether the group's idle times are those of its function.
func (g *group) recalls() bool { return g.key.tenant == "" && g.key.memory == 0 }

func idleKey(k hearth.Key) string { return string(k.Account) + "/" + k.Name }

// recall gives a new group what was learned of its function by others: of an
// older generation, of another version, or before the start. Tenants have
// times of their own.
func (m *Manager) recall(g *group) {
	if !g.recalls() {
		return
	}
	if e := m.learned.Find(idleKey(g.key.Key)); e != nil {
		e.View(func(h *IdleHistory) { g.idles = h.Clone() })
	}
}

// keepIdles hands on what the group has learned, if it is new. Called without
// the group's lock.
func (m *Manager) keepIdles(g *group) {
	if !g.recalls() {
		return
	}
	g.mu.Lock()
	last := g.idles.Last()
	if last == g.kept {
		g.mu.Unlock()
		return
	}
	g.kept = last
	h := g.idles.Clone()
	g.mu.Unlock()
	h.Still(last)
	m.learned.Of(idleKey(g.key.Key)).Update(func(kept *IdleHistory) { *kept = h })
}

// gather makes the prior of what all functions have shown. Called by the sweep.
func (m *Manager) gather(groups []*group, now time.Time) {
	if now.Sub(m.gathered) < PriorPeriod {
		return
	}
	m.gathered = now
	var pool Pool
	for _, g := range groups {
		g.mu.Lock()
		pool.Add(&g.idles)
		g.mu.Unlock()
		m.keepIdles(g)
	}
	m.prior.Store(pool.Prior())
}

// epoch is a time on the scale of an IdleHistory: since 1970, by the wall
// clock of the start and the monotonic one since.
func (m *Manager) epoch(at time.Time) time.Duration {
	return time.Duration(m.start.UnixNano()) + at.Sub(m.start)
}

// lastUse is when c was used last, on the same scale.
func (m *Manager) lastUse(c *container) time.Duration {
	return time.Duration(m.start.UnixNano() + c.lastUsed.Load())
}

// fell tells the history that demand has fallen by one to what it is now.
// Called with the lock held.
func (g *group) fell(at time.Duration) {
	g.idles.Fall(at, g.busy+len(g.waiters)+1)
}

// need is what IdleLife is shown of the group. Called with the lock held.
func (m *Manager) need(g *group, now time.Time) Need {
	lead := or(g.took, guessedLead)
	return Need{
		At: m.epoch(now), Demand: g.busy + len(g.waiters), MiB: float64(g.newMiB()), Lead: lead + m.cfg.SweepEvery,
		Scarce: g.sub.scarce(), Prior: m.prior.Load(), Ahead: m.cfg.Prewarmer != nil && !g.retired,
	}
}

// scarce is by how much short memory makes waiting dearer.
func (s *subpool) scarce() float64 {
	free := 1 - float64(s.ledger.published.committed.Load())/float64(max(s.ledger.size(), 1))
	return plenty / max(min(free, plenty), plenty/dearest)
}

// surplus takes from the stack what is not worth its memory any more, and
// tells how many should be made ahead. Called with the lock held.
func (m *Manager) surplus(g *group, now time.Time) (old []*container, plan Plan, ahead int) {
	plan = m.life.Plan(&g.idles, m.need(g, now))
	total := len(g.ready) + len(g.idle) + g.busy + g.making + g.providing
	// From the bottom, where those lie that are needed least.
	for len(g.idle) > 0 && g.sub.kind != hearth.CapacityDedicated { // which has its memory anyhow
		c := g.idle[0]
		if age := c.idleFor(m, now); age < m.life.Min || total <= plan.Keep && age < m.life.Max {
			break
		}
		g.idle = slices.Delete(g.idle, 0, 1)
		if c.move(idle, ending) {
			old = append(old, c)
			total--
		}
	}
	// Whatever is being made ready counts to what is to be.
	if m.cfg.Prewarmer != nil && !g.retired && plan.Make > total+len(g.prepared)+g.preparing {
		ahead = plan.Make - g.busy - len(g.waiters)
	}
	return old, plan, ahead
}

// lifeOf is how long an idle container is kept in all, for Evict.
func (m *Manager) lifeOf(c *container, now time.Time) time.Duration {
	g := c.group
	g.mu.Lock()
	defer g.mu.Unlock()
	n := m.need(g, now)
	below := slices.Index(g.idle, c) // how many are needed less
	return m.life.For(&g.idles, n, n.Demand+len(g.ready)+len(g.idle)-max(below, 0))
}

// Idling is what the Manager would do with a function's idle containers if
// nothing happened.
type Idling struct {
	Idle int // containers that are idle
	// Keep is how many containers are worth their memory now, those at work
	// included; Again is when that is looked at anew, zero if never.
	Keep  int
	Again time.Time
	// Made is how many would be made ready now if they were not there.
	Made int
	Last time.Time // when the function was invoked last
}

// Idling tells what has been learned of f's idle times; false if f has not
// been invoked since it was changed last.
func (m *Manager) Idling(f *hearth.Function) (Idling, bool) {
	g := m.groups.find(share{f.Key(), "", 0, m.home(f)})
	if g == nil {
		return Idling{}, false
	}
	now := m.clock.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	plan := m.life.Plan(&g.idles, m.need(g, now))
	i := Idling{
		Idle: len(g.ready) + len(g.idle) + len(g.prepared), Keep: plan.Keep, Made: plan.Make,
		Last: m.start.Add(g.idles.Last() - m.epoch(m.start)),
	}
	if plan.Again != Never {
		i.Again = m.start.Add(plan.Again - m.epoch(m.start))
	}
	return i, g.idles.Last() != 0
}
