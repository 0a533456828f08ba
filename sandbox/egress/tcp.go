package egress

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/hearth-faas/hearth"
)

// dialTimeout bounds one attempt to connect. The container's own TCP goes on
// for two minutes and each of its later SYNs makes another attempt.
const dialTimeout = 30 * time.Second

// lingerTimeout is how long the container has to take the rest of what was
// sent to it, and the end, after the other side has closed.
const lingerTimeout = 30 * time.Second

// tcpTable holds a link's TCP connections.
//
// The container's SYN is kept here, unanswered, until the connection outside
// is through or has failed; only then the stack sees it and answers. So what
// connect says inside is what it said outside.
type tcpTable struct {
	link *link

	mu          sync.Mutex
	flows       map[flowKey]*tcpFlow
	stack       *tcpStack // nil while there are no connections
	idle        hearth.Timer
	idleSince   time.Time
	handshaking int
	closed      bool
}

// flowKey names a connection or UDP flow: the container's address is always
// the same.
type flowKey struct {
	port        uint16 // the container's
	destination netip.AddrPort
}

// tcpFlow is one connection. It goes through these states, each of which only
// the goroutine of connect enters: dialling (no endpoint), handshaking
// (claimed), open (endpoint set), gone from the table.
type tcpFlow struct {
	key     flowKey
	request chan *tcp.ForwarderRequest // the stack's, once it has taken the SYN
	queue   waiter.Queue

	// Under tcpTable.mu:
	claimed  bool // the stack has taken the SYN
	endpoint tcpip.Endpoint
	outside  *net.TCPConn // nil for a connection to the API
}

func (t *tcpTable) init(l *link) {
	t.link = l
	t.flows = map[flowKey]*tcpFlow{}
}

// receiveTCP takes a TCP segment of the container.
func (l *link) receiveTCP(p packet) {
	segment := p.payload()
	if len(segment) < tcpLen {
		return
	}
	if segment[13]&(tcpSYN|tcpACK|tcpRST) != tcpSYN {
		if a := l.active.Load(); a != nil {
			a.tcp.deliver(p)
		}
		return
	}
	a := l.activate()
	if a == nil {
		return
	}
	src, dst := p.ports()
	key := flowKey{src, netip.AddrPortFrom(p.dst, dst)}
	if a.tcp.known(key) {
		// One of an open connection is the stack's to answer; any other is
		// sent again because it was not answered yet.
		a.tcp.deliver(p)
		return
	}
	if !a.rate.take() {
		return
	}
	if !a.tcp.admit(key, p) {
		l.write(resetFor(p))
	}
}

func (t *tcpTable) known(key flowKey) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.flows[key] != nil
}

// deliver gives a segment to the stack, except a SYN whose connection is not
// open yet.
func (t *tcpTable) deliver(p packet) {
	t.mu.Lock()
	stack := t.stack
	if p.payload()[13]&(tcpSYN|tcpACK) == tcpSYN {
		src, dst := p.ports()
		if f := t.flows[flowKey{src, netip.AddrPortFrom(p.dst, dst)}]; f != nil && f.endpoint == nil {
			stack = nil
		}
	}
	t.mu.Unlock()
	if stack != nil {
		stack.deliver(p.bytes)
	}
}

// admit begins to connect to where a SYN wants to go, unless it may not.
func (t *tcpTable) admit(key flowKey, syn packet) bool {
	n := t.link.network
	guest := &n.config.Guest
	toAPI := key.destination == guest.API
	toDNS := key.destination == netip.AddrPortFrom(guest.DNS, dnsPort)
	switch {
	case toAPI || toDNS:
		if !t.link.open() {
			return false
		}
	case !n.allowed(t.link.id, key.destination), !t.link.allows(key.destination):
		return false
	}
	f := &tcpFlow{key: key, request: make(chan *tcp.ForwarderRequest, 1)}
	t.mu.Lock()
	if t.closed || len(t.flows) >= n.config.Limits.TCP {
		t.mu.Unlock()
		return false
	}
	t.flows[key] = f
	t.mu.Unlock()
	syn.bytes = append([]byte(nil), syn.bytes...)
	return t.link.spawn(func() {
		defer t.remove(f)
		if toAPI {
			t.serveAPI(f, syn)
			return
		}
		targets := []netip.AddrPort{key.destination}
		if toDNS {
			targets = n.resolvers.servers()
		}
		t.connect(f, syn, targets)
	})
}

// connect dials the first target that answers and carries the connection to
// its end.
func (t *tcpTable) connect(f *tcpFlow, syn packet, targets []netip.AddrPort) {
	outside, err := t.dial(targets)
	if err != nil {
		t.failed(syn, err)
		return
	}
	defer outside.Close()
	t.mu.Lock()
	f.outside = outside
	t.mu.Unlock()
	endpoint, ok := t.accept(f, syn)
	if !ok {
		reset(outside)
		return
	}
	splice(endpoint, &f.queue, outside, t.link)
	t.finish(endpoint)
}

func (t *tcpTable) dial(targets []netip.AddrPort) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(t.link.active.Load().ctx, dialTimeout)
	defer cancel()
	err := error(unix.ECONNREFUSED) // what it is without a target
	for _, target := range targets {
		var dialer net.Dialer
		var conn net.Conn
		if conn, err = dialer.DialContext(ctx, "tcp", target.String()); err == nil {
			return conn.(*net.TCPConn), nil
		}
	}
	return nil, err
}

