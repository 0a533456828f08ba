// Package control is Hearth's own small API, under /_hearth/v1/: what the
// Lambda API has no words for. GET reads and never changes anything; the few
// things that can be done are a POST each.
//
// The handler knows none of the parts that it tells about: each is a small
// interface here, over plain types, which the server fills in. The client
// signs like every client of the Lambda API, for the service "hearth".
package control

import (
	"context"
	"time"

	hearth "github.com/hearth-faas/hearth"
)

// Prefix is where the API lives.
const Prefix = "/_hearth/v1"

// SigningService is the service name in the credential scope of a signature.
const SigningService = "hearth"

// Snapshot is what this machine holds at one moment.
type Snapshot struct {
	At time.Time `json:"at"`
	// MemoryMiB is what may be promised to functions, CommittedMiB what is.
	MemoryMiB    int `json:"memoryMiB"`
	CommittedMiB int `json:"committedMiB"`
	// PoolBudgetMiB bounds the warming pool, PoolMiB is what it holds.
	PoolBudgetMiB int        `json:"poolBudgetMiB"`
	PoolMiB       float64    `json:"poolMiB"`
	Instances     []Instance `json:"instances"`
	// Pool is what the warming pool has of each boot.
	Pool []Shelf `json:"pool"`
	// Subpools are the kinds of capacity; absent where there is one, without a
	// price.
	Subpools []Subpool `json:"subpools,omitempty"`
	// InFlight counts the invocations being served or waiting, Waiting those of
	// them that have no container yet, of all accounts.
	InFlight int `json:"inFlight"`
	Waiting  int `json:"waiting"`
	// Placed counts invocations since the start by the path to their
	// container, of all accounts.
	Placed map[hearth.Path]uint64 `json:"placed"`
}

// Shelf is what the warming pool has of one boot, and what it expects.
type Shelf struct {
	Boot   hearth.Boot `json:"boot"` // "" is nothing but the sandbox
	Ready  int         `json:"ready"`
	Making int         `json:"making"`
	// Expected is how many will be taken before the pool has made up for them.
	Expected float64 `json:"expected"`
	Trend    string  `json:"trend"` // steady, rising or falling
}

// Instance is one isolation boundary. Account is empty while it waits in the
// warming pool.
type Instance struct {
	ID      string         `json:"id"`
	Account hearth.Account `json:"account,omitempty"`
	// Owner is whose code it runs, of what another account shares with Account:
	// it runs nothing else.
	Owner hearth.Account `json:"owner,omitempty"`
	// Capacity is the kind that it is of, if that is not fixed.
	Capacity   hearth.CapacityKind `json:"capacity,omitempty"`
	Since      time.Time           `json:"since"`     // when it was made
	MemoryMiB  int                 `json:"memoryMiB"` // what it offers to containers; 0 in the pool
	Containers []Container         `json:"containers"`
}

// Container is one execution environment, or a slot for one.
type Container struct {
	ID    string         `json:"id"`
	State ContainerState `json:"state"`
	Boot  hearth.Boot    `json:"boot,omitempty"`
	Since time.Time      `json:"since"` // when it was made
	// IdleMillis counts from its last work.
	IdleMillis int64 `json:"idleMillis,omitempty"`

	// The rest is empty in a slot.
	Function    string  `json:"function,omitempty"`
	Version     string  `json:"version,omitempty"`
	Generation  uint64  `json:"generation,omitempty"`  // of the code and configuration
	Tenant      string  `json:"tenant,omitempty"`      // that it serves for ever, of a function that isolates them
	Provisioned bool    `json:"provisioned,omitempty"` // made before anybody called
	Prepared    bool    `json:"prepared,omitempty"`    // made on a prediction, and not used yet
	Invocations int64   `json:"invocations"`
	LimitMiB    int     `json:"limitMiB,omitempty"`
	UsedMiB     float64 `json:"usedMiB"`
	PeakMiB     float64 `json:"peakMiB"`
	CPUMillis   int64   `json:"cpuMillis"`
}

