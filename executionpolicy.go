package hearth

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ExecutionPolicy is how the systems that decide for a function are to do so.
// A nil field leaves its system as the account has it, and where that says
// nothing as it is by default: on, and safe. The zero value of a system's
// policy is that default. The JSON is what users write.
type ExecutionPolicy struct {
	Update     *UpdatePolicy     `json:"update,omitempty"`
	Sizing     *SizingPolicy     `json:"sizing,omitempty"`
	Prediction *PredictionPolicy `json:"prediction,omitempty"`
	PreTrigger *PreTriggerPolicy `json:"preTrigger,omitempty"`
	Deadline   *DeadlinePolicy   `json:"deadline,omitempty"`
	Capacity   *CapacityPolicy   `json:"capacity,omitempty"`
	Routing    *RoutingPolicy    `json:"routing,omitempty"`
}

// UpdatePolicy is how new code takes over (S01).
type UpdatePolicy struct {
	// Mode is "overlap", the default: the old code answers until the new is
	// ready in containers beside its own. With "wait" invocations that come
	// while an update is in progress wait for the new code.
	Mode string `json:"mode,omitempty"`
	// MaxMiB bounds the memory of the containers of new code beside those of
	// the old; 0 is a quarter of what the machine gives to functions.
	MaxMiB int `json:"maxMiB,omitempty"`
	// WaitSeconds is how long these may take to be ready. After that the new
	// code takes over all the same. 0 is 30; an alias's change waits for 10 at
	// most.
	WaitSeconds int `json:"waitSeconds,omitempty"`
}

// Check tells what is wrong.
func (p *UpdatePolicy) Check() error {
	switch {
	case p.MaxMiB < 0:
		return fmt.Errorf("maxMiB %d is less than none", p.MaxMiB)
	case p.WaitSeconds < 0 || p.WaitSeconds > 900:
		return fmt.Errorf("waitSeconds %d is not between 0 and 900", p.WaitSeconds)
	}
	return oneOf("mode", p.Mode, "overlap", "wait")
}

// Waits reports whether invocations wait for new code.
func (p *UpdatePolicy) Waits() bool { return p.Mode == "wait" }

// Wait is how long containers of new code may take to be ready.
func (p *UpdatePolicy) Wait() time.Duration {
	if p.WaitSeconds == 0 {
		return 30 * time.Second
	}
	return time.Duration(p.WaitSeconds) * time.Second
}

// SizingPolicy is what comes of a function's measured use (S03).
type SizingPolicy struct {
	// Mode is "advise", the default: amounts of memory are suggested; "auto":
	// new containers get what is suggested; or "off": nothing is recorded.
	Mode string `json:"mode,omitempty"`
	// FailShare is which share of the latest executions must have been ended
	// for want of memory for more to be suggested; 0 is 0.05.
	FailShare float64 `json:"failShare,omitempty"`
	// Runs is how many executions there must have been with an amount before
	// more than it is suggested; 0 is 10. ShrinkRuns is the same before less
	// is; 0 is 100.
	Runs       int `json:"runs,omitempty"`
	ShrinkRuns int `json:"shrinkRuns,omitempty"`
	// MinMiB and MaxMiB bound what is suggested, and MaxMiB what an invocation
	// may ask for itself; 0 is 128 and 10,240.
	MinMiB int `json:"minMiB,omitempty"`
	MaxMiB int `json:"maxMiB,omitempty"`
}

// Off and Auto tell the mode.
func (p *SizingPolicy) Off() bool  { return p.Mode == "off" }
func (p *SizingPolicy) Auto() bool { return p.Mode == "auto" }

