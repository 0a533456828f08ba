package egress

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/hearth-faas/hearth/sandbox"
)

func descriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}

// ours counts the goroutines of this package and the stack.
func ours() (n int, stacks string) {
	b := make([]byte, 4<<20)
	b = b[:runtime.Stack(b, true)]
	for s := range strings.SplitSeq(string(b), "\n\n") {
		if strings.Contains(s, "egress.(*") || strings.Contains(s, "gvisor.dev/") {
			n++
			stacks += s + "\n\n"
		}
	}
	return n, stacks
}

// Close must free everything, whatever was going on.
func TestCloseResetsAllAndLeavesNothing(t *testing.T) {
	forEachKind(t, func(t *testing.T, kind sandbox.LinkKind) {
		n, err := New(Config{Resolvers: []netip.AddrPort{silentUDP(t)}})
		must(t, err)
		defer n.Close()
		server := world.listen(t, "tcp4", "198.51.100.1:0")
		echo := echoUDP(t)
		// What does not answer a SYN: a listener whose queue is full.
		silent := silentTCP(t)

		// The runtime makes descriptors and goroutines of its own at first.
		before, goroutines := 0, 0
		for round := range 3 {
			if round == 1 {
				before = descriptors(t)
				goroutines, _ = ours()
			}
			func() {
				ns, file := newGuest(t, n.Guest(), kind)
				joined, err := n.Join("c1", file, kind)
				must(t, err)
				c := &container{namespace: ns, network: n, link: joined.(*link)}
				var inside []net.Conn
				defer func() {
					for _, conn := range inside {
						conn.Close()
					}
				}()
				var outside []net.Conn
				for range 8 {
					conn, err := c.dial("tcp4", server.Addr().String(), brief)
					must(t, err)
					inside = append(inside, conn)
					other, err := server.Accept()
					must(t, err)
					defer other.Close()
					outside = append(outside, other)
				}
				// One is busy, one half-closed, one has data that nobody takes.
				go io.Copy(inside[0], zeros{})
				go io.Copy(io.Discard, outside[0])
				must(t, inside[1].(*net.TCPConn).CloseWrite())
				go io.Copy(outside[2], zeros{})
				api, err := c.dial("tcp4", n.Guest().API.String(), brief)
				must(t, err)
				inside = append(inside, api)
				accepted, err := n.APIListener().Accept()
				must(t, err)
				defer accepted.Close()
				if conn, err := c.dial("tcp4", silent, 20*time.Millisecond); !isTimeout(err) {
					t.Errorf("%v, %v", conn, err)
				}
				for _, address := range []string{echo, "100.64.0.1:53"} {
					conn, err := c.dial("udp4", address, brief)
					must(t, err)
					inside = append(inside, conn)
					_, err = conn.Write(query(t))
					must(t, err)
				}
				soon(t, "the query is under way", func() bool { return len(c.link.active.Load().dns) == 1 })

				start := time.Now()
				must(t, c.link.Close())
				if took := time.Since(start); took > dialTimeout/2 {
					t.Errorf("closing took %v", took)
				}
				must(t, c.link.Close())
				for i, other := range outside {
					must(t, other.SetReadDeadline(time.Now().Add(brief)))
					_, err := io.Copy(io.Discard, other)
					// The first are busy or had their end already.
					if i > 2 && !errors.Is(err, unix.ECONNRESET) {
						t.Errorf("connection %d outside sees %v", i, err)
					}
				}
			}()
		}
		soon(t, "all goroutines have ended", func() bool { n, _ := ours(); return n <= goroutines })
		// The namespaces' own descriptors are closed at the end of the test.
		soon(t, "all descriptors are closed", func() bool { return descriptors(t)-2 <= before })
		if left := tcpip.GetDanglingEndpoints(); len(left) > 0 {
			t.Errorf("%d endpoints are left", len(left))
		}
	})
}

// A container that leaves a handshake unfinished must not hold up Close.
func TestCloseEndsUnfinishedHandshakes(t *testing.T) {
	n, err := New(Config{})
	must(t, err)
	defer n.Close()
	server := world.listen(t, "tcp4", "198.51.100.1:0")
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	container := os.NewFile(uintptr(pair[1]), "container")
	defer container.Close()
	joined, err := n.Join("c1", os.NewFile(uintptr(pair[0]), "link"), sandbox.LinkTUN)
	must(t, err)
	_, err = container.Write(synTo(server.Addr().(*net.TCPAddr).AddrPort()))
	must(t, err)
	outside, err := server.Accept()
	must(t, err)
	defer outside.Close()
	answer := make([]byte, 1500)
	if _, err := container.Read(answer); err != nil || answer[ipv4Len+13] != tcpSYN|tcpACK {
		t.Fatalf("no SYN-ACK: %x, %v", answer[:ipv4Len+tcpLen], err)
	}
	start := time.Now()
	must(t, joined.Close())
	if took := time.Since(start); took > dialTimeout/2 {
		t.Errorf("closing took %v", took)
	}
	must(t, outside.SetReadDeadline(time.Now().Add(brief)))
	if _, err := outside.Read(answer); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the connection outside sees %v", err)
	}
}

