package sqs

// Stats tell what there is, and what became of messages since the start.
type Stats struct {
	Queues                                  int
	Visible, Delayed, InFlight              int
	Waiting                                 int // receivers that wait for a message
	Sent, Received, Deleted, Expired, Moved uint64
	CachedBytes                             int
}

// Stats counts.
func (s *Service) Stats() Stats {
	st := Stats{
		Sent: s.counts.sent.Load(), Received: s.counts.received.Load(), Deleted: s.counts.deleted.Load(),
		Expired: s.counts.expired.Load(), Moved: s.counts.moved.Load(),
	}
	s.mu.RLock()
	queues := make([]*queue, 0, len(s.queues))
	for _, q := range s.queues {
		queues = append(queues, q)
	}
	s.mu.RUnlock()
	st.Queues = len(queues)
	for _, q := range queues {
		q.mu.Lock()
		st.Visible += q.counts[visible] + q.counts[moving]
		st.Delayed += q.counts[delayed]
		st.InFlight += q.counts[inFlight]
		st.Waiting += len(q.waiters)
		q.mu.Unlock()
	}
	s.bodies.mu.Lock()
	st.CachedBytes = s.bodies.bytes
	s.bodies.mu.Unlock()
	return st
}
