// Package fair shares places between accounts by their weights: places among
// what runs, or among what is being made.
package fair

import (
	"container/list"
	"math"
	"time"

	"github.com/hearth-faas/hearth"
)

// Unbounded is as many places as there are when nobody has to wait.
const Unbounded = math.MaxInt

// Places are had for a time. Where fewer are free than are wanted, each account
// has a queue of its own, and the one that has used least of late is next: what
// it had, by its weight. An account also has places of its own, beside those that
// are shared, for which it does not wait: so one's flood waits behind itself, and
// nobody else behind it. Until Share is called there are no others. Not safe for
// concurrent use: its owner has a lock.
type Places struct {
	// Now tells the time. It must be set.
	Now func() time.Time
	// Entry is what a place costs as soon as it is had. The rest is charged when
	// it is given back.
	Entry time.Duration
	// Lead is by how much more an account may have used than one that waits, what
	// is had now with it, and still have places of its own; 0 is however much.
	Lead time.Duration

	start   time.Time // as which times are counted
	room    int
	taken   int
	waiting int
	came    uint64        // how many have, that wait or did
	clock   time.Duration // the least that those who wait, or have a place, have used
	shares  map[hearth.Account]*share
}

// share is one account's.
type share struct {
	used    time.Duration // by the weight
	weight  int
	own     int // places
	holds   int
	began   time.Duration // the sum of when those were had
	waiters *list.List    // of *Place
}

// charge has the account have used so much of a place more.
func (s *share) charge(d time.Duration) { s.used += d / time.Duration(s.weight) }

// Place is one that somebody has, or waits for.
type Place struct {
	account hearth.Account
	had     chan struct{} // closed once it is had; nil if that was at once
	waits   *list.Element // nil once it is had
	number  uint64
	began   time.Duration
}

var atOnce = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// Had is closed once the place is had. It may be called without the owner's lock.
func (p *Place) Had() <-chan struct{} {
	if p.had == nil {
		return atOnce
	}
	return p.had
}

// Taken is how many places are had.
func (q *Places) Taken() int { return q.taken }

// Waiting is how many places are waited for.
func (q *Places) Waiting() int { return q.waiting }

// Room is how many places are shared, as Share last said.
func (q *Places) Room() int { return q.room }

// Share says how many places are shared from now on. If they are fewer, who has
// one keeps it.
func (q *Places) Share(room int) {
	q.room = room
	q.serve()
}

func (q *Places) now() time.Duration {
	at := q.Now()
	if q.start.IsZero() {
		q.start = at
	}
	return at.Sub(q.start)
}

// Join takes a place for an account, or has it wait for one. weight is what the
// account's is now, and own how many places are its own; less than 1 is 1 of
// either. The place is to be left in any case.
func (q *Places) Join(account hearth.Account, weight, own int) *Place {
	s := q.shares[account]
	if s == nil {
		if q.shares == nil {
			q.shares = map[hearth.Account]*share{}
		}
		s = &share{waiters: list.New()}
		q.shares[account] = s
	}
	if s.holds == 0 && s.waiters.Len() == 0 {
		s.used = max(s.used, q.clock) // nobody saves up
	}
	s.weight, s.own = max(weight, 1), max(own, 1)
	p := &Place{account: account}
	if s.waiters.Len() == 0 && (q.mayOwn(s) || q.waiting == 0 && q.taken < q.room) {
		q.grant(s, p)
		return p
	}
	q.came++
	p.had, p.number = make(chan struct{}), q.came
	p.waits = s.waiters.PushBack(p)
	q.waiting++
	q.letOwn(s) // there may be more of them than before
	q.serve()
	return p
}

// Leave gives a place back, or ends the waiting for it. It is called once.
func (q *Places) Leave(p *Place) {
	s := q.shares[p.account]
	if p.waits != nil {
		s.waiters.Remove(p.waits)
		q.waiting--
		q.serve() // nobody is ahead of it any more
		q.forget(p.account, s)
		return
	}
	s.charge(max(q.now()-p.began-q.Entry, 0))
	s.holds--
	s.began -= p.began
	q.taken--
	q.letOwn(s)
	q.serve()
	q.forget(p.account, s)
}

// Even forgets who has used more than others.
func (q *Places) Even() {
	for account, s := range q.shares {
		s.used = q.clock
		q.forget(account, s)
	}
	q.serve()
}

// grant gives a place to an account.
func (q *Places) grant(s *share, p *Place) {
	p.began = q.now()
	s.holds++
	s.began += p.began
	s.charge(q.Entry)
	q.taken++
}

// serve lets in who waits while there is room: of the account that has used
// least, and of several such the one whose first has waited longest.
func (q *Places) serve() {
	for q.taken < q.room && q.waiting > 0 {
		var next *share
		for _, s := range q.shares {
			if s.waiters.Len() > 0 && (next == nil || s.used < next.used || s.used == next.used && s.first().number < next.first().number) {
				next = s
			}
		}
		q.let(next)
	}
	if q.Lead > 0 { // some may be less far ahead than before
		for _, s := range q.shares {
			q.letOwn(s)
		}
	}
}

func (s *share) first() *Place { return s.waiters.Front().Value.(*Place) }

// letOwn lets in who waits for a place of the account's own.
func (q *Places) letOwn(s *share) {
	for s.waiters.Len() > 0 && q.mayOwn(s) {
		q.let(s)
	}
}

// mayOwn tells whether an account may have one more place of its own.
func (q *Places) mayOwn(s *share) bool {
	if s.holds >= s.own {
		return false
	}
	if q.Lead == 0 {
		return true
	}
	now := q.now()
	for _, other := range q.shares {
		if other.waiters.Len() > 0 && q.usedBy(s, now)-q.usedBy(other, now) > q.Lead {
			return false
		}
	}
	return true
}

// usedBy is what an account has used until now.
func (q *Places) usedBy(s *share, now time.Duration) time.Duration {
	n := time.Duration(s.holds)
	return s.used + max(n*(now-q.Entry)-s.began, 0)/time.Duration(s.weight)
}

// let lets in who waits first of an account.
func (q *Places) let(s *share) {
	q.clock = max(q.clock, s.used)
	p := s.first()
	s.waiters.Remove(p.waits)
	p.waits = nil
	q.waiting--
	q.grant(s, p)
	close(p.had)
}

// forget keeps nothing of an account that has no place and waits for none, and is
// not ahead of the others.
func (q *Places) forget(account hearth.Account, s *share) {
	if s.holds == 0 && s.waiters.Len() == 0 && (s.used <= q.clock || q.room == Unbounded) {
		delete(q.shares, account)
	}
}
