package durable

import "time"

// EventType is what happened, as the Lambda API spells it.
type EventType string

// The events of an execution's history.
const (
	ExecutionStarted       EventType = "ExecutionStarted"
	ExecutionSucceeded     EventType = "ExecutionSucceeded"
	ExecutionFailed        EventType = "ExecutionFailed"
	ExecutionTimedOut      EventType = "ExecutionTimedOut"
	ExecutionStopped       EventType = "ExecutionStopped"
	ContextStarted         EventType = "ContextStarted"
	ContextSucceeded       EventType = "ContextSucceeded"
	ContextFailed          EventType = "ContextFailed"
	WaitStarted            EventType = "WaitStarted"
	WaitSucceeded          EventType = "WaitSucceeded"
	WaitCancelled          EventType = "WaitCancelled"
	StepStarted            EventType = "StepStarted"
	StepSucceeded          EventType = "StepSucceeded"
	StepFailed             EventType = "StepFailed"
	ChainedInvokeStarted   EventType = "ChainedInvokeStarted"
	ChainedInvokeSucceeded EventType = "ChainedInvokeSucceeded"
	ChainedInvokeFailed    EventType = "ChainedInvokeFailed"
	ChainedInvokeTimedOut  EventType = "ChainedInvokeTimedOut"
	ChainedInvokeStopped   EventType = "ChainedInvokeStopped"
	CallbackStarted        EventType = "CallbackStarted"
	CallbackSucceeded      EventType = "CallbackSucceeded"
	CallbackFailed         EventType = "CallbackFailed"
	CallbackTimedOut       EventType = "CallbackTimedOut"
	InvocationCompleted    EventType = "InvocationCompleted"
)

// Event is one event of an execution's history. The JSON is what is on disk.
// Which fields have a meaning depends on its type.
type Event struct {
	ID   int       `json:"id"` // from 1, without gaps
	Type EventType `json:"type"`
	At   time.Time `json:"at"`

	// Of the operation that it happened to; "" of an invocation.
	OperationID string `json:"operation,omitempty"`
	ParentID    string `json:"parent,omitempty"`
	Name        string `json:"name,omitempty"`
	SubType     string `json:"subType,omitempty"`

	Input  *string `json:"input,omitempty"`
	Result *string `json:"result,omitempty"`
	Error  *Error  `json:"error,omitempty"`

	Seconds      int       `json:"seconds,omitempty"`   // a wait's duration, an execution's or a callback's timeout
	Heartbeat    int       `json:"heartbeat,omitempty"` // seconds
	ScheduledEnd time.Time `json:"scheduledEnd,omitzero"`
	Attempt      int       `json:"attempt,omitempty"`
	NextAttempt  *int      `json:"nextAttempt,omitempty"` // seconds from the event; nil is none
	CallbackID   string    `json:"callbackId,omitempty"`
	Function     string    `json:"function,omitempty"`
	Version      string    `json:"version,omitempty"`
	TenantID     string    `json:"tenantId,omitempty"`
	Child        string    `json:"child,omitempty"`

	RequestID string    `json:"requestId,omitempty"` // of an invocation, and when it began and ended
	Began     time.Time `json:"began,omitzero"`
	Ended     time.Time `json:"ended,omitzero"`
}

// ending are the events by which an operation ends.
var ending = map[Type]map[Status]EventType{
	TypeExecution: {Succeeded: ExecutionSucceeded, Failed: ExecutionFailed, TimedOut: ExecutionTimedOut, Stopped: ExecutionStopped},
	TypeContext:   {Succeeded: ContextSucceeded, Failed: ContextFailed},
	TypeStep:      {Succeeded: StepSucceeded, Failed: StepFailed},
	TypeWait:      {Succeeded: WaitSucceeded, Cancelled: WaitCancelled},
	TypeCallback:  {Succeeded: CallbackSucceeded, Failed: CallbackFailed, TimedOut: CallbackTimedOut},
	TypeChainedInvoke: {Succeeded: ChainedInvokeSucceeded, Failed: ChainedInvokeFailed, TimedOut: ChainedInvokeTimedOut,
		Stopped: ChainedInvokeStopped},
}
