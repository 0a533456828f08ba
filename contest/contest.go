// Package contest decides, while accounts compete for the processors, whose
// containers run only on what the others leave. Turns bound how many
// invocations begin at once, and not what each of them computes once it has
// begun: beside one that computes for as long as it is let, whoever needs a
// millisecond waits for several.
package contest

import (
	"math"
	"time"

	"github.com/hearth-faas/hearth"
)

const (
	// halfLife is after how long what was used counts for half.
	halfLife = 500 * time.Millisecond
	// An account is to yield once it has used so many times its share, until it
	// has used less than that.
	above = 1.2
	// One that has used less than that part of what the greatest has does not
	// yield with it: beside a flood, whoever starts something is beyond a share
	// for a moment.
	near = 0.5
	// What is less than that in seconds of processors' time is forgotten, and
	// whose it is does not compete any more.
	least = 100e-6
)

// Judge tells which accounts are to yield: those that have used more of the
// processors of late than their share, and at least half of what the greatest of
// them has. A share is the part of all that was used that falls to each of those
// who used any, by their weights: one that is left less than that while it yields
// goes beside the others again. Not safe for concurrent use. The zero value is
// ready.
type Judge struct {
	used   map[hearth.Account]float64 // seconds of processors' time, the older the less
	yields map[hearth.Account]Share
}

// Share is why an account yields: which part it has used of what all have, and
// which would be its own.
type Share struct{ Used, Own float64 }

// Look takes what accounts have used in the time d before, and returns those who
// are to yield, until the next look. weight is an account's; less than 1 is 1.
func (j *Judge) Look(d time.Duration, used map[hearth.Account]time.Duration, weight func(hearth.Account) int) map[hearth.Account]Share {
	if j.used == nil {
		j.used = map[hearth.Account]float64{}
	}
	keep := math.Exp2(-float64(d) / float64(halfLife))
	for account := range j.used {
		j.used[account] *= keep
	}
	for account, u := range used {
		j.used[account] += u.Seconds()
	}
	var total, weights, most float64 // most: of one account, by its weight
	for account, u := range j.used {
		if u < least {
			delete(j.used, account)
			continue
		}
		w := float64(max(weight(account), 1))
		total += u
		weights += w
		most = max(most, u/w)
	}
	yields := map[hearth.Account]Share{}
	for account, u := range j.used {
		w := float64(max(weight(account), 1))
		own := total * w / weights
		if _, yielding := j.yields[account]; (u > above*own || yielding && u >= own) && u/w >= near*most {
			yields[account] = Share{u / total, own / total}
		}
	}
	if len(yields) == len(j.used) {
		clear(yields) // it is one alone, whose share is all
	}
	j.yields = yields
	return yields
}
