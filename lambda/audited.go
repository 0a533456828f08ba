package lambda

import (
	"bytes"
	"net/http"
	"net/url"
	"strings"
	"time"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/audit"
)

// Control-plane calls are recorded in the audit log, each before it is
// answered: a change waits until its record is on disk. What functions and
// their clients do with data all day (dataPlane) is not; decisions and logs
// tell of it. A call whose signature is not good is recorded whatever it was.

// dataPlane are the operations that are not recorded.
var dataPlane = map[string]bool{
	"lambda:Invoke": true, "lambda:InvokeWithResponseStream": true, "lambda:InvokeAsync": true,
	"lambda:CheckpointDurableExecution": true, "lambda:GetDurableExecutionState": true,
	"lambda:SendDurableExecutionCallbackSuccess": true, "lambda:SendDurableExecutionCallbackFailure": true, "lambda:SendDurableExecutionCallbackHeartbeat": true,
	"logs:FilterLogEvents": true, "logs:GetLogEvents": true,
	"sqs:SendMessage": true, "sqs:SendMessageBatch": true, "sqs:ReceiveMessage": true, "sqs:DeleteMessage": true, "sqs:DeleteMessageBatch": true,
	"sqs:ChangeMessageVisibility": true, "sqs:ChangeMessageVisibilityBatch": true,
	"events:PutEvents": true,
}

// record is one call's way into the audit log.
type record struct {
	event  audit.Event
	params audit.Parameters
	place  *audit.Place
}

// begin starts the record of a call whose signature is good.
func (h *Handler) begin(c *call, service, operation string) {
	action := service + ":" + operation
	if h.Audit == nil || dataPlane[action] {
		return
	}
	c.record = &record{event: h.eventOf(c, action)}
	e := &c.record.event
	e.Account, e.Principal = c.account(), c.claim.Identity.ARN
	e.Service, e.ReadOnly = service, audit.ReadOnly(service, operation) || strings.HasPrefix(operation, "GET ")
	if c.route.op != nil {
		n := 0
		for _, s := range c.route.op.path {
			if s.label != "" {
				c.record.params.Label(s.label, c.route.labels[n])
				n++
			}
		}
	}
	c.record.params.Values(c.http.URL.Query())
}

// eventOf is what is known of every call.
func (h *Handler) eventOf(c *call, action string) audit.Event {
	return audit.Event{
		Time: c.began, RequestID: c.requestID, AccessKeyID: c.claim.AccessKey, SourceIP: callerIP(c.http), UserAgent: c.http.UserAgent(),
		Service: c.claim.Service, Action: action,
	}
}

// mayChange takes room in the audit log for a change, which is refused where
// there is none, and where it was made before with the same signature.
func (h *Handler) mayChange(c *call) (err error) {
	if c.record == nil || c.record.event.ReadOnly {
		return nil
	}
	if !c.claim.Presigned && h.Replays != nil {
		if err := h.Replays.Fresh(c.claim.Signature(), callerIP(c.http), h.Clock.Now()); err != nil {
			return err
		}
	}
	c.record.place, err = h.Audit.Admit()
	return err
}

// ended records what became of a call, and returns what its caller is told.
func (h *Handler) ended(c *call, err error) error {
	r := c.record
	if r == nil {
		return err
	}
	c.record = nil
	e := &r.event
	r.params.To(e)
	if err != nil {
		e.ErrorCode = string(asError(err).Kind)
	}
	h.about(r)
	if r.place == nil {
		h.Audit.Note(e)
		return err
	}
	if werr := r.place.Record(e); werr != nil && err == nil {
		return hearth.Errorf(hearth.Service, "It was done, but is not in the audit log yet: %w", werr)
	}
	return err
}

// about finds what a call is about: an ARN, or a name that one is made of.
func (h *Handler) about(r *record) {
	e := &r.event
	if e.Resource == "" {
		e.Resource = r.params.Name("FunctionName", "ResourceArn", "ResourceARN", "Resource", "Arn", "QueueUrl", "RoleArn", "PolicyArn", "LayerName", "RoleName", "UserName", "GroupName",
			"PolicyName", "QueueName", "EventBusName", "CodeSigningConfigArn", "CapacityProviderName", "UUID", "DurableExecutionArn", "LogGroupName", "Rule", "Name")
	}
	if name := r.params.Name("FunctionName"); name != "" && e.Service == "lambda" {
		if t, ok := parseName(name); ok {
			if t.account == "" {
				t.account = e.Account
			}
			e.Resource = t.arn(h.region)
		}
	}
	if parts := strings.SplitN(e.Resource, ":", 6); len(parts) == 6 && parts[0] == "arn" && len(parts[4]) == 12 && parts[4] != string(e.Account) {
		e.Owner = hearth.Account(parts[4])
	}
}

// noteUnproven records a call whose caller is not known, or not let in at all.
func (h *Handler) noteUnproven(c *call, err error) {
	if h.Audit == nil {
		return
	}
	kind := asError(err).Kind
	action := operationOf(c.http, nil)
	if c.route.op != nil {
		action = c.route.op.name
	}
	switch kind {
	case hearth.AccessDenied:
		if !c.claim.Refused() || dataPlane[c.claim.Service+":"+action] {
			return // others were recorded
		}
	case hearth.MissingToken, hearth.IncompleteSignature, hearth.InvalidSignature, hearth.UnrecognizedClient, hearth.ExpiredToken:
	default:
		return
	}
	e := h.eventOf(c, c.claim.Service+":"+action)
	e.ErrorCode = string(kind)
	if c.claim.Refused() {
		e.Account, e.Principal = c.account(), c.claim.Identity.ARN
	}
	if e.Service == "" {
		e.Service, e.Action = "unknown", "unknown"
	}
	h.Audit.Note(&e)
}

// operationOf is the operation of a request of a service that speaks the AWS
// JSON protocol or the query protocol, or a method and a path.
func operationOf(r *http.Request, form url.Values) string {
	if t := r.Header.Get("X-Amz-Target"); t != "" {
		return t[strings.LastIndexByte(t, '.')+1:]
	}
	if a := form.Get("Action"); a != "" {
		return a
	}
	if a, ok := queryValue(r.URL.RawQuery, "Action"); ok {
		return a
	}
	if r.URL.Path == "/" {
		return "unknown"
	}
	return r.Method + " " + r.URL.Path
}

// held keeps an answer back until its call is recorded.
type held struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (w *held) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

func (w *held) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}

func (w *held) release() error {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	w.ResponseWriter.WriteHeader(w.status)
	_, err := w.ResponseWriter.Write(w.body.Bytes())
	return err
}

// Replays tells calls that were sent twice. Safe for concurrent use.
type Replays interface {
	// Fresh is an error if a call with the signature came before in a way in
	// which no client repeats one.
	Fresh(signature, source string, now time.Time) error
}
