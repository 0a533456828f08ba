package namespace

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hearth-faas/hearth/sandbox"
	"github.com/hearth-faas/hearth/sandbox/namespace/inside"
	"github.com/hearth-faas/hearth/sandbox/namespace/message"
)

type instance struct {
	d   *Driver
	id  string
	uid uint32

	mu         sync.Mutex
	containers map[string]*container
	making     sync.WaitGroup // NewContainer calls under way
	destroyed  bool
}

var _ sandbox.Instance = (*instance)(nil)

func (in *instance) ID() string { return in.id }

// maxMounts is how many mounts a container may ask for: each is a descriptor
// on the message that orders it, beside the output and the control socket.
const maxMounts = message.MaxFDs - 2

// defaultOpenFiles is what Lambda gives.
const defaultOpenFiles = 1024

func (in *instance) NewContainer(ctx context.Context, spec sandbox.ContainerSpec) (_ sandbox.Container, err error) {
	if err := checkID(spec.ID); err != nil {
		return nil, err
	}
	c := &container{
		d: in.d, in: in, id: spec.ID, limits: spec.Limits, output: spec.Output,
		replies: make(chan initReply, 1), exited: make(chan struct{}), gone: make(chan struct{}),
	}
	in.mu.Lock()
	switch {
	case in.destroyed:
		err = fmt.Errorf("namespace: instance %s is destroyed", in.id)
	case in.containers[spec.ID] != nil:
		err = fmt.Errorf("namespace: container %s exists", spec.ID)
	default:
		in.containers[spec.ID] = c
		in.making.Add(1)
	}
	in.mu.Unlock()
	if err != nil {
		return nil, err
	}
	defer in.making.Done()
	if err := c.make(ctx, spec); err != nil {
		return nil, errors.Join(fmt.Errorf("namespace: container %s: %w", spec.ID, err), c.Destroy())
	}
	return c, nil
}

// make builds the container. What it leaves half done, Destroy removes.
func (c *container) make(ctx context.Context, spec sandbox.ContainerSpec) (err error) {
	d := c.d
	if c.group, err = d.groups.makeContainer(c.in.id, c.id); err != nil {
		return err
	}
	if err := c.group.limit(sandbox.Limits{}, spec.Limits); err != nil {
		return err
	}
	if err := openForWriting(spec.Output); err != nil {
		return err
	}
	setup := &message.Setup{Rootless: !d.root, Hostname: "sandbox", TmpBytes: uint64(max(spec.Limits.TmpBytes, 0))}
	if setup.Rootless {
		setup.Stage = stageDir(d.cfg.DataDir)
	}
	order := &message.Spawn{UID: c.in.uid, UIDs: uidRange}
	var fds []int
	var trees []int
	defer func() { message.CloseAll(trees) }()
	if len(spec.Mounts) > maxMounts {
		return fmt.Errorf("%d mounts are more than %d", len(spec.Mounts), maxMounts)
	}
	for _, m := range spec.Mounts {
		tree, kind, err := d.showable(ctx, m)
		if err != nil {
			return err
		}
		trees = append(trees, tree)
		setup.Guests = append(setup.Guests, m.Guest)
		order.Points = append(order.Points, m.Guest, kind)
	}
	fds = append(fds, trees...)
	d.describeNetwork(setup)
	if spec.Boot != nil {
		ours, theirs, err := rawPair(syscall.SOCK_STREAM)
		if err != nil {
			return err
		}
		defer theirs.Close() // the process has its own
		c.control = ours
		setup.Boot = true
		setup.Process = c.process(*spec.Boot, spec.Limits, spec.Output)
		setup.Process.Control = true
		fds = append(fds, outputFDs(spec.Output)...)
		fds = append(fds, int(theirs.Fd()))
		c.mu.Lock()
		c.started = true
		c.mu.Unlock()
	}
	err = c.clone(ctx, setup, order, fds)
	if errors.Is(err, errSpawnerDied) {
		err = c.clone(ctx, setup, order, fds) // by another
	}
	if err != nil {
		return err
	}
	if spec.Limits.TmpBytes == usualTmp {
		d.disks.fill()
	}
	c.born.Store(true)
	go c.read()
	reply, err := c.await(ctx)
	if err != nil {
		return err
	}
	return c.connect(reply)
}

