package sim

import (
	"hash/fnv"
	"math"
	"math/rand/v2"
	"time"
)

// Spread says where in their minute invocations come, which a trace does not
// tell.
type Spread string

const (
	// Uniform: anywhere, independently of each other; what is left of a
	// Poisson process when the count of the minute is known.
	Uniform Spread = "uniform"
	// Even: at equal distances, beginning with the minute.
	Even Spread = "even"
	// Start: within the minute's first second, as a schedule fires.
	Start Spread = "start"
)

// arrivals makes the invocations of one function, in order, one at a time.
// They depend on the seed and the function only: every policy is shown the
// same ones.
type arrivals struct {
	f      *Function
	spread Spread
	rng    *rand.Rand
	minute int           // index in f.Minutes
	done   uint32        // of this minute
	called int           // of f.Calls
	last   time.Duration // the last one, or the minute's beginning
}

func newArrivals(f *Function, spread Spread, seed uint64) *arrivals {
	h := fnv.New64a()
	h.Write([]byte(f.Owner + "/" + f.App + "/" + f.Name)) // never fails
	return &arrivals{f: f, spread: spread, rng: rand.New(rand.NewPCG(seed, h.Sum64()))}
}

// next returns when the next invocation comes and how long it runs.
func (a *arrivals) next() (at, run time.Duration, ok bool) {
	if a.called < len(a.f.Calls) {
		c := a.f.Calls[a.called]
		a.called++
		return c.At, c.Run, true
	}
	if a.minute == len(a.f.Minutes) {
		return 0, 0, false
	}
	m := a.f.Minutes[a.minute]
	begin := time.Duration(m.At) * time.Minute
	if a.done == 0 {
		a.last = begin
	}
	switch a.spread {
	case Even:
		at = begin + time.Minute*time.Duration(a.done)/time.Duration(m.Count)
	default:
		// The least of what is left of n independent uniform ones, so that
		// they come in order without being kept.
		width := time.Minute
		if a.spread == Start {
			width = time.Second
		}
		left := float64(m.Count - a.done)
		x := 1 - math.Pow(1-a.rng.Float64(), 1/left)
		at = a.last + time.Duration(x*float64(begin+width-a.last))
	}
	a.last = at
	if a.done++; a.done == m.Count {
		a.done = 0
		a.minute++
	}
	return at, a.f.RunTimes.At(a.rng.Float64()), true
}
