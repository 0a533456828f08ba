package egress

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
)

// shaper bounds the bytes a second of one direction of a link: a bucket of
// tokens, one for a byte, that fills at the rate and may be overdrawn. In the
// long run each byte of each packet counts, headers and answers too.
//
// It slows down at the source, so that hardly anything is lost: of what goes
// into the container, TCP's data and datagrams take from the bucket ahead
// (reserve) and wait, and the other end sends no more than is taken. What
// comes out of it is charged as it comes (pass), and connections are not read
// from while more has come than may: the container's TCP then fills its window
// and waits. Only datagrams out of it can't be kept back, and are lost when
// they are far ahead.
//
// Safe for concurrent use; without a rate it costs one look at an atomic.
type shaper struct {
	on    atomic.Bool
	clock hearth.Clock

	mu     sync.Mutex
	rate   float64 // bytes per second
	tokens float64 // below zero: what was sent too early
	ahead  float64 // taken, and not passed yet
	last   time.Time
}

// What may pass at once after a pause: a quarter of a second's worth, so that a
// host that is late loses nothing of the rate, and at least two packets of the
// largest size.
const (
	burstSeconds = 0.25
	leastBurst   = 2 * 65535
)

func (s *shaper) burst() float64 { return max(s.rate*burstSeconds, leastBurst) }

// set bounds what passes from now on; 0 is no bound.
func (s *shaper) set(bytesPerSecond int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if bytesPerSecond <= 0 {
		s.on.Store(false)
		return
	}
	if s.on.Load() {
		s.fill()
		s.rate = float64(bytesPerSecond)
		s.tokens = min(s.tokens, s.burst())
		return
	}
	s.rate, s.ahead, s.last = float64(bytesPerSecond), 0, s.clock.Now()
	s.tokens = s.burst()
	s.on.Store(true)
}

// fill adds what has come since the last time. Called with mu held.
func (s *shaper) fill() {
	now := s.clock.Now()
	if passed := now.Sub(s.last).Seconds(); passed > 0 {
		s.tokens = min(s.tokens+passed*s.rate, s.burst())
		s.last = now
	}
}

// take takes n bytes and returns how long it is until they may pass. Called
// with mu held.
func (s *shaper) take(n float64) time.Duration {
	s.fill()
	if s.tokens -= n; s.tokens >= 0 {
		return 0
	}
	return time.Duration(-s.tokens / s.rate * float64(time.Second))
}

// reserve takes n bytes ahead, and returns how long to wait before they are
// sent.
func (s *shaper) reserve(n int) time.Duration {
	if !s.on.Load() {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead += float64(n)
	return s.take(float64(n))
}

// pass charges a packet of n bytes, as far as it was not taken ahead, and
// reports whether more than another burst has passed before its time.
func (s *shaper) pass(n int) (far bool) {
	if !s.on.Load() {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	paid := min(s.ahead, float64(n))
	s.ahead -= paid
	s.take(float64(n) - paid)
	return s.tokens < -s.burst()
}

// due is how long it is until something may pass.
func (s *shaper) due() time.Duration {
	if !s.on.Load() {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.take(0)
}

// SetRate bounds the bytes of IP packets a second in each direction, from now
// on; 0 is no bound.
func (l *link) SetRate(bytesPerSecond int64) {
	l.up.set(bytesPerSecond)
	l.down.set(bytesPerSecond)
}

// admit waits until n bytes may be sent into the container; false if the link
// was closed meanwhile.
func (l *link) admit(n int) bool { return l.sleep(l.down.reserve(n)) }

// release waits until the container may send; false if the link was closed
// meanwhile.
func (l *link) release() bool {
	for {
		d := l.up.due()
		if d <= 0 {
			return true
		}
		if !l.sleep(d) { // others wait as well, and may be first
			return false
		}
	}
}

// sleep waits; false if the link was closed meanwhile.
func (l *link) sleep(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	over := make(chan struct{})
	timer := l.network.config.Clock.AfterFunc(d, func() { close(over) })
	defer timer.Stop()
	select {
	case <-over:
		return true
	case <-l.stop:
		return false
	}
}
