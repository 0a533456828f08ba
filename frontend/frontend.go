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
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/access"
)

// Config is what a Frontend is made of. Functions, Manager and Clock are
// needed.
type Config struct {
	Functions hearth.Functions
	Manager   hearth.Invoker
	// Durable takes the invocations of durable functions, except those that
	// come with a DurableARN, which are its own. It is not called before the
	// first of them; nil has no durable functions.
	Durable hearth.Invoker
	// Async takes the invocations whose callers do not wait, except those of
	// durable functions; nil refuses them. Their attempts come back here.
	Async    hearth.Invoker
	Clock    hearth.Clock
	Recorder hearth.Recorder // nil: decisions are not recorded
	Policies Policies        // nil: only a function's own account may invoke it
	// Judge says what callers may do; nil is that whoever is of a function's
	// account may invoke it.
	Judge *access.Judge
	// Limits bounds what runs at once and what begins in a second; nil is
	// NewLimits(0, 0).
	Limits *Limits
	// Gate shares the machine between accounts while it is saturated; nil is
	// that whoever comes first begins.
	Gate *Gate
	// Metrics is where the counters are registered; nil is nowhere.
	Metrics prometheus.Registerer
	// NewID makes request ids. Nil makes random UUIDs.
	NewID func() string
	// Updates tells of updates in progress, which invocations may wait for;
	// nil is that there are none, ever.
	Updates Updates
	// Policy tells whether a function's invocations wait for them. It is asked
	// while there are any; nil is that none does.
	Policy func(hearth.Account, string) *hearth.ExecutionPolicy
	// CheckKey tells whether the key that a function names can be used; nil is
	// always. It is not asked of functions that name none.
	CheckKey func(arn string) error
	// MayLoop tells whether a function may be invoked in a loop for ever: it is
	// asked when one was invoked a number of times in one chain. Nil is never.
	MayLoop func(*hearth.Function) bool
	// Accounts tells of accounts of which nothing runs; nil is that all run.
	Accounts Accounts
	// Observer hears of what is let in; nil is nobody.
	Observer Observer
	// Shares lets runs of other accounts' code in and hears of their end; nil
	// refuses them.
	Shares Shares
	// Avoider answers without a run what need not be run; nil is that
	// everything is.
	Avoider Avoider
}

// Accounts tells of accounts of which nothing runs. Safe for concurrent use.
type Accounts interface {
	// Stopped is asked by every invocation, so that it must take no lock.
	Stopped(account hearth.Account) bool
	// Refusal says why nothing of a stopped account runs.
	Refusal(account hearth.Account) error
}

// Avoider keeps functions that are declared idempotent from being run in vain.
// Safe for concurrent use.
type Avoider interface {
	// Declared reports whether it is to be asked about a function. It is asked
	// by every invocation, so that it must take no lock.
	Declared(f *hearth.Function) bool
	// Invoke answers inv, of which everything was checked, or has run run it,
	// in a goroutine of its own. It fills in Recorded and Placement of what it
	// answers itself.
	Invoke(ctx context.Context, inv *hearth.Invocation, run func(context.Context, *hearth.Invocation) (*hearth.Result, error)) (*hearth.Result, error)
}

// Observer hears of invocations that were let in. It is called on their way, so
// that it must be quick, take no lock and keep nothing of them but strings and
// the Function.
type Observer interface {
	// Arrived is called before an invocation is placed.
	Arrived(inv *hearth.Invocation)
	// Accepted is called when one was stored, whose attempts will arrive under
	// the same request id.
	Accepted(inv *hearth.Invocation)
}

