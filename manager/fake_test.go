package manager_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/manager"
)

// fakeWorker makes instances out of nothing, takes the time and fails as it
// is told, and complains about every use that hearth.Worker does not allow.
type fakeWorker struct {
	mu         sync.Mutex
	bootTime   time.Duration // of an instance or a slot
	loadTime   time.Duration
	invokeTime time.Duration
	// Faults; nil is none.
	onNewInstance func() error
	onNewSlot     func() error
	onLoad        func(*hearth.Function) error
	onProvision   func(*hearth.Function) error // after Load
	onInvoke      func(*fakeContainer, *hearth.Invocation) (r *hearth.Result, reusable bool, err error)
	onDestroy     func() error
	onResize      func(*fakeContainer) error
	ignoreContext bool
	// lateLoad has Load begin when everything else of the moment has
	// happened, so that what is ended at the same time is not counted with it.
	lateLoad bool
	// cutting says that a container may be destroyed while it serves.
	cutting bool

	serial     int
	instances  map[*fakeInstance]bool
	envs       map[hearth.Key]int // loaded or being loaded, and neither dead nor being destroyed
	maxEnvs    map[hearth.Key]int
	unloaded   int // slots that exist and were not loaded
	loadedMiB  int
	maxLoaded  int
	complaints []string
}

func newFakeWorker() *fakeWorker {
	return &fakeWorker{instances: map[*fakeInstance]bool{}, envs: map[hearth.Key]int{}, maxEnvs: map[hearth.Key]int{}}
}

func (w *fakeWorker) complain(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.complaints = append(w.complaints, fmt.Sprintf(format, args...))
}

// check fails the test if the manager did what it must not.
func (w *fakeWorker) check(t testing.TB) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.complaints {
		t.Error(c)
	}
}

// set changes one of the times while the worker is in use.
func (w *fakeWorker) set(duration *time.Duration, d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	*duration = d
}

func (w *fakeWorker) id(kind string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.serial++
	return kind + "-" + strconv.Itoa(w.serial)
}

// wait takes as long as d says at the moment; a test may change it.
func (w *fakeWorker) wait(ctx context.Context, duration *time.Duration) error {
	w.mu.Lock()
	d := *duration
	w.mu.Unlock()
	if d <= 0 {
		return ctx.Err()
	}
	if w.ignoreContext {
		time.Sleep(d)
		return nil
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (w *fakeWorker) BootOf(f *hearth.Function) hearth.Boot {
	if len(f.Runtime) > 4 && f.Runtime[:4] == "node" {
		return "node"
	}
	return ""
}

func (w *fakeWorker) SlotMiB(b hearth.Boot) float64 {
	if b == "node" {
		return 32.5
	}
	return 0.47
}

func (w *fakeWorker) NewInstance(ctx context.Context, boot hearth.Boot) (hearth.Instance, error) {
	if err := w.wait(ctx, &w.bootTime); err != nil {
		return nil, err
	}
	if w.onNewInstance != nil {
		if err := w.onNewInstance(); err != nil {
			return nil, err
		}
	}
	i := &fakeInstance{w: w, id: w.id("i"), all: map[*fakeContainer]bool{}}
	i.first = i.newContainer(boot)
	w.mu.Lock()
	w.instances[i] = true
	w.mu.Unlock()
	return i, nil
}

// pooled returns the first slots that live and were not loaded.
func (w *fakeWorker) pooled() []*fakeContainer {
	w.mu.Lock()
	defer w.mu.Unlock()
	var cs []*fakeContainer
	for i := range w.instances {
		if i.first.fn == nil {
			cs = append(cs, i.first)
		}
	}
	return cs
}

func (w *fakeWorker) living() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.instances)
}

type fakeInstance struct {
	w         *fakeWorker
	id        string
	first     *fakeContainer
	account   hearth.Account
	all       map[*fakeContainer]bool
	destroyed bool
}

func (i *fakeInstance) ID() string                  { return i.id }
func (i *fakeInstance) FirstSlot() hearth.Container { return i.first }

func (i *fakeInstance) newContainer(boot hearth.Boot) *fakeContainer {
	c := &fakeContainer{w: i.w, inst: i, id: i.w.id("c"), boot: boot, done: make(chan struct{})}
	i.w.mu.Lock()
	i.all[c] = true
	i.w.unloaded++
	i.w.mu.Unlock()
	return c
}

func (i *fakeInstance) NewSlot(ctx context.Context, boot hearth.Boot) (hearth.Container, error) {
	if err := i.w.wait(ctx, &i.w.bootTime); err != nil {
		return nil, err
	}
	if i.w.onNewSlot != nil {
		if err := i.w.onNewSlot(); err != nil {
			return nil, err
		}
	}
	return i.newContainer(boot), nil
}

