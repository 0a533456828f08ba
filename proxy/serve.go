package proxy

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/proxy/body"
)

// Where calls come in: the path /_hearth/proxy/ACCOUNT/…, or the host name
// ACCOUNT.proxy.…, under which the APIs' paths begin.
const (
	PathPrefix = "/_hearth/proxy/"
	hostMark   = ".proxy."
	callsPath  = "/_calls/" // of asynchronous ones; no API's path begins with _
)

var accountPattern = regexp.MustCompile(`^[0-9]{12}$`)

// target tells whose APIs a request is for, and which path of them. base is what
// goes before that path in a URL of the same host.
func target(r *http.Request) (account hearth.Account, path, base string, ok bool) {
	if i := strings.IndexByte(r.Host, '.'); i > 0 && strings.HasPrefix(r.Host[i:], hostMark) && accountPattern.MatchString(r.Host[:i]) {
		return hearth.Account(r.Host[:i]), r.URL.EscapedPath(), "", true
	}
	rest, ok := strings.CutPrefix(r.URL.EscapedPath(), PathPrefix)
	if !ok {
		return "", "", "", false
	}
	first, path, _ := strings.Cut(rest, "/")
	if !accountPattern.MatchString(first) {
		first = "" // whose are none
	}
	return hearth.Account(first), "/" + path, PathPrefix + first, true
}

// Over serves calls of proxy APIs, and hands the requests that are none to next.
func (s *Service) Over(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		account, path, base, ok := target(r)
		switch {
		case !ok:
			next.ServeHTTP(w, r)
		case strings.HasPrefix(path, callsPath):
			s.serveCall(w, r, account, path[len(callsPath):])
		default:
			s.serve(w, r, account, path, base)
		}
	})
}

// serve serves one call.
func (s *Service) serve(w http.ResponseWriter, r *http.Request, account hearth.Account, path, base string) {
	id := newID()
	w.Header()["X-Hearth-Request-Id"] = []string{id}
	q, err := s.begin(w, r, account, path, id)
	if err == nil {
		err = q.requirements(r.Context())
	}
	if err == nil && q.wantsAsync(r) {
		var accepted *response
		if accepted, err = s.calls.accept(r.Context(), q, base); err == nil {
			s.finish(q, accepted.Status, "accepted", nil)
			s.write(w, q, accepted)
			return
		}
	}
	var answer *response
	if err == nil {
		answer, err = s.perform(r.Context(), q)
	}
	f, outcome := asFault(err)
	if f != nil {
		answer = q.answerFault(r.Context(), f)
	}
	if q.Cache != nil && f == nil {
		w.Header()["X-Hearth-Cache"] = []string{map[bool]string{true: "hit", false: "miss"}[outcome == "cached"]}
	}
	s.finish(q, answer.Status, outcome, f)
	s.write(w, q, answer)
}

func (s *Service) write(w http.ResponseWriter, q *call, r *response) {
	h := w.Header()
	for name, values := range r.Header {
		h[name] = values
	}
	if q.ID != "" {
		h["X-Hearth-Mapping"] = []string{q.ID + "@" + strconv.FormatUint(q.Revision, 10)}
	}
	if r.Status != http.StatusNoContent && r.Status != http.StatusNotModified {
		h["Content-Length"] = []string{strconv.Itoa(len(r.Body))}
	}
	w.WriteHeader(r.Status)
	_, _ = w.Write(r.Body) // whoever left needs no answer
}

// finish notes how a call ended: in the metrics, as a decision, and in the log if
// the failure is Hearth's.
func (s *Service) finish(q *call, status int, outcome string, f *fault) {
	now := s.cfg.Clock.Now()
	s.metrics.call(q.account, q.ID, status, outcome, now.Sub(q.began), q.running)
	if f != nil && f.Fault == Internal {
		s.log.Error("proxy call failed", "request", q.id, "api", q.ID, "error", f.err)
	}
	if s.cfg.Recorder == nil || q.ID == "" { // that nothing is there needs no record
		return
	}
	d := hearth.Decision{
		At: now, Kind: hearth.DecisionProxy, RequestID: q.id, Account: q.account, Function: q.Function, Generation: q.Revision,
		Chosen: outcome, Why: q.story(f, s.cfg.Execution.Endpoint), Outcome: outcome,
	}
	d.Spent[hearth.StageRun] = now.Sub(q.began)
	s.cfg.Recorder.Record(&d)
}

// story says in a sentence by what definition a call was served, and what came of
// it.
func (q *call) story(f *fault, endpoint string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s of proxy API %s at revision %d", q.method, q.ID, q.Revision)
	if q.version != nil {
		fmt.Fprintf(&b, ", for resource %s at revision %d", q.version.Resource.ID, q.version.Resource.Revision)
	}
	if q.runs > 0 {
		fmt.Fprintf(&b, "; %s run at %s", q.Function, endpoint)
		if q.run.requestID != "" {
			fmt.Fprintf(&b, " as request %s", q.run.requestID)
		}
		if q.attempts > q.runs {
			fmt.Fprintf(&b, ", which took %d tries", q.attempts)
		}
		if q.conflicts > 0 {
			fmt.Fprintf(&b, ", and %d times since the state had changed meanwhile", q.runs)
		}
	}
	if q.after != nil {
		fmt.Fprintf(&b, "; the state changed to revision %d", q.after.Resource.Revision)
	}
	if f != nil {
		fmt.Fprintf(&b, "; %s", f.Fault)
		if f.typ != "" {
			fmt.Fprintf(&b, " (%.100s)", f.typ)
		}
		if f.Fault == MappingFailed && f.detail != "" { // a function's words may be secret, an expression's are not
			fmt.Fprintf(&b, ": %.300s", f.detail)
		}
	}
	return b.String()
}

// plainFault answers a fault that is of no API.
func plainFault(r *http.Request, id string, account hearth.Account, f *fault) (*call, *response) {
	q := &call{compiled: &compiled{API: &API{}, account: account}, id: id, format: body.JSON}
	if format, ok := body.Negotiate(r.Header.Values("Accept"), ""); ok {
		q.format = format
	}
	return q, q.answerFault(context.Background(), f)
}
