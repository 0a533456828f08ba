package guest

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// netlink is a route netlink socket that sends a request and waits for its
// acknowledgement, one at a time.
type netlink struct {
	fd  int
	seq uint32
}

func dialNetlink() (*netlink, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket netlink", err)
	}
	return &netlink{fd: fd}, nil
}

func (nl *netlink) close() { unix.Close(nl.fd) }

// request sends a message and returns what its acknowledgement says.
func (nl *netlink) request(what string, kind, flags uint16, body []byte) error {
	nl.seq++
	m := make([]byte, 0, unix.NLMSG_HDRLEN+len(body))
	m = binary.NativeEndian.AppendUint32(m, uint32(unix.NLMSG_HDRLEN+len(body)))
	m = binary.NativeEndian.AppendUint16(m, kind)
	m = binary.NativeEndian.AppendUint16(m, flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	m = binary.NativeEndian.AppendUint32(m, nl.seq)
	m = binary.NativeEndian.AppendUint32(m, 0) // to the kernel
	m = append(m, body...)
	if err := unix.Sendto(nl.fd, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError(what, err)
	}
	// An acknowledgement quotes the request: it is little longer than that.
	reply := make([]byte, 4096)
	for {
		n, _, err := unix.Recvfrom(nl.fd, reply, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return os.NewSyscallError(what, err)
		}
		errno, ok := acknowledgement(reply[:n], nl.seq)
		if !ok {
			continue
		}
		if errno != 0 {
			return os.NewSyscallError(what, errno)
		}
		return nil
	}
}

// acknowledgement finds the answer to the request seq; its number is 0 if the
// request succeeded.
func acknowledgement(b []byte, seq uint32) (errno unix.Errno, ok bool) {
	const errorLen = unix.NLMSG_HDRLEN + 4
	if len(b) < errorLen || binary.NativeEndian.Uint16(b[4:]) != unix.NLMSG_ERROR ||
		binary.NativeEndian.Uint32(b[8:]) != seq {
		return 0, false
	}
	return unix.Errno(-int32(binary.NativeEndian.Uint32(b[unix.NLMSG_HDRLEN:]))), true
}

// attr appends an attribute, padded to four bytes.
func attr(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func attrUint32(b []byte, kind uint16, v uint32) []byte {
	return attr(b, kind, binary.NativeEndian.AppendUint32(nil, v))
}

func attrString(b []byte, kind uint16, s string) []byte {
	return attr(b, kind, append([]byte(s), 0))
}

// linkHeader is a struct ifinfomsg; flags are set, no others are touched.
func linkHeader(index int32, flags uint32) []byte {
	b := make([]byte, 4, 128) // family, padding, type
	b = binary.NativeEndian.AppendUint32(b, uint32(index))
	b = binary.NativeEndian.AppendUint32(b, flags)
	return binary.NativeEndian.AppendUint32(b, flags)
}

// set changes an interface's MTU (unless 0) and sets flags.
func (nl *netlink) set(index int32, mtu int, flags uint32) error {
	b := linkHeader(index, flags)
	if mtu != 0 {
		b = attrUint32(b, unix.IFLA_MTU, uint32(mtu))
	}
	return nl.request("set link", unix.RTM_NEWLINK, 0, b)
}

func (nl *netlink) up(name string) error {
	index, err := nl.index(name)
	if err != nil {
		return err
	}
	return nl.set(index, 0, unix.IFF_UP)
}

// silenceIPv6 keeps the kernel from making link-local addresses, without which
// it does not look for routers or neighbours. It must come before the
// interface goes up. Unlike a sysctl it does not need /proc.
func (nl *netlink) silenceIPv6(index int32) error {
	const none = 1 // IN6_ADDR_GEN_MODE_NONE of linux/if_link.h
	mode := attr(nil, unix.IFLA_INET6_ADDR_GEN_MODE, []byte{none})
	spec := attr(nil, unix.AF_INET6|unix.NLA_F_NESTED, mode)
	b := attr(linkHeader(index, 0), unix.IFLA_AF_SPEC|unix.NLA_F_NESTED, spec)
	err := nl.request("set IPv6 address generation", unix.RTM_SETLINK, 0, b)
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil // a kernel without IPv6 is silent as it is
	}
	return err
}

func (nl *netlink) addAddress(index int32, a netip.Prefix) error {
	ip := a.Addr().As4()
	b := []byte{unix.AF_INET, byte(a.Bits()), 0, unix.RT_SCOPE_UNIVERSE}
	b = binary.NativeEndian.AppendUint32(b, uint32(index))
	b = attr(b, unix.IFA_LOCAL, ip[:])
	b = attr(b, unix.IFA_ADDRESS, ip[:])
	return nl.request("add address", unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, b)
}

func (nl *netlink) addDefaultRoute(index int32, gateway netip.Addr) error {
	ip := gateway.As4()
	b := []byte{
		unix.AF_INET, 0, 0, 0, // family, prefix lengths, TOS
		unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST,
		0, 0, 0, 0, // flags
	}
	b = attr(b, unix.RTA_GATEWAY, ip[:])
	b = attrUint32(b, unix.RTA_OIF, uint32(index))
	return nl.request("add default route", unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, b)
}

// addVeth makes a pair of interfaces, name and peer.
func (nl *netlink) addVeth(name, peer string, mtu int) error {
	const vethInfoPeer = 1 // VETH_INFO_PEER of linux/veth.h
	other := attrString(linkHeader(0, 0), unix.IFLA_IFNAME, peer)
	other = attrUint32(other, unix.IFLA_MTU, uint32(mtu))
	info := attrString(nil, unix.IFLA_INFO_KIND, "veth")
	info = attr(info, unix.IFLA_INFO_DATA|unix.NLA_F_NESTED, attr(nil, vethInfoPeer|unix.NLA_F_NESTED, other))
	b := attrString(linkHeader(0, 0), unix.IFLA_IFNAME, name)
	b = attrUint32(b, unix.IFLA_MTU, uint32(mtu))
	b = attr(b, unix.IFLA_LINKINFO|unix.NLA_F_NESTED, info)
	return nl.request("add veth", unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, b)
}

// index is the number of an interface.
func (nl *netlink) index(name string) (int32, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return 0, os.NewSyscallError("interface "+name, err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr); err != nil {
		return 0, os.NewSyscallError("index of "+name, err)
	}
	return int32(ifr.Uint32()), nil
}
