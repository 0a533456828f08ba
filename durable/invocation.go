package durable

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"

	"github.com/hearth-faas/hearth"
)

// How often an invocation that fails is made again, and after how long: after
// some four minutes of failures without any progress the execution fails.
const (
	maxFailures = 10
	firstRetry  = time.Second
	lastRetry   = time.Minute
)

// backoff is how long to wait after the n-th failure in a row, from 1.
func backoff(n int) time.Duration {
	d := firstRetry
	for range n - 1 {
		if d *= 2; d >= lastRetry {
			return lastRetry
		}
	}
	return d
}

// settle begins an invocation if the function has to be told something, or
// to do something, and none is under way. It is the last of each change.
func (c *change) settle() {
	r := &c.record
	if r.Status != Running || r.Invocation != nil || !r.RetryAt.IsZero() {
		return
	}
	needed := r.Again || r.Changes > r.Seen
	if !needed {
		for o := range c.all {
			needed = needed || o.Status == Ready
		}
	}
	if !needed {
		return
	}
	r.Invocations++
	r.Invocation = &invocation{Nonce: randomHex(c.setup.random), RequestID: newName(c.setup.random), Began: c.now}
	r.Again = false
	c.launched, c.known = true, r.Seen
	r.Seen = r.Changes // the event tells all
}

// tick is the change that time makes.
func (c *change) tick() {
	r := &c.record
	if r.Status != Running {
		return
	}
	if deadline := r.Started.Add(r.Timeout); !deadline.After(c.now) {
		c.end(TimedOut, nil, failure("", "Execution timed out after "+strconv.Itoa(int(r.Timeout.Seconds()))+" seconds."))
		return
	}
	c.fire()
	if !r.RetryAt.IsZero() && !r.RetryAt.After(c.now) {
		r.RetryAt, r.Again = time.Time{}, true
	}
}

// lost says that the invocation under way, if there is one, came to nothing
// because the server ended.
func (c *change) lost() {
	if c.record.Status == Running && c.record.Invocation != nil {
		c.record.Invocation, c.record.Again = nil, true
	}
}

// maxEvent bounds the operations in an invocation's event, in bytes of JSON;
// the function asks for the others.
const maxEvent = 4 << 20

// event is what the function is invoked with. seen is the count of changes
// that it knew of before.
func (x *execution) event(seen int64) []byte {
	type state struct {
		Operations []json.RawMessage
		NextMarker string `json:",omitempty"`
	}
	e := struct {
		DurableExecutionArn   string
		CheckpointToken       string
		UpdatedOperationIds   []string
		InitialExecutionState state
	}{DurableExecutionArn: x.arn(), CheckpointToken: x.token().String(), UpdatedOperationIds: []string{}}
	e.InitialExecutionState.Operations = []json.RawMessage{}
	size := 0
	for _, o := range x.replayed() {
		b := encode(o.wire())
		if size += len(b); size > maxEvent {
			e.InitialExecutionState.NextMarker = marker(o.Sequence - 1)
			break
		}
		e.InitialExecutionState.Operations = append(e.InitialExecutionState.Operations, b)
	}
	if seen > 0 { // the first invocation replays nothing
		for _, o := range x.since(seen) {
			e.UpdatedOperationIds = append(e.UpdatedOperationIds, o.ID)
		}
	}
	return encode(e)
}

// encode is v in JSON, without escapes for HTML's sake, which take much of an
// event's room.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // what is encoded here always has a JSON form
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// output is what the function answers.
type output struct {
	status Status // Succeeded, Failed, or Pending: it waits
	result *string
	err    *Error
}

// parseOutput reads a function's answer. ok is false if it is none of a
// durable function.
func parseOutput(payload []byte) (out output, ok bool) {
	var body struct {
		Status *string
		Result *string
		Error  *Error
	}
	if json.Unmarshal(payload, &body) != nil || body.Status == nil {
		return output{}, false
	}
	return output{Status(*body.Status), body.Result, body.Error}, true
}

