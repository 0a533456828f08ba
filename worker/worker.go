// Package worker makes this machine's instances and containers: it puts code
// into sandboxes, runs the init phase, hands invocations to the runtime API,
// enforces timeouts, tells crashes apart, freezes what has nothing to do, and
// writes the log that a function's owner sees.
package worker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/identity"
	"github.com/hearth-faas/hearth/runtimes"
	"github.com/hearth-faas/hearth/sandbox"
	"github.com/hearth-faas/hearth/worker/logs"
)

// Config is what a Worker is made of.
type Config struct {
	Driver   sandbox.Driver
	Runtimes *runtimes.Set
	Packages Packages
	Images   Images
	// Unpack unpacks an archive into a directory that does not exist yet, all
	// or nothing.
	Unpack func(ctx context.Context, r io.ReaderAt, size int64, dir string) error
	Logs   logs.Keeper
	// Session makes the credentials that a function's code finds in its
	// environment, good for ttl.
	Session func(account hearth.Account, function, role string, ttl time.Duration) (identity.Session, error)
	// Endpoint is the URL at which code inside reaches Hearth's API; "" if it
	// cannot.
	Endpoint string
	DataDir  string
	Clock    hearth.Clock
	Log      *slog.Logger
	Recorder hearth.Recorder // of what is fetched; nil is nobody
	Meter    hearth.Meter    // of what containers use; nil is nobody

	// FreezeAfter is how long a container stays thawed without work; zero is
	// DefaultFreezeAfter.
	FreezeAfter time.Duration
	// InitTimeout is how long an init phase may take before it is left to the
	// first invocation; zero is DefaultInitTimeout.
	InitTimeout time.Duration
	// FullCPUMiB is the memory that comes with one whole processor; zero is
	// DefaultFullCPUMiB. LinkBytesPerMiB is how many bytes a second of the
	// network, in each direction, come with a MiB; zero is no limit.
	FullCPUMiB      float64
	LinkBytesPerMiB float64
	// CodeCacheBytes caps the unpacked packages that nobody uses; zero is
	// DefaultCodeCacheBytes.
	CodeCacheBytes int64
	// FetchRate is how many bytes of packages come to this machine in a second
	// at most; zero is any number.
	FetchRate int64
}

// Defaults of Config.
const (
	DefaultFreezeAfter    = 100 * time.Millisecond
	DefaultInitTimeout    = 10 * time.Second // the service's
	DefaultCodeCacheBytes = 4 << 30
	DefaultFullCPUMiB     = 1769 // the service's
)

// The service's limits.
const (
	maxOpenFiles = 1024
	maxProcesses = 1024
	// sessionTTL is the life of the credentials in a container's environment;
	// containers are retired before it ends.
	sessionTTL    = 12 * time.Hour
	containerLife = sessionTTL - 30*time.Minute
)

// Worker makes instances and containers. Safe for concurrent use.
type Worker struct {
	cfg  Config
	code *codeCache

	sandboxes sync.Map // the id of each container by that of its sandbox, while it lives
	metered   sync.Map // of *container, those that have a function and have not been destroyed

	contested contested

	mu    sync.Mutex
	slots map[hearth.Boot]float64 // MiB that a ready slot was seen to cost

	renewed     atomic.Int64 // when credentials were made anew, in Unix nanoseconds
	renewSpread time.Duration
	patience    patience
}

// patience is how long the processes of a container may take to end. Tests
// change it: how quickly one ends on a loaded machine is not theirs to say.
type patience struct {
	exit     time.Duration // exitGrace
	report   time.Duration // reportGrace
	internal time.Duration // internalShutdown
	external time.Duration // externalShutdown
	runtime  time.Duration // runtimeShutdown
}

// New makes a worker; nothing runs yet.
func New(cfg Config) (*Worker, error) {
	if cfg.FreezeAfter == 0 {
		cfg.FreezeAfter = DefaultFreezeAfter
	}
	if cfg.InitTimeout == 0 {
		cfg.InitTimeout = DefaultInitTimeout
	}
	if cfg.FullCPUMiB == 0 {
		cfg.FullCPUMiB = DefaultFullCPUMiB
	}
	if cfg.CodeCacheBytes == 0 {
		cfg.CodeCacheBytes = DefaultCodeCacheBytes
	}
	w := &Worker{cfg: cfg, slots: map[hearth.Boot]float64{}, renewSpread: renewSpread, patience: patience{
		exit: exitGrace, report: reportGrace,
		internal: internalShutdown, external: externalShutdown, runtime: runtimeShutdown,
	}}
	code, err := newCodeCache(filepath.Join(cfg.DataDir, "code"), cfg.CodeCacheBytes, w.fetching(), cfg.Unpack)
	if err != nil {
		return nil, err
	}
	w.code = code
	return w, nil
}

// Prepare makes f's code ready on this node, so that its first invocation
// does not wait for it.
func (w *Worker) Prepare(ctx context.Context, f *hearth.Function) error {
	if isImage(f) {
		_, release, err := w.cfg.Images.Acquire(ctx, f)
		if err == nil {
			release()
		}
		return err
	}
	if _, err := w.cfg.Runtimes.For(f.Runtime); err != nil {
		return err
	}
	for _, p := range packagesOf(f) {
		_, release, err := w.code.Acquire(ctx, f, p)
		if err != nil {
			return err
		}
		release()
	}
	return nil
}

