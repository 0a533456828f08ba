package brokers

import (
	"io"
	"net"
	"sync"
)

// proxy forwards connections to where a broker listens now.
type proxy struct {
	l    net.Listener
	done sync.WaitGroup

	mu     sync.Mutex
	target string // "" is nowhere: connections are ended at once
	closed bool
	held   chan struct{} // while nothing may pass; closed when it may again
	conns  map[net.Conn]bool
}

func newProxy() (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{l: l, conns: map[net.Conn]bool{}}
	p.done.Go(p.accept)
	return p, nil
}

func (p *proxy) addr() string { return p.l.Addr().String() }

func (p *proxy) accept() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return // closed
		}
		p.done.Go(func() { p.serve(c) })
	}
}

func (p *proxy) serve(c net.Conn) {
	defer c.Close()
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	if target == "" {
		return
	}
	s, err := net.Dial("tcp", target)
	if err != nil {
		return // it has been killed
	}
	defer s.Close()
	if !p.keep(target, c, s) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.copy(s, c) })
	both.Go(func() { p.copy(c, s) })
	both.Wait()
	p.mu.Lock()
	delete(p.conns, c)
	delete(p.conns, s)
	p.mu.Unlock()
}

// keep has the connections cut with the others. It tells whether they may be
// used: a target that changed meanwhile had its connections cut already.
func (p *proxy) keep(target string, conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.target != target {
		return false
	}
	for _, c := range conns {
		p.conns[c] = true
	}
	return true
}

// copy forwards until either side ends, and then ends both.
func (p *proxy) copy(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	io.Copy(gated{to, p}, from) // any error is the end of the connection, of which both sides hear
}

// gated is a connection that takes nothing while the proxy holds.
type gated struct {
	net.Conn
	p *proxy
}

func (g gated) Write(b []byte) (int, error) {
	g.p.mu.Lock()
	held := g.p.held
	g.p.mu.Unlock()
	if held != nil {
		<-held
	}
	return g.Conn.Write(b)
}

// ReadFrom is not the connection's own, which would go round Write.
func (g gated) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{g}, r)
}

// to has connections forwarded to target from now on, and ends the others.
func (p *proxy) to(target string) {
	p.mu.Lock()
	p.target = target
	p.mu.Unlock()
	p.cut()
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
	clear(p.conns)
}

func (p *proxy) pass(pass bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case pass && p.held != nil:
		close(p.held)
		p.held = nil
	case !pass && p.held == nil:
		p.held = make(chan struct{})
	}
}

func (p *proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.l.Close()
	p.pass(true)
	p.cut()
	p.done.Wait()
}
