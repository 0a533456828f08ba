package guest

import (
	"encoding/binary"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// receiveBuffer is what the kernel may queue for the packet socket, in bytes:
// some thirty packets of the largest size. Beyond it packets are lost, as on
// any network.
const receiveBuffer = 2 << 20

// openVeth makes the pair and a packet socket that takes what arrives at its
// far end. Both ends stay in this namespace, since a second one would cost as
// much again: the far end has no address, and its hardware address is not the
// one that the gateway answers to, so the kernel itself takes none of its
// packets.
func openVeth(nl *netlink, name string, mtu int) (*os.File, error) {
	if err := nl.addVeth(name, peerName, mtu); err != nil {
		return nil, err
	}
	peer, err := nl.index(peerName)
	if err != nil {
		return nil, err
	}
	if err := nl.silenceIPv6(peer); err != nil {
		return nil, err
	}
	if err := nl.set(peer, 0, unix.IFF_UP|unix.IFF_NOARP); err != nil {
		return nil, err
	}
	return OpenPacket(int(peer))
}

// OpenPacket opens a packet socket on an interface of the calling thread's
// network namespace. It receives IPv4 and ARP frames that others sent, and
// sends whole frames.
func OpenPacket(index int) (*os.File, error) {
	// Protocol 0 receives nothing until the socket is bound, so that it never
	// holds a frame of another interface, or one that the filter refuses.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("packet socket", err)
	}
	if err := setUpPacket(fd, index); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), peerName), nil
}

func setUpPacket(fd, index int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
		return os.NewSyscallError("PACKET_IGNORE_OUTGOING", err)
	}
	// A pair's far end has no queue for up to a second after its carrier came,
	// and drops what is sent through it.
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
		return os.NewSyscallError("PACKET_QDISC_BYPASS", err)
	}
	filter := [...]unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: 12}, // EtherType
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 2, K: unix.ETH_P_IP},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 1, K: unix.ETH_P_ARP},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
		{Code: unix.BPF_RET | unix.BPF_K, K: 1 << 20}, // all of the frame
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program); err != nil {
		return os.NewSyscallError("SO_ATTACH_FILTER", err)
	}
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer)
	if errors.Is(err, unix.EPERM) {
		// An older kernel wants the privilege over the host: take what anyone
		// may have.
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	if err != nil {
		return os.NewSyscallError("SO_RCVBUF", err)
	}
	address := unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL), Ifindex: index}
	return os.NewSyscallError("bind packet socket", unix.Bind(fd, &address))
}

// networkOrder is htons.
func networkOrder(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}
