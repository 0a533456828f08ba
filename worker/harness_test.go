package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/identity"
	"github.com/hearth-faas/hearth/runtimes"
	"github.com/hearth-faas/hearth/worker/logs"
)

// The runtimes of the tests: a real set, in which the one interpreter is this
// test program under another name.
var (
	testRuntimes *runtimes.Set
	testBoot     hearth.Boot = "node22"
)

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "node" {
		fmt.Println("v22.1.0")
		return
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "hearth-worker-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if testRuntimes, err = discover(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// discover makes the set of runtimes, with an interpreter in dir.
func discover(dir string) (*runtimes.Set, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	code, err := os.ReadFile(self)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "node"), code, 0o755); err != nil {
		return nil, err
	}
	set, err := runtimes.Discover(context.Background(), runtimes.Options{Files: dir, Dirs: []string{dir}, Only: true})
	if err == nil && len(set.Interpreters()) != 1 {
		err = fmt.Errorf("the fake interpreter was not taken: %v", set.Rejected())
	}
	return set, err
}

// shiftedClock is the machine's clock, moved ahead by a test.
type shiftedClock struct {
	hearth.Clock
	ahead atomic.Int64
}

func (c *shiftedClock) Now() time.Time { return c.Clock.Now().Add(time.Duration(c.ahead.Load())) }

func (c *shiftedClock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// harness is a worker over a fake driver, with real logs.
type harness struct {
	testing.TB
	w        *Worker
	d        *fakeDriver
	logs     *logs.Store
	clock    *shiftedClock
	packages *fakePackages
	before   resources
	ended    sync.Once

	mu         sync.Mutex
	instances  []hearth.Instance
	functions  int
	requests   int
	complaints strings.Builder // what the worker told its operator
}

// soon is when what is about to happen has happened, however busy the machine
// is: nothing waits for so long that is as it should be.
const soon = time.Minute

// never is a FreezeAfter for tests in which nothing may freeze by itself.
const never = time.Hour

// newHarness makes a worker. When the test ends all instances are destroyed,
// and nothing may be left: no goroutine, no descriptor, no container.
func newHarness(t testing.TB, change ...func(*Config)) *harness {
	t.Helper()
	before := countResources()
	h := &harness{TB: t, d: newFakeDriver(), clock: &shiftedClock{Clock: clock.System()}, packages: &fakePackages{}}
	store, err := logs.Open(logs.Options{Dir: t.TempDir(), Clock: h.clock})
	if err != nil {
		t.Fatal(err)
	}
	h.logs = store
	cfg := Config{
		Driver: h.d, Runtimes: testRuntimes, Packages: h.packages, Unpack: unpackBootstrap, Logs: store,
		Session: func(hearth.Account, string, string, time.Duration) (identity.Session, error) {
			return identity.Session{AccessKeyID: "ASIATEST", SecretAccessKey: identity.NewSecret("secret"), SessionToken: identity.NewSecret("token")}, nil
		},
		Endpoint: "http://192.0.2.1:80", DataDir: t.TempDir(), Clock: h.clock,
		Log: slog.New(slog.NewTextHandler(h, nil)), FreezeAfter: never,
	}
	for _, f := range change {
		f(&cfg)
	}
	if h.w, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	h.w.code.fetching.again = time.Microsecond
	h.w.patience = patience{exit: exitGrace, report: soon, internal: soon, external: soon, runtime: soon}
	h.before = before
	t.Cleanup(h.end)
	return h
}

// end destroys everything, and checks that nothing is left.
func (h *harness) end() {
	h.ended.Do(func() {
		h.mu.Lock()
		instances := h.instances
		h.mu.Unlock()
		for _, in := range instances {
			if err := in.Destroy(); err != nil {
				h.Error(err)
			}
		}
		if err := h.logs.Close(); err != nil {
			h.Error(err)
		}
		h.d.check(h)
		h.before.check(h)
		if h.Failed() {
			h.Logf("the worker told its operator:\n%s", h.told())
		}
	})
}

// Write takes what the worker tells its operator.
func (h *harness) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.complaints.Write(p)
}

