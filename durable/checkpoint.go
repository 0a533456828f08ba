package durable

import (
	"encoding/json"
	"time"

	"github.com/hearth-faas/hearth"
)

// Action is what an update says of its operation, as the Lambda API spells
// it.
type Action string

// The actions.
const (
	Start   Action = "START"
	Succeed Action = "SUCCEED"
	Fail    Action = "FAIL"
	Retry   Action = "RETRY"
	Cancel  Action = "CANCEL"
)

// Update is what a function says that it did with one operation.
type Update struct {
	ID       string
	ParentID string
	Name     string
	Type     Type
	SubType  string
	Action   Action
	Payload  *string
	Error    *Error

	NextAttempt    *int  // StepOptions, seconds
	Wait           *int  // WaitOptions, seconds
	ReplayChildren *bool // ContextOptions
	Timeout        int   // CallbackOptions, seconds; 0 is none
	Heartbeat      int
	Function       string // ChainedInvokeOptions
	TenantID       string
	TraceID        string
}

// Bounds of what a function may keep, as the service has them.
const (
	maxPayload    = 256 << 10 // bytes of an operation's result
	maxChained    = 1 << 20   // bytes of what a CHAINED_INVOKE is given and gives
	maxError      = 32 << 10  // bytes of an update with an error
	maxOperations = 3000      // of an execution
	maxBytes      = 100 << 20 // of all payloads of an execution
	maxDepth      = 32        // of executions that called one another
)

func invalid(format string, args ...any) error {
	return hearth.Errorf(hearth.InvalidParameter, format, args...)
}

// errToken begins as the published SDKs expect: by it they tell a function
// that is not the execution's present one any more from one that did wrong.
func errToken() error { return invalid("Invalid Checkpoint Token") }

// checkpoint takes what the function says that it did. before is the count of
// changes that the function knew of: the answer are those since. A checkpoint
// that was answered before is answered again.
func (c *change) checkpoint(t token, clientToken string, updates []Update) (before int64, err error) {
	r := &c.record
	i := r.Invocation
	if r.Status != Running || i == nil || t.id != r.ID || t.nonce != i.Nonce || t.invocation != r.Invocations {
		return 0, errToken()
	}
	if clientToken != "" && clientToken == i.ClientToken && t.checkpoints == i.Checkpoints-1 {
		return i.SeenBefore, nil
	}
	if t.checkpoints != i.Checkpoints {
		return 0, errToken()
	}
	if err := checkBatch(updates); err != nil {
		return 0, err
	}
	for n := range updates {
		if err := c.update(&updates[n]); err != nil {
			return 0, err
		}
	}
	if r.Operations > maxOperations {
		return 0, invalid("A durable execution can have at most %d operations.", maxOperations)
	}
	if r.Bytes > maxBytes {
		return 0, invalid("The data of a durable execution must be less than or equal to %d bytes.", maxBytes)
	}
	if r.Status == Running {
		c.fire()
	}
	i.Checkpoints++
	i.Progress = i.Progress || len(updates) > 0
	before = r.Seen
	i.ClientToken, i.SeenBefore = clientToken, before
	r.Seen = r.Changes
	return before, nil
}

// checkBatch checks the updates of one checkpoint against each other.
func checkBatch(updates []Update) error {
	last := map[string]*Update{}
	executions := 0
	for n := range updates {
		u := &updates[n]
		if u.Type == TypeExecution {
			if executions++; executions > 1 {
				return invalid("Cannot checkpoint multiple EXECUTION updates.")
			}
			continue
		}
		if before := last[u.ID]; before != nil {
			// What was started may end in the same checkpoint.
			twice := before.Type == TypeStep || before.Type == TypeContext
			if !twice || before.Action != Start || u.Action == Start {
				return invalid("Cannot update the same operation twice in a single request.")
			}
		}
		last[u.ID] = u
	}
	if executions > 0 && updates[len(updates)-1].Type != TypeExecution {
		return invalid("EXECUTION checkpoint must be the last update.")
	}
	return nil
}

// actions are what can be said of each type of operation.
var actions = map[Type]map[Action]bool{
	TypeExecution:     {Succeed: true, Fail: true},
	TypeContext:       {Start: true, Succeed: true, Fail: true},
	TypeStep:          {Start: true, Succeed: true, Fail: true, Retry: true},
	TypeWait:          {Start: true, Cancel: true},
	TypeCallback:      {Start: true},
	TypeChainedInvoke: {Start: true},
}

