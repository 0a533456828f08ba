package telemetry

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/runtimeapi"
)

// receiver is a subscriber's end: an HTTP server that keeps what it gets.
type receiver struct {
	port int

	mu      sync.Mutex
	methods []string
	paths   []string
	events  []got
	refuse  int           // how many requests are still to be refused
	hold    chan struct{} // if set, requests wait until it is closed
}

type got struct {
	Time   string          `json:"time"`
	Type   string          `json:"type"`
	Record json.RawMessage `json:"record"`
}

func receive(t testing.TB) *receiver {
	t.Helper()
	r := &receiver{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.port = l.Addr().(*net.TCPAddr).Port
	server := &http.Server{Handler: r}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	hold := r.hold
	r.mu.Unlock()
	if hold != nil {
		<-hold
	}
	var batch []got
	err := json.NewDecoder(req.Body).Decode(&batch)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuse > 0 || err != nil {
		r.refuse--
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	r.methods, r.paths = append(r.methods, req.Method), append(r.paths, req.Host+req.URL.String())
	r.events = append(r.events, batch...)
}

func (r *receiver) all() []got {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]got(nil), r.events...)
}

// kinds are the types of what came.
func (r *receiver) kinds() string {
	var kinds []string
	for _, e := range r.all() {
		kinds = append(kinds, strings.TrimPrefix(e.Type, "platform."))
	}
	return strings.Join(kinds, " ")
}

func (r *receiver) subscription(schema string, types ...string) string {
	list, _ := json.Marshal(types)
	return fmt.Sprintf(`{"schemaVersion":%q,"types":%s,"buffering":{"timeoutMs":25},"destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain:%d/in?x"}}`, schema, list, r.port)
}

func newHub(t testing.TB) *Hub {
	var d net.Dialer
	h := NewHub(clock.System(), func(ctx context.Context, port int) (net.Conn, error) {
		return d.DialContext(ctx, "tcp", fmt.Sprint("127.0.0.1:", port))
	})
	t.Cleanup(h.Stop)
	return h
}

func subscribe(t testing.TB, h *Hub, name, path, body string) runtimeapi.Reply {
	return h.Serve(&runtimeapi.Request{Method: http.MethodPut, Path: path, Body: []byte(body)}, name)
}

func mustSubscribe(t testing.TB, h *Hub, name, path, body string) {
	t.Helper()
	if r := subscribe(t, h, name, path, body); r.Status != 200 || string(r.Body) != `"OK"` {
		t.Fatalf("%d %s", r.Status, r.Body)
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never came true: %s", what)
		}
	}
}

// aLife publishes what the platform says in an environment's life.
func aLife(h *Hub) {
	h.InitStart(InitStart{Type: hearth.InitProvisioned, Phase: PhaseInit, RuntimeVersion: "nodejs:20", RuntimeVersionARN: "arn", Function: "f", Version: "1", Instance: "s", MemoryMiB: 128})
	h.InitRuntimeDone(Init{Type: hearth.InitOnDemand, Phase: PhaseInit, Status: Success})
	h.Extension("e", "Ready", []string{"INVOKE"}, "")
	h.InitReport(Init{Type: hearth.InitManaged, Phase: PhaseInit, Status: Success, Duration: 1500 * time.Microsecond})
	i := Invocation{RequestID: "r", Version: "1", TraceID: "Root=1", Status: Success, Began: time.UnixMilli(1000), Answered: time.UnixMilli(1010),
		Duration: 12 * time.Millisecond, Billed: 12 * time.Millisecond, Bytes: 7, MemoryMiB: 128, PeakMiB: 30.2, Init: time.Millisecond,
		RuntimeDone: time.UnixMilli(1011), Extensions: time.Millisecond}
	h.Start(i)
	h.Line(time.UnixMilli(1001), false, true, []byte("{\"level\":\"INFO\"}\n"))
	h.Line(time.UnixMilli(1002), true, false, []byte("from outside <\n"))
	h.RuntimeDone(i)
	h.Report(i)
	h.Fault("r", "Runtime exited with error: exit status 1", "Runtime.ExitError")
}

