package proxy

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/proxy/body"
	"github.com/hearth-faas/hearth/proxy/expression"
	"github.com/hearth-faas/hearth/store"
)

// Asynchronous calls: on disk before they are accepted, run at least once, their
// results kept for a while and sent to whoever is to be called back.

// The bounds of asynchronous calls of one account.
const (
	maxPending = 1000
	maxRunning = 16
)

const callBucket = "proxy/calls"

// asyncCall is the record of one.
type asyncCall struct {
	ID      string         `json:"id"`
	Account hearth.Account `json:"account"`
	API     string         `json:"api"`
	Auth    Auth           `json:"auth"` // who may fetch the result
	Began   time.Time      `json:"began"`
	Method  string         `json:"method"`
	Format  body.Format    `json:"format"`
	RawURL  string         `json:"rawUrl"`
	Caller  string         `json:"caller"`
	Trace   string         `json:"trace,omitempty"`
	// Variables are the request's: request, path, query, headers, body.
	Variables map[string]json.RawMessage `json:"variables,omitempty"`

	Response *response     `json:"response,omitempty"` // once it has ended
	Ended    time.Time     `json:"ended,omitzero"`
	Keep     time.Duration `json:"keep"`
	Callback *callback     `json:"callback,omitempty"`
}

// calls runs them. Safe for concurrent use.
type calls struct {
	s      *Service
	sender *sender

	ctx    context.Context // until Stop
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu       sync.Mutex
	lanes    map[hearth.Account]*lane
	kept     map[string]time.Time // results, and until when they are kept
	started  bool
	sweeping hearth.Timer // nil before Start
}

// lane is an account's calls.
type lane struct {
	queue   []string // ids
	running int
}

func openCalls(ctx context.Context, s *Service) (*calls, error) {
	c := &calls{s: s, sender: newSender(s.cfg.Refuses), lanes: map[hearth.Account]*lane{}, kept: map[string]time.Time{}}
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return c, each(ctx, s.cfg.Store, callBucket, func(key string, a *asyncCall) error {
		if a.Response != nil && (a.Callback == nil || a.Callback.over()) {
			c.kept[key] = a.Ended.Add(a.Keep)
		} else {
			c.lane(a.Account).queue = append(c.lane(a.Account).queue, a.ID)
		}
		return nil
	})
}

func (c *calls) lane(account hearth.Account) *lane {
	l := c.lanes[account]
	if l == nil {
		l = &lane{}
		c.lanes[account] = l
	}
	return l
}

// Start has the asynchronous calls run that are waiting, and those that come.
func (s *Service) Start() {
	s.calls.mu.Lock()
	defer s.calls.mu.Unlock()
	s.calls.started = true
	for account := range s.calls.lanes {
		s.calls.dispatch(account)
	}
	s.calls.sweepLater()
}

// Stop has those that run end: what has no result by then runs again after the
// next start.
func (s *Service) Stop() {
	s.calls.cancel()
	s.calls.mu.Lock()
	s.calls.started = false
	if s.calls.sweeping != nil {
		s.calls.sweeping.Stop()
	}
	s.calls.mu.Unlock()
	s.calls.done.Wait()
	s.cfg.Execution.HTTP.CloseIdleConnections()
	s.calls.sender.client.CloseIdleConnections()
}

// dispatch begins what an account may have running. The lock is held.
func (c *calls) dispatch(account hearth.Account) {
	l := c.lane(account)
	for c.started && l.running < maxRunning && len(l.queue) > 0 {
		id := l.queue[0]
		l.queue = l.queue[1:]
		l.running++
		c.done.Go(func() {
			c.run(account, id)
			c.mu.Lock()
			defer c.mu.Unlock()
			l.running--
			c.dispatch(account)
		})
	}
}

// wantsAsync tells whether the caller will not wait.
func (q *call) wantsAsync(r *http.Request) bool {
	if q.Async == nil {
		return false
	}
	if q.Async.Mode == "always" {
		return true
	}
	for part := range strings.SplitSeq(strings.Join(r.Header.Values("Prefer"), ","), ",") {
		if strings.EqualFold(strings.TrimSpace(part), "respond-async") {
			return true
		}
	}
	return false
}

