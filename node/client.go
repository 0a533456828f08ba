// Package node is a node at the other end of a network: the server's side of
// it (Client), which is a hearth.Node like the server's own, and the node's
// (Handler), which serves one. What the node needs in turn of the server that
// it has joined is Home, and HomeHandler serves it.
//
// Both ways it is HTTP/1.1 with keep-alive over TLS, whose one key both sides
// derive from the token that they share.
package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hearth-faas/hearth"
)

// ClientConfig is what a Client is made of. All but Policy, Weight and Log are
// needed.
type ClientConfig struct {
	Address string // HOST:PORT
	Router  string // the name of this server's
	Token   Token
	Clock   hearth.Clock
	// Policy tells how a function wants to be decided for; nil is that nobody
	// said anything.
	Policy func(hearth.Account, string) *hearth.ExecutionPolicy
	// Weight is how many accounts' turns an account has; nil is that all have one.
	Weight func(hearth.Account) int
	Log    *slog.Logger
}

// Client is a joined node, as its server sees it: a hearth.Node. Safe for
// concurrent use.
type Client struct {
	cfg  ClientConfig
	http *http.Client
	url  string

	told sync.Map     // of struct{} by hearth.Key: functions that the node knows
	size atomic.Int64 // of told, about

	ctx     context.Context // of everything that is asked of the node
	cut     context.CancelCauseFunc
	changes chan step
}

var _ hearth.Node = (*Client)(nil)

// maxTold bounds how many functions are remembered as known to the node;
// beyond it all are told again.
const maxTold = 20_000

// transport is of both directions: as many connections as there are requests.
func transport(t Token) (*http.Transport, error) {
	cfg, err := t.tlsConfig()
	if err != nil {
		return nil, err
	}
	return &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:     cfg,
		TLSHandshakeTimeout: 5 * time.Second,
		MaxIdleConnsPerHost: 256,
		IdleConnTimeout:     time.Minute,
		DisableCompression:  true,
		WriteBufferSize:     32 << 10,
		ReadBufferSize:      32 << 10,
	}, nil
}

// NewClient makes a Client; nothing is sent yet.
func NewClient(cfg ClientConfig) (*Client, error) {
	tr, err := transport(cfg.Token)
	if err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	c := &Client{cfg: cfg, http: &http.Client{Transport: tr}, url: "https://" + cfg.Address + prefix, changes: make(chan step, 1024)}
	c.ctx, c.cut = context.WithCancelCause(context.Background())
	go c.tell()
	return c, nil
}

var errCut = errors.New("the node was lost")

// Close ends everything that is asked of the node: what runs there has an
// unknown outcome.
func (c *Client) Close() {
	c.cut(errCut)
	c.http.CloseIdleConnections()
}

// Ping asks whether the node is there and has the same token.
func (c *Client) Ping(ctx context.Context) error {
	_, err := c.ask(ctx, http.MethodGet, "/ping", nil)
	return err
}

// ask sends JSON and returns the answer's body.
func (c *Client) ask(ctx context.Context, method, path string, v any) ([]byte, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(c.ctx, func() { cancel(errCut) })()
	return exchange(ctx, c.http, method, c.url+path, v)
}

// exchange is one request with JSON and its answer.
func exchange(ctx context.Context, client *http.Client, method, url string, v any) ([]byte, error) {
	var body io.Reader
	if v != nil {
		b, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxHead))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, refusal(resp.StatusCode, b)
	}
	return b, nil
}

// refusal is the error of an answer that is not 200.
func refusal(status int, body []byte) error {
	var f failed
	if json.Unmarshal(body, &f) == nil && f.Kind != "" {
		return f.err()
	}
	return fmt.Errorf("the other side answers %d: %.200s", status, bytes.TrimSpace(body))
}

// Invoke implements hearth.Node.
func (c *Client) Invoke(ctx context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
	_, known := c.told.Load(inv.Function.Key())
	r, err := c.invoke(ctx, inv, !known)
	if errors.Is(err, errUnknownFunction) {
		r, err = c.invoke(ctx, inv, true)
	}
	return r, err
}

// errUnknownFunction: the node wants to be told the function.
var errUnknownFunction = errors.New("the node does not know the function")

// sent is a request's body that knows whether all of it has gone out.
type sent struct {
	io.Reader
	all atomic.Bool
}

func (s *sent) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil {
		s.all.Store(true)
	}
	return n, err
}

