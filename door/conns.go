// Package door is what a server has between a network and its handlers: how
// many connections there may be and from whom, how slowly a request may be
// sent and an answer taken, how many requests an address may make, and TLS.
package door

import (
	"container/list"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth/guard"
)

const (
	// writeStall is how long a client may take to accept writePiece bytes of an
	// answer, unless the handler has said another time.
	writeStall = 30 * time.Second
	writePiece = 64 << 10
	// young is how long a connection is not taken for a half-open one.
	young = 50 * time.Millisecond
	// look is how many of the longest idle are looked at for the one whose
	// address has the most.
	look = 16
)

// Conns bounds the connections of a server, in all and from each address (an
// IPv6 address counts by its /64). Where there is no room for another one, one
// makes place that does nothing: one that has never sent a whole request
// header goes first, the oldest of them; then one that waits for its next
// request, of the address that has the most. One with a request under way is
// never ended for another. Safe for concurrent use.
type Conns struct {
	max, each int
	// Spare tells the addresses that may have as many as all together: proxies.
	// nil is none. It is set before the first connection.
	Spare func(netip.Addr) bool

	mu      sync.Mutex
	all     int
	sources map[string]*source
	fresh   *list.List // of *conn: no request yet, the oldest first
	idle    *list.List // of *conn: between requests, the longest idle first

	evicted, refused atomic.Uint64
	now              func() time.Time
}

// source is an address: how many connections it has, and which do nothing.
type source struct {
	all         int
	fresh, idle *list.List
}

// NewConns makes Conns of at most max connections, each of which from one
// address.
func NewConns(max, each int) *Conns {
	return &Conns{max: max, each: each, sources: map[string]*source{}, fresh: list.New(), idle: list.New(), now: time.Now}
}

// Listener makes a listener whose connections are bounded. Whoever serves them
// tells State.
func (c *Conns) Listener(l net.Listener) net.Listener { return &listener{l, c} }

type listener struct {
	net.Listener
	conns *Conns
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		inner, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := l.conns.admit(inner); c != nil {
			return c, nil
		}
		_ = inner.Close() // there is no room for it
	}
}

// conn is a connection that is counted.
type conn struct {
	net.Conn
	conns  *Conns
	source string
	closed atomic.Bool
	told   atomic.Bool // the handler has set a deadline of its own for writing

	// Under conns.mu.
	gone  bool
	began time.Time
	in    *list.List // fresh or idle, of all; nil: a request is under way
	place *list.Element
	own   *list.List // of its source
	ownAt *list.Element
}

// admit takes the connection in, or returns nil.
func (c *Conns) admit(inner net.Conn) *conn {
	n := &conn{Conn: inner, conns: c, source: guard.Source(inner.RemoteAddr().String()), began: c.now()}
	c.mu.Lock()
	s := c.sources[n.source]
	if s == nil {
		s = &source{fresh: list.New(), idle: list.New()}
		c.sources[n.source] = s
	}
	var victim *conn
	ok := true
	if s.all >= c.each && !c.spared(inner.RemoteAddr()) {
		if victim = c.victimOf(s); victim == nil {
			ok = false
		}
	} else if c.all >= c.max {
		if victim = c.victim(); victim == nil {
			ok = false
		}
	}
	if victim != nil {
		c.forget(victim)
	}
	if ok {
		if c.sources[n.source] == nil { // it was the victim's, and its last
			c.sources[n.source] = s
		}
		s.all++
		c.all++
		c.put(n, s, true)
	} else if s.all == 0 {
		delete(c.sources, n.source)
	}
	c.mu.Unlock()
	if victim != nil {
		c.evicted.Add(1)
		_ = victim.Close()
	}
	if !ok {
		c.refused.Add(1)
		return nil
	}
	return n
}

// spared tells whether the bound of each address is not for this one.
func (c *Conns) spared(remote net.Addr) bool {
	if c.Spare == nil {
		return false
	}
	at, err := netip.ParseAddrPort(remote.String())
	return err == nil && c.Spare(address(at.Addr()))
}

