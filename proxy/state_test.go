package proxy_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/proxy"
)

func TestParallelChangesLoseNothing(t *testing.T) {
	w := newWorld(t)
	w.exec.function("f", echo)
	// The function reads the count and returns the next: the classic lost update.
	w.exec.function("next", func(e map[string]any) (any, bool) { return map[string]any{"count": e["count"].(float64) + 1}, false })
	w.api(`{"id": "add", "type": "lamp", "methods": ["POST"], "path": "/add/{resource}", "function": "f", "mapping": {"event": "{}", "add": "{'/count': 1}", "body": "resource.state.count"}}`)
	w.api(`{"id": "set", "type": "lamp", "methods": ["POST"], "path": "/set/{resource}", "function": "next", "mapping": {"event": "resource.state", "set": "result", "body": "resource.state.count"}}`)
	for _, how := range []string{"add", "set"} {
		w.resource(how, "lamp", `{"count":0}`)
		const n = 20
		var mu sync.Mutex
		seen := map[string]bool{}
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() {
				a := w.call("POST", "/"+how+"/"+how, "")
				mu.Lock()
				defer mu.Unlock()
				if a.status != 200 || seen[a.body] {
					t.Errorf("%s: %+v", how, a)
				}
				seen[a.body] = true
			})
		}
		wg.Wait()
		if got := w.state(how); got != fmt.Sprintf(`{"count":%d}`, n) {
			t.Errorf("%s: %s after %d increments", how, got, n)
		}
	}
}

func TestAChangeOfAnOldStateIsRefusedIfTheMappingSaysSo(t *testing.T) {
	w := newWorld(t)
	w.resource("l", "lamp", `{"n":0}`)
	w.exec.function("f", func(map[string]any) (any, bool) {
		w.resource("l", "lamp", `{"n":5}`) // another's change during the run
		return map[string]any{"n": 1}, false
	})
	w.api(`{"id": "a", "resource": "l", "methods": ["PUT"], "path": "/l", "function": "f", "mapping": {"set": "result", "conflict": "fail"}}`)
	if a := w.call("PUT", "/l", ""); a.status != 409 || !strings.Contains(a.body, `"Conflict"`) || a.header.Get("Retry-After") != "1" {
		t.Errorf("%+v", a)
	}
	if got := w.state("l"); got != `{"n":5}` {
		t.Error(got)
	}
}

func TestAChangeThatCannotBeMadeChangesNothing(t *testing.T) {
	w := newWorld(t)
	w.exec.function("f", echo)
	for i, c := range []struct{ op, says string }{
		{`"add": "{'/name': 1}"`, "no number"},
		{`"add": "{'name': 1}"`, "no JSON pointer"},
		{`"add": "{'/name/x': 1}"`, "nothing below"},
		{`"add": "{'/list/7': 1}"`, "no item"},
		{`"add": "{'/n': 'x'}"`, "no number"},
		{`"merge": "{'big': [1,2,3,4].map(x, [1,2,3,4,5,6,7,8,9].map(y, body.text))}"`, "at most 65536"},
	} {
		w.resource("l", "lamp", `{"name":"x","list":[1],"n":1}`)
		w.api(fmt.Sprintf(`{"id": "a%d", "resource": "l", "methods": ["POST"], "path": "/l%d", "function": "f", "mapping": {%s}}`, i, i, c.op))
		a := w.call("POST", fmt.Sprint("/l", i), `{"text":"`+strings.Repeat("x", 3000)+`"}`)
		if a.status != 409 || !strings.Contains(a.body, "StateMismatch") || !strings.Contains(a.body, c.says) {
			t.Errorf("%s: %d %.300s", c.op, a.status, a.body)
		}
		if got := w.state("l"); got != `{"list":[1],"n":1,"name":"x"}` {
			t.Errorf("%s: %s", c.op, got)
		}
	}
	// An API without a change, or one that comes to null, changes nothing either.
	w.api(`{"id": "null", "resource": "l", "methods": ["POST"], "path": "/null", "function": "f", "mapping": {"merge": "null", "add": "null"}}`)
	before, err := w.svc.Resource(account, "l")
	if err != nil {
		t.Fatal(err)
	}
	if a := w.call("POST", "/null", ""); a.status != 200 {
		t.Errorf("%+v", a)
	}
	if after, err := w.svc.Resource(account, "l"); err != nil || !reflect.DeepEqual(before, after) {
		t.Errorf("%+v became %+v: %v", before, after, err)
	}
}