// accept takes a call in: it is on disk when this returns.
func (c *calls) accept(ctx context.Context, q *call, base string) (*response, error) {
	a := &asyncCall{
		ID: newHandle(), Account: q.account, API: q.ID, Auth: q.Auth, Began: q.began, Method: q.method, Format: q.format, RawURL: q.rawURL, Caller: q.caller.name, Trace: q.trace, Keep: q.keep,
	}
	if q.callback != nil {
		v, err := q.callback.Eval(ctx, q.variables())
		if err != nil {
			return nil, unfit(ctx, err)
		}
		if v != nil {
			if a.Callback, err = newCallback(v); err != nil {
				return nil, &fault{Fault: BadRequest, message: "The result can't be sent there: " + err.Error() + "."}
			}
		}
	}
	a.Variables = map[string]json.RawMessage{}
	for name, v := range q.variables() {
		if name == "resource" { // it is what it will be when the call is run
			continue
		}
		raw, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		a.Variables[name] = raw
	}
	c.mu.Lock()
	l := c.lane(q.account)
	full := len(l.queue)+l.running >= maxPending
	if !full {
		l.running++ // its place, until it is in the queue
	}
	c.mu.Unlock()
	if full {
		return nil, &fault{Fault: TooManyCalls, message: fmt.Sprintf("There are %d asynchronous calls that have not ended, and may be no more.", maxPending), retryAfter: time.Second}
	}
	err := put(ctx, c.s.cfg.Store, callBucket, keyOf(a.Account, a.ID), a)
	c.mu.Lock()
	l.running--
	if err == nil {
		l.queue = append(l.queue, a.ID)
	}
	c.dispatch(q.account)
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	href := base + callsPath + a.ID
	r := &response{Status: http.StatusAccepted, Header: http.Header{"Location": {href}}}
	return r, r.encode(q.format, map[string]any{"call": a.ID, "href": href, "status": "pending"}, "accepted")
}

// newHandle makes a handle that nobody guesses.
func newHandle() string {
	var random [20]byte
	_, _ = rand.Read(random[:]) // never fails
	return strings.ToLower(base32.StdEncoding.EncodeToString(random[:]))
}

// load reads a call's record; nil is none.
func (c *calls) load(ctx context.Context, account hearth.Account, id string) (*asyncCall, error) {
	key := keyOf(account, id)
	if store.CheckKey(callBucket, key) != nil {
		return nil, nil
	}
	var a *asyncCall
	err := c.s.cfg.Store.View(ctx, func(r store.Reader) error {
		data, ok, err := r.Get(callBucket, key)
		if err != nil || !ok {
			return err
		}
		a, err = decodeRecord[*asyncCall](callBucket, store.Record{Key: key, Value: data})
		return err
	})
	return a, err
}

// run runs one to its end: its result, and who is called back.
func (c *calls) run(account hearth.Account, id string) {
	key := keyOf(account, id)
	a, err := c.load(c.ctx, account, id)
	if err == nil && a != nil && a.Response == nil {
		if err = c.perform(a); err == nil && a.Response != nil {
			err = c.replace(key, a)
		}
	}
	if c.ctx.Err() != nil {
		return // it goes on after the next start
	}
	if err == nil && a != nil && a.Callback != nil && !a.Callback.over() {
		if c.deliver(a); !a.Callback.over() {
			return
		}
		err = c.replace(key, a)
	}
	if err != nil {
		c.s.log.Error("an asynchronous proxy call can't be brought to its end, and is tried again after the next start", "call", id, "error", err)
		return
	}
	if a != nil {
		c.mu.Lock()
		c.kept[key] = a.Ended.Add(a.Keep)
		c.mu.Unlock()
	}
}

// replace keeps a record, unless its account was cleared meanwhile.
func (c *calls) replace(key string, a *asyncCall) error {
	data, err := encodeRecord(a)
	if err != nil {
		return err
	}
	return c.s.cfg.Store.Update(context.WithoutCancel(c.ctx), func(tx store.Tx) error {
		if _, there, err := tx.Get(callBucket, key); err != nil || !there {
			return err
		}
		return tx.Put(callBucket, key, data)
	})
}

// perform makes the response. It leaves none if the server stops meanwhile.
func (c *calls) perform(a *asyncCall) error {
	q, err := c.revive(a)
	if err != nil {
		return err
	}
	var answer *response
	var failed error
	switch {
	case q.ID == "":
		failed = &fault{Fault: NoSuchPath, message: "The proxy API was removed before the call was run."}
	default:
		if failed = q.find(c.s); failed == nil {
			answer, failed = c.s.perform(c.ctx, q)
		}
	}
	if c.ctx.Err() != nil && failed != nil {
		return nil
	}
	f, outcome := asFault(failed)
	if f != nil {
		answer = q.answerFault(c.ctx, f)
	}
	c.s.finish(q, answer.Status, outcome, f)
	a.Response, a.Ended, a.Variables = answer, c.s.cfg.Clock.Now().UTC(), nil
	return nil
}

