package proxy_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/hearth-faas/hearth/proxy/body"
)

func TestACallIsMappedBothWays(t *testing.T) {
	w := newWorld(t)
	w.resource("lamp-1", "lamp", `{"level":2}`)
	w.exec.function("lamp:live", func(e map[string]any) (any, bool) {
		return map[string]any{"was": e["from"], "now": e["to"], "by": e["who"]}, false
	})
	w.api(`{"id": "lamp-set", "type": "lamp", "methods": ["PUT"], "path": "/lamps/{resource}/level", "function": "lamp:live",
		"mapping": {
			"require": [{"that": "body.level >= 0 && body.level < 11", "message": "level is from 0 to 10"}],
			"event": ["{'from': resource.state.level, 'to': body.level,", " 'who': query.?by.orValue('nobody')}"],
			"merge": "{'level': result.now}",
			"status": "201", "headers": "{'X-Was': string(result.was)}",
			"body": "{'brightness': result.now, 'revision': resource.revision, 'by': result.by}"}}`)
	a := w.call("PUT", "/lamps/lamp-1/level?by=me", `{"level":7}`)
	if want := `{"brightness":7,"by":"me","revision":2}`; a.status != 201 || a.body != want || a.header.Get("X-Was") != "2" || a.header.Get("X-Hearth-Mapping") != "lamp-set@1" {
		t.Errorf("%+v, want %s", a, want)
	}
	if got := w.state("lamp-1"); got != `{"level":7}` {
		t.Errorf("the state is %s", got)
	}
	if a := w.call("PUT", "/lamps/lamp-1/level", `{"level":11}`); a.status != 400 || !strings.Contains(a.body, "level is from 0 to 10") {
		t.Errorf("%+v", a)
	}
	if a := w.call("PUT", "/lamps/lamp-1/level", `{"bright":1}`); a.status != 400 || !strings.Contains(a.body, "no such key: level") {
		t.Errorf("%+v", a)
	}
	d := w.last()
	if d.Kind != "proxy" || d.Generation != 1 || d.RequestID == "" || d.Chosen != "BadRequest" || !strings.Contains(d.Why, "proxy API lamp-set at revision 1, for resource lamp-1 at revision 2") {
		t.Errorf("%+v", d)
	}
	raw, err := base64.StdEncoding.DecodeString(w.exec.context)
	if err != nil || !strings.Contains(string(raw), `"hearth-resource":"lamp-1"`) {
		t.Errorf("the function's context is %s (%v)", raw, err)
	}
}

func TestWithoutAnEventExpressionAllIsTheEvent(t *testing.T) {
	w := newWorld(t)
	w.resource("b", "backend", `{"n":1.5}`)
	w.exec.function("f", echo)
	w.api(`{"id": "a", "resource": "b", "methods": ["POST"], "path": "/b/{rest+}", "function": "f", "mapping": {}}`)
	a := w.call("POST", "/b/x/y%2Fz?q=1&q=2", `a=1&b=2`, "Content-Type", "application/x-www-form-urlencoded", "X-Api-Key", "secret", "Authorization", "secret", "Cookie", "secret", "Accept", "application/json")
	var e struct {
		Path     map[string]any
		Query    map[string]any
		Headers  map[string]any
		Body     map[string]any
		Request  map[string]any
		Resource map[string]any
	}
	if err := json.Unmarshal([]byte(a.body), &e); err != nil || a.status != 200 {
		t.Fatalf("%+v: %v", a, err)
	}
	if e.Path["rest"] != "x/y/z" || fmt.Sprint(e.Query["q"]) != "[1 2]" || e.Body["b"] != "2" || e.Request["method"] != "POST" || e.Resource["id"] != "b" || fmt.Sprint(e.Resource["state"]) != "map[n:1.5]" {
		t.Errorf("%+v", e)
	}
	if strings.Contains(a.body, "secret") {
		t.Errorf("a secret reaches the function: %s", a.body)
	}
}

func TestXMLAndJSONClientsGetEqualContent(t *testing.T) {
	w := newWorld(t)
	w.resource("l", "lamp", `{}`)
	w.exec.function("f", func(e map[string]any) (any, bool) {
		return map[string]any{"level": 3, "on": true, "tags": []any{"a"}, "none": nil, "sent": e["body"]}, false
	})
	w.api(`{"id": "a", "resource": "l", "methods": ["POST"], "path": "/l", "function": "f", "mapping": {"event": "{'body': body}", "root": "lamp"}}`)
	var values []string
	for _, c := range []struct{ contentType, body string }{
		{"application/json", `{"x":{"y":1}}`},
		{"application/xml", `<r><x><y type="number">1</y></x></r>`},
	} {
		for format, accept := range map[body.Format]string{body.JSON: "application/json", body.XML: "application/xml", "": ""} {
			a := w.call("POST", "/l", c.body, "Content-Type", c.contentType, "Accept", accept)
			if format == "" { // as it came
				format = body.Format(strings.TrimPrefix(c.contentType, "application/"))
			}
			v, err := body.Decode(format, []byte(a.body))
			if err != nil || a.status != 200 || !strings.HasPrefix(a.header.Get("Content-Type"), "application/"+string(format)) {
				t.Errorf("%s: %+v: %v", format, a, err)
			}
			b, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			values = append(values, string(b))
		}
	}
	for _, v := range values {
		if v != `{"level":3,"none":null,"on":true,"sent":{"x":{"y":1}},"tags":["a"]}` {
			t.Errorf("%s", v)
		}
	}
}

