// Package async runs invocations whose callers do not wait: they are on disk
// before the caller is told that they were accepted, and stay there until they
// have ended. Each is run at least once, tried again when it failed, and when
// it is given up goes to where its function wants that told, or is parked.
// What a kill cut short is run again by the next start.
//
// The deciding parts are pure: Policy.judge over one attempt's outcome, lanes
// over which event is next. The Queue feeds them and acts. It has one lock,
// which is not held over the store or an invocation.
package async

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
)

// MaxPayload bounds an event's payload, in bytes.
const MaxPayload = 1 << 20

// Config is what a Queue works with. Fields without a default are required.
type Config struct {
	Store  store.Store
	Clock  hearth.Clock
	Region string
	// Run runs an invocation to its end, and Done is told when it has ended:
	// the frontend, for which an event is one more caller.
	Run  hearth.Invoker
	Done func(*hearth.Invocation)
	// Policy tells how the function wants its events handled now.
	Policy func(account hearth.Account, name, qualifier string) Policy
	// Senders deliver to destinations by the service that stands in their ARN,
	// such as sqs; a function is reached without one. What has no sender, and
	// what one can't deliver in a few tries, is parked.
	Senders map[string]Sender
	// Holds tells whether the first attempt at an event of a function may have to
	// wait for a better time, and Start whether it may begin. They are asked with
	// the queue's lock held: they must be quick, and not call it. nil is that none
	// waits.
	Holds func(account hearth.Account, function string) bool
	Start func(Held) Start
	// Stopped tells whether nothing of an account is to run for now: its events
	// wait, and do not grow old meanwhile for want of an attempt. It is asked
	// with the queue's lock held; Reconsider has it asked again. nil is never.
	Stopped func(account hearth.Account) bool
	// Places is how many events are at work at a time; 0 is 100.
	Places int
	// RoomMiB is the memory that functions have on this machine, and MiB what
	// the function has of it: more than fits is not begun, since what waits for
	// memory would be in the way of others. 0 and nil are not to look at it.
	RoomMiB int
	MiB     func(account hearth.Account, name, qualifier string) int
	Delays  Delays // zero is DefaultDelays
	// ParkFor is how long a parked event is kept; 0 is 14 days.
	ParkFor time.Duration
	// Jitter gives a number from 0 to below 1; nil is random.
	Jitter   func() float64
	Recorder hearth.Recorder // nil: decisions are not recorded
	Log      *slog.Logger    // nil is slog.Default
}

// cost is what an event needs in memory.
func (c Config) cost(e *event) int {
	if e.MemoryMiB > 0 || c.MiB == nil {
		return e.MemoryMiB
	}
	return c.MiB(e.Account, e.Function, e.Qualifier)
}

// Sender delivers a message to a destination: an invocation record, or, with
// attributes, an event to a dead-letter queue. An error means that it may not
// have arrived; it is then sent again. Safe for concurrent use.
type Sender interface {
	Send(ctx context.Context, arn string, body []byte, attributes map[string]string) error
}

// Queue implements hearth.Invoker: its Invoke accepts an event. Safe for
// concurrent use.
type Queue struct {
	cfg     Config
	journal journal

	mu      sync.Mutex
	lanes   *lanes
	stopped bool
	timer   hearth.Timer // for what becomes due later; nil if nothing does
	sweeper hearth.Timer // of what was parked long ago
	counts  Counts

	ctx    context.Context // of everything that runs
	cancel context.CancelFunc
	atWork sync.WaitGroup // Add is called under mu and not once stopped
}

// Counts tell what has become of events since the start.
type Counts struct {
	Accepted, Succeeded, Failed, Retried, Parked uint64
	Waiting, Running                             int // now
	Held                                         int // of those that wait, those that wait for a better time
}

var _ hearth.Invoker = (*Queue)(nil)

