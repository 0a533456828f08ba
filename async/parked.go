package async

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/hearth-faas/hearth"
)

// Parked is an event that was given up and that nothing else took: its
// function has no destination for failures, or it could not be reached.
type Parked struct {
	ID        string    `json:"id"`
	Function  string    `json:"function"`
	Qualifier string    `json:"qualifier,omitempty"`
	Accepted  time.Time `json:"accepted"`
	Attempts  int       `json:"attempts"` // that ran the function
	Reason    string    `json:"reason"`
	Last      string    `json:"last"` // what the last attempt answered
	Payload   []byte    `json:"-"`
}

// Park keeps an event that somebody else gave up, such as what a queue's function
// failed with, until it is redriven or too old. p's ID and Accepted are given to
// it.
func (q *Queue) Park(ctx context.Context, account hearth.Account, p Parked) error {
	id, err := uuid.NewV7()
	if err != nil {
		return notStored(err)
	}
	now := q.cfg.Clock.Now().UTC().Round(0)
	err = q.journal.apply(ctx, change{park: &event{
		ID: id.String(), Account: account, Function: p.Function, Qualifier: p.Qualifier,
		CallerAccount: account, CallerARN: "arn:aws:iam::" + string(account) + ":root", CallerID: string(account),
		Accepted: now, Due: now, Attempts: p.Attempts, Reason: p.Reason, Last: p.Last, payload: p.Payload,
	}})
	if err != nil {
		return notStored(err)
	}
	q.mu.Lock()
	q.counts.Parked++
	q.mu.Unlock()
	return nil
}

// Redrive puts a parked event back into the queue, as one that was accepted
// now. Errors: ResourceNotFound.
func (q *Queue) Redrive(ctx context.Context, account hearth.Account, id string) error {
	now := q.cfg.Clock.Now()
	e, err := q.journal.unpark(ctx, account, id, now.UTC().Round(0))
	switch {
	case err != nil:
		return notStored(err)
	case e == nil:
		return hearth.Errorf(hearth.NotFound, "There is no parked event %s.", id)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.counts.Accepted++
	q.lanes.add(e, now)
	q.dispatch()
	return nil
}

// Parked yields the events of an account that were given up and had nowhere to
// go, the oldest first.
func (q *Queue) Parked(ctx context.Context, account hearth.Account, take func(Parked) bool) error {
	return q.journal.parked(ctx, func(e *event) bool {
		if e.Account != account {
			return true
		}
		return take(Parked{
			ID: e.ID, Function: e.Function, Qualifier: e.Qualifier, Accepted: e.Accepted, Attempts: e.Attempts,
			Reason: e.Reason, Last: e.Last, Payload: e.payload,
		})
	})
}

// sweepEvery is how often parked events are looked through.
const sweepEvery = time.Hour

// sweep removes what was parked too long ago, and arranges for the next sweep.
func (q *Queue) sweep() {
	q.mu.Lock()
	if q.stopped {
		q.mu.Unlock()
		return
	}
	q.atWork.Add(1)
	q.sweeper = q.cfg.Clock.AfterFunc(sweepEvery, q.sweep)
	q.mu.Unlock()
	defer q.atWork.Done()
	before := q.cfg.Clock.Now().Add(-q.cfg.ParkFor)
	if err := q.journal.forget(q.ctx, func(e *event) bool { return e.Accepted.Before(before) }); err != nil && q.ctx.Err() == nil {
		q.cfg.Log.Warn("old parked events could not be removed", "error", err)
	}
}

// Forget removes the parked events of an account that is deleted. Those that
// wait are dropped when their turn comes: their functions are gone.
func (q *Queue) Forget(ctx context.Context, account hearth.Account) error {
	return q.journal.forget(ctx, func(e *event) bool { return e.Account == account })
}
