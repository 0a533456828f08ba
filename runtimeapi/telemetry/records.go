package telemetry

import (
	"math"
	"time"

	"github.com/hearth-faas/hearth"
)

// What the platform says, in the schema of 2025-01-29, which the older ones
// are part of.

// Phases of an init, and statuses of what has ended.
const (
	PhaseInit   = "init"
	PhaseInvoke = "invoke" // it is run again, within an invocation

	Success = "success"
	Failure = "failure" // the function reported an error
	Error   = "error"
	Timeout = "timeout"
)

// InitStart is the beginning of an init phase.
type InitStart struct {
	Type              hearth.InitType
	Phase             string
	RuntimeVersion    string
	RuntimeVersionARN string
	Function          string
	Version           string
	Instance          string // the log stream's name
	MemoryMiB         int
}

// InitStart publishes platform.initStart.
func (h *Hub) InitStart(i InitStart) {
	h.platform("platform.initStart", struct {
		Type       hearth.InitType `json:"initializationType"`
		Phase      string          `json:"phase"`
		Version    string          `json:"runtimeVersion,omitempty"`
		VersionARN string          `json:"runtimeVersionArn,omitempty"`
		Function   string          `json:"functionName"`
		FnVersion  string          `json:"functionVersion"`
		Instance   string          `json:"instanceId"`
		Memory     int64           `json:"instanceMaxMemory"`
	}{i.Type, i.Phase, i.RuntimeVersion, i.RuntimeVersionARN, i.Function, i.Version, i.Instance, int64(i.MemoryMiB) << 20})
}

// Init is the end of an init phase, or of the runtime's part of it.
type Init struct {
	Type      hearth.InitType
	Phase     string
	Status    string
	ErrorType string // "" for success
	Duration  time.Duration
}

// InitRuntimeDone publishes platform.initRuntimeDone.
func (h *Hub) InitRuntimeDone(i Init) {
	h.platform("platform.initRuntimeDone", struct {
		Type   hearth.InitType `json:"initializationType"`
		Phase  string          `json:"phase"`
		Status string          `json:"status"`
		Error  string          `json:"errorType,omitempty"`
	}{i.Type, i.Phase, i.Status, i.ErrorType})
}

// InitReport publishes platform.initReport.
func (h *Hub) InitReport(i Init) {
	h.platform("platform.initReport", struct {
		Type    hearth.InitType `json:"initializationType"`
		Phase   string          `json:"phase"`
		Status  string          `json:"status"`
		Error   string          `json:"errorType,omitempty"`
		Metrics metrics         `json:"metrics"`
	}{i.Type, i.Phase, i.Status, i.ErrorType, metrics{Duration: millis(i.Duration)}})
}

// Extension publishes platform.extension: what became of an extension in the
// init phase.
func (h *Hub) Extension(name, state string, events []string, errorType string) {
	if events == nil {
		events = []string{}
	}
	h.platform("platform.extension", struct {
		Name   string   `json:"name"`
		State  string   `json:"state"`
		Events []string `json:"events"`
		Error  string   `json:"errorType,omitempty"`
	}{name, state, events, errorType})
}

// Invocation is an invocation, at its beginning or at an end.
type Invocation struct {
	RequestID string
	Version   string
	TraceID   string

	Status    string
	ErrorType string // "" for success
	Began     time.Time
	Answered  time.Time // when the last byte of the response was there
	Duration  time.Duration
	Billed    time.Duration
	Bytes     int // of the response
	MemoryMiB int
	PeakMiB   float64
	Init      time.Duration // 0 if there was none
	// RuntimeDone is when the runtime asked for the next event; zero if it
	// has not. Extensions is how long extensions went on after that.
	RuntimeDone time.Time
	Extensions  time.Duration
}

type tracing struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

func tracingOf(id string) *tracing {
	if id == "" {
		return nil
	}
	return &tracing{"X-Amzn-Trace-Id", id}
}

type span struct {
	Name     string  `json:"name"`
	Start    string  `json:"start"`
	Duration float64 `json:"durationMs"`
}

func spanOf(name string, start time.Time, d time.Duration) span {
	return span{name, start.UTC().Format("2006-01-02T15:04:05.000Z"), millis(max(d, 0))}
}