func TestEachAPIAndSchemaHasItsEvents(t *testing.T) {
	for _, c := range []struct{ path, schema, want string }{
		{Path, "2025-01-29", "telemetrySubscription initStart initRuntimeDone extension initReport start function extension runtimeDone report fault"},
		{Path, "2022-07-01", "telemetrySubscription initStart initRuntimeDone extension initReport start function extension runtimeDone report fault"},
		{LogsPath, "2020-08-15", "logsSubscription extension start function extension end report fault"},
		{LogsPath, "2021-03-18", "logsSubscription extension start function extension runtimeDone end report fault"},
	} {
		h, r := newHub(t), receive(t)
		mustSubscribe(t, h, "e", c.path, r.subscription(c.schema, "platform", "function", "extension"))
		aLife(h)
		eventually(t, "all has come", func() bool { return strings.HasSuffix(r.kinds(), "fault") })
		if got := r.kinds(); got != c.want {
			t.Errorf("%s %s:\n%s, want\n%s", c.path, c.schema, got, c.want)
		}
		for _, e := range r.all() {
			if e.Type == "function" && (string(e.Record) == `{"level":"INFO"}`) != (c.schema == "2025-01-29") {
				t.Errorf("%s: a function's line is %s", c.schema, e.Record)
			}
			if e.Type == "extension" && string(e.Record) != `"from outside <\n"` {
				t.Errorf("%s: an extension's line is %s", c.schema, e.Record)
			}
		}
		if r.methods[0] != "POST" || r.paths[0] != fmt.Sprintf("sandbox.localdomain:%d/in?x", r.port) {
			t.Errorf("delivered by %s to %s", r.methods[0], r.paths[0])
		}
		h.Stop()
	}
}

func TestRecordsHaveTheServicesFields(t *testing.T) {
	h, r := newHub(t), receive(t)
	mustSubscribe(t, h, "e", Path, r.subscription("2022-12-13", "platform"))
	aLife(h)
	eventually(t, "all has come", func() bool { return strings.HasSuffix(r.kinds(), "fault") })
	for i, want := range []string{
		`{"name":"e","state":"Subscribed","types":["platform"]}`,
		`{"initializationType":"provisioned-concurrency","phase":"init","runtimeVersion":"nodejs:20","runtimeVersionArn":"arn","functionName":"f","functionVersion":"1","instanceId":"s","instanceMaxMemory":134217728}`,
		`{"initializationType":"on-demand","phase":"init","status":"success"}`,
		`{"name":"e","state":"Ready","events":["INVOKE"]}`,
		`{"initializationType":"lambda-managed-instances","phase":"init","status":"success","metrics":{"durationMs":1.5}}`,
		`{"requestId":"r","version":"1","tracing":{"type":"X-Amzn-Trace-Id","value":"Root=1"}}`,
		`{"requestId":"r","status":"success","metrics":{"durationMs":12,"producedBytes":7},"tracing":{"type":"X-Amzn-Trace-Id","value":"Root=1"},"spans":[{"name":"responseLatency","start":"1970-01-01T00:00:01.000Z","durationMs":10},{"name":"runtimeOverhead","start":"1970-01-01T00:00:01.010Z","durationMs":1}]}`,
		`{"requestId":"r","metrics":{"durationMs":12,"billedDurationMs":12,"memorySizeMB":128,"maxMemoryUsedMB":31,"initDurationMs":1},"status":"success","tracing":{"type":"X-Amzn-Trace-Id","value":"Root=1"},"spans":[{"name":"extensionOverhead","start":"1970-01-01T00:00:01.011Z","durationMs":1}]}`,
		`"RequestId: r Error: Runtime exited with error: exit status 1\nRuntime.ExitError\n"`,
	} {
		if e := r.all()[i]; string(e.Record) != want {
			t.Errorf("%s: %s, want\n%s", e.Type, e.Record, want)
		}
	}
}

