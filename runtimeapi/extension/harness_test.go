package extension

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hearth-faas/hearth/runtimeapi"
)

// harness is a set behind a real runtime API.
type harness struct {
	testing.TB
	set    *Set
	env    *runtimeapi.Environment
	base   string
	client *http.Client
}

func newHarness(t testing.TB, external ...string) *harness {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &harness{TB: t, set: NewSet(), base: "http://" + l.Addr().String(), client: &http.Client{Transport: &http.Transport{}}}
	h.env = runtimeapi.Serve(l, runtimeapi.Options{OnNext: h.set.RuntimeReady, Handlers: []runtimeapi.Mount{{Prefix: Prefix, Handler: h.set.Serve}}})
	h.set.Expect(Function{Account: "123456789012", Name: "f", Version: "$LATEST", Handler: "index.handler"}, external)
	t.Cleanup(func() {
		if err := h.env.Close(); err != nil {
			t.Error(err)
		}
		h.client.CloseIdleConnections()
	})
	return h
}

// answer is what the API answered.
type answer struct {
	status int
	header http.Header
	body   string
}

// ask makes a request; header is of names and values in turn.
func (h *harness) ask(method, path, body string, header ...string) answer {
	req, err := http.NewRequest(method, h.base+path, strings.NewReader(body))
	if err != nil {
		h.Error(err)
		return answer{}
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := h.client.Do(req)
	if err != nil {
		return answer{body: err.Error()}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{body: err.Error()}
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

// register registers an extension and returns its identifier.
func (h *harness) register(name string, events ...string) string {
	h.Helper()
	body, err := json.Marshal(map[string]any{"events": events})
	if err != nil {
		h.Fatal(err)
	}
	a := h.ask("POST", Prefix+"register", string(body), "Lambda-Extension-Name", name)
	if a.status != http.StatusOK {
		h.Fatalf("registering %s: %d %s", name, a.status, a.body)
	}
	return a.header.Get("Lambda-Extension-Identifier")
}

// next asks for an event; the answer comes out of the channel.
func (h *harness) next(id string) <-chan answer {
	out := make(chan answer, 1)
	go func() { out <- h.ask("GET", Prefix+"event/next", "", "Lambda-Extension-Identifier", id) }()
	return out
}

// runtime has the runtime ask for its next event, in the background.
func (h *harness) runtime() {
	go h.ask("GET", "/2018-06-01/runtime/invocation/next", "")
}

// invoke runs an invocation to the runtime's response, which is refused as long
// as the runtime has not been given the event.
func (h *harness) invoke(id string) {
	h.Helper()
	over := make(chan struct{})
	defer close(over)
	h.set.Begin(Invocation{RequestID: id, ARN: "arn:aws:lambda:us-east-1:123456789012:function:f", TraceID: "Root=1-2-3;Sampled=1", Deadline: time.UnixMilli(1234)})
	go func() {
		for h.ask("POST", "/2018-06-01/runtime/invocation/"+id+"/response", "{}").status != http.StatusAccepted {
			select {
			case <-over:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	if _, err := h.env.Invoke(context.Background(), &runtimeapi.Event{RequestID: id, Payload: []byte("{}")}); err != nil {
		h.Fatal(err)
	}
}

func await[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(time.Minute):
		t.Fatalf("never happened: %s", what)
		panic("unreachable")
	}
}

// over reports whether a phase has ended.
func over(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// eventually waits for what another goroutine is about to do.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(200 * time.Microsecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never came true: %s", what)
		}
	}
}

// stateOf is an extension's state.
func (h *harness) stateOf(name string) State {
	for _, i := range h.set.Infos() {
		if i.Name == name {
			return i.State
		}
	}
	h.Fatalf("no extension %s", name)
	return 0
}

func compact(t testing.TB, s string) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(s)); err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return b.String()
}
