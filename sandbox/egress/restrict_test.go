package egress

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/sandbox"
	"github.com/hearth-faas/hearth/sandbox/egress/allow"
)

// asks is a query as a program makes it, with something beside the question.
func asks(t testing.TB, name string, kind dnsmessage.Type) []byte {
	t.Helper()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 4711, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}},
		Additionals: []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("."), Class: 1232},
			Body:   &dnsmessage.OPTResource{Options: []dnsmessage.Option{{Code: 65001, Data: []byte("carried out")}}},
		}},
	}
	b, err := m.Pack()
	must(t, err)
	return b
}

// listeningResolver notes what it is asked, and answers with the world's address.
func listeningResolver(t *testing.T) (at netip.AddrPort, asked func() []string) {
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { udp.Close() })
	var mu sync.Mutex
	var seen []string
	go func() {
		b := make([]byte, 4096)
		for {
			n, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			mu.Lock()
			seen = append(seen, string(b[:n]))
			mu.Unlock()
			_, _ = udp.WriteTo(answer(b[:n], worldAddr.As4()), from)
		}
	}()
	return udp.LocalAddr().(*net.UDPAddr).AddrPort(), func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string(nil), seen...)
	}
}

func TestARestrictedContainerReachesWhatIsListedAndNothingElse(t *testing.T) {
	forEachKind(t, func(t *testing.T, kind sandbox.LinkKind) {
		at, asked := listeningResolver(t)
		c := newContainer(t, kind, Config{Resolvers: []netip.AddrPort{at}})
		listed, other := world.listen(t, "tcp4", "198.51.100.1:0"), world.listen(t, "tcp4", "198.51.100.1:0")
		_, port, err := net.SplitHostPort(listed.Addr().String())
		must(t, err)
		must(t, c.link.Restrict(&hearth.NetworkPolicy{Allow: []string{"DB.example.com:" + port}}))

		refused := func(network, to string) {
			t.Helper()
			if conn, err := c.dial(network, to, brief); err == nil {
				conn.Close()
				t.Errorf("%s is reached", to)
			}
		}
		// Before its name is asked for, an address is nobody's.
		refused("tcp4", listed.Addr().String())
		refused("tcp4", c.network.Guest().API.String())
		refused("tcp4", "100.64.0.1:53")

		rcode := func(q []byte) (dnsmessage.RCode, dnsmessage.Message) {
			t.Helper()
			b, err := exchange(t, dialUDP(t, c, "100.64.0.1:53"), q)
			must(t, err)
			var m dnsmessage.Message
			must(t, m.Unpack(b))
			if m.ID != 4711 {
				t.Errorf("the answer is to another query: %v", m.GoString())
			}
			return m.RCode, m
		}
		for _, name := range []string{"evil.example.com.", "secret.db.example.com.", "db.example.com.evil.test."} {
			if r, _ := rcode(asks(t, name, dnsmessage.TypeA)); r != dnsmessage.RCodeRefused {
				t.Errorf("%s: %v", name, r)
			}
		}
		if r, _ := rcode(asks(t, "db.example.com.", dnsmessage.TypeTXT)); r != dnsmessage.RCodeRefused {
			t.Errorf("a TXT query: %v", r)
		}
		r, m := rcode(asks(t, "dB.ExAmple.com.", dnsmessage.TypeA))
		if r != dnsmessage.RCodeSuccess || len(m.Answers) != 1 || m.Questions[0].Name.String() != "dB.ExAmple.com." {
			t.Fatalf("the listed name: %v", m.GoString())
		}
		seen := asked()
		if len(seen) != 1 || strings.Contains(seen[0], "carried out") || strings.Contains(seen[0], "dB") {
			t.Errorf("the resolver was asked %q", seen)
		}

		conn, err := c.dial("tcp4", listed.Addr().String(), brief)
		must(t, err)
		conn.Close()
		refused("tcp4", other.Addr().String()) // the same address, another port
		refused("tcp4", "198.51.100.2:1")
		udp := dialUDP(t, c, "198.51.100.1:4000")
		if _, err := exchange(t, udp, []byte("x")); err == nil {
			t.Error("a datagram to a port that is not listed is answered")
		}
	})
}

func TestARestrictionThatCantBeReadAllowsNothing(t *testing.T) {
	c := newContainer(t, sandbox.LinkPacket, Config{})
	listed := world.listen(t, "tcp4", "198.51.100.1:0")
	if err := c.link.Restrict(&hearth.NetworkPolicy{Allow: []string{listed.Addr().String(), "what"}}); err == nil {
		t.Error("it can")
	}
	if conn, err := c.dial("tcp4", listed.Addr().String(), brief); err == nil {
		conn.Close()
		t.Error("it allows something")
	}
}

func TestAnOpenPolicyAndNoneRestrictNothing(t *testing.T) {
	for _, p := range []*hearth.NetworkPolicy{nil, {Open: true}} {
		c := newContainer(t, sandbox.LinkPacket, Config{})
		must(t, c.link.Restrict(p))
		server := world.listen(t, "tcp4", "198.51.100.1:0")
		conn, err := c.dial("tcp4", server.Addr().String(), brief)
		must(t, err)
		conn.Close()
	}
}

// What was learned of a name is good as long as its answer, within bounds.
func TestWhatANameResolvedToIsGoodForAWhile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list, err := allow.Parse([]string{"a.example:80"})
		if err != nil {
			t.Fatal(err)
		}
		clk := &stopped{at: time.Unix(1e9, 0)}
		r := &restriction{list: list, clock: clk, learned: map[netip.Addr]map[string]time.Time{}}
		ttl := time.Duration(rapid.Uint32Range(0, 100_000).Draw(t, "ttl")) * time.Second
		to := netip.MustParseAddrPort("203.0.113.9:80")
		r.note(to.Addr(), "A.example", clk.Now(), ttl)
		good := min(max(ttl, leastLearned), mostLearned)
		clk.at = clk.at.Add(good - 1)
		if !r.allows(to) || r.allows(netip.AddrPortFrom(to.Addr(), 81)) {
			t.Fatalf("within %v of %v", good, ttl)
		}
		clk.at = clk.at.Add(1)
		if r.allows(to) {
			t.Fatalf("after %v of %v", good, ttl)
		}
	})
}

// stopped is a clock that stands still.
type stopped struct{ at time.Time }

func (c *stopped) Now() time.Time { return c.at }

func (c *stopped) AfterFunc(time.Duration, func()) hearth.Timer { panic("nothing waits") }

func FuzzRestrictedQueriesAndAnswers(f *testing.F) {
	list, err := allow.Parse([]string{"db.com:80", "*.x.db.com:1"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("\x12\x67\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x02db\x03com\x00\x00\x01\x00\x01"))
	f.Add([]byte("\x12\x67\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x02dB\x03com\x00\x00\x1c\x00\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < dnsHeaderLen {
			return
		}
		r := &restriction{list: list, clock: &stopped{time.Unix(1e9, 0)}, learned: map[netip.Addr]map[string]time.Time{}}
		name, clean, ok := r.question(b)
		if ok {
			var m dnsmessage.Message
			if err := m.Unpack(clean); err != nil || len(m.Questions) != 1 || len(m.Answers)+len(m.Authorities)+len(m.Additionals) != 0 || !list.Name(m.Questions[0].Name.String()) || !list.Name(name) {
				t.Fatalf("%q is passed on as %q", b, clean)
			}
			restoreQuestion(clean, b)
		}
		if !answers(refusedAnswer(b), b) {
			t.Fatal("a refusal does not answer its query")
		}
		r.learn("db.com", b)
	})
}
