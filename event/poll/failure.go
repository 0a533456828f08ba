package poll

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/hearth-faas/hearth"
)

// split is what of a batch is to be tried again after a failed attempt, left
// being the records that were not processed. A batch that failed as a whole is
// halved if it may be, which finds the record that is to blame; as the service
// has it, halving does not count as an attempt.
func (r *run) split(b *batch, left []*Record, o outcome, bisect bool) []*batch {
	of := func(records []*Record, attempts int) *batch {
		n := &batch{records: records, attempts: attempts, invokes: b.invokes, ready: b.ready}
		for _, r := range records {
			n.bytes += len(r.Body) + 1
		}
		return n
	}
	whole := len(left) == len(b.records)
	if whole && len(left) > 1 && (bisect || o.fate == unfit) {
		r.decide("bisect", fmt.Sprintf("a batch of %d records failed: %s", len(left), o.answer), len(left))
		return []*batch{of(left[:len(left)/2], b.attempts), of(left[len(left)/2:], b.attempts)}
	}
	attempts := b.attempts + 1
	if !whole && left[0] != b.records[0] {
		attempts = 1 // what failed is another record than before
	}
	return []*batch{of(left, attempts)}
}

// exhausted is why a batch is not tried again, in the service's words, or "".
func (r *run) exhausted(b *batch, o outcome) string {
	switch {
	case o.fate == unfit && len(b.records) == 1:
		return "RecordNotInvokable"
	case r.settings.tries > 0 && b.attempts >= r.settings.tries:
		return "RetryAttemptsExhausted"
	}
	return ""
}

// late takes the records out of b that are older than the mapping allows; nil
// if there are none.
func (r *run) late(b *batch) *batch {
	if r.settings.age == 0 {
		return nil
	}
	before := r.cfg.Clock.Now().Add(-r.settings.age)
	old := &batch{attempts: b.attempts, invokes: b.invokes}
	var young []*Record
	for _, rec := range b.records {
		if !rec.Sent.IsZero() && rec.Sent.Before(before) {
			old.records = append(old.records, rec)
		} else {
			young = append(young, rec)
		}
	}
	if old.records == nil {
		return nil
	}
	b.records = young
	return old
}

// park sends what is given up to where the mapping wants it told, or keeps it.
// False is that the process stops and neither was done.
func (r *run) park(s Source, b *batch, shard, reason string, o outcome) bool {
	r.cfg.Metrics.count(r.kind, "parked", len(b.records))
	_, isQueue := s.(Queue)
	payload, err := eventOf(s, b.records)
	if err != nil {
		// What cannot be made an event of can still be kept.
		payload = AppendBodies(nil, b.records)
	}
	why := reason
	if arn := r.m.Settings.OnFailure; arn != "" {
		err := r.send(arn, s, b, shard, reason, o, payload, isQueue)
		if err == nil {
			r.decide("destination", fmt.Sprintf("%s: %d records were reported to %s", reason, len(b.records), arn), len(b.records))
			return true
		}
		why += "; could not be sent to " + arn + ": " + err.Error()
		r.log.Warn("an on-failure destination cannot be reached; the records are parked here", "destination", arn, "error", err)
	}
	r.decide("park", fmt.Sprintf("%s: %d records from %s on, after %d attempts; %s", reason, len(b.records), b.first(), b.invokes, o.answer), len(b.records))
	if r.cfg.Park == nil {
		r.log.Error("records were given up, and nothing here keeps them", "records", len(b.records), "first", b.first(), "reason", why)
		return true
	}
	for i := 0; ; i++ {
		err := r.cfg.Park(r.hard, Parked{
			Account: r.m.Account, Function: r.m.Function, Qualifier: r.m.Qualifier, Mapping: r.m.ARN(),
			Attempts: b.invokes, Reason: why, Last: o.answer, Payload: payload,
		})
		if err == nil {
			return true
		}
		r.log.Error("records that were given up could not be parked; it will be tried again", "records", len(b.records), "error", err)
		if sleep(r.hard, r.cfg.Clock, backoff(i)) != nil {
			return false
		}
	}
}