// ContainerState is what a container does.
type ContainerState string

// The states.
const (
	StateReady   ContainerState = "ready"   // a slot that waits for code
	StateLoading ContainerState = "loading" // code attached, init running
	StateBusy    ContainerState = "busy"    // serves an invocation
	StateIdle    ContainerState = "idle"    // loaded, without work
	StateFrozen  ContainerState = "frozen"  // idle, and its processes are stopped
	StateEnding  ContainerState = "ending"  // being removed
)

// DecisionQuery selects decisions; an empty field selects all.
type DecisionQuery struct {
	Account   hearth.Account
	Owner     hearth.Account // of the code that Account ran, in place of Account
	RequestID string
	Function  string
	Kind      hearth.DecisionKind
	Limit     int // at most this many, the newest
}

// Runtime is a runtime of the Lambda API and what serves it here.
type Runtime struct {
	Name string `json:"name"` // such as python3.12
	// Usable is whether functions of this runtime run here.
	Usable bool `json:"usable"`
	// Exact is whether it is served by an interpreter of its own version.
	Exact       bool   `json:"exact"`
	Interpreter string `json:"interpreter,omitempty"` // path; empty if it needs none
	Version     string `json:"version,omitempty"`     // of the interpreter
	Note        string `json:"note,omitempty"`        // what a user should know
}

// Report tells what this machine gives.
type Report struct {
	Version string  `json:"version"` // Hearth's
	Driver  string  `json:"driver"`
	Root    bool    `json:"root"`
	Checks  []Check `json:"checks"`
}

// Check is one thing that Hearth does if the machine lets it.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`        // how it is done, or why it can't be
	Fix    string `json:"fix,omitempty"` // what to do to have it
}

// LogQuery selects log lines.
type LogQuery struct {
	Account   hearth.Account
	Function  string
	RequestID string    // "" is all
	Since     time.Time // zero is from the first that is kept
	Follow    bool      // go on with new lines until the context ends
}

// LogLine is one line of a function's log.
type LogLine struct {
	At        time.Time `json:"at"`
	RequestID string    `json:"requestId,omitempty"`
	Stream    string    `json:"stream,omitempty"` // the log stream, one per container
	Message   string    `json:"message"`          // without the newline
}

// Instances tells what this machine holds. Safe for concurrent use.
type Instances interface {
	Snapshot(ctx context.Context) (Snapshot, error)
}

// Decisions looks up decisions, newest first. Safe for concurrent use.
type Decisions interface {
	Query(ctx context.Context, q DecisionQuery) ([]hearth.Decision, error)
}

// Runtimes lists the runtimes of the Lambda API. Safe for concurrent use.
type Runtimes interface {
	List(ctx context.Context) ([]Runtime, error)
}

// Doctor reports on this machine. Safe for concurrent use.
type Doctor interface {
	Report(ctx context.Context) (Report, error)
}

// Logs reads functions' logs. Read calls emit with each line, oldest first,
// and returns what emit returned if that is an error. With q.Follow it
// returns when ctx is done, with nil. Safe for concurrent use.
type Logs interface {
	Read(ctx context.Context, q LogQuery, emit func(LogLine) error) error
}

// ParkedEvent is an asynchronous invocation that was given up and that
// nothing else took.
type ParkedEvent struct {
	ID        string    `json:"id"` // its request id
	Function  string    `json:"function"`
	Qualifier string    `json:"qualifier,omitempty"`
	Accepted  time.Time `json:"accepted"`
	Attempts  int       `json:"attempts"` // that ran the function
	Reason    string    `json:"reason"`
	Last      string    `json:"last"` // what the last attempt answered
}

// ParkedEvents lists parked events, the oldest first, and takes them back into
// the queue. Safe for concurrent use.
type ParkedEvents interface {
	List(ctx context.Context, account hearth.Account, limit int) ([]ParkedEvent, error)
	// Redrive takes one back. Errors: ResourceNotFound.
	Redrive(ctx context.Context, account hearth.Account, id string) error
}
