package control

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/sizing"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

const ours, theirs hearth.Account = "000000000000", "111111111111"

// parts is every source at once, with one of everything.
type parts struct {
	hinted     Hint
	noticed    string
	policies   map[string]*hearth.ExecutionPolicy
	asked      DecisionQuery
	logs       LogQuery
	redriven   string
	declared   *hearth.Idempotence
	declaredOf string
	err        error
	more       chan LogLine
}

func (p *parts) Snapshot(context.Context) (Snapshot, error) {
	return Snapshot{At: noon, MemoryMiB: 4096, CommittedMiB: 128, PoolBudgetMiB: 256, PoolMiB: 12.5, Instances: []Instance{
		{ID: "pooled", Since: noon, Containers: []Container{{ID: "s", State: StateReady, Boot: "node20"}}},
		{ID: "ours", Account: ours, MemoryMiB: 2048, Containers: []Container{{
			ID: "c", State: StateFrozen, Since: noon, IdleMillis: 3, Function: "f", Version: hearth.Latest,
			Invocations: 3, LimitMiB: 128, UsedMiB: 20.5, PeakMiB: 30, CPUMillis: 12}}},
		{ID: "theirs", Account: theirs, Capacity: hearth.CapacityDedicated},
	}, Subpools: []Subpool{{Kind: hearth.CapacityFixed}, {Kind: hearth.CapacityDedicated, Account: theirs}}}, p.err
}

type busParts struct{ *parts }

func (p busParts) Follow(_ context.Context, _ hearth.Account, bus string, emit func(BusLine) error) error {
	if p.err != nil {
		return p.err
	}
	return errors.Join(emit(BusLine{}), emit(BusLine{Missed: 3}), emit(BusLine{Event: json.RawMessage(`{"bus":"` + bus + `"}`)}))
}

func TestEventsAreShownAsTheyCome(t *testing.T) {
	var got []BusLine
	err := serve(t, &parts{}, root, nil).Events(t.Context(), "b", func(l BusLine) error { got = append(got, l); return nil })
	if err != nil || len(got) != 2 || got[0].Missed != 3 || string(got[1].Event) != `{"bus":"b"}` {
		t.Errorf("%+v, %v", got, err)
	}
}

func (p *parts) Query(_ context.Context, q DecisionQuery) ([]hearth.Decision, error) {
	p.asked = q
	return []hearth.Decision{{
		Seq: 7, At: noon, Mono: time.Second, Kind: hearth.DecisionPlace, RequestID: "r", Account: ours, Function: "f",
		Version: hearth.Latest, Chosen: string(hearth.PathWarm), Why: "no container had the code", Instance: "ours", Container: "c",
		Knew: hearth.Knowledge{Pool: 2}, Spent: [hearth.Stages]time.Duration{1, 2, 3}, Outcome: "ok",
	}, {Kind: hearth.DecisionReplenish, At: noon}}, p.err
}

func (p *parts) List(context.Context) ([]Runtime, error) {
	return []Runtime{{Name: "provided.al2023", Usable: true, Exact: true},
		{Name: "nodejs22.x", Usable: true, Interpreter: "/usr/bin/node", Version: "20.1.0", Note: "the nearest"}}, p.err
}

func (p *parts) Report(context.Context) (Report, error) {
	return Report{Version: "1", Driver: "namespace", Checks: []Check{{Name: "memory limit", Detail: "no cgroup", Fix: "be root"}}}, p.err
}

func (p *parts) Read(ctx context.Context, q LogQuery, emit func(LogLine) error) error {
	p.logs = q
	for _, l := range []LogLine{{At: noon, Message: "one"}, {At: noon, RequestID: "r", Stream: "s", Message: "two"}} {
		if err := emit(l); err != nil {
			return err
		}
	}
	for q.Follow {
		select {
		case <-ctx.Done():
			return nil
		case l := <-p.more:
			if err := emit(l); err != nil {
				return err
			}
		}
	}
	return p.err
}

type parkedParts struct{ *parts }

