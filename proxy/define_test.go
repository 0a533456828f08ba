package proxy_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/proxy"
	"github.com/hearth-faas/hearth/store"
)

type storeReader = store.Reader

// record is the decisions about a request, as text; and what is on disk about it.
func (w *world) record(request string) string {
	var b strings.Builder
	err := w.store.View(w.t.Context(), func(r store.Reader) error {
		for rec, err := range r.Scan("proxy/calls", "", "") {
			if err != nil {
				return err
			}
			b.Write(rec.Value)
		}
		return nil
	})
	if err != nil {
		w.t.Error(err)
	}
	return b.String()
}

// Each thing that is wrong is named by where it stands.
func TestDefinitionsThatCannotBeAreRefused(t *testing.T) {
	w := newWorld(t)
	good := map[string]any{"id": "a", "type": "lamp", "methods": []any{"POST"}, "path": "/l/{resource}", "function": "f", "auth": map[string]any{"kind": "none"}, "mapping": map[string]any{}}
	for _, c := range []struct{ change, says string }{
		{`{"id": "a b"}`, "id: "},
		{`{"resource": "l"}`, "only one"},
		{`{"type": ""}`, "one of them"},
		{`{"methods": []}`, "methods: none"},
		{`{"methods": ["TRACE"]}`, `"TRACE" is none of`},
		{`{"methods": ["GET", "GET"]}`, "twice"},
		{`{"path": "l"}`, "path: "},
		{`{"path": "/l"}`, "{resource}"},
		{`{"function": "f g"}`, "function: "},
		{`{"auth": {"kind": "basic"}}`, "auth.kind: "},
		{`{"auth": {"kind": "none", "keys": ["k"]}}`, "auth.keys"},
		{`{"throttle": {"rate": 0, "burst": 1}}`, "throttle.rate"},
		{`{"throttle": {"rate": 1, "burst": 0}}`, "throttle.burst"},
		{`{"timeoutMillis": -1}`, "timeoutMillis"},
		{`{"timeoutMillis": 900001}`, "timeoutMillis"},
		{`{"cache": {"ttlMillis": 1}}`, "only GET and HEAD"},
		{`{"cache": {"ttlMillis": 0}, "methods": ["GET"]}`, "cache.ttlMillis"},
		{`{"cache": {"ttlMillis": 1}, "methods": ["GET"], "mapping": {"merge": "{}"}}`, "must be run each time"},
		{`{"async": {"mode": "never"}}`, "async.mode"},
		{`{"async": {"mode": "always", "keepSeconds": -1}}`, "async.keepSeconds"},
		{`{"mapping": {"event": "body.x +"}}`, "mapping.event: line 1, column 9: "},
		{`{"mapping": {"event": ["body.x +", "  y"]}}`, "mapping.event: line 2, column 3: undeclared reference to 'y'"},
		{`{"mapping": {"event": "result"}}`, "undeclared reference to 'result'"},
		{`{"mapping": {"status": "'x'"}}`, "mapping.status: line 1, column 1: it comes to string, where a whole number is wanted"},
		{`{"mapping": {"set": "{}", "add": "{}"}}`, "set is the whole new state"},
		{`{"mapping": {"conflict": "maybe", "set": "{}"}}`, "mapping.conflict"},
		{`{"mapping": {"conflict": "fail"}}`, "without set"},
		{`{"mapping": {"root": "a b"}}`, "mapping.root"},
		{`{"mapping": {"require": [{"that": "1", "message": "m"}]}}`, "mapping.require[0].that: line 1, column 1: it comes to int"},
		{`{"mapping": {"require": [{"that": "true"}]}}`, "mapping.require[0].message"},
		{`{"mapping": {"require": [{"that": "true", "message": "m", "status": 500}]}}`, "mapping.require[0].status"},
		{`{"mapping": {"errors": [{"on": "Rain", "status": 500}]}}`, "mapping.errors[0].on"},
		{`{"mapping": {"errors": [{"on": "*", "status": 200}]}}`, "mapping.errors[0].status"},
		{`{"mapping": {"evnet": "1"}}`, `unknown field "evnet"`},
		{`{"mapping": {"event": 1}}`, "an expression is a text, or a list of lines"},
	} {
		doc := map[string]any{}
		for k, v := range good {
			doc[k] = v
		}
		if err := json.Unmarshal([]byte(c.change), &doc); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		a, err := proxy.DecodeAPI(text)
		if err == nil {
			_, err = w.svc.PutAPI(t.Context(), account, a)
		}
		if hearth.KindOf(err) != hearth.InvalidParameter || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %s", c.change, err, c.says)
		}
	}
	if list := w.svc.APIs(account); len(list) != 0 {
		t.Errorf("%v: what was refused is there", list)
	}
}

