package worker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hearth-faas/hearth/sandbox"
)

// fakeDriver is a sandbox.Driver without sandboxes: its processes are
// goroutines of the test (process_test.go), while listeners, control sockets
// and output are real. It fails as it is told, and notes every use that package
// sandbox does not allow.
type fakeDriver struct {
	mu       sync.Mutex
	programs map[string]program                    // what a function or an extension runs, by its name
	boot     program                               // what a booted process does before
	on       map[string]func(*fakeContainer) error // called by methods, whose error it is
	calls    map[string]int
	made     []*fakeContainer
	wrong    []string
	live     atomic.Int64 // containers that were not destroyed yet
}

func newFakeDriver() *fakeDriver {
	return &fakeDriver{
		programs: map[string]program{}, boot: (*process).waitForFunction,
		on: map[string]func(*fakeContainer) error{}, calls: map[string]int{},
	}
}

var _ sandbox.Driver = (*fakeDriver)(nil)

func (d *fakeDriver) Name() string           { return "fake" }
func (d *fakeDriver) Report() sandbox.Report { return sandbox.Report{Driver: "fake"} }
func (d *fakeDriver) Close() error           { return nil }

// run says what the function of that name does.
func (d *fakeDriver) run(function string, p program) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.programs[function] = p
}

// hook has f called by the method of that name; nil takes it away. c is nil
// where there is no container.
func (d *fakeDriver) hook(method string, f func(c *fakeContainer) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.on[method] = f
}

// fail makes the next call of a method fail.
func (d *fakeDriver) fail(method string, err error) {
	var once atomic.Bool
	d.hook(method, func(*fakeContainer) error {
		if once.CompareAndSwap(false, true) {
			return err
		}
		return nil
	})
}

// called counts a call and gives the error that it is to have.
func (d *fakeDriver) called(method string, c *fakeContainer) error {
	d.mu.Lock()
	d.calls[method]++
	hook := d.on[method]
	d.mu.Unlock()
	if hook == nil {
		return nil
	}
	return hook(c)
}

// count is how often a method was called.
func (d *fakeDriver) count(method string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls[method]
}

func (d *fakeDriver) complain(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wrong = append(d.wrong, fmt.Sprintf(format, args...))
}

// containers are all that were made, also those that were destroyed.
func (d *fakeDriver) containers() []*fakeContainer {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.made)
}

// check fails the test if something is left, or was used in a way that a
// driver does not allow.
func (d *fakeDriver) check(t testing.TB) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, w := range d.wrong {
		t.Error("driver: " + w)
	}
	if n := d.live.Load(); n != 0 {
		t.Errorf("driver: %d containers were never destroyed", n)
	}
}

func (d *fakeDriver) NewInstance(_ context.Context, id string) (sandbox.Instance, error) {
	if err := d.called("NewInstance", nil); err != nil {
		return nil, err
	}
	return &fakeInstance{d: d, id: id}, nil
}

type fakeInstance struct {
	d  *fakeDriver
	id string

	cpu    atomic.Int64 // ns
	yields atomic.Bool

	mu         sync.Mutex
	containers []*fakeContainer
	destroyed  bool
}

func (i *fakeInstance) ID() string { return i.id }

func (i *fakeInstance) CPU() (time.Duration, error) {
	return time.Duration(i.cpu.Load()), i.d.called("CPU", nil)
}

func (i *fakeInstance) Yield(yes bool) error {
	if err := i.d.called("Yield", nil); err != nil {
		return err
	}
	i.yields.Store(yes)
	return nil
}

