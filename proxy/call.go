package proxy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/proxy/body"
	"github.com/hearth-faas/hearth/proxy/expression"
)

// call is one call of an API while it is served.
type call struct {
	*compiled
	id      string
	began   time.Time
	method  string
	format  body.Format // of the response
	came    body.Format // of the request; "" had none
	caller  caller
	request map[string]any
	path    map[string]any
	query   map[string]any
	headers map[string]any
	body    any
	rawURL  string // path and query
	trace   string // the X-Ray header; "" has none

	live *live

	// What came of it, for the record.
	version   *version // with which its event was made
	after     *version // the change of it; nil is none
	run       run
	runs      int
	running   time.Duration // at the execution service, all tries
	attempts  int
	conflicts int
}

// secretHeaders are not for expressions, functions and records.
var secretHeaders = map[string]bool{"Authorization": true, "Proxy-Authorization": true, "X-Api-Key": true, "X-Amz-Security-Token": true, "Cookie": true}

// begin finds the API that a request is for, who sent it and whether he may, and
// reads it. Errors are *fault; a call that is returned beside one tells what was
// known by then.
func (s *Service) begin(w http.ResponseWriter, r *http.Request, account hearth.Account, escaped, id string) (*call, error) {
	q := &call{compiled: &compiled{API: &API{}, account: account}, id: id, began: s.cfg.Clock.Now(), method: r.Method}
	if r.Header.Get("Content-Type") != "" || r.ContentLength > 0 {
		q.came, _ = body.Of(r.Header.Get("Content-Type"))
	}
	var acceptable bool
	if q.format, acceptable = body.Negotiate(r.Header.Values("Accept"), q.came); !acceptable {
		q.format = body.JSON // for saying so
	}
	parts, ok := split(escaped)
	if !ok {
		return q, &fault{Fault: BadRequest, message: "The path is not one."}
	}
	c, variables, allow := s.table.of(account).find(r.Method, parts)
	if c == nil {
		if len(allow) > 0 {
			return q, &fault{Fault: WrongMethod, message: "This is not called by " + r.Method + " but by " + strings.Join(allow, ", ") + ".", allow: allow}
		}
		return q, &fault{Fault: NoSuchPath, message: "There is no proxy API for this path."}
	}
	q.compiled, q.path = c, variables
	raw, err := readBody(w, r)
	if err != nil {
		return q, err
	}
	if q.caller, err = s.authenticate(r, raw, account, c.ID, c.Auth); err != nil {
		return q, err
	}
	if c.Throttle != nil {
		b, ok := s.buckets.Load(keyOf(account, c.ID))
		if !ok {
			b, _ = s.buckets.LoadOrStore(keyOf(account, c.ID), new(bucket))
		}
		if wait, ok := b.(*bucket).take(c.Throttle, q.began); !ok {
			return q, &fault{Fault: Throttled, message: "There are more calls than this takes; come again later.", retryAfter: wait}
		}
	}
	if !acceptable {
		return q, &fault{Fault: NotAcceptable, message: "The response can be application/json, application/xml or application/x-www-form-urlencoded, and Accept takes none of them."}
	}
	return q, q.read(r, raw, s)
}

// read makes the variables of a request.
func (q *call) read(r *http.Request, raw []byte, s *Service) error {
	if len(raw) > 0 {
		format, ok := body.Of(r.Header.Get("Content-Type"))
		if !ok {
			return &fault{Fault: UnknownFormat, message: "The body must be application/json, application/xml or application/x-www-form-urlencoded, in UTF-8."}
		}
		if format == body.Form && (raw[0] == '{' || raw[0] == '[') { // as curl -d sends it
			return &fault{Fault: BadRequest, message: "The body looks like JSON, and its Content-Type says that it is a form: send Content-Type: application/json."}
		}
		var err error
		if q.body, err = body.Decode(format, raw); err != nil {
			return &fault{Fault: BadRequest, message: fmt.Sprintf("The body can't be read as %s: %v.", format, err)}
		}
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return &fault{Fault: BadRequest, message: "The query can't be read: " + err.Error() + "."}
	}
	q.query = body.Values(query)
	q.rawURL = r.URL.EscapedPath() + "?" + r.URL.RawQuery
	q.trace = r.Header.Get("X-Amzn-Trace-Id")
	q.headers = map[string]any{}
	for name, values := range r.Header {
		if !secretHeaders[name] {
			q.headers[strings.ToLower(name)] = strings.Join(values, ", ")
		}
	}
	ip, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		ip = r.RemoteAddr
	}
	q.request = map[string]any{
		"id": q.id, "method": q.method, "path": r.URL.Path, "caller": q.caller.name, "sourceIp": ip,
		"time": q.began.UTC().Format(time.RFC3339Nano), "format": string(q.format),
	}
	if q.caller.claims != nil {
		q.request["claims"], q.request["scopes"] = q.caller.claims, q.caller.scopes
	}
	return q.find(s)
}

