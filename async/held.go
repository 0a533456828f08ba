package async

import (
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/market"
)

// Events that can wait: their first attempt begins when capacity is cheap or
// idle, or suits what their function pays (S07). They wait here, on disk, and
// take no place and no memory but their entry's. Of each function only the one
// that was accepted first is asked about.

// Held is what Config.Start is shown of an event that can wait.
type Held struct {
	Account  hearth.Account
	Function string
	Accepted time.Time
	Running  int // of the function's that could wait, those at work
}

// Start is what was decided of it.
type Start struct {
	Now bool
	// Capacity is what its attempts take whatever the function's policy says: ""
	// or CapacityFixed.
	Capacity hearth.CapacityKind
	// Again is when to ask again if it is not to start now, unless Reconsider is
	// called before.
	Again time.Time
	Why   string
}

// StartOf is what package market decided, for the Queue.
func StartOf(st market.Start) Start {
	to := Start{Now: st.Now, Again: st.Again, Why: st.Why}
	if st.Fixed {
		to.Capacity = hearth.CapacityFixed
	}
	return to
}

// Reconsider has all that waits for a better time asked about again: the
// capacity that there is, or its price, has changed.
func (q *Queue) Reconsider() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lanes.unblockAll()
	q.dispatch()
}

// hold has the lanes ask what can wait.
func (q *Queue) hold() {
	if q.cfg.Holds == nil || q.cfg.Start == nil {
		return
	}
	q.lanes.holds = func(e *event) bool {
		return e.Attempts == 0 && e.Misses == 0 && q.cfg.Holds(e.Account, e.Function)
	}
	q.lanes.may = func(en *entry, running int, now time.Time) (bool, time.Time) {
		name := en.lane.name
		st := q.cfg.Start(Held{name.account, name.function, en.accepted, running})
		if st.Now {
			en.start = st
			return true, time.Time{}
		}
		if !en.told {
			en.told = true
			q.note(name, en.id, "delay", st.Why)
		}
		if !st.Again.After(now) {
			st.Again = now.Add(time.Second)
		}
		return false, st.Again
	}
}

// note records what was decided about an event before its attempt.
func (q *Queue) note(name laneName, id, chosen, why string) {
	if q.cfg.Recorder != nil {
		q.cfg.Recorder.Record(&hearth.Decision{Kind: hearth.DecisionEvent, RequestID: id, Account: name.account, Function: name.function,
			Chosen: chosen, Why: why})
	}
}
