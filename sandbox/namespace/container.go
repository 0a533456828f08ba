package namespace

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hearth-faas/hearth/sandbox"
	"github.com/hearth-faas/hearth/sandbox/namespace/message"
)

// container is the daemon's side of a container. What make sets is not changed
// afterwards.
type container struct {
	d      *Driver
	in     *instance
	id     string
	output *os.File

	group    *group
	conn     *net.UnixConn // to init
	pidfd    *os.File      // of init
	listener net.Listener
	control  *os.File
	link     sandbox.NetworkLink
	// packetLink says that the link is a packet socket, not a TUN device.
	packetLink bool
	born       atomic.Bool // there is an init
	initPID    int

	replies chan initReply
	exited  chan struct{} // the main process has ended
	gone    chan struct{} // every process has

	asking sync.Mutex // held by who waits for a reply of init

	freezing sync.Mutex // held while frozen changes; before mu
	frozen   bool
	killed   bool
	resizes  bool // /tmp has another size to get when thawed

	mu       sync.Mutex
	limits   sandbox.Limits
	started  bool
	attached bool
	ended    bool
	exit     sandbox.Exit
	peak     int64 // where no cgroup knows: see processes.go
	overruns int
	disk     *disk // /tmp, once code is attached; nil if that is memory
	removed  bool

	destroy    sync.Once
	destroyErr error
}

type initReply struct {
	m   *message.Reply
	fds []int
}

var _ sandbox.Container = (*container)(nil)

func (c *container) ID() string              { return c.id }
func (c *container) Listener() net.Listener  { return c.listener }
func (c *container) Control() *os.File       { return c.control }
func (c *container) Exited() <-chan struct{} { return c.exited }

func (c *container) Link() netip.Addr { return c.d.address() }

// read takes what init says, until it and with it every process is gone.
func (c *container) read() {
	for {
		m, fds, err := receive(c.conn)
		if err != nil {
			break
		}
		switch m := m.(type) {
		case *message.Reply:
			select {
			case c.replies <- initReply{m, fds}:
			default: // nobody asked: not our init's way
				message.CloseAll(fds)
			}
		case *message.Exited:
			exit := sandbox.Exit{Code: int(m.Code), At: time.Now()}
			if m.Signal != 0 {
				exit.Code, exit.Signal = -1, syscall.Signal(m.Signal).String()
			}
			c.finish(exit)
		}
	}
	awaitProcess(c.pidfd)
	c.finish(sandbox.Exit{Code: -1, Signal: syscall.SIGKILL.String(), At: time.Now()})
	close(c.gone)
}

// awaitProcess waits until a process has ended. The end of the init of a pid
// namespace comes after that of every process in it.
func awaitProcess(pidfd *os.File) {
	raw, err := pidfd.SyscallConn()
	if err != nil {
		return // closed
	}
	_ = raw.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		return err == nil && n == 1
	})
}

// finish records the end of the main process; the first to tell counts.
func (c *container) finish(exit sandbox.Exit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.ended, c.exit = true, exit
	close(c.exited)
}

func (c *container) Exit() sandbox.Exit {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.exit
}

// await takes init's next reply.
func (c *container) await(ctx context.Context) (initReply, error) {
	select {
	case r := <-c.replies:
		return r, nil
	case <-c.gone:
	case <-ctx.Done():
		// Its answer may come yet, and be taken for another's.
		return initReply{}, errors.Join(ctx.Err(), c.Kill())
	}
	select {
	case r := <-c.replies:
		return r, nil
	default:
		return initReply{}, errGone
	}
}

// ask sends init a request and waits for its reply.
func (c *container) ask(ctx context.Context, m message.Message, fds ...int) error {
	c.asking.Lock()
	defer c.asking.Unlock()
	if err := send(c.conn, m, fds...); err != nil {
		return fmt.Errorf("%w: %w", errGone, err)
	}
	r, err := c.await(ctx)
	if err != nil {
		return err
	}
	message.CloseAll(r.fds)
	if r.m.Errno != 0 {
		return kernelError("container "+c.id, r.m)
	}
	return nil
}

func (c *container) Attach(ctx context.Context, a sandbox.Attachment) (err error) {
	c.mu.Lock()
	again := c.attached
	c.attached = true
	c.mu.Unlock()
	if again {
		return fmt.Errorf("namespace: container %s has its code already", c.id)
	}
	m := &message.Attach{Task: a.Task != "", Layers: uint32(len(a.Layers))}
	var trees, fds []int
	defer func() { message.CloseAll(trees) }()
	paths := a.Layers
	if m.Task {
		paths = append([]string{a.Task}, paths...)
	}
	for _, path := range paths {
		tree, err := c.d.spawn.tree(ctx, path)
		if err != nil {
			return err
		}
		trees = append(trees, tree)
	}
	disk, err := c.takeDisk()
	if err != nil {
		return err
	}
	fds = append(fds, trees...)
	if disk != nil {
		m.Tmp = true
		at := 0
		if m.Task {
			at = 1
		}
		fds = slices.Insert(fds, at, rawFD(disk.mount))
	}
	if len(fds) == 0 {
		return nil
	}
	if err := c.ask(ctx, m, fds...); err != nil {
		return err
	}
	if disk == nil {
		return nil
	}
	return disk.mount.Close() // it is in its place
}

