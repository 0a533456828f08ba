package egress

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
)

// Sizes of headers, in bytes, without options.
const (
	ethernetLen = 14
	arpLen      = 28
	ipv4Len     = 20
	udpLen      = 8
	tcpLen      = 20
	icmpLen     = 8
)

// packet is a valid IPv4 packet that is whole: no fragment, no options.
type packet struct {
	bytes    []byte // header and payload, nothing behind them
	src, dst netip.Addr
	protocol byte
}

// payload is what follows the IP header.
func (p packet) payload() []byte { return p.bytes[ipv4Len:] }

// ports are those of TCP and UDP; the payload must have four bytes.
func (p packet) ports() (src, dst uint16) {
	b := p.payload()
	return binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
}

// parseIPv4 reads a packet. Checksums are not looked at: the packet came
// through memory, and the kernel leaves those of frames undone.
func parseIPv4(b []byte) (packet, bool) {
	const versionAndLength = 4<<4 | ipv4Len/4
	if len(b) < ipv4Len || b[0] != versionAndLength {
		return packet{}, false
	}
	total := int(binary.BigEndian.Uint16(b[2:]))
	if total < ipv4Len || total > len(b) {
		return packet{}, false
	}
	const moreFragmentsAndOffset = 0x3fff
	if binary.BigEndian.Uint16(b[6:])&moreFragmentsAndOffset != 0 {
		return packet{}, false
	}
	return packet{
		bytes: b[:total], protocol: b[9],
		src: netip.AddrFrom4([4]byte(b[12:16])), dst: netip.AddrFrom4([4]byte(b[16:20])),
	}, true
}

// putIPv4 writes the header of a packet that fills b.
func putIPv4(b []byte, protocol byte, src, dst netip.Addr) {
	clear(b[:ipv4Len])
	b[0] = 4<<4 | ipv4Len/4
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	b[6] = 1 << 6 // don't fragment
	b[8] = 64     // hops
	b[9] = protocol
	copy(b[12:], src.AsSlice())
	copy(b[16:], dst.AsSlice())
	binary.BigEndian.PutUint16(b[10:], ^checksum.Checksum(b[:ipv4Len], 0))
}

// sumTransport is the checksum of a TCP or UDP segment whose own checksum field
// is zero, in the packet b, whose IP header is done.
func sumTransport(b []byte) uint16 {
	sum := checksum.Checksum(b[12:20], 0) // addresses
	sum = checksum.Combine(sum, uint16(b[9]))
	sum = checksum.Combine(sum, uint16(len(b)-ipv4Len))
	return ^checksum.Checksum(b[ipv4Len:], sum)
}

// putUDP writes the headers of a datagram whose payload is in place: b is all
// of the packet.
func putUDP(b []byte, src, dst netip.AddrPort) {
	putIPv4(b, unix.IPPROTO_UDP, src.Addr(), dst.Addr())
	u := b[ipv4Len:]
	binary.BigEndian.PutUint16(u, src.Port())
	binary.BigEndian.PutUint16(u[2:], dst.Port())
	binary.BigEndian.PutUint16(u[4:], uint16(len(u)))
	u[6], u[7] = 0, 0
	sum := sumTransport(b)
	if sum == 0 {
		sum = 0xffff // 0 means "no checksum" (RFC 768)
	}
	binary.BigEndian.PutUint16(u[6:], sum)
}

// resetFor is the TCP reset that answers a SYN.
func resetFor(p packet) []byte {
	b := make([]byte, ipv4Len+tcpLen)
	putIPv4(b, unix.IPPROTO_TCP, p.dst, p.src)
	in, t := p.payload(), b[ipv4Len:]
	copy(t, in[2:4])
	copy(t[2:], in[:2])
	binary.BigEndian.PutUint32(t[8:], binary.BigEndian.Uint32(in[4:])+1) // acknowledges the SYN
	t[12] = tcpLen / 4 << 4
	t[13] = tcpRST | tcpACK
	binary.BigEndian.PutUint16(t[16:], sumTransport(b))
	return b
}

// Flags of TCP's header.
const (
	tcpSYN = 0x02
	tcpRST = 0x04
	tcpACK = 0x10
)

// Types and codes of ICMP (RFC 792, RFC 1812).
const (
	icmpEchoReply       = 0
	icmpUnreachable     = 3
	icmpEcho            = 8
	netUnreachable      = 0
	hostUnreachable     = 1
	protocolUnreachable = 2
	portUnreachable     = 3
	netProhibited       = 9
	hostProhibited      = 10
	prohibited          = 13 // communication administratively prohibited
)

// unreachable is the ICMP error that answers a packet, from the gateway.
func unreachable(p packet, gateway netip.Addr, code byte) []byte {
	quoted := p.bytes[:min(len(p.bytes), ipv4Len+8)]
	b := make([]byte, ipv4Len+icmpLen+len(quoted))
	putIPv4(b, unix.IPPROTO_ICMP, gateway, p.src)
	m := b[ipv4Len:]
	m[0], m[1] = icmpUnreachable, code
	copy(m[icmpLen:], quoted)
	binary.BigEndian.PutUint16(m[2:], ^checksum.Checksum(m, 0))
	return b
}

// echoReply answers an echo request.
func echoReply(p packet) []byte {
	b := make([]byte, len(p.bytes))
	putIPv4(b, unix.IPPROTO_ICMP, p.dst, p.src)
	m := b[ipv4Len:]
	copy(m, p.payload())
	m[0] = icmpEchoReply
	m[2], m[3] = 0, 0
	binary.BigEndian.PutUint16(m[2:], ^checksum.Checksum(m, 0))
	return b
}

// hardwareAddress is an Ethernet address.
type hardwareAddress [6]byte

// gatewayHardware is the gateway's on every link: locally administered.
var gatewayHardware = hardwareAddress{0x02, 0x48, 0x45, 0x41, 0x52, 0x01}

// parseEthernet splits a frame.
func parseEthernet(b []byte) (src hardwareAddress, kind uint16, payload []byte, ok bool) {
	if len(b) < ethernetLen {
		return src, 0, nil, false
	}
	copy(src[:], b[6:])
	return src, binary.BigEndian.Uint16(b[12:]), b[ethernetLen:], true
}

// putEthernet writes a frame's header.
func putEthernet(b []byte, dst hardwareAddress, kind uint16) {
	copy(b, dst[:])
	copy(b[6:], gatewayHardware[:])
	binary.BigEndian.PutUint16(b[12:], kind)
}

// arpReply answers a request of the container for an address other than its
// own; nil for anything else. The gateway is the next hop to everything, so it
// answers for whatever is asked.
func arpReply(b []byte, from hardwareAddress, container netip.Addr) []byte {
	request := [8]byte{0, 1, 8, 0, 6, 4, 0, 1} // Ethernet, IPv4, lengths of addresses, request
	if len(b) < arpLen || [8]byte(b[:8]) != request {
		return nil
	}
	target := netip.AddrFrom4([4]byte(b[24:28]))
	if target == container || netip.AddrFrom4([4]byte(b[14:18])) != container {
		return nil
	}
	frame := make([]byte, ethernetLen+arpLen)
	putEthernet(frame, from, unix.ETH_P_ARP)
	a := frame[ethernetLen:]
	copy(a, request[:])
	a[7] = 2 // reply
	copy(a[8:], gatewayHardware[:])
	copy(a[14:], b[24:28])
	copy(a[18:], b[8:18])
	return frame
}
