package manager

import (
	"cmp"
	"slices"
	"time"
)

// Withdraw decides which instances of variable capacity go when there is less
// of it than they have been promised (S07.9): those whose end costs least. That
// is first those with nothing at work, and then those whose work has begun last,
// since what it has done until then is lost if it does not end in its time of
// grace. Of equals the larger goes, so that there are few, and then the first.
type Withdraw struct{}

// Holding is what Withdraw sees of an instance.
type Holding struct {
	MiB int // promised to its containers
	// Lost is how long what it has at work has run, all of it together.
	Lost time.Duration
}

// Choose returns the indexes of what goes, so that at least mib MiB come free;
// all of it if that is not enough.
func (Withdraw) Choose(mib int, all []Holding) (chosen []int) {
	order := make([]int, len(all))
	for i := range all {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(all[a].Lost, all[b].Lost), cmp.Compare(all[b].MiB, all[a].MiB))
	})
	for _, i := range order {
		if mib <= 0 {
			break
		}
		mib -= all[i].MiB
		chosen = append(chosen, i)
	}
	return chosen
}