// Frontend is the hearth.Invoker of everything that calls functions. Safe for
// concurrent use. An invocation that is served warm takes no lock here.
type Frontend struct {
	functions hearth.Functions
	manager   hearth.Invoker
	durable   hearth.Invoker
	async     hearth.Invoker
	clock     hearth.Clock
	recorder  hearth.Recorder
	policies  Policies
	newID     func() string
	mayLoop   func(*hearth.Function) bool
	checkKey  func(arn string) error
	updates   Updates
	waiting   waiters
	policy    func(hearth.Account, string) *hearth.ExecutionPolicy
	observer  Observer
	avoider   Avoider
	shares    Shares
	accounts  Accounts
	judge     *access.Judge
	limits    *Limits
	gate      *Gate
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
		functions: cfg.Functions, manager: cfg.Manager, durable: cfg.Durable, async: cfg.Async, clock: cfg.Clock, recorder: cfg.Recorder, policies: cfg.Policies, newID: cfg.NewID, mayLoop: cfg.MayLoop, checkKey: cfg.CheckKey, observer: cfg.Observer, avoider: cfg.Avoider, shares: cfg.Shares,
		limits:   cfg.Limits,
		gate:     cfg.Gate,
		accounts: cfg.Accounts, judge: cfg.Judge,
		updates: cfg.Updates, policy: cfg.Policy,
		metrics: newMetrics(), drained: make(chan struct{}),
	}
	if f.newID == nil {
		f.newID = newUUID
	}
	if f.mayLoop == nil {
		f.mayLoop = func(*hearth.Function) bool { return false }
	}
	if f.limits == nil {
		f.limits = NewLimits(0, 0)
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
// Errors that say why nothing ran: AccessDenied if neither the function is the
// caller's account's own nor its policy allows it, ResourceNotFound, ResourceConflict for a
// function that is not Active, RequestTooLarge, RecursiveInvocation in a chain
// that loops, TooManyRequests beyond the Limits, InvalidParameterValue if a
// tenant is named where none may or none where one must, Service while shutting
// down; and those of the manager.
func (f *Frontend) Invoke(ctx context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
	f.inflight.Add(1)
	defer f.left()
	if inv.RequestID == "" {
		inv.RequestID = f.newID()
	}
	err := f.check(ctx, inv)
	now := f.clock.Now()
	inv.Timeline.End(hearth.StageAdmit, now)
	var r *hearth.Result
	switch {
	case err != nil:
	case inv.DryRun:
		r = &hearth.Result{Version: inv.Function.Version}
	case inv.Function.Durable != nil && (inv.Async || startsDurable(inv)):
		r, err = f.durable.Invoke(ctx, inv)
	case inv.Async:
		if r, err = f.async.Invoke(ctx, inv); err == nil && f.observer != nil {
			f.observer.Accepted(inv)
		}
	case f.avoider != nil && f.avoider.Declared(inv.Function):
		r, err = f.avoider.Invoke(ctx, inv, func(ctx context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
			return f.place(ctx, inv, f.clock.Now())
		})
	default:
		r, err = f.place(ctx, inv, now)
	}
	inv.Outcome = outcome(r, err)
	if err == nil && r.FunctionError != "" && inv.Function.Shared != nil {
		inv.Outcome = inv.Use.End.String() // the code's own words could be made of what its caller gave it
	}
	return r, err
}

// place takes inv's place in the concurrency, has the manager run it and gives
// the place back, also when something panics. What is run later comes here
// later: each invocation of a durable execution, and each attempt at an event,
// takes its own place.
func (f *Frontend) place(ctx context.Context, inv *hearth.Invocation, now time.Time) (*hearth.Result, error) {
	p, refused := f.limits.enter(inv.Function, now)
	if refused != nil {
		inv.Placement.Why = refused.why
		e := refusal(inv, hearth.TooManyRequests, "Rate Exceeded.")
		e.Reason, e.RetryAfter = refused.reason, refused.after
		return nil, e
	}
	defer p.leave()
	if f.gate != nil {
		if f.gate.look(now); f.gate.shut.Load() {
			s, err := f.gate.enter(ctx, inv.Function.Account)
			if err != nil {
				inv.Placement.Why = "the machine was saturated, and the caller went away before it was its account's turn"
				return nil, refusal(inv, hearth.Canceled, "The caller went away while it waited for its account's turn.")
			}
			defer s.leave()
			handing := inv.Handing
			inv.Handing = func() {
				s.begin()
				if handing != nil {
					handing()
				}
			}
			defer func() { inv.Handing = handing }()
			inv.Timeline.End(hearth.StageAdmit, f.clock.Now())
		}
	}
	if f.observer != nil {
		f.observer.Arrived(inv)
	}
	if inv.Function.Shared != nil {
		return f.placeShared(ctx, inv)
	}
	return f.manager.Invoke(ctx, inv)
}

// check resolves what inv is to run, tells whether it may, and fills in what
// its caller left empty.
func (f *Frontend) check(ctx context.Context, inv *hearth.Invocation) error {
	if f.draining.Load() {
		return refusal(inv, hearth.Service, "The service is shutting down.")
	}
	if len(inv.Payload) > hearth.MaxPayload {
		return refusal(inv, hearth.EntityTooLarge, "Request must be smaller than 6291556 bytes for the InvokeFunction operation")
	}
	fn, err := f.functions.Resolve(ctx, inv.Account, inv.Name, inv.Qualifier)
	if denied := f.authorize(ctx, inv, fn); denied != nil {
		return denied
	}
	if hearth.KindOf(err) == hearth.AccessDenied { // which is said of shared names alone
		inv.Placement.Why = notLetIn
	}
	if err != nil {
		return err
	}
	if f.accounts != nil && f.accounts.Stopped(inv.Account) {
		return f.stopped(inv)
	}
	if f.updates != nil && (inv.RequireCode != "" || f.updates.Updating()) {
		if fn, err = f.newest(ctx, inv, fn); err != nil {
			return err
		}
	}
	inv.Function = fn
	if fn.Shared != nil {
		if err := checkShared(inv); err != nil {
			return err
		}
	}
	if fn.State != hearth.Active {
		return refusal(inv, hearth.Conflict, "The operation cannot be performed at this time. The function is currently in the following state: "+string(fn.State))
	}
	switch isolated := fn.TenantIsolation != ""; {
	case isolated && inv.TenantID == "":
		return refusal(inv, hearth.InvalidParameter, "The invoked function is enabled with tenancy configuration. Add a valid tenant ID in your request and try again.")
	case !isolated && inv.TenantID != "":
		return refusal(inv, hearth.InvalidParameter, "The invoked function is not enabled with tenancy configuration. Remove the tenant ID from your request and try again.")
	}
	if inv.InvokedARN == "" {
		inv.InvokedARN = invokedARN(inv, fn)
	}
	if fn.KMSKeyARN != "" && f.checkKey != nil {
		if err := f.checkKey(fn.KMSKeyARN); err != nil {
			return err
		}
	}
	switch {
	case inv.Async && fn.Durable == nil: // its attempts will be in the chain
	case inv.TraceID == "":
		inv.TraceID = newTraceID(f.clock.Now(), fn)
	case inv.DurableARN == "": // else its execution is in the chain already
		loops := 0
		if inv.TraceID, loops = lengthen(inv.TraceID, fn); loops >= maxLoops && !f.mayLoop(fn) {
			return recursive(inv)
		}
	}
	if len(inv.Payload) == 0 {
		inv.Payload = emptyEvent
	}
	if startsDurable(inv) {
		return f.checkDurable(inv)
	}
	switch {
	case inv.DryRun:
	case inv.DurableName != "":
		return refusal(inv, hearth.InvalidParameter, "You cannot specify a durable execution name for a function that is not durable.")
	case inv.Async && f.async == nil:
		return refusal(inv, hearth.NotBuilt, "There are no asynchronous invocations here.")
	}
	return nil
}

// Refusal tells why an invocation that was let in and has not begun may not any
// more; nil is that it may.
func (f *Frontend) Refusal(inv *hearth.Invocation) error {
	if f.accounts == nil || !f.accounts.Stopped(inv.Account) {
		return nil
	}
	return f.stopped(inv)
}

// stopped refuses an invocation of an account of which nothing runs. What was
// let in before and is tried again is to wait, and not to be given up.
func (f *Frontend) stopped(inv *hearth.Invocation) error {
	err := f.accounts.Refusal(inv.Account)
	if err == nil { // it goes on just now
		err = hearth.Errorf(hearth.AccessDenied, "The account %s is not active.", inv.Account)
	}
	inv.Placement.Why = "nothing of the account runs: it is suspended, or being deleted"
	if inv.Authorized {
		e := refusal(inv, hearth.TooManyRequests, "The account is stopped.")
		e.Err = err
		return e
	}
	return err
}

// startsDurable reports whether inv is to start a durable execution, or to find
// it, and is not one of an execution's own.
func startsDurable(inv *hearth.Invocation) bool {
	return inv.Function.Durable != nil && inv.DurableARN == ""
}

// checkDurable checks what would start a durable execution.
func (f *Frontend) checkDurable(inv *hearth.Invocation) error {
	switch {
	case inv.Qualifier == "":
		// A replay must find the version that began.
		return refusal(inv, hearth.InvalidParameter, "You cannot invoke a durable function using an unqualified ARN.")
	case f.durable == nil:
		return refusal(inv, hearth.NotBuilt, "There are no durable executions here.")
	}
	return nil
}

// emptyEvent is what a function sees that was invoked without a payload. It
// is shared and nobody writes to it.
var emptyEvent = []byte("{}")

func refusal(inv *hearth.Invocation, kind hearth.Kind, message string) *hearth.Error {
	subject := inv.InvokedARN
	if subject == "" {
		subject = inv.Name
	}
	return &hearth.Error{Op: "frontend.Invoke", Subject: subject, Kind: kind, Message: message}
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
		Node: inv.Placement.Node, Fleet: inv.Placement.Fleet,
		Instance: inv.Placement.Instance, Container: inv.Placement.Container, Knew: inv.Placement.Knew,
		Spent: inv.Timeline.Spent, Outcome: inv.Outcome,
		Capacity: inv.Placement.Capacity, Price: inv.Placement.Price, Cost: inv.Placement.Cost,
	}
	if fn := inv.Function; fn != nil {
		d.Function, d.Version, d.Generation = fn.Name, fn.Version, fn.Generation
		if fn.Shared != nil {
			d.Owner, d.OwnerFunction, d.Terms, d.Withheld = fn.Shared.Owner, fn.Shared.OwnerFunction, termsOf(fn.Shared), inv.Placement.Withheld
		}
	}
	if d.Chosen == "" {
		d.Generation = 0
		d.Kind, d.Chosen, d.Why = unplaced(inv)
	}
	f.recorder.Record(d)
	f.decisions.Put(d)
}

