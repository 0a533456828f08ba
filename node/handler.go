package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
)

// HandlerConfig is what a Handler is made of. Clock is needed.
type HandlerConfig struct {
	Clock hearth.Clock
	Log   *slog.Logger
	// Limit bounds the functions that are known; beyond it all are asked for
	// again. 0 is 20,000.
	Limit int
}

// Handler serves a hearth.Node to a Client. What it is told of functions and
// their policies is asked of it by the node's manager. Safe for concurrent use.
type Handler struct {
	cfg  HandlerConfig
	node hearth.Node

	inflight atomic.Int64
	mib      sync.Map // of *atomic.Int64, the MiB under way, by router

	mu        sync.Mutex
	functions map[hearth.Key]*hearth.Function
	newest    map[versionOf]*hearth.Function
	policies  sync.Map // of *hearth.ExecutionPolicy by functionOf
	weights   sync.Map // of int by account, where it is more than 1
}

type versionOf struct {
	account       hearth.Account
	name, version string
}

type functionOf struct {
	account hearth.Account
	name    string
}

// NewHandler makes a Handler. Serve gives it the node.
func NewHandler(cfg HandlerConfig) *Handler {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Limit == 0 {
		cfg.Limit = maxTold
	}
	return &Handler{cfg: cfg, functions: map[hearth.Key]*hearth.Function{}, newest: map[versionOf]*hearth.Function{}}
}

// Policy is how a function wants to be decided for, as far as the node was
// told; ok is false if it was not.
func (h *Handler) Policy(account hearth.Account, function string) (p *hearth.ExecutionPolicy, ok bool) {
	v, ok := h.policies.Load(functionOf{account, function})
	if !ok {
		return nil, false
	}
	return v.(*hearth.ExecutionPolicy), true
}

// Weight is how many accounts' turns an account has, as the last call of its
// functions told.
func (h *Handler) Weight(account hearth.Account) int {
	if w, ok := h.weights.Load(account); ok {
		return w.(int)
	}
	return 1
}

// weigh keeps what a call tells of its account.
func (h *Handler) weigh(account hearth.Account, weight int) {
	switch was := h.Weight(account); {
	case max(weight, 1) == was:
	case weight > 1:
		h.weights.Store(account, weight)
	default:
		h.weights.Delete(account)
	}
}

// InFlight is how many invocations are under way.
func (h *Handler) InFlight() int { return int(h.inflight.Load()) }

// InFlightMiB is the memory that their functions have, by the router that sent
// them.
func (h *Handler) InFlightMiB() map[string]int {
	by := map[string]int{}
	h.mib.Range(func(router, mib any) bool {
		if n := int(mib.(*atomic.Int64).Load()); n > 0 {
			by[router.(string)] = n
		}
		return true
	})
	return by
}

// Serve serves n to whoever has the token, until l is closed.
func (h *Handler) Serve(l net.Listener, t Token, n hearth.Node) error {
	h.node = n
	return serve(l, t, h, h.cfg.Log)
}

// serve is of both directions.
func serve(l net.Listener, t Token, h http.Handler, log *slog.Logger) error {
	cfg, err := t.tlsConfig()
	if err != nil {
		return err
	}
	s := &http.Server{
		Handler: h, TLSConfig: cfg, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return s.ServeTLS(l, "", "")
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method + " " + r.URL.Path {
	case "GET " + prefix + "/ping":
		_, _ = io.WriteString(w, "{}") // who asked and left needs no answer
	case "POST " + prefix + "/invoke":
		h.invoke(w, r)
	case "POST " + prefix + "/step":
		h.step(w, r)
	default:
		refuse(w, hearth.Errorf(hearth.UnknownOperation, "This node does not know %s %s: the server and it are of different versions.", r.Method, r.URL.Path))
	}
}

// refuse answers with an error.
func refuse(w http.ResponseWriter, err error) {
	f := failedOf(err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(f.Kind.Status())
	_ = json.NewEncoder(w).Encode(f) // who asked and left needs no answer
}

// decodeBody reads JSON of a request.
func decodeBody(w http.ResponseWriter, r *http.Request, v any, most int64) error {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		return hearth.Errorf(hearth.InvalidParameter, "It can't be read: %w", err)
	}
	return nil
}

// invoke runs one invocation. The payload is read whole before anything else:
// a process that dies with bytes unread takes back what it has written.
func (h *Handler) invoke(w http.ResponseWriter, r *http.Request) {
	in := http.MaxBytesReader(w, r.Body, maxHead+hearth.MaxPayload+4) // which is buffered below
	head, err := readHead(in)
	var c call
	if err == nil {
		err = json.Unmarshal(head, &c)
	}
	var payload []byte
	if err == nil {
		payload, err = readBody(in, int(max(r.ContentLength-int64(len(head))-4, 0)), nil)
	}
	if err == nil { // the end of the body, which the client is not to have unread either
		var more [1]byte
		if _, err = io.ReadFull(in, more[:]); errors.Is(err, io.EOF) {
			err = nil
		}
	}
	if err != nil {
		refuse(w, hearth.Errorf(hearth.InvalidParameter, "The invocation can't be read: %w", err))
		return
	}
	f := h.function(&c)
	if f == nil {
		w.WriteHeader(http.StatusPreconditionRequired)
		return
	}
	h.weigh(f.Account, c.Weight)
	inv := c.invocation(f, payload)
	mib := int64(max(f.MemoryMiB, c.MemoryMiB))
	of, _ := h.mib.LoadOrStore(c.Router, new(atomic.Int64)) // as many as there are servers
	h.inflight.Add(1)
	of.(*atomic.Int64).Add(mib)
	defer func() {
		h.inflight.Add(-1)
		of.(*atomic.Int64).Add(-mib)
	}()
	a := &answer{w: w, out: http.NewResponseController(w), clock: h.cfg.Clock}
	w.Header().Set("Content-Type", "application/octet-stream")
	inv.Handing = a.handing
	if c.Stream {
		inv.Stream = a
	}
	inv.Timeline.Begin(h.cfg.Clock.Now())
	res, err := h.node.Invoke(r.Context(), inv)
	a.end(inv, res, err)
}

// answer writes frames.
type answer struct {
	w     io.Writer
	out   *http.ResponseController
	clock hearth.Clock

	mu    sync.Mutex
	taken bool
	buf   []byte
}

// handing tells the server, before the function sees the event, that it will.
func (a *answer) handing() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.taken {
		return
	}
	a.taken = true
	_ = a.write(frameTaken, nil, true) // a server that is gone has its own view of this
}

