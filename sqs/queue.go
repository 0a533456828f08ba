package sqs

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
)

// queue is one queue's memory. What changes it on disk goes to the journal
// under mu, so that both have one order.
type queue struct {
	s       *Service
	id      string // a number as a key: the prefix of its messages' keys
	account hearth.Account
	name    string
	arn     string
	fifo    bool

	mu       sync.Mutex
	deleted  bool
	set      atomic.Pointer[settings] // replaced as a whole; read without mu too
	messages map[uint64]*message
	agenda   agenda
	ready    line              // of a standard queue
	groups   map[string]*group // by name
	open     groups            // of a FIFO queue
	counts   [gone + 1]int     // by state
	waiters  []chan struct{}   // who waits for a message, the first come first
	timer    hearth.Timer
	timerAt  int64 // 0 has none
	dedups   map[string]*dedupEntry
	fading   []*dedupEntry       // by when they expire
	attempts map[string]*attempt // by ReceiveRequestAttemptId
	leaving  []*message          // to be moved to the dead-letter queue by whoever unlocks
	swept    int64               // when the attempts were looked through
	purged   uint64              // what has this number or a lower one is gone
	purging  int64               // when it was purged last
}

func (s *Service) newQueue(r *queueRecord, set *settings) *queue {
	q := &queue{
		s: s, id: r.ID, account: r.Account, name: r.Name, arn: s.ARN(r.Account, r.Name), fifo: set.fifo,
		messages: map[uint64]*message{}, groups: map[string]*group{}, dedups: map[string]*dedupEntry{}, attempts: map[string]*attempt{},
	}
	q.set.Store(set)
	return q
}

// lock locks the queue as it is at that time: what is due has happened.
func (q *queue) lock() (now int64) {
	now = q.s.now()
	q.mu.Lock()
	q.settle(now)
	return now
}

// unlock unlocks, after having arranged for what is due next.
func (q *queue) unlock() {
	q.arrange()
	leaving := q.leaving
	q.leaving = nil
	q.mu.Unlock()
	if len(leaving) > 0 {
		q.s.giveUp(q, leaving)
	}
}

// settle does what is due: messages become visible, or are too old.
func (q *queue) settle(now int64) {
	for len(q.agenda) > 0 && q.agenda[0].wakes <= now {
		m := q.agenda[0]
		if m.sent+q.set.Load().retention <= now && m.state != moving {
			q.discard(m)
			continue
		}
		q.turn(m, visible)
		q.exhausted(m)
	}
	for len(q.fading) > 0 && q.fading[0].expires <= now {
		q.forget(q.fading[0])
		q.fading = q.fading[1:]
	}
}

// exhausted has m leave for the dead-letter queue if it was received often
// enough, and tells whether it does.
func (q *queue) exhausted(m *message) bool {
	r := q.set.Load().redrive
	if r == nil || m.state != visible || int(m.count) < r.max || !q.s.deadLetterable(q, r.target) {
		return false
	}
	q.turn(m, moving)
	q.leaving = append(q.leaving, m)
	return true
}

// discard removes a message that is too old.
func (q *queue) discard(m *message) {
	q.drop(m)
	q.s.counts.expired.Add(1)
	q.s.journal.add(q.erased(m), func(err error) {
		if err != nil {
			q.s.cfg.Log.Warn("a message past its queue's retention could not be removed, and is tried again by the next start", "queue", q.arn, "error", err)
		}
	})
}

// erased is what removes a message from the disk.
func (q *queue) erased(m *message) []write {
	return []write{{indexBucket, q.id + key(m.seq), nil}, {bodyBucket, key(m.body), nil}}
}

// kept is what writes a message's changing part.
func (q *queue) kept(m *message) write {
	return write{indexBucket, q.id + key(m.seq), m.entry().encode()}
}

