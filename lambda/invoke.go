package lambda

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	hearth "github.com/hearth-faas/hearth"

	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// invokeOperation is Invoke, which is served by hand.
var invokeOperation = func() *operation {
	for _, op := range operations {
		if op.name == "Invoke" {
			return op
		}
	}
	panic("lambda: the SDK has no Invoke")
}()

// maxClientContext bounds X-Amz-Client-Context, in bytes of base64.
const maxClientContext = 3583

// Header names in the spelling of package http, so that they are looked up and
// set without being canonicalized each time.
const (
	headerInvocationType  = "X-Amz-Invocation-Type"
	headerLogType         = "X-Amz-Log-Type"
	headerClientContext   = "X-Amz-Client-Context"
	headerTenantID        = "X-Amz-Tenant-Id"
	headerDurableName     = "X-Amz-Durable-Execution-Name"
	headerTraceID         = "X-Amzn-Trace-Id"
	headerExecutedVersion = "X-Amz-Executed-Version"
	headerFunctionError   = "X-Amz-Function-Error"
	headerLogResult       = "X-Amz-Log-Result"
)

// invoke serves Invoke. It is the warm path: nothing here goes by reflection
// unless the request is refused.
//
// The payload's buffer is not pooled. A function may answer, or be timed out,
// while its event is still being written to it; a buffer that went to the next
// request meanwhile would show one tenant's event to another.
func (h *Handler) invoke(w http.ResponseWriter, c *call) {
	inv := &hearth.Invocation{RequestID: c.requestID}
	inv.Timeline.Begin(c.began)
	body, err := readBody(c.http, hearth.MaxPayload, invokeOperation.name)
	if err != nil {
		h.refuse(w, c, restJSON, err)
		return
	}
	readErr := h.readInvocation(inv, c, body)
	inv.Timeline.End(hearth.StageParse, h.Clock.Now())
	if err := h.verifier.Check(&c.claim, c.http, body); err != nil {
		h.refuse(w, c, restJSON, err)
		return
	}
	inv.Timeline.End(hearth.StageVerify, h.Clock.Now())
	if readErr != nil {
		h.refuse(w, c, restJSON, readErr)
		return
	}
	result, err := h.Invoker.Invoke(c.ctx, inv)
	switch {
	case err != nil:
		h.refuse(w, c, restJSON, err)
	case inv.DryRun:
		h.send(w, c, answer{status: http.StatusNoContent})
	default:
		h.writeResult(w, inv, result)
	}
	inv.Timeline.End(hearth.StageAnswer, h.Clock.Now())
	if h.Done != nil {
		h.Done(inv)
	}
}

// readInvocation fills inv from the request.
func (h *Handler) readInvocation(inv *hearth.Invocation, c *call, body []byte) error {
	header := c.http.Header
	inv.Caller = c.claim.Identity
	inv.Payload = body

	label := c.route.labels[0]
	if strings.IndexByte(label, '%') >= 0 {
		var err error
		if label, err = url.PathUnescape(label); err != nil {
			return serialization("The path is malformed")
		}
	}
	qualifier, _ := queryValue(c.http.URL.RawQuery, "Qualifier")
	t, ok := parseName(label)
	if !ok || qualifier != "" && !isQualifier(qualifier) {
		return h.whyInvalid(c, body)
	}
	t, err := h.resolve(t, qualifier, c.claim.Identity, "InvokeFunction")
	if err != nil {
		return err
	}
	inv.Account, inv.Name, inv.Qualifier = t.account, t.name, t.qualifier
	inv.InvokedARN = "arn:aws:lambda:" + h.region + ":" + string(t.account) + ":function:" + t.name
	if t.qualifier != "" {
		inv.InvokedARN += ":" + t.qualifier
	}

	switch types.InvocationType(one(header[headerInvocationType])) {
	case "", types.InvocationTypeRequestResponse:
	case types.InvocationTypeDryRun:
		inv.DryRun = true
	case types.InvocationTypeEvent:
		return notBuilt("Invoke with InvocationType Event (asynchronous invocation)")
	default:
		return h.whyInvalid(c, body)
	}
	switch types.LogType(one(header[headerLogType])) {
	case "", types.LogTypeNone:
	case types.LogTypeTail:
		inv.Tail = true
	default:
		return h.whyInvalid(c, body)
	}
	if one(header[headerDurableName]) != "" {
		return notBuilt("Invoke with DurableExecutionName (durable execution)")
	}
	if context := one(header[headerClientContext]); context != "" {
		if inv.ClientContext, err = decodeClientContext(context); err != nil {
			return err
		}
	}
	if inv.TenantID = one(header[headerTenantID]); inv.TenantID != "" {
		if err := h.whyInvalid(c, body); err != nil {
			return err
		}
	}
	if inv.TraceID = one(header[headerTraceID]); inv.TraceID == "" {
		inv.TraceID = newTraceID(c.began)
	}
	if len(body) == 0 {
		inv.Payload = []byte("{}")
	} else if err := validJSON(body); err != nil {
		return hearth.Errorf(hearth.InvalidContent, "Could not parse request body into json: Could not parse payload into json: %s", err)
	}
	return nil
}

