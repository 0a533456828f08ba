package deadline

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/hearth-faas/hearth"
)

// Path is where functions make calls and ask for their answers; see
// docs/systems/s10-deadlines.md.
const Path = "/_hearth/v1/calls"

// maxWait bounds how long one request waits for an answer.
const maxWait = 60 * time.Second

// API serves the calls of code inside containers, by plain HTTP: a container
// serves one invocation, so that the connection tells whose call it is. Who can
// be made to fetch a URL can't be made to call: that takes a header.
type API struct {
	Calls   *Calls
	Within  func(*http.Request) string                        // the container that a request comes from
	Serving func(container string) (*hearth.Invocation, bool) // what it serves
	Next    http.Handler                                      // takes all other paths
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rest, ok := strings.CutPrefix(r.URL.Path, Path)
	if !ok || rest != "" && rest[0] != '/' {
		a.Next.ServeHTTP(w, r)
		return
	}
	container := a.Within(r)
	caller, serving := a.Serving(container)
	switch {
	case container == "" || !serving || caller.Function == nil:
		refuse(w, hearth.Errorf(hearth.AccessDenied, "Calls are made by code that serves an invocation."))
	case caller.Function.Shared != nil:
		refuse(w, hearth.Errorf(hearth.AccessDenied, "Another account's function acts for nobody: it makes no calls."))
	case r.Header.Get("X-Hearth-Call") == "":
		refuse(w, hearth.Errorf(hearth.AccessDenied, "The header X-Hearth-Call is missing; any value will do."))
	case rest == "" && r.Method == http.MethodPost:
		a.call(w, r, container, caller)
	case rest != "" && r.Method == http.MethodGet:
		a.await(w, r, caller, rest[1:])
	default:
		w.Header().Set("Allow", "POST, GET")
		w.WriteHeader(http.StatusMethodNotAllowed)
	}
}

func (a *API) call(w http.ResponseWriter, r *http.Request, container string, caller *hearth.Invocation) {
	q := r.URL.Query()
	event, err := io.ReadAll(http.MaxBytesReader(w, r.Body, hearth.MaxPayload))
	if err != nil {
		refuse(w, hearth.Errorf(hearth.RequestTooLarge, "The event can't be read: %v.", err))
		return
	}
	if len(event) == 0 {
		event = []byte("{}")
	}
	if !json.Valid(event) {
		refuse(w, hearth.Errorf(hearth.InvalidContent, "The event is not JSON."))
		return
	}
	need, err := seconds(q.Get("needIn"), 0)
	if err == nil && q.Get("function") == "" {
		err = hearth.Errorf(hearth.InvalidParameter, "Which function? Add ?function=NAME.")
	}
	var made Made
	if err == nil {
		made, err = a.Calls.Call(r.Context(), Request{Within: container, Caller: caller, Function: q.Get("function"), Qualifier: q.Get("qualifier"), Event: event, NeedIn: need})
	}
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, http.StatusCreated, made)
}

func (a *API) await(w http.ResponseWriter, r *http.Request, caller *hearth.Invocation, id string) {
	q := r.URL.Query()
	wait, err := seconds(q.Get("wait"), maxWait)
	if err != nil {
		refuse(w, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), min(wait, maxWait))
	defer cancel()
	result, err := a.Calls.Await(ctx, caller.Function.Account, caller.Function.Name, id, q.Get("need") != "false")
	switch {
	case err != nil:
		refuse(w, err)
	case result == nil:
		answer(w, http.StatusAccepted, Made{ID: id, State: "pending"})
	default:
		contentType := result.ContentType
		if contentType == "" {
			contentType = "application/json"
		}
		w.Header().Set("Content-Type", contentType)
		if result.FunctionError != "" {
			w.Header().Set("X-Amz-Function-Error", result.FunctionError)
		}
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write(result.Payload) // a caller that is gone needs no answer
	}
}

// seconds reads a number of them.
func seconds(s string, otherwise time.Duration) (time.Duration, error) {
	if s == "" {
		return otherwise, nil
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || !(n >= 0 && n <= 900) {
		return 0, hearth.Errorf(hearth.InvalidParameter, "%q is no number of seconds from 0 to 900.", s)
	}
	return time.Duration(n * float64(time.Second)), nil
}

func refuse(w http.ResponseWriter, err error) {
	kind, message := hearth.KindOf(err), "Hearth failed; its log says why."
	if e, ok := errors.AsType[*hearth.Error](err); ok && e.Message != "" {
		message = e.Message
	}
	answer(w, kind.Status(), struct {
		Kind    hearth.Kind `json:"kind"`
		Message string      `json:"message"`
	}{kind, message})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a caller that is gone needs no answer
}
