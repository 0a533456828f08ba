package inside

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hearth-faas/hearth/sandbox/namespace/message"
)

// The names of the interfaces inside. peerName is only there where no TUN
// device can be had: the other end of a veth pair.
const (
	linkName = "eth0"
	peerName = "out0"
)

// Kinds of link, as Reply.Value of a Setup tells them.
const (
	LinkTUN    = 0
	LinkPacket = 1
)

// listen opens the runtime API's listener, on the loopback interface of this
// network namespace.
func listen() (int, *failure) {
	control, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fail("opening a socket", err)
	}
	defer syscall.Close(control)
	if err := bringUp(control, "lo"); err != nil {
		return -1, fail("bringing up lo", err)
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fail("opening the listener", err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Port: 9001, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return -1, fail("binding the listener", err)
	}
	if err := syscall.Listen(fd, 128); err != nil {
		return -1, fail("listening", err)
	}
	return fd, nil
}

// connect makes the container's interface and returns the file that carries
// its packets.
func connect(m *message.Setup) (link, kind int, f *failure) {
	control, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, 0, fail("opening a socket", err)
	}
	defer syscall.Close(control)
	// No IPv6 on interfaces to come: the sandbox network doesn't speak it, and
	// the kernel's own chatter would be all there is. Loopback keeps it.
	_ = writeFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1") // may not be built in
	link, kind = -1, LinkTUN
	if link, err = openTUN(m.Stage + "/tun"); err != nil {
		kind = LinkPacket
		if link, f = openVeth(control); f != nil {
			return -1, 0, f
		}
	}
	if err := configure(control, m); err != nil {
		return -1, 0, fail("setting up "+linkName, err)
	}
	return link, kind, nil
}

// ifreq is struct ifreq: a name, and a union of 24 bytes.
type ifreq struct {
	name [16]byte
	data [24]byte
}

func request(control int, call uintptr, name string, fill func(*ifreq)) error {
	var r ifreq
	copy(r.name[:15], name)
	if fill != nil {
		fill(&r)
	}
	_, err := call6(syscall.SYS_IOCTL, uintptr(control), call, uintptr(unsafe.Pointer(&r)), 0, 0, 0)
	return err
}

func bringUp(control int, name string) error {
	return request(control, unix.SIOCSIFFLAGS, name, func(r *ifreq) {
		*(*uint16)(unsafe.Pointer(&r.data)) = unix.IFF_UP | unix.IFF_RUNNING
	})
}

func openTUN(path string) (int, error) {
	fd, err := syscall.Open(path, syscall.O_RDWR|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	err = request(fd, unix.TUNSETIFF, linkName, func(r *ifreq) {
		*(*uint16)(unsafe.Pointer(&r.data)) = unix.IFF_TUN | unix.IFF_NO_PI
	})
	if err != nil {
		_ = syscall.Close(fd)
		return -1, err
	}
	return fd, nil
}

func sockaddr(data []byte, a [4]byte) {
	*(*uint16)(unsafe.Pointer(&data[0])) = syscall.AF_INET
	copy(data[4:8], a[:])
}

// configure gives the interface its address and makes it the way to
// everywhere.
func configure(control int, m *message.Setup) error {
	mask := ^uint32(0) << (32 - min(m.Bits, 32))
	if m.Bits == 0 {
		mask = 0
	}
	if err := request(control, unix.SIOCSIFADDR, linkName, func(r *ifreq) {
		sockaddr(r.data[:], m.Address)
	}); err != nil {
		return err
	}
	if err := request(control, unix.SIOCSIFNETMASK, linkName, func(r *ifreq) {
		sockaddr(r.data[:], [4]byte{byte(mask >> 24), byte(mask >> 16), byte(mask >> 8), byte(mask)})
	}); err != nil {
		return err
	}
	if m.MTU > 0 {
		if err := request(control, unix.SIOCSIFMTU, linkName, func(r *ifreq) {
			*(*uint32)(unsafe.Pointer(&r.data)) = m.MTU
		}); err != nil {
			return err
		}
	}
	if err := bringUp(control, linkName); err != nil {
		return err
	}
	// struct rtentry of 64-bit machines.
	var route struct {
		_       uintptr
		dst     [16]byte
		gateway [16]byte
		mask    [16]byte
		flags   uint16
		_       [2]byte
		_       [4]byte
		_       uintptr
		_       uintptr
		metric  int16
		_       [6]byte
		device  *byte
		mtu     uintptr
		window  uintptr
		irtt    uint16
	}
	sockaddr(route.dst[:], [4]byte{})
	sockaddr(route.mask[:], [4]byte{})
	route.flags = unix.RTF_UP
	if m.Gateway != [4]byte{} {
		sockaddr(route.gateway[:], m.Gateway)
		route.flags |= unix.RTF_GATEWAY
	}
	device := append([]byte(linkName), 0)
	route.device = &device[0]
	_, err := call6(syscall.SYS_IOCTL, uintptr(control), unix.SIOCADDRT, uintptr(unsafe.Pointer(&route)), 0, 0, 0)
	return err
}
