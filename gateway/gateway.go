// Package gateway serves functions by HTTP, at their URLs.
//
// A URL has a host name of its own, <id>.lambda-url.<region>.localhost, and a
// path below /lambda-url/<id>/ for clients that cannot resolve that. A request
// becomes an event in the payload format 2.0 (event.go), comes in at the
// frontend like every invocation, and what the function returns becomes the
// response (answer.go), whole or while it is made (stream.go).
package gateway

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/lambda/sigv4"

	"github.com/google/uuid"
)

// Config is what a Gateway is made of. All but Done, Log and StreamStall
// must be set.
type Config struct {
	Index       *Index
	Invoker     hearth.Invoker
	Credentials sigv4.Credentials
	// Guard bounds the tries at signatures; nil does not.
	Guard  sigv4.Guard
	Clock  hearth.Clock
	Region string

	// Within tells from which container's code a request came; "" is from
	// outside. nil is always.
	Within func(*http.Request) string

	// Done is called after each invocation that reached the Invoker, when
	// its answer was written and its Timeline is complete.
	Done func(*hearth.Invocation)
	// Log takes the errors that are the server's; nil is slog.Default.
	Log *slog.Logger
	// StreamStall is how long a client may take to accept a piece of a
	// streamed response; 0 is stream.Stall.
	StreamStall time.Duration
}

// Gateway serves the URLs. Safe for concurrent use.
type Gateway struct {
	Config
	verifier *sigv4.Verifier
}

// New makes a Gateway.
func New(c Config) *Gateway {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	g := &Gateway{Config: c, verifier: sigv4.New(c.Credentials, c.Clock, c.Region, "lambda")}
	g.verifier.Guard = c.Guard
	return g
}

const (
	hostMark   = ".lambda-url."
	pathPrefix = "/lambda-url/"
)

// Host is the host name of a URL, without its port.
func Host(id, region, domain string) string { return id + hostMark + region + "." + domain }

// request is one call of a URL while it is served.
type request struct {
	*endpoint
	http      *http.Request
	requestID string
	traceID   string
	began     time.Time
	path      string // percent-encoded, below the URL
	body      []byte
	caller    *hearth.Identity
	accessKey string
}

// idOf finds the URL id that r names, by its host or by its path, and what of
// the path is the function's.
func idOf(r *http.Request) (id, path string, ok bool) {
	if i := strings.IndexByte(r.Host, '.'); i > 0 && strings.HasPrefix(r.Host[i:], hostMark) {
		return strings.ToLower(r.Host[:i]), r.URL.EscapedPath(), true
	}
	if !strings.HasPrefix(r.URL.Path, pathPrefix) {
		return "", "", false
	}
	rest, ok := strings.CutPrefix(r.URL.EscapedPath(), pathPrefix)
	if !ok { // some of the prefix was percent-encoded, which nobody does by accident
		return "", "", false
	}
	id, path, _ = strings.Cut(rest, "/")
	return id, "/" + path, true
}

// Over serves URLs, and hands the requests that are for none to next.
func (g *Gateway) Over(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if id, path, ok := idOf(r); ok {
			g.serve(w, r, id, path)
		} else {
			next.ServeHTTP(w, r)
		}
	})
}

// serve serves the URL of that id.
func (g *Gateway) serve(w http.ResponseWriter, r *http.Request, id, path string) {
	if path == "" {
		path = "/"
	}
	q := &request{
		endpoint: g.Index.find(id), http: r, requestID: uuid.NewString(), began: g.Clock.Now(), path: path,
		traceID: r.Header.Get("X-Amzn-Trace-Id"),
	}
	if q.traceID == "" {
		q.traceID = NewTraceID(q.began)
	}
	header := w.Header()
	header["X-Amzn-Requestid"] = []string{q.requestID}
	header["X-Amzn-Trace-Id"] = []string{q.traceID}
	if q.endpoint == nil {
		refuse(w, &hearth.Error{Kind: hearth.AccessDenied})
		return
	}
	if IsPreflight(r) && q.CORS != nil {
		AnswerPreflight(w, r, q.CORS)
		return
	}
	inv, err := g.takeIn(w, q)
	if err != nil {
		g.fail(w, q, err)
		return
	}
	if q.InvokeMode == "RESPONSE_STREAM" {
		g.stream(w, q, inv)
	} else {
		g.invoke(w, q, inv)
	}
}