// unplaced tells what was decided about an invocation that got no container.
func unplaced(inv *hearth.Invocation) (kind hearth.DecisionKind, chosen, why string) {
	switch {
	case inv.Async && inv.DurableARN == "" && inv.Outcome == "ok":
		return hearth.DecisionPlace, "accepted", "the caller does not wait: it is stored, and each attempt has a decision of its own"
	case inv.DurableARN != "" && inv.Function != nil && inv.Outcome == "ok":
		return hearth.DecisionPlace, "durable", "a durable execution was started or found; each of its invocations has a decision of its own"
	case inv.DryRun && inv.Outcome == "ok":
		return hearth.DecisionPlace, "dry-run", "the caller asked for the checks only"
	case inv.Placement.Why != "":
		return hearth.DecisionRefuse, "refuse", inv.Placement.Why
	case inv.Outcome == string(hearth.Canceled):
		return hearth.DecisionRefuse, "refuse", "the caller went away while it waited"
	case inv.Outcome == string(hearth.AccessDenied):
		return hearth.DecisionRefuse, "refuse", "no policy of the function lets the caller invoke it"
	case inv.Outcome == string(hearth.NotFound):
		return hearth.DecisionRefuse, "refuse", "there is no such function or version"
	case inv.Outcome == string(hearth.KMSNotFound), inv.Outcome == string(hearth.KMSDisabled):
		return hearth.DecisionRefuse, "refuse", "the key that the function's environment is under is missing or disabled"
	case inv.Outcome == string(hearth.NoPublishedVersion):
		return hearth.DecisionRefuse, "refuse", "nothing of the function was published, which is what runs on a capacity provider"
	case inv.Outcome == string(hearth.Recursive):
		return hearth.DecisionRefuse, "refuse", "the function was invoked again and again in one chain, which it may not"
	case inv.Outcome == string(hearth.Conflict):
		return hearth.DecisionRefuse, "refuse", "the function was not in the state Active"
	case inv.Function == nil:
		return hearth.DecisionRefuse, "refuse", "the request was not in order"
	}
	return hearth.DecisionRefuse, "refuse", "no container could be made"
}

// Orphaned counts and records a run of a declared function whose own caller
// left, while others waited for its answer. The caller's decision is of its own.
func (f *Frontend) Orphaned(inv *hearth.Invocation, r *hearth.Result, err error) {
	inv.Outcome = outcome(r, err)
	f.metrics.count(inv)
	if f.recorder == nil {
		return
	}
	fn := inv.Function
	f.recorder.Record(&hearth.Decision{
		Kind: hearth.DecisionAvoid, RequestID: inv.RequestID, Account: fn.Account, Function: fn.Name, Version: fn.Version, Generation: fn.Generation,
		Chosen: string(inv.Placement.Path), Why: "its caller left, and the run went on for others who wait for the same",
		Instance: inv.Placement.Instance, Container: inv.Placement.Container, Knew: inv.Placement.Knew, Spent: inv.Timeline.Spent, Outcome: inv.Outcome,
	})
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