// takeDisk gives the container a disk for its /tmp, if there is one to be had.
// It is part of Attach and not of the container's making so that a pooled
// container does without.
func (c *container) takeDisk() (*disk, error) {
	c.mu.Lock()
	size := c.limits.TmpBytes
	c.mu.Unlock()
	disk := c.d.disks.take(size)
	if disk == nil {
		return nil, nil
	}
	c.mu.Lock()
	removed := c.removed
	if !removed {
		c.disk = disk
	}
	c.mu.Unlock()
	if removed {
		c.d.disks.release(disk)
		return nil, errGone
	}
	return disk, disk.own(c.in.uid)
}

func (c *container) Start(ctx context.Context, p sandbox.Process) error {
	c.mu.Lock()
	again, attached := c.started, c.attached
	c.started = true
	limits := c.limits
	c.mu.Unlock()
	if again {
		return fmt.Errorf("namespace: container %s has a main process already", c.id)
	}
	var err error
	if !attached { // no code, but /tmp is to be what it is for all others
		err = c.Attach(ctx, sandbox.Attachment{})
	}
	if err == nil {
		err = c.ask(ctx, &message.Start{Process: c.process(p, limits)}, c.outputFDs()...)
	}
	if err != nil {
		c.mu.Lock()
		c.started = false
		c.mu.Unlock()
	}
	return err
}

// process completes what to start with what bounds it.
func (c *container) process(p sandbox.Process, l sandbox.Limits) message.Process {
	m := message.Process{
		Argv: p.Argv, Env: p.Env, Dir: p.Dir, Output: c.output != nil, OpenFiles: defaultOpenFiles,
	}
	if l.OpenFiles > 0 {
		m.OpenFiles = uint64(l.OpenFiles)
	}
	if l.Processes > 0 && !c.d.groups.can(pidsController) {
		m.Tasks = uint64(l.Processes)
	}
	return m
}

func (c *container) outputFDs() []int {
	if c.output == nil {
		return nil
	}
	return []int{rawFD(c.output)}
}

// rawFD is f.Fd without its turning the file to blocking mode, which would
// hurt the reader at the other end of the same description.
func rawFD(f *os.File) int {
	fd := -1
	if raw, err := f.SyscallConn(); err == nil {
		_ = raw.Control(func(n uintptr) { fd = int(n) })
	}
	return fd
}

func (c *container) SetLimits(l sandbox.Limits) error {
	c.freezing.Lock()
	defer c.freezing.Unlock()
	c.mu.Lock()
	before, fixed := c.limits, c.disk != nil
	c.mu.Unlock()
	if fixed && before.TmpBytes != l.TmpBytes {
		return fmt.Errorf("namespace: container %s: /tmp is a disk by now and keeps its size", c.id)
	}
	if err := c.group.limit(before, l); err != nil {
		return fmt.Errorf("namespace: container %s: %w", c.id, err)
	}
	c.mu.Lock()
	c.limits = l
	c.mu.Unlock()
	if before.TmpBytes == l.TmpBytes {
		return nil
	}
	if c.frozen { // and init with it
		c.resizes = true
		return nil
	}
	return c.resizeTmp(l)
}

func (c *container) resizeTmp(l sandbox.Limits) error {
	return c.ask(context.Background(), &message.Tmp{Bytes: uint64(max(l.TmpBytes, 0))})
}

func (c *container) Freeze() error { return c.setFrozen(true) }
func (c *container) Thaw() error   { return c.setFrozen(false) }

func (c *container) setFrozen(frozen bool) error {
	c.freezing.Lock()
	defer c.freezing.Unlock()
	switch {
	case c.killed:
		return errGone
	case c.frozen == frozen:
		return nil
	}
	err := c.group.freeze(frozen)
	if errors.Is(err, errNoFreezer) {
		err = c.ask(context.Background(), &message.Stop{Continue: !frozen})
	}
	if err != nil {
		return fmt.Errorf("namespace: freezing or thawing container %s: %w", c.id, err)
	}
	c.frozen = frozen
	if frozen {
		c.trim()
		return nil
	}
	if !c.resizes {
		return nil
	}
	c.resizes = false
	c.mu.Lock()
	limits := c.limits
	c.mu.Unlock()
	return c.resizeTmp(limits)
}

