package egress

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hearth-faas/hearth"
)

// udpTable holds a link's UDP flows: each is a socket outside, connected to one
// destination, that lives until nothing has passed for a while.
type udpTable struct {
	link *link

	mu     sync.Mutex
	flows  map[flowKey]*udpFlow
	closed bool
}

type udpFlow struct {
	key  flowKey
	conn *net.UDPConn
	raw  syscall.RawConn

	// Under udpTable.mu:
	last  time.Time
	timer hearth.Timer
}

func (t *udpTable) init(l *link) {
	t.link = l
	t.flows = map[flowKey]*udpFlow{}
}

// receiveUDP takes a datagram of the container. One that is far ahead of the
// link's rate is lost, unless it is a query for a name: those are few.
func (l *link) receiveUDP(p packet, ahead bool) {
	datagram := p.payload()
	if len(datagram) < udpLen {
		return
	}
	length := int(binary.BigEndian.Uint16(datagram[4:]))
	if length < udpLen || length > len(datagram) {
		return
	}
	payload := datagram[udpLen:length]
	src, dst := p.ports()
	key := flowKey{src, netip.AddrPortFrom(p.dst, dst)}
	guest := &l.network.config.Guest
	if p.dst == guest.DNS && dst == dnsPort {
		l.resolve(src, payload)
		return
	}
	if p.dst == guest.Gateway {
		l.refuse(p, portUnreachable)
		return
	}
	if ahead {
		return
	}
	a := l.activate()
	if a == nil {
		return
	}
	f := a.udp.find(key)
	if f == nil {
		if !l.network.allowed(l.id, key.destination) || !l.allows(key.destination) {
			l.refuse(p, prohibited)
			return
		}
		if !a.rate.take() {
			return
		}
		var err error
		if f, err = a.udp.open(key); err != nil {
			l.refuse(p, codeOf(err))
			return
		}
	}
	a.udp.send(f, p, payload)
}

// find gives the flow and notes its use.
func (t *udpTable) find(key flowKey) *udpFlow {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.flows[key]
	if f != nil {
		f.last = t.link.network.config.Clock.Now()
	}
	return f
}

// open makes a flow.
func (t *udpTable) open(key flowKey) (*udpFlow, error) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(key.destination))
	if err != nil {
		return nil, err
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		conn.Close()
		return nil, err
	}
	config := &t.link.network.config
	f := &udpFlow{key: key, conn: conn, raw: raw, last: config.Clock.Now()}
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		conn.Close()
		return nil, net.ErrClosed
	}
	if len(t.flows) >= config.Limits.UDP {
		t.removeLocked(t.idlest())
	}
	t.flows[key] = f
	f.timer = config.Clock.AfterFunc(config.Limits.UDPIdle, func() { t.expire(f) })
	t.mu.Unlock()
	if !t.link.spawn(func() { t.receive(f) }) {
		t.remove(f)
		return nil, net.ErrClosed
	}
	return f, nil
}

// idlest is the flow whose last packet is longest ago.
func (t *udpTable) idlest() *udpFlow {
	var idlest *udpFlow
	for _, f := range t.flows {
		if idlest == nil || f.last.Before(idlest.last) {
			idlest = f
		}
	}
	return idlest
}

// expire ends a flow that was idle; one that was not has the rest of its time.
func (t *udpTable) expire(f *udpFlow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	config := &t.link.network.config
	idle := config.Clock.Now().Sub(f.last)
	switch {
	case t.flows[f.key] != f:
	case idle < config.Limits.UDPIdle:
		f.timer.Reset(config.Limits.UDPIdle - idle)
	default:
		t.removeLocked(f)
	}
}

func (t *udpTable) remove(f *udpFlow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.removeLocked(f)
}

func (t *udpTable) removeLocked(f *udpFlow) {
	if t.flows[f.key] == f {
		delete(t.flows, f.key)
	}
	f.timer.Stop()
	f.conn.Close() // ends receive; fails only if it was closed before
}

// send passes a datagram on. It does not wait: what does not fit is lost.
func (t *udpTable) send(f *udpFlow, p packet, payload []byte) {
	var sendErr error
	err := f.raw.Control(func(fd uintptr) {
		sendErr = unix.Send(int(fd), payload, unix.MSG_DONTWAIT)
	})
	switch {
	case err != nil: // closed in between
	case sendErr == nil, errors.Is(sendErr, unix.EAGAIN), errors.Is(sendErr, unix.ENOBUFS):
	default:
		t.link.refuse(p, codeOf(sendErr))
	}
}

// receive passes on what comes back, until the flow is removed.
func (t *udpTable) receive(f *udpFlow) {
	defer t.remove(f)
	guest := netip.AddrPortFrom(t.link.network.config.Guest.Address.Addr(), f.key.port)
	for {
		b, n, err := readInto(f.raw, ipv4Len+udpLen, false)
		if err != nil {
			if errors.Is(err, os.ErrClosed) || errors.Is(err, net.ErrClosed) {
				return
			}
			// What an ICMP error said of an earlier datagram.
			t.link.refuse(f.quote(guest), codeOf(err))
			if errors.Is(err, unix.ECONNREFUSED) {
				continue
			}
			return
		}
		t.find(f.key) // before the container can act on what it is told
		if total := ipv4Len + udpLen + n; total <= t.link.network.config.Guest.MTU && t.link.admit(total) {
			putUDP(b[:total], f.key.destination, guest)
			t.link.write(b[:total])
		}
		frames.Put(b)
	}
}

// quote is a packet of the container in this flow, for an error to refer to.
func (f *udpFlow) quote(guest netip.AddrPort) packet {
	b := make([]byte, ipv4Len+udpLen)
	putUDP(b, guest, f.key.destination)
	return packet{bytes: b, src: guest.Addr(), dst: f.key.destination.Addr(), protocol: unix.IPPROTO_UDP}
}

// close ends all flows.
func (t *udpTable) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, f := range t.flows {
		t.removeLocked(f)
	}
}

// codeOf is how the container is told of what a socket outside said. Of the
// codes that mean unreachable it takes those that Linux reports on a connected
// socket; the plain ones it takes for passing troubles.
func codeOf(err error) byte {
	switch {
	case errors.Is(err, unix.ENETUNREACH):
		return netProhibited
	case errors.Is(err, unix.ECONNREFUSED):
		return portUnreachable
	}
	return hostProhibited
}