func (p parkedParts) List(_ context.Context, account hearth.Account, _ int) ([]ParkedEvent, error) {
	return []ParkedEvent{{ID: "e", Function: "f", Accepted: noon, Attempts: 3, Reason: "RetriesExhausted", Last: "Unhandled"}}, p.err
}

func (p parkedParts) Redrive(_ context.Context, account hearth.Account, id string) error {
	p.redriven = string(account) + "/" + id
	return p.err
}

type policyParts struct{ *parts }

func (p policyParts) Own(_ hearth.Account, function string) *hearth.ExecutionPolicy {
	return p.policies[function]
}

func (p policyParts) Of(_ hearth.Account, function string) *hearth.ExecutionPolicy {
	if own := p.policies[function]; own != nil {
		return own
	}
	return &hearth.ExecutionPolicy{Update: &hearth.UpdatePolicy{}}
}

func (p policyParts) Set(_ context.Context, _ hearth.Account, function string, policy *hearth.ExecutionPolicy) error {
	if p.err == nil {
		p.policies = map[string]*hearth.ExecutionPolicy{function: policy}
	}
	return p.err
}

func (p policyParts) Advice(_ context.Context, account hearth.Account, function string) ([]Advice, error) {
	if account != ours || function == "unknown" {
		return nil, p.err
	}
	return []Advice{{
		Function: "f", Version: "$LATEST", Since: time.Now(), Mode: "advise", ConfiguredMiB: 256, CurrentMiB: 256, CPUs: 0.14,
		Suggestion: "grow", SuggestedMiB: 384, SavedGBSeconds: -1.5, Why: "because", Notes: []string{"a note"},
		Evidence: sizing.Summary{Runs: 10, Kills: 3, PeakP99MiB: 200.5, TooLittle: 256},
	}, {Function: "g", Version: "1", Mode: "off", Since: time.Now(), ConfiguredMiB: 128, CurrentMiB: 128}}, p.err
}

func (p *parts) Capacity(context.Context, hearth.Account) (Capacity, error) {
	return Capacity{
		Subpools:  []Subpool{{Kind: hearth.CapacityFixed, CapacityMiB: 1024}, {Kind: hearth.CapacityDedicated, Account: ours, Price: 0.5, Cost: 0.25}},
		Feed:      &Feed{Source: "/prices.json", Known: true, Price: 0.5, AvailableMiB: -1, At: &noon, Error: "no"},
		Functions: []Spending{{Function: "f", Kind: hearth.CapacityVariable, Invocations: 3, GiBSeconds: 1.5, Cost: 0.1, Withdrawn: 1}},
	}, p.err
}

type nodeParts struct{ *parts }

func (n nodeParts) List(context.Context) (NodeList, error) {
	return NodeList{Listening: "127.0.0.1:9071", WaitingLow: 1, Nodes: []Node{
		{Name: "local", ID: "local", Local: true, State: "up", Fleet: "auto", Fleets: []string{"low", "high"}, MemoryMiB: 1024},
		{Name: "rack2", ID: "n-1", Address: "10.0.0.2:9072", State: "draining", Fleet: "low", MemoryMiB: 2048, Since: noon, Heard: noon},
	}}, n.err
}

func (n nodeParts) Drain(_ context.Context, node string, on bool) error {
	if n.err == nil && node == "rack3" {
		return hearth.Errorf(hearth.NotFound, "There is no node %s.", node)
	}
	return n.err
}

