package idempotent

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/hearth-faas/hearth"
)

// flight is a run, and those who wait for it. Who joins it has found the very
// states that it began with, after it began: what the run read until then is
// what the one who joins would have read.
type flight struct {
	line, key sum
	states    []State
	why       string // it is run

	ctx    context.Context // of the run: ends when every caller has left
	cancel context.CancelFunc
	done   chan struct{} // closed when inv, result and err are there

	callers int  // who wait; under Avoider.mu
	left    bool // the one whose request it is; under Avoider.mu

	inv    hearth.Invocation // the run's own, so that its caller may leave
	result *hearth.Result
	err    error
}

// start makes the flight one that can be joined. Avoider.mu is held, or nobody
// else knows it.
func (f *flight) start(ctx context.Context) {
	f.ctx, f.cancel = context.WithCancel(context.WithoutCancel(ctx))
	f.done = make(chan struct{})
	f.callers = 1
}

// fly runs inv, and records what comes of it.
func (a *Avoider) fly(ctx context.Context, inv *hearth.Invocation, p *plan, f *flight, run Run) (*hearth.Result, error) {
	if f.done == nil {
		f.start(ctx) // it is in no table: nobody joins it
	}
	a.count(p, func(c *counts) { c.ran.Add(1) })
	f.inv = *inv
	go func() {
		defer f.cancel()
		a.land(p, f, run)
	}()
	select {
	case <-f.done:
	case <-ctx.Done():
		if a.abandon(f, true) {
			<-f.done // nobody waits: it has been called off, and ends as it does
			break
		}
		return nil, gone(ctx)
	}
	*inv = f.inv
	return f.result, f.err
}

// land runs a flight to its end. A run that failed leaves nothing.
func (a *Avoider) land(p *plan, f *flight, run Run) {
	began := a.cfg.Clock.Now()
	done := false
	defer func() {
		if broken := recover(); broken != nil { // it is nobody's goroutine but ours
			a.cfg.Log.Error("a run panicked", "request", f.inv.RequestID, "panic", broken, "stack", string(debug.Stack()))
		}
		if !done { // let nobody wait for ever
			f.err = hearth.Errorf(hearth.Service, "The run failed.")
			a.remove(f)
			close(f.done)
		}
	}()
	inv := f.inv
	result, err := run(f.ctx, &inv)
	because(&inv, f.why)
	f.inv, f.result, f.err = inv, result, err
	p.counts.observe(inv.Timeline.Spent[hearth.StageRun], firstRun(&inv))
	good := err == nil && result != nil && result.FunctionError == ""
	if !good {
		a.remove(f) // before anybody hears of it, so that who asks again is run
	}
	a.mu.Lock()
	orphaned := f.left && f.callers > 0
	if good = good && !a.closed; good {
		a.recording.Add(1)
		defer a.recording.Done()
	}
	a.mu.Unlock()
	done = true
	close(f.done)
	if orphaned && a.cfg.Orphaned != nil {
		a.cfg.Orphaned(&inv, result, err)
	}
	if good {
		a.record(p, f, &inv, result, began)
	}
	a.remove(f)
}

// record keeps the result, if the states are still those that it began with.
// Who waits has it already, and who comes meanwhile with the same states gets
// it as well.
func (a *Avoider) record(p *plan, f *flight, inv *hearth.Invocation, result *hearth.Result, began time.Time) {
	not := func(why string) {
		a.count(p, func(c *counts) { c.discarded.Add(1) })
		a.say(inv, "not recorded", why)
	}
	if name := unsettled(f.states); name != "" {
		not(name + " had changed so short a time before that a further change might not be seen")
		return
	}
	after, err := a.states(context.Background(), inv, p)
	switch {
	case err != nil:
		not("it can't be told whether anything changed during the run: " + err.Error())
		return
	case keyOf(f.line, after) != f.key:
		not(fmt.Sprintf("%s during the run", changed(f.states, after)))
		return
	case a.plan(inv.Function.Account, inv.Function.Name) != p:
		not("it was declared anew during the run")
		return
	}
	kept := *result
	kept.LogTail = nil
	rec := &record{key: f.key, line: f.line, account: inv.Function.Account, function: inv.Function.Name, states: f.states,
		request: inv.RequestID, at: began, ran: inv.Timeline.Spent[hearth.StageRun], first: firstRun(inv), result: kept}
	if err := a.shelf.put(context.Background(), rec, p.maxRecords); err != nil {
		a.cfg.Log.Warn("a result can't be recorded", "function", inv.Function.Name, "error", err)
		not("the result could not be kept")
		return
	}
	a.say(inv, "recorded", "nothing that it depends on changed during the run")
}

// join waits for a flight that serves inv as well. a.mu was held when it was
// counted among its callers.
func (a *Avoider) join(ctx context.Context, inv *hearth.Invocation, p *plan, f *flight) (*hearth.Result, error) {
	select {
	case <-f.done:
	case <-ctx.Done():
		a.abandon(f, false)
		return nil, gone(ctx)
	}
	inv.Timeline.End(hearth.StagePlace, a.cfg.Clock.Now())
	if f.err != nil {
		inv.Placement.Why = "request " + f.inv.RequestID + ", which is equal and ran at the same time, got no answer"
		return nil, f.err
	}
	a.count(p, func(c *counts) {
		c.joined.Add(1)
		c.saved.Add(p.counts.spares(f.inv.Timeline.Spent[hearth.StageRun], firstRun(&f.inv)))
	})
	inv.Recorded = f.inv.RequestID
	inv.Placement = hearth.Placement{Path: hearth.PathJoined, Why: "request " + f.inv.RequestID + ", which is equal, ran at the same time"}
	r := *f.result
	r.LogTail = nil // it is of another's request
	return &r, nil
}

// abandon takes a caller from a flight, and calls the flight off if it was the
// last; it tells whether it was.
func (a *Avoider) abandon(f *flight, own bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	f.left = f.left || own
	if f.callers--; f.callers > 0 {
		return false
	}
	if a.flights[f.key] == f {
		delete(a.flights, f.key) // whoever comes now does not join what is called off
	}
	f.cancel()
	return true
}

func (a *Avoider) remove(f *flight) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.flights[f.key] == f {
		delete(a.flights, f.key)
	}
}
