package sqs

// state is where a message is in its life.
type state uint8

const (
	visible  state = iota // in its line
	delayed               // sent, and not to be seen yet
	inFlight              // received, and neither deleted nor visible again
	moving                // on its way to another queue
	gone                  // deleted, too old or moved
)

// message is what is in memory of a message. Times are milliseconds since
// 1970. Its queue's lock guards it.
type message struct {
	seq        uint64
	body       uint64
	sent       int64
	due        int64
	first      int64
	wakes      int64 // when something has to be done about it; of the agenda
	prev, next *message
	group      *group  // nil in a standard queue that has no groups
	source     *string // the ARN of the queue that gave it up
	count      uint32
	size       uint32
	place      int32 // in the agenda
	state      state
}

func (m *message) entry() *entry {
	e := &entry{body: m.body, sent: m.sent, due: m.due, first: m.first, count: m.count, size: m.size}
	if m.group != nil {
		e.group = m.group.name
	}
	if m.source != nil {
		e.source = *m.source
	}
	return e
}

// line is messages in order, each in at most one line.
type line struct{ head, tail *message }

func (l *line) push(m *message) { l.insert(m, l.tail) }

// insert puts m after another, or at the head if that is nil.
func (l *line) insert(m, after *message) {
	m.prev = after
	if after == nil {
		m.next, l.head = l.head, m
	} else {
		m.next, after.next = after.next, m
	}
	if m.next == nil {
		l.tail = m
	} else {
		m.next.prev = m
	}
}

// order puts m where its sequence number belongs. Those that come late come
// back from a consumer, and belong near the head.
func (l *line) order(m *message) {
	if l.tail == nil || l.tail.seq < m.seq {
		l.push(m)
		return
	}
	var after *message
	for n := l.head; n.seq < m.seq; n = n.next {
		after = n
	}
	l.insert(m, after)
}

func (l *line) remove(m *message) {
	if m.prev == nil {
		l.head = m.next
	} else {
		m.prev.next = m.next
	}
	if m.next == nil {
		l.tail = m.prev
	} else {
		m.next.prev = m.prev
	}
	m.prev, m.next = nil, nil
}

// group is the messages of a FIFO queue whose order matters to each other. In
// a standard queue it is only a name.
type group struct {
	name string
	line line // visible and delayed ones, by sequence number
	out  int  // how many are in flight or moving: until 0 no other is received
	all  int  // how many there are at all

	open       bool // among those to receive from
	prev, next *group
}

// groups is groups with something to receive, in the order of their turns.
type groups struct{ head, tail *group }

func (l *groups) push(g *group) {
	g.open = true
	if g.prev, g.next = l.tail, nil; l.tail == nil {
		l.head = g
	} else {
		l.tail.next = g
	}
	l.tail = g
}

func (l *groups) remove(g *group) {
	if g.prev == nil {
		l.head = g.next
	} else {
		g.prev.next = g.next
	}
	if g.next == nil {
		l.tail = g.prev
	} else {
		g.next.prev = g.prev
	}
	g.prev, g.next, g.open = nil, nil, false
}
