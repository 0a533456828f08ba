package lambda

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/access"
	"github.com/hearth-faas/hearth/audit"
	"github.com/hearth-faas/hearth/awsjson"
	"github.com/hearth-faas/hearth/lambda/sigv4"
	"github.com/hearth-faas/hearth/query"

	"github.com/aws/smithy-go"
	"github.com/google/uuid"
)

// Config is what the handler works with. All of which it is not said what nil
// or 0 is must be set.
type Config struct {
	Registry Registry
	Mappings Mappings

	SigningConfigs SigningConfigs
	Invoker        hearth.Invoker
	Credentials    sigv4.Credentials
	Clock          hearth.Clock
	Region         string // such as us-east-1

	// CapacityProviders keeps the capacity providers.
	CapacityProviders CapacityProviders
	// Rate is how many requests beside invocations an account may make in a
	// second; 0 is any number.
	Rate int
	// Quota is what an account may, where it is not what every account may; nil
	// is that all may the same.
	Quota func(account hearth.Account) Quota
	// Provisioner tells how far provisioned environments are; nil answers that
	// they are not there yet.
	Provisioner Provisioner
	// Logs serves the CloudWatch Logs operations; nil answers that there are
	// no log groups.
	Logs LogStore
	// Objects is where code from S3 is; nil is nowhere.
	Objects Objects
	// Queries are the neighbours that speak the query protocol, by the name
	// that their requests are signed for, such as sts; nil is none.
	Queries map[string]*query.Service
	// Neighbours are the services that answer for themselves, by the name that
	// their requests are signed for, such as sqs; nil is none.
	Neighbours map[string]awsjson.Handler
	// Judge says who may do what; nil is that everybody of an account may all
	// that its functions' policies do not deny him.
	Judge *access.Judge
	// Roles is asked before a function gets a role; nil lets every role pass.
	Roles Roles
	// CheckKey tells whether the key that a function names can be used: its
	// environment is shown only then. nil is always.
	CheckKey func(arn string) error
	// Concurrency is how many invocations an account may run at once, as
	// GetAccountSettings tells it; 0 is 1,000.
	Concurrency int
	// Durable serves the operations of durable executions.
	Durable Durable
	// Done is called after each invocation that reached the Invoker, when
	// its answer was written and its Timeline is complete.
	Done func(*hearth.Invocation)
	// Recorder is told of requests beyond Rate, once in a second for each
	// account; nil is no one.
	Recorder hearth.Recorder
	// Audit is where control-plane calls are recorded; nil is nowhere. Replays
	// refuses changes that were sent before; nil refuses none.
	Audit   *audit.Log
	Replays Replays
	// Guard bounds the tries at signatures; nil does not.
	Guard sigv4.Guard
	// Log takes the errors that are the server's; nil is slog.Default.
	Log *slog.Logger
	// Within tells from which container's code a request came; "" is from
	// outside. nil is always.
	Within func(*http.Request) string
	// FunctionURL is where the function with the URL of that id is served;
	// nil is the service's own form.
	FunctionURL func(r *http.Request, id string) string
	// StreamStall is how long the client of a streamed response may take to
	// accept a piece of it; 0 is stream.Stall.
	StreamStall time.Duration
	// DownloadKey signs the URLs of Code.Location; nil is a random one, so
	// that no URL outlives the process.
	DownloadKey []byte
}

// Handler serves the Lambda API and its neighbours on one endpoint. Safe for concurrent use.
type Handler struct {
	Config
	region   string
	router   *router
	verifier *sigv4.Verifier
	callers  callers
}

// New makes the handler.
func New(c Config) *Handler {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Provisioner == nil {
		c.Provisioner = nobody{}
	}
	if c.Concurrency == 0 {
		c.Concurrency = 1000
	}
	if c.Objects == nil {
		c.Objects = noObjects{}
	}
	if c.DownloadKey == nil {
		c.DownloadKey = make([]byte, 32)
		rand.Read(c.DownloadKey) // never fails
	}
	if c.FunctionURL == nil {
		c.FunctionURL = func(_ *http.Request, id string) string {
			return "https://" + id + ".lambda-url." + c.Region + ".on.aws/"
		}
	}
	h := &Handler{
		Config:   c,
		region:   c.Region,
		router:   newRouter(operations),
		verifier: sigv4.New(c.Credentials, c.Clock, c.Region, slices.Concat([]string{"lambda", "logs"}, slices.Sorted(maps.Keys(c.Queries)), slices.Sorted(maps.Keys(c.Neighbours)))...),
	}
	h.verifier.Guard = c.Guard
	return h
}

// call is one request while it is served.
type call struct {
	ctx       context.Context
	http      *http.Request
	requestID string
	began     time.Time
	claim     sigv4.Claim
	route     route
	record    *record             // in the audit log; nil: it is not recorded
	tags      map[string][]string // what conditions ask about those in the request
}

// account is the caller's account.
func (c *call) account() hearth.Account { return c.claim.Identity.Account }

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := call{ctx: r.Context(), http: r, requestID: uuid.NewString(), began: h.Clock.Now()}
	if strings.HasPrefix(r.URL.Path, downloadPath) {
		h.download(w, &c)
		return
	}
	var err error
	if c.claim, err = h.verifier.Open(r); err != nil {
		h.refuse(w, &c, protocolOf(r), err)
		return
	}
	switch c.claim.Service {
	case "lambda":
		h.serveLambda(w, &c)
	case "logs":
		h.serveLogs(w, &c)
	default:
		if n := h.Neighbours[c.claim.Service]; n != nil {
			h.serveNeighbour(w, &c, n)
			return
		}
		h.serveQuery(w, &c, h.Queries[c.claim.Service])
	}
}

