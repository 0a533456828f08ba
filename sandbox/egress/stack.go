package egress

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

const (
	nic = 1
	// tcpBuffer is what a connection's stack holds in each direction, in
	// bytes: many times what a link of 10 Gbit/s has under way in its round
	// trip of some 50 µs.
	tcpBuffer = 128 << 10
	// timeWait is short because nothing can arrive late on a link that has no
	// length.
	timeWait = time.Second
)

// tcpStack is a container's TCP: it answers for every address. It does nothing
// but TCP, on whole IPv4 packets.
type tcpStack struct {
	stack  *stack.Stack
	device *device
}

func newTCPStack(t *tcpTable) (*tcpStack, error) {
	s := &tcpStack{
		stack: stack.New(stack.Options{
			NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol},
			TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol},
		}),
		device: &device{link: t.link, mtu: uint32(t.link.network.config.Guest.MTU)},
	}
	if err := s.configure(); err != nil {
		s.destroy()
		return nil, fmt.Errorf("TCP stack: %v", err)
	}
	forwarder := tcp.NewForwarder(s.stack, tcpBuffer, 1<<30, func(r *tcp.ForwarderRequest) {
		t.hand(keyOf(r.ID()), r)
	})
	s.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, func(id stack.TransportEndpointID, p *stack.PacketBuffer) bool {
		// Anything but the SYN of a connection that was made outside gets a
		// reset from the stack.
		flags := header.TCP(p.TransportHeader().Slice()).Flags()
		return flags&(header.TCPFlagSyn|header.TCPFlagAck) == header.TCPFlagSyn &&
			t.claim(keyOf(id), func() bool { return forwarder.HandlePacket(id, p) })
	})
	return s, nil
}

// keyOf names a connection as the stack does: it is the local side.
func keyOf(id stack.TransportEndpointID) flowKey {
	return flowKey{id.RemotePort, netip.AddrPortFrom(netip.AddrFrom4(id.LocalAddress.As4()), id.LocalPort)}
}

func (s *tcpStack) configure() tcpip.Error {
	sack := tcpip.TCPSACKEnabled(true)
	moderate := tcpip.TCPModerateReceiveBufferOption(false)
	wait := tcpip.TCPTimeWaitTimeoutOption(timeWait)
	linger := tcpip.TCPLingerTimeoutOption(lingerTimeout)
	for _, option := range []tcpip.SettableTransportProtocolOption{
		&sack, &moderate, &wait, &linger,
		&tcpip.TCPReceiveBufferSizeRangeOption{Min: 4 << 10, Default: tcpBuffer, Max: tcpBuffer},
		&tcpip.TCPSendBufferSizeRangeOption{Min: 4 << 10, Default: tcpBuffer, Max: tcpBuffer},
	} {
		if err := s.stack.SetTransportProtocolOption(tcp.ProtocolNumber, option); err != nil {
			return err
		}
	}
	if err := s.stack.CreateNIC(nic, s.device); err != nil {
		return err
	}
	// Promiscuous takes packets to any address, spoofing answers from there.
	if err := s.stack.SetPromiscuousMode(nic, true); err != nil {
		return err
	}
	if err := s.stack.SetSpoofing(nic, true); err != nil {
		return err
	}
	s.stack.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}})
	return nil
}

// deliver gives the stack a packet, which it copies.
func (s *tcpStack) deliver(b []byte) {
	dispatcher := s.device.dispatcher.Load()
	if dispatcher == nil {
		return
	}
	p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
	(*dispatcher).DeliverNetworkPacket(unix.ETH_P_IP, p)
	p.DecRef()
}

// abort resets every connection.
func (s *tcpStack) abort() {
	for _, e := range s.stack.RegisteredEndpoints() {
		e.Abort()
	}
	for _, e := range s.stack.CleanupEndpoints() {
		e.Abort()
	}
}

// destroy ends the stack's goroutines and timers.
func (s *tcpStack) destroy() { s.stack.Destroy() }
