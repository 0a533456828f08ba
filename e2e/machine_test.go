package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/archive"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/decision"
	"github.com/hearth-faas/hearth/frontend"
	"github.com/hearth-faas/hearth/identity"
	"github.com/hearth-faas/hearth/manager"
	"github.com/hearth-faas/hearth/registry"
	"github.com/hearth-faas/hearth/runtimes"
	"github.com/hearth-faas/hearth/sandbox/egress"
	"github.com/hearth-faas/hearth/sandbox/namespace"
	"github.com/hearth-faas/hearth/store/files"
	"github.com/hearth-faas/hearth/store/sqlite"
	"github.com/hearth-faas/hearth/worker"
	"github.com/hearth-faas/hearth/worker/logs"
)

// fullScenarios tells whether the acceptance scenarios run at their whole
// length: make scenarios sets HEARTH_SCENARIOS=full, and runs each five times.
func fullScenarios() bool { return os.Getenv("HEARTH_SCENARIOS") == "full" }

// machine is the parts of a server put together in this process, as package
// server does it, for what its API has no way to ask for yet: several
// accounts. What runs in it are real sandboxes.
type machine struct {
	t         testing.TB
	dir       string
	worker    *worker.Worker
	manager   *manager.Manager
	registry  *registry.Registry
	frontend  *frontend.Frontend
	decisions *decision.Recorder

	mu      sync.Mutex
	opened  map[string]int // how often each package's archive was opened, by SHA-256
	closers []func() error
	closing sync.Once
}

// capacity is what a machine is given.
type capacity struct {
	memoryMiB, instanceMiB, poolMiB int
	concurrency                     int           // of each account; 0 is the frontend's own
	queueWait                       time.Duration // 0 is the manager's own
	codeCacheBytes                  int64         // 0 is the worker's own
	// wrap, if it is set, stands between the manager and its worker; change
	// alters the manager's configuration.
	wrap   func(hearth.Worker) hearth.Worker
	change func(*manager.Config)
}

// newMachine makes one with a data folder of its own, until the test ends.
func newMachine(t testing.TB, c capacity) *machine {
	t.Helper()
	dir, err := os.MkdirTemp(scratch, "machine-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // the sandboxes' users enter it
		t.Fatal(err)
	}
	m := &machine{t: t, dir: dir, opened: map[string]int{}}
	t.Cleanup(m.close)
	if err := m.open(c); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *machine) open(c capacity) error {
	ctx, clk, log := context.Background(), clock.System(), slog.New(slog.NewTextHandler(io.Discard, nil))
	authority, err := identity.LoadOrCreate(identity.Config{Dir: m.dir, Clock: clk, Log: log})
	if err != nil {
		return err
	}
	if m.decisions, err = decision.Open(decision.Config{Clock: clk, Log: log, Dir: filepath.Join(m.dir, "decisions")}); err != nil {
		return err
	}
	m.closers = append(m.closers, m.decisions.Close)
	logStore, err := logs.Open(logs.Options{Dir: filepath.Join(m.dir, "logs"), Clock: clk, Log: log})
	if err != nil {
		return err
	}
	m.closers = append(m.closers, logStore.Close)
	set, err := runtimes.Discover(ctx, runtimes.Options{
		Files: filepath.Join(m.dir, "runtimes"), Path: os.Getenv("PATH"), Home: os.Getenv("HOME"),
	})
	if err != nil {
		return err
	}
	if err := set.Install(ctx); err != nil {
		return err
	}
	network, err := egress.New(egress.Config{Clock: clk, Log: log})
	if err != nil {
		return err
	}
	m.closers = append(m.closers, network.Close)
	// The program that make build has put into the binary under test.
	code, err := os.ReadFile("../cmd/hearth/libexec/hearth-sandbox")
	if err != nil {
		return err
	}
	program, err := namespace.Unpack(m.dir, code)
	if err != nil {
		return err
	}
	driver, err := namespace.New(ctx, namespace.Config{Program: program, DataDir: m.dir, Network: network, Log: log})
	if err != nil {
		return err
	}
	m.closers = append(m.closers, driver.Close)
	m.worker, err = worker.New(worker.Config{
		Driver: driver, Runtimes: set, Logs: logStore, Clock: clk, Log: log, Packages: m, DataDir: m.dir,
		Session: func(account hearth.Account, function, role string, ttl time.Duration) (identity.Session, error) {
			return authority.Mint(identity.Grant{Account: account, Role: role, Name: function}, ttl)
		},
		Unpack: func(ctx context.Context, r io.ReaderAt, size int64, dir string) error {
			return archive.Unpack(ctx, r, size, dir, archive.Lambda)
		},
		CodeCacheBytes: c.codeCacheBytes,
	})
	if err != nil {
		return err
	}
	least := map[hearth.Boot]int{"": 4}
	for _, boot := range set.Boots() {
		least[boot] = 1
	}
	cfg := manager.Config{
		Worker: m.worker, Clock: clk, Recorder: m.decisions, Log: log, Seed: 1,
		MachineMiB: c.memoryMiB + c.poolMiB, InstanceMiB: c.instanceMiB,
		PoolBudgetMiB: float64(c.poolMiB), PoolMin: least, QueueWait: c.queueWait,
	}
	if c.wrap != nil {
		cfg.Worker = c.wrap(m.worker)
	}
	if c.change != nil {
		c.change(&cfg)
	}
	m.manager, err = manager.New(cfg)
	if err != nil {
		return err
	}
	m.closers = append(m.closers, func() error { return m.manager.Drain(context.Background()) })
	records, err := sqlite.Open(ctx, m.dir)
	if err != nil {
		return err
	}
	m.closers = append(m.closers, records.Close)
	blobs, err := files.Open(filepath.Join(m.dir, "blobs"))
	if err != nil {
		return err
	}
	m.registry, err = registry.Open(ctx, registry.Config{
		Store: records, Blobs: blobs, Clock: clk, Region: hearth.DefaultRegion, Log: log, Secrets: authority.Key(),
		Prepare: m.worker.Prepare, Changed: m.manager.Changed,
	})
	if err != nil {
		return err
	}
	m.closers = append(m.closers, m.registry.Close)
	m.frontend, err = frontend.New(frontend.Config{
		Functions: m.registry, Manager: m.manager, Clock: clk, Recorder: m.decisions, Policies: m.registry, Limits: frontend.NewLimits(c.concurrency, 0),
	})
	return err
}

