package egress

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hearth-faas/hearth/sandbox"
)

// brief is when what comes at once has come, however busy the machine is.
const brief = time.Minute

// accepted connects the container with a server outside and gives both ends.
func accepted(t testing.TB, c *container, l net.Listener) (inside, outside *net.TCPConn) {
	t.Helper()
	conn, err := c.dial("tcp4", l.Addr().String(), brief)
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	other, err := l.Accept()
	must(t, err)
	t.Cleanup(func() { other.Close() })
	deadline := time.Now().Add(2 * time.Minute)
	must(t, conn.SetDeadline(deadline))
	must(t, other.SetDeadline(deadline))
	return conn.(*net.TCPConn), other.(*net.TCPConn)
}

func TestConnectionCarriesBothDirectionsWholeAndEndsEachByItself(t *testing.T) {
	forEachKind(t, func(t *testing.T, kind sandbox.LinkKind) {
		c := newContainer(t, kind, Config{})
		inside, outside := accepted(t, c, world.listen(t, "tcp4", "198.51.100.1:0"))
		seed := rand.NewChaCha8([32]byte{1})
		up, down := make([]byte, 8<<20), make([]byte, 8<<20)
		seed.Read(up)
		seed.Read(down)
		var group sync.WaitGroup
		send := func(conn *net.TCPConn, b []byte) {
			group.Go(func() {
				if _, err := conn.Write(b); err != nil {
					t.Errorf("write: %v", err)
				}
				if err := conn.CloseWrite(); err != nil {
					t.Errorf("half-close: %v", err)
				}
			})
		}
		receive := func(conn *net.TCPConn, want []byte) {
			group.Go(func() {
				got, err := io.ReadAll(conn)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("got %d bytes, error %v; want %d", len(got), err, len(want))
				}
			})
		}
		// One direction is over before the other begins.
		send(inside, up)
		receive(outside, up)
		group.Wait()
		send(outside, down)
		receive(inside, down)
		group.Wait()
		in, out := c.link.Counts()
		if in < 8<<20 || out < 8<<20 || in > 12<<20 || out > 12<<20 {
			t.Errorf("counted %d bytes in and %d out", in, out)
		}
		soon(t, "the connection is forgotten", func() bool { return tcpFlows(c.link) == 0 })
	})
}

func tcpFlows(l *link) int {
	a := l.active.Load()
	if a == nil {
		return 0
	}
	a.tcp.mu.Lock()
	defer a.tcp.mu.Unlock()
	return len(a.tcp.flows)
}

func TestConnectSaysWhatItSaysOutside(t *testing.T) {
	forEachKind(t, func(t *testing.T, kind sandbox.LinkKind) {
		c := newContainer(t, kind, Config{})
		closed := world.listen(t, "tcp4", "198.51.100.1:0")
		closed.Close()
		for _, test := range []struct {
			name, address string
			want          error
		}{
			{"a closed port", closed.Addr().String(), unix.ECONNREFUSED},
			{"a network without a route", "203.0.113.1:80", unix.ENETUNREACH},
			{"an unreachable host", "192.0.2.1:80", unix.EHOSTUNREACH},
		} {
			start := time.Now()
			conn, err := c.dial("tcp4", test.address, brief)
			if err == nil {
				conn.Close()
			}
			if !errors.Is(err, test.want) {
				t.Errorf("%s: %v after %v, want %v", test.name, err, time.Since(start), test.want)
			}
		}
	})
}

func TestRefusedDestinationsFailAtOnce(t *testing.T) {
	forEachKind(t, func(t *testing.T, kind sandbox.LinkKind) {
		var mu sync.Mutex
		refused := map[string]string{}
		c := newContainer(t, kind, Config{Refused: func(id string, to netip.AddrPort, reason string) {
			mu.Lock()
			defer mu.Unlock()
			refused[to.String()] = id + " " + reason
		}})
		// A server on all of the host's addresses, such as Hearth's own.
		host, err := net.Listen("tcp", ":0")
		must(t, err)
		defer host.Close()
		go func() {
			for {
				conn, err := host.Accept()
				if err != nil {
					return
				}
				t.Errorf("a connection to the host from %v", conn.RemoteAddr())
				conn.Close()
			}
		}()
		_, port, err := net.SplitHostPort(host.Addr().String())
		must(t, err)
		for _, address := range []string{
			hostAddr.String(), "169.254.169.254", "169.254.1.1", "100.64.0.1", "100.64.0.3", "0.1.2.3",
			"240.0.0.1", "100.100.100.200", "198.51.100.255",
		} {
			to := net.JoinHostPort(address, port)
			start := time.Now()
			conn, err := c.dial("tcp4", to, brief)
			if err == nil {
				conn.Close()
				t.Errorf("%s: connected", to)
				continue
			}
			// The kernel inside does not even try its own broadcast address.
			if !errors.Is(err, unix.ECONNREFUSED) && address != "100.64.0.3" || time.Since(start) > brief/2 {
				t.Errorf("%s: %v after %v", to, err, time.Since(start))
			}
		}
		mu.Lock()
		defer mu.Unlock()
		if got := refused[net.JoinHostPort(hostAddr.String(), port)]; got != "c1 "+reasonOwn {
			t.Errorf("the refusal of the host's own address was reported as %q", got)
		}
	})
}