// silentUDP takes datagrams and never answers.
func silentUDP(t *testing.T) netip.AddrPort {
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// silentTCP is an address outside that does not answer SYNs.
func silentTCP(t *testing.T) string {
	var address string
	must(t, world.do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		t.Cleanup(func() { unix.Close(fd) })
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: worldAddr.As4()}); err != nil {
			return err
		}
		if err := unix.Listen(fd, 0); err != nil {
			return err
		}
		bound, err := unix.Getsockname(fd)
		if err != nil {
			return err
		}
		address = netip.AddrPortFrom(worldAddr, uint16(bound.(*unix.SockaddrInet4).Port)).String()
		// One fills the queue of length zero.
		conn, err := net.Dial("tcp4", address)
		if err != nil {
			return err
		}
		t.Cleanup(func() { conn.Close() })
		return nil
	}))
	return address
}

// synTo is a SYN from a port that nothing inside uses.
func synTo(to netip.AddrPort) []byte {
	b := make([]byte, ipv4Len+tcpLen)
	putIPv4(b, unix.IPPROTO_TCP, DefaultGuest.Address.Addr(), to.Addr())
	tcp := b[ipv4Len:]
	binary.BigEndian.PutUint16(tcp, 7)
	binary.BigEndian.PutUint16(tcp[2:], to.Port())
	tcp[12] = tcpLen / 4 << 4
	tcp[13] = tcpSYN
	binary.BigEndian.PutUint16(tcp[14:], 65535)
	return b
}

// frameOf is a packet as a packet socket has it.
func frameOf(packet []byte) []byte {
	b := make([]byte, ethernetLen+len(packet))
	putEthernet(b, gatewayHardware, unix.ETH_P_IP)
	copy(b[6:], []byte{2, 0, 0, 0, 0, 7}) // the container's
	copy(b[ethernetLen:], packet)
	return b
}

func TestInterfaceComingUpKeepsTheLinkIdle(t *testing.T) {
	forEachKind(t, func(t *testing.T, kind sandbox.LinkKind) {
		c := newContainer(t, kind, Config{})
		// Whatever the kernel says of its own comes before this.
		must(t, c.do(func() error {
			conn, err := net.Dial("udp4", "224.0.0.9:9")
			if err != nil {
				return err
			}
			defer conn.Close()
			_, err = conn.Write([]byte("to everybody"))
			return err
		}))
		conn := dialUDP(t, c, "100.64.0.1:9")
		if _, err := exchange(t, conn, []byte("a")); !errors.Is(err, unix.ECONNREFUSED) {
			t.Fatal(err)
		}
		if c.link.active.Load() != nil {
			t.Error("the link is more than idle")
		}
		soon(t, "the datagram and the error are counted, and nothing else", func() bool {
			in, out := c.link.Counts()
			return out == ipv4Len+udpLen+1 && in == ipv4Len+icmpLen+ipv4Len+8
		})
	})
}

func TestManyContainersWithOneAddressDoNotMix(t *testing.T) {
	n, err := New(Config{})
	must(t, err)
	defer n.Close()
	echo := echoUDP(t)
	var group sync.WaitGroup
	for i := range 6 {
		available := kinds(t)
		c := joinContainer(t, n, "c"+string(rune('0'+i)), available[i%len(available)])
		conn := dialUDP(t, c, echo)
		group.Go(func() {
			for range 50 {
				got, err := exchange(t, conn, []byte{byte(i)})
				if err != nil || len(got) != 1 || got[0] != byte(i) {
					t.Errorf("container %d got %v, %v", i, got, err)
				}
			}
		})
	}
	group.Wait()
}

