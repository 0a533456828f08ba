package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/proxy"
	"github.com/hearth-faas/hearth/proxy/body"
)

// The acceptance scenario of proxy endpoints: 50 lamps with the APIs get, set and
// blink in one process, whose code runs in the execution service of another, with
// credentials of its own. What each response says is held against a model of the
// lamps.

const s08Code = `import time

def handler(event, context):
    op = event["op"]
    if op == "get":
        return event["state"]
    if op == "set":
        return {"level": event["level"]}
    if op == "blink":
        return {"times": event["times"], "lamp": context.client_context.custom["hearth-resource"]}
    if op == "next":
        return {"count": event["count"] + 1}
    if op == "fail":
        raise ValueError("the password is x")
    time.sleep(60)
`

const s08Lamps = 50

// s08APIs are the definitions; LEVEL is what the level is called in responses.
var s08APIs = map[string]string{
	"get": `{"id": "get", "type": "lamp", "methods": ["GET"], "path": "/lamps/{resource}", "function": "lamp", "auth": {"kind": "none"}, "timeoutMillis": 120000,
		"mapping": {"event": "{'op': 'get', 'state': resource.state}", "root": "lamp",
			"body": "{'lamp': resource.id, 'LEVEL': result.level, 'blinks': result.blinks, 'on': result.level > 0}"}}`,
	"set": `{"id": "set", "type": "lamp", "methods": ["PUT"], "path": "/lamps/{resource}/level", "function": "lamp", "auth": {"kind": "none"}, "timeoutMillis": 120000,
		"mapping": {
			"require": [{"that": "int(body.level) >= 0 && int(body.level) <= 100", "message": "level is a whole number from 0 to 100"}],
			"event": "{'op': 'set', 'level': int(body.level)}", "merge": "{'level': result.level}", "root": "lamp",
			"body": "{'lamp': resource.id, 'LEVEL': resource.state.level, 'blinks': resource.state.blinks, 'on': resource.state.level > 0}"}}`,
	"blink": `{"id": "blink", "type": "lamp", "methods": ["POST"], "path": "/lamps/{resource}/blink", "function": "lamp", "auth": {"kind": "none"}, "timeoutMillis": 120000,
		"mapping": {"event": "{'op': 'blink', 'times': int(query.?times.orValue('1'))}", "add": "{'/blinks': result.times}", "root": "lamp",
			"body": "{'lamp': result.lamp, 'LEVEL': resource.state.level, 'blinks': resource.state.blinks, 'on': resource.state.level > 0}"}}`,
	"next": `{"id": "next", "type": "counter", "methods": ["POST"], "path": "/counters/{resource}/next", "function": "lamp", "auth": {"kind": "none"}, "timeoutMillis": 120000,
		"mapping": {"event": "{'op': 'next', 'count': resource.state.count}", "set": "result", "body": "resource.state"}}`,
	"fail": `{"id": "fail", "type": "lamp", "methods": ["POST"], "path": "/lamps/{resource}/fail", "function": "lamp", "auth": {"kind": "none"}, "mapping": {"event": "{'op': 'fail'}"}}`,
	"fail-mapped": `{"id": "fail-mapped", "type": "lamp", "methods": ["PUT"], "path": "/lamps/{resource}/fail", "function": "lamp", "auth": {"kind": "none"},
		"mapping": {"event": "{'op': 'fail'}", "errors": [{"on": "FunctionFailed", "type": "Value*", "status": 422, "body": "{'type': error.type}"}]}}`,
	"slow":  `{"id": "slow", "type": "lamp", "methods": ["POST"], "path": "/lamps/{resource}/slow", "function": "slow", "auth": {"kind": "none"}, "timeoutMillis": 120000, "mapping": {"event": "{'op': 'sleep'}"}}`,
	"short": `{"id": "short", "type": "lamp", "methods": ["POST"], "path": "/lamps/{resource}/short", "function": "hangs", "auth": {"kind": "none"}, "timeoutMillis": 1000, "mapping": {"event": "{'op': 'sleep'}"}}`,
}