// parseFunctionError reads the error with which an invocation ended. Functions
// may report one in whatever form they like.
func parseFunctionError(r *hearth.Result) *Error {
	var body struct {
		ErrorMessage *string  `json:"errorMessage"`
		ErrorType    *string  `json:"errorType"`
		StackTrace   []string `json:"stackTrace"`
		Trace        []string `json:"trace"`
	}
	if json.Unmarshal(r.Payload, &body) != nil || body.ErrorMessage == nil && body.ErrorType == nil {
		return failure(r.FunctionError, clip(string(r.Payload)))
	}
	e := &Error{Message: body.ErrorMessage, Type: body.ErrorType, StackTrace: body.StackTrace}
	if e.StackTrace == nil {
		e.StackTrace = body.Trace
	}
	if e.size() > maxError {
		e = failure(clip(deref(e.Type)), clip(deref(e.Message)))
	}
	return e
}

func clip(s string) string {
	if len(s) > 4096 {
		return string(bytes.ToValidUTF8([]byte(s[:4096]), nil)) + "…"
	}
	return s
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// returned takes what came of the invocation with the number.
func (c *change) returned(number int, r *hearth.Result, err error) {
	rec := &c.record
	i := rec.Invocation
	if i == nil || rec.Invocations != number {
		return // it was given up
	}
	rec.Invocation = nil
	completed := Event{Type: InvocationCompleted, RequestID: i.RequestID, Began: i.Began, Ended: c.now}
	if rec.Status != Running {
		if err == nil {
			c.happened(completed)
		}
		return
	}
	if err != nil {
		c.notMade(err)
		return
	}
	rec.Refusals = 0
	if r.FunctionError != "" {
		completed.Error = parseFunctionError(r)
		c.happened(completed)
		if i.Progress {
			rec.Failures = 0
		}
		if rec.Failures++; rec.Failures >= maxFailures {
			c.end(Failed, nil, completed.Error)
			return
		}
		rec.RetryAt, rec.Again = c.now.Add(backoff(rec.Failures)), true
		return
	}
	rec.Failures = 0
	out, ok := parseOutput(r.Payload)
	problem := c.problem(out, ok)
	if problem != "" {
		out = output{Failed, nil, failure(string(hearth.InvalidParameter), problem)}
	}
	completed.Error = out.err
	c.happened(completed)
	if out.status != Pending {
		c.end(out.status, out.result, out.err)
	} else if !c.waits() {
		// What it waited for has come while it returned.
		rec.Again = true
	}
}

// waits tells whether something will come by itself.
func (c *change) waits() bool {
	for o := range c.all {
		if o.pending() {
			return true
		}
	}
	return false
}

// problem tells what is wrong with a function's answer, in the service's
// words; "" if nothing is.
func (c *change) problem(out output, ok bool) string {
	switch {
	case !ok, out.status != Succeeded && out.status != Failed && out.status != Pending:
		return "Invalid Status in invocation output."
	case out.status == Succeeded && out.err != nil:
		return "Cannot provide an Error for SUCCEEDED status."
	case out.status == Failed && out.result != nil:
		return "Cannot provide a Result for FAILED status."
	case out.result != nil && len(*out.result) > c.record.MaxResult:
		e, _ := asError(tooLong(c.record.MaxResult))
		return e.Message
	case out.status == Pending && !c.waits() && !c.cameMeanwhile():
		return "Cannot return PENDING status with no pending operations."
	}
	return ""
}

// cameMeanwhile tells whether something that the function waited for has
// ended since its invocation began, so that it may not have seen it.
func (c *change) cameMeanwhile() bool {
	if c.record.Changes > c.record.Seen {
		return true
	}
	began := c.x.Invocation.Began
	for o := range c.all {
		switch o.Type {
		case TypeWait, TypeCallback, TypeChainedInvoke:
			if o.Status.ended() && !o.Ended.Before(began) {
				return true
			}
		}
	}
	return false
}

// notMade takes the error of an invocation that was not made, or whose outcome
// is not known.
func (c *change) notMade(err error) {
	rec := &c.record
	switch kind := hearth.KindOf(err); kind {
	case hearth.TooManyRequests, hearth.Service, hearth.Conflict, hearth.NotReady, hearth.ContainerGone, hearth.Canceled:
		// It may go better another time, and there is time until the
		// execution's timeout.
		rec.Refusals++
		rec.RetryAt, rec.Again = c.now.Add(backoff(rec.Refusals)), true
	default:
		o := refused(err)
		c.end(Failed, nil, o.err)
	}
}
