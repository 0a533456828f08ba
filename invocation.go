package hearth

import (
	"io"
	"time"
)

// Invocation is one request to run a function. It has one request id from the
// first byte to the last log line. The layers fill in Timeline as it passes
// through them; an Invocation is used by one goroutine at a time.
type Invocation struct {
	RequestID string // a UUID
	Caller    Identity

	// Account, Name and Qualifier are what the caller asked for; Function is
	// what the frontend resolved them to.
	Account   Account
	Name      string
	Qualifier string
	Function  *Function
	// InvokedARN is the ARN with the qualifier as the caller gave it.
	InvokedARN string

	DryRun        bool
	Payload       []byte // JSON; at most MaxPayload bytes
	ClientContext string // JSON, decoded from its base64
	// APIKey is the SHA-256 of the API key that the invocation came with, if that
	// was taken out of it when it was accepted as an event; nil otherwise.
	APIKey    []byte
	CognitoID string
	TraceID   string // X-Amzn-Trace-Id, made if the caller sent none
	TenantID  string
	// Within is the container from whose code the call came; "" if it came from
	// outside.
	Within string
	Tail   bool // the caller wants the last 4 KiB of the log
	// RequireCode is the code that the caller insists on: NewestCode, or a
	// package's SHA-256 in hexadecimal. It waits for an update that brings it.
	// "" takes what answers at the moment.
	RequireCode string
	// Recompute: the caller insists that the function is run, though it be
	// declared idempotent and nothing has changed.
	Recompute bool
	// Source is set if the invocation came through a function URL, or from a
	// service for a resource; nil otherwise.
	Source *Source
	// Authorized: that it may be made was decided when it was taken in, as an
	// event or with its execution. Policies are not asked again.
	Authorized bool

	// Async: the caller does not wait for the function.
	Async bool
	// DurableName is what the caller asks that the execution of a durable
	// function be called; "" leaves it to be named.
	DurableName string
	// DurableARN is the durable execution that this invocation is one of, if
	// it comes with it. It is filled in for one that starts an execution.
	DurableARN string

	// Stream, when set, is given the response's bytes as the function sends
	// them; Result.Payload then stays empty unless the function failed
	// before its first byte.
	Stream ResponseStream

	// Capacity is the kind that this invocation takes whatever its function's
	// policy says: CapacityFixed, or "" for what the policy says.
	Capacity CapacityKind
	// MemoryMiB is the memory that this invocation, and no other, asks for at
	// least; 0 is what the function has.
	MemoryMiB int
	// Use is filled in by the worker when the function has run.
	Use Use

	// Handing, if it is set, is called before a container is given the event,
	// each time that one is. Until it was called the function has not seen it.
	Handing func()

	// Placement is filled in by the manager when it has chosen a container.
	// Its zero value means that none was.
	Placement Placement
	// Recorded is filled in with the id of the request that was run, if the
	// answer is that one's; "" is a run of its own.
	Recorded string
	// Outcome is filled in by the frontend when the invocation has ended:
	// "ok", the error type that the function reported, or the Kind of the
	// error that refused it.
	Outcome  string
	Timeline Timeline
}

// Source is what policies may ask about an invocation beside its caller. What
// is not known is "".
type Source struct {
	ARN              string  // the resource that a service invokes for, such as a bucket
	Account          Account // whose that resource is
	OrganizationID   string  // of the caller
	EventSourceToken string
	URLAuthType      string // "NONE" or "AWS_IAM": it came through a function URL of that kind
}

// Placement is what the manager chose for an invocation, and what it saw when
// it chose. After another container had to be tried it is that of the last.
type Placement struct {
	Path      Path
	Why       string // a sentence without the final period
	Node      string // "" is that there is only one
	Fleet     string // that the node was chosen of: "low", "high", or "" if there is only one node
	Instance  string
	Container string
	First     bool // the container has run nothing before
	// Withheld is why another account's code could not be run: for its owner.
	Withheld string
	Knew     Knowledge
	// Capacity is the kind that it ran on, Price what a GiB of that cost an hour
	// when it began, and Cost what it has cost in all, also where it was cut. ""
	// where capacity is of one kind and has no price.
	Capacity    CapacityKind
	Price, Cost float64
}

// NewestCode is what Invocation.RequireCode names the newest code by that was
// accepted.
const NewestCode = "newest"

// MaxPayload bounds a synchronous request and a buffered response, in bytes.
const MaxPayload = 6*1024*1024 + 100

// LogTail is how much of the log Invocation.Tail asks for, in bytes.
const LogTail = 4096

// ResponseStream takes a streamed response. Start is called once, before the
// first Write. Write may block, which slows the function down, but not beyond
// the deadline that Start is given: the function's own. After an error nothing
// more is written; the function runs to its end all the same.
type ResponseStream interface {
	Start(contentType string, deadline time.Time) error
	io.Writer
}

// Result is what came of an invocation that ran.
type Result struct {
	Payload       []byte // JSON
	ContentType   string // "" is application/json
	FunctionError string // "", "Handled" or "Unhandled"
	Version       string // the version that ran
	LogTail       []byte // nil unless asked for
}

// Stage is a part of an invocation's way, in the order in which it is passed.
type Stage uint8

// The stages. Attach, Boot and Init are zero when a container was reused.
const (
	StageParse  Stage = iota // read and decode the request
	StageVerify              // check the signature
	StageAdmit               // resolve the function, check limits
	StagePlace               // find or wait for a container
	StageAttach              // put the code into a sandbox, set its limits
	StageBoot                // start the runtime process
	StageInit                // the runtime loads the user's code
	StageRun                 // hand over the event, wait for the response
	StageAnswer              // encode and write the answer
	Stages                   // how many there are
)

// String returns the stage's name in lower case.
func (s Stage) String() string {
	if s < Stages {
		return [Stages]string{"parse", "verify", "admit", "place", "attach", "boot", "init", "run", "answer"}[s]
	}
	return "unknown"
}

// Timeline is an invocation's time, split by stage. The stages follow one
// another, so that their sum is the whole.
type Timeline struct {
	Began time.Time // when the first byte was read
	Spent [Stages]time.Duration
	mark  time.Time
}

// Begin starts the timeline at t.
func (t *Timeline) Begin(at time.Time) { t.Began, t.mark = at, at }

// End says that stage s, and with it everything since the previous End, ended
// at the given time. Time that no stage claimed counts to the next one ended.
func (t *Timeline) End(s Stage, at time.Time) {
	if t.mark.IsZero() {
		t.Begin(at)
		return
	}
	t.Spent[s] += at.Sub(t.mark)
	t.mark = at
}

// Total is the sum of the stages.
func (t *Timeline) Total() (d time.Duration) {
	for _, s := range t.Spent {
		d += s
	}
	return d
}
