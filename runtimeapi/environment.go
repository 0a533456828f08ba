package runtimeapi

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	hearth "github.com/hearth-faas/hearth"
)

// maxConns bounds the connections of one environment: a runtime uses one or
// two and each extension as many, while the descriptors are the host's.
const maxConns = 64

// Options are the parts of an environment that have a choice.
type Options struct {
	// OnNext, if set, is called each time the runtime asked for an event and
	// there is none: everything that the last invocation left behind is
	// done, and the processes may be frozen. It is called from a
	// connection's goroutine without locks and must not call Close.
	OnNext func()
	// Handlers serve what lies beside the runtime API on the same listener.
	Handlers []Mount
}

// Event is one invocation as the runtime is told of it.
type Event struct {
	RequestID     string // printable ASCII
	Deadline      time.Time
	ARN           string // with the qualifier as the caller gave it
	TraceID       string
	ClientContext string // JSON
	CognitoID     string // JSON
	TenantID      string
	// Payload is read until the runtime asks for its next event or the
	// environment is closed, which after a canceled Invoke may be later than
	// Invoke's return.
	Payload []byte
	// Stream, if set, takes a response that the runtime streams. It is used
	// only while Invoke runs, by the same goroutine.
	Stream hearth.ResponseStream
}

// Response is what the runtime answered.
type Response struct {
	// Payload is the response, or the error report; the caller's own.
	Payload     []byte
	ContentType string
	// ErrorType is "" if the function succeeded.
	ErrorType string
	// Streamed: Event.Stream was started, so that Payload is empty, except
	// for the report of an error that came on the way.
	Streamed bool
}

// Environment is one execution environment. Invoke is called by one goroutine
// at a time; everything else at any time by any.
type Environment struct {
	listener net.Listener
	opt      Options
	ready    chan struct{}
	dead     chan struct{} // closed when state becomes Dead
	closed   chan struct{} // closed by Close
	outcomes chan outcome  // holds at most the present invocation's
	running  sync.WaitGroup

	mu      sync.Mutex
	state   State
	seq     uint64 // counts invocations
	event   *Event // of the present invocation, nil if there is none
	pending bool   // the present invocation has no outcome yet
	seen    bool   // the runtime was given the event
	id      string // request id of the event that the runtime was given last; "" if it must not answer
	parked  []*conn
	conns   map[*conn]struct{}
	big     int // connections with a large buffer
	isReady bool
	ending  bool // Close was called

	initError *FunctionError
	failure   *FunctionError
}

// outcome ends an invocation, or tells its Invoke to read the response.
type outcome struct {
	response Response
	err      error
	stream   *conn
}

// Serve starts to serve an environment on l, which it owns from then on.
func Serve(l net.Listener, opt Options) *Environment {
	e := &Environment{
		listener: l,
		opt:      opt,
		ready:    make(chan struct{}),
		dead:     make(chan struct{}),
		closed:   make(chan struct{}),
		outcomes: make(chan outcome, 1),
		conns:    make(map[*conn]struct{}),
	}
	e.running.Go(e.accept)
	return e
}

// accept takes connections until the listener is closed.
func (e *Environment) accept() {
	for pause := time.Millisecond; ; {
		nc, err := e.listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of descriptors, most likely: it passes.
			select {
			case <-e.closed:
				return
			case <-time.After(pause):
			}
			pause = min(2*pause, 100*time.Millisecond)
			continue
		}
		pause = time.Millisecond
		c := &conn{env: e, net: nc}
		e.mu.Lock()
		if e.refuses() || len(e.conns) >= maxConns {
			e.mu.Unlock()
			nc.Close()
			continue
		}
		e.conns[c] = struct{}{}
		e.running.Go(c.serve)
		e.mu.Unlock()
	}
}

// refuses reports whether a new connection can have no answer: the runtime has
// ended, and if there are Handlers so has the environment. e.mu is held.
func (e *Environment) refuses() bool {
	return e.ending || e.state == Dead && len(e.opt.Handlers) == 0
}

// Ready is closed when the init phase has ended: the runtime asked for its
// first event, reported an init error, or ended.
func (e *Environment) Ready() <-chan struct{} { return e.ready }

