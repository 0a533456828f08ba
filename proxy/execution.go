package proxy

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/hearth-faas/hearth"
)

// Execution is a code execution service at the other end of a network: anything
// that speaks the Lambda API. Safe for concurrent use.
type Execution struct {
	Endpoint string // such as http://10.0.0.7:9070
	Region   string
	// Credentials are those with which an account's calls are signed.
	Credentials func(ctx context.Context, account hearth.Account) (aws.Credentials, error)
	HTTP        *http.Client // nil is NewHTTP()
	Clock       hearth.Clock
}

// NewHTTP makes a client that keeps its connections and gives up on a host that
// does not answer.
func NewHTTP() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSHandshakeTimeout: 5 * time.Second, MaxIdleConns: 1024, MaxIdleConnsPerHost: 256, IdleConnTimeout: time.Minute,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// order is what is to be run.
type order struct {
	account  hearth.Account
	function string
	event    []byte
	about    []byte // the client context; none is empty
	trace    string // the X-Ray header, by which loops are told; "" is none
}

// run is what the function made of one event.
type run struct {
	payload   []byte
	requestID string // the execution service's
	attempts  int
}

// attempt is how one request to the service failed.
type attempt struct {
	*fault
	// notRun is that the function has not run; else it may have.
	notRun bool
	// after is when the service wants to be asked again; 0 is not said.
	after time.Duration
}

// firstWait is the wait before another try; each is twice as long, up to maxWait.
const (
	firstWait = 100 * time.Millisecond
	maxWait   = 2 * time.Second
)

// invoke runs the function, and tries again while the service is down: as long
// as ctx lasts and the function has not run for sure, or mayRepeat says that this
// does not matter. Errors are *fault.
func (e *Execution) invoke(ctx context.Context, o *order, mayRepeat bool) (run, error) {
	for n, wait := 1, firstWait; ; n, wait = n+1, min(2*wait, maxWait) {
		r, failed := e.try(ctx, o)
		r.attempts = n
		if failed == nil {
			return r, nil
		}
		if failed.Fault != Unavailable && failed.Fault != Overloaded || !failed.notRun && !mayRepeat {
			return r, failed.fault
		}
		pause := wait/2 + rand.N(wait/2) // so that those who failed together do not come together
		pause = max(pause, min(failed.after, maxWait))
		if until, ok := ctx.Deadline(); ok && until.Sub(e.Clock.Now()) <= pause {
			return r, failed.fault
		}
		if !e.sleep(ctx, pause) {
			return r, failed.fault
		}
	}
}

// sleep waits, and reports false if ctx ended first.
func (e *Execution) sleep(ctx context.Context, d time.Duration) bool {
	due := make(chan struct{})
	timer := e.Clock.AfterFunc(d, func() { close(due) })
	defer timer.Stop()
	select {
	case <-due:
		return true
	case <-ctx.Done():
		return false
	}
}

// try sends one request.
func (e *Execution) try(ctx context.Context, o *order) (run, *attempt) {
	req, err := e.request(ctx, o)
	if err != nil {
		return run{}, &attempt{&fault{Fault: Internal, message: "The proxy has no credentials for the execution service.", err: err}, true, 0}
	}
	answer, err := e.HTTP.Do(req)
	if err != nil {
		return run{}, lost(ctx, err)
	}
	defer answer.Body.Close()
	r := run{requestID: answer.Header.Get("X-Amzn-Requestid")}
	r.payload, err = io.ReadAll(io.LimitReader(answer.Body, MaxBody+1))
	if err != nil {
		return r, lost(ctx, err)
	}
	if answer.StatusCode != http.StatusOK {
		return r, refusal(answer, r.payload, o.function)
	}
	if failed := answer.Header.Get("X-Amz-Function-Error"); failed != "" {
		return r, &attempt{fault: functionFault(r.payload)}
	}
	if len(r.payload) > MaxBody {
		return r, &attempt{fault: &fault{Fault: FunctionFailed, message: fmt.Sprintf("The function returned more than %d bytes.", MaxBody), typ: "Proxy.ResultTooLarge"}}
	}
	return r, nil
}

