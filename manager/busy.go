package manager

// BusyMiB is the memory of the containers that serve invocations, and what may
// be promised to all. It looks at every container, under a lock: it is for who
// asks now and then.
func (m *Manager) BusyMiB() (busy, capacity int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for c := range m.containers {
		if c.serving.Load() != nil {
			busy += c.mib()
		}
	}
	return busy, m.fixed.ledger.size()
}
