// Package frontend takes an invocation in: it resolves what is to run, checks
// and admits it, hands it to the manager, and records what came of it.
//
// Everything that calls functions comes in here, the Lambda API as well as
// (later) queues, schedules and endpoints. A caller first calls Invoke, and
// then, when it has done with the answer what it does with it, Done.
package frontend

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hearth-faas/hearth"
)

// Config is what a Frontend is made of. Functions, Manager and Clock are
// needed.
type Config struct {
	Functions hearth.Functions
	Manager   hearth.Invoker
	Clock     hearth.Clock
	Recorder  hearth.Recorder // nil: decisions are not recorded
	// Concurrency bounds the invocations of one account that run at the same
	// time. 0 is 1000.
	Concurrency int
	// Metrics is where the counters are registered; nil is nowhere.
	Metrics prometheus.Registerer
	// NewID makes request ids. Nil makes random UUIDs.
	NewID func() string
}

// Frontend is the hearth.Invoker of everything that calls functions. Safe for
// concurrent use. An invocation that is served warm takes no lock here.
type Frontend struct {
	functions hearth.Functions
	manager   hearth.Invoker
	clock     hearth.Clock
	recorder  hearth.Recorder
	newID     func() string
	admission admission
	metrics   *metrics
	decisions sync.Pool // of *hearth.Decision

	inflight atomic.Int64
	draining atomic.Bool
	drainOne sync.Once
	drained  chan struct{}
}

