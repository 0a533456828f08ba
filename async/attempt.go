package async

import (
	"errors"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/hearth-faas/hearth"
)

// attempt runs an event once, in a goroutine of its own, and stores what came
// of it.
func (q *Queue) attempt(en *entry) {
	defer q.atWork.Done()
	next, c := q.tried(en)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lanes.done(en)
	if next != nil {
		now := q.cfg.Clock.Now()
		for _, e := range next {
			e.payload = nil
			q.lanes.add(e, now)
		}
	}
	q.counts.Accepted += c.Accepted
	q.counts.Succeeded += c.Succeeded
	q.counts.Failed += c.Failed
	q.counts.Retried += c.Retried
	q.counts.Parked += c.Parked
	q.dispatch()
}

// tried is an attempt and the events that wait because of it.
func (q *Queue) tried(en *entry) (next []*event, c Counts) {
	var e *event
	if !q.stored("an event could not be read", en.id, func() (err error) {
		e, err = q.journal.read(q.ctx, en.id)
		return err
	}) || e == nil {
		return nil, c
	}
	if en.start.Now { // it could wait
		e.Capacity = en.start.Capacity
		q.note(en.lane.name, e.ID, "start", en.start.Why)
	}
	inv := &hearth.Invocation{
		RequestID: e.ID, Account: e.Account, Name: e.Function, Qualifier: e.Qualifier,
		Caller: hearth.Identity{Account: e.CallerAccount, ARN: e.CallerARN, UserID: e.CallerID}, Authorized: true,
		Payload: e.payload, ClientContext: e.ClientContext, APIKey: e.APIKey, TraceID: e.TraceID, TenantID: e.TenantID, MemoryMiB: e.MemoryMiB, Capacity: e.Capacity, Recompute: e.Recompute,
	}
	inv.Timeline.Begin(q.cfg.Clock.Now())
	r, err := q.cfg.Run.Invoke(q.ctx, inv)
	if q.ctx.Err() != nil {
		return nil, c // the next start runs it again, whatever this gave
	}
	q.cfg.Done(inv)
	now := q.cfg.Clock.Now()
	policy := q.cfg.Policy(e.Account, e.Function, e.Qualifier)
	v := policy.judge(e, r, err, q.cfg.Delays, now, q.cfg.Jitter())
	e.Last = outcome(r, err)
	if err == nil && r.FunctionError != "" && inv.Function != nil && inv.Function.Shared != nil {
		e.Last = r.FunctionError + " " + inv.Outcome
	}
	ch := change{}
	switch v.fate {
	case fateRetry:
		e.Due = v.due.UTC().Round(0)
		ch.put = []*event{e}
		c.Retried++
		q.decide(e, inv, "retry", "the attempt failed, and the function's policy allows another at "+e.Due.Format("15:04:05.000"))
	case fateSuccess, fateFailure:
		ch.remove = e.ID
		if v.fate == fateSuccess {
			c.Succeeded++
		} else {
			c.Failed++
			q.decide(e, inv, "give up", v.condition)
		}
		q.tell(e, v, policy, r, err, &ch)
	case fateVoid:
		ch.remove = e.ID
		c.Failed++
		q.decide(e, inv, "drop", "its function is gone")
	}
	if ch.park != nil {
		c.Parked++
	}
	// It is not given up: an outcome that is not stored would be run again.
	if !q.stored("the outcome of an event could not be stored", e.ID, func() error { return q.journal.apply(q.ctx, ch) }) {
		return nil, Counts{}
	}
	for _, n := range ch.put {
		if n.ID != e.ID {
			c.Accepted++
		}
	}
	return ch.put, c
}

// stored does something with the store until it succeeds: a disk that is full
// or a database that is away is so for a while. False is that the Queue
// stopped; what is on disk is for the next start.
func (q *Queue) stored(failed, id string, do func() error) bool {
	for {
		err := do()
		if err == nil {
			return true
		}
		if q.ctx.Err() != nil {
			return false
		}
		q.cfg.Log.Error(failed+"; it will be tried again", "event", id, "in", storePause, "error", err)
		if !q.pause(storePause) {
			return false
		}
	}
}