// update applies one update.
func (c *change) update(u *Update) error {
	if actions[u.Type] == nil {
		return invalid("Unknown operation type.")
	}
	if !actions[u.Type][u.Action] {
		return invalid("Invalid action for the given operation type.")
	}
	if err := u.checkSizes(c.record.MaxResult); err != nil {
		return err
	}
	switch {
	case u.Action == Succeed && u.Error != nil:
		return invalid("Cannot provide an Error for SUCCEED action.")
	case u.Action == Fail && u.Payload != nil:
		return invalid("Cannot provide a Payload for FAIL action.")
	case u.Action == Retry && u.Payload != nil && u.Error != nil:
		return invalid("Cannot provide both error and payload to RETRY a STEP.")
	}
	if u.Type == TypeExecution {
		// It says that the execution ended, whatever id it has.
		if u.Action == Succeed {
			c.end(Succeeded, u.Payload, nil)
		} else {
			c.end(Failed, nil, u.Error)
		}
		return nil
	}
	o := c.find(u.ID)
	if err := c.checkIdentity(u, o); err != nil {
		return err
	}
	switch u.Type {
	case TypeContext:
		return c.updateContext(u, o)
	case TypeStep:
		return c.updateStep(u, o)
	case TypeWait:
		return c.updateWait(u, o)
	case TypeCallback:
		return c.updateCallback(u, o)
	default:
		return c.updateChained(u, o)
	}
}

func (u *Update) checkSizes(maxResult int) error {
	if u.Error != nil {
		b, err := json.Marshal(u)
		if err != nil {
			return err
		}
		if len(b) > maxError {
			return invalid("Error object size must be less than %d bytes.", maxError)
		}
	}
	if u.Payload == nil {
		return nil
	}
	switch size := len(*u.Payload); {
	case u.Type == TypeExecution && size > maxResult:
		return tooLong(maxResult)
	case u.Type == TypeChainedInvoke && size > maxChained:
		return invalid("CHAINED_INVOKE input payload size must be less than or equal to %d bytes.", maxChained)
	case u.Type != TypeExecution && u.Type != TypeChainedInvoke && size > maxPayload:
		return invalid("%s output payload size must be less than or equal to %d bytes.", u.Type, maxPayload)
	}
	return nil
}

func tooLong(maxResult int) error {
	return invalid("Execution output payload size must be less than or equal to %d bytes.", maxResult)
}

// checkIdentity checks that the update is of the operation that it was.
func (c *change) checkIdentity(u *Update, o *Operation) error {
	if u.ParentID != "" {
		if p := c.find(u.ParentID); p == nil || p.Type != TypeContext {
			return invalid("Invalid parent operation id.")
		}
	}
	switch {
	case o == nil:
	case o.Type != u.Type:
		return invalid("Inconsistent operation type.")
	case u.SubType != "" && o.SubType != u.SubType:
		return invalid("Inconsistent operation subtype.")
	case u.Name != "" && o.Name != u.Name:
		return invalid("Inconsistent operation name.")
	case o.ParentID != u.ParentID:
		return invalid("Inconsistent parent operation id.")
	}
	return nil
}

// started is the operation that u starts.
func (c *change) started(u *Update) *Operation {
	return c.add(Operation{
		ID: u.ID, ParentID: u.ParentID, Name: u.Name, Type: u.Type, SubType: u.SubType, Status: Started, Started: c.now,
	})
}

func (c *change) updateContext(u *Update, o *Operation) error {
	if u.Action == Start {
		if o != nil {
			return invalid("Cannot start a CONTEXT that already exist.")
		}
		c.happenedTo(c.started(u), ContextStarted, Event{})
		return nil
	}
	if o != nil && o.Status != Started {
		return invalid("Invalid current CONTEXT state to close.")
	}
	if o == nil {
		o = c.started(u)
	}
	o = c.edit(o.ID)
	if u.ReplayChildren != nil {
		o.ReplayChildren = *u.ReplayChildren
	}
	c.close(o, u)
	return nil
}

// close ends an operation as the function says.
func (c *change) close(o *Operation, u *Update) {
	o.Status = Succeeded
	if u.Action == Fail {
		o.Status = Failed
	}
	o.Ended, o.Result, o.Error, o.Due = c.now, u.Payload, u.Error, time.Time{}
	c.wrote(u.Payload, u.Error)
	c.happenedTo(o, ending[o.Type][o.Status], Event{Result: u.Payload, Error: u.Error, Attempt: o.Attempt})
}

