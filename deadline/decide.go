// Package deadline runs what a function calls without needing the answer yet
// (S10): not at once, which would add to a peak, but in capacity that is spare,
// and in time for when the caller will ask for it.
//
// When that is is learned from earlier runs of the calling code, and how long the
// call takes from earlier ones of the same. Without history a call runs at once,
// as it would without this package.
package deadline

import (
	"fmt"
	"slices"
	"time"
)

// samples are the latest of something that takes time, the newest last.
type samples struct {
	Last []time.Duration `json:"last"` // nanoseconds
}

const (
	// keep is how many samples count, so that what has changed is forgotten
	// after as many.
	keep = 16
	// enough is how many there must be to go by.
	enough = 3
)

func (s *samples) add(d time.Duration) {
	if s.Last = append(s.Last, max(d, 0)); len(s.Last) > keep {
		s.Last = slices.Delete(s.Last, 0, len(s.Last)-keep)
	}
}

// quantile is the sample below which that share of them is; false if there are
// too few.
func (s *samples) quantile(share float64) (time.Duration, bool) {
	if len(s.Last) < enough {
		return 0, false
	}
	sorted := slices.Sorted(slices.Values(s.Last))
	return sorted[min(int(share*float64(len(sorted))), len(sorted)-1)], true
}

// What is gone by: nearly the shortest time until the answer was needed, and
// nearly the longest that a run took, with a margin for what is to be new.
const (
	needQuantile = 0.05
	runQuantile  = 0.95
	leastMargin  = 100 * time.Millisecond
)

// known is what there is to decide by.
type known struct {
	now       time.Time
	need, run *samples      // of earlier calls
	declared  time.Duration // when the caller says that it needs the answer; 0 is not said
	parent    time.Time     // when the caller's own answer is needed; zero is not known
	threshold time.Duration // a call that can't wait that long runs at once
}

// plan is what is decided of a call.
type plan struct {
	now     bool      // it runs at once
	needed  time.Time // when its caller asks for the answer; zero is not known
	startBy time.Time // when it must run for that
	why     string
}

// decide tells when a call is to run at the latest. It is pure.
func decide(k known) plan {
	delay, ok := k.declared, k.declared > 0
	from := "its caller says so"
	if !ok {
		delay, ok = k.need.quantile(needQuantile)
		from = fmt.Sprintf("%d earlier calls by the same code", len(k.need.Last))
	}
	if !ok {
		return plan{now: true, why: "it is not known when its caller will ask for the answer: there are too few calls by the same code"}
	}
	p := plan{needed: k.now.Add(delay)}
	if !k.parent.IsZero() && k.parent.Before(p.needed) {
		p.needed, from = k.parent, "its caller is itself awaited then"
	}
	run, ok := k.run.quantile(runQuantile)
	if !ok {
		p.now, p.why = true, "it is not known how long it takes"
		return p
	}
	p.startBy = p.needed.Add(-run - max(run/4, leastMargin))
	if p.startBy.Sub(k.now) < k.threshold {
		p.now = true
		p.why = fmt.Sprintf("its answer is needed in %v, and it takes %v", p.needed.Sub(k.now).Round(time.Millisecond), run.Round(time.Millisecond))
		return p
	}
	p.why = fmt.Sprintf("its answer is needed in %v (%s), and it takes %v: it can wait for spare capacity for %v",
		p.needed.Sub(k.now).Round(time.Millisecond), from, run.Round(time.Millisecond), p.startBy.Sub(k.now).Round(time.Millisecond))
	return p
}
