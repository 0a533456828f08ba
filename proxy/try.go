package proxy

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/jwt"
	"github.com/hearth-faas/hearth/proxy/body"
	"github.com/hearth-faas/hearth/proxy/expression"
)

// Trial is a call that is only thought through: nothing is run and nothing
// changes.
type Trial struct {
	// ID is of the account's API that is tried; or API is a definition.
	ID  string `json:"id,omitempty"`
	API *API   `json:"api,omitempty"`
	// The request. Path has the query, and is below the account's.
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	Headers map[string]string `json:"headers,omitempty"`
	Body    string            `json:"body,omitempty"`
	// Claims are what the caller's token is assumed to say, an object: of APIs
	// for bearers of tokens.
	Claims json.RawMessage `json:"claims,omitempty"`
	// Resource stands for the account's resource; nil takes that.
	Resource *Resource `json:"resource,omitempty"`
	// Result is what the function is assumed to return; without it the trial
	// ends with the event. Or Error is what it is assumed to fail with.
	Result json.RawMessage `json:"result,omitempty"`
	Error  *TrialError     `json:"error,omitempty"`
}

// TrialError is an assumed failure.
type TrialError struct {
	Fault   Fault  `json:"fault"`
	Type    string `json:"type,omitempty"`
	Message string `json:"message,omitempty"`
}

// Tried is what a trial came to.
type Tried struct {
	API      string          `json:"api"`
	Resource string          `json:"resource,omitempty"`
	Event    json.RawMessage `json:"event,omitempty"`
	// State is what the resource's would be; absent where it stays.
	State    json.RawMessage `json:"state,omitempty"`
	Response *TriedResponse  `json:"response,omitempty"`
	// Fault and Why tell what kept the call from its response.
	Fault Fault  `json:"fault,omitempty"`
	Why   string `json:"why,omitempty"`
}

// TriedResponse is a response.
type TriedResponse struct {
	Status  int                 `json:"status"`
	Headers map[string][]string `json:"headers"`
	Body    string              `json:"body"`
}

// Try thinks a call through. An error is of the trial itself; what becomes of the
// call is in Tried. Who calls, how often, and what is cached does not count.
func (s *Service) Try(ctx context.Context, account hearth.Account, t *Trial) (*Tried, error) {
	c, err := s.tried(account, t)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, strings.ToUpper(t.Method), "http://localhost"+t.Path, strings.NewReader(t.Body))
	if err != nil || !strings.HasPrefix(t.Path, "/") {
		return nil, hearth.Errorf(hearth.InvalidParameter, "%s %.200q is no request: a method, and a path that begins with /.", t.Method, t.Path)
	}
	for name, v := range t.Headers {
		r.Header.Set(name, v)
	}
	out := &Tried{API: c.ID}
	q := &call{compiled: c, id: newID(), began: s.cfg.Clock.Now(), method: r.Method}
	if c.Auth.Kind == "jwt" {
		if q.caller, err = assumed(t.Claims); err != nil {
			return nil, hearth.Errorf(hearth.InvalidParameter, "claims: %v.", err)
		}
	} else if len(t.Claims) > 0 {
		return nil, hearth.Errorf(hearth.InvalidParameter, "claims: the proxy API is not for bearers of tokens.")
	}
	if len(t.Body) > 0 {
		q.came, _ = body.Of(r.Header.Get("Content-Type"))
	}
	q.format, _ = body.Negotiate(r.Header.Values("Accept"), q.came)
	if q.format == "" {
		q.format = body.JSON
	}
	answer, err := s.think(ctx, q, r, t, out)
	if err != nil {
		f := faultOf(err)
		out.Fault, out.Why = f.Fault, f.Error()
		answer = q.answerFault(ctx, f)
	}
	if answer != nil {
		out.Response = &TriedResponse{answer.Status, answer.Header, string(answer.Body)}
	}
	return out, nil
}

// assumed is the bearer of a token that nobody has signed.
func assumed(claims json.RawMessage) (caller, error) {
	if len(claims) == 0 {
		claims = json.RawMessage("{}")
	}
	token, err := jwt.Read(claims)
	if err != nil {
		return caller{}, err
	}
	return bearer(token)
}

// tried is the API that is tried.
func (s *Service) tried(account hearth.Account, t *Trial) (*compiled, error) {
	switch {
	case (t.API == nil) == (t.ID == ""):
		return nil, hearth.Errorf(hearth.InvalidParameter, "id, api: one of them says what is tried, and only one.")
	case len(t.Result) > 0 && t.Error != nil:
		return nil, hearth.Errorf(hearth.InvalidParameter, "result, error: a function returns or fails.")
	case t.Error != nil && t.Error.Fault.Status() == 0:
		return nil, hearth.Errorf(hearth.InvalidParameter, "error.fault: %.80q is none of %s.", t.Error.Fault, joinFaults())
	case t.API != nil:
		return compile(account, t.API)
	}
	if c := s.table.of(account).byID[t.ID]; c != nil {
		return c, nil
	}
	return nil, notFound("proxy API", t.ID)
}

// think goes the way of a call, as far as it goes without a run.
func (s *Service) think(ctx context.Context, q *call, r *http.Request, t *Trial, out *Tried) (*response, error) {
	parts, ok := split(r.URL.EscapedPath())
	if ok {
		q.path, ok = q.template.match(parts)
	}
	if !ok {
		return nil, &fault{Fault: NoSuchPath, message: "The path " + r.URL.Path + " is not one of " + q.API.Path + "."}
	}
	if err := q.read(r, []byte(t.Body), s); err != nil && !(t.Resource != nil && faultOf(err).Fault == NoSuchResource) {
		return nil, err
	}
	if t.Resource != nil {
		v := *t.Resource
		if v.Type == "" {
			v.Type = cmp.Or(q.Type, "trial")
		}
		if v.ID == "" {
			id, _ := q.path[ResourceVariable].(string)
			v.ID = cmp.Or(q.API.Resource, id)
		}
		state, err := v.check()
		if err != nil {
			return nil, &fault{Fault: BadRequest, message: "The resource can't be: " + message(err)}
		}
		q.version = &version{v, state}
	}
	out.Resource = q.version.ID
	if err := q.requirements(ctx); err != nil {
		return nil, err
	}
	var event any = q.variables()
	if q.event != nil {
		var err error
		if event, err = q.event.Eval(ctx, q.variables()); err != nil {
			return nil, unfit(ctx, err)
		}
	}
	var err error
	if out.Event, err = json.Marshal(event); err != nil {
		return nil, misfit(ctx, "event", err)
	}
	if t.Error != nil {
		return nil, &fault{Fault: t.Error.Fault, message: "As assumed.", typ: t.Error.Type, detail: t.Error.Message}
	}
	if len(t.Result) == 0 {
		return nil, nil
	}
	result, err := expression.FromJSON(t.Result)
	if err != nil {
		return nil, misfit(ctx, "result", err)
	}
	u, err := q.update(ctx, result)
	if err != nil {
		return nil, err
	}
	if u != nil {
		state, data, err := u.apply(q.version)
		if err != nil && !errors.Is(err, errMoved) { // nothing moves here
			return nil, err
		}
		q.after = &version{q.version.Resource, state}
		q.after.Resource.Revision++
		out.State = data
	}
	return q.answer(ctx, result)
}