func s08API(id, level string) []byte {
	return []byte(strings.ReplaceAll(s08APIs[id], "LEVEL", level))
}

// endpoints is hearth proxy serve, and the model of its lamps.
type endpoints struct {
	*server
	account hearth.Account
	mu      sync.Mutex
	lamps   map[string]*lamp
}

type lamp struct{ level, blinks int64 }

// startEndpoints runs hearth proxy serve in a data folder, in front of the
// execution service at that URL.
func startEndpoints(t *testing.T, dir, execution, credentials string, more ...string) *endpoints {
	t.Helper()
	s := startAs(t, dir, func(c *exec.Cmd) {
		c.Args = append([]string{c.Args[0], "proxy", "serve"}, c.Args[2:]...)
	}, append([]string{"--execution-endpoint", execution, "--execution-credentials", credentials, "--metrics", "--decisions", "20000"}, more...)...)
	return &endpoints{server: s, account: hearth.DefaultAccount, lamps: map[string]*lamp{}}
}

// s08Credentials writes what an operator would: the execution service's key.
func s08Credentials(t *testing.T, s *server) string {
	t.Helper()
	file := filepath.Join(s.dir, "execution-credentials")
	c := s.credentials()
	text := fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", c.AccessKeyID, c.SecretAccessKey)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// s08Answer is what a call came to; value is the body, whatever its format.
type s08Answer struct {
	status int
	header http.Header
	value  any
}

func (e *endpoints) do(method, path string, format body.Format, content any) (a s08Answer, err error) {
	var raw []byte
	if content != nil {
		if raw, err = body.Encode(format, content, "request"); err != nil {
			return a, err
		}
	}
	r, err := http.NewRequestWithContext(e.t.Context(), method, e.endpoint+proxy.PathPrefix+string(e.account)+path, strings.NewReader(string(raw)))
	if err != nil {
		return a, err
	}
	if content != nil {
		r.Header.Set("Content-Type", format.ContentType())
	}
	accept := format
	if format == body.Form { // whose answers have texts only
		accept = body.JSON
	}
	r.Header.Set("Accept", accept.ContentType())
	got, err := http.DefaultClient.Do(r)
	if err != nil {
		return a, err
	}
	defer got.Body.Close()
	data, err := io.ReadAll(got.Body)
	if err != nil {
		return a, err
	}
	a.status, a.header = got.StatusCode, got.Header
	a.value, err = body.Decode(accept, data)
	return a, err
}

// mixed calls one of the APIs on a lamp, which nobody else calls meanwhile, and
// tells how the response differs from the model; "" is not at all.
func (e *endpoints) mixed(id string, random *rand.Rand) string {
	e.mu.Lock()
	l := e.lamps[id]
	e.mu.Unlock()
	next := *l
	var a s08Answer
	var err error
	format := []body.Format{body.JSON, body.XML, body.Form}[random.IntN(3)]
	what := "get"
	switch random.IntN(3) {
	case 0:
		a, err = e.do("GET", "/lamps/"+id, format, nil)
	case 1:
		what = "set"
		next.level = random.Int64N(101)
		a, err = e.do("PUT", "/lamps/"+id+"/level", format, map[string]any{"level": next.level})
	case 2:
		what = "blink"
		n := random.Int64N(5) + 1
		next.blinks += n
		a, err = e.do("POST", fmt.Sprintf("/lamps/%s/blink?times=%d", id, n), format, nil)
	}
	if err != nil {
		return fmt.Sprintf("%s of %s: %v", what, id, err)
	}
	*l = next
	want := map[string]any{"lamp": id, "blinks": l.blinks, "on": l.level > 0}
	// The revision that the response names says what its level is called.
	name := "level"
	if mapping := a.header.Get("X-Hearth-Mapping"); s08Even(mapping) {
		name = "brightness"
	}
	want[name] = l.level
	if a.status != 200 || !reflect.DeepEqual(a.value, want) {
		return fmt.Sprintf("%s of %s as %s: %d %v by %s, want %v", what, id, format, a.status, a.value, a.header.Get("X-Hearth-Mapping"), want)
	}
	return ""
}

// s08Even tells whether a mapping's revision is an even one.
func s08Even(mapping string) bool { return mapping != "" && (mapping[len(mapping)-1]-'0')%2 == 0 }

func TestS08ProxyEndpoints(t *testing.T) {
	t.Parallel()
	there := start(t)
	there.deploy(function{name: "lamp", runtime: "python3.12", files: map[string]string{"index.py": s08Code}})
	there.deploy(function{name: "slow", runtime: "python3.12", files: map[string]string{"index.py": s08Code}, timeout: 1})
	// Of its own, since it is told of a run that was left only when that ends.
	there.deploy(function{name: "hangs", runtime: "python3.12", files: map[string]string{"index.py": s08Code}})
	dir, err := os.MkdirTemp(scratch, "proxy-")
	if err != nil {
		t.Fatal(err)
	}
	keys := s08Credentials(t, there)
	e := startEndpoints(t, dir, there.endpoint, keys)
	c := e.controlClient()
	var ids []string
	for i := range s08Lamps {
		id := fmt.Sprintf("lamp-%02d", i)
		ids = append(ids, id)
		e.lamps[id] = &lamp{}
		if _, err := c.PutProxyResource(t.Context(), proxy.Resource{ID: id, Type: "lamp", State: json.RawMessage(`{"level":0,"blinks":0}`)}); err != nil {
			t.Fatal(err)
		}
	}
	for id := range s08APIs {
		if _, err := c.PutProxyAPI(t.Context(), s08API(id, "level")); err != nil {
			t.Fatal(err)
		}
	}

	s08Latency(t, e, there)
	s08Mixed(t, e, ids)
	s08Formats(t, e, ids[0])
	s08Increments(t, e)
	s08Faults(t, e, ids[0])
	s08Declines(t, e, there, ids[0])
	s08Evidence(t, e, there, ids[0])
	s08Outage(t, e, there, ids)

	// What was answered is there after a power cut.
	e.kill9()
	again := startEndpoints(t, dir, there.endpoint, keys)
	s08States(t, again, e.lamps)
}

// s08Latency compares a first call and later ones with the same invocations
// without the proxy.
func s08Latency(t *testing.T, e *endpoints, there *server) {
	t.Helper()
	call := func() time.Duration {
		began := time.Now()
		a, err := e.do("GET", "/lamps/lamp-00", body.JSON, nil)
		if err != nil || a.status != 200 {
			t.Fatalf("%+v %v", a, err)
		}
		return time.Since(began)
	}
	cold := call()
	var warm, direct []time.Duration
	for range 60 {
		warm = append(warm, call())
		began := time.Now()
		there.mustInvoke("lamp", `{"op":"get","state":{"level":0,"blinks":0}}`)
		direct = append(direct, time.Since(began))
	}
	slices.Sort(warm)
	slices.Sort(direct)
	figure(t, "cold call", float64(cold.Microseconds())/1000, "ms", false)
	figure(t, "warm call, median", float64(warm[len(warm)/2].Microseconds())/1000, "ms", false)
	figure(t, "warm call, p95", float64(warm[len(warm)*95/100].Microseconds())/1000, "ms", false)
	figure(t, "warm call against the invocation alone", float64(warm[len(warm)/2])/float64(direct[len(direct)/2]), "x", false)
	if cold <= warm[len(warm)/2] {
		t.Errorf("a cold call took %v, a warm one %v", cold, warm[len(warm)/2])
	}
}

// s08Mixed makes mixed calls of all lamps, while the mappings are edited.
func s08Mixed(t *testing.T, e *endpoints, ids []string) {
	t.Helper()
	calls := 600
	if fullScenarios() {
		calls = 2000
	}
	const workers = 8
	var made, edits atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for w := range workers {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(8, uint64(w)))
			var own []string
			for i := w; i < len(ids); i += workers {
				own = append(own, ids[i])
			}
			for n := made.Add(1); n <= int64(calls); n = made.Add(1) {
				if wrong := e.mixed(own[random.IntN(len(own))], random); wrong != "" {
					t.Errorf("call %d: %s", n, wrong)
				}
				if n%25 == 0 { // another name for the level, in the middle of everything
					id := []string{"get", "set", "blink"}[n/25%3]
					list, err := e.controlClient().ProxyAPIs(t.Context(), id)
					if err != nil || len(list) != 1 {
						t.Errorf("%v %v", list, err)
						continue
					}
					name := "brightness" // of the even revisions
					if list[0].Revision%2 == 0 {
						name = "level"
					}
					doc := strings.Replace(string(s08API(id, name)), `"id"`, fmt.Sprintf(`"revision": %d, "id"`, list[0].Revision), 1)
					if _, err := e.controlClient().PutProxyAPI(t.Context(), []byte(doc)); err == nil {
						edits.Add(1)
					}
				}
			}
		})
	}
	wg.Wait()
	figure(t, "mixed calls a second, 8 clients", float64(calls)/time.Since(began).Seconds(), "/s", true)
	if edits.Load() < int64(calls)/50 {
		t.Errorf("%d edits of %d were made", edits.Load(), calls/25)
	}
	s08States(t, e, e.lamps)
}

