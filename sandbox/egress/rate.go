package egress

import (
	"sync"
	"time"

	"github.com/hearth-faas/hearth"
)

// bucket lets through so many events per second, in bursts of up to two
// seconds' worth.
type bucket struct {
	clock hearth.Clock
	rate  float64 // tokens per second

	mu     sync.Mutex
	tokens float64
	last   time.Time
}

func (b *bucket) init(clock hearth.Clock, perSecond int) {
	b.clock, b.rate, b.last = clock, float64(perSecond), clock.Now()
	b.tokens = 2 * b.rate
}

// take reports whether another event may be now.
func (b *bucket) take() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.clock.Now()
	if passed := now.Sub(b.last).Seconds(); passed > 0 {
		b.tokens = min(b.tokens+passed*b.rate, 2*b.rate)
		b.last = now
	}
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