func TestTwoDefinitionsCannotTakeTheSameCalls(t *testing.T) {
	w := newWorld(t)
	put := func(id, methods, path string, revision uint64) error {
		a, err := proxy.DecodeAPI([]byte(fmt.Sprintf(`{"id": %q, "resource": "r", "methods": [%s], "path": %q, "function": "f", "mapping": {}, "auth": {"kind": "none"}, "revision": %d}`, id, methods, path, revision)))
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.svc.PutAPI(t.Context(), account, a)
		return err
	}
	for _, c := range []struct {
		id, methods, path string
		revision          uint64
		kind              hearth.Kind
	}{
		{"a", `"GET","PUT"`, "/x/{y}", 0, ""},
		{"b", `"PUT"`, "/x/{z}", 0, hearth.Conflict},
		{"b", `"POST"`, "/x/{z}", 0, ""},
		{"b", `"POST"`, "/x/{z}", 7, hearth.PreconditionFailed},
		{"b", `"POST"`, "/x/{z}", 1, ""},
		{"a", `"GET"`, "/x/{y}", 1, ""},
		{"c", `"GET"`, "/x/{y+}", 0, ""},
		{"d", `"GET"`, "/x/y", 0, ""},
	} {
		if err := put(c.id, c.methods, c.path, c.revision); hearth.KindOf(err) != c.kind {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if a, err := w.svc.API(account, "b"); err != nil || a.Revision != 2 {
		t.Errorf("%+v %v", a, err)
	}
	if err := w.svc.RemoveAPI(t.Context(), account, "b"); err != nil {
		t.Error(err)
	}
	if err := w.svc.RemoveAPI(t.Context(), account, "b"); hearth.KindOf(err) != hearth.NotFound {
		t.Error(err)
	}
}

func TestWhatIsExportedCanBeImported(t *testing.T) {
	w := newWorld(t)
	w.resource("l", "lamp", `{"n":1}`)
	w.exec.function("f", echo)
	w.api(asyncAPI)
	w.api(`{"id": "b", "resource": "l", "methods": ["GET"], "path": "/b", "function": "f", "mapping": {"event": ["{'a': 1,", "'b': 2}"]}}`)
	before := w.svc.Export(account)
	doc, err := json.Marshal(before)
	if err != nil {
		t.Fatal(err)
	}
	w.reopen()
	if after := w.svc.Export(account); !reflect.DeepEqual(before, after) {
		t.Errorf("%+v, and after a restart %+v", before, after)
	}
	const other hearth.Account = "222222222222"
	n, err := w.svc.Import(t.Context(), other, doc, false)
	if err != nil || n.Resources != 1 || n.APIs != 2 {
		t.Fatalf("%+v %v", n, err)
	}
	again := w.svc.Export(other)
	if again.APIs[1].Mapping.Event != before.APIs[1].Mapping.Event || string(again.Resources[0].State) != `{"n":1}` || again.APIs[0].Revision != 1 {
		t.Errorf("%+v", again)
	}
	w.resource("l", "lamp", `{"n":2}`)
	if n, err := w.svc.Import(t.Context(), account, doc, true); err != nil || n.Kept != 1 || w.state("l") != `{"n":2}` {
		t.Errorf("%+v %v", n, err)
	}
	if n, err := w.svc.Import(t.Context(), account, doc, false); err != nil || n.Resources != 1 || w.state("l") != `{"n":1}` {
		t.Errorf("%+v %v", n, err)
	}
	for _, bad := range []string{`{`, `{"hearthProxy": 2}`, `{"hearthProxy": 1, "resources": [{"id": "/"}]}`, `{"hearthProxy": 1, "apis": [{"id": "x"}], "resources": [{"id": "new", "type": "t"}]}`,
		`{"hearthProxy": 1, "resources": [{"id": "new", "type": "t"}, {"id": "new", "type": "t"}]}`} {
		if _, err := w.svc.Import(t.Context(), account, []byte(bad), false); hearth.KindOf(err) != hearth.InvalidParameter {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if _, err := w.svc.Resource(account, "new"); err == nil {
		t.Error("a document that was refused was taken in in part")
	}
}

func TestATrialRunsAndChangesNothing(t *testing.T) {
	w := newWorld(t)
	w.resource("l", "lamp", `{"n":1}`)
	w.api(asyncAPI)
	a, err := w.svc.Try(t.Context(), account, &proxy.Trial{ID: "a", Method: "post", Path: "/l/l", Body: `{"n":2}`})
	if err != nil || string(a.Event) != `{"n":2}` || a.Response != nil || a.Fault != "" {
		t.Errorf("%+v %v", a, err)
	}
	a, err = w.svc.Try(t.Context(), account, &proxy.Trial{ID: "a", Method: "POST", Path: "/l/l", Body: `{"n":2}`, Result: json.RawMessage(`{"n":5}`), Headers: map[string]string{"Accept": "application/xml"}})
	if err != nil || string(a.State) != `{"n":6}` || a.Response.Status != 201 || !strings.Contains(a.Response.Body, `<n type="number">6</n>`) {
		t.Errorf("%+v %v", a, err)
	}
	a, err = w.svc.Try(t.Context(), account, &proxy.Trial{ID: "a", Method: "POST", Path: "/l/l", Body: `{}`, Result: json.RawMessage(`{"n":5}`)})
	if err != nil || a.Fault != proxy.BadRequest || a.Response.Status != 400 {
		t.Errorf("%+v %v", a, err)
	}
	a, err = w.svc.Try(t.Context(), account, &proxy.Trial{ID: "a", Method: "POST", Path: "/l/new", Body: `{"n":1}`, Resource: &proxy.Resource{State: json.RawMessage(`{"n":40}`)}, Result: json.RawMessage(`{"n":2}`)})
	if err != nil || string(a.State) != `{"n":42}` || a.Resource != "new" {
		t.Errorf("%+v %v", a, err)
	}
	a, err = w.svc.Try(t.Context(), account, &proxy.Trial{ID: "a", Method: "POST", Path: "/l/l", Body: `{"n":1}`, Error: &proxy.TrialError{Fault: proxy.FunctionTimeout}})
	if err != nil || a.Response.Status != 504 {
		t.Errorf("%+v %v", a, err)
	}
	for _, bad := range []proxy.Trial{{}, {ID: "none", Method: "GET", Path: "/"}, {ID: "a", API: &proxy.API{}}, {ID: "a", Method: "GET", Path: "x"}, {API: &proxy.API{}, Method: "GET", Path: "/"}} {
		if _, err := w.svc.Try(t.Context(), account, &bad); err == nil {
			t.Errorf("%+v is tried", bad)
		}
	}
	if w.exec.runs.Load() != 0 || w.state("l") != `{"n":1}` {
		t.Error("a trial has run something, or changed it")
	}
}
