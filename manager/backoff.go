package manager

import (
	"math/rand/v2"
	"sync"
	"time"
)

// Backoff decides how long to wait after failures in a row: twice as long
// after each, up to Max, and between half and the whole of that at random, so
// that what failed together is not tried again together. Safe for concurrent
// use.
type Backoff struct {
	Base, Max time.Duration

	mu  sync.Mutex
	rng *rand.Rand
}

// NewBackoff makes a Backoff whose chance comes from seed.
func NewBackoff(base, most time.Duration, seed uint64) *Backoff {
	return &Backoff{Base: base, Max: most, rng: rand.New(rand.NewPCG(seed, 0x6261636b))}
}

// After is the wait after the given number of failures in a row; 0 after none.
func (b *Backoff) After(failures int) time.Duration {
	if failures <= 0 {
		return 0
	}
	d := b.Max
	if shift := failures - 1; shift < 32 && b.Base<<shift>>shift == b.Base {
		d = min(b.Base<<shift, b.Max)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return d/2 + time.Duration(b.rng.Int64N(int64(d/2)+1))
}
