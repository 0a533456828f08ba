package telemetry

import (
	"bytes"
	"encoding/json"
	"slices"
	"time"
)

// event is one record. Its record is JSON.
type event struct {
	at     time.Time
	kind   string // such as "platform.start"
	record []byte
	// object is the record where a function writes JSON objects, for those
	// who subscribed to a schema that has them; nil elsewhere.
	object []byte
	// older is the record of the Logs API where that differs; nil elsewhere.
	older []byte
}

// category is the type of events by which the event is subscribed to.
func (e *event) category() string {
	if e.kind == Function || e.kind == Extension {
		return e.kind
	}
	return Platform
}

// onlyLogs are the events that the Telemetry API does not have.
var onlyLogs = []string{"platform.end", "platform.logsSubscription"}

// inLogs are the platform's events that the Logs API has; the last only in its
// second schema.
var inLogs = []string{
	"platform.start", "platform.end", "platform.report", "platform.fault", "platform.extension",
	"platform.logsSubscription", "platform.logsDropped", "platform.runtimeDone",
}

// has reports whether a subscriber is to get the event.
func (s *subscription) has(e *event) bool {
	switch {
	case !s.wants(e.category()):
		return false
	case e.category() != Platform:
		return true
	case !s.logs:
		return !slices.Contains(onlyLogs, e.kind)
	default:
		return slices.Contains(inLogs, e.kind) && (e.kind != "platform.runtimeDone" || s.schema != logsSchemas[0])
	}
}

// render is the event as a subscriber gets it.
func (s *subscription) render(e *event) []byte {
	record := e.record
	switch {
	case s.logs && e.older != nil:
		record = e.older
	case !s.logs && s.schema != schemas[0] && e.object != nil:
		record = e.object
	}
	b := make([]byte, 0, len(record)+len(e.kind)+64)
	b = append(b, `{"time":"`...)
	b = e.at.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
	b = append(b, `","type":"`...)
	b = append(b, e.kind...)
	b = append(b, `","record":`...)
	b = append(b, record...)
	return append(b, '}')
}

// text is a string as JSON, with what is in it as it is.
func text(s []byte) []byte { return marshal(string(s)) }

func marshal(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // strings, structs and finite numbers always have a JSON form
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// objectOf returns the JSON object that a line is, nil if it is none.
func objectOf(line []byte) []byte {
	line = bytes.TrimSpace(line)
	if len(line) == 0 || line[0] != '{' || !json.Valid(line) {
		return nil
	}
	return bytes.Clone(line)
}
