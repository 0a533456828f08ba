package egress

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/hearth-faas/hearth/sandbox"
)

// echoUDP answers every datagram with itself.
func echoUDP(t *testing.T) string {
	c := world.listenPacket(t, "198.51.100.1:0")
	go func() {
		b := make([]byte, 65536)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(b[:n], from)
		}
	}()
	return c.LocalAddr().String()
}

func udpFlows(l *link) int {
	a := l.active.Load()
	if a == nil {
		return 0
	}
	a.udp.mu.Lock()
	defer a.udp.mu.Unlock()
	return len(a.udp.flows)
}

// exchange sends a datagram and returns what comes back.
func exchange(t *testing.T, conn net.Conn, b []byte) ([]byte, error) {
	t.Helper()
	must(t, conn.SetDeadline(time.Now().Add(brief)))
	if _, err := conn.Write(b); err != nil {
		return nil, err
	}
	got := make([]byte, 65536)
	n, err := conn.Read(got)
	return got[:n], err
}

func dialUDP(t *testing.T, c *container, address string) net.Conn {
	t.Helper()
	conn, err := c.dial("udp4", address, brief)
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestDatagramsOfAnySizeComeBack(t *testing.T) {
	forEachKind(t, func(t *testing.T, kind sandbox.LinkKind) {
		c := newContainer(t, kind, Config{})
		conn := dialUDP(t, c, echoUDP(t))
		for _, size := range []int{0, 1, 2, 512, 1472, 1473, 9000, 65507} {
			b := bytes.Repeat([]byte{byte(size)}, size)
			got, err := exchange(t, conn, b)
			if err != nil || !bytes.Equal(got, b) {
				t.Errorf("%d bytes: %d came back: %v", size, len(got), err)
			}
		}
		if n := udpFlows(c.link); n != 1 {
			t.Errorf("%d flows for one socket", n)
		}
	})
}

func TestDatagramsThatGoNowhereAreErrors(t *testing.T) {
	forEachKind(t, func(t *testing.T, kind sandbox.LinkKind) {
		c := newContainer(t, kind, Config{})
		closed := world.listenPacket(t, "198.51.100.1:0")
		closed.Close()
		for _, test := range []struct {
			name, address string
			want          error
		}{
			{"a closed port", closed.LocalAddr().String(), unix.ECONNREFUSED},
			{"a closed port of the gateway", "100.64.0.1:54", unix.ECONNREFUSED},
			{"a network without a route", "203.0.113.1:80", unix.ENETUNREACH},
			{"an unreachable network", "192.0.2.1:80", unix.EHOSTUNREACH},
			{"the host", hostAddr.String() + ":68", unix.EHOSTUNREACH},
			{"the subnet's broadcast address", "198.51.100.255:68", unix.EHOSTUNREACH},
			{"a link-local address", "169.254.169.254:53", unix.EHOSTUNREACH},
		} {
			if _, err := exchange(t, dialUDP(t, c, test.address), []byte("hello")); !errors.Is(err, test.want) {
				t.Errorf("%s: %v, want %v", test.name, err, test.want)
			}
		}
	})
}

func TestIdleFlowsEndAndUsedOnesDoNot(t *testing.T) {
	clock := newTestClock()
	c := newContainer(t, sandbox.LinkPacket, Config{Clock: clock, Limits: Limits{UDPIdle: time.Minute}})
	address := echoUDP(t)
	used, idle := dialUDP(t, c, address), dialUDP(t, c, address)
	for _, conn := range []net.Conn{used, idle} {
		if _, err := exchange(t, conn, []byte("a")); err != nil {
			t.Fatal(err)
		}
	}
	clock.advance(40 * time.Second)
	if _, err := exchange(t, used, []byte("b")); err != nil {
		t.Fatal(err)
	}
	clock.advance(40 * time.Second)
	if n := udpFlows(c.link); n != 1 {
		t.Fatalf("%d flows, want the used one", n)
	}
	clock.advance(40 * time.Second)
	if n := udpFlows(c.link); n != 0 {
		t.Fatalf("%d flows, want none", n)
	}
	if _, err := exchange(t, idle, []byte("c")); err != nil {
		t.Fatalf("a flow that ended does not begin again: %v", err)
	}
}

func TestFlowsPastTheLimitEndTheIdlest(t *testing.T) {
	clock := newTestClock()
	c := newContainer(t, sandbox.LinkPacket, Config{Clock: clock, Limits: Limits{UDP: 2}})
	address := echoUDP(t)
	var ports []uint16
	for range 3 {
		conn := dialUDP(t, c, address)
		if _, err := exchange(t, conn, []byte("a")); err != nil {
			t.Fatal(err)
		}
		ports = append(ports, conn.LocalAddr().(*net.UDPAddr).AddrPort().Port())
		clock.advance(time.Second)
	}
	udp := &c.link.active.Load().udp
	udp.mu.Lock()
	defer udp.mu.Unlock()
	for key := range udp.flows {
		if key.port == ports[0] {
			t.Error("the idlest flow is still there")
		}
	}
	if len(udp.flows) != 2 {
		t.Errorf("%d flows", len(udp.flows))
	}
}

// answer makes a DNS answer, as a resolver does.
func answer(query []byte, ip [4]byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(query) != nil {
		return nil
	}
	m.Response = true
	for _, q := range m.Questions {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: dnsmessage.TypeA, Class: q.Class, TTL: 60},
			Body:   &dnsmessage.AResource{A: ip},
		})
	}
	b, err := m.Pack()
	if err != nil {
		return nil
	}
	return b
}