// whyInvalid reads the request the general way, which finds the constraint
// that it breaks; nil if it breaks none.
func (h *Handler) whyInvalid(c *call, body []byte) error {
	in, err := bind(c.route, c.http, body)
	if err != nil {
		return err
	}
	return validate(c.route.op, in)
}

// isQualifier is the pattern of an invocation's qualifier.
func isQualifier(s string) bool { return len(s) <= 128 && isWord(s, "$") }

// decodeClientContext decodes what the runtime hands on as JSON.
func decodeClientContext(s string) (string, error) {
	if len(s) > maxClientContext {
		return "", hearth.Errorf(hearth.InvalidContent, "Client context must be no more than %d bytes when base64-encoded", maxClientContext)
	}
	decoded, err := base64.StdEncoding.DecodeString(s)
	if err != nil || validJSON(decoded) != nil {
		return "", hearth.Errorf(hearth.InvalidContent, "Client context must be a valid Base64-encoded JSON object.")
	}
	return string(decoded), nil
}

// writeResult answers with what the function returned.
func (h *Handler) writeResult(w http.ResponseWriter, inv *hearth.Invocation, result *hearth.Result) {
	header := w.Header()
	contentType := result.ContentType
	if contentType == "" {
		contentType = "application/json"
	}
	var values [7]string // one allocation for the headers' values, not seven
	n := 0
	set := func(name, value string) {
		values[n] = value
		header[name] = values[n : n+1 : n+1]
		n++
	}
	set("Content-Type", contentType)
	set("Content-Length", strconv.Itoa(len(result.Payload)))
	set("X-Amzn-Requestid", inv.RequestID)
	set(headerExecutedVersion, result.Version)
	set(headerTraceID, inv.TraceID)
	if result.FunctionError != "" {
		set(headerFunctionError, result.FunctionError)
	}
	if result.LogTail != nil {
		set(headerLogResult, base64.StdEncoding.EncodeToString(result.LogTail))
	}
	w.WriteHeader(http.StatusOK)
	if _, err := w.Write(result.Payload); err != nil {
		h.Log.Debug("the caller left before the answer", "request", inv.RequestID, "error", err)
	}
}

// newTraceID makes an X-Ray trace header for a request that brought none: not
// sampled.
func newTraceID(at time.Time) string {
	var id [24]byte
	binary.BigEndian.PutUint32(id[:], uint32(at.Unix()))
	rand.Read(id[4:]) // never fails
	b := make([]byte, 0, 74)
	b = append(b, "Root=1-"...)
	b = hex.AppendEncode(b, id[:4])
	b = append(b, '-')
	b = hex.AppendEncode(b, id[4:16])
	b = append(b, ";Parent="...)
	b = hex.AppendEncode(b, id[16:])
	return string(append(b, ";Sampled=0"...))
}

func one(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}
