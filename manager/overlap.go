package manager

import (
	"cmp"
	"math"
	"slices"
)

// Overlap decides how many containers of new code are made before it takes
// over, and beside which of the old code's. There are to be as many as the
// present load needs: those of the old code that are busy or were lately, and
// none for those that idle away their lives. As long as the old code has any,
// there is to be one.
type Overlap struct{}

// Holder is what Overlap sees of an instance that has containers of the old
// code.
type Holder struct {
	Busy   int // at work
	Recent int // idle, and used a moment ago
	Idle   int // the others
}

// Choose returns how many containers are made beside those of each instance.
// share is what part of the load the new code is to have, have how many
// containers it has already, and most how many more there may be. Where these
// are fewer than are needed, every instance gets some before any gets all.
func (Overlap) Choose(holders []Holder, share float64, have, most int) []int {
	steps := make([]int, len(holders))
	load, idle := 0, 0
	for _, h := range holders {
		load += h.Busy + h.Recent
		idle += h.Idle
	}
	need := int(math.Ceil(share * float64(load)))
	if load == 0 && idle > 0 && share > 0 {
		need = 1
	}
	need = min(need-have, most)
	order := make([]int, len(holders))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(holders[b].Busy+holders[b].Recent, holders[a].Busy+holders[a].Recent)
	})
	for round := 0; need > 0; round++ {
		given := false
		for _, i := range order {
			if h := holders[i]; need > 0 && (round < h.Busy+h.Recent || load == 0 && round == 0 && h.Idle > 0) {
				steps[i]++
				need--
				given = true
			}
		}
		if !given {
			break
		}
	}
	return steps
}