// s08States holds the stored states against the model.
func s08States(t *testing.T, e *endpoints, lamps map[string]*lamp) {
	t.Helper()
	list, err := e.controlClient().ProxyResources(t.Context(), "lamp", "")
	if err != nil || len(list) != len(lamps) {
		t.Fatalf("%d lamps: %v", len(list), err)
	}
	for _, r := range list {
		if l := lamps[r.ID]; string(r.State) != fmt.Sprintf(`{"blinks":%d,"level":%d}`, l.blinks, l.level) {
			t.Errorf("%s is %s, and %+v in the model", r.ID, r.State, *l)
		}
	}
}

// s08Formats has two clients ask for the same.
func s08Formats(t *testing.T, e *endpoints, id string) {
	t.Helper()
	asJSON, err := e.do("GET", "/lamps/"+id, body.JSON, nil)
	if err != nil {
		t.Fatal(err)
	}
	asXML, err := e.do("GET", "/lamps/"+id, body.XML, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(asJSON.value, asXML.value) || !strings.HasPrefix(asXML.header.Get("Content-Type"), "application/xml") || asJSON.header.Get("Content-Type") != "application/json" {
		t.Errorf("%+v\n%+v", asJSON, asXML)
	}
}

// s08Increments adds 20 at once, by a change that is applied in place and by a
// function that returns the next state; and, in the control run, without the
// proxy's help.
func s08Increments(t *testing.T, e *endpoints) {
	t.Helper()
	const n = 20
	put := func(id, typ, state string) {
		if _, err := e.controlClient().PutProxyResource(t.Context(), proxy.Resource{ID: id, Type: typ, State: json.RawMessage(state)}); err != nil {
			t.Fatal(err)
		}
	}
	state := func(id string) string {
		list, err := e.controlClient().ProxyResources(t.Context(), "", id)
		if err != nil || len(list) != 1 {
			t.Fatalf("%v %v", list, err)
		}
		return string(list[0].State)
	}
	together := func(path string) {
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() {
				if a, err := e.do("POST", path, body.JSON, nil); err != nil || a.status != 200 {
					t.Errorf("%s: %+v %v", path, a, err)
				}
			})
		}
		wg.Wait()
	}
	put("shared", "counted", `{"level":0,"blinks":0}`)
	doc := strings.NewReplacer(`"type": "lamp"`, `"type": "counted"`, "/lamps/", "/counted/", `"id": "blink"`, `"id": "counted"`).Replace(string(s08API("blink", "level")))
	if _, err := e.controlClient().PutProxyAPI(t.Context(), []byte(doc)); err != nil {
		t.Fatal(err)
	}
	together("/counted/shared/blink")
	if got := state("shared"); got != `{"blinks":20,"level":0}` {
		t.Errorf("after %d increments: %s", n, got)
	}
	put("counter", "counter", `{"count":0}`)
	together("/counters/counter/next")
	if got := state("counter"); got != `{"count":20}` {
		t.Errorf("after %d increments by the function: %s", n, got)
	}
	// The control run: who reads and then writes by himself loses updates.
	put("control", "counter", `{"count":0}`)
	var read, wg sync.WaitGroup
	read.Add(n)
	for range n {
		wg.Go(func() {
			var now struct{ Count int64 }
			if err := json.Unmarshal([]byte(state("control")), &now); err != nil {
				t.Error(err)
			}
			read.Done()
			read.Wait()
			put("control", "counter", fmt.Sprintf(`{"count":%d}`, now.Count+1))
		})
	}
	wg.Wait()
	if got := state("control"); got != `{"count":1}` {
		t.Errorf("without the proxy's help: %s", got)
	}
}