// arrange sets the timer for what is due next.
func (q *queue) arrange() {
	at := int64(0)
	if len(q.agenda) > 0 {
		at = q.agenda[0].wakes
	}
	if len(q.fading) > 0 && (at == 0 || q.fading[0].expires < at) {
		at = q.fading[0].expires
	}
	if at == q.timerAt || q.deleted && q.timer == nil {
		return
	}
	if q.timer != nil {
		q.timer.Stop()
		q.timer = nil
	}
	if q.timerAt = at; at == 0 || q.deleted {
		return
	}
	q.timer = q.s.cfg.Clock.AfterFunc(time.Duration(max(at-q.s.now(), 0))*time.Millisecond, func() {
		q.mu.Lock()
		q.timerAt = 0
		q.settle(q.s.now())
		q.unlock()
	})
}

// join puts a message in that is new to memory. Its state is set.
func (q *queue) join(m *message, name string) {
	if name != "" {
		g := q.groups[name]
		if g == nil {
			g = &group{name: name}
			q.groups[name] = g
		}
		m.group = g
		g.all++
	}
	q.messages[m.seq] = m
	q.counts[m.state]++
	q.enter(m)
	m.wakes = q.wakesAt(m)
	q.agenda.add(m)
}

// turn changes a message's state.
func (q *queue) turn(m *message, to state) {
	q.leave(m)
	q.counts[m.state]--
	m.state = to
	q.counts[to]++
	q.enter(m)
	m.wakes = q.wakesAt(m)
	q.agenda.fix(m)
}

// drop removes a message from memory.
func (q *queue) drop(m *message) {
	q.leave(m)
	q.counts[m.state]--
	m.state = gone
	q.agenda.remove(m)
	delete(q.messages, m.seq)
	q.s.bodies.remove(m.body)
	if g := m.group; g != nil {
		if q.fifo {
			q.regard(g)
		}
		if g.all--; g.all == 0 {
			delete(q.groups, g.name)
		}
	}
}

// wakesAt is when something has to be done about m.
func (q *queue) wakesAt(m *message) int64 {
	old := m.sent + q.set.Load().retention
	switch m.state {
	case delayed, inFlight:
		return min(m.due, old)
	case moving:
		return never
	}
	return old
}

// never is after all times.
const never = int64(1) << 62

// leave takes m out of the line of its state.
func (q *queue) leave(m *message) {
	if !q.fifo {
		if m.state == visible {
			q.ready.remove(m)
		}
		return
	}
	g := m.group
	switch m.state {
	case visible, delayed:
		g.line.remove(m)
	case inFlight, moving:
		g.out--
	}
}

// enter puts m into the line of its state, and wakes who waits for it.
func (q *queue) enter(m *message) {
	if !q.fifo {
		if m.state == visible {
			q.ready.push(m)
			q.wake(1)
		}
		return
	}
	g := m.group
	switch m.state {
	case visible, delayed:
		g.line.order(m)
	case inFlight, moving:
		g.out++
	}
	q.regard(g)
}

// regard has a group among those to receive from if there is something to
// receive: the next in order is visible, and none before it is out.
func (q *queue) regard(g *group) {
	has := g.out == 0 && g.line.head != nil && g.line.head.state == visible
	switch {
	case has && !g.open:
		q.open.push(g)
		q.wake(1)
	case !has && g.open:
		q.open.remove(g)
	}
}

// wake wakes up to n of those who wait.
func (q *queue) wake(n int) {
	for ; n > 0 && len(q.waiters) > 0; n-- {
		close(q.waiters[0])
		q.waiters = q.waiters[1:]
	}
}

// wait joins those who wait for a message: the channel is closed when there
// may be one.
func (q *queue) wait() chan struct{} {
	c := make(chan struct{})
	q.waiters = append(q.waiters, c)
	return c
}

// unwait leaves those who wait. One who was woken and does not take anything
// hands that on.
func (q *queue) unwait(c chan struct{}) {
	for i, w := range q.waiters {
		if w == c {
			q.waiters = append(q.waiters[:i:i], q.waiters[i+1:]...)
			return
		}
	}
	q.wake(1)
}