func serve(t *testing.T, p *parts, identity hearth.Identity, authErr error) *Client {
	t.Helper()
	h := &Handler{
		Authenticate: func(r *http.Request, _ []byte) (hearth.Identity, error) {
			if !strings.Contains(r.Header.Get("Authorization"), "/us-east-1/hearth/aws4_request") {
				return hearth.Identity{}, hearth.Errorf(hearth.MissingToken, "unsigned")
			}
			return identity, authErr
		},
		Instances: p, Decisions: p, Runtimes: p, Doctor: p, Logs: p, Parked: parkedParts{p}, Policies: policyParts{p}, Sizes: policyParts{p}, Nodes: nodeParts{p}, Sources: sourceParts{p}, Audits: auditParts{p},
		Idempotence: idempotentParts{p}, Predictions: predictionParts{p}, Learned: predictionParts{p}, Capacities: p, Backfills: backfillParts{p}, Bills: billParts{p}, Tasks: taskParts{p}, Shares: shareParts{p}, Proxies: proxyParts{p}, Accounts: accountParts{p}, Operator: ours, Access: accountParts{p}, MasterKey: keyParts{p}, Region: "us-east-1",
		Log: slog.New(slog.DiscardHandler),
	}
	srv := httptest.NewServer(h)
	h.BusEvents = busParts{p}
	t.Cleanup(srv.Close)
	return &Client{Endpoint: srv.URL, Region: "us-east-1", HTTP: srv.Client(), Credentials: aws.CredentialsProviderFunc(
		func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKID", SecretAccessKey: "secret"}, nil
		})}
}

var root = hearth.Identity{Account: ours, ARN: "arn:aws:iam::000000000000:root", UserID: "000000000000"}

// raw fetches path through the client's signing and returns the body, and the
// failure if it was one.
func raw(t *testing.T, c *Client, pathAndQuery string) ([]byte, error) {
	t.Helper()
	return rawBy(t, c, http.MethodGet, pathAndQuery)
}

func rawBy(t *testing.T, c *Client, method, pathAndQuery string) ([]byte, error) {
	t.Helper()
	path, query, _ := strings.Cut(pathAndQuery, "?")
	values := map[string][]string{}
	for pair := range strings.SplitSeq(query, "&") {
		if k, v, ok := strings.Cut(pair, "="); ok {
			values[k] = []string{v}
		}
	}
	var content []byte
	if path == "/triggers/set" {
		content = []byte(`{"name":"t","functions":["f"]}`)
	}
	if path == "/offers/set" {
		content = []byte(`{"function":"f"}`)
	}
	if path == "/shared-aliases/set" {
		content = []byte(`{"name":"f","offer":"o","parameters":{"KEY":"v"}}`)
	}
	if path == "/sources/add" {
		content = []byte(`{"url":"redis://h","secret":"s"}`)
	}
	if path == "/tasks/put" {
		content = []byte(`{"set":[{"name":"t","function":"f"}]}`)
	}
	if path == "/bill/prices/set" {
		content = []byte(`{"cpuSecond":0.5}`)
	}
	if body := proxyBodies[path]; body != "" {
		content = []byte(body)
	}
	if path == "/backfills/start" {
		content = []byte(`{"source":"lines:///x","function":"f"}`)
	}
	body, err := c.open(t.Context(), method, path, values, content)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	return data, nil
}

func TestEveryRouteAnswersAsDocumented(t *testing.T) {
	d := load(t)
	c := serve(t, &parts{}, root, nil)
	for path, methods := range d.Paths {
		method, op := d.only(t, path)
		if len(methods) != 1 {
			t.Errorf("%s: by more than %s", path, method)
		}
		body, err := rawBy(t, c, method, path+"?"+op.needs())
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		for kind, content := range op.Responses["200"].Content {
			lines := [][]byte{body}
			if kind == "application/x-ndjson" {
				lines = slices.Collect(func(yield func([]byte) bool) {
					for l := range strings.Lines(string(body)) {
						if !yield([]byte(l)) {
							return
						}
					}
				})
			}
			for _, line := range lines {
				var v any
				if err := json.Unmarshal(line, &v); err != nil {
					t.Errorf("%s: %v", path, err)
				}
				for _, wrong := range d.check(content.Schema, v, path) {
					t.Error(wrong)
				}
			}
		}
	}
}

func TestEveryRouteFailsAsDocumented(t *testing.T) {
	d := load(t)
	c := serve(t, &parts{err: errors.New("the disk is gone")}, root, nil)
	for path := range d.Paths {
		switch path { // they can't fail, but /logs, which has lines before it does
		case "/openapi.json", "/policy", "/bill/prices", "/proxy/keys", "/proxy/export", "/logs":
			continue
		}
		method, op := d.only(t, path)
		_, err := rawBy(t, c, method, path+"?id=e"+op.needs())
		f, ok := errors.AsType[*Failure](err)
		if !ok || f.Kind != hearth.Service || strings.Contains(f.Message, "disk") {
			t.Errorf("%s: %v; want a service failure without what is for the log", path, err)
		}
	}
}