func TestWhoSubscribesInTheInitPhaseGetsWhatCameBefore(t *testing.T) {
	h, r := newHub(t), receive(t)
	h.InitStart(InitStart{Phase: PhaseInit})
	h.Line(time.Now(), false, false, []byte("loading\n"))
	mustSubscribe(t, h, "e", Path, r.subscription("2022-07-01", "platform", "function"))
	mustSubscribe(t, h, "e", Path, r.subscription("2022-07-01", "platform", "function")) // once more, to no effect
	eventually(t, "all has come", func() bool { return strings.HasSuffix(r.kinds(), "telemetrySubscription") })
	if got := r.kinds(); got != "initStart function telemetrySubscription" {
		t.Errorf("got %s", got)
	}
	if reply := subscribe(t, h, "e", LogsPath, r.subscription("2020-08-15", "function")); reply.Status != 400 {
		t.Errorf("by the other API: %d %s", reply.Status, reply.Body)
	}
	if !h.Close() {
		t.Error("the hub does not know of its subscriber")
	}
	for path, want := range map[string]string{
		Path:     `{"errorType":"Telemetry.SubscriptionClosed","errorMessage":"Telemetry API subscription is closed already"}` + "\n",
		LogsPath: `{"errorType":"Logs.SubscriptionClosed","errorMessage":"Logs API subscription is closed already"}` + "\n",
	} {
		body := strings.Replace(r.subscription("2022-07-01", "platform"), `"schemaVersion":"2022-07-01",`, "", 1)
		if path == Path {
			body = r.subscription("2022-07-01", "platform")
		}
		if reply := subscribe(t, h, "late", path, body); reply.Status != 403 || string(reply.Body) != want {
			t.Errorf("%s, too late: %d %s", path, reply.Status, reply.Body)
		}
	}
	if reply := subscribe(t, h, "bad", LogsPath, "{}"); reply.Status != 400 || !strings.Contains(string(reply.Body), `"errorType":"Logs.ValidationError"`) {
		t.Errorf("%d %s", reply.Status, reply.Body)
	}
}

func TestTCPSubscribersGetLines(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	h := newHub(t)
	mustSubscribe(t, h, "e", Path, fmt.Sprintf(`{"schemaVersion":"2022-07-01","types":["function"],"buffering":{"timeoutMs":25},"destination":{"protocol":"TCP","port":%d}}`,
		l.Addr().(*net.TCPAddr).Port))
	h.Line(time.Now(), false, false, []byte("one\n"))
	h.Line(time.Now(), false, false, []byte("two\n"))
	for _, want := range [][]string{{`"one\n"`, `"two\n"`}, {`"three\n"`}} {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(c)
		for _, record := range want {
			line, err := lines.ReadString('\n')
			var e got
			if err == nil {
				err = json.Unmarshal([]byte(line), &e)
			}
			if err != nil || e.Type != "function" || string(e.Record) != record {
				t.Errorf("%q, %v; want %s", line, err, record)
			}
		}
		// One that hangs up is called again.
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
		for s := h.subs[0]; want[0] == `"one\n"`; time.Sleep(time.Millisecond) {
			s.mu.Lock()
			idle := len(s.queue) == 0 && !s.busy
			s.mu.Unlock()
			if idle {
				break
			}
		}
		h.Line(time.Now(), false, false, []byte("three\n"))
	}
}

func TestADeliveryThatFailsIsTriedAgain(t *testing.T) {
	h, r := newHub(t), receive(t)
	r.refuse = 2
	mustSubscribe(t, h, "e", Path, strings.Replace(r.subscription("2022-07-01", "function"), `"protocol":"HTTP"`, `"protocol":"HTTP","method":"PUT"`, 1))
	h.Line(time.Now(), false, false, []byte("once\n"))
	eventually(t, "it has come", func() bool { return len(r.all()) > 0 && h.Idle() })
	if got := r.all(); len(got) != 1 || r.methods[0] != "PUT" {
		t.Errorf("%d came, by %v", len(got), r.methods)
	}
}

func TestASlowSubscriberBlocksNobodyAndIsToldWhatItLost(t *testing.T) {
	h, r := newHub(t), receive(t)
	r.hold = make(chan struct{})
	mustSubscribe(t, h, "e", Path, strings.Replace(r.subscription("2022-07-01", "function", "platform"), `"timeoutMs":25`, `"timeoutMs":25,"maxItems":1000`, 1))
	const sent = 10000
	line := []byte(strings.Repeat("x", 100) + "\n")
	for range sent {
		h.Line(time.Now(), false, false, line) // returns, or the test times out
	}
	close(r.hold)
	eventually(t, "the queue is empty", h.Idle)
	h.Line(time.Now(), false, false, []byte("last\n"))
	came, dropped := 0, 0
	eventually(t, "the last has come", func() bool {
		came, dropped = 0, 0
		all := r.all() // once: more may come meanwhile
		for _, e := range all {
			switch e.Type {
			case "function":
				came++
			case "platform.logsDropped":
				var d droppedRecord
				if err := json.Unmarshal(e.Record, &d); err != nil || d.Records == 0 || d.Bytes < d.Records*100 {
					t.Fatalf("%s: %v", e.Record, err)
				}
				dropped += d.Records
			}
		}
		return came > 0 && strings.HasPrefix(string(all[len(all)-1].Record), `"last`)
	})
	if dropped == 0 || came+dropped != sent+1 {
		t.Errorf("of %d there came %d, and %d were dropped", sent+1, came, dropped)
	}
}