func (e *Execution) request(ctx context.Context, o *order) (*http.Request, error) {
	name, qualifier := o.function, ""
	if !strings.HasPrefix(o.function, "arn:") {
		name, qualifier, _ = strings.Cut(o.function, ":")
	}
	u := strings.TrimSuffix(e.Endpoint, "/") + "/2015-03-31/functions/" + url.PathEscape(name) + "/invocations"
	if qualifier != "" {
		u += "?Qualifier=" + url.QueryEscape(qualifier)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u, bytes.NewReader(o.event))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if len(o.about) > 0 {
		req.Header.Set("X-Amz-Client-Context", base64.StdEncoding.EncodeToString(o.about))
	}
	if o.trace != "" {
		req.Header.Set("X-Amzn-Trace-Id", o.trace)
	}
	creds, err := e.Credentials(ctx, o.account)
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256(o.event)
	return req, v4.NewSigner().SignHTTP(ctx, creds, req, hex.EncodeToString(hash[:]), "lambda", e.Region, e.Clock.Now())
}

// ended is why a call's context has ended.
func ended(ctx context.Context) *fault {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &fault{Fault: Timeout, message: "The call took longer than it may.", err: context.Cause(ctx)}
	}
	return &fault{Fault: CallerLeft, message: "The caller left.", err: context.Cause(ctx)}
}

// lost is what a request came to that has no answer.
func lost(ctx context.Context, err error) *attempt {
	op, ok := errors.AsType[*net.OpError](err)
	unsent := ok && op.Op == "dial" // no connection, so nothing was sent
	if errors.Is(ctx.Err(), context.Canceled) || ctx.Err() != nil && !unsent {
		return &attempt{fault: ended(ctx)}
	}
	return &attempt{&fault{Fault: Unavailable, message: "The execution service can't be reached.", retryAfter: time.Second, err: err}, unsent, 0}
}

// refusal is what an answer other than 200 means.
func refusal(answer *http.Response, payload []byte, function string) *attempt {
	kind := answer.Header.Get("X-Amzn-Errortype")
	kind, _, _ = strings.Cut(kind, ":")
	var said struct{ Message string }
	_ = json.Unmarshal(payload, &said) // it decodes Message and message; of what is no JSON there is nothing to say
	detail := strings.TrimSpace(fmt.Sprintf("%d %s %.500s", answer.StatusCode, kind, said.Message))
	f, after := &fault{typ: kind, detail: detail}, time.Duration(0)
	if seconds, err := strconv.ParseFloat(answer.Header.Get("Retry-After"), 64); err == nil && seconds > 0 && seconds < 3600 {
		after = time.Duration(seconds * float64(time.Second))
	}
	switch s := answer.StatusCode; {
	case s == http.StatusTooManyRequests:
		f.Fault, f.message = Overloaded, "The execution service takes no more at the moment."
		f.retryAfter = cmp.Or(after, time.Second)
		return &attempt{f, true, after}
	case s >= 500 && !(s == http.StatusBadGateway && kind != ""):
		f.Fault, f.message = Unavailable, "The execution service failed."
		f.retryAfter = cmp.Or(after, time.Second)
		return &attempt{f, false, after}
	case s == http.StatusNotFound:
		f.Fault, f.message = Refused, "The execution service has no function "+function+"."
	case s == http.StatusRequestEntityTooLarge:
		f.Fault, f.message = BodyTooLarge, "The event that the mapping makes of the request is too large for the execution service."
	default:
		f.Fault, f.message = Refused, "The execution service refuses to run the function."
	}
	return &attempt{f, true, after}
}

// functionFault is what a function's error is.
func functionFault(payload []byte) *fault {
	var said struct {
		Type    string `json:"errorType"`
		Message string `json:"errorMessage"`
	}
	_ = json.Unmarshal(payload, &said) // a function may fail with anything
	if len(said.Message) > maxText {
		said.Message = said.Message[:maxText]
	}
	f := &fault{Fault: FunctionFailed, message: "The function failed.", typ: said.Type, detail: said.Message}
	// AWS has no type of its own for it.
	if said.Type == "Sandbox.Timedout" || said.Type == "" && strings.Contains(said.Message, "Task timed out after ") {
		f.Fault, f.message = FunctionTimeout, "The function took longer than it may."
	}
	return f
}