// s08Faults has the code fail and take too long.
func s08Faults(t *testing.T, e *endpoints, id string) {
	t.Helper()
	for _, c := range []struct {
		method, path string
		status       int
		kind         string
	}{
		{"POST", "/fail", 502, "FunctionFailed"},
		{"PUT", "/fail", 422, ""},
		{"POST", "/slow", 504, "FunctionTimeout"},
		{"POST", "/short", 504, "Timeout"},
	} {
		a, err := e.do(c.method, "/lamps/"+id+c.path, body.JSON, nil)
		said := fmt.Sprint(a.value)
		if err != nil || a.status != c.status || !strings.Contains(said, c.kind) || strings.Contains(said, "password") {
			t.Errorf("%s: %+v %v, want %d %s", c.path, a, err, c.status, c.kind)
		}
	}
	if a, err := e.do("PUT", "/lamps/"+id+"/fail", body.XML, nil); err != nil || !reflect.DeepEqual(a.value, map[string]any{"type": "ValueError"}) {
		t.Errorf("%+v %v", a, err)
	}
}

// s08Declines sends what must not be run.
func s08Declines(t *testing.T, e *endpoints, there *server, id string) {
	t.Helper()
	before, l := there.last(), *e.lamps[id]
	for _, c := range []struct {
		method, path string
		content      any
		status       int
	}{
		{"PUT", "/lamps/" + id + "/level", map[string]any{"level": int64(101)}, 400},
		{"PUT", "/lamps/" + id + "/level", map[string]any{"light": int64(1)}, 400},
		{"PUT", "/lamps/none/level", map[string]any{"level": int64(1)}, 404},
		{"DELETE", "/lamps/" + id, nil, 405},
	} {
		if a, err := e.do(c.method, c.path, body.JSON, c.content); err != nil || a.status != c.status {
			t.Errorf("%s %s %v: %+v %v", c.method, c.path, c.content, a, err)
		}
	}
	bad := strings.Replace(string(s08API("set", "level")), "result.level", "result.level +", 1)
	if _, err := e.controlClient().PutProxyAPI(t.Context(), []byte(bad)); err == nil || !strings.Contains(err.Error(), "mapping.merge: line 1, column") {
		t.Errorf("a mapping that is none is taken: %v", err)
	}
	if ran := there.tell("lamp", hearth.DecisionPlace, before); len(ran) > 0 {
		t.Errorf("what was declined was run: %+v", ran)
	}
	a, err := e.do("GET", "/lamps/"+id, body.JSON, nil)
	if err != nil || a.status != 200 || *e.lamps[id] != l {
		t.Errorf("%+v %v", a, err)
	}
}