// told is what the worker has told its operator.
func (h *harness) told() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.complaints.String()
}

// resources are what a process can leak.
type resources struct{ goroutines, files int }

func countResources() resources {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		panic(err) // the tests need Linux, as the worker does
	}
	return resources{runtime.NumGoroutine(), len(entries)}
}

// check waits until no more is in use than there was.
func (r resources) check(t testing.TB) {
	t.Helper()
	for deadline := time.Now().Add(soon); ; time.Sleep(time.Millisecond) {
		now := countResources()
		if now.goroutines <= r.goroutines && now.files <= r.files {
			return
		}
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Errorf("not everything was given back: %+v before, %+v now\n%s", r, now, stacks[:runtime.Stack(stacks, true)])
			return
		}
	}
}

// eventually waits for something that is about to happen in another goroutine.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(soon); !ok(); time.Sleep(200 * time.Microsecond) {
		if time.Now().After(deadline) {
			t.Errorf("never came true: %s", what)
			return
		}
	}
}

// await waits for an event.
func await(t testing.TB, what string, event <-chan struct{}) {
	t.Helper()
	select {
	case <-event:
	case <-time.After(soon):
		t.Fatalf("never happened: %s", what)
	}
}

// unpackBootstrap makes a package with a bootstrap that can be executed, unless
// its archive ends in "bad".
func unpackBootstrap(_ context.Context, r io.ReaderAt, size int64, dir string) error {
	text := make([]byte, size)
	if _, err := r.ReadAt(text, 0); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if strings.HasSuffix(string(text), "bad") {
		return os.WriteFile(filepath.Join(dir, "readme"), text, 0o644)
	}
	return os.WriteFile(filepath.Join(dir, "bootstrap"), text, 0o755)
}

// function makes a function that runs p.
func (h *harness) function(p program, change ...func(*hearth.Function)) *hearth.Function {
	h.mu.Lock()
	h.functions++
	n := h.functions
	h.mu.Unlock()
	f := &hearth.Function{
		Account: hearth.DefaultAccount, Region: hearth.DefaultRegion, Name: fmt.Sprintf("f%d", n), Version: hearth.Latest,
		Generation: uint64(n), Runtime: "provided.al2023", Handler: "h", MemoryMiB: 128, TmpMiB: 512, Timeout: 10 * time.Second,
		Package: pkg(n),
	}
	for _, c := range change {
		c(f)
	}
	h.d.run(f.Name, p)
	return f
}

// timeout is a change of a function.
func timeout(d time.Duration) func(*hearth.Function) {
	return func(f *hearth.Function) { f.Timeout = d }
}

// instance makes an instance.
func (h *harness) instance(boot hearth.Boot) hearth.Instance {
	h.Helper()
	in, err := h.w.NewInstance(context.Background(), boot)
	if err != nil {
		h.Fatal(err)
	}
	h.mu.Lock()
	h.instances = append(h.instances, in)
	h.mu.Unlock()
	return in
}

// slot makes a slot in an instance of its own.
func (h *harness) slot(boot hearth.Boot) (*container, *fakeContainer) {
	h.Helper()
	c := h.instance(boot).FirstSlot().(*container)
	return c, c.env.sb.(*fakeContainer)
}

// load makes a container of f, in an instance of its own.
func (h *harness) load(f *hearth.Function) (*container, *fakeContainer) {
	h.Helper()
	c, sb := h.slot("")
	if err := c.Load(context.Background(), f, &hearth.Timeline{}); err != nil {
		h.Fatal(err)
	}
	return c, sb
}

// started makes a container that runs p.
func (h *harness) started(p program, change ...func(*hearth.Function)) (*container, *fakeContainer) {
	h.Helper()
	return h.load(h.function(p, change...))
}

// invocation makes an invocation of c's function.
func (h *harness) invocation(c *container, payload string) *hearth.Invocation {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.requests++
	inv := &hearth.Invocation{
		RequestID: fmt.Sprintf("00000000-0000-4000-8000-%012d", h.requests), Payload: []byte(payload), Function: c.f, Tail: true,
	}
	if c.f != nil { // otherwise it is a slot, which has to refuse
		inv.InvokedARN = c.f.ARN()
	}
	return inv
}

