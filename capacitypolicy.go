package hearth

import (
	"cmp"
	"errors"
	"time"
)

// CapacityKind is a kind of this machine's capacity: a sub-pool (S07).
type CapacityKind string

// The kinds.
const (
	CapacityFixed     CapacityKind = "fixed"     // it is there, at one price
	CapacityVariable  CapacityKind = "variable"  // it comes and goes, and so does its price
	CapacityDedicated CapacityKind = "dedicated" // fixed, and one account's own
)

// CapacityPolicy is which capacity serves an account or a function, and what
// happens where that is short or goes away (S07).
type CapacityPolicy struct {
	// Kind is "fixed", the default, or "variable". An account that has
	// dedicated instances is served by those before fixed ones.
	Kind string `json:"kind,omitempty"`
	// MaxPrice is what a GiB of variable capacity may cost an hour for anything
	// to run there; 0 is any price.
	MaxPrice float64 `json:"maxPrice,omitempty"`
	// WhenShort is what comes of an invocation that finds no room in its own
	// capacity: "wait" until there is some, "spill" onto fixed capacity, or
	// "refuse". By default what is variable waits, and what is dedicated spills.
	WhenShort string `json:"whenShort,omitempty"`
	// WaitSeconds bounds how long an invocation waits in the manager for
	// capacity of its own; 0 is 60. Asynchronous ones wait on disk.
	WaitSeconds int `json:"waitSeconds,omitempty"`
	// Dedicated is how many instances an account has for itself alone, made
	// before anybody calls, with its functions loaded. Only an account's own
	// policy can say so.
	Dedicated int `json:"dedicated,omitempty"`
	// OnWithdraw is what comes of an invocation whose variable capacity is
	// withdrawn before it has ended in its time of grace: it is run again on
	// variable capacity ("retry", the default), or on fixed ("move"), or it
	// fails ("fail").
	OnWithdraw string `json:"onWithdraw,omitempty"`
	// DelaySeconds marks asynchronous invocations as not time-sensitive: so long
	// after they were accepted they are started at the latest. 0 is that they
	// are started at once.
	DelaySeconds int `json:"delaySeconds,omitempty"`
	// DelayBelow is a price at which what is delayed starts in any case; 0 is
	// that what is cheap is learned.
	DelayBelow float64 `json:"delayBelow,omitempty"`
}

// MaxDedicated bounds the instances that an account has for itself.
const MaxDedicated = 1000

// Check tells what is wrong.
func (p *CapacityPolicy) Check() error {
	return errors.Join(oneOf("kind", p.Kind, "fixed", "variable"), oneOf("whenShort", p.WhenShort, "wait", "spill", "refuse"),
		oneOf("onWithdraw", p.OnWithdraw, "retry", "move", "fail"),
		between("maxPrice", p.MaxPrice, 0, 1e9), between("delayBelow", p.DelayBelow, 0, 1e9),
		between("waitSeconds", p.WaitSeconds, 0, 900), between("delaySeconds", p.DelaySeconds, 0, 7*24*3600),
		between("dedicated", p.Dedicated, 0, MaxDedicated))
}

// Variable reports whether variable capacity serves.
func (p *CapacityPolicy) Variable() bool { return p.Kind == string(CapacityVariable) }

// Short is what comes of an invocation that finds no room in capacity of that
// kind: "wait", "spill" or "refuse".
func (p *CapacityPolicy) Short(kind CapacityKind) string {
	if kind == CapacityVariable {
		return cmp.Or(p.WhenShort, "wait")
	}
	return cmp.Or(p.WhenShort, "spill")
}

// Withdrawn is what comes of an invocation whose capacity is withdrawn.
func (p *CapacityPolicy) Withdrawn() string { return cmp.Or(p.OnWithdraw, "retry") }

// Wait is how long an invocation waits for capacity of its own.
func (p *CapacityPolicy) Wait() time.Duration {
	return time.Duration(cmp.Or(p.WaitSeconds, 60)) * time.Second
}

// Delay is how long after it was accepted what is not time-sensitive is started
// at the latest; 0 is that it is started at once.
func (p *CapacityPolicy) Delay() time.Duration { return time.Duration(p.DelaySeconds) * time.Second }