func (i *fakeInstance) Destroy() error {
	i.w.mu.Lock()
	i.destroyed = true
	delete(i.w.instances, i)
	var left []*fakeContainer
	for c := range i.all {
		left = append(left, c)
	}
	i.w.mu.Unlock()
	for _, c := range left {
		c.Destroy()
	}
	return nil
}

type fakeContainer struct {
	w    *fakeWorker
	inst *fakeInstance
	id   string
	boot hearth.Boot
	done chan struct{}
	once sync.Once

	using       atomic.Int32
	serving     atomic.Bool
	provisioned bool             // guarded by w.mu
	tenant      string           // of its first invocation; guarded by w.mu
	served      bool             // guarded by w.mu
	fn          *hearth.Function // guarded by w.mu
	counted     bool             // in w.envs; guarded by w.mu
	destroyed   bool             // guarded by w.mu
	// attended is set by an onInvoke: extensions go on until it is closed.
	attended chan struct{}
}

// Settled implements hearth.Container.
func (c *fakeContainer) Settled() <-chan struct{} { return c.attended }

// uncount says that the container is no environment any more.
func (c *fakeContainer) uncount() {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if c.counted {
		c.counted = false
		c.w.envs[c.fn.Key()]--
	}
}

func (c *fakeContainer) use(what string) func() {
	if c.using.Add(1) != 1 {
		c.w.complain("%s: %s while something else was going on in it", c.id, what)
	}
	return func() { c.using.Add(-1) }
}

func (c *fakeContainer) ID() string            { return c.id }
func (c *fakeContainer) Done() <-chan struct{} { return c.done }
func (c *fakeContainer) Usage() hearth.Usage   { return hearth.Usage{MemoryMiB: 1} }
func (c *fakeContainer) Idle()                 { defer c.use("Idle")() }

// die ends the environment by itself.
func (c *fakeContainer) die() {
	c.uncount()
	c.once.Do(func() { close(c.done) })
}

func (c *fakeContainer) dead() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

func (c *fakeContainer) Provision(ctx context.Context, f *hearth.Function, t *hearth.Timeline) error {
	c.w.mu.Lock()
	c.provisioned = true
	c.w.mu.Unlock()
	if err := c.Load(ctx, f, t); err != nil {
		return err
	}
	if c.w.onProvision != nil {
		return c.w.onProvision(f)
	}
	return nil
}

func (c *fakeContainer) Load(ctx context.Context, f *hearth.Function, t *hearth.Timeline) error {
	defer c.use("Load")()
	w := c.w
	if w.lateLoad {
		time.Sleep(time.Nanosecond)
	}
	w.mu.Lock()
	if c.fn != nil {
		w.complaints = append(w.complaints, c.id+": loaded twice")
	}
	if a := c.inst.account; a != "" && a != f.Account {
		w.complaints = append(w.complaints, fmt.Sprintf("instance %s of account %s was given code of %s", c.inst.id, a, f.Account))
	}
	c.inst.account = f.Account
	if !c.destroyed {
		c.fn, c.counted = f, true
		w.unloaded--
		w.envs[f.Key()]++
		w.maxEnvs[f.Key()] = max(w.maxEnvs[f.Key()], w.envs[f.Key()])
		w.loadedMiB += f.MemoryMiB
		w.maxLoaded = max(w.maxLoaded, w.loadedMiB)
	}
	w.mu.Unlock()
	if err := w.wait(ctx, &w.loadTime); err != nil {
		return err
	}
	if w.onLoad != nil {
		if err := w.onLoad(f); err != nil {
			return err
		}
	}
	if c.dead() {
		return hearth.Errorf(hearth.ContainerGone, "dead slot")
	}
	t.End(hearth.StageInit, time.Now())
	return nil
}

func (c *fakeContainer) Invoke(ctx context.Context, inv *hearth.Invocation) (*hearth.Result, bool, error) {
	defer c.use("Invoke")()
	c.serving.Store(true)
	defer c.serving.Store(false)
	w := c.w
	w.mu.Lock()
	if c.fn == nil || c.fn.Key() != inv.Function.Key() {
		w.complaints = append(w.complaints, c.id+": an invocation of another function")
	}
	if c.served && c.tenant != inv.TenantID {
		w.complaints = append(w.complaints, fmt.Sprintf("%s served the tenants %q and %q", c.id, c.tenant, inv.TenantID))
	}
	if c.fn != nil && c.fn.MemoryMiB < inv.MemoryMiB {
		w.complaints = append(w.complaints, fmt.Sprintf("%s has %d MiB, and was given an invocation that asked for %d", c.id, c.fn.MemoryMiB, inv.MemoryMiB))
	}
	c.served, c.tenant = true, inv.TenantID
	destroyed := c.destroyed
	w.mu.Unlock()
	if destroyed || c.dead() {
		return nil, false, hearth.Errorf(hearth.ContainerGone, "dead")
	}
	if w.onInvoke != nil {
		return w.onInvoke(c, inv)
	}
	if err := w.wait(ctx, &w.invokeTime); err != nil {
		return nil, false, hearth.Errorf(hearth.Canceled, "%w", err)
	}
	inv.Timeline.End(hearth.StageRun, time.Now())
	return &hearth.Result{Payload: inv.Payload, Version: inv.Function.Version}, true, nil
}

