package prediction

import (
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/history"
)

// maxRuns is how many runs are remembered, so that what they cause can be
// linked to them; maxDepth how many callers up a call is linked.
const (
	maxRuns  = 8192
	maxDepth = 3
	// maxPending bounds the runs of one function of which it is not known yet
	// what follows.
	maxPending = 512
)

// A function's runs are learned from at this rate: where there are more, its
// successors are in use all the time, and what is learned from a part is as
// good. perSecond of them, and burst at once.
const (
	perSecond = 20
	burst     = 200
)

// run is one run of a function.
type run struct {
	of      *subject
	parent  *run
	seq     uint64
	at      time.Time
	request string
	tag     tag
	// called are the links that it was followed by, and foretold those for which
	// something was made ready, until when.
	called   []*Link
	foretold []promise
}

type promise struct {
	link  *Link
	until time.Time
}

func (r *run) hasCalled(l *Link) bool {
	for _, c := range r.called {
		if c == l {
			return true
		}
	}
	return false
}

func (r *run) hasForetold(l *Link) bool {
	for _, p := range r.foretold {
		if p.link == l {
			return true
		}
	}
	return false
}

// owner names a function, whatever its version.
type owner struct {
	account  hearth.Account
	function string
}

func (o owner) key() string { return string(o.account) + "/" + o.function }

// subject is a function of which there is a profile, and its runs of which it
// is not known yet what follows.
type subject struct {
	owner
	entry   *history.Entry[Profile]
	profile *Profile // of the entry, whose lock guards it
	pending []*run   // in the order of seq, without gaps
	next    uint64   // the seq of the next run
	done    map[*Link]uint64
	tokens  float64
	filled  time.Time
}

// sample reports whether a run is to be learned from.
func (s *subject) sample(now time.Time) bool {
	s.tokens = min(s.tokens+now.Sub(s.filled).Seconds()*perSecond, burst)
	s.filled = now
	if s.tokens < 1 {
		return false
	}
	s.tokens--
	return true
}

// settle counts, for each link, the runs that are old enough.
func (s *subject) settle(now time.Time) {
	for _, l := range s.profile.Links {
		horizon := l.Horizon()
		for _, r := range s.pending {
			if r.seq < s.done[l] {
				continue
			}
			if now.Sub(r.at) < horizon && len(s.pending) <= maxPending {
				break
			}
			s.done[l] = r.seq + 1
			s.count(l, r)
		}
	}
	if len(s.done) > 4*maxLinks { // links that gave way
		kept := map[*Link]uint64{}
		for _, l := range s.profile.Links {
			kept[l] = s.done[l]
		}
		s.done = kept
	}
	// What all links have counted is not pending any more.
	for len(s.pending) > 0 {
		r := s.pending[0]
		for _, l := range s.profile.Links {
			if s.done[l] <= r.seq {
				return
			}
		}
		s.pending[0] = nil
		s.pending = s.pending[1:]
	}
}

// count has l know how r ended.
func (s *subject) count(l *Link, r *run) {
	called, foretold := r.hasCalled(l), r.hasForetold(l)
	l.Ran(called)
	switch {
	case foretold && called:
		l.Predicted++
		l.True++
	case foretold:
		l.Predicted++
	case called:
		l.Missed++
	}
}

// runs are the runs that are remembered.
type runs struct {
	byRequest map[string]*run
	byTag     map[tag]*run
	accepted  map[string]*run // by the request id of what they had stored
	order     []*run          // a circle
	oldest    int
	stored    []string // a circle of the keys of accepted
	first     int
}

func newRuns() *runs {
	return &runs{byRequest: map[string]*run{}, byTag: map[tag]*run{}, accepted: map[string]*run{}}
}

// add remembers a run; the oldest is forgotten.
func (rs *runs) add(r *run) {
	rs.byRequest[r.request] = r
	if r.tag != (tag{}) {
		rs.byTag[r.tag] = r
	}
	if len(rs.order) < maxRuns {
		rs.order = append(rs.order, r)
		return
	}
	old := rs.order[rs.oldest]
	if rs.byRequest[old.request] == old {
		delete(rs.byRequest, old.request)
	}
	if rs.byTag[old.tag] == old {
		delete(rs.byTag, old.tag)
	}
	rs.order[rs.oldest] = r
	rs.oldest = (rs.oldest + 1) % maxRuns
}

// store remembers which run had an invocation stored.
func (rs *runs) store(request string, parent *run) {
	rs.accepted[request] = parent
	if len(rs.stored) < maxRuns {
		rs.stored = append(rs.stored, request)
		return
	}
	delete(rs.accepted, rs.stored[rs.first])
	rs.stored[rs.first] = request
	rs.first = (rs.first + 1) % maxRuns
}
