package proxy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/jwt"
	"github.com/hearth-faas/hearth/proxy"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/sqlite"
)

const account hearth.Account = "111122223333"

// executions is a code execution service at the other end of a real connection.
// Its functions are those of the map.
type executions struct {
	*httptest.Server
	mu        sync.Mutex
	functions map[string]func(event map[string]any) (result any, failed bool)
	runs      atomic.Int64
	context   string // of the last request
}

func newExecutions(t testing.TB) *executions {
	e := &executions{functions: map[string]func(map[string]any) (any, bool){}}
	e.Server = httptest.NewServer(e)
	t.Cleanup(e.Close)
	return e
}

func (e *executions) function(name string, f func(event map[string]any) (any, bool)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.functions[name] = f
}

func (e *executions) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, ok := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, "/2015-03-31/functions/"), "/invocations")
	if q := r.URL.Query().Get("Qualifier"); q != "" {
		name += ":" + q
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	e.mu.Lock()
	f := e.functions[name]
	e.context = r.Header.Get("X-Amz-Client-Context")
	e.mu.Unlock()
	if !ok || f == nil || !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=AKIA"+string(account)) {
		w.Header().Set("X-Amzn-Errortype", "ResourceNotFoundException")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"Message":"Function not found"}`)
		return
	}
	var event map[string]any
	if err := json.Unmarshal(body, &event); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.Header().Set("X-Amzn-Requestid", fmt.Sprintf("run-%d", e.runs.Add(1)))
	result, failed := f(event)
	if status, ok := result.(int); ok { // an answer of the service's
		w.WriteHeader(status)
		return
	}
	if failed {
		w.Header().Set("X-Amz-Function-Error", "Unhandled")
	}
	_ = json.NewEncoder(w).Encode(result)
}

// nobody has no keys.
type nobody struct{}

func (nobody) Lookup(string, string) (string, hearth.Identity, error) {
	return "", hearth.Identity{}, hearth.Errorf(hearth.UnrecognizedClient, "no")
}

// world is a proxy with its execution service.
type world struct {
	t     testing.TB
	exec  *executions
	store store.Store
	cfg   proxy.Config
	svc   *proxy.Service
	web   *httptest.Server

	mu        sync.Mutex
	decisions []hearth.Decision
}

func (w *world) Record(d *hearth.Decision) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.decisions = append(w.decisions, *d)
}

func (w *world) last() hearth.Decision {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.decisions) == 0 {
		return hearth.Decision{}
	}
	return w.decisions[len(w.decisions)-1]
}

func newWorld(t testing.TB, change ...func(*proxy.Config)) *world {
	t.Helper()
	s, err := sqlite.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	w := &world{t: t, exec: newExecutions(t), store: s}
	w.cfg = proxy.Config{
		Store: s, Credentials: nobody{}, Issuers: jwt.NewIssuers(clock.System(), http.DefaultClient), Clock: clock.System(), Region: "us-east-1", Recorder: w, Log: slog.New(slog.DiscardHandler),
		Execution: &proxy.Execution{Endpoint: w.exec.URL, Region: "us-east-1", Clock: clock.System(), Credentials: func(_ context.Context, a hearth.Account) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKIA" + string(a), SecretAccessKey: "secret"}, nil
		}},
	}
	for _, c := range change {
		c(&w.cfg)
	}
	w.open()
	t.Cleanup(func() { w.svc.Stop(); w.web.Close() })
	return w
}

// open starts the service on the store.
func (w *world) open() {
	w.t.Helper()
	var err error
	if w.svc, err = proxy.Open(w.t.Context(), w.cfg); err != nil {
		w.t.Fatal(err)
	}
	w.svc.Start()
	w.web = httptest.NewServer(w.svc.Over(http.NotFoundHandler()))
}

// reopen ends the service and starts another on the same store.
func (w *world) reopen() {
	w.t.Helper()
	w.svc.Stop()
	w.web.Close()
	w.open()
}

func (w *world) resource(id, typ, state string) {
	w.t.Helper()
	if _, err := w.svc.PutResource(w.t.Context(), account, proxy.Resource{ID: id, Type: typ, State: json.RawMessage(state)}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) state(id string) string {
	w.t.Helper()
	r, err := w.svc.Resource(account, id)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(r.State)
}

// api stores a definition, without authentication unless it says so.
func (w *world) api(doc string) proxy.API {
	w.t.Helper()
	a, err := proxy.DecodeAPI([]byte(doc))
	if err != nil {
		w.t.Fatal(err)
	}
	if a.Auth.Kind == "" {
		a.Auth.Kind = "none"
	}
	got, err := w.svc.PutAPI(w.t.Context(), account, a)
	if err != nil {
		w.t.Fatal(err)
	}
	return got
}

// answer is what a request came to.
type answer struct {
	status int
	header http.Header
	body   string
}

// call sends a request; headers are name, value, name, value.
func (w *world) call(method, path, body string, headers ...string) answer {
	w.t.Helper()
	a, err := w.send(w.t.Context(), method, path, body, headers...)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

func (w *world) send(ctx context.Context, method, path, body string, headers ...string) (answer, error) {
	if !strings.HasPrefix(path, "/_hearth") {
		path = "/_hearth/proxy/" + string(account) + path
	}
	r, err := http.NewRequestWithContext(ctx, method, w.web.URL+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	got, err := http.DefaultClient.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer got.Body.Close()
	b, err := io.ReadAll(got.Body)
	return answer{got.StatusCode, got.Header, string(b)}, err
}

// await polls for what happens by itself.
func await(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !is(); {
		if time.Now().After(deadline) {
			t.Fatalf("after 2 minutes still not: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// echo answers with its event.
func echo(event map[string]any) (any, bool) { return event, false }
