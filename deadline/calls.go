package deadline

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/access"
	"github.com/hearth-faas/hearth/history"
	"github.com/hearth-faas/hearth/store"
)

// Config is what Calls are made of. Functions, Run, Done, Spare and Clock are
// needed.
type Config struct {
	Functions hearth.Functions
	Run       hearth.Invoker // the frontend
	Done      func(*hearth.Invocation)
	// Spare reports whether what a function runs on has room for one more call of
	// it that nobody waits for. It is asked while calls wait.
	Spare func(*hearth.Function) bool
	// Policy is how a calling function wants it; nil is as by default.
	Policy func(hearth.Account, string) *hearth.ExecutionPolicy
	Store  store.Store // of what is learned; nil: it goes with the process
	Clock  hearth.Clock
	Log    *slog.Logger
}

const (
	threshold = 200 * time.Millisecond // a call that can wait no longer runs at once
	look      = 25 * time.Millisecond  // how often it is looked for spare capacity
	searched  = 16                     // how many calls are asked about then, at most
	retry     = 200 * time.Millisecond // after a refusal for want of concurrency
	// kept is for how long an answer can be asked for.
	kept = 15 * time.Minute
	// maxCalls bounds the calls of an account that wait, run or can be asked
	// for, and maxBytes the events and answers of all.
	maxCalls = 1000
	maxBytes = 256 << 20
)

// Calls are those that functions have made and not needed the answers of yet.
// They are in memory: who waits for them is a run on this machine, which ends
// with the process as they do. Safe for concurrent use.
type Calls struct {
	cfg  Config
	need *history.Table[samples] // by account, code of the caller, and callee
	runs *history.Table[samples] // by account, callee and its code

	mu      sync.Mutex
	of      map[string]*call // by id
	count   map[hearth.Account]int
	bytes   int64
	queue   queue
	timer   hearth.Timer
	closed  bool
	counts  Counts
	running sync.WaitGroup
}

// Counts are what became of calls since the start.
type Counts struct {
	Now      uint64 // run at once: needed soon, or nothing known
	Queued   uint64 // that waited
	Spare    uint64 // of those, run in spare capacity
	Due      uint64 // of those, run because it was time
	Promoted uint64 // of those, run because the caller asked
	InTime   uint64 // of those, done when the caller asked
	Missed   uint64 // of those, not done when the caller asked
	Waiting  int    // that wait now
}

type call struct {
	id       string
	account  hearth.Account
	caller   string // function
	needKey  string
	runKey   string
	callee   *hearth.Function
	inv      *hearth.Invocation
	at       time.Time // when it was made
	plan     plan
	index    int  // in the queue; -1 is not in it
	deferred bool // it was queued
	asked    bool // the caller has asked for the answer
	resting  bool // it was refused, and waits to be tried again
	size     int64

	done   chan struct{} // closed when the following are there
	result *hearth.Result
	err    error
}

// Open reads what was learned.
func Open(ctx context.Context, cfg Config) (*Calls, error) {
	cfg.Log = cmp.Or(cfg.Log, slog.Default())
	c := &Calls{cfg: cfg, of: map[string]*call{}, count: map[hearth.Account]int{}}
	var err error
	if c.need, err = history.Open[samples](ctx, history.Config{Store: cfg.Store, Bucket: "learned-needs", Clock: cfg.Clock, Log: cfg.Log}); err != nil {
		return nil, err
	}
	c.runs, err = history.Open[samples](ctx, history.Config{Store: cfg.Store, Bucket: "learned-runs", Clock: cfg.Clock, Log: cfg.Log})
	return c, err
}

// Request is a call that a function makes.
type Request struct {
	Within    string             // the container that it comes from
	Caller    *hearth.Invocation // what that container serves
	Function  string             // of the caller's account
	Qualifier string
	Event     []byte
	NeedIn    time.Duration // when the caller says that it needs the answer; 0 is learned
}

// Made tells what was decided of a call.
type Made struct {
	ID      string    `json:"id"`    // of the call, and of its request
	State   string    `json:"state"` // queued, running or done
	StartBy time.Time `json:"startBy,omitzero"`
	Needed  time.Time `json:"needed,omitzero"`
	Why     string    `json:"why"`
}

