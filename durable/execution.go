package durable

import (
	"maps"
	"slices"
	"time"

	"github.com/hearth-faas/hearth"
)

// record is what is kept of an execution beside its operations and its
// history: on disk as JSON.
type record struct {
	Account  hearth.Account `json:"account"`
	Region   string         `json:"region"`
	Function string         `json:"function"`
	Version  string         `json:"version"`
	ID       string         `json:"id"` // a UUID of version 7
	Name     string         `json:"name"`

	InputSHA256 string          `json:"inputSha256"`
	Caller      hearth.Identity `json:"caller"`
	TraceID     string          `json:"traceId,omitempty"`
	TenantID    string          `json:"tenantId,omitempty"`
	KMSKeyARN   string          `json:"kmsKeyArn,omitempty"`

	Timeout       time.Duration `json:"timeout"` // nanoseconds
	RetentionDays int           `json:"retentionDays"`
	MaxResult     int           `json:"maxResult"` // bytes
	// Parent is the key of the execution whose CHAINED_INVOKE ParentOperation
	// this is; "" is none.
	Parent          string `json:"parent,omitempty"`
	ParentOperation string `json:"parentOperation,omitempty"`
	Depth           int    `json:"depth,omitempty"` // how many executions are above it

	Status  Status    `json:"status"`
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended,omitzero"`

	Operations int   `json:"operations"` // how many there are
	Events     int   `json:"events"`
	Bytes      int64 `json:"bytes"` // of the payloads that were ever written
	// Changes counts the changes of operations. The function knows of those
	// up to Seen.
	Changes int64 `json:"changes"`
	Seen    int64 `json:"seen"`

	// Invocation is the one that is under way; nil if there is none.
	Invocation *invocation `json:"invocation,omitempty"`
	// Invocations counts them, so that the token of an earlier one is told
	// from that of the present.
	Invocations int `json:"invocations"`
	// Again: the function must be invoked although nothing has changed,
	// because an invocation came to nothing.
	Again bool `json:"again,omitempty"`
	// Failures and Refusals count the invocations in a row that failed without
	// progress, and that could not be made. RetryAt is when the next is due
	// after one.
	Failures int       `json:"failures,omitempty"`
	Refusals int       `json:"refusals,omitempty"`
	RetryAt  time.Time `json:"retryAt,omitzero"`
}

// invocation is an invocation of the function that is under way.
type invocation struct {
	Nonce       string    `json:"nonce"` // 8 bytes in hexadecimal, part of its tokens
	RequestID   string    `json:"requestId"`
	Began       time.Time `json:"began"`
	Checkpoints int       `json:"checkpoints"` // how many it made
	Progress    bool      `json:"progress,omitempty"`

	// Of the last checkpoint, so that it can be answered once more: what its
	// caller named it, and what was seen before it.
	ClientToken string `json:"clientToken,omitempty"`
	SeenBefore  int64  `json:"seenBefore,omitempty"`
}

// key is under which the execution is stored.
func (r *record) key() string { return key(r.Account, r.Function, r.ID) }

// ARN is the execution's ARN.
func (r *record) arn() string {
	return "arn:aws:lambda:" + r.Region + ":" + string(r.Account) + ":function:" + r.Function + ":" + r.Version +
		"/durable-execution/" + r.Name + "/" + r.ID
}

// expires is when an ended execution is forgotten.
func (r *record) expires() time.Time { return r.Ended.AddDate(0, 0, r.RetentionDays) }

// expired tells whether the execution is to be forgotten.
func (r *record) expired(now time.Time) bool {
	return r.Status != Running && !now.Before(r.expires())
}

// execution is an execution with its operations, as they are on disk. It is
// changed only by apply.
type execution struct {
	record
	operations []*Operation // in the order of their sequence
	byID       map[string]*Operation
}

func newExecution(r record, operations []*Operation) *execution {
	x := &execution{record: r, operations: operations, byID: make(map[string]*Operation, len(operations))}
	for _, o := range operations {
		x.byID[o.ID] = o
	}
	return x
}

// change is what is about to become of an execution: a copy of its record,
// and of the operations that differ. Nothing of it is so until it was
// committed and applied.
type change struct {
	x   *execution
	now time.Time

	record  record
	changed map[string]*Operation
	added   []*Operation // those of changed that are new, in their order
	events  []Event

	children []*change  // new executions, committed with this
	calls    []string   // CHAINED_INVOKEs of functions that are not durable, to be made
	launched bool       // an invocation begins with this
	known    int64      // the count of changes that the function knew of before
	ended    bool       // the execution ends with this
	setup    *execSetup // of the world outside
}

