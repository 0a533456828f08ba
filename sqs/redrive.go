package sqs

// deadLetterable tells whether q may give up messages to the queue that an ARN
// names. It takes no queue's lock.
func (s *Service) deadLetterable(q *queue, arn string) bool {
	to, err := s.byARN(arn)
	if err != nil || to == q || to.fifo != q.fifo {
		return false
	}
	return to.set.Load().lets(q.arn)
}

// lets tells whether a queue may give up messages to the one with these
// settings.
func (s *settings) lets(source string) bool {
	if s.allow == nil || s.allow.permission == "allowAll" {
		return true
	}
	if s.allow.permission == "byQueue" {
		for _, a := range s.allow.sources {
			if a == source {
				return true
			}
		}
	}
	return false
}

// giveUp moves messages of q, which are in the state moving, to its
// dead-letter queue.
func (s *Service) giveUp(q *queue, leaving []*message) {
	r := q.set.Load().redrive
	var to *queue
	if r != nil {
		to, _ = s.byARN(r.target) // nil if it was deleted meanwhile
	}
	for _, m := range leaving {
		if to == nil || to == q {
			q.stays(m)
			continue
		}
		s.move(q, m, to, &q.arn, nil)
	}
}

// stays makes a message visible that could not be moved.
func (q *queue) stays(m *message) {
	q.mu.Lock()
	defer q.unlock()
	if m.state == moving {
		q.turn(m, visible)
	}
}

// move has a message in the state moving go from one queue to another, in one
// write: a kill leaves it in either. source is the queue that gave it up, nil
// if it goes back. It returns at once; done, if not nil, is told of the end.
// No queue is locked.
func (s *Service) move(from *queue, m *message, to *queue, source *string, done func(error)) {
	now := to.lock()
	n := &message{seq: s.number(1), body: m.body, sent: now, due: now, source: source, size: m.size, count: m.count, first: m.first}
	if source != nil && !to.fifo {
		n.sent = m.sent // its age counts on
	}
	if source == nil {
		n.count, n.first = 0, 0
	}
	group := ""
	if m.group != nil {
		group = m.group.name
	}
	e := n.entry()
	e.group = group
	writes := []write{{indexBucket, from.id + key(m.seq), nil}, {indexBucket, to.id + key(n.seq), e.encode()}}
	s.journal.add(writes, func(err error) {
		if err != nil {
			s.cfg.Log.Warn("a message could not be moved to another queue, and stays", "from", from.arn, "to", to.arn, "error", err)
			from.stays(m)
		} else {
			s.moved(from, m, to, n, group)
		}
		if done != nil {
			done(err)
		}
	})
	to.unlock()
}

// moved makes memory as the disk is.
func (s *Service) moved(from *queue, m *message, to *queue, n *message, group string) {
	from.mu.Lock()
	if m.state != gone {
		from.drop(m)
	}
	from.unlock()
	now := to.lock()
	defer to.unlock()
	if to.deleted || n.seq <= to.purged {
		s.journal.add(to.erased(n), s.logged("a message of a queue that was emptied could not be removed"))
		return
	}
	if n.sent+to.set.Load().retention <= now {
		s.journal.add(to.erased(n), s.logged("a message that is too old could not be removed"))
		return
	}
	to.join(n, group)
	s.counts.moved.Add(1)
}
