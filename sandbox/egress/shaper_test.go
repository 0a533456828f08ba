package egress

import (
	"io"
	"math"
	"net"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth/sandbox"
)

const mega = 1_000_000

// let lets time pass in small steps, waits in each until what may pass has
// passed, but for what two connections can be ahead or behind, and returns how
// much may have passed in all.
func let(t *testing.T, clock *testClock, steps int, rate float64, count func() int64) float64 {
	t.Helper()
	const slack = 6 * 65535
	from, start := count(), clock.Now()
	allowed := func() float64 { return rate * clock.Now().Sub(start).Seconds() }
	for range steps {
		clock.advance(50 * time.Millisecond)
		soon(t, "what may pass has passed", func() bool {
			// Who was about to wait has not seen the time pass.
			clock.advance(50 * time.Microsecond)
			return float64(count()-from) >= allowed()-slack
		})
	}
	return allowed()
}

func TestALinkCarriesItsRateInEachDirection(t *testing.T) {
	const rate, steps = 16 * mega, 60
	for name, carry := range map[string]func(inside, outside net.Conn){
		"out of the container": func(inside, outside net.Conn) {
			go io.Copy(inside, zeros{})
			go io.Copy(io.Discard, outside)
		},
		"into the container": func(inside, outside net.Conn) {
			go io.Copy(outside, zeros{})
			go io.Copy(io.Discard, inside)
		},
	} {
		t.Run(name, func(t *testing.T) {
			forEachKind(t, func(t *testing.T, kind sandbox.LinkKind) {
				clock := newTestClock()
				c := newContainer(t, kind, Config{Clock: clock})
				c.link.SetRate(rate)
				server := world.listen(t, "tcp4", "198.51.100.1:0")
				// Two connections share what there is.
				for range 2 {
					inside, err := c.dial("tcp4", server.Addr().String(), brief)
					must(t, err)
					defer inside.Close()
					outside, err := server.Accept()
					must(t, err)
					defer outside.Close()
					carry(inside, outside)
				}
				count := func() int64 {
					in, out := c.link.Counts()
					return max(in, out)
				}
				soon(t, "the burst has passed", func() bool { return count() >= rate/4-2*65535 })
				let(t, clock, 5, rate, count)
				from := count()
				want := let(t, clock, steps, rate, count)
				if got := float64(count() - from); math.Abs(got/want-1) > 0.02 { // of 48 MB; six packets are 0.8 %
					t.Errorf("%.0f bytes passed of %.0f", got, want)
				}
				// Without a bound the rest passes at once.
				c.link.SetRate(0)
				bound := count() + 5*rate
				soon(t, "it is as fast as it can be", func() bool {
					clock.advance(50 * time.Millisecond) // for who waits still
					return count() > bound
				})
			})
		})
	}
}

func TestDatagramsIntoAContainerKeepToItsRate(t *testing.T) {
	forEachKind(t, func(t *testing.T, kind sandbox.LinkKind) {
		clock := newTestClock()
		c := newContainer(t, kind, Config{Clock: clock})
		c.link.SetRate(mega)
		server := world.listenPacket(t, "198.51.100.1:0")
		conn, err := c.dial("udp4", server.LocalAddr().String(), brief)
		must(t, err)
		defer conn.Close()
		_, err = conn.Write([]byte("hello"))
		must(t, err)
		_, from, err := server.ReadFrom(make([]byte, 16))
		must(t, err)
		in := func() int64 { in, _ := c.link.Counts(); return in }
		const size = 8000
		send := func() {
			_, err := server.WriteTo(make([]byte, size), from)
			must(t, err)
		}
		// A quarter of a megabyte may pass at once.
		for sent := int64(size); sent <= mega/4; sent += size {
			send()
			soon(t, "it has passed", func() bool { return in() >= sent })
		}
		send()
		send()
		soon(t, "the next waits", c.link.down.owes)
		if n := in(); n > mega/4 {
			t.Errorf("%d bytes passed at once", n)
		}
		soon(t, "it has passed", func() bool {
			clock.advance(50 * time.Millisecond) // for who was about to wait, too
			return in() > mega/4+size
		})
	})
}

func TestClosingALinkEndsWhoeverWaitsForItsRate(t *testing.T) {
	forEachKind(t, func(t *testing.T, kind sandbox.LinkKind) {
		clock := newTestClock()
		n, err := New(Config{Clock: clock, Resolvers: []netip.AddrPort{silentUDP(t)}})
		must(t, err)
		defer n.Close()
		c := joinContainer(t, n, "c1", kind)
		c.link.SetRate(1)
		server := world.listen(t, "tcp4", "198.51.100.1:0")
		inside, err := c.dial("tcp4", server.Addr().String(), brief)
		must(t, err)
		defer inside.Close()
		outside, err := server.Accept()
		must(t, err)
		defer outside.Close()
		go io.Copy(inside, zeros{})
		go io.Copy(outside, zeros{})
		soon(t, "both directions wait", func() bool { return c.link.up.owes() && c.link.down.owes() })
		must(t, c.link.Close()) // it returns when nobody is at work any more
	})
}

// owes reports whether more has passed than may.
func (s *shaper) owes() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tokens < 0
}

func TestAShaperNeverLetsThroughMoreThanItsRateAndABurst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		clock := newTestClock()
		s := &shaper{clock: clock}
		rate := rapid.Int64Range(1000, 100*mega).Draw(t, "rate")
		s.set(rate)
		start, passed, ahead := clock.Now(), 0.0, 0
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			n := rapid.IntRange(1, 65535).Draw(t, "bytes")
			switch rapid.IntRange(0, 2).Draw(t, "what") {
			case 0: // taken ahead, and waited for
				clock.advance(s.reserve(n) + 1)
				ahead += n
				fallthrough
			case 1: // what was taken ahead passes, or a packet for which nobody waited
				if ahead > 0 {
					n, ahead = ahead, 0
				} else {
					clock.advance(s.due() + 1)
				}
				s.pass(n)
				clock.advance(s.due() + 1)
				passed += float64(n)
			case 2:
				clock.advance(time.Duration(rapid.IntRange(0, int(2*time.Second)).Draw(t, "pause")))
			}
			most := max(float64(rate)*burstSeconds, leastBurst) + float64(rate)*clock.Now().Sub(start).Seconds()
			if passed > most+1 {
				t.Fatalf("%.0f bytes passed, at most %.0f may", passed, most)
			}
		}
	})
}

func BenchmarkPassWithoutARate(b *testing.B) {
	s := &shaper{clock: wallClock{}}
	for b.Loop() {
		s.pass(1500)
	}
}
