package control

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/audit"
)

//go:embed openapi.json
var openAPI []byte

// MaxDecisions bounds one answer of /decisions, and of /parked.
const MaxDecisions = 1000

// Handler serves the API. All fields but Log must be set before the first
// request.
type Handler struct {
	// Authenticate finds out who signed a request with that body; its error, of
	// a kind with a status, is the answer. An account's root is let in, and who
	// may by Authorize.
	Authenticate func(r *http.Request, body []byte) (hearth.Identity, error)

	Instances Instances
	Decisions Decisions
	Runtimes  Runtimes
	Doctor    Doctor
	Logs      Logs
	Parked    ParkedEvents
	BusEvents BusEvents
	Policies  Policies
	Sizes     Sizes
	Nodes     Nodes
	Sources   Sources

	Idempotence Idempotence
	Predictions Predictions
	Capacities  Capacities
	Learned     Learned
	Audits      Audits
	Backfills   Backfills
	Bills       Bills
	Tasks       Tasks
	Shares      Shares
	Accounts    Accounts
	Proxies     Proxies
	Access      Access
	MasterKey   MasterKey

	// Authorize tells whether somebody who is no root may do something with
	// what is his account's; nil is that root alone may do anything here.
	Authorize func(ctx context.Context, id hearth.Identity, action, resource string) error
	// Region is that of the ARNs by which policies name what is asked about.
	Region string

	// Serves tells whether a path below Prefix is served; nil is all of them.
	Serves func(path string) bool

	// Operator is the account whose root may ask about all accounts and about
	// the machine.
	Operator hearth.Account

	// Audit is where calls are recorded, and Replays refuses changes that were
	// sent before; nil is that none are.
	Audit   *audit.Log
	Replays interface {
		Fresh(signature, source string, now time.Time) error
	}

	// Log takes what went wrong on Hearth's side; nil is slog.Default.
	Log *slog.Logger
}

// ask is a request that was let in.
type ask struct {
	account hearth.Account
	q       url.Values
	body    []byte // of a POST
}

type answer func(ctx context.Context, a ask) (any, error)

// maxBody bounds the body of a POST.
const maxBody = 1 << 20

// noticePath is where a trigger's notice is given with its token.
const noticePath = "/trigger"

// routes are the paths below Prefix that answer one JSON document. /logs, /events and
// /openapi.json stand apart: two stream, the third is for everybody.
func (h *Handler) routes() map[string]answer {
	return h.taskRoutes(map[string]answer{
		"/ps":         h.ps,
		"/decisions":  h.decisions,
		"/runtimes":   h.runtimes,
		"/doctor":     h.doctor,
		"/parked":     h.parked,
		"/policy":     h.policy,
		"/idempotent": h.idempotent,
		"/advice":     h.advice,
		"/nodes":      h.nodes,
		"/learned":    h.learned,
		"/triggers":   h.triggers,
		"/capacity":   h.capacity,
		"/audit":      h.audit,
		"/sources":    h.sources,

		"/bill":            h.bill,
		"/bill/prices":     h.prices,
		"/offers":          h.offers,
		"/shared-aliases":  h.sharedAliases,
		"/shared-uses":     h.sharedUses,
		"/shared-runs":     h.sharedRuns,
		"/audit/verify":    h.verifyAudit,
		"/accounts":        h.accounts,
		"/accounts/keys":   h.accountKeys,
		"/key":             h.keyStatus,
		"/can":             h.can,
		"/proxy/resources": h.proxyResources,
		"/proxy/apis":      h.proxyAPIs,
		"/proxy/keys":      h.proxyKeys,
		"/proxy/export":    h.proxyExport,

		"/backfills":        h.backfills,
		"/backfills/report": h.backfillReport,
	})
}

