package manager

import "time"

// IdleLife decides how long a container that has nothing to do is kept. It
// depends on the request volume of its code (S00.6) and on nothing else; that
// memory is short is the business of Evict.
//
// The time between two requests is estimated from the volume, and a container
// is kept for several of those: long enough that the next request of rarely
// used code still meets it, and no longer than a moment for the surplus that
// a burst of frequently used code has left behind.
type IdleLife struct {
	Min, Max time.Duration
	// Period is over which the volume is measured.
	Period time.Duration
	// Gaps is for how many mean gaps between requests a container is kept.
	// Requests that come independently of each other leave a longer gap than
	// three means in one case of twenty.
	Gaps float64
	// Last is the least that the last container of its code is kept, since
	// without it the next request is a cold one however frequent they were.
	Last time.Duration
}

// For is how long a container of code with volume v may be idle. last says
// that it is the only one left. The volume counts as it was at its last event:
// a life does not change while the container waits.
func (l IdleLife) For(v Volume, last bool) time.Duration {
	life := l.Max
	if n := v.Count(v.Last(), l.Period); n > 0 {
		life = time.Duration(min(l.Gaps*float64(l.Period)/n, float64(l.Max)))
	}
	if last {
		life = max(life, l.Last)
	}
	return min(max(life, l.Min), l.Max)
}
