package proxy_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/proxy"
)

const asyncAPI = `{"id": "a", "type": "lamp", "methods": ["POST"], "path": "/l/{resource}", "function": "f", "async": {"mode": "asked", "callback": "query.?callback"},
	"mapping": {"event": "{'n': body.n}", "add": "{'/n': result.n}", "status": "201", "headers": "{'X-N': result.n}", "body": "{'n': resource.state.n}"}}`

func TestAnAsynchronousCallGivesAHandleAndLaterItsResult(t *testing.T) {
	fake := clock.NewFake(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	w := newWorld(t, func(c *proxy.Config) { c.Clock = fake })
	w.resource("l", "lamp", `{}`)
	release := make(chan struct{})
	w.exec.function("f", func(e map[string]any) (any, bool) { <-release; return e, false })
	w.api(asyncAPI)
	a := w.call("POST", "/l/l", `{"n":3}`, "Prefer", "return=minimal, respond-async")
	var got struct{ Call, Href, Status string }
	if err := json.Unmarshal([]byte(a.body), &got); err != nil || a.status != 202 || got.Status != "pending" || a.header.Get("Location") != got.Href || !strings.HasSuffix(got.Href, "/_calls/"+got.Call) {
		t.Fatalf("%+v %v", a, err)
	}
	if a := w.call("GET", got.Href, ""); a.status != 202 || a.header.Get("Retry-After") != "1" {
		t.Errorf("%+v", a)
	}
	close(release)
	await(t, "the result", func() bool { return w.call("GET", got.Href, "").status == 201 })
	if a := w.call("GET", got.Href, ""); a.body != `{"n":3}` || a.header.Get("X-N") != "3" || a.header.Get("X-Hearth-Call") != got.Call {
		t.Errorf("%+v", a)
	}
	if a := w.call("GET", "/_calls/nothing", ""); a.status != 404 || !strings.Contains(a.body, "NoSuchCall") {
		t.Errorf("%+v", a)
	}
	if a := w.call("DELETE", got.Href, ""); a.status != 405 {
		t.Errorf("%+v", a)
	}
	// What is wrong with a call is told at once.
	if a := w.call("POST", "/l/l", `{"n"`, "Prefer", "respond-async"); a.status != 400 {
		t.Errorf("%+v", a)
	}
	// Whoever does not ask for it waits.
	if a := w.call("POST", "/l/l", `{"n":1}`); a.status != 201 || a.body != `{"n":4}` {
		t.Errorf("%+v", a)
	}
	fake.Advance(2 * time.Hour)
	if a := w.call("GET", got.Href, ""); a.status != 404 {
		t.Errorf("a result is kept for ever: %+v", a)
	}
	await(t, "the record to go", func() bool {
		fake.Advance(time.Minute)
		n := 0
		err := w.store.View(t.Context(), func(r storeReader) error {
			for range r.Scan("proxy/calls", "", "") {
				n++
			}
			return nil
		})
		return err == nil && n == 0
	})
}

// What was accepted is run, though the process ended meanwhile.
func TestAnAcceptedCallSurvivesARestart(t *testing.T) {
	w := newWorld(t)
	w.resource("l", "lamp", `{}`)
	var runs atomic.Int64
	hang := make(chan struct{})
	defer close(hang)
	w.exec.function("f", func(e map[string]any) (any, bool) {
		if runs.Add(1) == 1 {
			<-hang
		}
		return e, false
	})
	w.api(asyncAPI)
	// A body that nests as deep as one may.
	deep := `{"n":3,"deep":` + strings.Repeat("[", 62) + strings.Repeat("]", 62) + `}`
	a := w.call("POST", "/l/l", deep, "Prefer", "respond-async")
	if a.status != 202 {
		t.Fatalf("%+v", a)
	}
	await(t, "the run to begin", func() bool { return runs.Load() == 1 })
	w.reopen()
	await(t, "the result", func() bool { return w.call("GET", a.header.Get("Location"), "").status == 201 })
	if got := w.state("l"); got != `{"n":3}` {
		t.Errorf("the state is %s", got)
	}
	w.reopen()
	if a := w.call("GET", a.header.Get("Location"), ""); a.status != 201 || a.body != `{"n":3}` {
		t.Errorf("%+v", a)
	}
}

func TestAResultIsSentToWhoIsCalledBack(t *testing.T) {
	received := make(chan *http.Request, 16)
	var fails atomic.Int64
	fails.Store(1)
	there := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if fails.Add(-1) >= 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		received <- r
	}))
	defer there.Close()
	var refuse atomic.Bool
	w := newWorld(t, func(c *proxy.Config) {
		c.Refuses = func(string) string {
			if refuse.Load() {
				return "as asked"
			}
			return ""
		}
	})
	w.resource("l", "lamp", `{}`)
	w.exec.function("f", echo)
	w.api(asyncAPI)
	a := w.call("POST", "/l/l?callback="+there.URL+"/here", `{"n":3}`, "Prefer", "respond-async")
	if a.status != 202 {
		t.Fatalf("%+v", a)
	}
	select {
	case r := <-received:
		body, _ := io.ReadAll(r.Body)
		if string(body) != `{"n":3}` || r.URL.Path != "/here" || r.Header.Get("X-Hearth-Status") != "201" || !strings.HasSuffix(a.header.Get("Location"), r.Header.Get("X-Hearth-Call")) {
			t.Errorf("%s %+v", body, r)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("nothing is sent")
	}
	for _, bad := range []string{"ftp://x/", "http://u:p@x/", "nowhere", "http:///"} {
		if a := w.call("POST", "/l/l?callback="+bad, `{"n":3}`, "Prefer", "respond-async"); a.status != 400 {
			t.Errorf("%s: %+v", bad, a)
		}
	}
	refuse.Store(true)
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	there.CloseClientConnections()
	a = w.call("POST", "/l/l?callback="+there.URL+"/refused", `{"n":3}`, "Prefer", "respond-async")
	await(t, "the result", func() bool { return w.call("GET", a.header.Get("Location"), "").status == 201 })
	await(t, "a refusal", func() bool {
		return strings.Contains(w.record(a.header.Get("X-Hearth-Request-Id")), "as asked") || len(received) > 0
	})
	if len(received) > 0 {
		t.Error("a result is sent where that is refused")
	}
}

func TestAnAccountHasBoundedCallsWaiting(t *testing.T) {
	w := newWorld(t)
	w.resource("l", "lamp", `{}`)
	hang := make(chan struct{})
	w.exec.function("f", func(e map[string]any) (any, bool) { <-hang; return e, false })
	w.api(asyncAPI)
	accepted := 0
	for range 1001 {
		if a := w.call("POST", "/l/l", `{"n":1}`, "Prefer", "respond-async"); a.status == 202 {
			accepted++
		} else if a.status != 503 || !strings.Contains(a.body, "TooManyCalls") {
			t.Fatalf("%+v", a)
		}
	}
	if accepted != 1000 {
		t.Errorf("%d calls are accepted", accepted)
	}
	close(hang)
	await(t, "a place for another", func() bool { return w.call("POST", "/l/l", `{"n":1}`, "Prefer", "respond-async").status == 202 })
}