// actions are the paths below Prefix that change something, by POST. What they
// change stands in the query, and what they make of it in the body, if it is
// more than a word.
func (h *Handler) actions() map[string]answer {
	return h.taskActions(map[string]answer{
		"/parked/redrive":    h.redrive,
		"/nodes/drain":       h.drainNode,
		"/policy/set":        h.setPolicy,
		"/idempotent/set":    h.declare,
		"/idempotent/forget": h.forget,
		"/hint":              h.hint,
		"/triggers/set":      h.setTrigger,
		"/triggers/remove":   h.removeTrigger,
		"/triggers/fire":     h.fire,
		"/sources/add":       h.addSource,
		"/sources/remove":    h.removeSource,
		notifyPath:           nil, // for whoever has a token
		noticePath:           nil, // for whoever has a token

		"/bill/prices/set":       h.setPrices,
		"/offers/set":            h.setOffer,
		"/offers/grant":          h.grantOffer,
		"/offers/revoke":         h.revokeOffer,
		"/offers/withdraw":       h.withdrawOffer,
		"/shared-aliases/set":    h.setSharedAlias,
		"/shared-aliases/remove": h.removeSharedAlias,

		"/accounts/create":      h.createAccount,
		"/accounts/suspend":     h.suspendAccount,
		"/accounts/resume":      h.resumeAccount,
		"/accounts/delete":      h.deleteAccount,
		"/accounts/quota":       h.setQuota,
		"/accounts/session":     h.accountSession,
		"/accounts/keys/create": h.createAccountKey,
		"/accounts/keys/update": h.updateAccountKey,
		"/accounts/keys/delete": h.deleteAccountKey,

		"/key/rotate": h.rotateKey,

		"/proxy/resources/put":    h.putProxyResource,
		"/proxy/resources/remove": h.removeProxyResource,
		"/proxy/apis/put":         h.putProxyAPI,
		"/proxy/apis/remove":      h.removeProxyAPI,
		"/proxy/keys/add":         h.addProxyKey,
		"/proxy/keys/remove":      h.removeProxyKey,
		"/proxy/try":              h.tryProxy,
		importPath:                h.proxyImport,

		"/backfills/start":  h.startBackfill,
		"/backfills/cancel": h.onBackfill(func(b Backfills) func(context.Context, hearth.Account, string) error { return b.Cancel }),
		"/backfills/resume": h.onBackfill(func(b Backfills) func(context.Context, hearth.Account, string) error { return b.Resume }),
		"/backfills/remove": h.onBackfill(func(b Backfills) func(context.Context, hearth.Account, string) error { return b.Remove }),
	})
}

// machine are the paths that are of the machine or of other accounts: they are
// for the operator alone.
var machine = map[string]bool{
	"/nodes": true, "/nodes/drain": true, "/doctor": true, "/capacity": true,
	"/accounts/create": true, "/accounts/suspend": true, "/accounts/resume": true, "/accounts/delete": true,
	"/accounts/quota": true, "/accounts/session": true, "/key": true, "/key/rotate": true,
}

// ServeHTTP answers requests whose path begins with Prefix.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, ok := strings.CutPrefix(r.URL.Path, Prefix)
	route, known := h.routes()[path]
	action, acts := h.actions()[path]
	if !ok || h.Serves != nil && !h.Serves(path) || !known && !acts && path != "/openapi.json" && path != "/logs" && path != "/events" {
		h.fail(w, r, hearth.Errorf(hearth.UnknownOperation,
			"There is no %s here; %s/openapi.json lists what is.", r.URL.Path, Prefix))
		return
	}
	allowed := "GET, HEAD"
	if acts {
		route, allowed = action, http.MethodPost
	}
	if !strings.Contains(allowed, r.Method) {
		w.Header().Set("Allow", allowed)
		h.write(w, http.StatusMethodNotAllowed, Failure{Kind: hearth.UnknownOperation, Message: "It is not used by " + r.Method + ", but by " + allowed + "."})
		return
	}
	if path == "/openapi.json" {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(openAPI) // a client that is gone needs no answer
		return
	}
	if path == noticePath {
		h.notice(w, r)
		return
	}
	if path == notifyPath {
		h.notify(w, r)
		return
	}
	var body []byte
	if acts {
		var err error
		limit := int64(maxBody)
		if path == importPath {
			limit = maxImport
		}
		if body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, limit)); err != nil {
			h.fail(w, r, hearth.Errorf(hearth.InvalidParameter, "The body can't be read: %v.", err))
			return
		}
	}
	q := r.URL.Query()
	id, err := h.Authenticate(r, body)
	if err == nil {
		err = h.named(q, id.Account)
	}
	if err == nil {
		err = h.mayUse(r.Context(), id, path, q)
	}
	if err == nil && machine[path] && id.Account != h.Operator {
		err = hearth.Errorf(hearth.AccessDenied, "%s%s is of the whole machine, and for the operator's account alone.", Prefix, path)
	}
	rec := h.begin(r, path, acts, id, body)
	if err == nil {
		err = rec.mayChange()
	}
	if err != nil {
		h.fail(w, r, rec.ended(err))
		return
	}
	if path == "/logs" || path == "/events" {
		_ = rec.ended(nil) // it only reads, and goes on
	}
	if path == "/logs" {
		h.logs(w, r, id.Account, q)
		return
	}
	if path == "/events" {
		h.events(w, r, id.Account, q)
		return
	}
	v, err := route(r.Context(), ask{id.Account, q, body})
	if err = rec.ended(err); err != nil {
		h.fail(w, r, err)
		return
	}
	h.write(w, http.StatusOK, v)
}

