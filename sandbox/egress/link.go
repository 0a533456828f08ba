package egress

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hearth-faas/hearth/sandbox"
)

// link is one container's connection. Until the container sends something it
// consists of this and one goroutine that is parked without a buffer.
//
// Locks are taken in the order link.mu, tcpTable.mu or udpTable.mu, and none is
// held while packets are written or sockets are dialled.
type link struct {
	network *Network
	id      string
	kind    sandbox.LinkKind
	file    *os.File
	raw     syscall.RawConn

	in, out     atomic.Int64
	up, down    shaper                          // from the container, and to it
	hardware    atomic.Pointer[hardwareAddress] // the container's; nil until it sends a frame
	restriction atomic.Pointer[restriction]     // nil is none; it never goes
	active      atomic.Pointer[active]          // nil until the container sends something; written under mu

	mu     sync.Mutex
	closed atomic.Bool // written under mu
	work   sync.WaitGroup
	stop   chan struct{} // closed when Close begins
	done   chan struct{} // closed when Close has finished; nil until it begins
}

// active is what a link needs once the container uses it.
type active struct {
	ctx    context.Context // ends with the link
	cancel context.CancelFunc
	rate   bucket
	tcp    tcpTable
	udp    udpTable
	dns    chan struct{} // a token for each query under way
}

func newLink(n *Network, id string, file *os.File, kind sandbox.LinkKind) (*link, error) {
	// The file may have been opened in any mode; one that polls must not
	// block. It is made anew from the descriptor, because Fd would take the
	// given one out of the poller, and whoever gave it may hold it still.
	defer file.Close()
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd, dupErr := -1, error(nil)
	err = raw.Control(func(old uintptr) {
		fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0)
	})
	if err := errors.Join(err, dupErr); err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("SetNonblock", err)
	}
	l := &link{network: n, id: id, kind: kind, file: os.NewFile(uintptr(fd), "link"), stop: make(chan struct{})}
	l.up.clock, l.down.clock = n.config.Clock, n.config.Clock
	if l.raw, err = l.file.SyscallConn(); err != nil {
		l.file.Close()
		return nil, err
	}
	return l, nil
}

// start serves the link.
func (l *link) start() {
	l.work.Go(func() {
		// It ends when the file is closed, or before that if the interface is
		// gone: then Close is about to come.
		err := l.raw.Read(l.drain)
		if !l.closed.Load() {
			l.network.config.Log.Debug("a container's interface is gone", "container", l.id, "error", err)
		}
	})
}

// drain takes packets until there are none, and reports whether the link is
// over. It is called when the link becomes readable.
func (l *link) drain(fd uintptr) (over bool) {
	b := frames.Get().(*frame)
	defer frames.Put(b)
	for !l.closed.Load() {
		n, err := unix.Read(int(fd), b[:])
		switch {
		case err == nil && n > 0:
			l.receive(b[:n])
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return false
		default:
			return true
		}
	}
	return true
}

// receive takes what the container sent, which may be anything at all. b is
// the caller's again when it returns.
func (l *link) receive(b []byte) {
	guest := &l.network.config.Guest
	if l.kind == sandbox.LinkPacket {
		from, kind, payload, ok := parseEthernet(b)
		if !ok {
			return
		}
		if old := l.hardware.Load(); old == nil || *old != from {
			l.hardware.Store(&from)
		}
		if kind == unix.ETH_P_ARP {
			if reply := arpReply(payload, from, guest.Address.Addr()); reply != nil {
				l.writeFrame(reply)
			}
			return
		}
		if kind != unix.ETH_P_IP {
			return
		}
		b = payload
	}
	p, ok := parseIPv4(b)
	// Another source address cannot be answered, and the kernel's own
	// chatter (IGMP and the like) goes to multicast addresses.
	if !ok || p.src != guest.Address.Addr() || p.dst.IsMulticast() {
		return
	}
	l.out.Add(int64(len(p.bytes)))
	owes := l.up.pass(len(p.bytes))
	switch p.protocol {
	case unix.IPPROTO_TCP:
		l.receiveTCP(p)
	case unix.IPPROTO_UDP:
		l.receiveUDP(p, owes)
	case unix.IPPROTO_ICMP:
		l.receiveICMP(p)
	default:
		l.refuse(p, protocolUnreachable)
	}
}