// find finds the resource that the call is for.
func (q *call) find(s *Service) error {
	id := q.Resource
	if q.Type != "" {
		id, _ = q.path[ResourceVariable].(string)
	}
	live, v := s.resources.find(q.account, id)
	if v == nil || q.Type != "" && v.Type != q.Type {
		return &fault{Fault: NoSuchResource, message: fmt.Sprintf("There is no resource %.140q here.", id)}
	}
	q.live, q.version = live, v
	return nil
}

func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.Body == nil || r.ContentLength == 0 {
		return nil, nil
	}
	tooLarge := &fault{Fault: BodyTooLarge, message: fmt.Sprintf("The body may have up to %d bytes.", MaxBody)}
	if r.ContentLength > MaxBody {
		return nil, tooLarge
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, tooLarge
	}
	if err != nil {
		return nil, &fault{Fault: CallerLeft, message: "The caller left while sending.", err: err}
	}
	return raw, nil
}

// resource is a resource as expressions have it.
func (v *version) variables() map[string]any {
	return map[string]any{
		"id": v.ID, "type": v.Type, "state": v.state, "metadata": v.metadata(), "revision": int64(v.Revision),
	}
}

func (q *call) variables() map[string]any {
	return map[string]any{
		"request": q.request, "path": q.path, "query": q.query, "headers": q.headers, "body": q.body, "resource": q.version.variables(),
	}
}

// require checks what the request must fulfil.
func (q *call) requirements(ctx context.Context) error {
	vars := q.variables()
	for i, x := range q.require {
		ok, err := x.Eval(ctx, vars)
		if err != nil {
			return unfit(ctx, err)
		}
		if ok != true {
			r := q.Mapping.Require[i]
			return &fault{Fault: BadRequest, status: r.Status, message: r.Message}
		}
	}
	return nil
}

// unfit is the fault of an expression about a request.
func unfit(ctx context.Context, err error) *fault {
	switch {
	case ctx.Err() != nil:
		return ended(ctx)
	case errors.Is(err, expression.ErrBounds):
		return &fault{Fault: MappingFailed, message: "The mapping can't be applied to this request.", detail: err.Error()}
	}
	return &fault{Fault: BadRequest, message: "The request does not fit: " + err.Error() + "."}
}

// misfit is the fault of an expression about a result.
func misfit(ctx context.Context, where string, err error) *fault {
	if ctx.Err() != nil {
		return ended(ctx)
	}
	return &fault{Fault: MappingFailed, message: "The mapping can't make a response of what the function returned.", typ: where, detail: err.Error()}
}

// perform runs a call to its response, within its time.
func (s *Service) perform(ctx context.Context, q *call) (*response, error) {
	ctx, cancel := context.WithTimeout(ctx, q.timeout)
	defer cancel()
	key := ""
	if q.Cache != nil {
		var err error
		if key, err = q.cacheKeyOf(ctx); err != nil {
			return nil, err
		}
		if r := s.cache.get(key, q.began); r != nil {
			return r, errCached
		}
	}
	result, err := s.work(ctx, q)
	if err != nil {
		return nil, err
	}
	r, err := q.answer(ctx, result)
	if err == nil && key != "" && r.Status < 300 {
		s.cache.put(key, s.cfg.Clock.Now().Add(time.Duration(q.Cache.TTLMillis)*time.Millisecond), r)
	}
	return r, err
}

// errCached stands beside a response that was kept.
var errCached = errors.New("it was kept")

// maxReruns bounds how often a function is run again for one call.
const maxReruns = 100

