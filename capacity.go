package hearth

import (
	"context"
	"time"
)

// Boot names what a container slot already has running before it knows its
// function: "" is nothing but the sandbox, otherwise it is the name of an
// interpreter with Hearth's runtime client loaded, such as "node20" or
// "python3.11".
type Boot string

// Worker makes this machine's instances and containers. Safe for concurrent
// use. Its errors are of kind Service unless said otherwise.
type Worker interface {
	// BootOf tells which slots can serve f: those with the returned boot,
	// and, more slowly, those with none.
	BootOf(f *Function) Boot
	// NewInstance makes an instance that belongs to no account yet, with one
	// ready slot of the given boot.
	NewInstance(ctx context.Context, boot Boot) (Instance, error)
	// SlotMiB is what a ready slot of the given boot costs while it waits.
	SlotMiB(boot Boot) float64
}

// Instance is the isolation boundary: it belongs to no account (in the
// warming pool) or to exactly one, for ever, and is never handed back.
// Safe for concurrent use.
type Instance interface {
	ID() string
	// NewSlot makes another container slot in the instance.
	NewSlot(ctx context.Context, boot Boot) (Container, error)
	// FirstSlot is the slot that the instance was made with.
	FirstSlot() Container
	// Destroy ends everything in the instance and removes every trace of it.
	// It may be called more than once.
	Destroy() error
}

// Container is one execution environment inside an instance: a slot until it
// is loaded, then bound to one function version for ever. It serves one
// invocation at a time; the manager sees to that. Destroy, Done and Usage may
// be called at any time from any goroutine, the rest by one at a time.
type Container interface {
	ID() string
	// Load puts f's code into the slot, starts or instructs the runtime and
	// runs the init phase. It ends the stages Attach, Boot and Init of t.
	// An init that fails or takes over ten seconds is no error here: it is
	// run again by the first Invoke under the function's own timeout, which
	// then reports it.
	Load(ctx context.Context, f *Function, t *Timeline) error
	// Provision is Load ahead of any invocation: the function is told so
	// (InitProvisioned), and an init that fails or takes over ten seconds is
	// an error of kind InitFailed.
	Provision(ctx context.Context, f *Function, t *Timeline) error
	// Invoke serves one invocation and ends stage Run. It thaws a container
	// that Idle froze. When it returns with reusable false the container can
	// serve no more and must be destroyed. An error of kind
	// ContainerGone means that the environment had died before the function
	// saw the event, so that another container may be tried.
	Invoke(ctx context.Context, inv *Invocation) (r *Result, reusable bool, err error)
	// Settled is nil, or a channel that is closed when the extensions of the
	// container have done with the invocation that Invoke served last: until
	// then it is busy, though its caller has the response, and must not be
	// invoked or told that it is idle. It is asked after an Invoke that
	// returned reusable; the container may turn out to have died by then.
	Settled() <-chan struct{}
	// Idle tells the container that it has no work: it freezes after a
	// moment, unless invoked before.
	Idle()
	// Done is closed when the environment has died, for whatever reason.
	Done() <-chan struct{}
	Usage() Usage
	// Destroy ends everything in the container. Extensions that asked for it
	// are told, and have two seconds at most.
	Destroy() error
}

// Usage is what a container has used since it was made.
type Usage struct {
	CPU        time.Duration
	MemoryMiB  float64 // now
	PeakMiB    float64
	NetworkIn  int64 // bytes
	NetworkOut int64 // bytes
}

// Path is the way by which an invocation found its container, in the order of
// preference of S00.3.
type Path string

// The paths.
const (
	PathReuse     Path = "reuse"     // a: a container that had the code loaded
	PathContainer Path = "container" // b: a new container in an instance of the account
	PathWarm      Path = "warm"      // c: an instance from the warming pool
	PathCold      Path = "cold"      // d: nothing was ready

	// Of requests that needed no container (S14).
	PathRecorded Path = "recorded" // the answer was that of an earlier, equal request
	PathJoined   Path = "joined"   // an equal request ran at the same time
)
