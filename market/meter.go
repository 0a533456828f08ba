package market

import (
	"sync"
	"sync/atomic"
	"time"
)

// Meter adds up a price that changes over time, so that what was used from one
// moment to another costs the difference. Safe for concurrent use; Sum takes no
// lock. Its zero value costs nothing.
type Meter struct {
	mu sync.Mutex // of those who Set
	at atomic.Pointer[tariff]
}

// tariff is a price since a moment, and the sum until then.
type tariff struct {
	since      time.Time
	price, sum float64
}

func (t *tariff) until(at time.Time) float64 {
	if t == nil {
		return 0
	}
	return t.sum + t.price*max(at.Sub(t.since), 0).Hours()
}

// Set has the price hold from now on.
func (m *Meter) Set(now time.Time, price float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.at.Store(&tariff{now, price, m.at.Load().until(now)})
}

// Price is the one that holds.
func (m *Meter) Price() float64 {
	if t := m.at.Load(); t != nil {
		return t.price
	}
	return 0
}

// Sum is what one GiB would have cost until now since the first Set. What it
// was at an earlier time is not known any more once the price has changed.
func (m *Meter) Sum(now time.Time) float64 { return m.at.Load().until(now) }
