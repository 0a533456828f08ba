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
	// companions are the further processes that have not ended, by the id that
	// init knows them by.
	companions map[uint32]*companion
	lastID     uint32

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
			if m.ID != 0 {
				c.leave(m.ID, exit)
				continue
			}
			c.finish(exit)
		}
	}
	awaitProcess(c.pidfd)
	killed := sandbox.Exit{Code: -1, Signal: syscall.SIGKILL.String(), At: time.Now()}
	c.finish(killed)
	c.leaveAll(killed)
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
	got, err := c.askFor(ctx, m, fds...)
	message.CloseAll(got)
	return err
}

// askFor is ask for a reply with descriptors.
func (c *container) askFor(ctx context.Context, m message.Message, fds ...int) ([]int, error) {
	c.asking.Lock()
	defer c.asking.Unlock()
	if err := send(c.conn, m, fds...); err != nil {
		return nil, fmt.Errorf("%w: %w", errGone, err)
	}
	r, err := c.await(ctx)
	if err != nil {
		return nil, err
	}
	if r.m.Errno != 0 {
		return r.fds, kernelError("container "+c.id, r.m)
	}
	return r.fds, nil
}

func (c *container) Attach(ctx context.Context, a sandbox.Attachment) (err error) {
	c.mu.Lock()
	again := c.attached
	c.attached = true
	c.mu.Unlock()
	if again {
		return fmt.Errorf("namespace: container %s has its code already", c.id)
	}
	if c.link != nil && a.Network != nil {
		if err := c.link.Restrict(a.Network); err != nil {
			return fmt.Errorf("namespace: the network of container %s: %w", c.id, err)
		}
	}
	m := &message.Attach{Root: len(a.Root) > 0, Task: a.Task != "", Layers: uint32(len(a.Layers))}
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
	if m.Root {
		image, err := c.d.spawn.overlay(ctx, append(slices.Clone(a.Root), skeletonDir(c.d.cfg.DataDir)))
		if err != nil {
			return err
		}
		trees = append(trees, image)
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
		err = c.ask(ctx, &message.Start{Process: c.process(p, limits, c.output)}, outputFDs(c.output)...)
	}
	if err != nil {
		c.mu.Lock()
		c.started = false
		c.mu.Unlock()
	}
	return err
}

// process completes what to start with what bounds it.
func (c *container) process(p sandbox.Process, l sandbox.Limits, output *os.File) message.Process {
	m := message.Process{
		Argv: p.Argv, Env: p.Env, Dir: p.Dir, Output: output != nil, OpenFiles: defaultOpenFiles,
	}
	if l.OpenFiles > 0 {
		m.OpenFiles = uint64(l.OpenFiles)
	}
	if l.Processes > 0 && !c.d.groups.can(pidsController) {
		m.Tasks = uint64(l.Processes)
	}
	return m
}

func outputFDs(output *os.File) []int {
	if output == nil {
		return nil
	}
	return []int{rawFD(output)}
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

func (c *container) OOMKills() int {
	if c.d.groups.can(memoryController) {
		return c.group.oomKills()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.overruns
}

// Traffic implements sandbox.Container.
func (c *container) Traffic() (in, out int64) {
	if c.link == nil {
		return 0, 0
	}
	return c.link.Counts()
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
	c.mu.Lock()
	removed := c.removed
	c.mu.Unlock()
	if removed { // its init's number may be another's by now
		return u, errGone
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