// execSetup is what deciding needs to know of the world outside.
type execSetup struct {
	// resolve finds the function that a CHAINED_INVOKE names.
	resolve func(account hearth.Account, name string) (*hearth.Function, error)
	// random fills b with random bytes.
	random func(b []byte)
}

// begin starts a change of x. Times are kept in milliseconds, as the API
// tells them.
func (x *execution) begin(now time.Time, s *execSetup) *change {
	c := &change{x: x, now: now.UTC().Truncate(time.Millisecond), record: x.record, changed: map[string]*Operation{}, setup: s}
	if i := x.Invocation; i != nil {
		c.record.Invocation = new(*i)
	}
	return c
}

// find is the operation as the change has it; nil if there is none.
func (c *change) find(id string) *Operation {
	if o := c.changed[id]; o != nil {
		return o
	}
	return c.x.byID[id]
}

// edit is the operation to be changed, and counts the change.
func (c *change) edit(id string) *Operation {
	o := c.changed[id]
	if o == nil {
		o = new(*c.x.byID[id])
		c.changed[id] = o
	}
	c.record.Changes++
	o.Changed = c.record.Changes
	return o
}

// add is a new operation, to be filled in.
func (c *change) add(o Operation) *Operation {
	c.record.Changes++
	o.Sequence, o.Changed = c.record.Operations, c.record.Changes
	c.record.Operations++
	c.changed[o.ID] = &o
	c.added = append(c.added, &o)
	return &o
}

// all are the operations as the change has them, in their order.
func (c *change) all(yield func(*Operation) bool) {
	for _, o := range c.x.operations {
		if n := c.changed[o.ID]; n != nil {
			o = n
		}
		if !yield(o) {
			return
		}
	}
	for _, o := range c.added {
		if !yield(o) {
			return
		}
	}
}

// happened adds an event to the history.
func (c *change) happened(e Event) {
	c.record.Events++
	e.ID, e.At = c.record.Events, c.now
	c.events = append(c.events, e)
}

// happenedTo adds an event of an operation.
func (c *change) happenedTo(o *Operation, typ EventType, e Event) {
	e.Type, e.OperationID, e.ParentID, e.Name, e.SubType = typ, o.ID, o.ParentID, o.Name, o.SubType
	c.happened(e)
}

// wrote counts what a payload takes.
func (c *change) wrote(payload *string, err *Error) {
	if payload != nil {
		c.record.Bytes += int64(len(*payload))
	}
	c.record.Bytes += int64(err.size())
}

// end ends the execution.
func (c *change) end(status Status, result *string, err *Error) {
	o := c.edit(c.record.ID)
	o.Status, o.Ended, o.Result, o.Error = status, c.now, result, err
	c.record.Status, c.record.Ended = status, c.now
	c.record.Again, c.record.RetryAt = false, time.Time{}
	c.wrote(result, err)
	c.ended = true
	e := Event{Result: result, Error: err}
	c.happenedTo(o, ending[TypeExecution][status], e)
}

// due is when something happens by itself; zero is never.
func (c *change) due() time.Time {
	if c.record.Status != Running {
		return time.Time{}
	}
	t := c.record.Started.Add(c.record.Timeout)
	t = earlier(t, c.record.RetryAt)
	for o := range c.all {
		t = earlier(t, o.next())
	}
	return t
}

// apply makes the change so: it was committed.
func (x *execution) apply(c *change) {
	x.record = c.record
	for i, o := range x.operations {
		if n := c.changed[o.ID]; n != nil {
			x.operations[i] = n
		}
	}
	x.operations = append(x.operations, c.added...)
	maps.Copy(x.byID, c.changed)
}

// since are the operations that changed after the count, in the order of
// their changes.
func (x *execution) since(count int64) []*Operation {
	var all []*Operation
	for _, o := range x.operations {
		if o.Changed > count {
			all = append(all, o)
		}
	}
	slices.SortFunc(all, func(a, b *Operation) int { return int(a.Changed - b.Changed) })
	return all
}

// replayed are the operations that a replay needs: not those in a CONTEXT that
// has ended, whose result is all that counts, unless it asked to keep them.
func (x *execution) replayed() []*Operation {
	hidden := map[string]bool{}
	var all []*Operation
	for _, o := range x.operations { // a parent comes before its children
		if p := x.byID[o.ParentID]; p != nil && (hidden[p.ID] || p.Status.ended() && !p.ReplayChildren) {
			hidden[o.ID] = true
			continue
		}
		all = append(all, o)
	}
	return all
}
