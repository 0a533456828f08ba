package inside

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// openVeth makes a pair of Ethernet interfaces, both in this network
// namespace, and returns a packet socket on the far one. It needs no device
// file, which an ordinary user often may not open, but costs twice the time of
// a TUN device.
//
// The far end has no address: the kernel takes what arrives there for a
// stranger's and drops it, and the packet socket gets its copy.
func openVeth(control int) (int, *failure) {
	if err := addVeth(linkName, peerName); err != nil {
		return -1, fail("making a veth pair", err)
	}
	// Packets go to a reader that expects them whole: with checksums, and no
	// longer than the MTU.
	for _, off := range []uint32{unix.ETHTOOL_STXCSUM, unix.ETHTOOL_STSO, unix.ETHTOOL_SGSO} {
		value := struct{ command, data uint32 }{command: off}
		err := request(control, unix.SIOCETHTOOL, linkName, func(r *ifreq) {
			*(*unsafe.Pointer)(unsafe.Pointer(&r.data)) = unsafe.Pointer(&value)
		})
		if err != nil {
			return -1, fail("turning off offloads", err)
		}
	}
	if err := bringUp(control, peerName); err != nil {
		return -1, fail("bringing up "+peerName, err)
	}
	const all = 0x0300 // ETH_P_ALL in network order
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fail("opening a packet socket", err)
	}
	index, err := interfaceIndex(control, peerName)
	if err != nil {
		return -1, fail("finding "+peerName, err)
	}
	// Only what the container sends, not what is sent to it.
	if err := syscall.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
		return -1, fail("setting up the packet socket", err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrLinklayer{Protocol: all, Ifindex: index}); err != nil {
		return -1, fail("binding the packet socket", err)
	}
	return fd, nil
}

func interfaceIndex(control int, name string) (int, error) {
	var r ifreq
	copy(r.name[:15], name)
	_, err := call6(syscall.SYS_IOCTL, uintptr(control), unix.SIOCGIFINDEX, uintptr(unsafe.Pointer(&r)), 0, 0, 0)
	return int(*(*int32)(unsafe.Pointer(&r.data))), err
}

// addVeth asks by netlink (RTM_NEWLINK): there is no older way.
func addVeth(name, peer string) error {
	var b []byte
	u16 := func(v uint16) { b = append(b, byte(v), byte(v>>8)) }
	u32 := func(v uint32) { b = append(b, byte(v), byte(v>>8), byte(v>>16), byte(v>>24)) }
	// attribute appends one whose content fill appends, and pads it.
	attribute := func(kind uint16, fill func()) {
		start := len(b)
		u16(0)
		u16(kind)
		fill()
		b[start], b[start+1] = byte(len(b)-start), byte((len(b)-start)>>8)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
	}
	text := func(s string) func() { return func() { b = append(append(b, s...), 0) } }
	none := make([]byte, unix.SizeofIfInfomsg)

	u32(0) // length, below
	u16(unix.RTM_NEWLINK)
	u16(unix.NLM_F_REQUEST | unix.NLM_F_ACK | unix.NLM_F_CREATE | unix.NLM_F_EXCL)
	u32(1)
	u32(0)
	b = append(b, none...)
	attribute(unix.IFLA_IFNAME, text(name))
	attribute(unix.IFLA_LINKINFO, func() {
		attribute(unix.IFLA_INFO_KIND, text("veth"))
		attribute(unix.IFLA_INFO_DATA, func() {
			attribute(1 /* VETH_INFO_PEER */, func() {
				b = append(b, none...)
				attribute(unix.IFLA_IFNAME, text(peer))
			})
		})
	})
	b[0], b[1] = byte(len(b)), byte(len(b)>>8)

	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	if err := syscall.Sendto(fd, b, 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return err
	}
	var answer [1024]byte
	n, _, err := syscall.Recvfrom(fd, answer[:], 0)
	if err != nil {
		return err
	}
	// An acknowledgement: struct nlmsghdr, then the error, negative or 0.
	if n < 20 {
		return syscall.EBADMSG
	}
	if code := *(*int32)(unsafe.Pointer(&answer[16])); code != 0 {
		return syscall.Errno(-code)
	}
	return nil
}
