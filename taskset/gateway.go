package taskset

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/hearth-faas/hearth"
)

// Gateway serves calls by HTTP:
//
//	POST /tasks/OWNER/API/STAGE/TASK
//
// with the event as its JSON body, signed (AWS Signature Version 4, for the
// service execute-api), or with an API key in X-Api-Key, or both. The answer is
// the task's own with 200, or with 502 if the task has failed; and otherwise a
// document that has the kind of the error and a sentence. Its fields but Log are
// needed. Safe for concurrent use.
type Gateway struct {
	Sets    *Sets
	Invoker hearth.Invoker
	// Done is called after each invocation, once its answer was written.
	Done func(*hearth.Invocation)
	// Verify finds out who signed a request with that body.
	Verify func(r *http.Request, body []byte) (hearth.Identity, error)
	Clock  hearth.Clock
	Region string
	Log    *slog.Logger // nil is slog.Default
}

// Prefix begins the paths of calls.
const Prefix = "/tasks/"

// The headers.
const (
	headerKey     = "X-Api-Key"
	headerRequest = "X-Hearth-Request-Id"
	headerFailed  = "X-Hearth-Function-Error"
	headerType    = "X-Amz-Invocation-Type" // Event: do not wait
)

// Over serves calls, and hands other requests to next.
func (g *Gateway) Over(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, Prefix) {
			g.serve(w, r)
		} else {
			next.ServeHTTP(w, r)
		}
	})
}

func (g *Gateway) serve(w http.ResponseWriter, r *http.Request) {
	began := g.Clock.Now()
	inv, err := g.take(w, r, began)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	inv.Timeline.Begin(began)
	ctx := r.Context()
	if secret := r.Header.Get(headerKey); secret != "" {
		ctx = WithKey(ctx, secret)
	}
	res, err := g.Invoker.Invoke(ctx, inv)
	w.Header().Set(headerRequest, inv.RequestID)
	switch {
	case err != nil:
		g.fail(w, r, err)
	case inv.Async:
		w.WriteHeader(http.StatusAccepted)
	default:
		g.answer(w, inv, res)
	}
	inv.Timeline.End(hearth.StageAnswer, g.Clock.Now())
	g.Done(inv)
}

// take reads a request and finds who it is from and what it is to run.
func (g *Gateway) take(w http.ResponseWriter, r *http.Request, began time.Time) (*hearth.Invocation, error) {
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, Prefix), "/")
	if len(parts) != 4 {
		return nil, hearth.Errorf(hearth.UnknownOperation, "A call is POST %sOWNER/API/STAGE/TASK, with the owner's account.", Prefix)
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return nil, hearth.Errorf(hearth.UnknownOperation, "A call is a POST, not a %s.", r.Method)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, hearth.MaxPayload))
	if err != nil {
		if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, hearth.Errorf(hearth.EntityTooLarge, "The event has more than %d bytes.", tooLarge.Limit)
		}
		return nil, hearth.Errorf(hearth.InvalidContent, "The event can't be read: %v.", err)
	}
	owner, api, stage, task := hearth.Account(parts[0]), parts[1], parts[2], parts[3]
	inv := &hearth.Invocation{Qualifier: stage, Payload: body, Async: r.Header.Get(headerType) == "Event"}
	u, err := g.caller(inv, r, body, owner, api)
	if err != nil {
		return nil, err
	}
	if len(body) > 0 && !json.Valid(body) {
		return nil, hearth.Errorf(hearth.InvalidContent, "The event is no JSON.")
	}
	inv.Account, inv.Name = u.Account, u.Alias+Separator+task
	return inv, nil
}

// caller finds whose subscription a request is for: that of its key, or that of
// who signed it. Whoever has none learns nothing of what there is.
func (g *Gateway) caller(inv *hearth.Invocation, r *http.Request, body []byte, owner hearth.Account, name string) (*sub, error) {
	refused := hearth.Errorf(hearth.AccessDenied, "The account %s has no task API %s that the caller has access to. Ask for it with: hearth tasks subscribe %s/%s", owner, name, owner, name)
	st := g.Sets.state.Load()
	if r.Header.Get("Authorization") == "" && !strings.Contains(r.URL.RawQuery, "X-Amz-Algorithm=") {
		if secret := r.Header.Get(headerKey); secret != "" {
			u, k := st.withKey(secret)
			if u == nil || u.Owner != owner || u.API != name {
				return nil, refused
			}
			inv.Caller = hearth.Identity{Account: u.Account, ARN: "arn:aws:hearth:" + g.Region + ":" + string(u.Account) + ":task-key/" + u.Alias + "/" + k.ID, UserID: k.ID}
			inv.Authorized = true // by its key
			return u, nil
		}
	}
	id, err := g.Verify(r, body)
	if err != nil {
		return nil, err
	}
	inv.Caller = id
	for _, u := range st.subs {
		if u.Account == id.Account && u.Owner == owner && u.API == name {
			return u, nil
		}
	}
	return nil, refused
}

func (g *Gateway) answer(w http.ResponseWriter, inv *hearth.Invocation, res *hearth.Result) {
	h := w.Header()
	contentType := res.ContentType
	if contentType == "" {
		contentType = "application/json"
	}
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(res.Payload)))
	status := http.StatusOK
	if res.FunctionError != "" {
		h.Set(headerFailed, res.FunctionError)
		status = http.StatusBadGateway
	}
	w.WriteHeader(status)
	_, _ = w.Write(res.Payload) // a caller that is gone needs no answer
}

// fail answers with an error as the control API does.
func (g *Gateway) fail(w http.ResponseWriter, r *http.Request, err error) {
	kind, message := hearth.KindOf(err), "Hearth failed to do this; its log says why."
	if e, ok := errors.AsType[*hearth.Error](err); ok {
		if e.Message != "" {
			message = e.Message
		}
		if e.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.FormatFloat(math.Ceil(e.RetryAfter.Seconds()), 'f', 0, 64))
		}
	}
	if kind.Status() >= 500 && r.Context().Err() == nil {
		g.log().Error("a call of a task", "path", r.URL.Path, "err", err)
	}
	body, merr := json.Marshal(struct {
		Kind    hearth.Kind `json:"kind"`
		Message string      `json:"message"`
	}{kind, message})
	if merr != nil {
		panic(merr) // of plain text
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(kind.Status())
	_, _ = w.Write(append(body, '\n')) // a caller that is gone needs no answer
}

func (g *Gateway) log() *slog.Logger {
	if g.Log != nil {
		return g.Log
	}
	return slog.Default()
}