// Resize is what the manager may ask of an idle container, or of one that it
// holds for an invocation.
func (c *fakeContainer) Resize(mib int) error {
	defer c.use("Resize")()
	w := c.w
	if w.onResize != nil {
		if err := w.onResize(c); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.destroyed {
		return nil
	}
	w.loadedMiB += mib - c.fn.MemoryMiB
	w.maxLoaded = max(w.maxLoaded, w.loadedMiB)
	f := *c.fn
	f.MemoryMiB = mib
	c.fn = &f
	return nil
}

func (c *fakeContainer) memory() int {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	return c.fn.MemoryMiB
}

func (c *fakeContainer) Destroy() error {
	w := c.w
	if c.serving.Load() && !c.dead() && !w.cutting {
		w.complain("%s: destroyed while it served", c.id)
	}
	c.uncount()
	var err error
	if w.onDestroy != nil {
		err = w.onDestroy()
	}
	w.mu.Lock()
	if !c.destroyed {
		c.destroyed = true
		delete(c.inst.all, c)
		if c.fn == nil {
			w.unloaded--
		} else {
			w.loadedMiB -= c.fn.MemoryMiB
		}
	}
	w.mu.Unlock()
	c.die()
	return err
}

// containers returns the loaded containers that live.
func (w *fakeWorker) containers() []*fakeContainer {
	w.mu.Lock()
	defer w.mu.Unlock()
	var cs []*fakeContainer
	for i := range w.instances {
		for c := range i.all {
			if c.fn != nil {
				cs = append(cs, c)
			}
		}
	}
	return cs
}

// recorder keeps decisions for a test.
type recorder struct {
	mu  sync.Mutex
	all []hearth.Decision
}

func (r *recorder) Record(d *hearth.Decision) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, *d)
}

func (r *recorder) kinds() map[hearth.DecisionKind]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := map[hearth.DecisionKind]int{}
	for _, d := range r.all {
		n[d.Kind]++
	}
	return n
}

func newManager(t testing.TB, w *fakeWorker, change func(*manager.Config)) *manager.Manager {
	t.Helper()
	// What goes by the machine's processors is as on one of two, everywhere.
	cfg := manager.Config{Worker: w, Clock: clock.System(), Seed: 1, MachineMiB: 16384, BootConcurrency: 2, MakeConcurrency: 32, PrepareConcurrency: 8, KeepThrough: true}
	if change != nil {
		change(&cfg)
	}
	m, err := manager.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// drain ends m and checks that nothing is left.
func drain(t testing.TB, m *manager.Manager, w *fakeWorker) {
	t.Helper()
	if err := m.Drain(context.Background()); err != nil {
		t.Errorf("drain: %v", err)
	}
	if s := m.Stats(); s.CommittedMiB != 0 || s.PoolMiB != 0 || s.Containers != 0 || s.Instances != 0 {
		t.Errorf("after the drain something is still counted: %+v", s)
	}
	if n := w.living(); n != 0 {
		t.Errorf("%d instances live after the drain", n)
	}
	w.check(t)
}

var generation atomic.Uint64

func function(account hearth.Account, name string, mib int) *hearth.Function {
	return &hearth.Function{Account: account, Region: hearth.DefaultRegion, Name: name, Version: hearth.Latest,
		Generation: generation.Add(1), MemoryMiB: mib, Timeout: 3 * time.Second, State: hearth.Active}
}

func invocation(f *hearth.Function) *hearth.Invocation {
	inv := &hearth.Invocation{RequestID: strconv.FormatUint(rand.Uint64(), 16), Account: f.Account, Name: f.Name, Function: f, Payload: []byte(`{}`)}
	inv.Timeline.Begin(time.Now())
	return inv
}

// invoke runs f once and returns the invocation.
func invoke(t testing.TB, m *manager.Manager, f *hearth.Function) *hearth.Invocation {
	t.Helper()
	inv := invocation(f)
	if _, err := m.Invoke(context.Background(), inv); err != nil {
		t.Errorf("invoke %s: %v", f.Name, err)
	}
	return inv
}

// together runs f n times at once and returns the invocations that succeeded
// and the errors of the others.
func together(m *manager.Manager, f *hearth.Function, n int) (ok []*hearth.Invocation, failed []error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			inv := invocation(f)
			_, err := m.Invoke(context.Background(), inv)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = append(failed, err)
			} else {
				ok = append(ok, inv)
			}
		})
	}
	wg.Wait()
	return ok, failed
}