// resolver is a DNS server on the host's loopback, over UDP and TCP, such as
// the local ones that many systems have.
func resolver(t *testing.T, ip [4]byte) netip.AddrPort {
	t.Helper()
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { udp.Close() })
	tcp, err := net.Listen("tcp4", udp.LocalAddr().String())
	must(t, err)
	t.Cleanup(func() { tcp.Close() })
	go func() {
		b := make([]byte, 4096)
		for {
			n, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			// A forged answer first, to be passed over.
			_, _ = udp.WriteTo([]byte("not an answer"), from)
			_, _ = udp.WriteTo(answer(b[:n], ip), from)
		}
	}()
	go func() {
		for {
			conn, err := tcp.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 4096)
			n, _ := conn.Read(b)
			if n > 2 {
				a := answer(b[2:n], ip)
				_, _ = conn.Write(append([]byte{byte(len(a) >> 8), byte(len(a))}, a...))
			}
			conn.Close()
		}
	}()
	return udp.LocalAddr().(*net.UDPAddr).AddrPort()
}

func query(t *testing.T) []byte {
	m := dnsmessage.Message{
		Header: dnsmessage.Header{ID: 4711, RecursionDesired: true},
		Questions: []dnsmessage.Question{{
			Name: dnsmessage.MustNewName("db.example.com."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET,
		}},
	}
	b, err := m.Pack()
	must(t, err)
	return b
}

func TestNamesAreResolvedByTheHostsResolvers(t *testing.T) {
	forEachKind(t, func(t *testing.T, kind sandbox.LinkKind) {
		good := resolver(t, [4]byte{10, 1, 2, 3})
		dead, err := net.ListenPacket("udp4", "127.0.0.1:0")
		must(t, err)
		must(t, dead.Close()) // so that asking it is refused
		c := newContainer(t, kind, Config{Resolvers: []netip.AddrPort{dead.LocalAddr().(*net.UDPAddr).AddrPort(), good}})
		check := func(b []byte, err error) {
			t.Helper()
			must(t, err)
			var m dnsmessage.Message
			must(t, m.Unpack(b))
			if len(m.Answers) != 1 || m.Answers[0].Body.(*dnsmessage.AResource).A != [4]byte{10, 1, 2, 3} || m.ID != 4711 {
				t.Errorf("answer %v", m.GoString())
			}
		}
		check(exchange(t, dialUDP(t, c, "100.64.0.1:53"), query(t)))
		conn, err := c.dial("tcp4", "100.64.0.1:53", brief)
		must(t, err)
		defer conn.Close()
		q := query(t)
		b, err := exchange(t, conn, append([]byte{0, byte(len(q))}, q...))
		check(b[2:], err)
	})
}

func TestNoResolverIsAFailureNotAWait(t *testing.T) {
	dead, err := net.ListenPacket("udp4", "127.0.0.1:0")
	must(t, err)
	must(t, dead.Close())
	c := newContainer(t, sandbox.LinkPacket, Config{Resolvers: []netip.AddrPort{dead.LocalAddr().(*net.UDPAddr).AddrPort()}})
	b, err := exchange(t, dialUDP(t, c, "100.64.0.1:53"), query(t))
	must(t, err)
	var m dnsmessage.Message
	must(t, m.Unpack(b))
	if !m.Response || m.RCode != dnsmessage.RCodeServerFailure || m.ID != 4711 || len(m.Questions) != 1 {
		t.Errorf("answer %v", m.GoString())
	}
}

func FuzzServerFailureIsWellFormed(f *testing.F) {
	f.Add([]byte("\x12\x67\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x02db\x03com\x00\x00\x01\x00\x01"))
	f.Add([]byte("\x12\x67\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x3f"))
	f.Add([]byte("\x12\x67\x01\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x01"))
	f.Fuzz(func(t *testing.T, query []byte) {
		if len(query) < dnsHeaderLen {
			return
		}
		b := serverFailure(query)
		if !answers(b, query) {
			t.Fatal("it does not answer its query")
		}
		var p dnsmessage.Parser
		if h, err := p.Start(b); err != nil || h.RCode != dnsmessage.RCodeServerFailure {
			t.Fatalf("%v, %v", h, err)
		}
	})
}

func FuzzResolvConf(f *testing.F) {
	f.Add("nameserver 127.0.0.53\noptions edns0\n")
	f.Add("nameserver fe80::1%eth0\nnameserver\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, s := range parseResolvConf(text) {
			if !s.IsValid() || s.Port() != dnsPort {
				t.Fatalf("resolver %v", s)
			}
		}
	})
}

func TestGatewayAnswersPingsAndNothingElseDoes(t *testing.T) {
	forEachKind(t, func(t *testing.T, kind sandbox.LinkKind) {
		c := newContainer(t, kind, Config{})
		ping := func(to [4]byte) []byte {
			var file *os.File
			must(t, c.do(func() error {
				fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_ICMP)
				if err != nil {
					return err
				}
				file = os.NewFile(uintptr(fd), "ping")
				return unix.Connect(fd, &unix.SockaddrInet4{Addr: to})
			}))
			defer file.Close()
			must(t, file.SetDeadline(time.Now().Add(brief)))
			echo := []byte{8, 0, 0xf7, 0x6d, 0, 1, 0, 2, 'p', 'i', 'n', 'g', '!', '!'}
			_, err := file.Write(echo)
			must(t, err)
			b := make([]byte, 1500)
			n, err := file.Read(b)
			must(t, err)
			return b[20:n]
		}
		if got := ping([4]byte{100, 64, 0, 1}); got[0] != icmpEchoReply || !bytes.HasSuffix(got, []byte("ping!!")) {
			t.Errorf("the gateway answers %x", got)
		}
		if c.link.active.Load() != nil {
			t.Error("a ping made the link more than idle")
		}
	})
}
