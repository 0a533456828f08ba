package node

import (
	"errors"
	"time"

	"github.com/hearth-faas/hearth"
)

// The messages are the JSON of these types; paths begin with the version of
// what they mean, so that a server and a node that do not understand each
// other say so.
const prefix = "/node/1"

// call is the head of an invocation's request: what the layers above the node
// filled in.
type call struct {
	RequestID     string
	Caller        hearth.Identity
	Account       hearth.Account
	Name          string
	Qualifier     string
	InvokedARN    string
	ClientContext string `json:",omitempty"`
	CognitoID     string `json:",omitempty"`
	TraceID       string `json:",omitempty"`
	TenantID      string `json:",omitempty"`
	Tail          bool   `json:",omitempty"`
	Async         bool   `json:",omitempty"`
	DurableARN    string `json:",omitempty"`
	Stream        bool   `json:",omitempty"`
	MemoryMiB     int    `json:",omitempty"`
	Router        string `json:",omitempty"` // that sent it

	// Weight is how many accounts' turns the function's account has; 0 is 1.
	Weight int `json:",omitempty"`

	// Key names the function, which the node knows from an earlier call, or
	// learns with this one, and with it how it wants to be decided for.
	Key      hearth.Key
	Function *hearth.Function        `json:",omitempty"`
	Policy   *hearth.ExecutionPolicy `json:",omitempty"`
}

func callOf(inv *hearth.Invocation) call {
	return call{
		RequestID: inv.RequestID, Caller: inv.Caller, Account: inv.Account, Name: inv.Name, Qualifier: inv.Qualifier, InvokedARN: inv.InvokedARN,
		ClientContext: inv.ClientContext, CognitoID: inv.CognitoID, TraceID: inv.TraceID, TenantID: inv.TenantID, Tail: inv.Tail, Async: inv.Async,
		DurableARN: inv.DurableARN, Stream: inv.Stream != nil, MemoryMiB: inv.MemoryMiB, Key: inv.Function.Key(),
	}
}

func (c *call) invocation(f *hearth.Function, payload []byte) *hearth.Invocation {
	return &hearth.Invocation{
		RequestID: c.RequestID, Caller: c.Caller, Account: c.Account, Name: c.Name, Qualifier: c.Qualifier, InvokedARN: c.InvokedARN, Function: f,
		ClientContext: c.ClientContext, CognitoID: c.CognitoID, TraceID: c.TraceID, TenantID: c.TenantID, Tail: c.Tail, Async: c.Async,
		DurableARN: c.DurableARN, MemoryMiB: c.MemoryMiB, Payload: payload,
	}
}

// streamHead is what ResponseStream.Start is given. Clocks of two machines
// differ, so that the deadline is told by what is left until it.
type streamHead struct {
	ContentType string
	Left        time.Duration
}

// ending is what came of an invocation, beside its payload.
type ending struct {
	Placement hearth.Placement
	Spent     [hearth.Stages]time.Duration
	Use       hearth.Use

	ContentType   string  `json:",omitempty"`
	FunctionError string  `json:",omitempty"`
	Version       string  `json:",omitempty"`
	LogTail       []byte  `json:",omitempty"`
	Error         *failed `json:",omitempty"`
}

// failed is a hearth.Error on the wire. Its cause is only words there.
type failed struct {
	Op, Subject string
	Kind        hearth.Kind
	Message     string
	Reason      string        `json:",omitempty"`
	RetryAfter  time.Duration `json:",omitempty"`
	Cause       string        `json:",omitempty"`
}

func failedOf(err error) *failed {
	f := &failed{Kind: hearth.KindOf(err)}
	e, ok := errors.AsType[*hearth.Error](err)
	if !ok {
		f.Cause = err.Error()
		return f
	}
	f.Op, f.Subject, f.Message, f.Reason, f.RetryAfter = e.Op, e.Subject, e.Message, e.Reason, e.RetryAfter
	if e.Err != nil {
		f.Cause = e.Err.Error()
	}
	return f
}

func (f *failed) err() error {
	e := &hearth.Error{Op: f.Op, Subject: f.Subject, Kind: f.Kind, Message: f.Message, Reason: f.Reason, RetryAfter: f.RetryAfter}
	if f.Cause != "" {
		e.Err = errors.New(f.Cause)
	}
	return e
}

// step is a step of an update, or of its end.
type step struct {
	What     string // prepare, overtake, ahead or changed
	Old, Now *hearth.Function
	Share    float64 `json:",omitempty"`
}
