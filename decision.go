package hearth

import "time"

// Decision is the record of one choice that the system made, with what it
// knew and why. Every invocation leaves exactly one of kind DecisionPlace or
// DecisionRefuse, recorded when it has ended.
type Decision struct {
	Seq  uint64        `json:"seq"`  // given by the Recorder, without gaps
	At   time.Time     `json:"at"`   // wall clock
	Mono time.Duration `json:"mono"` // since the server's start, monotonic, in nanoseconds
	Kind DecisionKind  `json:"kind"`

	RequestID string  `json:"requestId,omitempty"`
	Account   Account `json:"account,omitempty"`
	Function  string  `json:"function,omitempty"`
	Version   string  `json:"version,omitempty"`

	Chosen    string `json:"chosen"` // a Path for DecisionPlace, else a word of its own
	Why       string `json:"why"`
	Instance  string `json:"instance,omitempty"`
	Container string `json:"container,omitempty"`

	Knew Knowledge `json:"knew"`

	// Spent and Outcome are of an invocation: its time by stage in
	// nanoseconds (index is Stage), and "ok", a function error type or the
	// Kind of the error that refused it.
	Spent   [Stages]time.Duration `json:"spent"`
	Outcome string                `json:"outcome,omitempty"`
}

// DecisionKind says what was chosen about.
type DecisionKind string

// The kinds.
const (
	DecisionPlace     DecisionKind = "place"     // which container serves
	DecisionRefuse    DecisionKind = "refuse"    // an invocation was not admitted
	DecisionReplenish DecisionKind = "replenish" // an instance was made for the warming pool
	DecisionSpare     DecisionKind = "spare"     // a container was made whose caller had been served meanwhile
	DecisionEvict     DecisionKind = "evict"     // an idle container or instance was ended
	DecisionLost      DecisionKind = "lost"      // a container died by itself
)

// Knowledge is what the decider saw when it chose: what else there was.
type Knowledge struct {
	Idle      int `json:"idle"`      // containers with this code and nothing to do
	Busy      int `json:"busy"`      // containers with this code at work
	Slots     int `json:"slots"`     // ready slots in instances of the account that fit
	Room      int `json:"room"`      // instances of the account with room for one more
	Pool      int `json:"pool"`      // ready instances in the warming pool that fit
	Waiting   int `json:"waiting"`   // invocations waiting for the same code
	FreeMiB   int `json:"freeMiB"`   // memory that is not promised to anybody
	Committed int `json:"committed"` // memory promised, in MiB
}

// Recorder keeps decisions. Record copies d, sets its Seq, At and Mono where
// they are zero, never blocks on disk and is safe for concurrent use.
type Recorder interface {
	Record(d *Decision)
}