// OpenPackage counts from outside the worker what it fetches.
func (m *machine) OpenPackage(ctx context.Context, sha256 string) (io.ReadSeekCloser, int64, error) {
	m.mu.Lock()
	m.opened[sha256]++
	m.mu.Unlock()
	return m.registry.OpenPackage(ctx, sha256)
}

// fetches is how often the package was fetched.
func (m *machine) fetches(sha256 string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.opened[sha256]
}

// close stops everything, the last first. It may be called again.
func (m *machine) close() {
	m.closing.Do(func() {
		for i := len(m.closers) - 1; i >= 0; i-- {
			if err := m.closers[i](); err != nil {
				m.t.Errorf("the machine does not end well: %v", err)
			}
		}
	})
}

// deploy registers the function for the account and waits until it is active.
func (m *machine) deploy(account hearth.Account, f function) *hearth.Function {
	m.t.Helper()
	ctx := context.Background()
	_, err := m.registry.Create(ctx, registry.Create{Zip: f.zip, Function: hearth.Function{
		Account: account, Name: f.name, Runtime: f.runtime, Handler: f.handler, MemoryMiB: int(f.memory),
		Timeout: time.Duration(f.timeout) * time.Second, TmpMiB: 512, Architectures: []string{"x86_64"}, PackageType: "Zip",
		Role: "arn:aws:iam::" + string(account) + ":role/test", Env: f.env,
	}})
	if err != nil {
		m.t.Fatalf("create %s of %s: %v", f.name, account, err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		fn, err := m.registry.Resolve(ctx, account, f.name, "")
		if err == nil {
			return fn
		}
		if hearth.KindOf(err) != hearth.Conflict || time.Now().After(deadline) {
			m.t.Fatalf("%s of %s does not become active: %v", f.name, account, err)
		}
	}
}

// invoke runs the account's function once, as the API does it for a caller.
func (m *machine) invoke(account hearth.Account, name string, payload []byte) (*hearth.Invocation, *hearth.Result, error) {
	inv := &hearth.Invocation{Account: account, Name: name, Payload: payload, Caller: hearth.Identity{Account: account}}
	inv.Timeline.Begin(time.Now())
	r, err := m.frontend.Invoke(context.Background(), inv)
	inv.Timeline.End(hearth.StageAnswer, time.Now())
	m.frontend.Done(inv)
	return inv, r, err
}

// records are all decisions so far, oldest first.
func (m *machine) records() []hearth.Decision {
	m.t.Helper()
	found, err := m.decisions.Query(decision.Filter{Limit: 1 << 20})
	if err != nil {
		m.t.Fatal(err)
	}
	for i, j := 0, len(found)-1; i < j; i, j = i+1, j-1 {
		found[i], found[j] = found[j], found[i]
	}
	for i, d := range found {
		if d.Seq != uint64(i+1) {
			m.t.Fatalf("decision %d is number %d: there is a gap", i+1, d.Seq)
		}
	}
	return found
}

// awaitPool waits until the warming pool holds what it holds at least.
func (m *machine) awaitPool() {
	m.t.Helper()
	await(m.t, patience, "the warming pool to be full", func() bool {
		s := m.manager.Stats()
		return s.PoolReady[""] >= 4 && s.PoolReady["node20"] >= 1 && s.PoolReady["python3.11"] >= 1
	})
}

// patience is how long a test waits for what has to come about. It costs nothing
// when all is well, so that it is enough for a machine that is slow or has much
// else to do.
const patience = 2 * time.Minute

// await waits until cond holds. It asks again and again: what it waits for
// announces itself to nobody.
func await(t testing.TB, patience time.Duration, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s in vain", patience, what)
		}
	}
}

// processesIn finds the processes that are in a cgroup of the given instance
// or container.
func processesIn(id string) (pids []int) {
	if id == "" { // which is in every name
		return nil
	}
	files, _ := filepath.Glob("/proc/[0-9]*/cgroup")
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(b), id) { // one that has ended has no groups
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// kill ends all processes of an instance from outside, as an operator or the
// kernel might, and returns how many there were.
func kill(t testing.TB, instance string) (n int) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) { // one may be being born
		pids := processesIn(instance)
		if len(pids) == 0 {
			return n
		}
		n = max(n, len(pids))
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				t.Fatal(err)
			}
		}
	}
	t.Fatalf("processes of %s do not end", instance)
	return n
}

// monotonic is the kernel's clock that all processes of a machine share, in
// sandboxes as well.
func monotonic() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(fmt.Sprint("no monotonic clock: ", err))
	}
	return time.Duration(ts.Nano())
}