// Call makes a call. Errors: ResourceNotFound, TooManyRequests where too much
// waits already, Service while shutting down. What else is wrong with it is
// its answer.
func (c *Calls) Call(ctx context.Context, r Request) (Made, error) {
	from := r.Caller.Function
	callee, err := c.cfg.Functions.Resolve(ctx, from.Account, r.Function, r.Qualifier)
	if err != nil {
		return Made{}, err
	}
	now := c.cfg.Clock.Now()
	call := &call{
		id: uuid.NewString(), account: from.Account, caller: from.Name, at: now, index: -1, done: make(chan struct{}), callee: callee, size: int64(len(r.Event)),
		needKey: fmt.Sprintf("%s/%s/%s/%s", from.Account, from.Name, codeOf(from), r.Function),
		runKey:  fmt.Sprintf("%s/%s/%s", callee.Account, callee.Name, codeOf(callee)),
	}
	call.inv = &hearth.Invocation{
		RequestID: call.id, Account: from.Account, Name: r.Function, Qualifier: r.Qualifier, Payload: r.Event, TraceID: r.Caller.TraceID, Within: r.Within,
		Caller: identityOf(from),
	}
	k := known{now: now, declared: r.NeedIn, threshold: threshold}
	c.need.Of(call.needKey).View(func(s *samples) { k.need = &samples{append([]time.Duration(nil), s.Last...)} })
	c.runs.Of(call.runKey).View(func(s *samples) { k.run = &samples{append([]time.Duration(nil), s.Last...)} })
	off := c.cfg.Policy != nil && c.cfg.Policy(from.Account, from.Name).Deadline.Mode == "off"

	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return Made{}, hearth.Errorf(hearth.Service, "The service is shutting down.")
	}
	if c.count[call.account] >= maxCalls || c.bytes+call.size > maxBytes {
		return Made{}, hearth.Errorf(hearth.TooManyRequests, "The account has too many calls whose answers were not asked for: at most %d, and %d MiB of all accounts.", maxCalls, maxBytes>>20)
	}
	if parent := c.of[r.Caller.RequestID]; parent != nil {
		k.parent = parent.plan.needed
	}
	call.plan = decide(k)
	if off {
		call.plan = plan{now: true, why: "the calling function's policy has it so"}
	}
	c.of[call.id] = call
	c.count[call.account]++
	c.bytes += call.size
	made := Made{ID: call.id, State: "running", StartBy: call.plan.startBy, Needed: call.plan.needed, Why: call.plan.why}
	if call.plan.now {
		c.counts.Now++
		c.start(call, call.plan.why)
		return made, nil
	}
	made.State = "queued"
	c.counts.Queued++
	call.deferred = true
	heap.Push(&c.queue, call)
	c.dispatch()
	if call.index < 0 {
		made.State = "running"
	}
	return made, nil
}

// codeOf names a function's code: what was learned of other code is not gone by.
func codeOf(f *hearth.Function) string {
	if f.Package.SHA256 != "" {
		return f.Package.SHA256
	}
	if f.Image != nil {
		return f.Image.Resolved
	}
	return "none"
}

// identityOf is the session in which a function's code runs.
func identityOf(f *hearth.Function) hearth.Identity {
	role := f.Role[lastSlash(f.Role)+1:]
	return hearth.Identity{Account: f.Account, ARN: fmt.Sprintf("arn:aws:sts::%s:assumed-role/%s/%s", f.Account, role, f.Name)}
}

func lastSlash(s string) int {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '/' {
			return i
		}
	}
	return -1
}

// dispatch runs what is due, and one for which there is spare capacity, and
// comes back when there may be more. c.mu is held.
func (c *Calls) dispatch() {
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	now, spared := c.cfg.Clock.Now(), false
	for len(c.queue) > 0 {
		first := c.queue[0]
		if !first.plan.startBy.After(now) {
			c.counts.Due++
			heap.Pop(&c.queue)
			c.start(first, "it was time: its answer is needed soon")
			continue
		}
		if !spared {
			// One at a time: the room that it takes has to be seen first.
			spared = true
			if call := c.spare(); call != nil {
				c.counts.Spare++
				heap.Remove(&c.queue, call.index)
				c.start(call, fmt.Sprintf("there was spare capacity, %v before it was time", call.plan.startBy.Sub(now).Round(time.Millisecond)))
				continue
			}
		}
		c.timer = c.cfg.Clock.AfterFunc(min(look, first.plan.startBy.Sub(now)), func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.dispatch()
		})
		return
	}
}

// spare is the first call in the queue for which there is spare capacity; nil if
// there is none. What one runs on may have none while another's has. It is looked
// for among those at the head of the queue alone, since to ask takes time, and
// they are not in order beyond the first. c.mu is held.
func (c *Calls) spare() (first *call) {
	has := map[*hearth.Function]bool{}
	for _, call := range c.queue[:min(len(c.queue), searched)] {
		if first != nil && !call.plan.startBy.Before(first.plan.startBy) {
			continue
		}
		ok, asked := has[call.callee]
		if !asked {
			ok = c.cfg.Spare(call.callee)
			has[call.callee] = ok
		}
		if ok {
			first = call
		}
	}
	return first
}