// The states are what a model of them says, also after a restart.
func TestStatesAreThoseOfAModel(t *testing.T) {
	w := newWorld(t)
	w.exec.function("f", func(e map[string]any) (any, bool) { return e["body"], false })
	for _, op := range []string{"set", "merge", "add"} {
		w.api(fmt.Sprintf(`{"id": %[1]q, "type": "m", "methods": ["POST"], "path": "/%[1]s/{resource}", "function": "f", "mapping": {%[1]q: "result"}}`, op))
	}
	rapid.Check(t, func(rt *rapid.T) {
		for _, r := range w.svc.Resources(account, "") {
			if err := w.svc.RemoveResource(t.Context(), account, r.ID); err != nil {
				rt.Fatal(err)
			}
		}
		type state struct {
			numbers  map[string]int64
			revision uint64
		}
		model := map[string]*state{}
		copyOf := func(m map[string]int64) map[string]int64 {
			out := map[string]int64{}
			for k, v := range m {
				out[k] = v
			}
			return out
		}
		ids, fields := rapid.SampledFrom([]string{"a", "b"}), rapid.SampledFrom([]string{"x", "y"})
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			id := ids.Draw(rt, "id")
			m := model[id]
			field, n := fields.Draw(rt, "field"), int64(rapid.IntRange(-3, 3).Draw(rt, "n"))
			op := rapid.SampledFrom([]string{"put", "remove", "set", "merge", "drop", "add"}).Draw(rt, "op")
			var want map[string]int64
			if m != nil {
				want = copyOf(m.numbers)
			}
			status := 200
			switch op {
			case "put":
				w.resource(id, "m", fmt.Sprintf(`{%q:%d}`, field, n))
				if m == nil {
					model[id] = &state{map[string]int64{field: n}, 1}
				} else {
					*m = state{map[string]int64{field: n}, m.revision + 1}
				}
				continue
			case "remove":
				err := w.svc.RemoveResource(t.Context(), account, id)
				if (err == nil) != (m != nil) || err != nil && hearth.KindOf(err) != hearth.NotFound {
					rt.Fatal(err)
				}
				delete(model, id)
				continue
			case "set":
				want = map[string]int64{field: n}
				status = w.call("POST", "/set/"+id, fmt.Sprintf(`{%q:%d}`, field, n)).status
			case "merge":
				if m != nil {
					want[field] = n
				}
				status = w.call("POST", "/merge/"+id, fmt.Sprintf(`{%q:%d}`, field, n)).status
			case "drop":
				delete(want, field)
				status = w.call("POST", "/merge/"+id, fmt.Sprintf(`{%q:null}`, field)).status
			case "add":
				if m != nil {
					want[field] += n
				}
				status = w.call("POST", "/add/"+id, fmt.Sprintf(`{"/%s":%d}`, field, n)).status
			}
			if m == nil {
				if status != 404 {
					rt.Fatalf("%s of no resource: %d", op, status)
				}
				continue
			}
			if status != 200 {
				rt.Fatalf("%s: %d", op, status)
			}
			if !reflect.DeepEqual(want, m.numbers) {
				m.revision++
			}
			m.numbers = want
		}
		check := func() {
			all := w.svc.Resources(account, "m")
			if len(all) != len(model) {
				rt.Fatalf("%d resources, want %d", len(all), len(model))
			}
			for _, r := range all {
				var got map[string]int64
				if err := json.Unmarshal(r.State, &got); err != nil {
					rt.Fatal(err)
				}
				if m := model[r.ID]; m == nil || !reflect.DeepEqual(got, m.numbers) || r.Revision != m.revision {
					rt.Fatalf("%s is %s at %d, want %+v", r.ID, r.State, r.Revision, m)
				}
			}
		}
		check()
		if rapid.Bool().Draw(rt, "restart") {
			w.reopen()
			check()
		}
	})
}

