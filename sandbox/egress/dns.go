package egress

import (
	"bufio"
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hearth-faas/hearth"
)

const (
	dnsPort = 53
	// dnsTimeout is how long one resolver may take. With the usual two or
	// three, the answer comes before a container's resolver gives up at 5 s
	// or has just asked again.
	dnsTimeout = 2 * time.Second
	// resolvConfAge is how long a look at resolv.conf is good for.
	resolvConfAge = time.Second
	maxResolvers  = 3 // as resolv.conf(5) has it
)

// resolvers knows where the host asks for names. Safe for concurrent use.
type resolvers struct {
	fixed []netip.AddrPort
	path  string
	clock hearth.Clock

	mu      sync.Mutex
	looked  time.Time
	stamp   os.FileInfo // of what was read; nil if there was nothing
	current []netip.AddrPort
}

func newResolvers(fixed []netip.AddrPort, path string, clock hearth.Clock) *resolvers {
	return &resolvers{fixed: fixed, path: path, clock: clock}
}

// servers are the resolvers in the order in which to ask them.
func (r *resolvers) servers() []netip.AddrPort {
	if len(r.fixed) > 0 {
		return r.fixed
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock.Now()
	if r.current != nil && now.Sub(r.looked) < resolvConfAge {
		return r.current
	}
	r.looked = now
	stamp, err := os.Stat(r.path)
	if err != nil {
		stamp = nil
	}
	if r.current != nil && unchanged(r.stamp, stamp) {
		return r.current
	}
	r.stamp = stamp
	// A file that is not there or has no server means the local one, as for
	// every other program.
	r.current = []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), dnsPort)}
	if b, err := os.ReadFile(r.path); err == nil {
		if servers := parseResolvConf(string(b)); len(servers) > 0 {
			r.current = servers
		}
	}
	return r.current
}

func unchanged(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// parseResolvConf finds the resolvers of a resolv.conf.
func parseResolvConf(text string) (servers []netip.AddrPort) {
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() && len(servers) < maxResolvers {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil {
			servers = append(servers, netip.AddrPortFrom(a, dnsPort))
		}
	}
	return servers
}

// resolve passes a query on and the answer back.
func (l *link) resolve(port uint16, query []byte) {
	if len(query) < dnsHeaderLen || query[2]&dnsResponse != 0 {
		return
	}
	a := l.activate()
	if a == nil {
		return
	}
	select {
	case a.dns <- struct{}{}:
	default:
		return // the container asks again
	}
	query = append([]byte(nil), query...)
	release := func() { <-a.dns }
	if !l.spawn(func() {
		defer release()
		l.answer(a, port, query)
	}) {
		release()
	}
}

// answer asks one resolver after the other.
func (l *link) answer(a *active, port uint16, query []byte) {
	guest := &l.network.config.Guest
	from, to := netip.AddrPortFrom(guest.DNS, dnsPort), netip.AddrPortFrom(guest.Address.Addr(), port)
	b := frames.Get().(*frame)
	defer frames.Put(b)
	const room = ipv4Len + udpLen
	n, asked, name := 0, query, ""
	restricted := l.restriction.Load()
	if restricted != nil {
		var ok bool
		if name, asked, ok = restricted.question(query); !ok {
			n = copy(b[room:guest.MTU], refusedAnswer(query))
			packet := b[:room+n]
			putUDP(packet, from, to)
			l.write(packet)
			return
		}
	}
	for _, server := range l.network.resolvers.servers() {
		if a.ctx.Err() != nil {
			return
		}
		if n = ask(a, server, asked, b[room:guest.MTU]); n > 0 {
			break
		}
	}
	switch {
	case n == 0:
		n = copy(b[room:guest.MTU], serverFailure(query))
	case restricted != nil:
		restricted.learn(name, b[room:room+n])
		restoreQuestion(b[room:room+n], query)
	}
	packet := b[:room+n]
	putUDP(packet, from, to)
	l.write(packet)
}

// ask sends a query to one resolver and returns the length of its answer, 0 if
// it has none. Each query has a socket, and thereby a random port, of its own.
func ask(a *active, server netip.AddrPort, query, answer []byte) int {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(server))
	if err != nil {
		return 0
	}
	defer conn.Close()
	if conn.SetDeadline(time.Now().Add(dnsTimeout)) != nil {
		return 0
	}
	// Closing the link ends the wait.
	defer context.AfterFunc(a.ctx, func() { conn.Close() })()
	if _, err := conn.Write(query); err != nil {
		return 0
	}
	for {
		n, err := conn.Read(answer)
		if err != nil {
			return 0
		}
		if answers(answer[:n], query) {
			return n
		}
	}
}

const (
	dnsHeaderLen     = 12
	dnsResponse      = 0x80 // in the third byte
	dnsRecursion     = 0x01 // desired, in the third byte
	dnsAvailable     = 0x80 // recursion available, in the fourth byte
	dnsServerFailure = 2    // in the fourth byte
)

// answers reports whether a message is the response to a query.
func answers(b, query []byte) bool {
	return len(b) >= dnsHeaderLen && b[0] == query[0] && b[1] == query[1] && b[2]&dnsResponse != 0
}

// serverFailure is the answer when no resolver has one, so that programs fail
// rather than wait.
func serverFailure(query []byte) []byte {
	b := append([]byte(nil), query[:dnsHeaderLen]...)
	b[2] = dnsResponse | query[2]&(0x78|dnsRecursion) // the query's opcode
	b[3] = dnsAvailable | dnsServerFailure
	clear(b[4:])
	if end := questionEnd(query); end > 0 {
		binary.BigEndian.PutUint16(b[4:], 1)
		b = append(b, query[dnsHeaderLen:end]...)
	}
	return b
}

// questionEnd is where a query's only question ends; 0 if it is not well-
// formed.
func questionEnd(query []byte) int {
	if binary.BigEndian.Uint16(query[4:]) != 1 {
		return 0
	}
	i := dnsHeaderLen
	for i < len(query) && query[i] != 0 {
		if query[i] > 63 { // a label's length; pointers cannot occur
			return 0
		}
		i += 1 + int(query[i])
	}
	if end := i + 5; end <= len(query) { // root label, type, class
		return end
	}
	return 0
}