func (c *Client) invoke(ctx context.Context, inv *hearth.Invocation, tell bool) (*hearth.Result, error) {
	call := callOf(inv)
	call.Router = c.cfg.Router
	if c.cfg.Weight != nil {
		call.Weight = c.cfg.Weight(inv.Function.Account)
	}
	if tell {
		call.Function = inv.Function
		if c.cfg.Policy != nil {
			call.Policy = c.cfg.Policy(inv.Function.Account, inv.Function.Name)
		}
	}
	head, err := json.Marshal(&call)
	if err != nil {
		return nil, &hearth.Error{Op: "node.Invoke", Kind: hearth.Service, Message: "The invocation can't be told to its node.", Err: err}
	}
	// Whoever leaves before a container has the event is not waited for; after
	// that the function runs to its end all the same, and what came of it is
	// wanted.
	t := &transfer{inv: inv, began: c.cfg.Clock.Now(), ctx: ctx, lost: c.ctx, clock: c.cfg.Clock}
	rctx, cancel := context.WithCancelCause(c.ctx)
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() {
		if !t.taken.Load() {
			cancel(context.Cause(ctx))
		}
	})()
	out := appendHead(make([]byte, 0, len(head)+4), head)
	t.body.Reader = io.MultiReader(bytes.NewReader(out), bytes.NewReader(inv.Payload))
	req, err := http.NewRequestWithContext(rctx, http.MethodPost, c.url+"/invoke", &t.body)
	if err != nil {
		return nil, t.broken(err)
	}
	req.ContentLength = int64(len(out) + len(inv.Payload))
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, t.broken(err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusPreconditionRequired:
		return nil, errUnknownFunction
	case resp.StatusCode != http.StatusOK:
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 4096)) // what came of it will do
		return nil, &hearth.Error{Op: "node.Invoke", Kind: hearth.NodeGone, Err: refusal(resp.StatusCode, b)}
	}
	if tell {
		c.learned(call.Key)
	}
	return t.receive(resp.Body) // which is buffered below
}

func (c *Client) learned(k hearth.Key) {
	if _, had := c.told.LoadOrStore(k, struct{}{}); !had && c.size.Add(1) > maxTold {
		c.told.Clear()
		c.size.Store(0)
	}
}

// transfer is one invocation on its way to a node and back.
type transfer struct {
	inv   *hearth.Invocation
	began time.Time
	ctx   context.Context // the caller's
	lost  context.Context // ends when the node is lost
	clock hearth.Clock
	body  sent
	taken atomic.Bool
}

// receive reads the answer.
func (t *transfer) receive(r io.Reader) (*hearth.Result, error) {
	var left error // of the stream's receiver, which has gone; the function runs to its end
	res := &hearth.Result{}
	buf := make([]byte, 0, 4096)
	for {
		kind, body, err := readFrame(r, buf)
		if err != nil {
			return nil, t.broken(err)
		}
		switch kind {
		case frameTaken:
			t.taken.Store(true)
		case frameStream:
			var h streamHead
			if err := json.Unmarshal(body, &h); err != nil {
				return nil, t.broken(err)
			}
			if t.inv.Stream != nil {
				left = t.inv.Stream.Start(h.ContentType, t.clock.Now().Add(h.Left))
			}
		case frameData:
			if t.inv.Stream != nil && left == nil {
				_, left = t.inv.Stream.Write(body)
			}
		case frameResult:
			res.Payload, buf = body, nil
		case frameEnd:
			var e ending
			if err := json.Unmarshal(body, &e); err != nil {
				return nil, t.broken(err)
			}
			// Only what is read to its end leaves a connection that serves again;
			// what comes of that is of no matter to this invocation.
			_, _ = io.Copy(io.Discard, r)
			r, err := t.end(&e, res)
			if err == nil && left != nil {
				return nil, hearth.Errorf(hearth.Canceled, "The caller went away: %w", left)
			}
			return r, err
		}
	}
}

// end fills in what the node has found out.
func (t *transfer) end(e *ending, res *hearth.Result) (*hearth.Result, error) {
	inv := t.inv
	inv.Placement, inv.Use = e.Placement, e.Use
	now := t.clock.Now()
	// What is not the node's own time is the way to it and back; it counts as
	// the time that it took to find a container.
	there := time.Duration(0)
	for s := hearth.StageAttach; s <= hearth.StageRun; s++ {
		there += e.Spent[s]
	}
	before := inv.Timeline.Spent[hearth.StagePlace]
	inv.Timeline.End(hearth.StagePlace, now)
	inv.Timeline.Spent[hearth.StagePlace] = max(inv.Timeline.Spent[hearth.StagePlace]-there, before)
	for s := hearth.StageAttach; s <= hearth.StageRun; s++ {
		inv.Timeline.Spent[s] += e.Spent[s]
	}
	if e.Error != nil {
		return nil, e.Error.err()
	}
	res.ContentType, res.FunctionError, res.Version, res.LogTail = e.ContentType, e.FunctionError, e.Version, e.LogTail
	return res, nil
}