func TestResourcesThatCannotBeAreRefused(t *testing.T) {
	w := newWorld(t)
	many := map[string]string{}
	for i := range 51 {
		many[fmt.Sprint("k", i)] = ""
	}
	for _, r := range []proxy.Resource{
		{ID: "", Type: "t"}, {ID: "a/b", Type: "t"}, {ID: "a", Type: ""}, {ID: "a", Type: "t", State: json.RawMessage(`[]`)},
		{ID: "a", Type: "t", State: json.RawMessage(`{`)}, {ID: "a", Type: "t", State: json.RawMessage(`{"x":"` + strings.Repeat("x", 1<<16) + `"}`)},
		{ID: "a", Type: "t", Metadata: many}, {ID: "a", Type: "t", Metadata: map[string]string{"k": strings.Repeat("x", 1025)}},
	} {
		if _, err := w.svc.PutResource(t.Context(), account, r); hearth.KindOf(err) != hearth.InvalidParameter {
			t.Errorf("%.60v: %v", r, err)
		}
	}
	w.resource("a", "t", `{"n": 1}`)
	if _, err := w.svc.PutResource(t.Context(), account, proxy.Resource{ID: "a", Type: "t", Revision: 2}); hearth.KindOf(err) != hearth.PreconditionFailed {
		t.Error(err)
	}
	if r, err := w.svc.PutResource(t.Context(), account, proxy.Resource{ID: "a", Type: "t", Revision: 1}); err != nil || r.Revision != 2 || string(r.State) != "{}" {
		t.Error(r, err)
	}
	if r, err := w.svc.PutResource(t.Context(), account, proxy.Resource{ID: "a", Type: "t", State: json.RawMessage("null")}); err != nil || string(r.State) != "{}" {
		t.Error(r, err)
	}
	if _, err := w.svc.PutResource(t.Context(), account, proxy.Resource{ID: "b", Type: "t", Revision: 1}); hearth.KindOf(err) != hearth.PreconditionFailed {
		t.Error(err)
	}
	if list := w.svc.Resources(account, ""); len(list) != 1 {
		t.Errorf("%v: what was refused is there", list)
	}
}

// Whoever makes, changes and removes a resource at once, what is in memory is what
// is on disk.
func TestResourcesUnderTheHammer(t *testing.T) {
	w := newWorld(t)
	w.exec.function("f", echo)
	w.api(`{"id": "add", "type": "t", "methods": ["POST"], "path": "/add/{resource}", "function": "f", "mapping": {"event": "{}", "add": "{'/n': 1}"}}`)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 30 {
				switch (i + n) % 3 {
				case 0:
					if _, err := w.svc.PutResource(t.Context(), account, proxy.Resource{ID: "a", Type: "t", State: json.RawMessage(fmt.Sprintf(`{"i":%d}`, i))}); err != nil {
						t.Error(err)
					}
				case 1:
					if err := w.svc.RemoveResource(t.Context(), account, "a"); err != nil && hearth.KindOf(err) != hearth.NotFound {
						t.Error(err)
					}
				default:
					if a := w.call("POST", "/add/a", ""); a.status != 200 && a.status != 404 {
						t.Errorf("%+v", a)
					}
				}
			}
		})
	}
	wg.Wait()
	before := w.svc.Resources(account, "")
	w.reopen()
	if after := w.svc.Resources(account, ""); !reflect.DeepEqual(before, after) {
		t.Errorf("%+v, and after a restart %+v", before, after)
	}
}
