// Package idempotent keeps work from being done twice (S14). A function's owner
// declares what its result depends on; a request for which nothing of that has
// changed since an equal one was served gets that one's answer, and equal
// requests at once are served by one run.
//
// What it costs when it is wrong is a wrong answer, so that every doubt ends in
// a run: a state that can't be known, one that changed while the function ran,
// one that changed so lately that it can't be told from the next.
package idempotent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/table"
)

// Config is what an Avoider is made of. All but Recorder, Log and the bounds
// are needed.
type Config struct {
	Store     store.Store
	Blobs     store.Blobs // its own: blobs that it does not know are deleted
	Functions hearth.Functions
	States    States
	Seal      Sealer
	Clock     hearth.Clock
	Recorder  hearth.Recorder
	Log       *slog.Logger
	// MaxMemory and MaxDisk bound what the records take of each, in bytes; 0 is
	// 64 MiB, and 1 GiB.
	MaxMemory, MaxDisk int64
	// Timeout bounds how long the states of one request may take to be found
	// out; 0 is two seconds.
	Timeout time.Duration
	// Orphaned hears of a run whose caller left and that others waited for,
	// when it has ended; nil is nobody.
	Orphaned func(*hearth.Invocation, *hearth.Result, error)
}

// Sealer keeps secrets at rest; identity.Key is one.
type Sealer interface {
	Seal(plain, associated []byte) ([]byte, error)
	Open(sealed, associated []byte) ([]byte, error)
}

// Avoider decides whether a request has to be run. Safe for concurrent use.
type Avoider struct {
	cfg   Config
	own   *table.Table[declared]
	shelf *shelf
	asked captures

	// plans is never changed: a declaration makes a new map, and there is none
	// as long as nothing is declared, so that those who declare nothing pay for
	// one look.
	plans   atomic.Pointer[map[owner]*plan]
	serial  atomic.Uint64
	setting sync.Mutex

	mu        sync.Mutex
	flights   map[sum]*flight
	waiting   map[hearth.Account]int
	closed    bool
	recording sync.WaitGroup // results that are being recorded

	totals counts
}

// maxWaiting bounds the requests of an account that wait here, for states or
// for another's run: their events are in memory. Beyond it they are run, and
// the limits of concurrency hold.
const maxWaiting = 1000

// Open reads what is declared, and the records that there are.
func Open(ctx context.Context, cfg Config) (*Avoider, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	cfg.MaxMemory, cfg.MaxDisk = cmp.Or(cfg.MaxMemory, 64<<20), cmp.Or(cfg.MaxDisk, 1<<30)
	cfg.Timeout = cmp.Or(cfg.Timeout, 2*time.Second)
	a := &Avoider{cfg: cfg, flights: map[sum]*flight{}, waiting: map[hearth.Account]int{}}
	var err error
	if a.own, err = table.Open[declared](ctx, cfg.Store, declaredBucket); err != nil {
		return nil, err
	}
	if err := a.readDeclared(); err != nil {
		return nil, err
	}
	if a.shelf, err = openShelf(ctx, cfg.Store, cfg.Blobs, cfg.MaxMemory, cfg.MaxDisk, cfg.Log); err != nil {
		return nil, err
	}
	return a, nil
}

// Close writes what is not on disk yet. What runs still is not recorded.
func (a *Avoider) Close() error {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.recording.Wait()
	return a.shelf.close()
}

// Declared reports whether f is declared idempotent. It takes no lock.
func (a *Avoider) Declared(f *hearth.Function) bool {
	plans := a.plans.Load()
	return plans != nil && (*plans)[owner{f.Account, f.Name}] != nil
}

func (a *Avoider) plan(account hearth.Account, function string) *plan {
	if plans := a.plans.Load(); plans != nil {
		return (*plans)[owner{account, function}]
	}
	return nil
}

// Run is how a request is run: it fills in the invocation that it is given, as
// hearth.Invoker does.
type Run = func(context.Context, *hearth.Invocation) (*hearth.Result, error)

