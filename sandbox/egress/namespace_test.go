package egress

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hearth-faas/hearth/sandbox"
	"github.com/hearth-faas/hearth/sandbox/egress/guest"
)

// The tests run in a network namespace of their own, which stands for the host:
// nothing that they send can leave this machine. Beside it there is another
// one, which stands for the rest of the world.
var (
	worldAddr = netip.MustParseAddr("198.51.100.1")
	hostAddr  = netip.MustParseAddr("198.51.100.2")
	world     *namespace
)

// insideEnv tells the test program that it is in its namespaces, and uidEnv who
// started it.
const (
	insideEnv = "HEARTH_TEST_INSIDE"
	uidEnv    = "HEARTH_TEST_UID"
)

func TestMain(m *testing.M) {
	if os.Getenv(insideEnv) == "" {
		os.Exit(inNamespaces())
	}
	// The fuzzing engine's workers make namespaces of their own.
	if err := os.Unsetenv(insideEnv); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := buildWorld(); err != nil {
		fmt.Fprintln(os.Stderr, "making the tests' network:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// inNamespaces runs this program again in a network namespace; an ordinary
// user gets the privileges over it by a user namespace.
func inNamespaces() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	if os.Getenv(uidEnv) == "" {
		cmd.Env = append(cmd.Env, uidEnv+"="+strconv.Itoa(os.Getuid()))
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	cmd.SysProcAttr = attr
	// Pdeathsig is about the thread that starts it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// Descriptors that the fuzzing engine passes on.
	for fd := uintptr(3); fd < 6; fd++ {
		if _, err := unix.FcntlInt(fd, unix.F_GETFD, 0); err != nil {
			break
		}
		cmd.ExtraFiles = append(cmd.ExtraFiles, os.NewFile(fd, "inherited"))
	}
	err := cmd.Run()
	if cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, "running the tests in namespaces:", err)
		return 1
	}
	return cmd.ProcessState.ExitCode()
}

// buildWorld connects host and world by a pair of interfaces.
func buildWorld() error {
	if err := guest.LoopbackUp(); err != nil {
		return err
	}
	var err error
	if world, err = newNamespace(); err != nil {
		return err
	}
	if err := world.do(guest.LoopbackUp); err != nil {
		return err
	}
	pair := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: "world1", PeerNamespace: netlink.NsFd(world.fd)}
	pair.Name = "world0"
	if err := netlink.LinkAdd(pair); err != nil {
		return err
	}
	up := func(name string, a netip.Addr) error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		address := &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(24, 32)}}
		if err := netlink.AddrAdd(link, address); err != nil {
			return err
		}
		return netlink.LinkSetUp(link)
	}
	if err := up("world0", hostAddr); err != nil {
		return err
	}
	unreachable := &netlink.Route{Dst: &net.IPNet{IP: net.IPv4(192, 0, 2, 0), Mask: net.CIDRMask(24, 32)}, Type: unix.RTN_UNREACHABLE}
	if err := netlink.RouteAdd(unreachable); err != nil {
		return err
	}
	return world.do(func() error { return up("world1", worldAddr) })
}

// namespace is a network namespace in which sockets can be made.
type namespace struct{ fd int }

// newNamespace makes one; it lives until it is closed and its sockets are gone.
func newNamespace() (*namespace, error) {
	n := &namespace{fd: -1}
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		n.fd = fd
		return err
	})
	return n, err
}

// do runs f on a thread in the namespace.
func (n *namespace) do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(n.fd, unix.CLONE_NEWNET); err != nil {
			return err
		}
		return f()
	})
}

// onThread runs f on a thread that ends with it.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked
		done <- f()
	}()
	return <-done
}

func (n *namespace) dial(network, address string, timeout time.Duration) (conn net.Conn, err error) {
	err = n.do(func() (err error) {
		conn, err = net.DialTimeout(network, address, timeout)
		return err
	})
	return conn, err
}

func (n *namespace) listen(t testing.TB, network, address string) (l net.Listener) {
	t.Helper()
	must(t, n.do(func() (err error) {
		l, err = net.Listen(network, address)
		return err
	}))
	t.Cleanup(func() { l.Close() })
	return l
}

func (n *namespace) listenPacket(t testing.TB, address string) (c net.PacketConn) {
	t.Helper()
	must(t, n.do(func() (err error) {
		c, err = net.ListenPacket("udp4", address)
		return err
	}))
	t.Cleanup(func() { c.Close() })
	return c
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// container is a namespace with a link that a network serves.
type container struct {
	*namespace
	network *Network
	link    *link
}

// newContainer makes a container in a network of its own.
func newContainer(t testing.TB, kind sandbox.LinkKind, c Config) *container {
	t.Helper()
	n, err := New(c)
	must(t, err)
	t.Cleanup(func() { must(t, n.Close()) })
	return joinContainer(t, n, "c1", kind)
}

func joinContainer(t testing.TB, n *Network, id string, kind sandbox.LinkKind) *container {
	t.Helper()
	ns, file := newGuest(t, n.Guest(), kind)
	joined, err := n.Join(id, file, kind)
	must(t, err)
	t.Cleanup(func() { must(t, joined.Close()) })
	return &container{namespace: ns, network: n, link: joined.(*link)}
}

// newGuest makes a namespace with an interface whose packets arrive at file.
func newGuest(t testing.TB, g sandbox.Guest, kind sandbox.LinkKind) (ns *namespace, file *os.File) {
	t.Helper()
	ns, err := newNamespace()
	must(t, err)
	t.Cleanup(func() { must(t, unix.Close(ns.fd)) })
	must(t, ns.do(func() (err error) {
		var got guest.Kind
		file, got, err = guest.Up(guest.Config{
			Address: g.Address, Gateway: g.Gateway, MTU: g.MTU, NoTUN: kind == sandbox.LinkPacket,
		})
		if err == nil && sandbox.LinkKind(got) != kind {
			err = fmt.Errorf("the link is of kind %d", got)
		}
		return err
	}))
	return ns, file
}

var kindNames = map[sandbox.LinkKind]string{sandbox.LinkTUN: "tun", sandbox.LinkPacket: "packet"}

// kinds are those that whoever runs the tests can have: root has both, others
// may not be allowed to open the TUN device.
func kinds(t testing.TB) []sandbox.LinkKind {
	t.Helper()
	if os.Getenv(uidEnv) != "0" {
		if err := unix.Access("/dev/net/tun", unix.R_OK|unix.W_OK); err != nil {
			return []sandbox.LinkKind{sandbox.LinkPacket}
		}
	}
	return []sandbox.LinkKind{sandbox.LinkTUN, sandbox.LinkPacket}
}

// forEachKind runs a test with each kind of link.
func forEachKind(t *testing.T, f func(t *testing.T, kind sandbox.LinkKind)) {
	for _, kind := range kinds(t) {
		t.Run(kindNames[kind], func(t *testing.T) { f(t, kind) })
	}
}

// soon waits until a condition holds, which it mostly does within milliseconds.
func soon(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(brief); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in %v: %s", brief, what)
		}
	}
}
