package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/hearth-faas/hearth"
)

// The acceptance scenario of idempotent execution avoidance: a function reads
// three objects of an S3 server on another host and answers with a digest. Of
// many requests a twentieth is preceded by a change: of an object, of the code,
// or of the parameters. The control run is the same requests to a function that
// is not declared, at the same time; the S3 server counts who really runs.

const s14Code = `import hashlib, json, os, time, urllib.request

CODE = %q

def handler(event, context):
    time.sleep(event.get("seconds", 0.01))
    if event.get("fail"):
        raise Exception("as asked")
    digest = hashlib.sha256((CODE + "/" + event["salt"]).encode())
    for name in ("one", "two", "three"):
        request = urllib.request.Request(os.environ["S3"] + "/data/" + name, headers={"X-Reader": context.function_name})
        with urllib.request.urlopen(request) as answer:
            digest.update(answer.read())
    return digest.hexdigest()
`

var s14Objects = []string{"one", "two", "three"}

// objects is an S3 server on another host.
type objects struct {
	t       *testing.T
	url     string
	backend gofakes3.Backend
	down    atomic.Bool // HEAD is answered with 503

	mu      sync.Mutex
	content map[string]string
	runs    map[string]int // by who reads: of the first object
	onLast  func()         // called once, before the last object is read
}

func newObjects(t *testing.T) *objects {
	o := &objects{t: t, backend: s3mem.New(), content: map[string]string{}, runs: map[string]int{}}
	there := newOutside(t)
	o.url = "http://" + there.webAt
	if err := o.backend.CreateBucket("data"); err != nil {
		t.Fatal(err)
	}
	for _, name := range s14Objects {
		o.put(name, "first")
	}
	s3 := gofakes3.New(o.backend).Server()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodHead && o.down.Load():
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		case r.Method == http.MethodGet:
			o.read(r)
		}
		s3.ServeHTTP(w, r)
	})}
	go func() { _ = server.Serve(there.web) }() // it ends with the listener
	t.Cleanup(func() { server.Close() })
	return o
}

// read notes that an object is read.
func (o *objects) read(r *http.Request) {
	o.mu.Lock()
	if strings.HasSuffix(r.URL.Path, "/one") {
		o.runs[r.Header.Get("X-Reader")]++
	}
	then := o.onLast
	if strings.HasSuffix(r.URL.Path, "/three") {
		o.onLast = nil
	} else {
		then = nil
	}
	o.mu.Unlock()
	if then != nil {
		then()
	}
}