func TestNodesAreListedAndDrained(t *testing.T) {
	c := serve(t, &parts{}, root, nil)
	list, err := c.Nodes(t.Context())
	if err != nil || len(list.Nodes) != 2 || list.Nodes[1].State != "draining" || list.Listening != "127.0.0.1:9071" {
		t.Errorf("%+v, %v", list, err)
	}
	if err := c.Drain(t.Context(), "rack2", false); err != nil {
		t.Error(err)
	}
	if f, ok := errors.AsType[*Failure](c.Drain(t.Context(), "rack3", true)); !ok || f.Kind != hearth.NotFound {
		t.Errorf("an unknown node is drained: %v", f)
	}
	if _, err := rawBy(t, c, http.MethodPost, "/nodes/drain?node=rack2&on=perhaps"); err == nil {
		t.Error("on=perhaps was taken")
	}
}

func TestAccountSeesItsOwnInstancesAndThePool(t *testing.T) {
	s, err := serve(t, &parts{}, root, nil).PS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, i := range s.Instances {
		ids = append(ids, i.ID)
	}
	if !slices.Equal(ids, []string{"pooled", "ours"}) {
		t.Errorf("sees %v", ids)
	}
}

func TestQueriesCarryTheCallersAccount(t *testing.T) {
	p := &parts{}
	c := serve(t, p, root, nil)
	ds, err := c.Find(t.Context(), DecisionQuery{Account: theirs, RequestID: "r", Function: "f", Kind: hearth.DecisionPlace, Limit: 5})
	if err != nil {
		t.Fatal(err)
	}
	if want := (DecisionQuery{Account: ours, RequestID: "r", Function: "f", Kind: hearth.DecisionPlace, Limit: 5}); p.asked != want {
		t.Errorf("asked %+v", p.asked)
	}
	if len(ds) != 2 || ds[0].Spent[hearth.StageAdmit] != 3 || ds[0].Knew.Pool != 2 {
		t.Errorf("got %+v", ds)
	}
	since := noon.Add(123456789)
	if err := c.Logs(t.Context(), LogQuery{Account: theirs, Function: "f", RequestID: "r", Since: since}, func(LogLine) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if want := (LogQuery{Account: ours, Function: "f", RequestID: "r", Since: since}); p.logs != want {
		t.Errorf("asked %+v", p.logs)
	}
}

func TestOnlyRootIsLetIn(t *testing.T) {
	session := hearth.Identity{Account: ours, ARN: "arn:aws:sts::000000000000:assumed-role/hearth/f"}
	for name, c := range map[string]*Client{
		string(hearth.AccessDenied):     serve(t, &parts{}, session, nil),
		string(hearth.InvalidSignature): serve(t, &parts{}, hearth.Identity{}, hearth.Errorf(hearth.InvalidSignature, "no")),
	} {
		_, err := c.PS(t.Context())
		if f, ok := errors.AsType[*Failure](err); !ok || string(f.Kind) != name {
			t.Errorf("%s: %v", name, err)
		}
		if body, err := raw(t, c, "/openapi.json"); err != nil || len(body) == 0 {
			t.Errorf("the document is for everybody: %v", err)
		}
	}
}

func TestFollowedLogArrivesLineByLine(t *testing.T) {
	p := &parts{more: make(chan LogLine)}
	c := serve(t, p, root, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []string
	err := c.Logs(ctx, LogQuery{Function: "f", Follow: true}, func(l LogLine) error {
		got = append(got, l.Message)
		switch len(got) {
		case 2: // only now: had the first two been held back, this would hang
			go func() { p.more <- LogLine{At: noon, Message: "three"} }()
		case 3:
			return io.EOF
		}
		return nil
	})
	if err != io.EOF || !slices.Equal(got, []string{"one", "two", "three"}) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestLogThatFailsHalfWaySaysSo(t *testing.T) {
	c := serve(t, &parts{err: hearth.Errorf(hearth.Service, "torn")}, root, nil)
	n := 0
	err := c.Logs(t.Context(), LogQuery{Function: "f"}, func(LogLine) error { n++; return nil })
	if f, ok := errors.AsType[*Failure](err); !ok || f.Message != "torn" || n != 2 {
		t.Errorf("%d lines, %v", n, err)
	}
}

func TestAParkedEventIsRedrivenForItsAccount(t *testing.T) {
	p := &parts{}
	c := serve(t, p, root, nil)
	if list, err := c.Parked(t.Context(), 5); err != nil || len(list) != 1 || list[0].Reason != "RetriesExhausted" {
		t.Errorf("%+v %v", list, err)
	}
	if err := c.Redrive(t.Context(), "e"); err != nil || p.redriven != "000000000000/e" {
		t.Errorf("%q %v", p.redriven, err)
	}
	if _, err := raw(t, c, "/parked/redrive?id=e"); err == nil {
		t.Error("it is done by GET, too")
	}
}

func TestBadQuestionsGetOneSentence(t *testing.T) {
	c := serve(t, &parts{}, root, nil)
	for path, kind := range map[string]hearth.Kind{
		"/decisions?limit=0":         hearth.InvalidParameter,
		"/decisions?limit=1001":      hearth.InvalidParameter,
		"/logs":                      hearth.InvalidParameter,
		"/logs?function=f&since=now": hearth.InvalidParameter,
		"/logs?function=f&follow=ja": hearth.InvalidParameter,
		"/nothing":                   hearth.UnknownOperation,
		"":                           hearth.UnknownOperation,
	} {
		_, err := raw(t, c, path)
		if f, ok := errors.AsType[*Failure](err); !ok || f.Kind != kind {
			t.Errorf("%s: %v", path, err)
		}
	}
	resp, err := http.Post(c.Endpoint+Prefix+"/ps", "text/plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %s", resp.Status)
	}
}

func TestRunningServerIsFoundAndADeadOneIsNotAlive(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadRunning(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in an empty folder: %v", err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != HealthPath {
			t.Errorf("asked for %s", r.URL.Path)
		}
	}))
	want := Running{PID: os.Getpid(), Endpoint: srv.URL, Account: ours, Region: "us-east-1", Version: "1", Started: noon}
	for range 2 { // the second replaces the first
		if err := WriteRunning(dir, want); err != nil {
			t.Fatal(err)
		}
	}
	got, err := ReadRunning(dir)
	if err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	if !got.Alive(t.Context()) {
		t.Error("not alive")
	}
	srv.Close()
	if got.Alive(t.Context()) {
		t.Error("alive after its end")
	}
	if err := errors.Join(RemoveRunning(dir), RemoveRunning(dir)); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); left != nil {
		t.Errorf("left %v", left)
	}
}

func TestAPolicyIsSetShownAndTakenBack(t *testing.T) {
	p := &parts{}
	c := serve(t, p, root, nil)
	want := &hearth.ExecutionPolicy{Sizing: &hearth.SizingPolicy{Mode: "auto"}}
	for _, ask := range []func() (Policy, error){
		func() (Policy, error) { return c.SetPolicy(t.Context(), "f", want) },
		func() (Policy, error) { return c.Policy(t.Context(), "f") },
	} {
		got, err := ask()
		if err != nil || got.Function != "f" || got.Own == nil || got.Own.Sizing.Mode != "auto" {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if got, err := c.SetPolicy(t.Context(), "f", nil); err != nil || got.Own != nil || got.Effective == nil {
		t.Errorf("taken back: %+v, %v", got, err)
	}
	for _, body := range []string{`{"sizing":{"mode":"auto","more":1}}`, `[]`, `{} {}`, `{`} {
		_, err := send[Policy](t.Context(), c, http.MethodPost, "/policy/set", about("f"), []byte(body))
		if f, ok := errors.AsType[*Failure](err); !ok || f.Kind != hearth.InvalidParameter {
			t.Errorf("%s: %v", body, err)
		}
	}
}