// write writes a frame. mu is held.
func (a *answer) write(kind byte, body []byte, flush bool) error {
	a.buf = appendFrame(a.buf[:0], kind, body)
	if _, err := a.w.Write(a.buf); err != nil {
		return err
	}
	if cap(a.buf) > 256<<10 {
		a.buf = nil
	}
	if !flush {
		return nil
	}
	return a.out.Flush()
}

// Start implements hearth.ResponseStream.
func (a *answer) Start(contentType string, deadline time.Time) error {
	b, err := json.Marshal(streamHead{ContentType: contentType, Left: deadline.Sub(a.clock.Now())})
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.write(frameStream, b, true)
}

// Write implements hearth.ResponseStream.
func (a *answer) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for n := 0; n < len(p); {
		piece := p[n:min(len(p), n+maxFrame)]
		if err := a.write(frameData, piece, true); err != nil {
			return n, err
		}
		n += len(piece)
	}
	return len(p), nil
}

// end writes what came of the invocation.
func (a *answer) end(inv *hearth.Invocation, res *hearth.Result, err error) {
	e := ending{Placement: inv.Placement, Spent: inv.Timeline.Spent, Use: inv.Use}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		e.Error = failedOf(err)
	} else {
		e.ContentType, e.FunctionError, e.Version, e.LogTail = res.ContentType, res.FunctionError, res.Version, res.LogTail
		if len(res.Payload) > 0 && a.write(frameResult, res.Payload, false) != nil {
			return // the server has gone
		}
	}
	b, err := json.Marshal(&e)
	if err != nil { // of plain types only NaN and infinities
		b, _ = json.Marshal(ending{Error: failedOf(fmt.Errorf("the outcome can't be told: %w", err))})
	}
	_ = a.write(frameEnd, b, true)
}

// function is what a call names, or nil if it has to be told. What is told is
// kept; that code was replaced follows from newer code that comes.
func (h *Handler) function(c *call) *hearth.Function {
	if c.Function == nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.functions[c.Key]
	}
	f := c.Function
	if c.Policy != nil {
		of := functionOf{f.Account, f.Name}
		was, had := h.policies.Swap(of, c.Policy)
		if had && !reflect.DeepEqual(was, c.Policy) {
			h.node.PolicyChanged(f.Account, f.Name)
		}
	}
	v := versionOf{f.Account, f.Name, f.Version}
	h.mu.Lock()
	if len(h.functions) >= h.cfg.Limit {
		clear(h.functions)
		clear(h.newest)
	}
	if known := h.functions[f.Key()]; known != nil {
		f = known // what the manager has already
	}
	h.functions[f.Key()] = f
	old := h.newest[v]
	newer := old == nil || old.Generation < f.Generation
	if newer {
		h.newest[v] = f
	}
	if old != nil && newer {
		delete(h.functions, old.Key())
	}
	h.mu.Unlock()
	if old != nil && newer {
		h.node.Changed(old, f)
	}
	return f
}

// step does a step of an update.
func (h *Handler) step(w http.ResponseWriter, r *http.Request) {
	var s step
	if err := decodeBody(w, r, &s, 2*maxHead); err != nil {
		refuse(w, err)
		return
	}
	if s.Old == nil && s.What != "prepare" || s.Now == nil && s.What != "changed" {
		refuse(w, hearth.Errorf(hearth.InvalidParameter, "The step %q of an update does not say of what.", s.What))
		return
	}
	var err error
	switch s.What {
	case "prepare":
		err = h.node.Prepare(r.Context(), s.Now)
	case "overtake":
		h.node.Overtake(r.Context(), s.Old, s.Now)
	case "ahead":
		h.node.Ahead(r.Context(), s.Old, s.Now, s.Share)
	case "changed":
		h.forget(s.Old)
		h.node.Changed(s.Old, s.Now)
	case "renew":
		h.node.Renew()
	default:
		err = hearth.Errorf(hearth.UnknownOperation, "There is no step %q of an update.", s.What)
	}
	if err != nil {
		refuse(w, err)
		return
	}
	_, _ = io.WriteString(w, "{}") // who asked and left needs no answer
}

// forget lets go of code that was replaced.
func (h *Handler) forget(old *hearth.Function) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.functions, old.Key())
	if n := h.newest[versionOf{old.Account, old.Name, old.Version}]; n != nil && n.Generation <= old.Generation {
		delete(h.newest, versionOf{old.Account, old.Name, old.Version})
	}
}

var _ hearth.ResponseStream = (*answer)(nil)
