// Package guest sets up the inside of a container's network: the loopback
// device, one interface whose packets arrive at a file, its address and its
// default route.
//
// It is what the sandbox's first process links, so it is made of system calls
// only: no TCP/IP stack, no netlink library, nothing of package net.
package guest

import (
	"errors"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Kind is how the link's file frames packets. The values are those of
// sandbox.LinkKind, so that one converts to the other.
type Kind int

// The kinds of link.
const (
	TUN    Kind = iota // a TUN device without packet information
	Packet             // an AF_PACKET socket with Ethernet frames
)

// MaxMTU is the largest IPv4 packet. It is also the best MTU: the stack at the
// other end of the link ends the container's connections, so that the packets
// never meet a real wire, and large ones cost fewer system calls. No packet is
// ever fragmented at this size.
const MaxMTU = 65535

// Config says what the interface is like. Address and Gateway are IPv4.
type Config struct {
	Address netip.Prefix // the interface's own
	Gateway netip.Addr   // within Address
	MTU     int          // 0 means MaxMTU
	Name    string       // of the interface; "" means eth0
	// TUNPath is the TUN clone device; "" means /dev/net/tun.
	TUNPath string
	// NoTUN takes the packet socket though there may be a TUN device.
	NoTUN bool
}

const (
	defaultName = "eth0"
	defaultTUN  = "/dev/net/tun"
	// peerName is the end of the veth pair that the packet socket listens on.
	peerName = "gateway0"
)

// Up brings the loopback device up and makes the interface, in the network
// namespace of the calling OS thread (lock it, if the process has more than
// one namespace), which must be privileged over that namespace. The interface
// goes when the namespace does, which the link keeps until it is closed.
//
// The link is a TUN device or, where that cannot be had (no such module, or
// not for ordinary users), a packet socket at the far end of a veth pair,
// which needs no device node. It is non-blocking, close-on-exec, and meant to
// be sent to the process that serves it. It works once in a namespace.
func Up(c Config) (link *os.File, kind Kind, err error) {
	if !c.Address.Addr().Is4() || !c.Gateway.Is4() {
		return nil, 0, errors.New("guest: address and gateway must be IPv4")
	}
	if c.MTU == 0 {
		c.MTU = MaxMTU
	}
	if c.Name == "" {
		c.Name = defaultName
	}
	if c.TUNPath == "" {
		c.TUNPath = defaultTUN
	}
	nl, err := dialNetlink()
	if err != nil {
		return nil, 0, err
	}
	defer nl.close()
	if err := nl.up("lo"); err != nil {
		return nil, 0, err
	}
	var tunErr error
	if !c.NoTUN {
		if link, tunErr = OpenTUN(c.TUNPath, c.Name); tunErr == nil {
			kind = TUN
		}
	}
	if link == nil {
		if link, err = openVeth(nl, c.Name, c.MTU); err != nil {
			return nil, 0, errors.Join(tunErr, err)
		}
		kind = Packet
	}
	if err := nl.configure(c); err != nil {
		link.Close()
		return nil, 0, err
	}
	return link, kind, nil
}

// LoopbackUp brings up the loopback device alone, for a container without a
// network.
func LoopbackUp() error {
	nl, err := dialNetlink()
	if err != nil {
		return err
	}
	defer nl.close()
	return nl.up("lo")
}

// OpenTUN makes a TUN interface in the calling thread's network namespace.
// Nothing but its name is set. The interface stays after the file is closed,
// for the kernel to remove in the background with the namespace: removing it
// alone would make closing the file take some 30 ms, under a lock that all
// network set-up on the host waits for, instead of 0.1 ms.
func OpenTUN(path, name string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	ifr, err := unix.NewIfreq(name)
	if err == nil {
		ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = os.NewSyscallError("TUNSETIFF", unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr))
	}
	if err == nil {
		err = os.NewSyscallError("TUNSETPERSIST", unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1))
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// configure gives the interface its size, address and default route, and
// takes it up. IPv6 gets no address: what answers at the other end speaks
// IPv4, and an interface without IPv6 sends no router solicitations.
func (nl *netlink) configure(c Config) error {
	index, err := nl.index(c.Name)
	if err != nil {
		return err
	}
	if err := nl.silenceIPv6(index); err != nil {
		return err
	}
	if err := nl.set(index, c.MTU, unix.IFF_UP); err != nil {
		return err
	}
	if err := nl.addAddress(index, c.Address); err != nil {
		return err
	}
	return nl.addDefaultRoute(index, c.Gateway)
}
