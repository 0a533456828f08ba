package lambda

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/worker/logs"
)

// CloudWatch Logs speaks awsJson1.1: the operation stands in X-Amz-Target, the
// input and the output are JSON bodies. Here is reading, as much as `aws logs
// tail` and its like need, and groups (loggroups.go), which deployers make
// beside functions; functions are what writes. The structures are written out, since the
// SDK's package for them would cost every start more memory than it saves here.

const logsTarget = "Logs_20140328."

var logOperations = map[string]func(*Handler, *call, []byte) (any, error){
	"CreateLogGroup":                serveLog((*Handler).createLogGroup),
	"DeleteLogGroup":                serveLog((*Handler).deleteLogGroup),
	"DeleteRetentionPolicy":         serveLog((*Handler).deleteRetentionPolicy),
	"DescribeLogGroups":             serveLog((*Handler).describeLogGroups),
	"DescribeLogStreams":            serveLog((*Handler).describeLogStreams),
	"FilterLogEvents":               serveLog((*Handler).filterLogEvents),
	"GetLogEvents":                  serveLog((*Handler).getLogEvents),
	"ListTagsForResource":           serveLog((*Handler).listTagsForLogGroup),
	"ListTagsLogGroup":              serveLog((*Handler).listTagsLogGroup),
	"PutLogGroupDeletionProtection": serveLog((*Handler).putLogGroupDeletionProtection),
	"PutRetentionPolicy":            serveLog((*Handler).putRetentionPolicy),
	"TagLogGroup":                   serveLog((*Handler).tagLogGroup),
	"TagResource":                   serveLog((*Handler).tagLogResource),
	"UntagLogGroup":                 serveLog((*Handler).untagLogGroup),
	"UntagResource":                 serveLog((*Handler).untagLogResource),
}

func serveLog[I, O any](f func(*Handler, *call, *I) (O, error)) func(*Handler, *call, []byte) (any, error) {
	return func(h *Handler, c *call, body []byte) (any, error) {
		in := new(I)
		if err := json.Unmarshal(body, in); err != nil {
			return nil, serialization("%s", err)
		}
		return f(h, c, in)
	}
}

// serveLogs serves a request that is signed for CloudWatch Logs.
func (h *Handler) serveLogs(w http.ResponseWriter, c *call) {
	r := c.http
	body, err := readBody(r, maxForm, "Logs")
	if err == nil {
		err = h.verifier.Check(&c.claim, r, body)
	}
	var out any
	name := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), logsTarget)
	if err == nil {
		h.begin(c, "logs", name)
		if c.record != nil {
			c.record.params.JSON(body)
		}
		err = h.mayChange(c)
	}
	if err == nil {
		if run := logOperations[name]; run != nil && r.Method == http.MethodPost {
			if err = h.mayLog(c, name, body); err == nil {
				out, err = run(h, c, body)
			}
		} else {
			err = hearth.Errorf(hearth.UnknownOperation, "CloudWatch Logs has no operation %q here", name)
		}
	}
	err = h.ended(c, err)
	if err != nil {
		h.refuse(w, c, awsJSON, err)
		return
	}
	encoded := []byte{} // of an operation without an output
	if out != nil {
		if encoded, err = json.Marshal(out); err != nil {
			h.refuse(w, c, awsJSON, err)
			return
		}
	}
	h.send(w, c, answer{status: http.StatusOK, header: http.Header{"Content-Type": {"application/x-amz-json-1.1"}}, body: encoded})
}

// encodeJSONError is the answer to an error, as CloudWatch Logs gives it.
func encodeJSONError(err error) answer {
	e := asError(err)
	name, status := string(e.Kind), http.StatusBadRequest
	switch e.Kind {
	case hearth.InvalidParameter, hearth.Validation:
		name = "InvalidParameterException"
	case hearth.Service:
		name, status = "ServiceUnavailableException", http.StatusInternalServerError
	case hearth.NotBuilt:
		status = http.StatusNotImplemented
	}
	b := []byte(`{"__type":`)
	b = append(appendString(b, name), `,"message":`...)
	b = append(appendString(b, e.Message), '}')
	return answer{status: status, header: http.Header{"Content-Type": {"application/x-amz-json-1.1"}}, body: b}
}

// millis is a time as CloudWatch Logs spells it, absent if zero.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// instant is the inverse for what a request may leave out.
func instant(ms *int64) time.Time {
	if ms == nil {
		return time.Time{}
	}
	return time.UnixMilli(*ms)
}

// limited is what was asked for, within 1 and max; max if nothing was.
func limited(asked *int, max int) (int, error) {
	if asked == nil {
		return max, nil
	}
	if *asked < 1 || *asked > max {
		return 0, hearth.Errorf(hearth.InvalidParameter,
			"1 validation error detected: Value '%d' at 'limit' failed to satisfy constraint: Member must have value between 1 and %d", *asked, max)
	}
	return *asked, nil
}

type describeLogStreamsInput struct {
	Group      string `json:"logGroupName"`
	Identifier string `json:"logGroupIdentifier"`
	Prefix     string `json:"logStreamNamePrefix"`
	OrderBy    string `json:"orderBy"`
	Descending bool   `json:"descending"`
	Token      string `json:"nextToken"`
	Limit      *int   `json:"limit"`
}

type logStreamJSON struct {
	Name          string `json:"logStreamName"`
	Created       int64  `json:"creationTime"`
	FirstEvent    int64  `json:"firstEventTimestamp,omitempty"`
	LastEvent     int64  `json:"lastEventTimestamp,omitempty"`
	LastIngestion int64  `json:"lastIngestionTime,omitempty"`
	ARN           string `json:"arn"`
	StoredBytes   int64  `json:"storedBytes"`
}