// tell adds to ch what destinations are told of an event's end, and sends what
// goes elsewhere. What cannot be sent is parked with the reason.
func (q *Queue) tell(e *event, v verdict, p Policy, r *hearth.Result, err error, ch *change) {
	now := q.cfg.Clock.Now()
	park := func(reason string) {
		if ch.park == nil {
			parked := *e
			ch.park = &parked
		} else {
			reason = ch.park.Reason + "; " + reason
		}
		ch.park.Reason = reason
	}
	send := func(arn string, body []byte, attributes map[string]string) {
		service := serviceOf(arn)
		if service == "lambda" {
			to, ok := q.eventFor(arn, e, body)
			if !ok {
				park("no function is named by the destination " + arn)
				return
			}
			ch.put = append(ch.put, to)
			return
		}
		if err := q.send(service, arn, body, attributes); err != nil {
			park(err.Error())
		}
	}
	destination := p.OnSuccess
	if v.fate == fateFailure {
		destination = p.OnFailure
		if p.DeadLetter != "" {
			send(p.DeadLetter, e.payload, map[string]string{
				"RequestID": e.ID, "ErrorCode": strconv.Itoa(hearth.KindOf(err).Status()), "ErrorMessage": e.Last,
			})
		}
		if destination == "" && p.DeadLetter == "" {
			park(v.condition)
		}
	}
	if destination == "" {
		return
	}
	body, rerr := q.record(e, v, r, err, now)
	if rerr != nil {
		park("its record could not be written: " + rerr.Error())
		return
	}
	send(destination, body, nil)
}

// eventFor is an event for the function that a destination's ARN names.
func (q *Queue) eventFor(arn string, of *event, body []byte) (*event, bool) {
	parts := strings.Split(arn, ":")
	if len(parts) < 7 || len(parts) > 8 || parts[5] != "function" || hearth.Account(parts[4]) != of.Account {
		return nil, false
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, false
	}
	now := q.cfg.Clock.Now().UTC().Round(0)
	e := &event{
		ID: id.String(), Account: of.Account, Function: parts[6], TraceID: of.TraceID,
		CallerAccount: of.CallerAccount, CallerARN: of.CallerARN, CallerID: of.CallerID,
		Accepted: now, Due: now, payload: body,
	}
	if len(parts) == 8 {
		e.Qualifier = parts[7]
	}
	return e, true
}

func serviceOf(arn string) string {
	parts := strings.SplitN(arn, ":", 4)
	if len(parts) < 4 {
		return ""
	}
	return parts[2]
}

// outcome is an attempt's end in a word.
func outcome(r *hearth.Result, err error) string {
	switch {
	case hearth.KindOf(err) == hearth.AccessDenied: // what has been taken back since it was accepted
		var e *hearth.Error
		if errors.As(err, &e) {
			return string(e.Kind) + " " + e.Message
		}
		return string(hearth.AccessDenied)
	case err != nil:
		return string(hearth.KindOf(err))
	case r.FunctionError != "":
		const longest = 512
		text := string(r.Payload)
		return r.FunctionError + " " + strings.ToValidUTF8(text[:min(len(text), longest)], "?")
	}
	return "ok"
}

// decide records what was decided about an event.
func (q *Queue) decide(e *event, inv *hearth.Invocation, chosen, why string) {
	if q.cfg.Recorder == nil {
		return
	}
	d := &hearth.Decision{
		Kind: hearth.DecisionEvent, RequestID: e.ID, Account: e.Account, Function: e.Function, Version: e.Qualifier,
		Chosen: chosen, Why: why, Outcome: inv.Outcome,
	}
	q.cfg.Recorder.Record(d)
}
