package proxy_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"golang.org/x/sys/unix"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/proxy"
)

func TestFaultsHaveDefinedStatuses(t *testing.T) {
	w := newWorld(t)
	w.resource("l", "lamp", `{}`)
	w.exec.function("throws", func(map[string]any) (any, bool) {
		return map[string]any{"errorType": "ValueError", "errorMessage": "the password is x"}, true
	})
	w.exec.function("slow", func(map[string]any) (any, bool) {
		return map[string]any{"errorType": "Sandbox.Timedout", "errorMessage": "Task timed out after 3.00 seconds"}, true
	})
	w.exec.function("throttled", func(map[string]any) (any, bool) { return 429, false })
	w.exec.function("broken", func(map[string]any) (any, bool) { return 500, false })
	w.exec.function("denied", func(map[string]any) (any, bool) { return 403, false })
	w.exec.function("large", func(map[string]any) (any, bool) { return strings.Repeat("x", 1<<20), false })
	hang := make(chan struct{})
	defer close(hang)
	w.exec.function("hangs", func(map[string]any) (any, bool) { <-hang; return nil, false })
	for function, want := range map[string]struct {
		status int
		fault  string
		retry  string
	}{
		"throws": {502, "FunctionFailed", ""}, "slow": {504, "FunctionTimeout", ""}, "throttled": {503, "Overloaded", "1"},
		"broken": {503, "Unavailable", "1"}, "denied": {502, "Refused", ""}, "large": {502, "FunctionFailed", ""}, "hangs": {504, "Timeout", ""},
	} {
		timeout := "30000"
		if function == "throttled" || function == "hangs" { // which last until the time is up
			timeout = "3000"
		}
		w.api(`{"id": "a-` + function + `", "resource": "l", "methods": ["POST"], "path": "/` + function + `", "function": "` + function + `", "timeoutMillis": ` + timeout + `, "mapping": {}}`)
		a := w.call("POST", "/"+function, "")
		if a.status != want.status || !strings.Contains(a.body, `"kind":"`+want.fault+`"`) || strings.Contains(a.body, "password") {
			t.Errorf("%s: %+v, want %+v", function, a, want)
		}
		if got := a.header.Get("Retry-After"); got != want.retry {
			t.Errorf("%s: Retry-After %q", function, got)
		}
		if d := w.last(); d.Chosen != want.fault || strings.Contains(d.Why, "password") {
			t.Errorf("%+v", d)
		}
	}
	w.api(`{"id": "mapped", "resource": "l", "methods": ["POST"], "path": "/mapped", "function": "throws", "mapping": {"errors": [
		{"on": "FunctionFailed", "type": "Key*", "status": 404},
		{"on": "FunctionFailed", "type": "Value*", "status": 422, "body": "{'why': error.message, 'lamp': resource.id}", "headers": "{'X-Type': error.type}"},
		{"on": "*", "status": 500}]}}`)
	if a := w.call("POST", "/mapped", ""); a.status != 422 || a.body != `{"lamp":"l","why":"the password is x"}` || a.header.Get("X-Type") != "ValueError" {
		t.Errorf("%+v", a)
	}
	// A mapping that fails itself leaves the fault as it is.
	w.api(`{"id": "mapped", "resource": "l", "methods": ["POST"], "path": "/mapped", "function": "throws", "mapping": {"errors": [{"on": "*", "status": 418, "body": "resource.state.nope"}]}}`)
	if a := w.call("POST", "/mapped", ""); a.status != 418 || !strings.Contains(a.body, "FunctionFailed") {
		t.Errorf("%+v", a)
	}
}