type describeLogStreamsOutput struct {
	Streams []logStreamJSON `json:"logStreams"`
	Next    string          `json:"nextToken,omitempty"`
}

func (h *Handler) describeLogStreams(c *call, in *describeLogStreamsInput) (out describeLogStreamsOutput, err error) {
	out.Streams = []logStreamJSON{}
	limit, err := limited(in.Limit, 50)
	if err != nil {
		return out, err
	}
	group, err := h.groupName(c, in.Group, in.Identifier)
	if err != nil {
		return out, err
	}
	if in.OrderBy == "LastEventTime" && in.Prefix != "" {
		return out, hearth.Errorf(hearth.InvalidParameter, "Cannot order by LastEventTime with a logStreamNamePrefix.")
	}
	streams, next, err := h.Logs.Streams(c.ctx, c.account(), group, logs.StreamQuery{
		Prefix: in.Prefix, ByTime: in.OrderBy == "LastEventTime", Descending: in.Descending, Token: in.Token, Max: limit,
	})
	for _, s := range streams {
		out.Streams = append(out.Streams, logStreamJSON{
			Name: s.Name, Created: millis(s.Created), FirstEvent: millis(s.FirstEvent), LastEvent: millis(s.LastEvent),
			LastIngestion: millis(s.LastIngestion), ARN: h.groupARN(c, group) + ":log-stream:" + s.Name,
		})
	}
	out.Next = next
	return out, err
}

type getLogEventsInput struct {
	Group      string `json:"logGroupName"`
	Identifier string `json:"logGroupIdentifier"`
	Stream     string `json:"logStreamName"`
	Start      *int64 `json:"startTime"`
	End        *int64 `json:"endTime"`
	Token      string `json:"nextToken"`
	Limit      *int   `json:"limit"`
	FromHead   bool   `json:"startFromHead"`
}

type logEventJSON struct {
	Stream   string `json:"logStreamName,omitempty"`
	At       int64  `json:"timestamp"`
	Message  string `json:"message"`
	Ingested int64  `json:"ingestionTime"`
	ID       string `json:"eventId,omitempty"`
}

type getLogEventsOutput struct {
	Events   []logEventJSON `json:"events"`
	Forward  string         `json:"nextForwardToken"`
	Backward string         `json:"nextBackwardToken"`
}

// maxEvents bounds a page of events.
const maxEvents = 10_000

func (h *Handler) getLogEvents(c *call, in *getLogEventsInput) (out getLogEventsOutput, err error) {
	out.Events = []logEventJSON{}
	limit, err := limited(in.Limit, maxEvents)
	if err != nil {
		return out, err
	}
	group, err := h.groupName(c, in.Group, in.Identifier)
	if err != nil {
		return out, err
	}
	if in.Stream == "" {
		return out, missing("logStreamName")
	}
	to := instant(in.End)
	if !to.IsZero() {
		to = to.Add(-time.Millisecond) // here, unlike in FilterLogEvents, the end is exclusive
	}
	page, err := h.Logs.Events(c.ctx, c.account(), group, in.Stream, logs.EventQuery{
		From: instant(in.Start), To: to, FromHead: in.FromHead, Token: in.Token, Max: limit,
	})
	for _, e := range page.Events {
		out.Events = append(out.Events, logEventJSON{At: millis(e.At), Message: e.Message, Ingested: millis(e.Ingested)})
	}
	out.Forward, out.Backward = page.Forward, page.Backward
	return out, err
}

type filterLogEventsInput struct {
	Group      string   `json:"logGroupName"`
	Identifier string   `json:"logGroupIdentifier"`
	Streams    []string `json:"logStreamNames"`
	Prefix     string   `json:"logStreamNamePrefix"`
	Start      *int64   `json:"startTime"`
	End        *int64   `json:"endTime"`
	Pattern    string   `json:"filterPattern"`
	Token      string   `json:"nextToken"`
	Limit      *int     `json:"limit"`
}

type filterLogEventsOutput struct {
	Events   []logEventJSON `json:"events"`
	Searched []struct{}     `json:"searchedLogStreams"` // always empty, as the service's has become
	Next     string         `json:"nextToken,omitempty"`
}

func (h *Handler) filterLogEvents(c *call, in *filterLogEventsInput) (out filterLogEventsOutput, err error) {
	out.Events, out.Searched = []logEventJSON{}, []struct{}{}
	limit, err := limited(in.Limit, maxEvents)
	if err != nil {
		return out, err
	}
	group, err := h.groupName(c, in.Group, in.Identifier)
	if err != nil {
		return out, err
	}
	if len(in.Streams) > 0 && in.Prefix != "" {
		return out, hearth.Errorf(hearth.InvalidParameter, "LogStreamNamePrefix and LogStreamNames are both specified. Only one of them is allowed.")
	}
	match, err := logs.ParsePattern(in.Pattern)
	if err != nil {
		return out, err
	}
	events, next, err := h.Logs.Filter(c.ctx, c.account(), group, logs.FilterQuery{
		Streams: in.Streams, Prefix: in.Prefix, From: instant(in.Start), To: instant(in.End), Match: match, Token: in.Token, Max: limit,
	})
	for _, e := range events {
		out.Events = append(out.Events, logEventJSON{Stream: e.Stream, At: millis(e.At), Message: e.Message, Ingested: millis(e.Ingested), ID: e.ID})
	}
	out.Next = next
	return out, err
}