// clone has the container's init made, with its orders.
func (c *container) clone(ctx context.Context, setup *message.Setup, order *message.Spawn, fds []int) error {
	conn, theirs, err := socketPair()
	if err != nil {
		return err
	}
	// Of init's end only init may have a copy: its end must be the stream's.
	defer theirs.Close()
	seats, err := c.group.seats()
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	defer seats.close()
	order.Unified = seats.unified != nil
	// The orders wait in the socket until init exists to read them.
	if err := send(conn, setup, fds...); err != nil {
		return errors.Join(fmt.Errorf("sending the orders: %w", err), conn.Close())
	}
	c.initPID, c.pidfd, err = c.d.spawn.clone(ctx, order, append([]int{int(theirs.Fd())}, seats.fds()...))
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	c.conn = conn
	return nil
}

// connect takes the listener and the link from the answer to Setup.
func (c *container) connect(r initReply) error {
	if r.m.Errno != 0 {
		message.CloseAll(r.fds)
		return kernelError("building", r.m)
	}
	want := 1
	if c.d.cfg.Network != nil {
		want = 2
	}
	if len(r.fds) != want {
		message.CloseAll(r.fds)
		return errors.New("init sent other descriptors than it should")
	}
	file := os.NewFile(uintptr(r.fds[0]), "listener")
	listener, err := net.FileListener(file)
	_ = file.Close() // FileListener has a duplicate
	if err != nil {
		message.CloseAll(r.fds[1:])
		return err
	}
	c.listener = listener
	if want == 2 {
		kind := sandbox.LinkTUN
		if r.m.Value == inside.LinkPacket {
			kind, c.packetLink = sandbox.LinkPacket, true
		}
		link, err := c.d.cfg.Network.Join(c.id, os.NewFile(uintptr(r.fds[1]), "link"), kind)
		if err != nil {
			return fmt.Errorf("joining the network: %w", err)
		}
		c.link = link
		if n := c.limits.NetworkBytes; n > 0 {
			link.SetRate(n)
		}
	}
	return nil
}

func (d *Driver) describeNetwork(m *message.Setup) {
	if d.cfg.Network == nil {
		return
	}
	g := d.cfg.Network.Guest()
	if !g.Address.Addr().Is4() {
		return
	}
	m.Network = true
	m.Address, m.Bits = g.Address.Addr().As4(), uint8(g.Address.Bits())
	if g.Gateway.Is4() {
		m.Gateway = g.Gateway.As4()
	}
	m.MTU = uint32(g.MTU)
}

// address is what every container's interface has; invalid without a network.
func (d *Driver) address() netip.Addr {
	if d.cfg.Network == nil {
		return netip.Addr{}
	}
	return d.cfg.Network.Guest().Address.Addr()
}

// showable clones the tree of a mount and tells its kind, "d" or "f".
func (d *Driver) showable(ctx context.Context, m sandbox.Mount) (int, string, error) {
	if !strings.HasPrefix(m.Host, "/") || !strings.HasPrefix(m.Guest, "/") || len(m.Guest) < 2 ||
		strings.Contains(m.Guest+"/", "/../") {
		return -1, "", fmt.Errorf("the mount of %q at %q is not of one absolute path at another", m.Host, m.Guest)
	}
	info, err := os.Stat(m.Host)
	if err != nil {
		return -1, "", err
	}
	kind := "f"
	if info.IsDir() {
		kind = "d"
	}
	tree, err := d.spawn.tree(ctx, m.Host)
	return tree, kind, err
}

// Destroy implements sandbox.Instance.
func (in *instance) Destroy() error {
	in.mu.Lock()
	in.destroyed = true
	in.mu.Unlock()
	in.making.Wait()
	in.mu.Lock()
	var left []*container
	for _, c := range in.containers {
		left = append(left, c)
	}
	in.mu.Unlock()
	errs := make([]error, len(left))
	var all sync.WaitGroup
	for i, c := range left {
		all.Go(func() { errs[i] = c.Destroy() })
	}
	all.Wait()
	errs = append(errs, in.d.groups.removeInstance(in.id))
	in.d.forget(in)
	return errors.Join(errs...)
}

// forget takes a container that is gone off the list.
func (in *instance) forget(c *container) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.containers[c.id] == c {
		delete(in.containers, c.id)
	}
}

// openForWriting lets code inside open its output again by name, as in
// "echo oops > /dev/stderr": a pipe's mode is that of a file, and it belongs to
// the daemon. It doesn't let the code read it.
func openForWriting(output *os.File) error {
	if output == nil {
		return nil
	}
	info, err := output.Stat()
	if err != nil {
		return fmt.Errorf("the output: %w", err)
	}
	if info.Mode()&os.ModeNamedPipe == 0 {
		return nil
	}
	if err := unix.Fchmod(rawFD(output), 0o622); err != nil {
		return fmt.Errorf("the output: %w", err)
	}
	return nil
}
