package logs

import (
	"encoding/json"
	"math"
	"strings"
	"time"

	"github.com/hearth-faas/hearth"
)

// InitStart is what the platform says at the beginning of an init phase.
type InitStart struct {
	RuntimeVersion    string // such as "nodejs:22.v1"
	RuntimeVersionARN string
	Function          string
	Version           string
	Phase             string // "init", or "invoke" where it is run again
	Type              hearth.InitType
}

// InitReport is what the platform says of an init phase that did not go well.
type InitReport struct {
	Type      hearth.InitType
	Duration  time.Duration
	Phase     string // "init" or "invoke"
	Status    string // "timeout" or "error"
	ErrorType string // such as Runtime.ExitError
}

// Level orders how much a log event matters.
type Level uint8

// The levels, as the Lambda API spells them in LoggingConfig.
const (
	LevelNone Level = iota // not told
	LevelTrace
	LevelDebug
	LevelInfo
	LevelWarn
	LevelError
	LevelFatal
)

// ParseLevel reads a level's name, in any case; LevelNone for any other text.
func ParseLevel(s string) Level {
	for i, name := range [...]string{"TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"} {
		if strings.EqualFold(s, name) {
			return LevelTrace + Level(i)
		}
	}
	if strings.EqualFold(s, "WARNING") {
		return LevelWarn
	}
	if strings.EqualFold(s, "CRITICAL") {
		return LevelFatal
	}
	return LevelNone
}

// platformEvent is a platform event in the JSON log format. The types and
// fields are those of the Telemetry API, schema 2022-12-13.
type platformEvent struct {
	Time   string `json:"time"`
	Type   string `json:"type"`
	Record any    `json:"record"`
}

type startRecord struct {
	RequestID string `json:"requestId"`
	Version   string `json:"version"`
}

type runtimeDoneRecord struct {
	RequestID string       `json:"requestId"`
	Status    string       `json:"status"`
	ErrorType string       `json:"errorType,omitempty"`
	Metrics   *doneMetrics `json:"metrics,omitempty"`
}

type doneMetrics struct {
	Duration float64 `json:"durationMs"`
}

type reportRecord struct {
	RequestID string        `json:"requestId"`
	Metrics   reportMetrics `json:"metrics"`
	Tracing   *tracing      `json:"tracing,omitempty"`
	Status    string        `json:"status"`
	ErrorType string        `json:"errorType,omitempty"`
}

type reportMetrics struct {
	Duration  float64 `json:"durationMs"`
	Billed    int64   `json:"billedDurationMs"`
	MemoryMB  int     `json:"memorySizeMB"`
	MaxMemory int     `json:"maxMemoryUsedMB"`
	Init      float64 `json:"initDurationMs,omitempty"`
}

type tracing struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

type initStartRecord struct {
	InitType   string `json:"initializationType"`
	Phase      string `json:"phase"`
	Version    string `json:"runtimeVersion,omitempty"`
	VersionARN string `json:"runtimeVersionArn,omitempty"`
	Function   string `json:"functionName,omitempty"`
	FnVersion  string `json:"functionVersion,omitempty"`
}

type initReportRecord struct {
	InitType  string      `json:"initializationType"`
	Phase     string      `json:"phase"`
	Status    string      `json:"status"`
	ErrorType string      `json:"errorType,omitempty"`
	Metrics   doneMetrics `json:"metrics"`
}

type extensionRecord struct {
	Name   string   `json:"name"`
	State  string   `json:"state"`
	Events []string `json:"events"`
	Error  string   `json:"errorType,omitempty"`
}

type subscriptionRecord struct {
	Name  string   `json:"name"`
	State string   `json:"state"`
	Types []string `json:"types"`
}

// statusOf is how the JSON format spells a status.
func statusOf(status string) string {
	switch status {
	case "":
		return "success"
	case "error":
		return "error"
	default:
		return status
	}
}

// levelOf is the level at which the service logs an event with such a status.
func levelOf(status string, good Level) Level {
	if status == "" {
		return good
	}
	return LevelWarn
}

// millis is d in milliseconds with three decimals.
func millis(d time.Duration) float64 { return math.Round(float64(d)/1000) / 1000 }

// marshalEvent renders a platform event as one line.
func marshalEvent(at time.Time, kind string, record any) []byte {
	b, err := json.Marshal(platformEvent{Time: string(appendTime(nil, at)), Type: kind, Record: record})
	if err != nil {
		panic(err) // structs of strings and finite numbers always have a JSON form
	}
	return append(b, '\n')
}

func reportEvent(at time.Time, r *Report) []byte {
	rec := reportRecord{
		RequestID: r.RequestID, Status: statusOf(r.Status), ErrorType: r.ErrorType,
		Metrics: reportMetrics{
			Duration: millis(r.Duration), Billed: r.Billed().Milliseconds(), MemoryMB: r.MemoryMiB,
			MaxMemory: int(math.Ceil(r.PeakMiB)), Init: millis(r.InitDuration),
		},
	}
	if r.TraceID != "" {
		rec.Tracing = &tracing{"X-Amzn-Trace-Id", r.TraceID}
	}
	return marshalEvent(at, "platform.report", rec)
}

// lineLevel finds the level of an application's JSON line: of its top-level
// "level" or "log_level". A line that is not of JSON, or does not say, counts
// as INFO, as the service has it.
func lineLevel(line []byte) Level {
	if len(line) == 0 || line[0] != '{' {
		return LevelInfo
	}
	var rec struct {
		Level    string `json:"level"`
		LogLevel string `json:"log_level"`
	}
	if json.Unmarshal(line, &rec) != nil {
		return LevelInfo
	}
	if l := ParseLevel(rec.Level); l != LevelNone {
		return l
	}
	if l := ParseLevel(rec.LogLevel); l != LevelNone {
		return l
	}
	return LevelInfo
}
