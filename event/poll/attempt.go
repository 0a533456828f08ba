package poll

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/hearth-faas/hearth"
)

// MaxEvent bounds the event that a batch becomes, in bytes.
const MaxEvent = 6 << 20

// envelope is what of an event its records' bodies leave to the rest of it.
const envelope = 4 << 10

// batch is records that are processed together.
type batch struct {
	records  []*Record
	bytes    int
	attempts int           // that ran the function and failed
	refusals int           // in a row
	invokes  int           // all that reached the function
	ready    time.Time     // since when only Hearth has kept it from starting
	pause    time.Duration // before it is tried again
}

// fate is what an attempt did.
type fate int

const (
	processed fate = iota // all of it, or what failed does not name
	failed                // the function failed with what failed names
	refused               // nothing ran, and may later: throttled, or shutting down
	unfit                 // nothing ran, and this batch will never: it is too large
	abandoned             // the process stops; what came of it is not known
)

// outcome is one attempt at a batch.
type outcome struct {
	fate      fate
	failed    []*Record // of failed: what has to be processed again, in order
	throttled bool
	answer    string // what the function or the system said of a failure
	err       error
	result    *hearth.Result
	inv       *hearth.Invocation
	payload   []byte
}

// attempt invokes the function with the records once. extend, if not nil, adds
// to the event.
func (r *run) attempt(s Source, b *batch, extend func(payload []byte, records []*Record) ([]byte, error)) (o outcome) {
	payload, err := eventOf(s, b.records)
	if err == nil && extend != nil {
		payload, err = extend(payload, b.records)
	}
	if err != nil {
		return outcome{fate: unfit, err: err, answer: "the event could not be made: " + err.Error()}
	}
	inv := &hearth.Invocation{
		Account: r.m.Account, Name: r.m.Function, Qualifier: r.m.Qualifier,
		// Whoever made the mapping was allowed to have the function invoked.
		Caller: hearth.Identity{Account: r.m.Account, ARN: r.m.ARN(), UserID: string(r.m.Account)}, Authorized: true,
		Source:  &hearth.Source{ARN: r.m.Source, Account: r.m.Account},
		Payload: payload,
	}
	inv.Timeline.Begin(r.cfg.Clock.Now())
	res, err := r.cfg.Run.Invoke(r.hard, inv)
	r.cfg.Done(inv)
	o = outcome{inv: inv, result: res, err: err, payload: payload}
	if r.hard.Err() != nil {
		o.fate = abandoned
		return o
	}
	if err != nil {
		o.answer = sentence(err)
		switch hearth.KindOf(err) {
		case hearth.TooManyRequests:
			o.fate, o.throttled = refused, true
		case hearth.EntityTooLarge, hearth.RequestTooLarge, hearth.Recursive:
			o.fate = unfit
		case hearth.Canceled:
			o.fate = abandoned
		default:
			o.fate = refused
		}
		return o
	}
	b.refusals = 0
	b.invokes++
	r.cfg.Metrics.began(r.kind, b, inv)
	switch {
	case res.FunctionError != "":
		o.fate, o.failed = failed, b.records
		o.answer = res.FunctionError + " " + clip(res.Payload)
	case r.settings.partial:
		names, err := itemFailures(res.Payload)
		if err == nil {
			o.failed, err = named(s, b.records, names)
		}
		switch {
		case err != nil: // as the service has it: an answer that cannot be read is a failure of all
			o.fate, o.failed, o.answer = failed, b.records, "its batchItemFailures cannot be read: "+err.Error()
		case len(o.failed) > 0:
			o.fate, o.answer = failed, "reported as failed by the function"
		}
	}
	return o
}

// eventOf is the event for records, of which there are none when a window ends.
func eventOf(s Source, records []*Record) ([]byte, error) {
	if len(records) == 0 {
		return Records(nil)
	}
	return s.Event(records)
}

// clip is an answer short enough to be kept.
func clip(payload []byte) string {
	const longest = 512
	return string(payload[:min(len(payload), longest)])
}

// itemFailures are the item identifiers that a function answered with; none is
// that everything was processed.
func itemFailures(answer []byte) ([]json.RawMessage, error) {
	var a struct {
		Failures *[]struct {
			ID *json.RawMessage `json:"itemIdentifier"`
		} `json:"batchItemFailures"`
	}
	if len(answer) == 0 {
		return nil, nil
	}
	// A function that answers with a text or a number reports no failure.
	if answer[0] != '{' {
		if !json.Valid(answer) {
			return nil, errors.New("the answer is no JSON")
		}
		return nil, nil
	}
	if err := json.Unmarshal(answer, &a); err != nil {
		return nil, err
	}
	if a.Failures == nil {
		return nil, nil
	}
	var ids []json.RawMessage
	for _, f := range *a.Failures {
		if f.ID == nil {
			return nil, errors.New("an item has no itemIdentifier")
		}
		ids = append(ids, *f.ID)
	}
	return ids, nil
}

// named are the records that the identifiers mean, in the batch's order.
func named(s Source, records []*Record, ids []json.RawMessage) ([]*Record, error) {
	wanted := map[string]bool{}
	for _, raw := range ids {
		var id string
		if err := json.Unmarshal(raw, &id); err != nil {
			if identifier, ok := s.(Identifier); ok {
				id = identifier.Identify(raw)
			}
		}
		if id == "" {
			return nil, errors.New("an itemIdentifier is empty")
		}
		wanted[id] = true
	}
	var found []*Record
	for _, r := range records {
		if wanted[r.ID] {
			found = append(found, r)
			delete(wanted, r.ID)
		}
	}
	if len(wanted) > 0 {
		return nil, errors.New("an itemIdentifier is of no record in the batch")
	}
	return found, nil
}

// waited is how long inv waited for a container that existed already, or for
// one that could not be made yet.
func waited(inv *hearth.Invocation) time.Duration { return inv.Timeline.Spent[hearth.StagePlace] }

// began tells when inv's function began to run: the stages before Run.
func began(inv *hearth.Invocation) time.Time {
	at := inv.Timeline.Began
	for s := range hearth.StageRun {
		at = at.Add(inv.Timeline.Spent[s])
	}
	return at
}

// backoff is the pause after so many attempts in a row.
func backoff(attempt int) time.Duration {
	return min(firstPause<<min(attempt, 20), mostPause)
}
