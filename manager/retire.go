package manager

import "github.com/hearth-faas/hearth"

// version names one version of a function, whatever its generation.
type version struct {
	account       hearth.Account
	name, version string
}

func versionOf(k hearth.Key) version { return version{k.Account, k.Name, k.Version} }

// Changed is told of every change of code or configuration: old is what was,
// nil if it is new; now is what is, nil if it was deleted. When it returns no
// container of an older generation is idle, and none will be again: those
// that are busy are destroyed after their invocation.
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
		m.floors[v] = max(m.floors[v], k.Generation)
		m.mu.Unlock()
		m.retireAll(func(o hearth.Key) bool { return versionOf(o) == v && o.Generation < k.Generation })
		if old != nil {
			m.completed(old, now)
		}
	case old != nil:
		v := versionOf(old.Key())
		m.sizes.Forget(evidenceKey(old.Key()))
		m.mu.Lock()
		delete(m.floors, v)
		m.mu.Unlock()
		m.retireAll(func(o hearth.Key) bool { return versionOf(o) == v })
		m.learned.Forget(idleKey(old.Key()))
		if old.Version == hearth.Latest { // the last that is deleted
			m.spent.Forget(spentKey(old.Account, old.Name))
		}
	}
}

// Retire ends the containers of a key: idle ones at once, busy ones after
// their invocation.
func (m *Manager) Retire(k hearth.Key) {
	if m.track() {
		defer m.bg.Done()
		m.retireAll(func(o hearth.Key) bool { return o == k })
	}
}

func (m *Manager) retireAll(fits func(hearth.Key) bool) {
	for _, g := range m.groups.all(fits) {
		m.retire(g)
		m.noteDrained(g)
	}
}

func (m *Manager) retire(g *group) {
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