func TestRequestsThatCannotBeServedAreToldWhy(t *testing.T) {
	w := newWorld(t)
	w.resource("l", "lamp", `{}`)
	w.resource("d", "door", `{}`)
	w.exec.function("f", echo)
	w.api(`{"id": "a", "type": "lamp", "methods": ["POST"], "path": "/l/{resource}", "function": "f", "mapping": {}}`)
	w.api(`{"id": "status", "type": "lamp", "methods": ["GET"], "path": "/s/{resource}", "function": "f", "mapping": {"status": "99"}}`)
	w.api(`{"id": "header", "type": "lamp", "methods": ["GET"], "path": "/h/{resource}", "function": "f", "mapping": {"headers": "{'Content-Length': '1'}"}}`)
	w.api(`{"id": "gone", "type": "lamp", "methods": ["GET"], "path": "/g/{resource}", "function": "no-such", "mapping": {}}`)
	for _, c := range []struct {
		method, path, body string
		headers            []string
		status             int
		says               string
	}{
		{"POST", "/nothing", "", nil, 404, "NoSuchPath"},
		{"POST", "/_hearth/proxy/x/l/l", "", nil, 404, "NoSuchPath"},
		{"POST", "/_hearth/proxy/222222222222/l/l", "", nil, 404, "NoSuchPath"},
		{"GET", "/l/l", "", nil, 405, "WrongMethod"},
		{"POST", "/l/d", "", nil, 404, "NoSuchResource"},
		{"POST", "/l/none", "", nil, 404, "NoSuchResource"},
		{"POST", "/l/l", "{", nil, 400, "BadRequest"},
		{"POST", "/l/l", "<a><b></a>", []string{"Content-Type", "text/xml", "Accept", "application/json"}, 400, "BadRequest"},
		{"POST", "/l/l", "x", []string{"Content-Type", "text/plain"}, 415, "UnknownFormat"},
		{"POST", "/l/l", `{"a":1}`, []string{"Content-Type", "application/x-www-form-urlencoded"}, 400, "BadRequest"},
		{"POST", "/l/l", "{}", []string{"Accept", "image/png"}, 406, "NotAcceptable"},
		{"POST", "/l/l", strings.Repeat(" ", 1<<20+1), nil, 413, "BodyTooLarge"},
		{"POST", "/l/l?a=%zz", "", nil, 400, "BadRequest"},
		{"GET", "/s/l", "", nil, 500, "MappingFailed"},
		{"GET", "/h/l", "", nil, 500, "MappingFailed"},
		{"GET", "/g/l", "", nil, 502, "Refused"},
	} {
		a := w.call(c.method, c.path, c.body, c.headers...)
		if a.status != c.status || !strings.Contains(a.body, `"kind":"`+c.says+`"`) {
			t.Errorf("%s %s: %d %s, want %d %s", c.method, c.path, a.status, a.body, c.status, c.says)
		}
		if c.status == 405 && a.header.Get("Allow") != "POST" {
			t.Errorf("Allow: %s", a.header.Get("Allow"))
		}
	}
	if a := w.call("POST", "/l/none", "", "Accept", "application/xml"); a.status != 404 || !strings.Contains(a.body, "<error><error><kind>NoSuchResource</kind>") {
		t.Errorf("%+v", a)
	}
}

func TestAHostNameHasAnAccountsAPIs(t *testing.T) {
	w := newWorld(t)
	w.resource("l", "lamp", `{}`)
	w.exec.function("f", echo)
	w.api(`{"id": "a", "type": "lamp", "methods": ["GET"], "path": "/l/{resource}", "function": "f", "mapping": {"body": "'here'"}}`)
	for host, status := range map[string]int{string(account) + ".proxy.localhost:9070": 200, "222222222222.proxy.localhost": 404, "x.proxy.localhost": 404} {
		r, err := http.NewRequest("GET", w.web.URL+"/l/l", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		a, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		a.Body.Close()
		if a.StatusCode != status {
			t.Errorf("%s: %d, want %d", host, a.StatusCode, status)
		}
	}
}

// A call ends with the definition with which it began, and none fails.
func TestADefinitionIsEditedWithoutAFailedCall(t *testing.T) {
	w := newWorld(t)
	w.resource("l", "lamp", `{}`)
	began, release := make(chan struct{}), make(chan struct{})
	w.exec.function("slow", func(map[string]any) (any, bool) {
		close(began)
		<-release
		return map[string]any{"level": 5}, false
	})
	w.exec.function("f", func(map[string]any) (any, bool) { return map[string]any{"level": 5}, false })
	define := func(function, field string) {
		w.api(fmt.Sprintf(`{"id": "a", "resource": "l", "methods": ["GET"], "path": "/l", "function": %q, "mapping": {"body": "{'%s': result.level}"}}`, function, field))
	}
	define("slow", "level")
	var old answer
	var wg sync.WaitGroup
	wg.Go(func() { old = w.call("GET", "/l", "") })
	<-began
	define("f", "brightness")
	if a := w.call("GET", "/l", ""); a.body != `{"brightness":5}` || a.header.Get("X-Hearth-Mapping") != "a@2" {
		t.Errorf("%+v", a)
	}
	close(release)
	wg.Wait()
	if old.status != 200 || old.body != `{"level":5}` || old.header.Get("X-Hearth-Mapping") != "a@1" {
		t.Errorf("%+v", old)
	}

	stop := make(chan struct{})
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if a := w.call("GET", "/l", ""); a.status != 200 || a.body != `{"level":5}` && a.body != `{"brightness":5}` {
					t.Errorf("%+v", a)
					return
				}
			}
		})
	}
	for i := range 40 {
		define("f", []string{"level", "brightness"}[i%2])
	}
	close(stop)
	wg.Wait()
}