// invoke has c serve an event, and fails the test if it could not.
func (h *harness) invoke(c *container, payload string) (r *hearth.Result, reusable bool) {
	h.Helper()
	r, reusable, err := c.Invoke(context.Background(), h.invocation(c, payload))
	if err != nil {
		h.Fatalf("invoke: %v", err)
	}
	if reusable == isDone(c) {
		h.Errorf("reusable is %v, and the container's end %v", reusable, isDone(c))
	}
	return r, reusable
}

// serves checks that c answers an event.
func (h *harness) serves(c *container) {
	h.Helper()
	payload := fmt.Sprintf(`{"n":%d}`, time.Now().UnixNano())
	r, reusable := h.invoke(c, payload)
	if string(r.Payload) != payload || r.FunctionError != "" || !reusable {
		h.Fatalf("got %s %s, reusable %v; want %s", r.FunctionError, r.Payload, reusable, payload)
	}
}

// log is what c's stream holds.
func (h *harness) log(c *container) string {
	h.Helper()
	h.logs.Flush()
	page, err := h.logs.Events(context.Background(), c.f.Account, c.f.LogGroup(), c.name, logs.EventQuery{FromHead: true})
	if err != nil {
		h.Fatal(err)
	}
	var all strings.Builder
	for _, e := range page.Events {
		all.WriteString(e.Message)
	}
	return normal(all.String())
}

var (
	figures  = regexp.MustCompile(`\d+\.\d\d ms|Billed Duration: \d+ ms`)
	requests = regexp.MustCompile(`00000000-0000-4000-8000-0*(\d+)`)
	stamps   = regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z `)
	versions = regexp.MustCompile(`arn:aws:lambda:us-east-1::runtime:[0-9a-f]{64}`)
)

// normal takes out of a log what differs each time: a request is called by its
// number, and a duration t.
func normal(log string) string {
	log = figures.ReplaceAllStringFunc(log, func(s string) string {
		if strings.HasPrefix(s, "Billed") {
			return "Billed Duration: t"
		}
		return "t"
	})
	log = requests.ReplaceAllString(log, "#$1")
	log = stamps.ReplaceAllString(log, "")
	return versions.ReplaceAllString(log, "ARN")
}

// wantLog compares a container's log, of which begin is the start of the first
// lines that are of interest.
func (h *harness) wantLog(c *container, want ...string) {
	h.Helper()
	got := strings.ReplaceAll(h.log(c), "\t", " ")
	if want := strings.Join(want, "\n") + "\n"; got != want {
		h.Errorf("the log is\n%s\nwant\n%s", got, want)
	}
}

// The lines that every log of these tests has.
const initStart = "INIT_START Runtime Version: provided.al2023 Runtime Version ARN: ARN"

func startLine(n int) string { return fmt.Sprintf("START RequestId: #%d Version: $LATEST", n) }
func endLine(n int) string   { return fmt.Sprintf("END RequestId: #%d", n) }

// reportLine is the REPORT of a container's invocation; more is what comes
// after the memory.
func reportLine(n int, more string) string {
	return fmt.Sprintf("REPORT RequestId: #%d Duration: t Billed Duration: t Memory Size: 128 MB Max Memory Used: 5 MB %s", n, more)
}

func isDone(c hearth.Container) bool {
	select {
	case <-c.Done():
		return true
	default:
		return false
	}
}

func phaseOf(c *container) phase {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.phase
}

// wantFunctionError compares what a failed invocation's caller was told; #
// stands for the request's id.
func (h *harness) wantFunctionError(r *hearth.Result, body string) {
	h.Helper()
	if got := requests.ReplaceAllString(string(r.Payload), "#"); r.FunctionError != "Unhandled" || got != body {
		h.Errorf("got %q %s, want %s", r.FunctionError, got, body)
	}
}

var errTest = errors.New("told to fail")
