package hearth

import "time"

// Metered is what containers have used since it was told last: a difference,
// which is added to what was there before. The zero value is nothing.
type Metered struct {
	Calls  int64 `json:"calls,omitempty"`  // invocations that ran
	Errors int64 `json:"errors,omitempty"` // of those, that did not end well
	Starts int64 `json:"starts,omitempty"` // init phases: cold starts, whoever waited for them
	// Busy is the invocations' time from the event to the answer.
	Busy time.Duration `json:"busy,omitempty"`
	// CPU is the processor time that the kernel has counted for all processes
	// of the containers.
	CPU time.Duration `json:"cpu,omitempty"`
	// Allotted is the memory that the containers had, times Busy; Held is what
	// the kernel has counted as theirs, times all of the time that they were
	// there, as far as looks now and then show it. Both in MiB·s.
	Allotted float64 `json:"allotted,omitempty"`
	Held     float64 `json:"held,omitempty"`
	// NetworkIn and NetworkOut are bytes of IP packets, as the containers see
	// them.
	NetworkIn  int64 `json:"networkIn,omitempty"`
	NetworkOut int64 `json:"networkOut,omitempty"`
}

// Add adds o.
func (m *Metered) Add(o *Metered) {
	m.Calls += o.Calls
	m.Errors += o.Errors
	m.Starts += o.Starts
	m.Busy += o.Busy
	m.CPU += o.CPU
	m.Allotted += o.Allotted
	m.Held += o.Held
	m.NetworkIn += o.NetworkIn
	m.NetworkOut += o.NetworkOut
}

// Meter is told what containers use. It is not called on an invocation's way.
// Safe for concurrent use.
type Meter interface {
	// Used adds to what f has used; a nil f is what belongs to nobody, such as
	// the boots of the warming pool. It keeps nothing of u.
	Used(f *Function, u *Metered)
}
