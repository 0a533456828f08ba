package proxy

import (
	"math"
	"sync"
	"time"
)

// bucket is a token bucket. Safe for concurrent use.
type bucket struct {
	mu     sync.Mutex
	tokens float64
	at     time.Time
}

// take takes a token, or tells in how long there is one.
func (b *bucket) take(t *Throttle, now time.Time) (wait time.Duration, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.at.IsZero() {
		b.tokens = float64(t.Burst)
	} else if passed := now.Sub(b.at).Seconds(); passed > 0 {
		b.tokens = min(float64(t.Burst), b.tokens+passed*t.Rate)
	}
	b.at = now
	if b.tokens >= 1 {
		b.tokens--
		return 0, true
	}
	return time.Duration(math.Ceil((1 - b.tokens) / t.Rate * float64(time.Second))), false
}
