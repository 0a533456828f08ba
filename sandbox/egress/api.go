package egress

import (
	"net"
	"net/netip"
	"strconv"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
)

// apiBacklog is how many connections to the API wait to be accepted.
const apiBacklog = 128

// Addr is the remote address of a connection to the API: which container, and
// which port inside it.
type Addr struct {
	Container string
	Port      uint16
}

// Network implements net.Addr.
func (Addr) Network() string { return "hearth" }

// String is the container's id and the port, which net.SplitHostPort and
// http.Request.RemoteAddr take for a host and a port.
func (a Addr) String() string {
	return net.JoinHostPort(a.Container, strconv.Itoa(int(a.Port)))
}

// ContainerOf names the container at the other end of a connection that
// APIListener accepted; ok is false for any other address.
func ContainerOf(a net.Addr) (id string, ok bool) {
	of, ok := a.(Addr)
	return of.Container, ok
}

// apiListener is the listener at the API's address in every container.
type apiListener struct {
	addr  net.Addr
	queue chan *apiConn // closed by Close

	mu     sync.Mutex // for senders against Close
	closed bool
}

func newAPIListener(at netip.AddrPort) *apiListener {
	return &apiListener{addr: net.TCPAddrFromAddrPort(at), queue: make(chan *apiConn, apiBacklog)}
}

// Accept implements net.Listener.
func (a *apiListener) Accept() (net.Conn, error) {
	if c, ok := <-a.queue; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

// Close implements net.Listener. Connections that nobody accepted are closed.
func (a *apiListener) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return net.ErrClosed
	}
	a.closed = true
	close(a.queue)
	for c := range a.queue {
		c.Close() // it was not closed before: nobody had it
	}
	return nil
}

// Addr implements net.Listener: it is the address inside.
func (a *apiListener) Addr() net.Addr { return a.addr }

// open reports whether a connection may come.
func (a *apiListener) open() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.closed && len(a.queue) < cap(a.queue)
}

// offer queues a connection, if there is room.
func (a *apiListener) offer(c *apiConn) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return false
	}
	select {
	case a.queue <- c:
		return true
	default:
		return false
	}
}

// apiConn is a connection to the API.
type apiConn struct {
	*gonet.TCPConn
	link   *link
	remote Addr
	once   sync.Once
	closed chan struct{}
}

// RemoteAddr implements net.Conn; it is an Addr.
func (c *apiConn) RemoteAddr() net.Addr { return c.remote }

// Read implements net.Conn, as fast as the container may send.
func (c *apiConn) Read(b []byte) (int, error) {
	if !c.link.release() {
		return 0, net.ErrClosed
	}
	return c.TCPConn.Read(b)
}

// Write implements net.Conn, as fast as the container may take it.
func (c *apiConn) Write(b []byte) (written int, err error) {
	for {
		piece := b[written:min(len(b), written+len(frame{}))]
		if !c.link.admit(len(piece)) {
			return written, net.ErrClosed
		}
		n, err := c.TCPConn.Write(piece)
		if written += n; err != nil || written >= len(b) {
			return written, err
		}
	}
}

// Close implements net.Conn.
func (c *apiConn) Close() error {
	err := error(net.ErrClosed)
	c.once.Do(func() {
		close(c.closed)
		err = c.TCPConn.Close()
	})
	return err
}

// serveAPI accepts a connection to the API and waits until it was closed.
func (t *tcpTable) serveAPI(f *tcpFlow, syn packet) {
	l := t.link
	api := l.network.api
	if !api.open() {
		l.write(resetFor(syn))
		return
	}
	endpoint, ok := t.accept(f, syn)
	if !ok {
		return
	}
	conn := &apiConn{
		TCPConn: gonet.NewTCPConn(&f.queue, endpoint),
		link:    l,
		remote:  Addr{Container: l.id, Port: f.key.port},
		closed:  make(chan struct{}),
	}
	if !api.offer(conn) {
		endpoint.Abort()
		return
	}
	select {
	case <-conn.closed:
		t.finish(endpoint)
	case <-l.active.Load().ctx.Done():
		// reset aborts the endpoint, and whoever has the connection sees that
		// it ended.
	}
}