// failed makes the container's connect fail as the one outside did.
func (t *tcpTable) failed(syn packet, err error) {
	l := t.link
	switch {
	case errors.Is(err, unix.ENETUNREACH):
		l.refuse(syn, netUnreachable)
	case errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.EHOSTDOWN):
		l.refuse(syn, hostUnreachable)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		l.refuse(syn, prohibited) // by the host's firewall
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, unix.ETIMEDOUT):
		// Silence means the same inside.
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ECONNRESET):
		l.write(resetFor(syn))
	default:
		// Something is wrong here, such as no descriptors left.
		l.network.config.Log.Error("a container's connection could not be made", "container", l.id, "error", err)
		l.write(resetFor(syn))
	}
}

// accept lets the stack have the SYN and answer it, and waits until the
// container has confirmed.
func (t *tcpTable) accept(f *tcpFlow, syn packet) (tcpip.Endpoint, bool) {
	stack, ok := t.handshake(1)
	if !ok {
		return nil, false
	}
	defer t.handshake(-1)
	stack.deliver(syn.bytes)
	t.mu.Lock()
	claimed := f.claimed
	t.mu.Unlock()
	if !claimed {
		// The stack still has the end of an earlier connection of the same
		// ports, or finds the SYN malformed.
		t.link.write(resetFor(syn))
		return nil, false
	}
	request := <-f.request
	endpoint, err := request.CreateEndpoint(&f.queue)
	request.Complete(false)
	if err != nil {
		return nil, false // the container went away, or the link is closing
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		endpoint.Abort()
		return nil, false
	}
	f.endpoint = endpoint
	return endpoint, true
}

// handshake counts the handshakes under way, and gives the stack for one that
// begins, making it if need be.
func (t *tcpTable) handshake(change int) (*tcpStack, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if change > 0 {
		if t.closed {
			return nil, false
		}
		if t.stack == nil {
			stack, err := newTCPStack(t)
			if err != nil {
				t.link.network.config.Log.Error("a container has no network", "container", t.link.id, "error", err)
				return nil, false
			}
			t.stack = stack
		}
	}
	t.handshaking += change
	return t.stack, true
}

// claim is called by the stack with a SYN that belongs to none of its
// endpoints: it may have it once.
func (t *tcpTable) claim(key flowKey, take func() bool) bool {
	t.mu.Lock()
	f := t.flows[key]
	if f == nil || f.claimed {
		t.mu.Unlock()
		return false
	}
	f.claimed = true
	t.mu.Unlock()
	if take() {
		return true
	}
	t.mu.Lock()
	f.claimed = false
	t.mu.Unlock()
	return false
}

// hand passes the stack's request to the connection that it belongs to.
func (t *tcpTable) hand(key flowKey, request *tcp.ForwarderRequest) {
	t.mu.Lock()
	f := t.flows[key]
	t.mu.Unlock()
	// It is there: only accept lets the stack have a SYN, and waits for this.
	// But what a container sends must not be able to prove that wrong.
	if f != nil {
		select {
		case f.request <- request:
			return
		default:
		}
	}
	request.Complete(true)
}

// finish waits until the container has taken all that was sent to it, so that
// what it does not take goes on counting as a connection.
func (t *tcpTable) finish(endpoint tcpip.Endpoint) {
	endpoint.Close()
	deadline := time.Now().Add(lingerTimeout)
	done := t.link.active.Load().ctx.Done()
	for wait := 2 * time.Millisecond; !over(endpoint); wait = min(2*wait, time.Second) {
		if time.Now().After(deadline) {
			endpoint.Abort()
			return
		}
		select {
		case <-time.After(wait):
		case <-done:
			return // reset aborts it
		}
	}
}

// over reports whether both sides have taken all that the other one sent.
func over(endpoint tcpip.Endpoint) bool {
	switch tcp.EndpointState(endpoint.State()) {
	case tcp.StateClose, tcp.StateError, tcp.StateTimeWait:
		return true
	}
	return false
}

// remove takes a connection out of the table; after the last one the stack
// stays for a while.
func (t *tcpTable) remove(f *tcpFlow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.flows, f.key)
	if len(t.flows) > 0 || t.stack == nil || t.closed {
		return
	}
	clock, after := t.link.network.config.Clock, t.link.network.config.Limits.StackIdle
	t.idleSince = clock.Now()
	if t.idle == nil {
		t.idle = clock.AfterFunc(after, func() { t.link.spawn(t.rest) })
	} else {
		t.idle.Reset(after)
	}
}

// rest frees the stack if there was no connection since the timer was set.
func (t *tcpTable) rest() {
	t.mu.Lock()
	stack := t.stack
	clock, after := t.link.network.config.Clock, t.link.network.config.Limits.StackIdle
	if stack == nil || t.closed || len(t.flows) > 0 || clock.Now().Sub(t.idleSince) < after {
		t.mu.Unlock()
		return
	}
	t.stack = nil
	t.mu.Unlock()
	stack.destroy()
}

// reset ends every connection at once, on both sides.
func (t *tcpTable) reset() {
	t.mu.Lock()
	t.closed = true
	if t.idle != nil {
		t.idle.Stop()
	}
	for _, f := range t.flows {
		if f.outside != nil {
			reset(f.outside)
		}
	}
	stack := t.stack
	t.mu.Unlock()
	if stack == nil {
		return
	}
	// A handshake blocks until its endpoint is aborted, and does not tell when
	// it has registered it: abort until none is left. Each needs but the
	// moment between two steps of its goroutine.
	for {
		stack.abort()
		t.mu.Lock()
		left := t.handshaking
		t.mu.Unlock()
		if left == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	stack.abort()
}

// destroy frees the stack after reset.
func (t *tcpTable) destroy() {
	if t.stack != nil {
		t.stack.destroy()
	}
}

// reset closes a connection outside so that its peer sees it reset.
func reset(c *net.TCPConn) {
	// Either fails only if the connection is gone already.
	_ = c.SetLinger(0)
	_ = c.Close()
}