// protocol is how a service spells its answers.
type protocol uint8

const (
	restJSON protocol = iota // Lambda
	awsJSON                  // CloudWatch Logs
	awsQuery                 // STS, IAM
	restXML                  // S3, which is not here
)

// protocolOf tells the protocol of a request whose signature could not be
// read, so that the caller's SDK understands the refusal.
func protocolOf(r *http.Request) protocol {
	switch {
	case isS3(r):
		return restXML
	case r.Header.Get("X-Amz-Target") != "":
		return awsJSON
	case strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded"),
		r.URL.Path == "/" && strings.Contains(r.URL.RawQuery, "Action="):
		return awsQuery
	}
	return restJSON
}

// refuse answers with an error.
func (h *Handler) refuse(w http.ResponseWriter, c *call, p protocol, err error) {
	if hearth.KindOf(err) == hearth.Canceled || c.ctx.Err() != nil {
		w.WriteHeader(hearth.Canceled.Status()) // nobody reads it
		return
	}
	name := ""
	if c.route.op != nil {
		name = c.route.op.name
	}
	logError(h.Log, c.requestID, name, err)
	h.noteUnproven(c, err)
	var a answer
	switch p {
	case awsJSON:
		a = encodeJSONError(err)
	case awsQuery:
		a = h.encodeQueryError(c, err)
	case restXML:
		a = encodeS3Error(err, c.requestID)
	default:
		a = encodeError(err)
	}
	h.send(w, c, a)
}

// send writes an answer. That it could not be written is the caller's affair,
// who has gone; there is nobody left to tell.
func (h *Handler) send(w http.ResponseWriter, c *call, a answer) {
	if err := a.write(w, c.requestID); err != nil {
		h.Log.Debug("the caller left before the answer", "request", c.requestID, "error", err)
	}
}

// serveLambda serves an operation of the Lambda API.
func (h *Handler) serveLambda(w http.ResponseWriter, c *call) {
	r := c.http
	var ok bool
	if c.route, ok = h.router.find(r.Method, r.URL.EscapedPath(), r.URL.RawQuery); !ok {
		h.refuse(w, c, restJSON, hearth.Errorf(hearth.UnknownOperation, "The Lambda API has no operation %s %s", r.Method, r.URL.Path))
		return
	}
	op := c.route.op
	switch op {
	case invokeOperation:
		h.invoke(w, c)
		return
	case streamOperation:
		h.invokeStream(w, c)
		return
	}
	body, err := readBody(r, maxRequest, op.name)
	if err == nil {
		err = h.verifier.Check(&c.claim, r, body)
	}
	if err == nil {
		h.begin(c, "lambda", op.name)
		err = h.admit(c, op.name)
	}
	if err == nil {
		err = h.mayChange(c)
	}
	var out smithy.Serializable
	if err == nil {
		out, err = h.serve(c, body)
	}
	err = h.ended(c, err)
	if err != nil {
		h.refuse(w, c, restJSON, err)
		return
	}
	a := encode(op.status, out)
	if a.status == http.StatusNoContent {
		a.body = nil
		delete(a.header, "Content-Type")
	}
	h.send(w, c, a)
}

// serve runs a checked request's operation.
func (h *Handler) serve(c *call, body []byte) (smithy.Serializable, error) {
	op := c.route.op
	run := built[op.name]
	if run == nil {
		return nil, notBuilt("The operation %s", op.name)
	}
	in, err := bind(c.route, c.http, body)
	if err != nil {
		return nil, err
	}
	if c.record != nil {
		c.record.params.Struct(in)
	}
	if err := validate(op, in); err != nil {
		return nil, err
	}
	if err := h.may(c, op, in); err != nil {
		return nil, err
	}
	return run(h, c, in)
}

// notBuilt is the answer to a part of the API that Hearth does not have yet.
func notBuilt(format string, args ...any) error {
	return hearth.Errorf(hearth.NotBuilt, format+" is not built yet in this version of Hearth.", args...)
}

// maxRequest bounds a request's body in bytes. It is the service's own: 50 MiB
// of zip in base64 and some configuration.
const maxRequest = 70_167_211

// maxDrain bounds what is read and thrown away of a body that is too large, so
// that a client that does not listen while it sends still gets its answer.
const maxDrain = 256 << 20

// readBody reads a request's body up to limit bytes.
func readBody(r *http.Request, limit int64, op string) ([]byte, error) {
	tooLarge := func() error {
		kind := hearth.EntityTooLarge
		switch op {
		case invokeOperation.name:
			kind, op = hearth.RequestTooLarge, "InvokeFunction"
		case streamOperation.name:
			kind = hearth.RequestTooLarge
		}
		_, _ = io.CopyN(io.Discard, r.Body, maxDrain) // the answer is the same whatever comes of it
		return hearth.Errorf(kind, "Request must be smaller than %d bytes for the %s operation", limit, op)
	}
	if r.ContentLength > limit {
		return nil, tooLarge()
	}
	if r.ContentLength == 0 || r.Body == nil {
		return nil, nil
	}
	// What a caller announces is believed up to 8 MiB; beyond that memory
	// follows what it really sends.
	size := r.ContentLength
	if size < 0 {
		size = 4096
	}
	b := make([]byte, 0, min(size, 8<<20)+1)
	for {
		n, err := r.Body.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if int64(len(b)) > limit {
			return nil, tooLarge()
		}
		if errors.Is(err, io.EOF) {
			return b, nil
		}
		if err != nil {
			return nil, hearth.Errorf(hearth.Canceled, "the caller left while sending: %w", err)
		}
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
	}
}
