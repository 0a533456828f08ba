package node

import (
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
)

func token(t testing.TB) Token {
	t.Helper()
	tok, err := CreateToken(filepath.Join(t.TempDir(), "node.token"))
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// fakeNode runs invocations by a function of the test's, and notes the rest.
type fakeNode struct {
	invoke func(ctx context.Context, inv *hearth.Invocation) (*hearth.Result, error)

	mu    sync.Mutex
	steps []string
}

func (n *fakeNode) Invoke(ctx context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
	return n.invoke(ctx, inv)
}

func (n *fakeNode) note(what string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.steps = append(n.steps, what)
}

func (n *fakeNode) noted() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.steps...)
}

func (n *fakeNode) Prepare(_ context.Context, f *hearth.Function) error {
	n.note("prepare " + f.Name)
	if f.Name == "broken" {
		return hearth.Errorf(hearth.NotFound, "The code package does not exist.")
	}
	return nil
}
func (n *fakeNode) Overtake(_ context.Context, old, now *hearth.Function) {
	n.note("overtake " + now.Name)
}
func (n *fakeNode) Ahead(_ context.Context, old, now *hearth.Function, share float64) {
	n.note("ahead " + now.Name)
}
func (n *fakeNode) Changed(old, now *hearth.Function)               { n.note("changed " + old.Name) }
func (n *fakeNode) Renew()                                          { n.note("renew") }
func (n *fakeNode) PolicyChanged(_ hearth.Account, function string) { n.note("policy " + function) }

// pair is a node that is served, and a client of it.
func pair(t testing.TB, n *fakeNode) (*Client, *Handler) {
	t.Helper()
	tok, l, h := token(t), listen(t), NewHandler(HandlerConfig{Clock: clock.System()})
	go func() { _ = h.Serve(l, tok, n) }() // it ends with the listener
	c, err := NewClient(ClientConfig{Address: l.Addr().String(), Token: tok, Clock: clock.System()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, h
}

func function(name string, generation uint64) *hearth.Function {
	return &hearth.Function{Account: "111111111111", Region: "us-east-1", Name: name, Version: hearth.Latest, Generation: generation,
		MemoryMiB: 128, Timeout: 3 * time.Second, Runtime: "python3.12", Env: map[string]string{"K": "v"}, Layers: []hearth.Layer{{ARN: "l", Package: hearth.Package{SHA256: "x"}}}}
}

func invocation(name string) *hearth.Invocation {
	inv := &hearth.Invocation{RequestID: "r-1", Account: "111111111111", Name: name, Function: function(name, 1), Payload: []byte(`{"a":1}`), TraceID: "t"}
	inv.Timeline.Begin(time.Now())
	return inv
}

// await waits for what another goroutine or process brings about.
func await(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// dying serves a node's address with a handler of the test's, which may end the
// connection under the request, as the death of a process does.
func dying(t *testing.T, serveIt func(w http.ResponseWriter, r *http.Request, die func())) *Client {
	t.Helper()
	tok, l := token(t), listen(t)
	cfg, err := tok.tlsConfig()
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{TLSConfig: cfg, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serveIt(w, r, func() {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			raw := conn.(interface{ NetConn() net.Conn }).NetConn() // without TLS's farewell
			if err := raw.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		})
	})}
	go func() { _ = s.ServeTLS(l, "", "") }() // it ends with the listener
	c, err := NewClient(ClientConfig{Address: l.Addr().String(), Token: tok, Clock: clock.System()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}