// Invoke answers inv, whose caller may have the answer: from a record, by an
// equal request's run, or by a run of its own. Function must be filled in.
func (a *Avoider) Invoke(ctx context.Context, inv *hearth.Invocation, run Run) (*hearth.Result, error) {
	p := a.plan(inv.Function.Account, inv.Function.Name)
	if p == nil || inv.Stream != nil || inv.Function.Durable != nil {
		return run(ctx, inv)
	}
	if !a.enter(inv.Account) {
		defer because(inv, "too many requests of the account wait for states or for each other")
		return run(ctx, inv)
	}
	defer a.leave(inv.Account)
	line, err := lineOf(inv, inv.Function, p)
	var states []State
	if err == nil {
		states, err = a.states(ctx, inv, p)
	}
	inv.Timeline.End(hearth.StageAdmit, a.cfg.Clock.Now())
	if ctx.Err() != nil {
		return nil, gone(ctx)
	}
	if err != nil {
		a.count(p, func(c *counts) { c.unknown.Add(1) })
		defer because(inv, "it can't be told whether anything has changed: "+err.Error())
		return run(ctx, inv)
	}
	key := keyOf(line, states)
	if inv.Recompute {
		a.count(p, func(c *counts) { c.forced.Add(1) })
		return a.fly(ctx, inv, p, &flight{line: line, key: key, states: states, why: "the caller insisted on a run"}, run)
	}
	a.mu.Lock()
	if f := a.flights[key]; f != nil {
		f.callers++
		a.mu.Unlock()
		return a.join(ctx, inv, p, f)
	}
	now := a.cfg.Clock.Now()
	found, last := a.shelf.get(line, key, p.ttl, now)
	if found == nil {
		f := &flight{line: line, key: key, states: states, why: why(last, states, p.ttl, now)}
		a.flights[key] = f
		f.start(ctx)
		a.mu.Unlock()
		return a.fly(ctx, inv, p, f, run)
	}
	a.mu.Unlock()
	r, err := a.shelf.result(ctx, found)
	if ctx.Err() != nil {
		return nil, gone(ctx)
	}
	if err != nil {
		a.cfg.Log.Warn("a recorded result can't be read; the function is run", "function", inv.Function.Name, "error", err)
		return a.fly(ctx, inv, p, &flight{line: line, key: key, states: states, why: "the recorded result can't be read"}, run)
	}
	a.count(p, func(c *counts) { c.recorded.Add(1); c.saved.Add(p.counts.spares(found.ran, found.first)) })
	inv.Recorded = found.request
	inv.Placement = hearth.Placement{Path: hearth.PathRecorded, Why: fmt.Sprintf(
		"nothing has changed since request %s was run at %s: %s", found.request, found.at.UTC().Format(time.RFC3339), compared(len(states)))}
	inv.Timeline.End(hearth.StagePlace, a.cfg.Clock.Now())
	return r, nil
}

func compared(n int) string {
	if n == 1 {
		return "one state was compared"
	}
	return fmt.Sprintf("%d states were compared", n)
}

// why tells why a request is run: how it differs from the last of its line.
func why(last *record, states []State, ttl time.Duration, now time.Time) string {
	if last == nil {
		return "there is no record of an equal request"
	}
	if c := changed(last.states, states); c != "" {
		return fmt.Sprintf("%s since request %s", c, last.request)
	}
	if ttl > 0 && now.Sub(last.at) >= ttl {
		return fmt.Sprintf("the result of request %s is older than the %v that it is good for", last.request, ttl)
	}
	return "there is no record of an equal request in these states"
}

// states are those of everything that the request depends on.
func (a *Avoider) states(ctx context.Context, inv *hearth.Invocation, p *plan) ([]State, error) {
	h := newHasher()
	h.text(fmt.Sprint(p.serial, inv.Function.Generation), string(inv.Payload))
	fn, payload := inv.Function, inv.Payload
	return a.asked.get(ctx, h.sum(), func(ctx context.Context) ([]State, error) {
		ctx, cancel := context.WithTimeout(ctx, a.cfg.Timeout)
		defer cancel()
		return a.ask(ctx, fn, p, payload, 0)
	})
}

