package manager

import (
	"time"

	"github.com/hearth-faas/hearth"
)

// version names one version of a function, whatever its generation.
type version struct {
	account       hearth.Account
	name, version string
}

func versionOf(k hearth.Key) version { return version{k.Account, k.Name, k.Version} }

// newest is what Changed has told last of a version.
type newest struct {
	generation uint64
	// fn is what is; nil if it was deleted, at the time gone, and is forgotten
	// when nobody can have been let in before that.
	fn   *hearth.Function
	gone time.Time
}

// replaces tells whether something of that version is there in place of k.
func (n newest) replaces(k hearth.Key) bool {
	return k.Generation < n.generation || k.Generation == n.generation && !n.gone.IsZero()
}

// deletedKept is how long it is remembered that a version was deleted. Whoever
// was let in before is here by then, or may have a container for a while.
const deletedKept = time.Minute

// forgetDeleted forgets what was deleted a while ago. Called with mu held.
func (m *Manager) forgetDeleted(now time.Time) {
	for len(m.deleted) > 0 {
		v := m.deleted[0]
		switch n := m.newest[v]; {
		case n.gone.IsZero(): // there is another of that name
		case now.Sub(n.gone) < deletedKept:
			return
		default:
			delete(m.newest, v)
		}
		m.deleted = m.deleted[1:]
	}
}

// Changed is told of every change of code or configuration: old is what was,
// nil if it is new; now is what is, nil if it was deleted. When it returns no
// container of an older generation is idle, and none will be again: those
// that are busy are destroyed after their invocation. Who waits for one that is
// not being made yet gets what is now, or an error if that is nothing.
func (m *Manager) Changed(old, now *hearth.Function) {
	if !m.track() {
		return // everything is being ended
	}
	defer m.bg.Done()
	switch {
	case now != nil:
		k := now.Key()
		v := versionOf(k)
		m.mu.Lock()
		if last := m.newest[v]; last.generation <= k.Generation {
			m.newest[v] = newest{generation: k.Generation, fn: now}
		}
		m.mu.Unlock()
		m.retireAll(func(o hearth.Key) bool { return versionOf(o) == v && o.Generation < k.Generation }, now)
		if old != nil {
			m.completed(old, now)
		}
	case old != nil:
		v := versionOf(old.Key())
		m.sizes.Forget(evidenceKey(old.Key()))
		m.mu.Lock()
		m.newest[v] = newest{generation: max(old.Generation, m.newest[v].generation), gone: m.clock.Now()}
		m.deleted = append(m.deleted, v)
		m.mu.Unlock()
		m.retireAll(func(o hearth.Key) bool { return versionOf(o) == v }, nil)
		if old.Version == hearth.Latest { // the last that is deleted
			m.learned.Forget(idleKey(old.Key())) // which its versions have in common
			m.spent.Forget(spentKey(old.Account, old.Name))
		}
	}
}

// Retire ends the containers of a key: idle ones at once, busy ones after
// their invocation.
func (m *Manager) Retire(k hearth.Key) {
	if m.track() {
		defer m.bg.Done()
		for _, g := range m.groups.all(func(o hearth.Key) bool { return o == k }) {
			m.endIdle(g)
			m.noteDrained(g)
		}
	}
}

func (m *Manager) retireAll(fits func(hearth.Key) bool, now *hearth.Function) {
	for _, g := range m.groups.all(fits) {
		m.retire(g, now)
		m.noteDrained(g)
	}
}

// retire ends a group whose function is now another, or with nil none. What is
// asked of it is asked of that.
func (m *Manager) retire(g *group, now *hearth.Function) {
	g.mu.Lock()
	switch {
	case now == nil:
		g.instead, g.refusal = nil, hearth.Errorf(hearth.NotFound, "Function not found: %s", g.fn.QualifiedARN())
	case g.fn.Shared != nil || now.Shared != nil:
		// Whoever is let in runs to its end, whatever the owner does meanwhile
		// (Frontend.placeShared), and is not thereby let in to what is now.
	case now.State != hearth.Active:
		g.instead, g.refusal = nil, hearth.Errorf(hearth.Conflict, "The operation cannot be performed at this time. The function is currently in the following state: %s", now.State)
	case now.TenantIsolation == g.fn.TenantIsolation:
		g.instead = now // else who is let in to one is not thereby to the other
	}
	g.retired = true
	over := g.over()
	g.mu.Unlock()
	m.endIdle(g)
	if over {
		m.ask(g)
	}
}

// endIdle ends what of a group is idle, and has nothing of it be so again.
func (m *Manager) endIdle(g *group) {
	var out []*container
	g.mu.Lock()
	g.retired = true
	g.wants = nil
	for _, stack := range []*[]*container{&g.ready, &g.idle, &g.prepared} {
		for _, c := range *stack {
			if c.move(idle, ending) {
				out = append(out, c)
			}
		}
		clear(*stack)
		*stack = (*stack)[:0]
	}
	g.mu.Unlock()
	m.keepIdles(g)
	for _, c := range out {
		m.count.retired.Add(1)
		m.evicted(c, hearth.DecisionEvict, "its code or configuration was replaced or deleted")
	}
}
