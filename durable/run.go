package durable

import (
	"context"
	"strings"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
)

// invocation is the next invocation of x's function.
func (e *Executions) invocation(x *execution, known int64) *hearth.Invocation {
	return &hearth.Invocation{
		RequestID: x.Invocation.RequestID, Caller: x.Caller, Authorized: true,
		Account: x.Account, Name: x.Function, Qualifier: x.Version,
		Payload: x.event(known), TraceID: x.TraceID, TenantID: x.TenantID, DurableARN: x.arn(),
	}
}

// run invokes a function and takes what comes of it.
func (e *Executions) run(l *live, number int, inv *hearth.Invocation) {
	r, err := e.invoke(inv)
	if err != nil && e.draining() {
		return // the next process makes it again
	}
	e.must(l, "take what a function returned", func(c *change) error {
		c.returned(number, r, err)
		return nil
	})
}

func (e *Executions) invoke(inv *hearth.Invocation) (*hearth.Result, error) {
	inv.Timeline.Begin(e.cfg.Clock.Now())
	r, err := e.cfg.Invoker.Invoke(e.ctx, inv)
	inv.Timeline.End(hearth.StageAnswer, e.cfg.Clock.Now())
	e.cfg.Done(inv)
	return r, err
}

// target is the function that a CHAINED_INVOKE names.
func (e *Executions) target(account hearth.Account, name string) (function, qualifier string, err error) {
	of, function, qualifier, ok := e.cfg.ParseName(name)
	switch {
	case !ok:
		return "", "", invalid("%s is not the name or ARN of a function", name)
	case of != "" && of != account:
		return "", "", hearth.Errorf(hearth.AccessDenied, "The function %s is another account's.", name)
	}
	return function, qualifier, nil
}

func (e *Executions) resolve(account hearth.Account, name string) (*hearth.Function, error) {
	function, qualifier, err := e.target(account, name)
	if err != nil {
		return nil, err
	}
	f, err := e.cfg.Functions.Resolve(e.ctx, account, function, qualifier)
	if err != nil {
		return nil, err
	}
	if f.Durable != nil && qualifier == "" {
		return nil, errUnqualified()
	}
	return f, nil
}

// errUnqualified refuses to invoke a durable function without saying which
// version: a replay must find the one that began.
func errUnqualified() error {
	return invalid("You cannot invoke a durable function using an unqualified ARN.")
}

// call makes the CHAINED_INVOKE o of a function that is not durable, for the
// attempt-th time.
func (e *Executions) call(l *live, r *record, o *Operation, attempt int) {
	inv := &hearth.Invocation{
		RequestID: newName(e.setup.random), Caller: e.session(r), Account: r.Account, TraceID: r.TraceID, TenantID: o.TenantID,
	}
	if o.TraceID != "" {
		inv.TraceID = o.TraceID
	}
	if o.Input != nil {
		inv.Payload = []byte(*o.Input)
	}
	var out outcome
	var err error
	if inv.Name, inv.Qualifier, err = e.target(r.Account, o.Function); err != nil {
		out = refused(err)
	} else {
		res, err := e.invoke(inv)
		switch kind := hearth.KindOf(err); {
		case err != nil && e.draining():
			return // the next process makes it again
		case kind == hearth.TooManyRequests || kind == hearth.Service || kind == hearth.NotReady || kind == hearth.ContainerGone:
			e.cfg.Clock.AfterFunc(backoff(attempt), func() { e.spawn(func() { e.callAgain(l, r, o, attempt+1) }) })
			return
		case err != nil:
			out = refused(err)
		case res.FunctionError != "":
			out = outcome{Failed, nil, parseFunctionError(res)}
		default:
			out = outcome{Succeeded, new(string(res.Payload)), nil}
		}
	}
	e.must(l, "take what a CHAINED_INVOKE gave", func(c *change) error {
		c.chainedEnded(o.ID, out)
		return nil
	})
}

