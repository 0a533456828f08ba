package apigateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/gateway"
	"github.com/hearth-faas/hearth/internal/traffic"

	"github.com/google/uuid"
)

const (
	hostMark   = ".execute-api."
	pathPrefix = "/execute-api/"

	// maxBody bounds a request's body, in bytes; what a function is called with
	// is bounded by hearth.MaxPayload too.
	maxBody = 10 << 20
	// maxHeader bounds a request's line and headers, in bytes.
	maxHeader = 10240
)

// Host is the host name of an API, without its port.
func Host(id, region, domain string) string { return id + hostMark + region + "." + domain }

// call is one request of an API while it is served.
type call struct {
	s         *Service
	ctx       context.Context
	http      *http.Request
	requestID string
	traceID   string
	began     time.Time
	path      string // percent-encoded: below the host, or below the mapping
	below     string // the part of it that routes are matched with: without the stage
	basePath  string // of the mapping of a host name, without slashes
	prefix    string // of the host
	table     *table
	stage     *stage
	route     *route
	params    map[string]string // of the path
	body      []byte
	who       caller

	// Of a WebSocket.
	socket     *socket
	event      string // CONNECT, MESSAGE or DISCONNECT
	disconnect disconnect

	// What came of it, for the access log.
	status        int
	length        int
	errorMessage  string // that the client is told
	responseType  string // the sort of it
	reason        string // that only the log is told
	integrated    time.Duration
	integrationIs int // the status of what the integration answered: of Lambda, not of the function's code
	returned      int // that of the function's code, or of the backend
	response      http.Header
	responseBody  []byte
}

// Over serves APIs, and hands the requests that are for none to next.
func (s *Service) Over(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c := s.callOf(r); c != nil {
			c.serve(w)
		} else {
			next.ServeHTTP(w, r)
		}
	})
}

// callOf tells whether a request is for an API, by its host or by its path.
// The table of the call is nil if there is no such API.
func (s *Service) callOf(r *http.Request) *call {
	if i := strings.IndexByte(r.Host, '.'); i > 0 && strings.HasPrefix(r.Host[i:], hostMark) {
		id := strings.ToLower(r.Host[:i])
		return s.begin(r, s.open(id), id, r.URL.EscapedPath())
	}
	if strings.HasPrefix(r.URL.Path, pathPrefix) {
		rest, ok := strings.CutPrefix(r.URL.EscapedPath(), pathPrefix)
		if !ok { // some of the prefix was percent-encoded, which nobody does by accident
			return nil
		}
		id, path, _ := strings.Cut(rest, "/")
		return s.begin(r, s.open(id), id, "/"+path)
	}
	hosts := *s.hosts.Load()
	if len(hosts) == 0 {
		return nil
	}
	name, _ := gateway.SplitHost(r.Host)
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	h := hosts[name]
	if h == nil {
		h = hosts[wildcard(name)]
	}
	// A name may have become the server's own after an account took it.
	if h == nil || slices.Contains(s.Own, name) {
		return nil
	}
	prefix, _, _ := strings.Cut(name, ".")
	m, path := h.find(r.URL.EscapedPath())
	if m == nil {
		return s.begin(r, nil, prefix, r.URL.EscapedPath())
	}
	c := s.begin(r, s.table(m.APIID), prefix, path)
	c.basePath = m.Key
	if c.table != nil {
		c.stage, c.below = c.table.stages[m.Stage], c.path
		if m.Stage != defaultStage {
			c.path = "/" + m.Stage + c.path
		}
	}
	return c
}

// open is the table of an API that is served at its own host name.
func (s *Service) open(id string) *table {
	if t := s.table(id); t != nil && !t.closed {
		return t
	}
	return nil
}

func (s *Service) begin(r *http.Request, t *table, prefix, path string) *call {
	c := &call{s: s, ctx: r.Context(), http: r, requestID: uuid.NewString(), began: s.Clock.Now(), table: t, prefix: prefix, path: path}
	if c.path == "" {
		c.path = "/"
	}
	if c.traceID = r.Header.Get("X-Amzn-Trace-Id"); c.traceID == "" {
		c.traceID = gateway.NewTraceID(c.began)
	}
	return c
}

// findStage finds the stage that the path begins with, else $default.
func (c *call) findStage() {
	if c.stage != nil || c.table == nil {
		return
	}
	name, rest, _ := strings.Cut(c.path[1:], "/")
	if st := c.table.stages[name]; st != nil && name != defaultStage {
		c.stage, c.below = st, "/"+rest
		return
	}
	c.stage, c.below = c.table.stages[defaultStage], c.path
}

// refusal is why a call comes to nothing.
type refusal struct {
	status  int
	message string // what the client is told
	sort    string // as access logs call it
	reason  string // what only the log is told
	header  http.Header
}

func (r *refusal) Error() string { return r.message }

var (
	errNotFound    = &refusal{status: 404, message: "Not Found", sort: "ROUTE_NOT_FOUND"}
	errForbidden   = &refusal{status: 403, message: "Forbidden", sort: "ACCESS_DENIED"}
	errThrottled   = &refusal{status: 429, message: "Too Many Requests", sort: "THROTTLED"}
	errTooLarge    = &refusal{status: 413, message: "Request Entity Too Large", sort: "REQUEST_TOO_LARGE"}
	errHeaders     = &refusal{status: 431, message: "Request Header Fields Too Large", sort: "REQUEST_TOO_LARGE"}
	errUnavailable = &refusal{status: 503, message: "Service Unavailable", sort: "INTEGRATION_FAILURE"}
	errInternal    = &refusal{status: 500, message: "Internal Server Error", sort: "INTEGRATION_FAILURE"}
)

