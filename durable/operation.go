package durable

import (
	"encoding/json"
	"time"
)

// Type is what sort of operation it is, as the Lambda API spells it.
type Type string

// The types. EXECUTION is the execution itself, the first of its operations.
const (
	TypeExecution     Type = "EXECUTION"
	TypeContext       Type = "CONTEXT"
	TypeStep          Type = "STEP"
	TypeWait          Type = "WAIT"
	TypeCallback      Type = "CALLBACK"
	TypeChainedInvoke Type = "CHAINED_INVOKE"
)

// Status is how far an operation is, as the Lambda API spells it.
type Status string

// The statuses. A step that is PENDING waits for its next attempt, one that is
// READY may make it.
const (
	Started   Status = "STARTED"
	Pending   Status = "PENDING"
	Ready     Status = "READY"
	Succeeded Status = "SUCCEEDED"
	Failed    Status = "FAILED"
	Cancelled Status = "CANCELLED"
	TimedOut  Status = "TIMED_OUT"
	Stopped   Status = "STOPPED"
)

// ended tells whether nothing can happen to an operation any more.
func (s Status) ended() bool {
	switch s {
	case Started, Pending, Ready:
		return false
	}
	return true
}

// Running is the status of an execution that has not ended; when it has, it
// is Succeeded, Failed, TimedOut or Stopped.
const Running Status = "RUNNING"

// Error is an error of the function's, or of Hearth's, as the Lambda API
// spells it. What is nil was not given.
type Error struct {
	Message    *string  `json:"ErrorMessage,omitempty"`
	Type       *string  `json:"ErrorType,omitempty"`
	Data       *string  `json:"ErrorData,omitempty"`
	StackTrace []string `json:"StackTrace,omitempty"`
}

// failure makes an Error; "" is left out.
func failure(typ, message string) *Error {
	e := &Error{}
	if typ != "" {
		e.Type = &typ
	}
	if message != "" {
		e.Message = &message
	}
	return e
}

// size is how many bytes e takes in JSON.
func (e *Error) size() int {
	if e == nil {
		return 0
	}
	b, err := json.Marshal(e)
	if err != nil {
		panic(err) // strings always have a JSON form
	}
	return len(b)
}

// Operation is one operation of an execution. The JSON is what is on disk. An
// *Operation that was handed out is read-only.
type Operation struct {
	ID       string    `json:"id"`
	ParentID string    `json:"parent,omitempty"` // of the CONTEXT that it is in; "" is none
	Name     string    `json:"name,omitempty"`
	Type     Type      `json:"type"`
	SubType  string    `json:"subType,omitempty"`
	Status   Status    `json:"status"`
	Started  time.Time `json:"started"`
	Ended    time.Time `json:"ended,omitzero"`

	Input  *string `json:"input,omitempty"` // of an EXECUTION and a CHAINED_INVOKE
	Result *string `json:"result,omitempty"`
	Error  *Error  `json:"error,omitempty"`

	Attempt int `json:"attempt,omitempty"` // of a STEP: how many have ended
	// Due is when a WAIT ends, a PENDING step becomes READY, a callback
	// times out. Zero is never.
	Due            time.Time `json:"due,omitzero"`
	Seconds        int       `json:"seconds,omitempty"` // of a WAIT
	ReplayChildren bool      `json:"replayChildren,omitempty"`

	CallbackID   string    `json:"callbackId,omitempty"`
	Heartbeat    int       `json:"heartbeat,omitempty"` // seconds; 0 is none
	HeartbeatDue time.Time `json:"heartbeatDue,omitzero"`

	Function string `json:"function,omitempty"` // that a CHAINED_INVOKE calls, as the caller named it
	TenantID string `json:"tenantId,omitempty"`
	TraceID  string `json:"traceId,omitempty"`
	Child    string `json:"child,omitempty"` // the ARN of the execution that it started

	Sequence int   `json:"sequence"` // its place among the operations, from 0
	Changed  int64 `json:"changed"`  // the execution's count of changes at its last
}

// pending tells whether something will come of the operation without the
// function's doing.
func (o *Operation) pending() bool {
	switch o.Type {
	case TypeWait, TypeCallback, TypeChainedInvoke:
		return o.Status == Started
	case TypeStep:
		return o.Status == Pending || o.Status == Ready
	}
	return false
}

// next is when the operation changes by itself; zero is never.
func (o *Operation) next() time.Time {
	if !o.pending() {
		return time.Time{}
	}
	return earlier(o.Due, o.HeartbeatDue)
}

// earlier is the earlier of two times, of which zero is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// wireOperation is an operation as the function is told of it.
type wireOperation struct {
	ID                   string                `json:"Id"`
	ParentID             string                `json:"ParentId,omitempty"`
	Name                 string                `json:",omitempty"`
	Type                 Type                  `json:""`
	SubType              string                `json:",omitempty"`
	Status               Status                `json:""`
	StartTimestamp       time.Time             `json:""`
	EndTimestamp         time.Time             `json:",omitzero"`
	ExecutionDetails     *wireExecutionDetails `json:",omitempty"`
	ContextDetails       *wireContextDetails   `json:",omitempty"`
	StepDetails          *wireStepDetails      `json:",omitempty"`
	WaitDetails          *wireWaitDetails      `json:",omitempty"`
	CallbackDetails      *wireCallbackDetails  `json:",omitempty"`
	ChainedInvokeDetails *wireChainedDetails   `json:",omitempty"`
}

type wireExecutionDetails struct {
	InputPayload *string `json:",omitempty"`
}

type wireContextDetails struct {
	ReplayChildren bool    `json:",omitempty"`
	Result         *string `json:",omitempty"`
	Error          *Error  `json:",omitempty"`
}

type wireStepDetails struct {
	Attempt              int       `json:""`
	NextAttemptTimestamp time.Time `json:",omitzero"`
	Result               *string   `json:",omitempty"`
	Error                *Error    `json:",omitempty"`
}

type wireWaitDetails struct {
	ScheduledEndTimestamp time.Time `json:",omitzero"`
}

type wireCallbackDetails struct {
	CallbackID string  `json:"CallbackId"`
	Result     *string `json:",omitempty"`
	Error      *Error  `json:",omitempty"`
}

type wireChainedDetails struct {
	Result *string `json:",omitempty"`
	Error  *Error  `json:",omitempty"`
}

// wire is o as the function is told of it.
func (o *Operation) wire() *wireOperation {
	w := &wireOperation{
		ID: o.ID, ParentID: o.ParentID, Name: o.Name, Type: o.Type, SubType: o.SubType, Status: o.Status,
		StartTimestamp: o.Started, EndTimestamp: o.Ended,
	}
	switch o.Type {
	case TypeExecution:
		w.ExecutionDetails = &wireExecutionDetails{o.Input}
	case TypeContext:
		w.ContextDetails = &wireContextDetails{o.ReplayChildren, o.Result, o.Error}
	case TypeStep:
		w.StepDetails = &wireStepDetails{Attempt: o.Attempt, Result: o.Result, Error: o.Error}
		if o.Status == Pending {
			w.StepDetails.NextAttemptTimestamp = o.Due
		}
	case TypeWait:
		w.WaitDetails = &wireWaitDetails{o.Due}
	case TypeCallback:
		w.CallbackDetails = &wireCallbackDetails{o.CallbackID, o.Result, o.Error}
	case TypeChainedInvoke:
		w.ChainedInvokeDetails = &wireChainedDetails{o.Result, o.Error}
	}
	return w
}