type metrics struct {
	Duration float64 `json:"durationMs"`
	Bytes    *int    `json:"producedBytes,omitempty"`
}

// Start publishes platform.start.
func (h *Hub) Start(i Invocation) {
	h.platform("platform.start", struct {
		ID      string   `json:"requestId"`
		Version string   `json:"version"`
		Tracing *tracing `json:"tracing,omitempty"`
	}{i.RequestID, i.Version, tracingOf(i.TraceID)})
}

// RuntimeDone publishes platform.runtimeDone: the runtime has done with an
// event.
func (h *Hub) RuntimeDone(i Invocation) {
	var spans []span
	if !i.Answered.IsZero() {
		spans = append(spans, spanOf("responseLatency", i.Began, i.Answered.Sub(i.Began)))
		if !i.RuntimeDone.IsZero() {
			spans = append(spans, spanOf("runtimeOverhead", i.Answered, i.RuntimeDone.Sub(i.Answered)))
		}
	}
	older := i.Status
	if older == Error {
		older = Failure
	}
	h.send(&event{
		at: h.clock.Now(), kind: "platform.runtimeDone",
		record: marshal(struct {
			ID      string   `json:"requestId"`
			Status  string   `json:"status"`
			Error   string   `json:"errorType,omitempty"`
			Metrics metrics  `json:"metrics"`
			Tracing *tracing `json:"tracing,omitempty"`
			Spans   []span   `json:"spans,omitempty"`
		}{i.RequestID, i.Status, i.ErrorType, metrics{millis(i.Duration), &i.Bytes}, tracingOf(i.TraceID), spans}),
		older: marshal(struct {
			ID     string `json:"requestId"`
			Status string `json:"status"`
		}{i.RequestID, older}),
	})
}

// Report publishes platform.report, and platform.end to those who know it: an
// invocation is over.
func (h *Hub) Report(i Invocation) {
	h.platform("platform.end", struct {
		ID string `json:"requestId"`
	}{i.RequestID})
	type figures struct {
		Duration float64 `json:"durationMs"`
		Billed   int64   `json:"billedDurationMs"`
		Memory   int     `json:"memorySizeMB"`
		Peak     int     `json:"maxMemoryUsedMB"`
		Init     float64 `json:"initDurationMs,omitempty"`
	}
	var spans []span
	if i.Extensions > 0 {
		spans = append(spans, spanOf("extensionOverhead", i.RuntimeDone, i.Extensions))
	}
	f := figures{millis(i.Duration), i.Billed.Milliseconds(), i.MemoryMiB, int(math.Ceil(i.PeakMiB)), millis(i.Init)}
	h.send(&event{
		at: h.clock.Now(), kind: "platform.report",
		record: marshal(struct {
			ID      string   `json:"requestId"`
			Metrics figures  `json:"metrics"`
			Status  string   `json:"status"`
			Error   string   `json:"errorType,omitempty"`
			Tracing *tracing `json:"tracing,omitempty"`
			Spans   []span   `json:"spans,omitempty"`
		}{i.RequestID, f, i.Status, i.ErrorType, tracingOf(i.TraceID), spans}),
		older: marshal(struct {
			ID      string   `json:"requestId"`
			Metrics figures  `json:"metrics"`
			Tracing *tracing `json:"tracing,omitempty"`
		}{i.RequestID, f, tracingOf(i.TraceID)}),
	})
}

// Fault publishes platform.fault: the environment failed under an invocation,
// for the reason that the log gives.
func (h *Hub) Fault(requestID, reason, errorType string) {
	h.platform("platform.fault", "RequestId: "+requestID+" Error: "+reason+"\n"+errorType+"\n")
}

type subscriptionRecord struct {
	Name  string   `json:"name"`
	State string   `json:"state"`
	Types []string `json:"types"`
}

type droppedRecord struct {
	Reason  string `json:"reason"`
	Records int    `json:"droppedRecords"`
	Bytes   int    `json:"droppedBytes"`
}

func (h *Hub) platform(kind string, record any) {
	h.send(&event{at: h.clock.Now(), kind: kind, record: marshal(record)})
}

// millis is d in milliseconds with three decimals.
func millis(d time.Duration) float64 { return math.Round(float64(d)/1000) / 1000 }