// revive makes a call of its record; its API is that of now.
func (c *calls) revive(a *asyncCall) (*call, error) {
	vars := map[string]any{}
	for name, raw := range a.Variables {
		var err error
		if vars[name], err = expression.FromJSON(raw); err != nil {
			return nil, fmt.Errorf("the record of the call is damaged: %w", err)
		}
	}
	part := func(name string) map[string]any { m, _ := vars[name].(map[string]any); return m }
	q := &call{
		compiled: &compiled{API: &API{}, account: a.Account}, began: c.s.cfg.Clock.Now(), method: a.Method, format: a.Format, caller: caller{name: a.Caller}, rawURL: a.RawURL, trace: a.Trace,
		request: part("request"), path: part("path"), query: part("query"), headers: part("headers"), body: vars["body"],
	}
	q.id, _ = q.request["id"].(string)
	if api := c.s.table.of(a.Account).byID[a.API]; api != nil {
		q.compiled = api
	}
	return q, nil
}

// serveCall tells what became of an asynchronous call.
func (s *Service) serveCall(w http.ResponseWriter, r *http.Request, account hearth.Account, id string) {
	request := newID()
	w.Header()["X-Hearth-Request-Id"] = []string{request}
	q, answer, err := s.callResult(w, r, account, id, request)
	if err != nil {
		q, answer = plainFault(r, request, account, faultOf(err))
	}
	s.write(w, q, answer)
}

func (s *Service) callResult(w http.ResponseWriter, r *http.Request, account hearth.Account, id, request string) (*call, *response, error) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return nil, nil, &fault{Fault: WrongMethod, message: "A call's result is fetched by GET.", allow: []string{"GET", "HEAD"}}
	}
	a, err := s.calls.load(r.Context(), account, id)
	if err != nil {
		return nil, nil, err
	}
	if a == nil || a.Response != nil && !s.cfg.Clock.Now().Before(a.Ended.Add(a.Keep)) {
		return nil, nil, &fault{Fault: NoSuchCall, message: "There is no such call, or its result is not kept any more."}
	}
	raw, err := readBody(w, r)
	if err != nil {
		return nil, nil, err
	}
	if _, err := s.authenticate(r, raw, account, a.API, a.Auth); err != nil {
		return nil, nil, err
	}
	w.Header()["X-Hearth-Call"] = []string{a.ID}
	q := &call{compiled: &compiled{API: &API{}, account: account}, id: request, format: a.Format}
	if a.Response != nil {
		answer := *a.Response
		answer.Header = maps.Clone(answer.Header)
		return q, &answer, nil
	}
	pending := &response{Status: http.StatusAccepted, Header: http.Header{"Retry-After": {"1"}}}
	return q, pending, pending.encode(a.Format, map[string]any{"call": a.ID, "status": "pending"}, "accepted")
}

// sweepEvery is how often results are looked for that are not kept any more.
const sweepEvery = 30 * time.Second

// sweepLater has results swept again and again, until Stop. The lock is held.
func (c *calls) sweepLater() {
	c.sweeping = c.s.cfg.Clock.AfterFunc(sweepEvery, func() {
		c.sweep()
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.started {
			c.sweepLater()
		}
	})
}

// sweep forgets the results that are not kept any more.
func (c *calls) sweep() {
	now := c.s.cfg.Clock.Now()
	var over []string
	c.mu.Lock()
	for key, until := range c.kept {
		if !now.Before(until) {
			over = append(over, key)
			delete(c.kept, key)
		}
	}
	c.mu.Unlock()
	if len(over) == 0 {
		return
	}
	err := c.s.cfg.Store.Update(c.ctx, func(tx store.Tx) error {
		for _, key := range over {
			if err := tx.Delete(callBucket, key); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil && c.ctx.Err() == nil {
		c.s.log.Warn("old results of asynchronous proxy calls are still there, and go after the next start", "error", err)
	}
}

// clear takes an account's calls away. Those that run leave nothing when they
// end.
func (c *calls) clear(ctx context.Context, account hearth.Account) error {
	c.mu.Lock()
	c.lane(account).queue = nil
	for key := range c.kept {
		if strings.HasPrefix(key, string(account)+"/") {
			delete(c.kept, key)
		}
	}
	c.mu.Unlock()
	return c.s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		var keys []string
		for r, err := range tx.Scan(callBucket, string(account)+"/", "") {
			if err != nil {
				return err
			}
			keys = append(keys, r.Key)
		}
		for _, key := range keys {
			if err := tx.Delete(callBucket, key); err != nil {
				return err
			}
		}
		return nil
	})
}