// session is as whom an execution's function calls others: in its role, like
// its code.
func (e *Executions) session(r *record) hearth.Identity {
	id := hearth.Identity{Account: r.Account}
	if f, err := e.cfg.Functions.Resolve(e.ctx, r.Account, r.Function, r.Version); err == nil {
		role := f.Role[strings.LastIndexByte(f.Role, '/')+1:]
		id.ARN = "arn:aws:sts::" + string(r.Account) + ":assumed-role/" + role + "/" + f.Name
	}
	return id
}

// callAgain is call, unless nobody waits for it any more.
func (e *Executions) callAgain(l *live, r *record, o *Operation, attempt int) {
	select {
	case <-l.ended:
	case <-e.drain:
	default:
		e.call(l, r, o, attempt)
	}
}

// lookAfter finds out what became of the execution that o started, in case
// its end was not told.
func (e *Executions) lookAfter(l *live, o *Operation) {
	out := outcome{Failed, nil, failure(string(hearth.NotFound), "Durable Execution does not exist")}
	if a, ok := ParseARN(o.Child); ok {
		var x *execution
		err := e.cfg.Store.View(e.ctx, func(r store.Reader) (err error) {
			x, err = load(r, key(a.Account, a.Function, a.ID))
			return err
		})
		switch {
		case err != nil:
			e.cfg.Log.Error("durable: could not read the execution of a CHAINED_INVOKE", "execution", o.Child, "err", err)
			return
		case x != nil && x.Status == Running:
			return
		case x != nil:
			out = x.outcome()
		}
	}
	e.must(l, "tell what became of a CHAINED_INVOKE", func(c *change) error {
		c.chainedEnded(o.ID, out)
		return nil
	})
}

// Checkpoint asks for a checkpoint.
type Checkpoint struct {
	ARN         ARN
	Token       string
	ClientToken string // "" is none
	Updates     []Update
}

// Checkpoint keeps what a function did. It returns the token of the next
// checkpoint, "" if the execution has ended, and the operations that changed
// since the function last heard of them. Errors: InvalidParameterValue.
func (e *Executions) Checkpoint(ctx context.Context, p Checkpoint) (next string, changed []*Operation, err error) {
	t, ok := parseToken(p.Token)
	l := e.live(key(p.ARN.Account, p.ARN.Function, p.ARN.ID), false)
	if !ok || l == nil || t.id != p.ARN.ID {
		return "", nil, errToken()
	}
	err = e.updateAnd(ctx, l, func(c *change) (func(*execution), error) {
		before, err := c.checkpoint(t, p.ClientToken, p.Updates)
		return func(x *execution) {
			changed = x.since(before)
			if x.Status == Running {
				next = x.token().String()
			}
		}, err
	})
	return next, changed, err
}

// updateAnd is update, and shows what became of it before it is changed again.
func (e *Executions) updateAnd(ctx context.Context, l *live, decide func(*change) (func(*execution), error)) error {
	var show func(*execution)
	l.mu.Lock()
	run, err := e.updateLocked(ctx, l, func(c *change) (err error) {
		show, err = decide(c)
		return err
	})
	if err == nil {
		show(l.x)
	}
	if l.x != nil && l.x.Invocation == nil {
		l.x = nil
	}
	l.mu.Unlock()
	if err == nil {
		run()
	}
	return err
}

// Stop ends an execution and returns when it ended; one that has ended is left
// as it is. Errors: ResourceNotFound.
func (e *Executions) Stop(ctx context.Context, a ARN, why *Error) (*Execution, error) {
	if l := e.live(key(a.Account, a.Function, a.ID), false); l != nil {
		err := e.update(ctx, l, func(c *change) error {
			if c.record.Status == Running {
				if why == nil {
					why = &Error{}
				}
				c.end(Stopped, nil, why)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return e.Get(ctx, a)
}

// Callback takes what an outsider says of a callback of the account's. Errors:
// InvalidParameterValue, CallbackTimeout.
func (e *Executions) Callback(ctx context.Context, account hearth.Account, b Callback) error {
	c, ok := parseCallback(b.ID)
	if !ok {
		return errCallbackID()
	}
	if c.account != account {
		return errCallbackClosed()
	}
	l := e.live(key(c.account, c.function, c.id), false)
	if l == nil {
		return errCallbackClosed()
	}
	return e.update(ctx, l, func(ch *change) error { return ch.calledBack(c.operation, b) })
}