// receiveICMP answers pings of the gateway and refuses others. Errors that the
// container reports lead to nothing: what they are about ends by itself.
func (l *link) receiveICMP(p packet) {
	m := p.payload()
	if len(m) < icmpLen || m[0] != icmpEcho {
		return
	}
	if p.dst == l.network.config.Guest.Gateway {
		l.write(echoReply(p))
	} else {
		l.refuse(p, prohibited)
	}
}

// refuse tells the container that a packet went nowhere. Nobody is told of
// what was sent to a broadcast address (RFC 1122).
func (l *link) refuse(p packet, code byte) {
	if p.dst == limitedBroadcast {
		return
	}
	l.write(unreachable(p, l.network.config.Guest.Gateway, code))
}

var limitedBroadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// activate gives the link's active part, made if need be; nil if it is closed.
func (l *link) activate() *active {
	if a := l.active.Load(); a != nil {
		return a
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed.Load() {
		return nil
	}
	if l.active.Load() == nil {
		limits := l.network.config.Limits
		a := &active{dns: make(chan struct{}, limits.DNS)}
		a.rate.init(l.network.config.Clock, limits.NewPerSecond)
		a.ctx, a.cancel = context.WithCancel(context.Background())
		a.tcp.init(l)
		a.udp.init(l)
		l.active.Store(a)
	}
	return l.active.Load()
}

// spawn runs f in a goroutine that Close waits for, unless the link is closed.
func (l *link) spawn(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed.Load() {
		return false
	}
	l.work.Go(f)
	return true
}

// write sends an IP packet, given in parts, to the container. As on any
// network it is lost if there is no room for it, or no container any more.
func (l *link) write(parts ...[]byte) {
	if l.kind == sandbox.LinkPacket {
		to := l.hardware.Load()
		if to == nil {
			return // it never sent a frame, so that this answers nothing
		}
		header := make([]byte, ethernetLen)
		putEthernet(header, *to, unix.ETH_P_IP)
		parts = append([][]byte{header}, parts...)
	}
	n := l.writeFrame(parts...)
	if l.kind == sandbox.LinkPacket {
		n -= ethernetLen
	}
	if n > 0 {
		l.in.Add(int64(n))
		l.down.pass(n)
	}
}

// writeFrame sends as the link's kind has it and returns how much was sent.
func (l *link) writeFrame(parts ...[]byte) (n int) {
	err := l.raw.Control(func(fd uintptr) {
		for {
			var err error
			n, err = unix.Writev(int(fd), parts)
			if !errors.Is(err, unix.EINTR) {
				return // what failed is a lost packet
			}
		}
	})
	if err != nil {
		return 0 // closed
	}
	return n
}

// Counts are the bytes of IP packets into and out of the container.
func (l *link) Counts() (in, out int64) { return l.in.Load(), l.out.Load() }

// Close resets the container's connections outside and frees what it held. It
// returns when all that is done, and may be called again.
func (l *link) Close() error {
	l.mu.Lock()
	if l.done != nil {
		l.mu.Unlock()
		<-l.done
		return nil
	}
	l.done = make(chan struct{})
	l.closed.Store(true)
	close(l.stop)
	active := l.active.Load()
	l.mu.Unlock()
	defer close(l.done)

	if active != nil {
		active.cancel()
		active.tcp.reset()
		active.udp.close()
	}
	err := l.file.Close()
	l.work.Wait()
	if active != nil {
		active.tcp.destroy()
	}
	l.network.forget(l)
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return err
}