// InitError is the error of the init phase that the runtime reported, nil if
// it reported none.
func (e *Environment) InitError() *FunctionError {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.initError
}

// Failure is what Fail was told, nil if the runtime has not ended.
func (e *Environment) Failure() *FunctionError {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.failure
}

// State is the present state.
func (e *Environment) State() State {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.state
}

// NextWaiting reports whether the runtime waits for an event on an open
// connection, so that its processes have nothing to do and may be frozen.
func (e *Environment) NextWaiting() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.state == Ready && len(e.parked) > 0 && e.event == nil
}

// step moves the state. e.mu is held.
func (e *Environment) step(s Step) error {
	to, err := e.state.After(s)
	e.state = to
	return err
}

// must is step where the caller has seen that the state allows it.
func (e *Environment) must(s Step) {
	if err := e.step(s); err != nil {
		panic(err) // a bug of this package, and of the transition table's tests
	}
}

// markReady closes Ready. e.mu is held.
func (e *Environment) markReady() {
	if !e.isReady {
		e.isReady = true
		close(e.ready)
	}
}

// settle gives the present invocation its outcome. e.mu is held and
// e.pending is true, so that the channel has room.
func (e *Environment) settle(o outcome) {
	e.pending = false
	if o.stream == nil {
		e.event = nil
	}
	e.outcomes <- o
}

// Fail says that the runtime has ended or was killed: the environment is Dead
// and serves it nothing more. An invocation that is under way returns err at
// once. Only the first call counts. The response is lost if Fail comes before
// its last byte was read. Handlers, whose clients may outlive the runtime, go
// on until Close.
func (e *Environment) Fail(err *FunctionError) {
	if err == nil {
		err = NewFunctionError(TypeUnknown, "Unknown application error occurred")
	}
	e.mu.Lock()
	if e.state == Dead {
		e.mu.Unlock()
		return
	}
	e.must(StepDie)
	close(e.dead)
	e.failure, e.id = err, ""
	e.markReady()
	if e.pending {
		e.settle(outcome{err: e.gone()})
	}
	var conns []*conn
	for c := range e.conns {
		if !c.foreign {
			conns = append(conns, c)
		}
	}
	e.parked = nil
	e.mu.Unlock()
	closeAll(conns)
}

// closeAll closes connections, whose goroutines see the error, whatever they
// are doing.
func closeAll(conns []*conn) {
	for _, c := range conns {
		c.net.Close()
	}
}

// gone is the error of an invocation whose runtime has ended: the failure
// itself if the function saw the event, otherwise of kind ContainerGone.
// e.mu is held.
func (e *Environment) gone() error {
	if e.seen {
		return e.failure
	}
	return &hearth.Error{Op: "runtimeapi.Invoke", Kind: hearth.ContainerGone, Message: "the execution environment has ended", Err: e.failure}
}

// Close ends the environment, as Fail does if it has not been called, closes
// the listener, and returns when all goroutines of the environment have ended.
func (e *Environment) Close() error {
	e.Fail(NewFunctionError(TypeExit, "Error: the execution environment was closed"))
	e.mu.Lock()
	if !e.ending {
		e.ending = true
		close(e.closed)
	}
	conns := slices.Collect(maps.Keys(e.conns))
	e.mu.Unlock()
	closeAll(conns)
	err := e.listener.Close()
	e.running.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil // the sandbox was first
	}
	return err
}

// remove forgets a connection that has ended.
func (e *Environment) remove(c *conn) {
	e.mu.Lock()
	delete(e.conns, c)
	e.unpark(c)
	e.mu.Unlock()
}

// unpark takes c off the list of those that wait for an event. e.mu is held.
func (e *Environment) unpark(c *conn) {
	for i, p := range e.parked {
		if p == c {
			e.parked = append(e.parked[:i], e.parked[i+1:]...)
			return
		}
	}
}

// canceled is the error of an invocation that its caller gave up.
func canceled(ctx context.Context) error {
	return &hearth.Error{Op: "runtimeapi.Invoke", Kind: hearth.Canceled, Message: "the caller has gone", Err: context.Cause(ctx)}
}