func (o *objects) put(name, content string) {
	if _, err := o.backend.PutObject("data", name, map[string]string{}, strings.NewReader(content), int64(len(content)), nil); err != nil {
		o.t.Error(err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.content[name] = content
}

func (o *objects) runsOf(function string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.runs[function]
}

// state is all that the digest is of, and the digest.
func (o *objects) state(code, salt string) (state, digest string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	state = code + "/" + salt
	for _, name := range s14Objects {
		state += o.content[name]
	}
	sum := sha256.Sum256([]byte(state))
	return state, `"` + hex.EncodeToString(sum[:]) + `"`
}

// s14Answer is what a request of the scenario came to.
type s14Answer struct {
	payload, failed, recorded, request string
}

func (s *server) digest(function string, event map[string]any, recompute bool) (a s14Answer) {
	payload, err := json.Marshal(event)
	if err != nil {
		s.t.Error(err)
	}
	out, err := s.client().Invoke(s.t.Context(), &lambda.InvokeInput{FunctionName: &function, Payload: payload}, func(o *lambda.Options) {
		if recompute {
			o.APIOptions = append(o.APIOptions, smithyhttp.SetHeaderValue("X-Hearth-Recompute", "true"))
		}
	})
	if err != nil {
		s.t.Errorf("%s: %v", function, err)
		return a
	}
	raw := awsmiddleware.GetRawResponse(out.ResultMetadata).(*smithyhttp.Response)
	a.request, _ = awsmiddleware.GetRequestIDMetadata(out.ResultMetadata)
	a.payload, a.failed, a.recorded = string(out.Payload), aws.ToString(out.FunctionError), raw.Header.Get("X-Hearth-Recorded")
	return a
}

func TestS14IdempotentExecutionAvoidance(t *testing.T) {
	t.Parallel()
	o := newObjects(t)
	s := start(t, "--metrics")
	code := func(n int) []byte {
		return zipOf(t, map[string]string{"index.py": fmt.Sprintf(s14Code, fmt.Sprint("code ", n))})
	}
	for _, name := range []string{"digest", "control"} {
		s.deploy(function{name: name, runtime: "python3.12", zip: code(0), env: map[string]string{"S3": o.url}})
	}
	s.must("idempotent", "set", "digest", fmt.Sprintf(`{"dependencies": [
		{"s3": "s3://data/one", "endpoint": %[1]q}, {"s3": "s3://data/two", "endpoint": %[1]q}, {"s3": "s3://data/three", "endpoint": %[1]q}]}`, o.url))

	requests := 200
	if fullScenarios() {
		requests = 1000
	}
	random := rand.New(rand.NewPCG(14, 1))
	version, salt := 0, 0
	seen := map[string]bool{}
	before := s.last()
	for i := range requests {
		if random.IntN(20) == 0 {
			switch what := random.IntN(5); what {
			case 3:
				version++
				for _, name := range []string{"digest", "control"} {
					if _, err := s.client().UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: &name, ZipFile: code(version)}); err != nil {
						t.Fatal(err)
					}
					s.waitActive(name)
				}
			case 4:
				salt = random.IntN(3) // also back to what there was
			default:
				o.put(s14Objects[what], fmt.Sprint("content ", i))
			}
		}
		state, want := o.state(fmt.Sprint("code ", version), fmt.Sprint("salt ", salt))
		event := map[string]any{"salt": fmt.Sprint("salt ", salt)}
		got, control := s.digest("digest", event, false), s.digest("control", event, false)
		if got.payload != want || control.payload != want {
			t.Fatalf("request %d: %s with avoidance, %s without, not %s", i, got.payload, control.payload, want)
		}
		if (got.recorded != "") != seen[state] || control.recorded != "" {
			t.Errorf("request %d: recorded %q, and in the control run %q, in a state that was seen before: %v", i, got.recorded, control.recorded, seen[state])
		}
		if !seen[state] && got.recorded == "" {
			s14Recorded(s, got) // until then who asks shares its run, and is counted as such
		}
		seen[state] = true
	}
	if on, off := o.runsOf("digest"), o.runsOf("control"); on != len(seen) || off != requests {
		t.Errorf("%d runs of %d distinct states; without avoidance %d of %d requests", on, len(seen), off, requests)
	}
	worked := func(function string) (ran int, took time.Duration) {
		for _, d := range s.tell(function, hearth.DecisionPlace, before) {
			if d.Container != "" {
				ran++
				took += d.Spent[hearth.StageRun]
			}
		}
		return ran, took
	}
	ran, on := worked("digest")
	_, off := worked("control")
	counts, err := s.controlClient().Idempotent(t.Context(), "digest")
	if err != nil || len(counts) != 1 {
		t.Fatalf("%v, %v", counts, err)
	}
	t.Logf("%d requests in %d states: %d runs of %.2f environment-seconds; without avoidance %.2f; %.2f counted as saved",
		requests, len(seen), ran, on.Seconds(), off.Seconds(), counts[0].Counts.SavedSeconds)
	if ran != len(seen) || on > off/2 || counts[0].Counts.Recorded != int64(requests-len(seen)) {
		t.Errorf("%d decisions to run, %+v", ran, counts[0].Counts)
	}

	event := func(salt string) map[string]any { return map[string]any{"salt": salt} }
	s14Evidence(t, s)
	s14Races(t, s, o, fmt.Sprint("code ", version), event)
	s14Faults(t, s, o, event)
	again := s.digest("digest", event("last"), false)
	forced := s.digest("digest", event("last"), true)
	if again.payload != forced.payload || forced.recorded != "" {
		t.Errorf("a forced run answers %+v, and the one before it %+v", forced, again)
	}
	s.must("idempotent", "clear", "digest")
	if a := s.digest("digest", event("last"), false); a.recorded != "" {
		t.Error("what is not declared any more is answered from a record")
	}
}

// s14Recorded waits until the result of a run is recorded: the answer does not.
func s14Recorded(s *server, a s14Answer) {
	s.t.Helper()
	await(s.t, patience, "a result to be recorded", func() bool {
		return slices.ContainsFunc(s.tell("digest", hearth.DecisionAvoid, 0), func(d hearth.Decision) bool {
			return d.RequestID == a.request && d.Chosen == "recorded"
		})
	})
}

