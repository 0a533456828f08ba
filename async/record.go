package async

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/hearth-faas/hearth"
)

// invocationRecord is what a destination is told of an event's end, in the
// service's format.
type invocationRecord struct {
	Version         string          `json:"version"`
	Timestamp       string          `json:"timestamp"`
	RequestContext  requestContext  `json:"requestContext"`
	RequestPayload  json.RawMessage `json:"requestPayload"`
	ResponseContext responseContext `json:"responseContext"`
	ResponsePayload json.RawMessage `json:"responsePayload,omitempty"`
}

type requestContext struct {
	RequestID   string `json:"requestId"`
	FunctionARN string `json:"functionArn"`
	Condition   string `json:"condition"`
	Invocations int    `json:"approximateInvokeCount"`
}

type responseContext struct {
	Status        int    `json:"statusCode"`
	Version       string `json:"executedVersion,omitempty"`
	FunctionError string `json:"functionError,omitempty"`
}

func (q *Queue) record(e *event, v verdict, r *hearth.Result, err error, now time.Time) ([]byte, error) {
	qualifier := e.Qualifier
	if qualifier == "" {
		qualifier = hearth.Latest
	}
	rec := invocationRecord{
		Version:   "1.0",
		Timestamp: now.UTC().Format("2006-01-02T15:04:05.000Z"),
		RequestContext: requestContext{
			RequestID: e.ID, FunctionARN: q.arn(e) + ":" + qualifier, Condition: v.condition, Invocations: e.Attempts,
		},
		RequestPayload: jsonOf(e.payload),
	}
	switch {
	case err != nil:
		rec.ResponseContext.Status = hearth.KindOf(err).Status()
	case r != nil:
		rec.ResponseContext = responseContext{200, r.Version, r.FunctionError}
		rec.ResponsePayload = jsonOf(r.Payload)
	}
	if v.fate == fateSuccess {
		rec.RequestContext.Invocations++
	}
	return json.Marshal(rec)
}

// jsonOf is the payload if it is JSON, as it must be, or a string of it.
func jsonOf(b []byte) json.RawMessage {
	if json.Valid(b) {
		return b
	}
	s, err := json.Marshal(strings.ToValidUTF8(string(b), "?"))
	if err != nil {
		return json.RawMessage("null") // a string always has a JSON form
	}
	return s
}

func (q *Queue) arn(e *event) string {
	return "arn:aws:lambda:" + q.cfg.Region + ":" + string(e.Account) + ":function:" + e.Function
}
