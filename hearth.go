// Package hearth holds the words of the system: the types and the small
// interfaces that the parts share, and no logic of their own.
//
// An invocation goes one way down and one way back:
//
//	client ─▶ lambda ─▶ frontend ─▶ manager ─▶ worker ─▶ sandbox ─▶ the user's code
//
// Package lambda speaks the wire, frontend authorizes and admits, manager
// decides which container serves, worker makes instances and containers and
// serves them the runtime API, sandbox isolates. Each arrow is an interface
// of this package (or, for the last, of package sandbox); in one process it
// is a function call. Nothing lower imports anything higher.
package hearth

import (
	"context"
	"time"
)

// Account owns functions. It is twelve digits.
type Account string

// DefaultAccount and DefaultRegion are what a first start makes unless told
// otherwise.
const (
	DefaultAccount Account = "000000000000"
	DefaultRegion  string  = "us-east-1"
)

// Latest is the version that can change; every other version, but for
// LatestPublished, is a number and never changes.
const Latest = "$LATEST"

// LatestPublished is the version of a function on a capacity provider that
// was published without a number. Publishing it again replaces it.
const LatestPublished = "$LATEST.PUBLISHED"

// Identity is who signed a request.
type Identity struct {
	Account Account
	// ARN names the caller, such as arn:aws:iam::000000000000:root or the
	// assumed role of a function.
	ARN string
	// UserID is what STS reports: the account for root, role-id:session for
	// a function's session.
	UserID string
	// Role is the ARN of the role that a session took on, with its path; "" of
	// who is no session of a role.
	Role string
	// Policy is a document in IAM's language beyond which a session may do
	// nothing, whoever it is of; "" is no limit.
	Policy string
	// Issued is when the credentials of a session were made, in Unix seconds; 0
	// of who has none, or none that tell.
	Issued int64
	// Tags are those of a session, beside its role's, as a URL's query, in order;
	// "" is none.
	Tags string
	// Source is the source identity that a session of a role was given, and
	// whatever it takes on; "" is none.
	Source string
	// Service is a service that calls by itself, such as s3.amazonaws.com,
	// in place of all the above.
	Service string
}

// Clock tells the time to everything that decides, so that the same code runs
// live and in simulation. Implementations are safe for concurrent use.
type Clock interface {
	Now() time.Time
	// AfterFunc runs f in its own goroutine once d has passed, unless the
	// returned timer was stopped before.
	AfterFunc(d time.Duration, f func()) Timer
}

// Timer is a pending AfterFunc.
type Timer interface {
	// Stop prevents the function from running and reports whether it did.
	Stop() bool
	// Reset changes the timer to run after d, as time.Timer.Reset does.
	Reset(d time.Duration) bool
}

// Functions tells what is registered. It is answered from memory: a lookup
// costs no disk access and sees every change that was acknowledged before it.
// Safe for concurrent use.
type Functions interface {
	// Resolve finds what an invocation of name with qualifier runs: qualifier
	// is "" or Latest, LatestPublished, a version number, or an alias; "" is
	// LatestPublished for a function on a capacity provider, else Latest. The
	// returned Function is shared and must not be changed. Errors:
	// ResourceNotFound, NoPublishedVersion.
	Resolve(ctx context.Context, account Account, name, qualifier string) (*Function, error)
}

// Invoker runs one invocation to its end. The frontend is the Invoker of
// everything that calls functions; the manager is the Invoker of the frontend.
//
// A function that failed is a Result whose FunctionError is set; an error
// means that the function was not run, or that its outcome is not known.
type Invoker interface {
	Invoke(ctx context.Context, inv *Invocation) (*Result, error)
}