// s14Evidence looks at what is told.
func s14Evidence(t *testing.T, s *server) {
	t.Helper()
	a := s.digest("digest", map[string]any{"salt": "evidence"}, false)
	s14Recorded(s, a)
	b := s.digest("digest", map[string]any{"salt": "evidence"}, false)
	if b.recorded != a.request {
		t.Errorf("the answer is that of %q, not of %q", b.recorded, a.request)
	}
	for _, want := range []struct{ of, words string }{
		{a.request, "it was run because there is no record of an equal request"},
		{a.request, "nothing that it depends on changed during the run"},
		{b.request, "nothing has changed since request " + a.request},
		{"digest", "it is declared idempotent, with 3 dependencies"},
	} {
		if out := s.must("explain", want.of); !strings.Contains(out, want.words) {
			t.Errorf("hearth explain %s says %s and not: %s", want.of, out, want.words)
		}
	}
	resp, err := http.Get(s.endpoint + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	text := string(all)
	for _, name := range []string{`hearth_idempotent_requests_total{outcome="recorded"}`, "hearth_idempotent_saved_seconds_total", "hearth_idempotent_records "} {
		if !strings.Contains(text, name) {
			t.Errorf("there is no metric %s", name)
		}
	}
}

// s14Races changes an object in the middle of a run, and has fifty ask at once.
func s14Races(t *testing.T, s *server, o *objects, code string, event func(string) map[string]any) {
	t.Helper()
	o.mu.Lock()
	o.onLast = func() { o.put("one", "changed amid a run") }
	o.mu.Unlock()
	before := o.runsOf("digest")
	torn := s.digest("digest", event("race"), false)
	next := s.digest("digest", event("race"), false)
	if _, want := o.state(code, "race"); next.payload != want || next.recorded != "" || torn.payload == want {
		t.Errorf("after a change amid a run the answer is %+v, not %s; that run's was %s", next, want, torn.payload)
	}
	if n := o.runsOf("digest") - before; n != 2 {
		t.Errorf("%d runs", n)
	}

	before = o.runsOf("digest")
	var all sync.WaitGroup
	var other atomic.Int64
	_, want := o.state(code, "crowd")
	for range 50 {
		all.Go(func() {
			if a := s.digest("digest", map[string]any{"salt": "crowd", "seconds": 2}, false); a.payload != want {
				t.Errorf("one of fifty is answered %+v, not %s", a, want)
			} else if a.recorded != "" {
				other.Add(1)
			}
		})
	}
	all.Wait()
	if n := o.runsOf("digest") - before; n != 1 || other.Load() != 49 {
		t.Errorf("fifty at once: %d runs, %d answered by another's", n, other.Load())
	}

	// The one who runs leaves; another has the answer all the same.
	before = o.runsOf("digest")
	ctx, leave := context.WithCancel(t.Context())
	payload := []byte(`{"salt": "left", "seconds": 3}`)
	all.Go(func() {
		_, err := s.client().Invoke(ctx, &lambda.InvokeInput{FunctionName: aws.String("digest"), Payload: payload})
		if err == nil {
			t.Error("who left was answered")
		}
	})
	running := func() int64 {
		list, err := s.controlClient().Idempotent(t.Context(), "digest")
		if err != nil {
			t.Fatal(err)
		}
		return list[0].Counts.Ran
	}
	was := running()
	await(t, patience, "the first to run", func() bool { return running() > was || o.runsOf("digest") > before })
	all.Go(func() {
		if a := s.digest("digest", map[string]any{"salt": "left", "seconds": 3}, false); a.failed != "" || a.payload == "" {
			t.Errorf("who stayed is answered %+v", a)
		}
	})
	leave()
	all.Wait()
}

// s14Faults takes the state service down, and has a run fail.
func s14Faults(t *testing.T, s *server, o *objects, event func(string) map[string]any) {
	t.Helper()
	s14Recorded(s, s.digest("digest", event("down"), false))
	before := o.runsOf("digest")
	o.down.Store(true)
	for range 2 {
		if a := s.digest("digest", event("down"), false); a.recorded != "" || a.failed != "" {
			t.Errorf("with its states not to be had it is answered %+v", a)
		}
	}
	o.down.Store(false)
	if a := s.digest("digest", event("down"), false); a.recorded == "" {
		t.Error("with its states to be had again it is run")
	}
	if n := o.runsOf("digest") - before; n != 2 {
		t.Errorf("%d runs while states were not to be had", n)
	}

	failing := map[string]any{"salt": "fail", "fail": true}
	for range 2 {
		if a := s.digest("digest", failing, false); a.failed == "" || a.recorded != "" {
			t.Errorf("a failing run is answered %+v", a)
		}
	}
}
