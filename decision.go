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
	// Owner is whose code it is, if that is shared with Account: the instance
	// serves the two and nobody else.
	Owner Account `json:"owner,omitempty"`
	// Of a run of Owner's code, what Owner may be told and Account may not: what
	// the function is called there, by what it is shared (an offer, or a stage of a
	// task API), and why it could not be run, in Hearth's words.
	OwnerFunction string `json:"-"`
	Terms         string `json:"-"`
	Withheld      string `json:"-"`

	Function string `json:"function,omitempty"`
	Version  string `json:"version,omitempty"`
	// Generation is that of the code and configuration that ran, or that the
	// decision is about; 0 is of none, or not said.
	Generation uint64 `json:"generation,omitempty"`

	Chosen    string `json:"chosen"` // a Path for DecisionPlace, else a word of its own
	Why       string `json:"why"`
	Node      string `json:"node,omitempty"`
	Fleet     string `json:"fleet,omitempty"` // that the node was chosen of
	Instance  string `json:"instance,omitempty"`
	Container string `json:"container,omitempty"`

	Knew Knowledge `json:"knew"`

	// Capacity is the kind of capacity that was chosen, or is spoken of; Price is
	// what a GiB of it cost an hour then, and Cost what an invocation cost in all.
	// "" where there is one kind, without a price.
	Capacity CapacityKind `json:"capacity,omitempty"`
	Price    float64      `json:"price,omitempty"`
	Cost     float64      `json:"cost,omitempty"`

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
	DecisionProvision DecisionKind = "provision" // a container was made, or could not be, ahead of any invocation
	DecisionPrepare   DecisionKind = "prepare"   // a container was made on a prediction, or not; it was used ("hit") or not ("waste")
	DecisionEvict     DecisionKind = "evict"     // an idle container or instance was ended
	DecisionPack      DecisionKind = "pack"      // an instance was given up since its account's load needs one less
	DecisionLost      DecisionKind = "lost"      // a container died by itself
	DecisionFetch     DecisionKind = "fetch"     // a package was brought to this machine, is tried again, or was given up
	DecisionUpdate    DecisionKind = "update"    // a step in which new code takes over from old
	DecisionSize      DecisionKind = "size"      // how much memory a function should have, or its containers get
	DecisionCapacity  DecisionKind = "capacity"  // what capacity there is: a quote of variable one, an instance of an account's own
	DecisionWithdraw  DecisionKind = "withdraw"  // variable capacity went, and what became of what was on it
	DecisionRoute     DecisionKind = "route"     // which fleet's code it is, when that changes, and from which fleet it was kept
	DecisionYield     DecisionKind = "yield"     // whose code runs only on what others leave of the processors, while accounts compete for them
	DecisionNode      DecisionKind = "node"      // a node joined, drains, left, or was lost
	DecisionEvent     DecisionKind = "event"     // what becomes of an asynchronous invocation after an attempt
	DecisionPoll      DecisionKind = "poll"      // how many batches of an event source may be at work, and what becomes of records that fail
	DecisionProxy     DecisionKind = "proxy"     // by which definition a call of a proxy API was served, and what came of it
	DecisionBackfill  DecisionKind = "backfill"  // from when on items of a growing data set are new, and in which order items are called
	DecisionAvoid     DecisionKind = "avoid"     // whether the result of a function that is declared idempotent was recorded
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