func (i *fakeInstance) NewContainer(ctx context.Context, spec sandbox.ContainerSpec) (sandbox.Container, error) {
	if err := i.d.called("NewContainer", nil); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &fakeContainer{d: i.d, spec: spec, listener: l, limits: spec.Limits, exited: make(chan struct{})}
	if spec.Boot != nil {
		if err := c.connect(); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	i.mu.Lock()
	if i.destroyed {
		i.mu.Unlock()
		return nil, errors.Join(errors.New("fake: the instance was destroyed"), c.close())
	}
	i.containers = append(i.containers, c)
	i.mu.Unlock()
	i.d.mu.Lock()
	i.d.made = append(i.d.made, c)
	boot := i.d.boot
	i.d.mu.Unlock()
	i.d.live.Add(1)
	if spec.Boot != nil {
		if err := c.spawn(*spec.Boot, boot); err != nil {
			return nil, errors.Join(err, c.Destroy())
		}
	}
	return c, nil
}

func (i *fakeInstance) Destroy() error {
	i.mu.Lock()
	i.destroyed = true
	containers := slices.Clone(i.containers)
	i.mu.Unlock()
	err := i.d.called("Instance.Destroy", nil)
	for _, c := range containers {
		err = errors.Join(err, c.Destroy())
	}
	return err
}

// fakeContainer is a sandbox.Container.
type fakeContainer struct {
	d        *fakeDriver
	spec     sandbox.ContainerSpec
	listener net.Listener
	control  *os.File // the host's end
	inside   *os.File // the process's
	exited   chan struct{}
	alone    atomic.Bool // a call that comes by one at a time is under way

	mu        sync.Mutex
	main      *process
	further   []*fakeCompanion
	attached  *sandbox.Attachment
	limits    sandbox.Limits
	frozen    bool
	killed    bool
	exit      sandbox.Exit
	ended     bool
	oom       int
	peakBytes int64
	cpu       time.Duration
	in, out   int64
	destroyed bool

	destroy    sync.Once
	destroyErr error
}

var _ sandbox.Container = (*fakeContainer)(nil)

func (c *fakeContainer) ID() string              { return c.spec.ID }
func (c *fakeContainer) Listener() net.Listener  { return c.listener }
func (c *fakeContainer) Control() *os.File       { return c.control }
func (c *fakeContainer) Exited() <-chan struct{} { return c.exited }
func (c *fakeContainer) Link() netip.Addr        { return netip.Addr{} }

func (c *fakeContainer) Traffic() (in, out int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.in, c.out
}

// connect makes the control socket.
func (c *fakeContainer) connect() error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	c.control, c.inside = os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "control inside")
	return nil
}

// enter begins a call of those that come by one at a time.
func (c *fakeContainer) enter(method string) (leave func(), err error) {
	if !c.alone.CompareAndSwap(false, true) {
		c.d.complain("%s beside another call", method)
		return func() {}, c.d.called(method, c)
	}
	return func() { c.alone.Store(false) }, c.d.called(method, c)
}

var errFakeGone = errors.New("fake: no process is left in the container")

// gone says that nothing can be asked of the container any more. c.mu is held.
func (c *fakeContainer) gone() error {
	if c.destroyed || c.ended {
		return errFakeGone
	}
	return nil
}

func (c *fakeContainer) Attach(_ context.Context, a sandbox.Attachment) error {
	leave, err := c.enter("Attach")
	defer leave()
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.gone(); err != nil {
		return err
	}
	if c.attached != nil {
		c.d.complain("Attach was called twice")
	}
	dirs := a.Root
	if len(dirs) == 0 {
		dirs = append([]string{a.Task}, a.Layers...)
	}
	for _, dir := range dirs {
		if _, err := os.Stat(dir); err != nil {
			c.d.complain("Attach: %v", err)
		}
	}
	c.attached = &a
	return nil
}

func (c *fakeContainer) Start(_ context.Context, p sandbox.Process) error {
	leave, err := c.enter("Start")
	defer leave()
	if err != nil {
		return err
	}
	c.mu.Lock()
	err = c.gone()
	if c.main != nil {
		c.d.complain("Start, but there is a main process")
	}
	if c.attached == nil {
		c.d.complain("Start without code")
	}
	c.mu.Unlock()
	if err != nil {
		return err
	}
	return c.spawn(p, (*process).runFunction)
}

// spawn starts the main process.
func (c *fakeContainer) spawn(sp sandbox.Process, run program) error {
	p, err := newProcess(c, sp, c.spec.Output)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.main = p
	gone := c.gone()
	c.mu.Unlock()
	go func() {
		exit := p.run(run)
		if c.inside != nil {
			c.inside.Close()
		}
		c.finish(exit)
	}()
	if gone != nil { // killed while it was started
		p.kill(sandbox.Exit{Code: -1, Signal: "killed"})
	}
	return nil
}

// fakeCompanion is a further process: the program of its file's name.
type fakeCompanion struct {
	*process
	exited chan struct{}
	exit   sandbox.Exit
}

func (f *fakeCompanion) Exited() <-chan struct{} { return f.exited }
func (f *fakeCompanion) Exit() sandbox.Exit      { return f.exit }

func (c *fakeContainer) Run(_ context.Context, sp sandbox.Process, output *os.File) (sandbox.Companion, error) {
	leave, err := c.enter("Run")
	defer leave()
	if err != nil {
		return nil, err
	}
	c.d.mu.Lock()
	run := c.d.programs[path.Base(sp.Argv[0])]
	c.d.mu.Unlock()
	if run == nil {
		return nil, syscall.ENOEXEC
	}
	p, err := newProcess(c, sp, output)
	if err != nil {
		return nil, err
	}
	f := &fakeCompanion{process: p, exited: make(chan struct{})}
	c.mu.Lock()
	gone := c.gone()
	if gone == nil {
		c.further = append(c.further, f)
	}
	c.mu.Unlock()
	if gone != nil {
		p.close()
		return nil, gone
	}
	go func() {
		f.exit = p.run(run)
		close(f.exited)
	}()
	return f, nil
}

