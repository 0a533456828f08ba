package hearth

import "time"

// Use is what one invocation has used and how it ended, as the worker has
// measured anyhow for its log. The zero Use says that nothing is known.
type Use struct {
	End       End
	MemoryMiB int     // what its container had
	PeakMiB   float64 // the most that its container has ever used
	Duration  time.Duration
	// CPU is the processor time that the container has used since it was last
	// looked at, and Busy how long it has worked meanwhile, this invocation
	// included. Zero Busy is not looked at: that takes longer than a quick
	// invocation does.
	CPU, Busy time.Duration
	// NetworkIn and NetworkOut are in bytes, as the container sees them.
	NetworkIn, NetworkOut int64
}

// End is how an invocation ended, as far as it matters whose fault that is.
type End uint8

// The ends.
const (
	EndUnknown End = iota // it did not run, or nobody knows
	EndOK
	EndError   // the function reported an error of its own
	EndMemory  // it failed because it had too little memory
	EndTimeout // it took longer than it may
	EndCrash   // its environment ended for another reason
)

// String returns the end in one word.
func (e End) String() string {
	if int(e) < len(endNames) {
		return endNames[e]
	}
	return "unknown"
}

var endNames = [...]string{"unknown", "ok", "error", "memory", "timeout", "crash"}

// MinMemoryMiB and MaxMemoryMiB bound the memory that a function can have, in MiB.
const (
	MinMemoryMiB = 128
	MaxMemoryMiB = 10240
)
