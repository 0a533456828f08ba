package manager

import "github.com/hearth-faas/hearth"

// Used takes into account what an invocation has used that another node served:
// what is suggested for a function goes by all of its executions.
func (m *Manager) Used(inv *hearth.Invocation) {
	if !m.track() {
		return
	}
	defer m.bg.Done()
	memory, err := m.asked(inv, false)
	if err != nil {
		return // this machine has not that much, and makes no suggestion of it
	}
	m.learn(m.group(m.homeOf(inv), inv.Function, tenant(inv), memory), inv)
}

// Has tells whether there are containers of the key, or are to be.
func (m *Manager) Has(k hearth.Key) bool {
	for _, g := range m.groups.all(func(o hearth.Key) bool { return o == k }) {
		g.mu.Lock()
		has := !g.empty()
		g.mu.Unlock()
		if has {
			return true
		}
	}
	return false
}
