package account

import (
	"fmt"
	"regexp"
	"time"

	"github.com/hearth-faas/hearth"
)

// State is what may be done in an account.
type State string

// The states. Deleting ends in there being no account, whatever happens.
const (
	Active    State = "Active"
	Suspended State = "Suspended"
	Deleting  State = "Deleting"
)

// next are the states that may follow one.
var next = map[State][]State{
	Active:    {Suspended, Deleting},
	Suspended: {Active, Deleting},
	Deleting:  {},
}

// Account is one account. Its JSON is what is on disk.
type Account struct {
	ID      hearth.Account `json:"id"`
	Name    string         `json:"name"` // no other account's, whatever the case
	State   State          `json:"state"`
	Reason  string         `json:"reason,omitempty"` // of a suspension, told to whoever is refused
	Created time.Time      `json:"created"`          // to the second
	Quotas  Quotas         `json:"quotas,omitzero"`
}

// Root is the ARN of the account's root.
func (a *Account) Root() string { return rootARN(a.ID) }

func rootARN(id hearth.Account) string { return "arn:aws:iam::" + string(id) + ":root" }

// Quotas bound what an account may use. 0 is what the server gives to every
// account.
type Quotas struct {
	Concurrency int   `json:"concurrency,omitempty"` // invocations at once
	Functions   int   `json:"functions,omitempty"`   // how many there may be
	CodeBytes   int64 `json:"codeBytes,omitempty"`   // of all functions' and layers' packages
	Requests    int   `json:"requests,omitempty"`    // of the API beside invocations, in a second
	Weight      int   `json:"weight,omitempty"`      // how many accounts' turns it has, while processors are short and at having containers made
}

// MaxWeight is the largest weight: an account has as many invocations of its own
// beside what the accounts share as its weight is.
const MaxWeight = 100

// Bounds of a quota, beyond which it is a slip of the pen.
const maxQuota = 1_000_000_000_000_000

// Check tells whether the quotas can be. Errors: InvalidParameter.
func (q Quotas) Check() error {
	for _, f := range []struct {
		name  string
		value int64
	}{{"concurrency", int64(q.Concurrency)}, {"functions", int64(q.Functions)}, {"codeBytes", q.CodeBytes}, {"requests", int64(q.Requests)}} {
		if f.value < 0 || f.value > maxQuota {
			return hearth.Errorf(hearth.InvalidParameter, "The quota %s can't be %d: it is a number from 1, or 0 for what every account has.", f.name, f.value)
		}
	}
	if q.Weight < 0 || q.Weight > MaxWeight {
		return hearth.Errorf(hearth.InvalidParameter, "The weight can't be %d: it is a number from 1 to %d, or 0 for what every account has, which is 1.", q.Weight, MaxWeight)
	}
	return nil
}

var (
	idShape   = regexp.MustCompile(`^[0-9]{12}$`)
	nameShape = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
)

// IsID reports whether text is an account's id: twelve digits.
func IsID(text string) bool { return idShape.MatchString(text) }

func checkName(name string) error {
	if !nameShape.MatchString(name) || IsID(name) {
		return hearth.Errorf(hearth.InvalidParameter, "%q is no name for an account: up to 64 letters, digits, dots, hyphens and underscores, beginning with a letter or digit, and not an account's twelve digits.", clip(name))
	}
	return nil
}

// clip is a text short enough to be told.
func clip(text string) string {
	if len(text) > 80 {
		return fmt.Sprintf("%.80s…", text)
	}
	return text
}
