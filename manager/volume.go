package manager

import (
	"math"
	"time"
)

// Volume measures how often something happens, as a count that decays: an
// event weighs 1 when it happens and 1/e after one period. Its zero value has
// seen nothing. It is a value and knows no clock: the caller tells the time.
type Volume struct {
	count float64
	at    time.Time // of the last event
}

// Add says that n more happened at the given time. Events must come in the
// order of time; one that comes out of order counts as being at the last.
func (v *Volume) Add(n int, at time.Time, period time.Duration) {
	v.count = v.Count(at, period) + float64(n)
	if at.After(v.at) {
		v.at = at
	}
}

// Count is the decayed count at the given time: about how many happened
// within the last period.
func (v *Volume) Count(at time.Time, period time.Duration) float64 {
	if v.count == 0 {
		return 0
	}
	x := float64(at.Sub(v.at)) / float64(period)
	switch {
	case x <= 0:
		return v.count
	case x < 1e-4: // within one part in 10⁸ of the exponential, and this is on the warm path
		return v.count * (1 - x)
	}
	return v.count * math.Exp(-x)
}

// Last is when the last event was; zero if there was none.
func (v *Volume) Last() time.Time { return v.at }
