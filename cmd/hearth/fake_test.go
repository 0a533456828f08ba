package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/awsjson"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/execution"
	"github.com/hearth-faas/hearth/identity"
	"github.com/hearth-faas/hearth/lambda/sigv4"
	"github.com/hearth-faas/hearth/server"
	"github.com/hearth-faas/hearth/store/sqlite"
)

// fake answers as a server does where the command line asks: the Lambda API
// in the service's own JSON, and the real control API over sources that are
// the fake itself. Every request must be signed with the data folder's
// credentials.
type fake struct {
	t        *testing.T
	dir      string // data folder
	url      string
	verifier *sigv4.Verifier
	control  *control.Handler

	schedules awsjson.Handler

	mu        sync.Mutex
	functions map[string]map[string]any // as GetFunctionConfiguration answers
	urls      map[string]map[string]any // as GetFunctionUrlConfig answers
	policy    []map[string]any          // what AddPermission was asked for
	calls     []string                  // METHOD /path
	answer    func(event []byte, h http.Header) (status int, header map[string]string, body string)
	decisions []hearth.Decision
	busyFor   int // how many looks at a function until its update is done
}

const testAccount, testRegion = "000000000000", "eu-west-1"

func newFake(t *testing.T) *fake {
	f := &fake{t: t, dir: t.TempDir(), functions: map[string]map[string]any{}, urls: map[string]map[string]any{}}
	authority, err := identity.LoadOrCreate(identity.Config{
		Dir: f.dir, Account: testAccount, Region: testRegion, Clock: clock.System(), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	f.verifier = sigv4.New(authority, clock.System(), testRegion, "lambda", "sts", "scheduler", control.SigningService)
	f.control = &control.Handler{
		Authenticate: func(r *http.Request, body []byte) (hearth.Identity, error) {
			c, err := f.verifier.Verify(r, body)
			return c.Identity, err
		},
		Instances: f, Decisions: f, Runtimes: f, Logs: f, Policies: newPolicies(t, f.dir), Predictions: foretold{f}, Learned: foretold{f}, Capacities: f,
		Operator: hearth.DefaultAccount, Log: slog.New(slog.DiscardHandler),
		Serves: func(path string) bool { return path != "/shared-aliases" }, // of which it has none
	}
	f.schedules, f.control.BusEvents = newSchedules(), f
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	f.url = srv.URL
	err = control.WriteRunning(f.dir, control.Running{
		PID: 1, Endpoint: srv.URL, Account: testAccount, Region: testRegion, Version: "9.9", Started: time.Now(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// newPolicies are execution policies as a server keeps them.
func newPolicies(t *testing.T, dir string) *execution.Policies {
	s, err := sqlite.Open(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	p, err := execution.Open(context.Background(), s, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (f *fake) Snapshot(context.Context) (control.Snapshot, error) {
	return control.Snapshot{At: time.Now(), MemoryMiB: 4096, CommittedMiB: 128, PoolBudgetMiB: 256, PoolMiB: 11, Instances: []control.Instance{
		{ID: "i-pool", Containers: []control.Container{{ID: "c-1", State: control.StateReady, Boot: "node20"}}},
		{ID: "i-own", Account: testAccount, Containers: []control.Container{{
			ID: "c-2", State: control.StateIdle, Since: time.Now().Add(-61 * time.Second), Function: "echo", Version: "$LATEST", Invocations: 7, LimitMiB: 128, UsedMiB: 33}, {
			ID: "c-3", State: control.StateBusy, Since: time.Now().Add(-time.Second), Function: "kept", Version: "3", Tenant: "blue", Provisioned: true}}},
	}}, nil
}

func (f *fake) Query(_ context.Context, q control.DecisionQuery) ([]hearth.Decision, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.decisions), func(d hearth.Decision) bool {
		return q.Kind != "" && q.Kind != d.Kind || q.RequestID != "" && q.RequestID != d.RequestID || q.Function != "" && q.Function != d.Function
	}), nil
}

func (f *fake) Follow(_ context.Context, _ hearth.Account, bus string, emit func(control.BusLine) error) error {
	if bus == "no" {
		return hearth.Errorf(hearth.Validation, "no such name")
	}
	for _, l := range []control.BusLine{{}, {Missed: 2}, {Event: []byte(`{"source":"` + bus + `","detail-type":"Order","detail":{"n":1}}`)}} {
		if err := emit(l); err != nil {
			return err
		}
	}
	return nil
}

func (f *fake) List(context.Context) ([]control.Runtime, error) {
	return []control.Runtime{
		{Name: "nodejs24.x", Usable: true, Interpreter: "/usr/bin/node", Version: "20.1.0", Note: "the nearest"},
		{Name: "nodejs20.x", Usable: true, Exact: true, Interpreter: "/usr/bin/node", Version: "20.1.0"},
		{Name: "nodejs18.x", Usable: true, Interpreter: "/usr/bin/node", Version: "20.1.0"},
		{Name: "python3.9", Usable: true, Exact: true}, {Name: "python3.11", Usable: true, Exact: true},
		{Name: "provided.al2023", Usable: true, Exact: true},
	}, nil
}

func (f *fake) Read(ctx context.Context, q control.LogQuery, emit func(control.LogLine) error) error {
	if q.Function != "echo" {
		return hearth.Errorf(hearth.NotFound, "Function not found: %s", q.Function)
	}
	for _, m := range []string{"START RequestId: r1", "hello", "END RequestId: r1"} {
		if err := emit(control.LogLine{At: time.Now(), Message: m}); err != nil {
			return err
		}
	}
	return nil
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == control.HealthPath:
		return
	case strings.HasPrefix(r.URL.Path, control.Prefix):
		f.control.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		f.t.Error(err)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	claim, err := f.verifier.Verify(r, body)
	if err != nil {
		refuse(w, string(hearth.KindOf(err)), 403, "The security token included in the request is invalid.")
		return
	}
	if strings.HasPrefix(r.URL.Path, "/schedules") {
		_ = f.schedules.Serve(w, &awsjson.Request{Caller: claim.Identity, HTTP: r, Body: body}) // and the client is told
		return
	}
	path, ok := strings.CutPrefix(r.URL.Path, "/2021-10-31/functions") // of URLs
	if !ok {
		path, ok = strings.CutPrefix(r.URL.Path, "/2015-03-31/functions")
	}
	if !ok {
		f.t.Errorf("unexpected %s %s", r.Method, r.URL.Path)
		return
	}
	name, what, _ := strings.Cut(strings.Trim(path, "/"), "/")
	call := strings.TrimSpace(r.Method + " " + what)
	f.calls = append(f.calls, call)
	if call == "POST" || call == "GET" && name == "" {
		f.whole(w, call, body)
		return
	}
	c := f.functions[name]
	if c == nil {
		refuse(w, "ResourceNotFoundException", 404, "Function not found: arn:aws:lambda:"+testRegion+":"+testAccount+":function:"+name)
		return
	}
	switch call {
	case "GET configuration":
		if f.busyFor > 0 {
			f.busyFor--
			c = maps.Clone(c)
			c["LastUpdateStatus"] = "InProgress"
		}
		send(w, 200, c)
	case "PUT configuration":
		for k, v := range f.decode(body) {
			c[k] = v
		}
		send(w, 200, c)
	case "PUT code":
		f.setCode(c, f.decode(body)["ZipFile"].(string))
		send(w, 200, c)
	case "DELETE":
		delete(f.functions, name)
		send(w, 200, map[string]any{"StatusCode": 200})
	case "POST url", "GET url":
		if call == "POST url" {
			f.urls[name] = f.decode(body)
			f.urls[name]["FunctionUrl"] = "http://id.lambda-url." + testRegion + ".localhost/"
		}
		if f.urls[name] == nil {
			refuse(w, "ResourceNotFoundException", 404, "The resource you requested does not exist.")
			return
		}
		send(w, 200, f.urls[name])
	case "DELETE url":
		delete(f.urls, name)
		w.WriteHeader(http.StatusNoContent)
	case "POST policy":
		f.policy = append(f.policy, f.decode(body))
		send(w, 201, map[string]any{"Statement": "{}"})
	case "DELETE policy/" + sidURL, "DELETE policy/" + sidInvoke:
		refuse(w, "ResourceNotFoundException", 404, "No policy is associated with the given resource.")
	case "POST invocations":
		status, header, text := f.answer(body, r.Header)
		for k, v := range header {
			w.Header().Set(k, v)
		}
		w.Header().Set("X-Amzn-Requestid", "r1")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	default:
		f.t.Errorf("unexpected %s", call)
	}
}

// whole serves what is about no function or a new one. Lists have pages of one.
func (f *fake) whole(w http.ResponseWriter, call string, body []byte) {
	if call == "GET" {
		var list []any
		for _, name := range slices.Sorted(maps.Keys(f.functions)) {
			list = append(list, f.functions[name])
		}
		send(w, 200, map[string]any{"Functions": list})
		return
	}
	c := f.decode(body)
	name := c["FunctionName"].(string)
	f.setCode(c, c["Code"].(map[string]any)["ZipFile"].(string))
	delete(c, "Code")
	c["FunctionArn"] = "arn:aws:lambda:" + testRegion + ":" + testAccount + ":function:" + name
	c["State"], c["LastUpdateStatus"], c["LastModified"] = "Active", "Successful", time.Now().UTC().Format("2006-01-02T15:04:05.000-0700")
	f.functions[name] = c
	send(w, 201, c)
}

func (f *fake) setCode(c map[string]any, zip64 string) {
	data, err := base64.StdEncoding.DecodeString(zip64)
	if err != nil {
		f.t.Error(err)
	}
	sum := sha256.Sum256(data)
	c["CodeSha256"], c["CodeSize"] = base64.StdEncoding.EncodeToString(sum[:]), len(data)
}

func (f *fake) decode(body []byte) map[string]any {
	var m map[string]any
	if err := json.Unmarshal(body, &m); err != nil {
		f.t.Errorf("%v in %q", err, body)
	}
	return m
}

func send(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client of a test is there
}

func refuse(w http.ResponseWriter, kind string, status int, message string) {
	w.Header().Set("X-Amzn-Errortype", kind)
	send(w, status, map[string]any{"Type": "User", "Message": message})
}

// result is what one command line came to.
type result struct {
	code     int
	out, err string
}

// hearth runs a command line against the fake's data folder.
func (f *fake) hearth(args ...string) result {
	f.t.Helper()
	return run(f.t, "", nil, append(args, "--data", f.dir)...)
}

// run runs a command line with an environment and standard input of its own.
func run(t *testing.T, in string, env map[string]string, args ...string) result {
	t.Helper()
	var out, errOut bytes.Buffer
	if env == nil {
		env = map[string]string{}
	}
	if env["HOME"] == "" {
		env["HOME"] = t.TempDir()
	}
	a := &app{in: strings.NewReader(in), out: &out, err: &errOut, getenv: func(k string) string { return env[k] }}
	a.newServer = func(context.Context, server.Config) (runner, error) { t.Error("a server was started"); return nil, nil }
	code := a.run(t.Context(), args)
	return result{code, out.String(), errOut.String()}
}

// want checks a result: its exit code, and what each stream must contain.
func (r result) want(t *testing.T, code int, out string, errs ...string) {
	t.Helper()
	if r.code != code || !strings.Contains(r.out, out) {
		t.Errorf("exit %d\nout: %s\nerr: %s\nwant %d and %q", r.code, r.out, r.err, code, out)
	}
	for _, e := range errs {
		if !strings.Contains(r.err, e) {
			t.Errorf("standard error lacks %q:\n%s", e, r.err)
		}
	}
}