// New makes a Frontend.
func New(cfg Config) (*Frontend, error) {
	if cfg.Functions == nil || cfg.Manager == nil || cfg.Clock == nil {
		return nil, errors.New("frontend: Config needs Functions, a Manager and a Clock")
	}
	f := &Frontend{
		functions: cfg.Functions, manager: cfg.Manager, clock: cfg.Clock, recorder: cfg.Recorder, newID: cfg.NewID,
		metrics: newMetrics(), drained: make(chan struct{}),
	}
	if f.newID == nil {
		f.newID = newUUID
	}
	f.admission.limit = int64(cfg.Concurrency)
	if cfg.Concurrency == 0 {
		f.admission.limit = 1000
	}
	f.decisions.New = func() any { return new(hearth.Decision) }
	if cfg.Metrics != nil {
		if err := f.metrics.register(cfg.Metrics, &f.inflight); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// Invoke runs inv to its end, or refuses it. It fills in what the caller left
// empty of RequestID, TraceID, InvokedARN and Payload, then Function,
// Placement and Outcome, and ends the stage Admit. A DryRun returns when
// everything has been checked, without a payload.
//
// Errors that say why nothing ran: ResourceNotFound, ResourceConflict for a
// function that is not Active, RequestTooLarge, TooManyRequests beyond the
// account's concurrency, Service while shutting down; and those of the
// manager.
func (f *Frontend) Invoke(ctx context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
	f.inflight.Add(1)
	defer f.left()
	if inv.RequestID == "" {
		inv.RequestID = f.newID()
	}
	a, err := f.admit(ctx, inv)
	inv.Timeline.End(hearth.StageAdmit, f.clock.Now())
	var r *hearth.Result
	switch {
	case err != nil:
	case inv.DryRun:
		r = &hearth.Result{Version: inv.Function.Version}
	default:
		r, err = f.place(ctx, inv, a)
	}
	inv.Outcome = outcome(r, err)
	return r, err
}

// place has the manager run inv and gives back its place in the account's
// concurrency, also when something panics.
func (f *Frontend) place(ctx context.Context, inv *hearth.Invocation, a *account) (*hearth.Result, error) {
	defer a.leave()
	return f.manager.Invoke(ctx, inv)
}

// admit checks inv and takes its place in the account's concurrency, which
// the caller gives back. A DryRun takes none.
func (f *Frontend) admit(ctx context.Context, inv *hearth.Invocation) (*account, error) {
	if f.draining.Load() {
		return nil, refusal(inv, hearth.Service, "The service is shutting down.", "")
	}
	if len(inv.Payload) > hearth.MaxPayload {
		return nil, refusal(inv, hearth.EntityTooLarge, "Request must be smaller than 6291556 bytes for the InvokeFunction operation", "")
	}
	fn, err := f.functions.Resolve(ctx, inv.Account, inv.Name, inv.Qualifier)
	if err != nil {
		return nil, err
	}
	inv.Function = fn
	if fn.State != hearth.Active {
		return nil, refusal(inv, hearth.Conflict, "The operation cannot be performed at this time. The function is currently in the following state: "+string(fn.State), "")
	}
	if inv.InvokedARN == "" {
		inv.InvokedARN = fn.ARN()
		if inv.Qualifier != "" {
			inv.InvokedARN += ":" + inv.Qualifier
		}
	}
	if inv.TraceID == "" {
		inv.TraceID = newTraceID(f.clock.Now())
	}
	if len(inv.Payload) == 0 {
		inv.Payload = emptyEvent
	}
	if inv.DryRun {
		return nil, nil
	}
	a, ok := f.admission.enter(fn.Account)
	if !ok {
		return nil, refusal(inv, hearth.TooManyRequests, "Rate Exceeded.", hearth.ReasonConcurrency)
	}
	return a, nil
}

// emptyEvent is what a function sees that was invoked without a payload. It
// is shared and nobody writes to it.
var emptyEvent = []byte("{}")

func refusal(inv *hearth.Invocation, kind hearth.Kind, message, reason string) *hearth.Error {
	subject := inv.InvokedARN
	if subject == "" {
		subject = inv.Name
	}
	return &hearth.Error{Op: "frontend.Invoke", Subject: subject, Kind: kind, Message: message, Reason: reason}
}

// outcome is what an invocation's decision says of its end.
func outcome(r *hearth.Result, err error) string {
	switch {
	case err != nil:
		return string(hearth.KindOf(err))
	case r == nil || r.FunctionError == "":
		return "ok"
	}
	var body struct {
		ErrorType string `json:"errorType"`
	}
	// A function may report an error in whatever form it likes.
	if json.Unmarshal(r.Payload, &body) != nil || body.ErrorType == "" || len(body.ErrorType) > maxErrorType {
		return r.FunctionError
	}
	return body.ErrorType
}

// maxErrorType bounds what of a function's own words a decision repeats.
const maxErrorType = 128

// Done records an invocation and counts it. The caller calls it once after
// Invoke, when the answer was written and the Timeline is complete; inv's
// strings must not change afterwards.
func (f *Frontend) Done(inv *hearth.Invocation) {
	f.metrics.count(inv)
	if f.recorder == nil {
		return
	}
	d := f.decisions.Get().(*hearth.Decision)
	*d = hearth.Decision{
		Kind: hearth.DecisionPlace, RequestID: inv.RequestID, Account: inv.Account, Function: inv.Name, Version: inv.Qualifier,
		Chosen: string(inv.Placement.Path), Why: inv.Placement.Why,
		Instance: inv.Placement.Instance, Container: inv.Placement.Container, Knew: inv.Placement.Knew,
		Spent: inv.Timeline.Spent, Outcome: inv.Outcome,
	}
	if fn := inv.Function; fn != nil {
		d.Function, d.Version = fn.Name, fn.Version
	}
	if d.Chosen == "" {
		d.Kind, d.Chosen, d.Why = unplaced(inv)
	}
	f.recorder.Record(d)
	f.decisions.Put(d)
}

// unplaced tells what was decided about an invocation that got no container.
func unplaced(inv *hearth.Invocation) (kind hearth.DecisionKind, chosen, why string) {
	switch {
	case inv.DryRun && inv.Outcome == "ok":
		return hearth.DecisionPlace, "dry-run", "the caller asked for the checks only"
	case inv.Outcome == string(hearth.TooManyRequests) && inv.Placement.Knew != (hearth.Knowledge{}):
		return hearth.DecisionRefuse, "refuse", "no container and no memory for one came free in time"
	case inv.Outcome == string(hearth.TooManyRequests):
		return hearth.DecisionRefuse, "refuse", "the account had as many invocations at once as it may have"
	case inv.Outcome == string(hearth.Canceled):
		return hearth.DecisionRefuse, "refuse", "the caller went away while it waited"
	case inv.Outcome == string(hearth.NotFound):
		return hearth.DecisionRefuse, "refuse", "there is no such function or version"
	case inv.Outcome == string(hearth.Conflict):
		return hearth.DecisionRefuse, "refuse", "the function was not in the state Active"
	case inv.Function == nil:
		return hearth.DecisionRefuse, "refuse", "the request was not in order"
	}
	return hearth.DecisionRefuse, "refuse", "no container could be made"
}

func (f *Frontend) left() {
	if f.inflight.Add(-1) == 0 && f.draining.Load() {
		f.drainOne.Do(func() { close(f.drained) })
	}
}

// Drain refuses what comes from now on and waits until what was admitted has
// ended, or ctx has; then it returns ctx's error.
func (f *Frontend) Drain(ctx context.Context) error {
	f.draining.Store(true)
	if f.inflight.Load() == 0 {
		f.drainOne.Do(func() { close(f.drained) })
	}
	select {
	case <-f.drained:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// InFlight is how many invocations are between Invoke's call and its return.
func (f *Frontend) InFlight() int { return int(f.inflight.Load()) }
