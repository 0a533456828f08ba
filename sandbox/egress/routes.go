package egress

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// routes asks the kernel's routing tables what an address is. That is more
// exact than a list of the interfaces' addresses: it is never out of date, and
// it knows local routes that are no interface's address and the broadcast
// address of each subnet.
type routes struct {
	mu  sync.Mutex
	fd  int // -1 once closed
	seq uint32
}

func openRoutes() (*routes, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	r := &routes{fd: fd}
	// The kernel answers within the call that asks: this is for the day it
	// does not.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("SO_RCVTIMEO", err)
	}
	own, err := r.isOwn(netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	if err == nil && !own {
		err = errors.New("the loopback address is not local")
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return r, nil
}

func (r *routes) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fd < 0 {
		return nil
	}
	err := unix.Close(r.fd)
	r.fd = -1
	return os.NewSyscallError("close", err)
}

// isOwn reports whether packets to a would be delivered on this host, or to
// more than one. An address that there is no route to is not.
func (r *routes) isOwn(a netip.Addr) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fd < 0 {
		return false, os.ErrClosed
	}
	r.seq++
	if err := unix.Sendto(r.fd, routeRequest(a, r.seq), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return false, os.NewSyscallError("RTM_GETROUTE", err)
	}
	var reply [4096]byte
	for {
		n, _, err := unix.Recvfrom(r.fd, reply[:], 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return false, os.NewSyscallError("RTM_GETROUTE", err)
		}
		if kind, ok, err := routeReply(reply[:n], r.seq); ok {
			return kind != unix.RTN_UNICAST && kind != unix.RTN_UNREACHABLE, err
		}
	}
}

// routeRequest asks for the route to a.
func routeRequest(a netip.Addr, seq uint32) []byte {
	family, ip := byte(unix.AF_INET6), a.AsSlice()
	if a.Is4() {
		family = unix.AF_INET
	}
	length := unix.NLMSG_HDRLEN + unix.SizeofRtMsg + unix.SizeofRtAttr + len(ip)
	b := make([]byte, 0, length)
	b = binary.NativeEndian.AppendUint32(b, uint32(length))
	b = binary.NativeEndian.AppendUint16(b, unix.RTM_GETROUTE)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST)
	b = binary.NativeEndian.AppendUint32(b, seq)
	b = binary.NativeEndian.AppendUint32(b, 0)                           // to the kernel
	b = append(b, family, byte(len(ip)*8), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0) // struct rtmsg
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(ip)))
	b = binary.NativeEndian.AppendUint16(b, unix.RTA_DST)
	return append(b, ip...)
}

// routeReply takes the kind of route (RTN_…) from the answer to the request
// seq; ok is false for anything else.
func routeReply(b []byte, seq uint32) (kind byte, ok bool, err error) {
	const typeOffset = unix.NLMSG_HDRLEN + 7 // rtm_type in struct rtmsg
	if len(b) < unix.NLMSG_HDRLEN+4 || binary.NativeEndian.Uint32(b[8:]) != seq {
		return 0, false, nil
	}
	switch binary.NativeEndian.Uint16(b[4:]) {
	case unix.RTM_NEWROUTE:
		if len(b) <= typeOffset {
			return 0, false, nil
		}
		return b[typeOffset], true, nil
	case unix.NLMSG_ERROR:
		errno := unix.Errno(-int32(binary.NativeEndian.Uint32(b[unix.NLMSG_HDRLEN:])))
		switch errno {
		case unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EACCES, unix.EINVAL:
			// No route, or one that forbids, or drops. Dialling finds out.
			return unix.RTN_UNREACHABLE, true, nil
		}
		return 0, true, fmt.Errorf("RTM_GETROUTE: %w", errno)
	}
	return 0, false, nil
}
