package extension

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// Limit is how many extensions a function can have, internal ones included:
// the service's.
const Limit = 10

// Function is what extensions are told of the function that they serve.
type Function struct{ Account, Name, Version, Handler string }

// The events that an extension can register for.
const (
	Invoke   = "INVOKE"
	Shutdown = "SHUTDOWN"
)

// Info is what is known of an extension.
type Info struct {
	Name      string
	State     State
	Events    []string // that it registered for
	ErrorType string   // that it reported, or why it could not be started
}

// extension is one extension. Set.mu guards its fields.
type extension struct {
	name     string
	id       uuid.UUID
	external bool
	state    State
	events   []string
	fault    string      // Info.ErrorType
	pending  []byte      // the event that it gets when it asks
	asked    chan []byte // holds one; takes the event that its request waits for
}

func (e *extension) step(s Step) error {
	to, err := e.state.After(s)
	e.state = to
	return err
}

func (e *extension) wants(event string) bool { return slices.Contains(e.events, event) }

// Set is the extensions of one execution environment. Safe for concurrent use.
type Set struct {
	// runtime says that the runtime asked for an event since the last
	// invocation began. It is changed under mu and read by every warm
	// invocation's end without.
	runtime  atomic.Bool
	reported chan struct{}

	mu       sync.Mutex
	fn       Function
	list     []*extension
	closed   bool // nobody can register any more
	fault    string
	awaiting []awaited
}

// awaited is a phase whose end somebody waits for.
type awaited struct {
	over func(*Set) bool
	done chan struct{}
}

// NewSet makes the set of an environment that has no function yet.
func NewSet() *Set { return &Set{reported: make(chan struct{})} }

// Expect says which function the environment has and which external
// extensions are about to be started, before either is.
func (s *Set) Expect(fn Function, external []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fn = fn
	for _, name := range external {
		s.list = append(s.list, &extension{name: name, id: uuid.New(), external: true, asked: make(chan []byte, 1)})
	}
}

// Any reports whether there is an extension.
func (s *Set) Any() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.list) > 0
}

// External reports whether there is an external one.
func (s *Set) External() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.list, func(e *extension) bool { return e.external })
}

// RuntimeReady says that the runtime asked for an event and there is none.
func (s *Set) RuntimeReady() {
	if s.runtime.Load() {
		return // as always, where nobody else is to be waited for
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runtime.Store(true)
	s.changed()
}

// Close ends registration: the init phase of the runtime is over.
func (s *Set) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

// Registration is closed when every external extension has registered.
func (s *Set) Registration() <-chan struct{} {
	return s.await(func(s *Set) bool {
		return !slices.ContainsFunc(s.list, func(e *extension) bool { return e.external && e.state == Started })
	})
}

// Init is closed when the init phase is over: the runtime and every extension
// asked for an event.
func (s *Set) Init() <-chan struct{} {
	return s.await(func(s *Set) bool {
		return s.runtime.Load() && !slices.ContainsFunc(s.list, func(e *extension) bool { return e.state != Ready })
	})
}

// Runtime is closed when the runtime has asked for an event since the last
// invocation began.
func (s *Set) Runtime() <-chan struct{} {
	return s.await(func(s *Set) bool { return s.runtime.Load() })
}

// Settled is closed when the invocation that began last is over: the runtime
// asked for the next event, and so did every extension that got its event.
func (s *Set) Settled() <-chan struct{} {
	return s.await(func(s *Set) bool {
		return s.runtime.Load() && !slices.ContainsFunc(s.list, func(e *extension) bool {
			return e.wants(Invoke) && (e.state != Ready || e.pending != nil)
		})
	})
}

// await makes a channel that is closed once over is true. over is called with
// mu held.
func (s *Set) await(over func(*Set) bool) <-chan struct{} {
	done := make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	if over(s) {
		close(done)
	} else {
		s.awaiting = append(s.awaiting, awaited{over, done})
	}
	return done
}

// changed looks for phases that are over. mu is held.
func (s *Set) changed() {
	s.awaiting = slices.DeleteFunc(s.awaiting, func(a awaited) bool {
		if !a.over(s) {
			return false
		}
		close(a.done)
		return true
	})
}

// Invocation is an invocation as extensions are told of it.
type Invocation struct {
	RequestID, ARN, TraceID string
	Deadline                time.Time
}

// Begin tells the extensions of an invocation, before the runtime gets it.
func (s *Set) Begin(inv Invocation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runtime.Store(false)
	var event []byte
	for _, e := range s.list {
		if e.wants(Invoke) {
			if event == nil {
				event = invokeEvent(inv)
			}
			s.deliver(e, event)
		}
	}
}

// Shutdown tells the external extensions that registered for it that the
// environment ends, and why: "spindown", "timeout" or "failure". Those that
// have other work get to know when they ask for the next event. It returns
// the names of those that are to be waited for.
func (s *Set) Shutdown(reason string, deadline time.Time) (told []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, e := range s.list {
		if e.external && e.wants(Shutdown) && e.state != Exited && e.state != InitError && e.state != ExitError {
			told = append(told, e.name)
			s.deliver(e, shutdownEvent(reason, deadline))
		}
	}
	return told
}

// deliver hands an event to an extension, now or when it asks. mu is held.
func (s *Set) deliver(e *extension, event []byte) {
	if e.state != Ready {
		e.pending = event
		return
	}
	e.must(StepDeliver)
	e.asked <- event
}

// must is step where the caller has seen that the state allows it.
func (e *extension) must(s Step) {
	if err := e.step(s); err != nil {
		panic(err) // a bug of this package, and of the transition table's tests
	}
}

// Exit says that the process of an external extension has ended. The result is
// the error type by which that fails the environment, unless it was told to.
func (s *Set) Exit(name string) (errorType string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	errorType = TypeCrash
	if e := s.find(name); e != nil && e.external {
		if err := e.step(StepExit); err == nil && e.state != Exited {
			errorType = map[State]string{InitError: TypeInitError, ExitError: TypeExitError}[e.state]
		}
	}
	s.changed()
	return errorType
}

// LaunchFailed says that an external extension could not be started; why is a
// word such as "PermissionDenied".
func (s *Set) LaunchFailed(name, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.find(name); e != nil && e.step(StepLaunchError) == nil {
		e.fault = why
	}
	s.changed()
}

// Reported is closed when an extension has reported an error; Fault tells
// which.
func (s *Set) Reported() <-chan struct{} { return s.reported }

// Fault is TypeInitError or TypeExitError, whichever an extension reported
// first, and the type that it gave itself; "" if none did.
func (s *Set) Fault() (errorType, own string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.list {
		if e.fault != "" && (e.state == InitError || e.state == ExitError) {
			own = e.fault
			break
		}
	}
	return s.fault, own
}

// Infos are what is known of all extensions, in the order in which they came.
func (s *Set) Infos() []Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Info
	for _, e := range s.list {
		all = append(all, Info{e.name, e.state, slices.Clone(e.events), e.fault})
	}
	return all
}

// find returns the extension of a name. mu is held.
func (s *Set) find(name string) *extension {
	if i := slices.IndexFunc(s.list, func(e *extension) bool { return e.name == name }); i >= 0 {
		return s.list[i]
	}
	return nil
}

// Error types of an environment that an extension has failed.
const (
	TypeInitError   = "Extension.InitError"
	TypeExitError   = "Extension.ExitError"
	TypeCrash       = "Extension.Crash"
	TypeLaunchError = "Extension.LaunchError"
)
