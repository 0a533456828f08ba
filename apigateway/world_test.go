package apigateway

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/jwt"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/storetest"
	"github.com/hearth-faas/hearth/worker/logs"
)

const (
	owner = hearth.Account("111122223333")
	echo  = "arn:aws:lambda:us-east-1:111122223333:function:echo"
)

// world is a Service with functions that the test plays.
type world struct {
	t testing.TB
	*Service
	clock *clock.Fake
	store store.Store

	mu    sync.Mutex
	run   func(*hearth.Invocation) (*hearth.Result, error)
	calls []*hearth.Invocation
	lines []string // of access logs
}

func (w *world) Invoke(ctx context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
	w.mu.Lock()
	w.calls = append(w.calls, inv)
	run := w.run
	w.mu.Unlock()
	if run == nil {
		return &hearth.Result{Payload: inv.Payload}, nil
	}
	return run(inv)
}

func (w *world) ran() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.calls)
}

func (w *world) last() *hearth.Invocation {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls[len(w.calls)-1]
}

// returns has all functions return a JSON text.
func (w *world) returns(payload string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.run = func(*hearth.Invocation) (*hearth.Result, error) { return &hearth.Result{Payload: []byte(payload)}, nil }
}

func (w *world) Lookup(key, token string) (string, hearth.Identity, error) {
	if key != "AKIAEXAMPLE" {
		return "", hearth.Identity{}, hearth.Errorf(hearth.UnrecognizedClient, "no such key")
	}
	return "secret", hearth.Identity{Account: owner, ARN: "arn:aws:iam::111122223333:root", UserID: "111122223333"}, nil
}

func (w *world) Appender(_ hearth.Account, group, _ string) logs.Appender { return &lines{w, group} }

type lines struct {
	w     *world
	group string
}

func (l *lines) Append(_ time.Time, _ string, message []byte) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	l.w.lines = append(l.w.lines, l.group+" "+string(message))
}

func (w *world) open() {
	w.t.Helper()
	s, err := Open(context.Background(), Config{
		Store: w.store, Clock: w.clock, Region: "us-east-1", Invoker: w, Credentials: w, Logs: w,
		Endpoint: func(id string) string { return "http://" + Host(id, "us-east-1", "localhost") },
		Refuses:  func(netip.AddrPort) string { return "" },
		Log:      slog.New(slog.DiscardHandler),
		Issuers:  jwt.NewIssuers(w.clock, http.DefaultClient),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.Service = s
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, clock: clock.NewFake(time.Unix(1700000000, 0)), store: &storetest.Memory{}}
	w.open()
	return w
}

// quick makes an API with a target, and returns its id.
func (w *world) quick(target string) string {
	w.t.Helper()
	a, err := w.CreateAPI(context.Background(), owner, Quick{Target: target}, func(a *API) error {
		a.Name, a.Protocol = "api", "HTTP"
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return a.ID
}

// api makes an API with an integration of the function, a stage that is
// deployed as it changes, and routes of the keys.
func (w *world) api(format string, keys ...string) (id, integration string) {
	w.t.Helper()
	ctx := context.Background()
	a, err := w.CreateAPI(ctx, owner, Quick{}, func(a *API) error {
		a.Name, a.Protocol = "api", "HTTP"
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	i, err := w.PutIntegration(ctx, owner, a.ID, "", func(i *Integration) error {
		i.Type, i.URI, i.PayloadFormat = "AWS_PROXY", echo, format
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, key := range keys {
		w.route(a.ID, i.ID, key, func(*Route) {})
	}
	if _, err := w.CreateStage(ctx, owner, a.ID, func(s *Stage) error {
		s.Name, s.AutoDeploy = defaultStage, true
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
	return a.ID, i.ID
}

func (w *world) route(id, integration, key string, change func(*Route)) *Route {
	w.t.Helper()
	r, err := w.PutRoute(context.Background(), owner, id, "", func(r *Route) error {
		r.Key, r.Target = key, "integrations/"+integration
		change(r)
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *world) stage(id, name string, change func(*Stage)) {
	w.t.Helper()
	if _, err := w.UpdateStage(context.Background(), owner, id, name, func(s *Stage) error {
		change(s)
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) integration(id, integration string, change func(*Integration)) {
	w.t.Helper()
	if _, err := w.PutIntegration(context.Background(), owner, id, integration, func(i *Integration) error {
		change(i)
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
}

// response is what a client was answered.
type response struct {
	status int
	header http.Header
	body   string
}

// send sends a request to an API by its host name.
func (w *world) send(id, method, path, body string, header ...string) response {
	r := httptest.NewRequest(method, "http://"+Host(id, "us-east-1", "localhost")+path, strings.NewReader(body))
	if body == "" {
		r.Body, r.ContentLength = http.NoBody, 0
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return w.do(r)
}

func (w *world) do(r *http.Request) response {
	rec := httptest.NewRecorder()
	w.Over(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(599) })).ServeHTTP(rec, r)
	b, err := io.ReadAll(rec.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return response{rec.Code, rec.Header(), string(b)}
}

// event is the body of an answer by the echoing function.
func decoded[T any](t testing.TB, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

// hashOf is a body's SHA-256, as signatures have it.
func hashOf(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])
}

// await polls for what happens by itself.
func await(t testing.TB, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !is(); {
		if time.Now().After(deadline) {
			t.Fatal("it has not happened after 2 minutes")
		}
		time.Sleep(2 * time.Millisecond)
	}
}
