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
	CognitoID     string
	TraceID       string // X-Amzn-Trace-Id, made if the caller sent none
	TenantID      string
	Tail          bool // the caller wants the last 4 KiB of the log

	// Stream, when set, is given the response's bytes as the function sends
	// them; Result.Payload then stays empty unless the function failed
	// before its first byte.
	Stream ResponseStream

	// Placement is filled in by the manager when it has chosen a container.
	// Its zero value means that none was.
	Placement Placement
	// Outcome is filled in by the frontend when the invocation has ended:
	// "ok", the error type that the function reported, or the Kind of the
	// error that refused it.
	Outcome  string
	Timeline Timeline
}

// Placement is what the manager chose for an invocation, and what it saw when
// it chose. After another container had to be tried it is that of the last.
type Placement struct {
	Path      Path
	Why       string // a sentence without the final period
	Instance  string
	Container string
	Knew      Knowledge
}

// MaxPayload bounds a synchronous request and a buffered response, in bytes.
const MaxPayload = 6*1024*1024 + 100

// LogTail is how much of the log Invocation.Tail asks for, in bytes.
const LogTail = 4096

// ResponseStream takes a streamed response. Start is called once, before the
// first Write; Write may block, which slows the function down.
type ResponseStream interface {
	Start(contentType string) error
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
