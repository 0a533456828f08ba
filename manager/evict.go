package manager

import (
	"cmp"
	"slices"
	"time"
)

// Evict decides which idle containers are ended when memory is short: those
// whose absence will cost least, which are those that have most of their idle
// life behind them. IdleLife has weighed already how soon the code is likely
// to be asked for, and whether the container is the last that has it. Before all
// of them go those that were made on a prediction and never used.
type Evict struct{}

// Idler is what Evict sees of an idle container.
type Idler struct {
	MiB  int
	Idle time.Duration // since its last invocation
	Life time.Duration // as IdleLife decides
	// Foretold: it was made on a prediction and has not been used.
	Foretold bool
}

// Choose returns the indexes of what to end, least valuable first, so that at
// least mib MiB come free; nil if all of it together would not be enough.
func (Evict) Choose(mib int, idle []Idler) []int {
	order := make([]int, len(idle))
	for i := range idle {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		x, y := idle[a], idle[b]
		if x.Foretold != y.Foretold {
			if x.Foretold {
				return -1
			}
			return 1
		}
		// x.Idle/x.Life > y.Idle/y.Life, without dividing by a life of zero.
		if n := cmp.Compare(float64(y.Idle)*float64(x.Life), float64(x.Idle)*float64(y.Life)); n != 0 {
			return n
		}
		return cmp.Compare(y.Idle, x.Idle) // longest first
	})
	for n, i := range order {
		if mib -= idle[i].MiB; mib <= 0 {
			return order[:n+1]
		}
	}
	return nil
}
