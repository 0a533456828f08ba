package manager

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"github.com/hearth-faas/hearth"
)

// Stock decides what the warming pool holds. Of every boot at least the
// configured number, and beyond it as many as Trend expects to be taken before
// the pool has made up for them; all within a budget of memory that is never
// exceeded.
type Stock struct {
	Min map[hearth.Boot]int
	// Extra bounds what is kept of one boot beyond its minimum.
	Extra int
	// BudgetMiB is what all ready slots together, and those being made, may
	// cost. Slots that instances of accounts keep ready count too.
	BudgetMiB float64
}

// Shelf is what Stock sees of one boot.
type Shelf struct {
	Ready   int
	Making  int
	Coming  float64 // how many Trend expects
	SlotMiB float64 // what one costs
	Held    bool    // not to be made now, after failures
}

// Want is how many of a boot the pool should hold, if the budget allows.
func (s Stock) Want(b hearth.Boot, shelf Shelf) int {
	// Half a slot is not worth its memory.
	return s.Min[b] + min(int(math.Round(shelf.Coming)), s.Extra)
}

// Next returns the boot of which one more should be made: the one that lacks
// most in proportion and fits into the budget. ok is false if there is none.
// usedMiB is what of the budget is in use.
func (s Stock) Next(shelves map[hearth.Boot]Shelf, usedMiB float64) (boot hearth.Boot, ok bool) {
	best := math.Inf(1)
	for _, b := range slices.SortedFunc(maps.Keys(shelves), cmp.Compare[hearth.Boot]) {
		sh := shelves[b]
		want := s.Want(b, sh)
		have := sh.Ready + sh.Making
		if have >= want || sh.Held || usedMiB+sh.SlotMiB > s.BudgetMiB {
			continue
		}
		if r := float64(have) / float64(want); r < best {
			best, boot, ok = r, b, true
		}
	}
	return boot, ok
}

// Surplus returns a boot of which the pool holds more than it wants; ok is
// false if there is none.
func (s Stock) Surplus(shelves map[hearth.Boot]Shelf) (boot hearth.Boot, ok bool) {
	most := 0
	for _, b := range slices.SortedFunc(maps.Keys(shelves), cmp.Compare[hearth.Boot]) {
		sh := shelves[b]
		if over := min(sh.Ready, sh.Ready+sh.Making-s.Want(b, sh)); over > most {
			most, boot, ok = over, b, true
		}
	}
	return boot, ok
}
