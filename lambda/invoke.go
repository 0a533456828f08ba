package lambda

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	hearth "github.com/hearth-faas/hearth"

	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// The operations that are served by hand.
var (
	invokeOperation = theOperation("Invoke")
	streamOperation = theOperation("InvokeWithResponseStream")
)

func theOperation(name string) *operation {
	for _, op := range operations {
		if op.name == name {
			return op
		}
	}
	panic("lambda: the SDK has no " + name)
}

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
	headerDurableARN      = "X-Amz-Durable-Execution-Arn"
	headerTraceID         = "X-Amzn-Trace-Id"
	headerExecutedVersion = "X-Amz-Executed-Version"
	headerFunctionError   = "X-Amz-Function-Error"
	headerLogResult       = "X-Amz-Log-Result"
	// Hearth's own: which code must run, and which did.
	headerRequireCode = "X-Hearth-Require-Code"
	headerCodeSHA256  = "X-Hearth-Code-Sha256"
	// headerMemory is Hearth's own: the MiB of memory that this invocation, and
	// no other, is to have at least.
	headerMemory = "X-Hearth-Memory"
	// Hearth's own, of functions that are declared idempotent: with "true" the
	// function is run, though nothing have changed; an answer that was not
	// computed anew has the id of the request that it was computed for.
	headerRecompute = "X-Hearth-Recompute"
	headerRecorded  = "X-Hearth-Recorded"
)

// invoke serves Invoke. It is the warm path: nothing here goes by reflection
// unless the request is refused.
//
// The payload's buffer is not pooled. A function may answer, or be timed out,
// while its event is still being written to it; a buffer that went to the next
// request meanwhile would show one tenant's event to another.
func (h *Handler) invoke(w http.ResponseWriter, c *call) {
	inv, err := h.takeIn(c)
	if err != nil {
		h.refuse(w, c, restJSON, err)
		return
	}
	result, err := h.Invoker.Invoke(c.ctx, inv)
	c.requestID = inv.RequestID // one that is stored gets an id of its own, by which the log and hearth explain know it
	switch {
	case err != nil:
		h.refuse(w, c, restJSON, err)
	case inv.DryRun:
		h.send(w, c, answer{status: http.StatusNoContent})
	case inv.Async:
		if inv.DurableARN != "" {
			w.Header()[headerDurableARN] = []string{inv.DurableARN}
		}
		h.send(w, c, answer{status: http.StatusAccepted})
	default:
		h.writeResult(w, inv, result)
	}
	h.finish(inv)
}

// takeIn reads an invocation and checks its signature.
func (h *Handler) takeIn(c *call) (*hearth.Invocation, error) {
	inv := &hearth.Invocation{RequestID: c.requestID}
	inv.Timeline.Begin(c.began)
	body, err := readBody(c.http, hearth.MaxPayload, c.route.op.name)
	if err != nil {
		return nil, err
	}
	readErr := h.readInvocation(inv, c, body)
	inv.Timeline.End(hearth.StageParse, h.Clock.Now())
	if err := h.verifier.Check(&c.claim, c.http, body); err != nil {
		return nil, err
	}
	inv.Timeline.End(hearth.StageVerify, h.Clock.Now())
	return inv, readErr
}

// finish ends an invocation whose answer was written.
func (h *Handler) finish(inv *hearth.Invocation) {
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
	t, err := h.resolve(t, qualifier, c.claim.Identity)
	if err != nil {
		return err
	}
	inv.Account, inv.Name, inv.Qualifier = t.account, t.name, t.qualifier
	inv.InvokedARN = t.arn(h.region)

	switch types.InvocationType(one(header[headerInvocationType])) {
	case "", types.InvocationTypeRequestResponse:
	case types.InvocationTypeDryRun:
		inv.DryRun = true
	case types.InvocationTypeEvent:
		if c.route.op == streamOperation { // it has no such type
			return h.whyInvalid(c, body)
		}
		inv.Async = true
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
	if inv.DurableName = one(header[headerDurableName]); inv.DurableName != "" {
		if err := h.whyInvalid(c, body); err != nil {
			return err
		}
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
	if required := one(header[headerRequireCode]); required != "" {
		if inv.RequireCode, err = requiredCode(required); err != nil {
			return err
		}
	}
	if memory := one(header[headerMemory]); memory != "" {
		inv.MemoryMiB, err = strconv.Atoi(memory)
		if err != nil || inv.MemoryMiB < hearth.MinMemoryMiB || inv.MemoryMiB > hearth.MaxMemoryMiB {
			return hearth.Errorf(hearth.InvalidParameter, "%s: %q is not a number of MiB between %d and %d.", headerMemory, memory, hearth.MinMemoryMiB, hearth.MaxMemoryMiB)
		}
	}
	if recompute := one(header[headerRecompute]); recompute != "" {
		if inv.Recompute, err = strconv.ParseBool(recompute); err != nil {
			return hearth.Errorf(hearth.InvalidParameter, "%s: %q is neither true nor false.", headerRecompute, recompute)
		}
	}
	inv.TraceID = one(header[headerTraceID])
	if h.Within != nil {
		inv.Within = h.Within(c.http)
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

// requiredCode reads which code a caller insists on: the newest, or that with a
// SHA-256, in hexadecimal or as CodeSha256 has it.
func requiredCode(s string) (string, error) {
	if s == hearth.NewestCode {
		return s, nil
	}
	for _, decode := range []func(string) ([]byte, error){hex.DecodeString, base64.StdEncoding.DecodeString} {
		if sum, err := decode(s); err == nil && len(sum) == sha256.Size {
			return hex.EncodeToString(sum), nil
		}
	}
	return "", hearth.Errorf(hearth.InvalidParameter, "%s: %q is neither %s nor a CodeSha256", headerRequireCode, s, hearth.NewestCode)
}

// writeResult answers with what the function returned.
func (h *Handler) writeResult(w http.ResponseWriter, inv *hearth.Invocation, result *hearth.Result) {
	header := w.Header()
	contentType := result.ContentType
	if contentType == "" {
		contentType = "application/json"
	}
	var values [10]string // one allocation for the headers' values, not nine
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
	if inv.Function != nil && inv.Function.Shared == nil && inv.Function.Package.SHA256 != "" {
		set(headerCodeSHA256, inv.Function.Package.SHA256)
	}
	if inv.DurableARN != "" {
		set(headerDurableARN, inv.DurableARN)
	}
	if inv.Recorded != "" {
		set(headerRecorded, inv.Recorded)
	}
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

func one(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}