func (c *fakeContainer) Signal(s syscall.Signal) error {
	if err := c.d.called("Signal "+s.String(), c); err != nil {
		return err
	}
	c.mu.Lock()
	p := c.main
	if c.frozen {
		c.d.complain("%v while it is frozen", s)
	}
	c.mu.Unlock()
	if p != nil {
		p.kill(sandbox.Exit{Code: -1, Signal: s.String()})
	}
	return nil
}

func (c *fakeContainer) Dial(ctx context.Context, port int) (net.Conn, error) {
	if err := c.d.called("Dial", c); err != nil {
		return nil, err
	}
	c.mu.Lock()
	frozen, gone := c.frozen, c.gone()
	c.mu.Unlock()
	if frozen || gone != nil {
		return nil, errors.Join(errors.New("fake: nobody can be reached"), gone)
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
}

// finish records the end of the main process; the first to tell counts.
func (c *fakeContainer) finish(exit sandbox.Exit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		exit.At = time.Now()
		c.ended, c.exit = true, exit
		close(c.exited)
	}
}

func (c *fakeContainer) SetLimits(l sandbox.Limits) error {
	leave, err := c.enter("SetLimits")
	defer leave()
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limits = l
	return nil
}

func (c *fakeContainer) Freeze() error { return c.setFrozen("Freeze", true) }
func (c *fakeContainer) Thaw() error   { return c.setFrozen("Thaw", false) }

func (c *fakeContainer) setFrozen(method string, frozen bool) error {
	leave, err := c.enter(method)
	defer leave()
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.killed || c.destroyed {
		return errFakeGone
	}
	if c.frozen == frozen {
		c.d.complain("%s of a container that is so already", method)
	}
	c.frozen = frozen
	if c.main != nil {
		c.main.stop(frozen)
	}
	for _, f := range c.further {
		f.stop(frozen)
	}
	return nil
}

// isFrozen reports whether the processes are stopped.
func (c *fakeContainer) isFrozen() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.frozen
}

func (c *fakeContainer) Kill() error {
	if err := c.d.called("Kill", c); err != nil {
		return err
	}
	c.end(sandbox.Exit{Code: -1, Signal: "killed"})
	return nil
}

// end ends the main process, as something outside of the worker may.
func (c *fakeContainer) end(exit sandbox.Exit) {
	c.mu.Lock()
	p := c.main
	c.killed, c.frozen = true, false
	further := slices.Clone(c.further)
	c.mu.Unlock()
	for _, f := range further {
		f.kill(exit)
	}
	if p == nil {
		c.finish(exit)
		return
	}
	p.kill(exit)
}

func (c *fakeContainer) Exit() sandbox.Exit {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		c.d.complain("Exit before the main process had ended")
	}
	return c.exit
}

func (c *fakeContainer) OOMKills() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.oom
}

// outOfMemory ends the main process as the kernel does for its memory limit.
func (c *fakeContainer) outOfMemory() {
	c.mu.Lock()
	c.oom++
	c.mu.Unlock()
	c.end(sandbox.Exit{Code: -1, Signal: "killed"})
}

func (c *fakeContainer) Usage() (sandbox.Usage, error) {
	if err := c.d.called("Usage", c); err != nil {
		return sandbox.Usage{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return sandbox.Usage{CPU: time.Millisecond + c.cpu, MemoryBytes: 3 << 20, PeakBytes: max(c.peakBytes, 5<<20), Processes: 1}, nil
}

func (c *fakeContainer) Destroy() error {
	c.destroy.Do(func() {
		c.destroyErr = c.d.called("Destroy", c)
		c.end(sandbox.Exit{Code: -1, Signal: "killed"})
		<-c.exited
		c.mu.Lock()
		c.destroyed = true
		further := slices.Clone(c.further)
		c.mu.Unlock()
		for _, f := range further {
			<-f.exited
		}
		if err := c.close(); err != nil && !errors.Is(err, net.ErrClosed) {
			c.destroyErr = errors.Join(c.destroyErr, err)
		}
		c.d.live.Add(-1)
	})
	return c.destroyErr
}

// close gives back what the container holds of the system.
func (c *fakeContainer) close() error {
	err := c.listener.Close()
	if c.control != nil {
		err = errors.Join(err, c.control.Close())
		c.inside.Close() // its process may have been first
	}
	return err
}