// s08Evidence looks at what is told of a call, here and there.
func s08Evidence(t *testing.T, e *endpoints, there *server, id string) {
	t.Helper()
	a, err := e.do("PUT", "/lamps/"+id+"/level", body.JSON, map[string]any{"level": int64(42)})
	if err != nil || a.status != 200 {
		t.Fatalf("%+v %v", a, err)
	}
	e.lamps[id].level = 42
	request := a.header.Get("X-Hearth-Request-Id")
	story := e.must("explain", request)
	_, run, _ := strings.Cut(story, "as request ")
	run, _, _ = strings.Cut(run, ";")
	for _, want := range []string{"PUT of proxy API set at revision ", "for resource " + id, "lamp run at " + there.endpoint, "the state changed to revision "} {
		if !strings.Contains(story, want) {
			t.Errorf("hearth explain says %s and not: %s", story, want)
		}
	}
	// The execution service has the same request, in a container of its own.
	ds, err := there.controlClient().Find(t.Context(), control.DecisionQuery{RequestID: run, Kind: hearth.DecisionPlace, Limit: 1})
	if err != nil || len(ds) != 1 || ds[0].Container == "" || ds[0].Function != "lamp" {
		t.Errorf("%q is %+v there: %v", run, ds, err)
	}
	got, err := http.Get(e.endpoint + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	if err != nil || !strings.Contains(string(text), `hearth_proxy_calls_total{outcome="FunctionFailed"} 3`) || !strings.Contains(string(text), `hearth_proxy_calls_total{outcome="ok"}`) {
		t.Errorf("the metrics say %.2000s (%v)", text, err)
	}
}

// s08Outage kills the execution service, and starts it again later.
func s08Outage(t *testing.T, e *endpoints, there *server, ids []string) {
	t.Helper()
	outage := 3 * time.Second
	if fullScenarios() {
		outage = 10 * time.Second
	}
	impatient := strings.NewReplacer(`"id": "get"`, `"id": "impatient"`, `"/lamps/{resource}"`, `"/lamps/{resource}/now"`, "120000", "2000").Replace(string(s08API("get", "level")))
	if _, err := e.controlClient().PutProxyAPI(t.Context(), []byte(impatient)); err != nil {
		t.Fatal(err)
	}
	at := strings.TrimPrefix(there.endpoint, "http://")
	there.kill9()
	down := time.Now()
	var wg sync.WaitGroup
	for w, id := range ids[:9] {
		wg.Go(func() { // each waits, and none fails: not even a POST, since it was never sent
			if wrong := e.mixed(id, rand.New(rand.NewPCG(80, uint64(w)))); wrong != "" {
				t.Errorf("during the outage: %s", wrong)
			}
		})
	}
	a, err := e.do("GET", "/lamps/"+ids[0]+"/now", body.JSON, nil)
	if err != nil || a.status != 503 || a.header.Get("Retry-After") == "" || !strings.Contains(fmt.Sprint(a.value), "Unavailable") {
		t.Errorf("who does not wait is told %+v %v", a, err)
	}
	// What needs no run works meanwhile.
	if a, err := e.do("PUT", "/lamps/"+ids[0]+"/level", body.JSON, map[string]any{"level": int64(101)}); err != nil || a.status != 400 {
		t.Errorf("%+v %v", a, err)
	}
	time.Sleep(time.Until(down.Add(outage))) // the scenario's own length, not a wait for anything
	startIn(t, there.dir, "--listen", at)
	wg.Wait()
	figure(t, "until calls that waited were answered, from the service's death", time.Since(down).Seconds(), "s", false)
	s08States(t, e, e.lamps)
}