// because is a refusal with a reason for the log.
func (r *refusal) because(reason string) *refusal {
	n := *r
	n.reason = reason
	return &n
}

// serve answers a call.
func (c *call) serve(w http.ResponseWriter) {
	header := w.Header()
	header["Apigw-Requestid"] = []string{c.requestID}
	c.findStage()
	err := c.run(w)
	switch {
	case errors.Is(err, errServed):
		return
	case errors.Is(err, errGone):
		c.count(statusLeft)
		return
	case err != nil:
		c.refuse(w, err)
	}
	c.note()
}

// note notes how a call ended that was answered: in the metrics and in the
// access log.
func (c *call) note() {
	c.count(c.status)
	if c.stage != nil && c.stage.log != nil {
		c.writeLog()
	}
}

// statusLeft is what those are counted as who have left.
const statusLeft = 499

// count counts a call of an API that there is: by its stage, and by its route
// where the stage's settings ask for detailed metrics.
func (c *call) count(status int) {
	if c.table == nil {
		return
	}
	key := traffic.Key{c.table.id}
	if c.stage != nil {
		key[1] = c.stage.Name
	}
	if c.route != nil && c.route.detailed {
		key[2] = c.route.Key
	}
	counts := c.s.traffic
	if c.table.websocket {
		counts = c.s.messages
	}
	counts.Add(string(c.table.account), key, status, c.s.Clock.Now().Sub(c.began), c.integrated)
}

// errGone: the client left; nobody is there to be answered.
var errGone = errors.New("the client left")

// run answers a call, or tells why it comes to nothing.
func (c *call) run(w http.ResponseWriter) error {
	if c.stage == nil {
		return errNotFound
	}
	if sizeOfHeader(c.http) > maxHeader {
		return errHeaders
	}
	if c.table.websocket {
		return c.runSocket(w)
	}
	c.route, c.params = c.stage.find(c.http.Method, c.below)
	if gateway.IsPreflight(c.http) && c.stage.cors != nil && (c.route == nil || c.route.key.Method != http.MethodOptions) {
		gateway.Preflight(w.Header(), c.http, c.stage.cors)
		c.status = http.StatusNoContent
		w.WriteHeader(c.status)
		return nil
	}
	switch {
	case c.route == nil || c.route.integration == nil:
		return errNotFound
	case c.route.limiter != nil && !c.route.limiter.AllowN(c.s.Clock.Now(), 1):
		return errThrottled
	case c.http.ContentLength > maxBody:
		return errTooLarge
	}
	if err := c.authorize(w); err != nil {
		return err
	}
	if err := c.readBody(w); err != nil {
		return err
	}
	i := c.route.integration
	if i.broken != "" {
		return errInternal.because("the integration " + i.ID + " can't be called: " + i.broken)
	}
	ctx, cancel := context.WithTimeout(c.ctx, time.Duration(i.TimeoutMillis)*time.Millisecond)
	defer cancel()
	if i.Subtype != "" {
		return c.callService(ctx, w, i)
	}
	if i.Type == "AWS_PROXY" {
		return c.invoke(ctx, w, i)
	}
	return c.forward(ctx, w, i)
}

// sizeOfHeader is what the request's line and headers take.
func sizeOfHeader(r *http.Request) int {
	n := len(r.Method) + len(r.RequestURI) + len(r.Proto) + len(r.Host)
	for name, values := range r.Header {
		for _, v := range values {
			n += len(name) + len(v) + 4
		}
	}
	return n
}

// readBody reads the body unless it was.
func (c *call) readBody(w http.ResponseWriter) error {
	r := c.http
	if c.body != nil || r.Body == nil || r.ContentLength == 0 {
		return nil
	}
	if r.ContentLength > maxBody {
		return errTooLarge
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return errTooLarge
	}
	if err != nil {
		return errGone
	}
	c.body = body
	return nil
}

// refuse answers a call that comes to nothing.
func (c *call) refuse(w http.ResponseWriter, err error) {
	r, ok := errors.AsType[*refusal](err)
	if !ok {
		r = errInternal.because(err.Error())
	}
	if r.reason != "" && r.status >= http.StatusInternalServerError {
		key := ""
		if c.route != nil {
			key = c.route.Key
		}
		c.s.Log.Warn("a request of an API failed", "request", c.requestID, "api", c.table.id, "route", key, "reason", r.reason)
	}
	c.errorMessage, c.responseType, c.reason = r.message, r.sort, r.reason
	header := w.Header()
	for name, values := range r.header {
		header[name] = values
	}
	header["Content-Type"] = []string{"application/json"}
	if c.stage != nil {
		gateway.AllowOrigin(header, c.http, c.stage.cors)
	}
	c.write(w, r.status, []byte(`{"message":"`+r.message+`"}`))
}

// write writes the answer, whose headers are set. That the client has left is
// nobody's fault.
func (c *call) write(w http.ResponseWriter, status int, body []byte) {
	c.status = status
	if !gateway.HasBody(status) {
		w.WriteHeader(status)
		return
	}
	w.Header()["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	if c.http.Method != http.MethodHead {
		c.length = len(body)
		_, _ = w.Write(body)
	}
}

// asError finds the error that a caller may be told of.
func asError(err error) (*hearth.Error, bool) { return errors.AsType[*hearth.Error](err) }