// arn is the function's ARN, with the alias.
func (q *request) arn(region string) string {
	arn := "arn:aws:lambda:" + region + ":" + string(q.account) + ":function:" + q.function
	if q.qualifier != "" {
		arn += ":" + q.qualifier
	}
	return arn
}

// takeIn reads the request, finds out whose it is and makes an invocation of
// it. Whether it is allowed is for the frontend to say.
func (g *Gateway) takeIn(w http.ResponseWriter, q *request) (*hearth.Invocation, error) {
	inv := &hearth.Invocation{
		RequestID: q.requestID, TraceID: q.traceID,
		Account: q.account, Name: q.function, Qualifier: q.qualifier, InvokedARN: q.arn(g.Region),
		Source: &hearth.Source{URLAuthType: q.AuthType},
	}
	inv.Timeline.Begin(q.began)
	if g.Within != nil {
		inv.Within = g.Within(q.http)
	}
	signed := q.AuthType == "AWS_IAM"
	var claim sigv4.Claim
	var err error
	if signed { // who has no key is refused before the body is read
		if claim, err = g.verifier.Open(q.http); err != nil {
			return nil, forbidden(err)
		}
	}
	if q.body, err = readBody(w, q.http); err != nil {
		return nil, err
	}
	inv.Timeline.End(hearth.StageParse, g.Clock.Now())
	if signed {
		if err := g.verifier.Check(&claim, q.http, q.body); err != nil {
			return nil, forbidden(err)
		}
		q.caller, q.accessKey = &claim.Identity, claim.AccessKey
		inv.Caller = claim.Identity
	}
	inv.Timeline.End(hearth.StageVerify, g.Clock.Now())
	inv.Payload, err = eventOf(q)
	return inv, err
}

// readBody reads a body that can be an event; a larger one is refused by its
// length where it tells one.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.Body == nil || r.ContentLength == 0 {
		return nil, nil
	}
	tooLarge := hearth.Errorf(hearth.RequestTooLarge, "Request must be smaller than %d bytes for the InvokeFunction operation", hearth.MaxPayload)
	if r.ContentLength > hearth.MaxPayload {
		return nil, tooLarge
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, hearth.MaxPayload))
	if _, ok := err.(*http.MaxBytesError); ok {
		return nil, tooLarge
	}
	if err != nil {
		return nil, hearth.Errorf(hearth.Canceled, "the caller left while sending: %w", err)
	}
	return body, nil
}

// invoke runs the function and answers with what it returned.
func (g *Gateway) invoke(w http.ResponseWriter, q *request, inv *hearth.Invocation) {
	result, err := g.Invoker.Invoke(q.http.Context(), inv)
	var a *Answer
	if err == nil {
		a, err = AnswerOf(result)
	}
	if err != nil {
		g.fail(w, q, err)
	} else {
		a.head(w, q)
		if inv.Recorded != "" {
			w.Header()["X-Hearth-Recorded"] = []string{inv.Recorded}
		}
		if HasBody(a.Status) {
			w.Header()["Content-Length"] = []string{itoa(len(a.Body))}
		}
		w.WriteHeader(a.Status)
		if HasBody(a.Status) {
			if _, err := w.Write(a.Body); err != nil {
				g.Log.Debug("the caller left before the answer", "request", q.requestID, "error", err)
			}
		}
	}
	g.finish(inv)
}

// fail answers a call that came to nothing.
func (g *Gateway) fail(w http.ResponseWriter, q *request, err error) {
	g.logError(q, err)
	AllowOrigin(w.Header(), q.http, q.CORS)
	refuse(w, err)
}

func (g *Gateway) finish(inv *hearth.Invocation) {
	inv.Timeline.End(hearth.StageAnswer, g.Clock.Now())
	if g.Done != nil {
		g.Done(inv)
	}
}

// NewTraceID makes an X-Ray trace header for a request that brought none.
func NewTraceID(at time.Time) string {
	var id [16]byte
	binary.BigEndian.PutUint32(id[:], uint32(at.Unix()))
	rand.Read(id[4:]) // never fails
	return "Root=1-" + hex.EncodeToString(id[:4]) + "-" + hex.EncodeToString(id[4:])
}