// trim has the space of files that were deleted in /tmp given back to the host
// while the container is idle, if it is worth it.
func (c *container) trim() {
	c.mu.Lock()
	defer c.mu.Unlock()
	disk := c.disk
	if disk == nil || c.removed || !disk.wasted() || !disk.trimming.CompareAndSwap(false, true) {
		return
	}
	c.d.closing.Go(func() {
		defer disk.trimming.Store(false)
		if err := disk.trim(); err != nil {
			c.d.log.Warn("trimming a container's disk", "container", c.id, "error", err)
		}
	})
}

// Kill ends init, and the kernel every process in its pid namespace with it.
func (c *container) Kill() error {
	if !c.born.Load() {
		return nil
	}
	c.freezing.Lock()
	defer c.freezing.Unlock()
	c.killed = true
	var errs []error
	raw, err := c.pidfd.SyscallConn()
	if err == nil {
		var signalled error
		err = raw.Control(func(fd uintptr) {
			signalled = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0)
		})
		if signalled != nil && signalled != unix.ESRCH {
			errs = append(errs, fmt.Errorf("namespace: killing container %s: %w", c.id, signalled))
		}
	}
	if err != nil && !errors.Is(err, os.ErrClosed) {
		errs = append(errs, err)
	}
	if c.frozen {
		// A process in a frozen group of the first version dies only when it
		// is let go.
		c.frozen = false
		errs = append(errs, c.group.release())
	}
	return errors.Join(errs...)
}

func (c *container) OOMKills() int {
	if c.d.groups.can(memoryController) {
		return c.group.oomKills()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.overruns
}

// Usage is what the cgroups have counted and, where there are none, what a
// look at the processes shows.
func (c *container) Usage() (sandbox.Usage, error) {
	u, err := c.group.usage()
	if err != nil {
		return u, fmt.Errorf("namespace: container %s: %w", c.id, err)
	}
	counted, timed := c.d.groups.can(memoryController), c.d.groups.timed()
	if counted && timed {
		return u, nil
	}
	seen, err := lookAtProcesses(c.initPID)
	if err != nil {
		return u, fmt.Errorf("namespace: container %s: %w", c.id, err)
	}
	if !timed {
		u.CPU, u.Processes = seen.CPU, seen.Processes
	}
	if !counted {
		c.mu.Lock()
		c.peak = max(c.peak, seen.MemoryBytes)
		u.MemoryBytes, u.PeakBytes = seen.MemoryBytes, c.peak
		c.mu.Unlock()
	}
	return u, nil
}

// dropDisk has the disk forget what processes may still wait to have written,
// and returns what to call when they have ended.
func (c *container) dropDisk() (ended func()) {
	c.mu.Lock()
	c.removed = true
	disk := c.disk
	c.mu.Unlock()
	if disk == nil {
		return func() {}
	}
	gone := make(chan struct{})
	// In the background, since it takes as long as a link, for the same reason.
	c.d.closing.Go(func() {
		if err := disk.abandon(); err != nil {
			c.d.log.Warn("abandoning a container's disk", "container", c.id, "error", err)
		}
		<-gone
		c.d.disks.release(disk)
	})
	return func() { close(gone) }
}

// Destroy implements sandbox.Container.
func (c *container) Destroy() error {
	c.destroy.Do(func() { c.destroyErr = c.remove() })
	return c.destroyErr
}

// patience is how long the end of a killed process may take: it may be in the
// middle of a disk's slow answer.
const patience = 10 * time.Second

func (c *container) remove() error {
	var errs []error
	if c.listener != nil {
		// Whoever serves it may have closed it.
		if err := c.listener.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if c.born.Load() {
		errs = append(errs, c.Kill())
		defer c.dropDisk()()
		select {
		case <-c.gone:
		case <-time.After(patience):
			errs = append(errs, fmt.Errorf("namespace: container %s does not die", c.id))
		}
		errs = append(errs, c.pidfd.Close())
	} else {
		c.finish(sandbox.Exit{Code: -1, Signal: syscall.SIGKILL.String(), At: time.Now()})
	}
	if c.conn != nil {
		errs = append(errs, c.conn.Close())
	}
	if c.control != nil {
		// The worker may have closed it as well.
		if err := c.control.Close(); !errors.Is(err, os.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if c.link != nil {
		// The kernel takes 20 ms to remove an interface, most of it waiting
		// for quiet states of all processors, which many removals share.
		c.d.closing.Go(func() {
			if err := c.link.Close(); err != nil {
				c.d.log.Warn("closing a container's link", "container", c.id, "error", err)
			}
		})
	}
	select {
	case r := <-c.replies: // of one who gave up
		message.CloseAll(r.fds)
	default:
	}
	if c.group != nil {
		errs = append(errs, c.group.remove())
	}
	c.in.forget(c)
	return errors.Join(errs...)
}