// What is known not to have run is tried again; what may have run only where that
// does not matter.
func TestCallsAreTriedAgainWhileTheServiceIsDown(t *testing.T) {
	w := newWorld(t)
	w.resource("l", "lamp", `{}`)
	var left atomic.Int64
	w.exec.function("flaky", func(map[string]any) (any, bool) {
		if left.Add(-1) >= 0 {
			return 500, false
		}
		return "done", false
	})
	w.api(`{"id": "a", "resource": "l", "methods": ["GET", "PUT", "DELETE", "POST", "PATCH"], "path": "/l", "function": "flaky", "mapping": {}}`)
	w.api(`{"id": "b", "resource": "l", "methods": ["POST"], "path": "/b", "function": "flaky", "idempotent": true, "mapping": {}}`)
	w.api(`{"id": "c", "resource": "l", "methods": ["GET"], "path": "/c", "function": "flaky", "idempotent": false, "mapping": {}}`)
	for _, c := range []struct {
		method, path string
		status       int
	}{{"GET", "/l", 200}, {"PUT", "/l", 200}, {"DELETE", "/l", 200}, {"POST", "/l", 503}, {"PATCH", "/l", 503}, {"POST", "/b", 200}, {"GET", "/c", 503}} {
		left.Store(2)
		if a := w.call(c.method, c.path, ""); a.status != c.status {
			t.Errorf("%s %s: %+v, want %d", c.method, c.path, a, c.status)
		}
		if d := w.last(); c.status == 200 && !strings.Contains(d.Why, "which took 3 tries") {
			t.Errorf("%s", d.Why)
		}
	}
}

// laterListener is an address at which nobody listens until listen is called, and
// which is the test's all the while.
func laterListener(t *testing.T) (at string, listen func() net.Listener) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "listener")
	t.Cleanup(func() { file.Close() })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port), func() net.Listener {
		t.Helper()
		if err := unix.Listen(fd, 16); err != nil {
			t.Fatal(err)
		}
		l, err := net.FileListener(file)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
}

func TestNoConnectionMeansThatNothingHasRun(t *testing.T) {
	at, listen := laterListener(t)
	w := newWorld(t, func(c *proxy.Config) { c.Execution.Endpoint = "http://" + at })
	w.resource("l", "lamp", `{}`)
	w.exec.function("f", echo)
	w.api(`{"id": "a", "resource": "l", "methods": ["POST"], "path": "/l", "function": "f", "timeoutMillis": 60000, "mapping": {"body": "'ok'"}}`)
	w.api(`{"id": "b", "resource": "l", "methods": ["POST"], "path": "/b", "function": "f", "timeoutMillis": 3000, "mapping": {}}`)
	if a := w.call("POST", "/b", ""); a.status != 503 || a.header.Get("Retry-After") != "1" || !strings.Contains(a.body, "Unavailable") {
		t.Errorf("%+v", a)
	}
	got := make(chan answer, 1)
	go func() { got <- w.call("POST", "/l", "") }()
	l := listen()
	server := &http.Server{Handler: w.exec}
	go func() { _ = server.Serve(l) }() // until it is closed
	defer server.Close()
	if a := <-got; a.status != 200 {
		t.Errorf("%+v", a)
	}
}