func (c *change) updateStep(u *Update, o *Operation) error {
	if (u.Action == Retry) != (u.NextAttempt != nil) {
		return invalid("Invalid StepOptions for the given action.")
	}
	if u.Action == Start {
		switch {
		case o == nil:
			o = c.started(u)
		case o.Status == Ready:
			o = c.edit(o.ID)
			o.Status = Started
		default:
			return invalid("Invalid current STEP state to start.")
		}
		c.happenedTo(o, StepStarted, Event{})
		return nil
	}
	if o != nil && o.Status != Started && o.Status != Ready {
		if u.Action == Retry {
			return invalid("Invalid current STEP state to re-attempt.")
		}
		return invalid("Invalid current STEP state to close.")
	}
	if o == nil {
		o = c.started(u)
	}
	o = c.edit(o.ID)
	o.Attempt++
	if u.Action != Retry {
		c.close(o, u)
		return nil
	}
	o.Status, o.Due = Pending, c.now.Add(time.Duration(*u.NextAttempt)*time.Second)
	o.Result, o.Error = u.Payload, u.Error
	c.wrote(u.Payload, u.Error)
	// An attempt that gave a payload went well: the step asks for another
	// one, as a condition that is not met yet does.
	typ := StepFailed
	if u.Error == nil {
		typ = StepSucceeded
	}
	c.happenedTo(o, typ, Event{Result: u.Payload, Error: u.Error, Attempt: o.Attempt, NextAttempt: u.NextAttempt})
	return nil
}

func (c *change) updateWait(u *Update, o *Operation) error {
	if u.Action == Cancel {
		if o == nil || o.Status != Started {
			return invalid("Cannot cancel a WAIT that does not exist or has already completed.")
		}
		o = c.edit(o.ID)
		o.Status, o.Ended, o.Error = Cancelled, c.now, u.Error
		c.happenedTo(o, WaitCancelled, Event{Error: u.Error})
		return nil
	}
	switch {
	case o != nil:
		return invalid("Cannot start a WAIT that already exist.")
	case u.Wait == nil:
		return invalid("Update for WAIT operation requires WaitOptions.")
	}
	o = c.started(u)
	o.Seconds, o.Due = *u.Wait, c.now.Add(time.Duration(*u.Wait)*time.Second)
	c.happenedTo(o, WaitStarted, Event{Seconds: o.Seconds, ScheduledEnd: o.Due})
	return nil
}

func (c *change) updateCallback(u *Update, o *Operation) error {
	if o != nil {
		return invalid("Cannot start a CALLBACK that already exist.")
	}
	o = c.started(u)
	r := &c.record
	o.CallbackID = callback{r.Account, r.Function, r.ID, o.ID, randomHex(c.setup.random)}.String()
	if u.Timeout > 0 {
		o.Due = c.now.Add(time.Duration(u.Timeout) * time.Second)
	}
	if o.Heartbeat = u.Heartbeat; u.Heartbeat > 0 {
		o.HeartbeatDue = c.now.Add(time.Duration(u.Heartbeat) * time.Second)
	}
	c.happenedTo(o, CallbackStarted, Event{CallbackID: o.CallbackID, Seconds: u.Timeout, Heartbeat: u.Heartbeat})
	return nil
}

// fire lets happen what is due: waits end, steps may be attempted again,
// callbacks time out.
func (c *change) fire() {
	var due []string
	for o := range c.all {
		if next := o.next(); !next.IsZero() && !next.After(c.now) {
			due = append(due, o.ID)
		}
	}
	for _, id := range due {
		o := c.edit(id)
		switch o.Type {
		case TypeWait:
			o.Status, o.Ended = Succeeded, c.now
			c.happenedTo(o, WaitSucceeded, Event{Seconds: o.Seconds})
		case TypeStep:
			o.Status, o.Due = Ready, time.Time{}
		case TypeCallback:
			e := failure("Callback.Timeout", "Callback timed out")
			if earlier(o.HeartbeatDue, o.Due).Equal(o.HeartbeatDue) {
				e = failure("Callback.Heartbeat", "Callback timed out on heartbeat")
			}
			o.Status, o.Ended, o.Error = TimedOut, c.now, e
			c.happenedTo(o, CallbackTimedOut, Event{Error: e})
		}
	}
}
