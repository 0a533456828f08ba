package manager

import "github.com/hearth-faas/hearth"

// BusyMiB is the memory of the containers that serve invocations, and what may
// be promised to all, of the capacity that f runs on: what accounts have taken
// of fixed capacity for instances of their own is not its. It looks at every
// container, under a lock: it is for who asks now and then.
func (m *Manager) BusyMiB(f *hearth.Function) (busy, capacity int) {
	s := m.home(f)
	m.mu.Lock()
	defer m.mu.Unlock()
	for c := range m.containers {
		if c.group.sub == s && c.serving.Load() != nil {
			busy += c.mib()
		}
	}
	capacity = s.ledger.capacity
	if s == m.fixed {
		for _, own := range m.dedicated {
			for _, inst := range own.kept {
				capacity -= inst.reservedMiB
			}
		}
	}
	return busy, capacity
}