// Check tells what is wrong.
func (p *SizingPolicy) Check() error {
	if err := oneOf("mode", p.Mode, "advise", "auto", "off"); err != nil {
		return err
	}
	low, high := cmp.Or(p.MinMiB, MinMemoryMiB), cmp.Or(p.MaxMiB, MaxMemoryMiB)
	switch {
	case !(p.FailShare >= 0 && p.FailShare <= 1):
		return fmt.Errorf("failShare %v is not between 0 and 1", p.FailShare)
	case p.FailShare > 0 && p.FailShare < 0.001:
		return fmt.Errorf("failShare %v is less than 0.001", p.FailShare)
	case p.Runs < 0 || p.Runs > 1000:
		return fmt.Errorf("runs %d is not between 1 and 1000; 0 is the default", p.Runs)
	case p.ShrinkRuns < 0 || p.ShrinkRuns > 500:
		return fmt.Errorf("shrinkRuns %d is not between 1 and 500; 0 is the default", p.ShrinkRuns)
	case low < MinMemoryMiB || high > MaxMemoryMiB || low > high:
		return fmt.Errorf("minMiB %d and maxMiB %d are no range within %d and %d", low, high, MinMemoryMiB, MaxMemoryMiB)
	}
	return nil
}

// PredictionPolicy is how what a function is likely to call is made ready
// while it runs (S11).
type PredictionPolicy struct {
	Mode string `json:"mode,omitempty"` // "on", the default, or "off"
	// Threshold is how likely a call must be for a container to be made ready
	// for it; 0 is 0.5. A call half as likely or a little more has less made
	// ready for it.
	Threshold float64 `json:"threshold,omitempty"`
	// BudgetMiB bounds the memory that is ready, or being made so, for the
	// account on predictions; 0 is a quarter of what functions may use.
	BudgetMiB int `json:"budgetMiB,omitempty"`
	// Branches bounds for how many functions containers are made ready by one
	// run; 0 is 4.
	Branches int `json:"branches,omitempty"`
}

// Check tells what is wrong.
func (p *PredictionPolicy) Check() error {
	return errors.Join(oneOf("mode", p.Mode, "on", "off"), between("threshold", p.Threshold, 0, 1),
		between("budgetMiB", p.BudgetMiB, 0, 1<<30), between("branches", p.Branches, 0, 8))
}

// PreTriggerPolicy is how notices of coming invocations are heeded (S15).
type PreTriggerPolicy struct {
	Mode string `json:"mode,omitempty"` // "on", the default, or "off"
	// Confidence is how likely what is made ready should be enough; 0 is 0.8.
	Confidence float64 `json:"confidence,omitempty"`
	// WindowSeconds is how long after a trigger its invocations come at the
	// latest; 0 is 60.
	WindowSeconds float64 `json:"windowSeconds,omitempty"`
	// PerMinute bounds how often one trigger is heeded; 0 is 1,200.
	PerMinute int `json:"perMinute,omitempty"`
	// BudgetMiB is as that of the PredictionPolicy.
	BudgetMiB int `json:"budgetMiB,omitempty"`
}

// Check tells what is wrong.
func (p *PreTriggerPolicy) Check() error {
	return errors.Join(oneOf("mode", p.Mode, "on", "off"), between("confidence", p.Confidence, 0, 0.999),
		between("windowSeconds", p.WindowSeconds, 0, 3600), between("perMinute", p.PerMinute, 0, 1_000_000), between("budgetMiB", p.BudgetMiB, 0, 1<<30))
}

// DeadlinePolicy is how what a function calls without needing the answer yet is
// run (S10).
type DeadlinePolicy struct {
	// Mode is "on", the default: in spare capacity, and in time; or "off": at
	// once.
	Mode string `json:"mode,omitempty"`
}

// Check tells what is wrong.
func (p *DeadlinePolicy) Check() error { return oneOf("mode", p.Mode, "on", "off") }

// between tells whether a number is within its bounds.
func between[T int | float64](field string, v, low, high T) error {
	if v >= low && v <= high {
		return nil
	}
	return fmt.Errorf("%s %v is not from %v to %v", field, v, low, high)
}

// oneOf tells whether a word is "" or one of those.
func oneOf(field, word string, words ...string) error {
	if word == "" || slices.Contains(words, word) {
		return nil
	}
	return fmt.Errorf("%s %q is none of %s", field, word, strings.Join(words, ", "))
}