func TestNothingIsDeliveredWhileTheEnvironmentIsFrozen(t *testing.T) {
	h, r := newHub(t), receive(t)
	var dialled atomic.Int64
	dial := h.dial
	h.dial = func(ctx context.Context, port int) (net.Conn, error) {
		dialled.Add(1)
		return dial(ctx, port)
	}
	h.Pause()
	mustSubscribe(t, h, "e", Path, r.subscription("2022-07-01", "function"))
	h.Line(time.Now(), false, false, []byte("one\n"))
	h.Flush(true)
	time.Sleep(60 * time.Millisecond) // longer than its buffering: nothing will tell of what does not happen
	if n := dialled.Load(); n != 0 || h.Idle() {
		t.Errorf("frozen, and %d connections were made", n)
	}
	h.Resume()
	eventually(t, "it has come", func() bool { return len(r.all()) == 1 && h.Idle() })
}

func TestTheEndOfAHubEndsWhatItDoes(t *testing.T) {
	h, r := newHub(t), receive(t)
	r.hold = make(chan struct{})
	defer close(r.hold)
	h2 := NewHub(clock.System(), func(context.Context, int) (net.Conn, error) { return nil, errors.New("nobody is there") })
	for _, hub := range []*Hub{h, h2} {
		mustSubscribe(t, hub, "e", Path, r.subscription("2022-07-01", "function"))
		hub.Line(time.Now(), false, false, []byte("lost\n"))
		eventually(t, "it is on its way", func() bool { s := hub.subs[0]; s.mu.Lock(); defer s.mu.Unlock(); return s.busy })
		hub.Stop() // waits for the goroutine
	}
}

// Whatever is published, in whatever portions, comes once and in order, or is
// counted.
func TestEventsComeOnceAndInOrderOrAreCounted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &subscriber{
			subscription: &subscription{schema: schemas[0], types: []string{Platform, Function}, maxItems: rapid.IntRange(1, 5).Draw(t, "items"),
				maxBytes: rapid.IntRange(100, 600).Draw(t, "bytes"), timeout: time.Hour},
			clock: clock.System(), awake: make(chan struct{}, 1),
		}
		defer s.stop()
		sent, dropped := 0, 0
		var came []string
		takeAll := func() {
			for batch := s.take(); batch != nil; batch = s.take() {
				if n := len(batch); n > s.maxItems+1 {
					t.Fatalf("a batch of %d", n)
				}
				for _, b := range batch {
					var e got
					if err := json.Unmarshal(b, &e); err != nil {
						t.Fatal(err)
					}
					if e.Type == "function" {
						came = append(came, string(e.Record))
						continue
					}
					var d droppedRecord
					if err := json.Unmarshal(e.Record, &d); err != nil {
						t.Fatal(err)
					}
					dropped += d.Records
				}
			}
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			if rapid.IntRange(0, 3).Draw(t, "take") == 0 {
				takeAll()
				continue
			}
			s.add(&event{kind: Function, record: []byte(fmt.Sprintf(`"%05d%s"`, sent, strings.Repeat("y", rapid.IntRange(0, 150).Draw(t, "length"))))})
			sent++
		}
		s.flush(true)
		takeAll()
		if len(came)+dropped+s.dropped != sent {
			t.Fatalf("of %d there came %d, %d and %d were dropped", sent, len(came), dropped, s.dropped)
		}
		for i := 1; i < len(came); i++ {
			if came[i-1] >= came[i] {
				t.Fatalf("%s before %s", came[i-1], came[i])
			}
		}
	})
}