// Open reads what waits. Nothing runs before Start.
func Open(ctx context.Context, cfg Config) (*Queue, error) {
	if cfg.Places == 0 {
		cfg.Places = 100
	}
	if cfg.Delays == (Delays{}) {
		cfg.Delays = DefaultDelays
	}
	if cfg.ParkFor == 0 {
		cfg.ParkFor = 14 * 24 * time.Hour
	}
	if cfg.Jitter == nil {
		cfg.Jitter = rand.Float64
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	q := &Queue{cfg: cfg, journal: journal{cfg.Store}, lanes: newLanes(cfg.Places, cfg.RoomMiB, cfg.cost)}
	q.hold()
	q.lanes.stopped = cfg.Stopped
	q.ctx, q.cancel = context.WithCancel(context.WithoutCancel(ctx))
	now := cfg.Clock.Now()
	if err := q.journal.all(ctx, func(e *event) { q.lanes.add(e, now) }); err != nil {
		return nil, err
	}
	return q, nil
}

// Start begins to run events.
func (q *Queue) Start() {
	q.mu.Lock()
	q.dispatch()
	q.mu.Unlock()
	q.sweep()
}

// Hold runs no further event. Those that are accepted after it wait for the
// next start.
func (q *Queue) Hold() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stopped = true
	for _, t := range []hearth.Timer{q.timer, q.sweeper} {
		if t != nil {
			t.Stop()
		}
	}
}

// Stop holds, and returns when the events at work have ended, or, when ctx
// ends, after having given them up: they are run again by the next start.
func (q *Queue) Stop(ctx context.Context) {
	q.Hold()
	ended := make(chan struct{})
	go func() {
		q.atWork.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	q.cancel()
}

// Counts returns what became of events.
func (q *Queue) Counts() Counts {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.counts
	c.Waiting, c.Running, c.Held = q.lanes.depth(), q.lanes.running, q.lanes.held()
	return c
}

// Invoke accepts inv, whose Function is set, and returns when it is on disk.
// The Result tells the version that would run now. Errors: RequestTooLarge,
// and Service when it could not be stored.
func (q *Queue) Invoke(ctx context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
	if len(inv.Payload) > MaxPayload {
		return nil, hearth.Errorf(hearth.RequestTooLarge, "Request must be smaller than %d bytes for the InvokeFunction operation", MaxPayload)
	}
	now := q.cfg.Clock.Now()
	id, err := uuid.NewV7() // in the order of time, as the journal wants it
	if err != nil {
		return nil, notStored(err)
	}
	inv.RequestID = id.String()
	e := &event{
		ID: inv.RequestID, Account: inv.Account, Function: inv.Name, Qualifier: inv.Qualifier,
		CallerAccount: inv.Caller.Account, CallerARN: inv.Caller.ARN, CallerID: inv.Caller.UserID,
		ClientContext: inv.ClientContext, APIKey: inv.APIKey, TraceID: inv.TraceID, TenantID: inv.TenantID, MemoryMiB: inv.MemoryMiB, Recompute: inv.Recompute,
		Accepted: now.UTC().Round(0), Due: now.UTC().Round(0), payload: inv.Payload,
	}
	if err := q.journal.apply(ctx, change{put: []*event{e}, also: alsoOf(ctx)}); err != nil {
		return nil, notStored(err)
	}
	q.mu.Lock()
	q.counts.Accepted++
	q.lanes.add(e, now)
	q.dispatch()
	q.mu.Unlock()
	return &hearth.Result{Version: inv.Function.Version}, nil
}

func notStored(err error) error {
	e := &hearth.Error{Op: "async.Invoke", Kind: hearth.Service, Message: "The event could not be stored.", Err: err}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		e.Kind, e.Message = hearth.Canceled, "The request was given up before it was done."
	case errors.Is(err, store.ErrFull):
		e.Message = "The event could not be stored: the server's disk is full."
	}
	return e
}

// dispatch starts what can run and arranges for what will. q.mu is held.
func (q *Queue) dispatch() {
	if q.stopped {
		return
	}
	now := q.cfg.Clock.Now()
	for en := q.lanes.next(now); en != nil; en = q.lanes.next(now) {
		q.atWork.Add(1)
		go q.attempt(en)
	}
	if wait, ok := q.lanes.waits(now); ok {
		if q.timer != nil {
			q.timer.Stop()
		}
		q.timer = q.cfg.Clock.AfterFunc(max(wait, 0), func() {
			q.mu.Lock()
			defer q.mu.Unlock()
			q.dispatch()
		})
	}
}

// storePause is how long the outcome of an attempt waits to be stored again
// when that failed, and an event to be read again.
const storePause = time.Second