// ContainerOf names the container whose code runs in the sandbox with that id;
// ok is false if there is none. It takes no lock.
func (w *Worker) ContainerOf(sandbox string) (id string, ok bool) {
	v, ok := w.sandboxes.Load(sandbox)
	if !ok {
		return "", false
	}
	return v.(string), true
}

// Fetches is how often a package was unpacked on this node.
func (w *Worker) Fetches() uint64 { return w.code.Fetches() }

// packagesOf lists f's packages, the code first.
func packagesOf(f *hearth.Function) []hearth.Package {
	out := []hearth.Package{f.Package}
	for _, l := range f.Layers {
		out = append(out, l.Package)
	}
	return out
}

// BootOf implements hearth.Worker.
func (w *Worker) BootOf(f *hearth.Function) hearth.Boot {
	if isImage(f) {
		return "" // it brings everything
	}
	choice, err := w.cfg.Runtimes.For(f.Runtime)
	if err != nil {
		return "" // Load will say so to the caller
	}
	if _, unbooted := choice.NeedsUnbooted(f.Env); unbooted {
		return ""
	}
	return choice.Boot()
}

// Estimates of what a ready slot costs, in MiB, until one was measured.
const (
	bareSlotMiB   = 1
	bootedSlotMiB = 40
)

// SlotMiB implements hearth.Worker. It is the most that a slot of the boot was
// seen to use on this machine.
func (w *Worker) SlotMiB(boot hearth.Boot) float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch mib, seen := w.slots[boot]; {
	case seen:
		return mib
	case boot == "":
		return bareSlotMiB
	default:
		return bootedSlotMiB
	}
}

// measured notes what a ready slot uses.
func (w *Worker) measured(boot hearth.Boot, bytes int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.slots[boot] = max(w.slots[boot], float64(bytes)/(1<<20))
}

// NewInstance implements hearth.Worker.
func (w *Worker) NewInstance(ctx context.Context, boot hearth.Boot) (hearth.Instance, error) {
	id := newID("i-")
	sb, err := w.cfg.Driver.NewInstance(ctx, id)
	if err != nil {
		return nil, hearth.Errorf(hearth.Service, "make instance %s: %w", id, err)
	}
	in := &instance{w: w, id: id, sb: sb}
	if in.first, err = in.newSlot(ctx, boot); err != nil {
		if derr := in.Destroy(); derr != nil {
			w.cfg.Log.Error("destroy instance", "instance", id, "err", derr)
		}
		return nil, err
	}
	return in, nil
}

// instance is one sandbox instance with its containers.
type instance struct {
	w     *Worker
	id    string
	sb    sandbox.Instance
	first *container

	mu         sync.Mutex
	containers []*container
	destroyed  bool
}

func (in *instance) ID() string                  { return in.id }
func (in *instance) FirstSlot() hearth.Container { return in.first }

func (in *instance) NewSlot(ctx context.Context, boot hearth.Boot) (hearth.Container, error) {
	c, err := in.newSlot(ctx, boot)
	if err != nil {
		return nil, err // not a typed nil
	}
	return c, nil
}

func (in *instance) newSlot(ctx context.Context, boot hearth.Boot) (*container, error) {
	c := &container{w: in.w, in: in, id: newID("c-"), boot: boot, done: make(chan struct{})}
	env, err := in.newEnvironment(ctx, boot)
	if err != nil {
		return nil, err
	}
	c.env = env
	c.meterFrom(env)
	in.mu.Lock()
	destroyed := in.destroyed
	if !destroyed {
		in.containers = append(in.containers, c)
	}
	in.mu.Unlock()
	if destroyed {
		err := env.destroy(nil)
		c.meterEnd()
		return nil, in.gone(err)
	}
	go c.watch(env) // also while it waits: a slot that has died must be replaced
	return c, nil
}

// gone is the error of what was asked of an instance that has been destroyed.
func (in *instance) gone(cause error) error {
	return &hearth.Error{Op: "worker.Instance", Subject: in.id, Kind: hearth.ContainerGone, Message: "the instance was destroyed", Err: cause}
}

// forget is told by a container that it has been destroyed.
func (in *instance) forget(c *container) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for i, x := range in.containers {
		if x == c {
			in.containers = append(in.containers[:i], in.containers[i+1:]...)
			return
		}
	}
}

// Destroy implements hearth.Instance.
func (in *instance) Destroy() error {
	in.mu.Lock()
	in.destroyed = true
	containers := append([]*container(nil), in.containers...)
	in.mu.Unlock()
	errs := make([]error, len(containers)+1)
	var all sync.WaitGroup // each may have a shutdown phase
	for i, c := range containers {
		all.Go(func() { errs[i] = c.Destroy() })
	}
	all.Wait()
	errs[len(containers)] = in.sb.Destroy()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("destroy instance %s: %w", in.id, err)
	}
	return nil
}

func newID(prefix string) string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand crashes the program instead
	return prefix + hex.EncodeToString(b[:])
}