// An account sees its own instances and those that are nobody's; what is of all
// accounts together only the operator sees, and with all set the others' too.
func (h *Handler) ps(ctx context.Context, a ask) (any, error) {
	s, err := h.Instances.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	all, err := truth(a, "all")
	if err == nil && all && a.account != h.Operator {
		err = hearth.Errorf(hearth.AccessDenied, "The instances of all accounts are the operator's business.")
	}
	if err != nil {
		return nil, err
	}
	s.Instances = slices.DeleteFunc(slices.Clone(s.Instances), func(i Instance) bool {
		return i.Account != "" && i.Account != a.account && !all
	})
	if a.account != h.Operator {
		s.InFlight, s.Waiting, s.CommittedMiB, s.Placed = 0, 0, 0, nil
	}
	for i := range s.Instances {
		s.Instances[i].Containers = some(s.Instances[i].Containers)
	}
	s.Subpools = slices.DeleteFunc(slices.Clone(s.Subpools), func(p Subpool) bool { return p.Account != "" && p.Account != a.account && !all })
	if a.account != h.Operator {
		s.Subpools = nil
	}
	s.Instances, s.Pool = some(s.Instances), some(s.Pool)
	if s.Placed == nil {
		s.Placed = map[hearth.Path]uint64{}
	}
	return s, nil
}

// DecisionList is the answer of /decisions, newest first.
type DecisionList struct {
	Decisions []hearth.Decision `json:"decisions"`
}

func (h *Handler) decisions(ctx context.Context, a ask) (any, error) {
	limit, err := number(a.q, "limit", 100, MaxDecisions)
	if err != nil {
		return nil, err
	}
	function, err := ofAll(a.q)
	if err != nil {
		return nil, err
	}
	ds, err := h.Decisions.Query(ctx, DecisionQuery{
		Account:   a.account,
		RequestID: a.q.Get("request"),
		Function:  function,
		Kind:      hearth.DecisionKind(a.q.Get("kind")),
		Limit:     limit,
	})
	return DecisionList{some(ds)}, err
}

// RuntimeList is the answer of /runtimes.
type RuntimeList struct {
	Runtimes []Runtime `json:"runtimes"`
}

func (h *Handler) runtimes(ctx context.Context, _ ask) (any, error) {
	list, err := h.Runtimes.List(ctx)
	return RuntimeList{some(list)}, err
}

func (h *Handler) doctor(ctx context.Context, _ ask) (any, error) {
	r, err := h.Doctor.Report(ctx)
	r.Checks = some(r.Checks)
	return r, err
}

// ParkedList is the answer of /parked, the oldest first.
type ParkedList struct {
	Events []ParkedEvent `json:"events"`
}

func (h *Handler) parked(ctx context.Context, a ask) (any, error) {
	limit, err := number(a.q, "limit", 100, MaxDecisions)
	if err != nil {
		return nil, err
	}
	list, err := h.Parked.List(ctx, a.account, limit)
	return ParkedList{some(list)}, err
}