// sendTries is how often a destination is tried before the records are parked.
const sendTries = 3

func (r *run) send(arn string, s Source, b *batch, shard, reason string, o outcome, payload []byte, whole bool) error {
	parts := strings.SplitN(arn, ":", 4)
	var sender Sender
	if len(parts) == 4 {
		sender = r.cfg.Senders[parts[2]]
		whole = whole || parts[2] == "s3"
	}
	if sender == nil {
		return fmt.Errorf("nothing here delivers to it")
	}
	body, err := r.record(s, b, shard, reason, o, payload, whole)
	if err != nil {
		return err
	}
	for i := range sendTries {
		ctx, cancel := context.WithTimeout(r.hard, mostPause)
		err = sender.Send(ctx, arn, body, nil)
		cancel()
		if err == nil || i == sendTries-1 || sleep(r.hard, r.cfg.Clock, backoff(i)) != nil {
			break
		}
	}
	return err
}

// record is what an on-failure destination is sent, in the service's form. A
// stream's records can be read again from where it says; those of a queue are
// gone from it, so that they are in the record, as they are in one for S3.
func (r *run) record(s Source, b *batch, shard, reason string, o outcome, payload []byte, whole bool) ([]byte, error) {
	type requestContext struct {
		RequestID   string `json:"requestId"`
		FunctionARN string `json:"functionArn"`
		Condition   string `json:"condition"`
		Invokes     int    `json:"approximateInvokeCount"`
	}
	type responseContext struct {
		Status  int    `json:"statusCode"`
		Version string `json:"executedVersion,omitempty"`
		Error   string `json:"functionError,omitempty"`
	}
	out := map[string]any{"version": "1.0", "timestamp": stamp(r.cfg.Clock.Now())}
	request := requestContext{FunctionARN: r.m.FunctionARN(), Condition: reason, Invokes: b.invokes}
	if o.inv != nil {
		request.RequestID = o.inv.RequestID
		response := responseContext{Status: 200}
		if o.err != nil {
			response.Status = hearth.KindOf(o.err).Status()
		}
		if o.result != nil {
			response.Version, response.Error = o.result.Version, o.result.FunctionError
		}
		out["responseContext"] = response
	}
	out["requestContext"] = request
	if d, ok := s.(Describer); ok {
		name, info := d.Describe(shard, b.records)
		out[name] = info
	} else if len(b.records) > 0 {
		first, last := b.records[0], b.records[len(b.records)-1]
		info := map[string]any{"batchSize": len(b.records), "eventSourceArn": r.m.Source, "firstRecordId": first.ID, "lastRecordId": last.ID}
		if shard != "" {
			info["shardId"], info["startPosition"], info["endPosition"] = shard, first.Position, last.Position
		}
		if !first.Sent.IsZero() {
			info["approximateArrivalOfFirstRecord"], info["approximateArrivalOfLastRecord"] = stamp(first.Sent), stamp(last.Sent)
		}
		out["BatchInfo"] = info
	}
	if whole {
		out["payload"] = string(payload)
	}
	return json.Marshal(out)
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// decide records what was decided about the mapping's records; n is how many it
// is about, or how many batches may be at work.
func (r *run) decide(chosen, why string, n int) {
	if r.cfg.Recorder == nil {
		return
	}
	r.cfg.Recorder.Record(&hearth.Decision{
		Kind: hearth.DecisionPoll, Account: r.m.Account, Function: r.m.Function, Version: r.m.Qualifier,
		Chosen: chosen, Why: fmt.Sprintf("mapping %s (%d): %s", r.m.ID, n, why),
	})
}

// first is the ID of a batch's first record.
func (b *batch) first() string {
	if len(b.records) == 0 {
		return "none"
	}
	return b.records[0].ID
}
