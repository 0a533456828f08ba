package durable

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
)

// Begin asks for a new execution of a function whose Durable is set.
type Begin struct {
	Function  *hearth.Function
	Name      string // "" is a random one
	Input     string // JSON
	Caller    hearth.Identity
	TraceID   string
	TenantID  string
	MaxResult int // bytes
}

// Bounds of what is waited for, and of what others wait for.
const (
	maxSync       = 15 * time.Minute
	maxAsyncInput = 1 << 20 // bytes
	maxSyncResult = 6 << 20 // bytes
)

// start is a new execution, as a change of nothing. Its function is to be
// invoked.
func start(b Begin, now time.Time, s *execSetup) *change {
	f := b.Function
	c := newExecution(record{}, nil).begin(now, s)
	sum := sha256.Sum256([]byte(b.Input))
	c.record = record{
		Account: f.Account, Region: f.Region, Function: f.Name, Version: f.Version,
		ID: newID(c.now, s.random), Name: b.Name,
		InputSHA256: hex.EncodeToString(sum[:]), Caller: b.Caller, TraceID: b.TraceID, TenantID: b.TenantID,
		KMSKeyARN: f.Durable.KMSKeyARN, Timeout: f.Durable.ExecutionTimeout, RetentionDays: f.Durable.RetentionDays,
		MaxResult: b.MaxResult, Status: Running, Started: c.now,
	}
	if c.record.Name == "" {
		c.record.Name = newName(s.random)
	}
	o := c.add(Operation{ID: c.record.ID, Name: c.record.Name, Type: TypeExecution, Status: Started, Started: c.now, Input: &b.Input})
	c.wrote(&b.Input, nil)
	c.happenedTo(o, ExecutionStarted, Event{Input: &b.Input, Seconds: int(c.record.Timeout.Seconds())})
	return c
}

// Invoke implements hearth.Invoker for functions that are durable: it starts
// an execution, or finds the one that was started under the same name with
// the same input, and waits for its end unless inv is Async. It fills in
// inv.DurableARN. inv.Function must be set.
//
// Errors: DurableExecutionAlreadyStarted for a name that has another input or
// version; InvalidParameterValue; Service while the server stops. The
// execution goes on when ctx ends.
func (e *Executions) Invoke(ctx context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
	b := Begin{
		Function: inv.Function, Name: inv.DurableName, Input: string(inv.Payload), Caller: inv.Caller,
		TraceID: inv.TraceID, TenantID: inv.TenantID, MaxResult: maxSyncResult,
	}
	switch {
	case inv.Async && len(inv.Payload) > maxAsyncInput:
		return nil, hearth.Errorf(hearth.EntityTooLarge, "Request must be smaller than %d bytes for the InvokeFunction operation", maxAsyncInput)
	case inv.Async:
		b.MaxResult = maxAsyncInput
	case inv.Function.Durable.ExecutionTimeout > maxSync:
		return nil, invalid("You cannot synchronously invoke a durable function with an executionTimeout greater than 15 minutes.")
	}
	arn, err := e.Start(ctx, b)
	if err != nil {
		return nil, err
	}
	inv.DurableARN = arn
	if inv.Async {
		return &hearth.Result{Version: inv.Function.Version}, nil
	}
	x, err := e.wait(ctx, arn)
	if err != nil {
		return nil, err
	}
	return x.result(), nil
}

// result is the execution's end as an invocation's.
func (x *execution) result() *hearth.Result {
	o := x.byID[x.ID]
	r := &hearth.Result{Version: x.Version, Payload: []byte("null")}
	switch {
	case x.Status != Succeeded:
		r.FunctionError = "Unhandled"
		err := o.Error
		if err == nil {
			err = &Error{}
		}
		r.Payload = encode(struct {
			Message *string  `json:"errorMessage,omitempty"`
			Type    *string  `json:"errorType,omitempty"`
			Data    *string  `json:"errorData,omitempty"`
			Trace   []string `json:"stackTrace,omitempty"`
		}{err.Message, err.Type, err.Data, err.StackTrace})
	case deref(o.Result) != "" && json.Valid([]byte(*o.Result)):
		r.Payload = []byte(*o.Result)
	case deref(o.Result) != "":
		r.Payload = encode(*o.Result)
	}
	return r
}

// Start starts an execution and returns its ARN when it is on disk. Errors:
// as those of Invoke.
func (e *Executions) Start(ctx context.Context, b Begin) (arn string, err error) {
	if e.draining() {
		return "", stopping()
	}
	c := start(b, e.cfg.Clock.Now(), &e.setup)
	c.settle()
	// Whoever finds it on disk finds it here.
	l := e.live(c.record.key(), true)
	l.mu.Lock()
	var old *record
	err = e.cfg.Store.Update(ctx, func(tx store.Tx) error {
		if old, err = findName(tx, c.record.Account, c.record.Function, c.record.Name); err != nil {
			return err
		}
		if old != nil && !old.expired(c.now) {
			return errTaken
		}
		if old != nil {
			if err := forget(tx, old); err != nil {
				return err
			}
		}
		return save(tx, c)
	})
	if err != nil {
		e.remove(l)
		l.mu.Unlock()
	}
	switch {
	case errors.Is(err, errTaken) && old.InputSHA256 == c.record.InputSHA256 && old.Version == c.record.Version:
		return old.arn(), nil
	case errors.Is(err, errTaken):
		return "", hearth.Errorf(hearth.DurableExecutionAlreadyStarted, "Execution already started: %s", old.arn())
	case err != nil:
		return "", internal("durable.Start", err)
	}
	c.x.apply(c)
	l.x = c.x
	run := e.after(l, c)
	l.mu.Unlock()
	run()
	return c.record.arn(), nil
}

var errTaken = errors.New("there is an execution of this name")

// wait waits until the execution has ended.
func (e *Executions) wait(ctx context.Context, arn string) (*execution, error) {
	a, ok := ParseARN(arn)
	if !ok {
		return nil, notFound()
	}
	k := key(a.Account, a.Function, a.ID)
	if l := e.live(k, false); l != nil {
		select {
		case <-l.ended:
		case <-e.drain:
			return nil, stopping()
		case <-ctx.Done():
			return nil, &hearth.Error{Op: "durable.Invoke", Subject: arn, Kind: hearth.Canceled, Message: "The caller left.", Err: context.Cause(ctx)}
		}
	}
	x, err := e.read(ctx, k)
	switch {
	case err != nil:
		return nil, err
	case x == nil:
		return nil, notFound()
	case x.Status == Running:
		return nil, stopping()
	}
	return x, nil
}

func stopping() error { return hearth.Errorf(hearth.Service, "The service is shutting down.") }

func notFound() error {
	return hearth.Errorf(hearth.NotFound, "Durable Execution does not exist")
}

// internal is the error of a store that failed.
func internal(op string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := asError(err); ok {
		return err
	}
	return &hearth.Error{Op: op, Kind: hearth.Service, Message: "An internal error occurred.", Err: err}
}

func asError(err error) (*hearth.Error, bool) { return errors.AsType[*hearth.Error](err) }