func TestClosedNetworkTakesNoLinks(t *testing.T) {
	n, err := New(Config{})
	must(t, err)
	must(t, n.Close())
	must(t, n.Close())
	_, file := newGuest(t, n.Guest(), sandbox.LinkPacket)
	if _, err := n.Join("c1", file, sandbox.LinkPacket); !errors.Is(err, net.ErrClosed) {
		t.Errorf("joined a closed network: %v", err)
	}
	if err := file.Close(); !errors.Is(err, os.ErrClosed) {
		t.Error("the file was left open")
	}
}

func TestContradictoryConfigurationIsRefused(t *testing.T) {
	for name, guest := range map[string]sandbox.Guest{
		"gateway outside":    {Gateway: netip.MustParseAddr("10.0.0.1")},
		"gateway is address": {Gateway: netip.MustParseAddr("100.64.0.2")},
		"IPv6":               {Address: netip.MustParsePrefix("fd00::2/64"), Gateway: netip.MustParseAddr("fd00::1")},
		"tiny MTU":           {MTU: 100},
		"huge MTU":           {MTU: 1 << 20},
	} {
		if n, err := New(Config{Guest: guest}); err == nil {
			n.Close()
			t.Errorf("%s: taken", name)
		}
	}
}

// FuzzReceive is the hostile container: whatever arrives must neither panic
// nor leave anything behind.
func FuzzReceive(f *testing.F) {
	syn := synTo(netip.MustParseAddrPort("198.51.100.1:9"))
	f.Add(syn, false)
	f.Add(frameOf(syn), true)
	f.Add(synTo(DefaultGuest.API), false)
	udp := append(make([]byte, ipv4Len+udpLen), "hello"...)
	putUDP(udp, netip.MustParseAddrPort("100.64.0.2:7"), netip.MustParseAddrPort("198.51.100.1:9"))
	f.Add(udp, false)
	dns := append(make([]byte, ipv4Len+udpLen), "\x12\x67\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x02db\x03com\x00\x00\x01\x00\x01"...)
	putUDP(dns, netip.MustParseAddrPort("100.64.0.2:7"), netip.MustParseAddrPort("100.64.0.1:53"))
	f.Add(dns, false)
	f.Add(unreachable(packet{bytes: udp, src: DefaultGuest.Address.Addr()}, DefaultGuest.Gateway, 3), false)
	n, err := New(Config{Resolvers: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1")}})
	must(f, err)
	f.Cleanup(func() { n.Close() })
	f.Fuzz(func(t *testing.T, b []byte, framed bool) {
		kind := sandbox.LinkTUN
		if framed {
			kind = sandbox.LinkPacket
		}
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		must(t, err)
		defer unix.Close(pair[1])
		joined, err := n.Join("c1", os.NewFile(uintptr(pair[0]), "pair"), kind)
		must(t, err)
		l := joined.(*link)
		l.receive(b)
		if !framed && len(b) >= ipv4Len {
			// The same, made to pass the first checks.
			b = append([]byte(nil), b...)
			b[0], b[6], b[7] = 0x45, 0, 0
			binary.BigEndian.PutUint16(b[2:], uint16(min(len(b), 65535)))
			copy(b[12:], DefaultGuest.Address.Addr().AsSlice())
			l.receive(b)
			if len(b) >= ipv4Len+tcpLen {
				b[9] = unix.IPPROTO_TCP
				stack, ok := l.activate().tcp.handshake(1)
				if !ok {
					t.Fatal("no stack")
				}
				l.active.Load().tcp.handshake(-1)
				stack.deliver(b)
				l.receive(b)
			}
		}
		must(t, l.Close())
		if left := tcpip.GetDanglingEndpoints(); len(left) > 0 {
			t.Fatalf("%d endpoints are left", len(left))
		}
	})
}

func FuzzPacketParsers(f *testing.F) {
	f.Add(make([]byte, 60))
	f.Add(synTo(netip.MustParseAddrPort("198.51.100.1:9")))
	f.Add([]byte{0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 7, 100, 64, 0, 2, 0, 0, 0, 0, 0, 0, 100, 64, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if reply := arpReply(b, hardwareAddress{}, DefaultGuest.Address.Addr()); reply != nil && len(reply) != ethernetLen+arpLen {
			t.Fatal("an ARP reply of another length")
		}
		p, ok := parseIPv4(b)
		if !ok {
			return
		}
		if len(p.bytes) > len(b) || len(p.bytes) < ipv4Len {
			t.Fatal("a packet longer than what it was in")
		}
		back, ok := parseIPv4(unreachable(p, DefaultGuest.Gateway, 0))
		if !ok || back.dst != p.src || back.protocol != unix.IPPROTO_ICMP {
			t.Fatal("an error that is no packet")
		}
	})
}