// victimOf is the connection of an address that goes for another of its own.
// Called with mu held.
func (c *Conns) victimOf(s *source) *conn {
	if e := s.fresh.Front(); e != nil && c.old(e) {
		return e.Value.(*conn)
	}
	if e := s.idle.Front(); e != nil {
		return e.Value.(*conn)
	}
	return nil
}

// victim is the connection that goes for any other. Called with mu held.
func (c *Conns) victim() *conn {
	if e := c.fresh.Front(); e != nil && c.old(e) {
		return e.Value.(*conn)
	}
	var found *conn
	most := 0
	for e, n := c.idle.Front(), 0; e != nil && n < look; e, n = e.Next(), n+1 {
		if one := e.Value.(*conn); c.sources[one.source].all > most {
			found, most = one, c.sources[one.source].all
		}
	}
	return found
}

func (c *Conns) old(e *list.Element) bool { return c.now().Sub(e.Value.(*conn).began) >= young }

// put notes that the connection does nothing. Called with mu held.
func (c *Conns) put(n *conn, s *source, fresh bool) {
	n.in, n.own = c.idle, s.idle
	if fresh {
		n.in, n.own = c.fresh, s.fresh
	}
	n.place, n.ownAt = n.in.PushBack(n), n.own.PushBack(n)
}

// take notes that it does something. Called with mu held.
func (c *Conns) take(n *conn) {
	if n.in != nil {
		n.in.Remove(n.place)
		n.own.Remove(n.ownAt)
		n.in, n.own = nil, nil
	}
}

// forget no longer counts the connection. Called with mu held.
func (c *Conns) forget(n *conn) {
	if n.gone {
		return
	}
	n.gone = true
	c.take(n)
	c.all--
	s := c.sources[n.source]
	if s.all--; s.all == 0 {
		delete(c.sources, n.source)
	}
}

// State is a http.Server's ConnState. Connections under TLS are told as such.
func (c *Conns) State(nc net.Conn, state http.ConnState) {
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = t.NetConn()
	}
	n, ok := nc.(*conn)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n.gone {
		return
	}
	switch state {
	case http.StateActive, http.StateHijacked:
		c.take(n)
	case http.StateIdle:
		if n.in == nil {
			c.put(n, c.sources[n.source], false)
		}
	case http.StateClosed:
		c.forget(n)
	}
}

// Close implements net.Conn.
func (n *conn) Close() error {
	if n.closed.Swap(true) {
		return net.ErrClosed
	}
	n.conns.mu.Lock()
	n.conns.forget(n)
	n.conns.mu.Unlock()
	return n.Conn.Close()
}

// CloseWrite lets the server end an answer before it drops a connection.
func (n *conn) CloseWrite() error {
	if c, ok := n.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// Write implements net.Conn: each piece must be accepted in time.
func (n *conn) Write(b []byte) (written int, err error) {
	if n.told.Load() {
		return n.Conn.Write(b)
	}
	for {
		piece := b[written:min(len(b), written+writePiece)]
		if err := n.Conn.SetWriteDeadline(time.Now().Add(writeStall)); err != nil {
			return written, err
		}
		m, err := n.Conn.Write(piece)
		written += m
		if err != nil || written == len(b) {
			return written, err
		}
	}
}

// SetWriteDeadline implements net.Conn: a handler knows better.
func (n *conn) SetWriteDeadline(t time.Time) error {
	n.told.Store(!t.IsZero())
	return n.Conn.SetWriteDeadline(t)
}

// SetDeadline implements net.Conn.
func (n *conn) SetDeadline(t time.Time) error {
	n.told.Store(!t.IsZero())
	return n.Conn.SetDeadline(t)
}

// Stats are how many connections there are, and what became of others since
// the start.
type Stats struct {
	Open             int
	Evicted, Refused uint64
}

// Stats returns them.
func (c *Conns) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Stats{c.all, c.evicted.Load(), c.refused.Load()}
}