// maxDepth bounds how far functions may depend on each other.
const maxDepth = 4

// ask finds the states out, those of resources all at once.
func (a *Avoider) ask(ctx context.Context, fn *hearth.Function, p *plan, event []byte, depth int) ([]State, error) {
	states := codeOf(fn, p)
	from := len(states)
	states = append(states, make([]State, len(p.dependencies))...)
	errs := make([]error, len(p.dependencies))
	s := &scope{event: event, env: fn.Env, secrets: p.secrets}
	resources := make([]*Resource, len(p.dependencies))
	for i := range p.dependencies { // all, before anybody is asked
		var err error
		if d := &p.dependencies[i]; d.said.Function == "" {
			if resources[i], err = d.resource(s); err != nil {
				return nil, err
			}
		}
	}
	var all sync.WaitGroup
	for i, r := range resources {
		all.Go(func() {
			d := &p.dependencies[i]
			if r == nil {
				states[from+i], errs[i] = a.askFunction(ctx, fn.Account, d, s, depth)
				return
			}
			var err error
			if states[from+i], err = a.cfg.States.State(ctx, r); err != nil {
				errs[i] = fmt.Errorf("%s: %w", r.Name, err)
			}
			states[from+i].Name = r.Name
			if d.hides() {
				states[from+i].Value += "@" + r.hidden()
			}
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return states, nil
}

// askFunction is the state of another function's result: all that it depends on
// itself, for the event that it is given.
func (a *Avoider) askFunction(ctx context.Context, account hearth.Account, d *dependency, s *scope, depth int) (State, error) {
	name := d.said.Function
	failed := func(err error) (State, error) { return State{}, fmt.Errorf("function %s: %w", name, err) }
	if depth >= maxDepth {
		return failed(fmt.Errorf("functions depend on each other more than %d deep", maxDepth))
	}
	p := a.plan(account, name)
	if p == nil {
		return failed(errors.New("it is not declared idempotent"))
	}
	fn, err := a.cfg.Functions.Resolve(ctx, account, name, d.said.Qualifier)
	if err != nil {
		return failed(err)
	}
	event := []byte("{}")
	if len(d.said.Event) > 0 {
		if event, err = expandJSON(d.said.Event, s); err != nil {
			return failed(err)
		}
	}
	line, err := lineOf(&hearth.Invocation{Payload: event}, fn, p)
	if err != nil {
		return failed(err)
	}
	states, err := a.ask(ctx, fn, p, event, depth+1)
	if err != nil {
		return failed(err)
	}
	return State{Name: "what " + name + " depends on", Value: keyOf(line, states).short(), Unsettled: unsettled(states) != ""}, nil
}

// enter takes a place among those who wait; false if there is none.
func (a *Avoider) enter(account hearth.Account) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting[account] >= maxWaiting {
		return false
	}
	a.waiting[account]++
	return true
}

func (a *Avoider) leave(account hearth.Account) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting[account]--; a.waiting[account] == 0 {
		delete(a.waiting, account)
	}
}

func gone(ctx context.Context) error {
	return &hearth.Error{Op: "idempotent.Invoke", Kind: hearth.Canceled, Message: "The caller went away.", Err: context.Cause(ctx)}
}

// because adds to inv's placement, if it was placed, why it was run at all.
func because(inv *hearth.Invocation, why string) {
	if inv.Placement.Path != "" {
		inv.Placement.Why += "; it was run because " + why
	}
}

// say records what was decided about inv beside its placement.
func (a *Avoider) say(inv *hearth.Invocation, chosen, why string) {
	if a.cfg.Recorder == nil {
		return
	}
	f := inv.Function
	a.cfg.Recorder.Record(&hearth.Decision{Kind: hearth.DecisionAvoid, RequestID: inv.RequestID, Account: f.Account, Function: f.Name,
		Version: f.Version, Generation: f.Generation, Chosen: chosen, Why: why})
}