// work runs the function and changes the state, until the change is one of the
// state that the function was told of.
func (s *Service) work(ctx context.Context, q *call) (result any, err error) {
	for {
		if q.run, err = s.runOnce(ctx, q); err != nil {
			return nil, err
		}
		if len(q.run.payload) > 0 {
			if result, err = expression.FromJSON(q.run.payload); err != nil {
				return nil, misfit(ctx, "result", fmt.Errorf("the result is no JSON: %w", err))
			}
		}
		// The function has run: what it did is kept, though the caller may have
		// left meanwhile.
		settled := context.WithoutCancel(ctx)
		u, err := q.update(settled, result)
		if err != nil {
			return nil, err
		}
		if u == nil {
			return result, nil
		}
		after, err := s.resources.change(settled, q.live, u)
		if !errors.Is(err, errMoved) {
			if err == nil && after.Revision != q.version.Revision {
				q.after = after
			}
			return result, err
		}
		s.metrics.conflicts.Inc()
		q.conflicts++
		if q.Mapping.Conflict == "fail" || q.conflicts >= maxReruns {
			return nil, &fault{Fault: Conflict, message: "The resource was changed by another call meanwhile; try again.", retryAfter: time.Second}
		}
		if q.conflicts == 1 {
			select {
			case q.live.turn <- struct{}{}:
				defer func() { <-q.live.turn }()
			case <-ctx.Done():
				return nil, ended(ctx)
			}
		}
		if q.version = q.live.now.Load(); q.version == nil {
			return nil, &fault{Fault: NoSuchResource, message: "The resource was deleted during the call."}
		}
	}
}

// runOnce makes the event and has the execution service run it.
func (s *Service) runOnce(ctx context.Context, q *call) (run, error) {
	var event any = q.variables()
	if q.event != nil {
		var err error
		if event, err = q.event.Eval(ctx, q.variables()); err != nil {
			return run{}, unfit(ctx, err)
		}
	}
	payload, err := json.Marshal(event)
	if err != nil {
		return run{}, misfit(ctx, "event", err)
	}
	about, err := json.Marshal(map[string]any{"custom": map[string]string{
		"hearth-proxy-api": q.ID, "hearth-proxy-api-revision": strconv.FormatUint(q.Revision, 10), "hearth-proxy-request": q.id,
		"hearth-resource": q.version.ID, "hearth-resource-type": q.version.Type, "hearth-resource-revision": strconv.FormatUint(q.version.Revision, 10),
	}})
	if err != nil {
		return run{}, misfit(ctx, "event", err)
	}
	began := s.cfg.Clock.Now()
	r, err := s.cfg.Execution.invoke(ctx, &order{q.account, q.Function, payload, about, q.trace}, q.mayRepeat(q.method))
	q.running += s.cfg.Clock.Now().Sub(began)
	q.runs++
	q.attempts += r.attempts
	s.metrics.retries.Add(float64(max(r.attempts-1, 0)))
	return r, err
}

// update is what of a result changes the state; nil is nothing.
func (q *call) update(ctx context.Context, result any) (*update, error) {
	u, some := &update{atRevision: q.version.Revision}, false
	vars := q.variables()
	vars["result"] = result
	for _, x := range []struct {
		where string
		*expression.Expression
		into *map[string]any
	}{{"set", q.set, &u.set}, {"merge", q.merge, &u.merge}, {"add", q.add, &u.add}} {
		if x.Expression == nil {
			continue
		}
		v, err := x.Eval(ctx, vars)
		if err != nil {
			return nil, misfit(ctx, x.where, err)
		}
		if m, ok := v.(map[string]any); ok {
			*x.into, some = m, true
		}
	}
	if !some {
		return nil, nil
	}
	return u, nil
}

// cacheKeyOf is what a response depends on: the definition, the resource's
// revision, the caller, the format, and what the API says.
func (q *call) cacheKeyOf(ctx context.Context) (string, error) {
	var own any = q.rawURL
	if q.cacheKey != nil {
		var err error
		if own, err = q.cacheKey.Eval(ctx, q.variables()); err != nil {
			return "", unfit(ctx, err)
		}
	}
	b, err := json.Marshal([]any{q.account, q.ID, q.Revision, q.version.ID, q.version.Created, q.version.Revision, q.caller.name, q.caller.claims, q.format, q.method, own})
	if err != nil {
		return "", misfit(ctx, "cache.key", err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

// newID makes a request's id.
func newID() string { return uuid.NewString() }