// resetSoon is within which time of a request's beginning a connection that is
// reset tells that the process at its other end is gone, and not that the
// machine is back from a loss of power, which takes longer. A process that ends
// leaves what it wrote with its kernel, which delivers it.
const resetSoon = 2 * time.Second

// broken tells what it means that the answer does not come, or not whole. The
// node says "taken" before the function sees the event, and a process that
// dies leaves to its kernel what it has said: an answer that ends without it,
// as opposed to one that just does not come, says that the function has not
// seen it.
func (t *transfer) broken(err error) error {
	e := &hearth.Error{Op: "node.Invoke", Subject: t.inv.Function.QualifiedARN(), Err: err, Kind: hearth.Service}
	op, is := errors.AsType[*net.OpError](err)
	dialing := is && op.Op == "dial"
	ended := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	reset := errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
	switch {
	case t.taken.Load():
		e.Message = "The machine that ran the function ended unexpectedly."
	case t.lost.Err() != nil && t.body.all.Load():
		e.Message = "The machine that was to run the function was lost, and whether it did is not known."
	case t.ctx.Err() != nil:
		e.Kind, e.Message, e.Err = hearth.Canceled, "The caller went away.", context.Cause(t.ctx)
	case !t.body.all.Load() || dialing || ended || reset && t.clock.Now().Sub(t.began) < resetSoon:
		e.Kind = hearth.NodeGone
	default:
		e.Message = "The machine that was to run the function does not answer, and whether it ran is not known."
	}
	return e
}

// Prepare implements hearth.Node.
func (c *Client) Prepare(ctx context.Context, f *hearth.Function) error {
	_, err := c.ask(ctx, http.MethodPost, "/step", step{What: "prepare", Now: f})
	return err
}

// Overtake implements hearth.Node.
func (c *Client) Overtake(ctx context.Context, old, now *hearth.Function) {
	c.try(ctx, step{What: "overtake", Old: old, Now: now})
}

// Ahead implements hearth.Node.
func (c *Client) Ahead(ctx context.Context, old, now *hearth.Function, share float64) {
	c.try(ctx, step{What: "ahead", Old: old, Now: now, Share: share})
}

// try has the node do what it may leave undone.
func (c *Client) try(ctx context.Context, s step) {
	if _, err := c.ask(ctx, http.MethodPost, "/step", s); err != nil && c.ctx.Err() == nil && ctx.Err() == nil {
		c.cfg.Log.Warn("a node did not take part in an update; it takes the new code when it is first asked for it", "node", c.cfg.Address, "step", s.What, "error", err)
	}
}

// Changed implements hearth.Node. It does not wait; a node that does not hear
// of it finds out with the first invocation of the new code.
func (c *Client) Changed(old, now *hearth.Function) {
	if old == nil {
		return // it has nothing of it
	}
	c.told.Delete(old.Key())
	select {
	case c.changes <- step{What: "changed", Old: old, Now: now}:
	default:
	}
}

// tell tells the node of changes, in their order.
func (c *Client) tell() {
	for {
		select {
		case <-c.ctx.Done():
			return
		case s := <-c.changes:
			ctx, cancel := context.WithTimeout(c.ctx, 10*time.Second)
			c.try(ctx, s)
			cancel()
		}
	}
}

// Renew implements hearth.Node. It does not wait.
func (c *Client) Renew() {
	select {
	case c.changes <- step{What: "renew"}:
	default:
		c.cfg.Log.Warn("a node is not told that credentials end: what its functions call here may fail until their containers are replaced", "node", c.cfg.Address)
	}
}

// PolicyChanged implements hearth.Node: the node is told with the next
// invocation.
func (c *Client) PolicyChanged(account hearth.Account, function string) {
	c.told.Range(func(k, _ any) bool {
		if key := k.(hearth.Key); key.Account == account && (function == "" || key.Name == function) {
			c.told.Delete(k)
			c.size.Add(-1)
		}
		return true
	})
}