// Redriven is the answer of /parked/redrive.
type Redriven struct {
	ID string `json:"id"`
}

func (h *Handler) redrive(ctx context.Context, a ask) (any, error) {
	id := a.q.Get("id")
	if id == "" {
		return nil, hearth.Errorf(hearth.InvalidParameter, "Which event? Add ?id=ID.")
	}
	return Redriven{id}, h.Parked.Redrive(ctx, a.account, id)
}

// logs streams one JSON document a line. An error after the first line ends
// the stream with a line that has only "error".
func (h *Handler) logs(w http.ResponseWriter, r *http.Request, account hearth.Account, q url.Values) {
	function, err := ofAll(q)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	query := LogQuery{Account: account, Function: function, RequestID: q.Get("request")}
	if query.Function == "" {
		h.fail(w, r, hearth.Errorf(hearth.InvalidParameter, "Whose log? Add ?function=NAME."))
		return
	}
	if s := q.Get("since"); s != "" {
		at, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			h.fail(w, r, hearth.Errorf(hearth.InvalidParameter, "since: %q is no time such as 2006-01-02T15:04:05Z.", s))
			return
		}
		query.Since = at
	}
	if s := q.Get("follow"); s != "" {
		follow, err := strconv.ParseBool(s)
		if err != nil {
			h.fail(w, r, hearth.Errorf(hearth.InvalidParameter, "follow: %q is neither true nor false.", s))
			return
		}
		query.Follow = follow
	}
	out, enc := http.NewResponseController(w), json.NewEncoder(w)
	started := false
	start := func() error {
		started = true
		w.Header().Set("Content-Type", "application/x-ndjson")
		w.WriteHeader(http.StatusOK)
		return out.Flush()
	}
	if query.Follow { // so that the client knows at once that it is heard
		if err := start(); err != nil {
			return // the client is gone
		}
	}
	err = h.Logs.Read(r.Context(), query, func(l LogLine) error {
		if !started {
			if err := start(); err != nil {
				return err
			}
		}
		if err := enc.Encode(l); err != nil || !query.Follow {
			return err
		}
		return out.Flush()
	})
	switch {
	case r.Context().Err() != nil:
	case err == nil && !started:
		_ = start() // no lines, and a client that is gone needs no answer
	case err != nil && !started:
		h.fail(w, r, err)
	case err != nil:
		h.log().Error("reading a log", "function", query.Function, "err", err)
		_ = enc.Encode(struct { // nothing is left to tell if this fails
			Error Failure `json:"error"`
		}{failure(err)})
	}
}

// Failure is the answer of a request that could not be served.
type Failure struct {
	Kind    hearth.Kind `json:"kind"`
	Message string      `json:"message"`
}

func (f *Failure) Error() string { return f.Message }

func failure(err error) Failure {
	f := Failure{Kind: hearth.KindOf(err), Message: "Hearth failed to find this out; its log says why."}
	if e, ok := errors.AsType[*hearth.Error](err); ok && e.Message != "" {
		f.Message = e.Message
	}
	return f
}

func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	f := failure(err)
	if f.Kind.Status() >= 500 && r.Context().Err() == nil {
		h.log().Error("control API", "path", r.URL.Path, "err", err)
	}
	if e, ok := errors.AsType[*hearth.Error](err); ok && e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(e.RetryAfter.Seconds()))))
	}
	h.write(w, f.Kind.Status(), f)
}

func (h *Handler) write(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // of plain types only NaN and infinities
		h.log().Error("control API: encoding", "err", err)
		status, body = http.StatusInternalServerError, fmt.Appendf(nil, `{"kind":%q,"message":"The answer can't be written as JSON."}`, hearth.Service)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a client that is gone needs no answer
}

func (h *Handler) log() *slog.Logger {
	if h.Log != nil {
		return h.Log
	}
	return slog.Default()
}

func number(q url.Values, name string, otherwise, most int) (int, error) {
	s := q.Get(name)
	if s == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > most {
		return 0, hearth.Errorf(hearth.InvalidParameter, "%s: %q is no number from 1 to %d.", name, s, most)
	}
	return n, nil
}

// some makes an empty list of none, so that JSON has [] and not null.
func some[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