func TestResetOnOneSideIsAResetOnTheOther(t *testing.T) {
	forEachKind(t, func(t *testing.T, kind sandbox.LinkKind) {
		c := newContainer(t, kind, Config{})
		l := world.listen(t, "tcp4", "198.51.100.1:0")
		for _, side := range []string{"inside", "outside"} {
			a, b := accepted(t, c, l)
			if side == "outside" {
				a, b = b, a
			}
			must(t, a.SetLinger(0))
			must(t, a.Close())
			if _, err := b.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("reset %s: the other side reads %v", side, err)
			}
		}
	})
}

// A side that does not read must stop the other one's writing, with little
// held in between.
func TestWriterWaitsForTheReader(t *testing.T) {
	forEachKind(t, func(t *testing.T, kind sandbox.LinkKind) {
		c := newContainer(t, kind, Config{})
		l := world.listen(t, "tcp4", "198.51.100.1:0")
		for _, direction := range []string{"out", "in"} {
			w, r := accepted(t, c, l)
			if direction == "in" {
				w, r = r, w
			}
			must(t, w.SetWriteBuffer(64<<10))
			must(t, r.SetReadBuffer(64<<10))
			must(t, w.SetWriteDeadline(time.Now().Add(500*time.Millisecond)))
			n, err := w.Write(make([]byte, 64<<20))
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("%s: wrote %d bytes that nobody read: %v", direction, n, err)
			}
			must(t, w.CloseWrite())
			got, err := io.Copy(io.Discard, r)
			if err != nil || got != int64(n) {
				t.Errorf("%s: %d of %d bytes arrived: %v", direction, got, n, err)
			}
			w.Close()
			r.Close()
		}
	})
}

func TestConnectionsPastTheLimitAreReset(t *testing.T) {
	c := newContainer(t, sandbox.LinkPacket, Config{Limits: Limits{TCP: 3}})
	l := world.listen(t, "tcp4", "198.51.100.1:0")
	for range 3 {
		accepted(t, c, l)
	}
	if conn, err := c.dial("tcp4", l.Addr().String(), brief); !errors.Is(err, unix.ECONNREFUSED) {
		if err == nil {
			conn.Close()
		}
		t.Fatalf("a fourth connection: %v", err)
	}
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

func TestNewConnectionsArePacedNotFailed(t *testing.T) {
	clock := newTestClock()
	c := newContainer(t, sandbox.LinkPacket, Config{Limits: Limits{NewPerSecond: 2}, Clock: clock})
	l := world.listen(t, "tcp4", "198.51.100.1:0")
	for range 4 { // a burst of two seconds' worth
		accepted(t, c, l)
	}
	if conn, err := c.dial("tcp4", l.Addr().String(), 100*time.Millisecond); !isTimeout(err) {
		if err == nil {
			conn.Close()
		}
		t.Fatalf("a connection past the rate: %v", err)
	}
	clock.advance(time.Second)
	accepted(t, c, l)
}

func TestStackGoesWithTheLastConnectionAndComesAgain(t *testing.T) {
	clock := newTestClock()
	c := newContainer(t, sandbox.LinkPacket, Config{Clock: clock})
	l := world.listen(t, "tcp4", "198.51.100.1:0")
	hasStack := func() bool {
		tcp := &c.link.active.Load().tcp
		tcp.mu.Lock()
		defer tcp.mu.Unlock()
		return tcp.stack != nil
	}
	for range 2 {
		inside, outside := accepted(t, c, l)
		clock.advance(time.Hour)
		if !hasStack() {
			t.Fatal("no stack though there is a connection")
		}
		outside.Close()
		inside.Close()
		soon(t, "the connection is over", func() bool { return tcpFlows(c.link) == 0 })
		clock.advance(DefaultLimits.StackIdle)
		soon(t, "the stack is gone", func() bool { return !hasStack() })
	}
}

// TestManyConnectionsComeAndGo is the hammer: connections that are used,
// dropped and reset from all sides at once.
func TestManyConnectionsComeAndGo(t *testing.T) {
	forEachKind(t, func(t *testing.T, kind sandbox.LinkKind) {
		c := newContainer(t, kind, Config{Limits: Limits{NewPerSecond: 100_000}})
		l := world.listen(t, "tcp4", "198.51.100.1:0")
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer conn.Close()
					_, _ = io.Copy(conn, conn) // it may be reset at any time
				}()
			}
		}()
		var group sync.WaitGroup
		for worker := range 8 {
			group.Go(func() {
				random := rand.New(rand.NewPCG(uint64(worker), 1))
				for range 25 {
					conn, err := c.dial("tcp4", l.Addr().String(), brief)
					if err != nil {
						t.Errorf("dial: %v", err)
						return
					}
					sent := make([]byte, random.IntN(200_000))
					switch random.IntN(3) {
					case 0:
						must(t, conn.(*net.TCPConn).SetLinger(0))
					case 1:
						go conn.Write(sent)
					default:
						go func() {
							conn.Write(sent)
							conn.(*net.TCPConn).CloseWrite()
						}()
						if n, err := io.Copy(io.Discard, conn); err != nil || int(n) != len(sent) {
							t.Errorf("%d of %d bytes came back: %v", n, len(sent), err)
						}
					}
					conn.Close()
				}
			})
		}
		group.Wait()
		soon(t, "all connections are forgotten", func() bool { return tcpFlows(c.link) == 0 })
	})
}