func TestCallsAreThrottled(t *testing.T) {
	fake := clock.NewFake(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	w := newWorld(t, func(c *proxy.Config) { c.Clock = fake })
	w.resource("l", "lamp", `{}`)
	w.exec.function("f", echo)
	w.api(`{"id": "a", "resource": "l", "methods": ["GET"], "path": "/l", "function": "f", "throttle": {"rate": 0.5, "burst": 2}, "mapping": {}}`)
	statuses := func(n int) (s []int) {
		for range n {
			s = append(s, w.call("GET", "/l", "").status)
		}
		return s
	}
	if s := statuses(3); s[0] != 200 || s[1] != 200 || s[2] != 429 {
		t.Error(s)
	}
	if a := w.call("GET", "/l", ""); a.header.Get("Retry-After") != "2" || !strings.Contains(a.body, "Throttled") {
		t.Errorf("%+v", a)
	}
	fake.Advance(2 * time.Second)
	if s := statuses(2); s[0] != 200 || s[1] != 429 {
		t.Error(s)
	}
}

func TestResponsesAreKeptUntilTheStateChanges(t *testing.T) {
	fake := clock.NewFake(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	w := newWorld(t, func(c *proxy.Config) { c.Clock = fake })
	w.resource("l", "lamp", `{"n":1}`)
	w.exec.function("f", func(e map[string]any) (any, bool) { return map[string]any{"run": w.exec.runs.Load()}, false })
	define := func() {
		w.api(`{"id": "a", "type": "lamp", "methods": ["GET"], "path": "/l/{resource}", "function": "f", "cache": {"ttlMillis": 60000, "key": "query.?q.orValue('')"}, "mapping": {}}`)
	}
	define()
	get := func(path, accept, want string) {
		t.Helper()
		runs := w.exec.runs.Load()
		a := w.call("GET", path, "", "Accept", accept)
		if a.status != 200 || a.header.Get("X-Hearth-Cache") != want || (w.exec.runs.Load() > runs) != (want == "miss") {
			t.Errorf("%s: %+v, want a %s", path, a, want)
		}
	}
	get("/l/l", "", "miss")
	get("/l/l", "", "hit")
	get("/l/l?other=1", "", "hit") // not in the key
	get("/l/l?q=1", "", "miss")
	get("/l/l", "application/xml", "miss")
	w.resource("l", "lamp", `{"n":2}`)
	get("/l/l", "", "miss")
	get("/l/l", "", "hit")
	define() // another revision
	get("/l/l", "", "miss")
	fake.Advance(61 * time.Second)
	get("/l/l", "", "miss")
	if err := w.svc.RemoveResource(t.Context(), account, "l"); err != nil {
		t.Fatal(err)
	}
	fake.Advance(time.Second)
	w.resource("l", "lamp", `{"n":1}`) // another of the same name, at revision 1 again
	get("/l/l", "", "miss")
}

// one is an authority with one key for each of two accounts.
type one struct{}

func (one) Lookup(id, token string) (string, hearth.Identity, error) {
	a := hearth.Account(strings.TrimPrefix(id, "AKIA"))
	if len(a) != 12 {
		return nobody{}.Lookup(id, token)
	}
	return "secret", hearth.Identity{Account: a, ARN: "arn:aws:iam::" + string(a) + ":root"}, nil
}

func TestWhoMayCall(t *testing.T) {
	w := newWorld(t, func(c *proxy.Config) { c.Credentials = one{} })
	w.resource("l", "lamp", `{}`)
	w.exec.function("f", func(e map[string]any) (any, bool) { return e["request"].(map[string]any)["caller"], false })
	for id, auth := range map[string]string{"none": `{"kind":"none"}`, "any": `{"kind":"key"}`, "some": `{"kind":"key","keys":["alice"]}`, "signed": `{"kind":"sigv4"}`} {
		w.api(`{"id": "` + id + `", "resource": "l", "methods": ["GET"], "path": "/` + id + `", "function": "f", "auth": ` + auth + `, "mapping": {}}`)
	}
	_, alice, err := w.svc.AddKey(t.Context(), account, "alice")
	if err != nil {
		t.Fatal(err)
	}
	_, bob, err := w.svc.AddKey(t.Context(), account, "bob")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.svc.AddKey(t.Context(), account, "bob"); hearth.KindOf(err) != hearth.Conflict {
		t.Error(err)
	}
	w.reopen()
	get := func(path, key string, status int, says string) {
		t.Helper()
		var headers []string
		if key != "" {
			headers = []string{"X-Api-Key", key}
		}
		if a := w.call("GET", path, "", headers...); a.status != status || !strings.Contains(a.body, says) {
			t.Errorf("%s: %d %s, want %d %s", path, a.status, a.body, status, says)
		}
	}
	get("/none", "", 200, `""`)
	get("/any", "", 401, "Unauthorized")
	get("/any", "hpk_x", 401, "Unauthorized")
	get("/any", bob, 200, "key/bob")
	get("/some", bob, 403, "Forbidden")
	get("/some", alice, 200, "key/alice")
	get("/signed", alice, 401, "Unauthorized")
	if err := w.svc.RemoveKey(t.Context(), account, "alice"); err != nil {
		t.Error(err)
	}
	get("/some", alice, 401, "Unauthorized")
	if keys := w.svc.Keys(account); len(keys) != 1 || keys[0].Name != "bob" || strings.Contains(keys[0].SHA256, bob) {
		t.Errorf("%+v", keys)
	}
	for who, status := range map[string]int{string(account): 200, "222222222222": 403} {
		r, err := http.NewRequest("GET", w.web.URL+"/_hearth/proxy/"+string(account)+"/signed", nil)
		if err != nil {
			t.Fatal(err)
		}
		none := "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
		if err := v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: "AKIA" + who, SecretAccessKey: "secret"}, r, none, proxy.SigningService, "us-east-1", time.Now()); err != nil {
			t.Fatal(err)
		}
		a, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		a.Body.Close()
		if a.StatusCode != status {
			t.Errorf("%s: %d, want %d", who, a.StatusCode, status)
		}
	}
}