// start runs a call. c.mu is held.
func (c *Calls) start(call *call, why string) {
	call.index = -1
	c.running.Add(1)
	go func() {
		defer c.running.Done()
		c.run(call, why)
	}()
}

func (c *Calls) run(call *call, why string) {
	began := c.cfg.Clock.Now()
	inv := *call.inv
	inv.Timeline.Begin(began)
	result, err := c.cfg.Run.Invoke(access.Arrived(context.Background(), access.Inside), &inv)
	now := c.cfg.Clock.Now()
	if hearth.KindOf(err) == hearth.TooManyRequests && c.again(call, now) {
		return
	}
	if inv.Placement.Path != "" {
		inv.Placement.Why += fmt.Sprintf("; it was called %v before, and was run then because %s", began.Sub(call.at).Round(time.Millisecond), why)
	}
	c.cfg.Done(&inv)
	if err == nil {
		c.runs.Of(call.runKey).Update(func(s *samples) { s.add(now.Sub(began)) })
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	call.result, call.err = result, err
	if result != nil {
		call.size += int64(len(result.Payload))
		c.bytes += int64(len(result.Payload))
	}
	call.inv.Payload = nil
	close(call.done)
	c.cfg.Clock.AfterFunc(kept, func() { c.forget(call) })
	c.dispatch()
}

// again queues a call once more that was refused for want of concurrency, as
// long as its caller does not need it.
func (c *Calls) again(call *call, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if call.asked || c.closed || !call.plan.needed.After(now) {
		return false
	}
	call.resting = true
	c.cfg.Clock.AfterFunc(retry, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		call.resting = false
		if call.asked || c.closed {
			c.start(call, "its caller asked for the answer")
			return
		}
		heap.Push(&c.queue, call)
		c.dispatch()
	})
	return true
}

func (c *Calls) forget(call *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of[call.id] != call {
		return
	}
	delete(c.of, call.id)
	c.bytes -= call.size
	if c.count[call.account]--; c.count[call.account] == 0 {
		delete(c.count, call.account)
	}
}

// Await waits for a call's answer until ctx ends, and then returns nil for the
// result, and no error. need says that its caller can't go on without it: a call
// that waits still is run at once, and it is learned from when that was.
// function is whose call it must be. Errors: ResourceNotFound, and those of the
// call.
func (c *Calls) Await(ctx context.Context, account hearth.Account, function, id string, need bool) (*hearth.Result, error) {
	c.mu.Lock()
	call := c.of[id]
	if call == nil || call.account != account || call.caller != function {
		c.mu.Unlock()
		return nil, hearth.Errorf(hearth.NotFound, "There is no call %s of %s; an answer can be asked for within %v.", id, function, kept)
	}
	if need && !call.asked {
		c.ask(call)
	}
	c.mu.Unlock()
	select {
	case <-call.done:
		return call.result, call.err
	case <-ctx.Done():
		return nil, nil
	}
}

// ask notes that the caller needs the answer. c.mu is held.
func (c *Calls) ask(call *call) {
	call.asked = true
	delay := c.cfg.Clock.Now().Sub(call.at)
	c.need.Of(call.needKey).Update(func(s *samples) { s.add(delay) })
	select {
	case <-call.done:
		if call.deferred {
			c.counts.InTime++
		}
		return
	default:
	}
	if call.deferred {
		c.counts.Missed++
	}
	if call.index >= 0 {
		heap.Remove(&c.queue, call.index)
		c.counts.Promoted++
		c.start(call, "its caller asked for the answer")
	}
}

// Counts are what became of calls.
func (c *Calls) Counts() Counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.counts
	n.Waiting = len(c.queue)
	return n
}

// Hasten runs all that waits, and takes no more: the process is about to end.
func (c *Calls) Hasten() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for len(c.queue) > 0 {
		c.counts.Due++
		c.start(heap.Pop(&c.queue).(*call), "the server is shutting down")
	}
}

// Close keeps what was learned.
func (c *Calls) Close() error {
	c.Hasten()
	return closeBoth(c.need, c.runs)
}

// queue is a heap of calls by when they must run.
type queue []*call

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].plan.startBy.Before(q[j].plan.startBy) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}
func (q *queue) Push(x any) {
	call := x.(*call)
	call.index = len(*q)
	*q = append(*q, call)
}
func (q *queue) Pop() any {
	old := *q
	call := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	call.index = -1
	return call
}

func closeBoth(a, b *history.Table[samples]) error {
	return errors.Join(a.Close(), b.Close())
}
