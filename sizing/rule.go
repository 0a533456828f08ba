// Package sizing decides how much memory a function should have, from what its
// executions have used (S03). All else that a container gets (processors,
// network) follows the memory in proportion, so that memory is the one number
// to decide on.
//
// Too little shows in executions that were ended for want of memory. Such an
// execution tells only that more is needed, not how much, so that the amount
// grows by a ratio until it suffices. Errors that functions report, timeouts
// and crashes never make it grow.
//
// Too much shows in many executions that never came near. What is suggested
// then is what nearly all of them would have fitted in, and a margin; never
// so little that the processors or the network that come with it would slow
// them down; and never an amount that was found too small before, nor one step
// above that. So amounts do not swing to and fro: each time that one turns out
// too small, all up to it and a step beyond are out of the question for as
// long as the code stays the same.
//
// Everything here is pure.
package sizing

import (
	"fmt"
	"math"

	"github.com/hearth-faas/hearth"
)

// Rule is when evidence suffices. A zero field has a meaning of its own.
type Rule struct {
	// Share of the latest executions that must have failed for want of memory
	// for more of it to be suggested. 0 is 0.05.
	Share float64
	// Runs is how many executions there must have been with the present
	// amount before more is suggested. 0 is 10.
	Runs int
	// ShrinkRuns is how many there must have been before less is suggested.
	// 0 is 100.
	ShrinkRuns int
	// MinMiB and MaxMiB bound what is suggested. 0 is 128 and 10,240.
	MinMiB, MaxMiB int
}

// Machine is what the amount brings with it.
type Machine struct {
	// MaxMiB is the most that one function can have here.
	MaxMiB int
	// FullCPUMiB is what comes with one processor, CPUs how many there are; 0
	// is that neither limits.
	FullCPUMiB float64
	CPUs       int
	// LinkBytesPerMiB is how many bytes a second, in each direction, come with
	// a MiB; 0 is no limit.
	LinkBytesPerMiB float64
}

// The constants of the rules.
const (
	// leastKills: one kill is an accident.
	leastKills = 2
	// step is by how much an amount grows that was too small.
	step = 1.5
	// margin is what is left above what nearly all executions need, and
	// maxMargin above what every one did.
	nearlyAll = 0.99
	margin    = 1.3
	maxMargin = 1.1
	// worth: less is suggested only if it saves a quarter.
	worth = 0.75
	// unit is what suggestions are multiples of, in MiB.
	unit = 64
	// hungry is the share of the processors' share that must be in use for the
	// processors to be what an execution waits for.
	hungry = 0.85
	// sampled is how often the processors must have been looked at before
	// anything is said of them.
	sampled = 5
)

// Kind is what a suggestion is about.
type Kind string

// The kinds.
const (
	Keep   Kind = ""       // nothing is to change
	Grow   Kind = "grow"   // executions fail for want of memory
	Shrink Kind = "shrink" // much of it is never used
)

// Suggestion is what the evidence means.
type Suggestion struct {
	Kind Kind
	// MiB is the amount that is suggested; 0 with Keep, and with Grow if there
	// is no more to be had.
	MiB int
	// Revert says that the present amount was chosen here, is less than what
	// the function's owner asked for, and has turned out to be too little.
	Revert bool
	// Bound says what keeps a Shrink from being smaller, or a Grow from being
	// larger: "memory", "cpu", "network", "floor", "policy" or "machine".
	Bound string
}

// complete fills in what zero fields mean.
func (r Rule) complete() Rule {
	if r.Share == 0 {
		r.Share = 0.05
	}
	if r.Runs == 0 {
		r.Runs = 10
	}
	if r.ShrinkRuns == 0 {
		r.ShrinkRuns = 100
	}
	if r.MinMiB == 0 {
		r.MinMiB = hearth.MinMemoryMiB
	}
	if r.MaxMiB == 0 {
		r.MaxMiB = hearth.MaxMemoryMiB
	}
	return r
}

// Recent is how many executions count as the latest: enough for the share to
// be told, and few enough for it to be noticed soon.
func (r Rule) Recent() int {
	r = r.complete()
	return max(4*r.Runs, int(math.Ceil(2*leastKills/r.Share)))
}

// Suggest tells what the evidence means. It allocates nothing.
func (r Rule) Suggest(e *Evidence, m Machine) Suggestion {
	r = r.complete()
	now := e.SizeMiB()
	if now == 0 {
		return Suggestion{}
	}
	if now < e.ConfiguredMiB && e.RecentKills > 0 {
		// The owner asked for more, and would not have had that failure.
		return Suggestion{Kind: Grow, MiB: e.ConfiguredMiB, Revert: true, Bound: "memory"}
	}
	if e.Recent >= r.Runs && e.RecentKills >= leastKills && float64(e.RecentKills) >= r.Share*float64(e.Recent) {
		return r.grow(e, m, now)
	}
	if e.RecentKills > 0 || e.peaks.n < r.ShrinkRuns || e.demands.n < sampled {
		return Suggestion{}
	}
	return r.shrink(e, m, now)
}

func (r Rule) grow(e *Evidence, m Machine, now int) Suggestion {
	// What was seen in a larger container, that somebody asked for, is known.
	mib := roundUp(max(float64(now)*step, e.MaxPeakMiB()*margin))
	s := Suggestion{Kind: Grow, MiB: mib, Bound: "memory"}
	if m.MaxMiB > 0 && m.MaxMiB < s.MiB {
		s.MiB, s.Bound = m.MaxMiB, "machine"
	}
	if r.MaxMiB < s.MiB {
		s.MiB, s.Bound = r.MaxMiB, "policy"
	}
	if s.MiB <= now {
		s.MiB = 0
	}
	return s
}

func (r Rule) shrink(e *Evidence, m Machine, now int) Suggestion {
	s := Suggestion{Kind: Shrink, Bound: "memory"}
	least := max(e.peaks.quantile(nearlyAll)*margin, e.MaxPeakMiB()*maxMargin)
	raise := func(to float64, bound string) {
		if to > least {
			least, s.Bound = to, bound
		}
	}
	raise(e.demands.quantile(0.9)*1.2*m.FullCPUMiB, "cpu")
	if m.LinkBytesPerMiB > 0 && e.Seconds > 0 {
		raise(max(e.InBytes, e.OutBytes)/e.Seconds*2/m.LinkBytesPerMiB, "network")
	}
	raise(float64(e.FloorMiB)*step, "floor")
	raise(float64(r.MinMiB), "policy")
	if s.MiB = roundUp(least); float64(s.MiB) > worth*float64(now) {
		return Suggestion{}
	}
	return s
}

// roundUp makes an amount a multiple of the unit.
func roundUp(mib float64) int { return int(math.Ceil(mib/unit-1e-9)) * unit }

// Hungry reports whether executions wait for the processors' share: more
// memory would bring more of them.
func (e *Evidence) Hungry(m Machine) bool {
	share := m.Share(e.SizeMiB())
	return e.demands.n >= sampled && share > 0 && share < float64(max(m.CPUs, 1)) && e.demands.quantile(0.5) >= hungry*share
}

// Share is how many processors come with an amount; 0 is all.
func (m Machine) Share(mib int) float64 {
	if m.FullCPUMiB == 0 {
		return 0
	}
	return float64(mib) / m.FullCPUMiB
}

// Why words a suggestion in a sentence without the final period.
func (s Suggestion) Why(e *Evidence) string {
	switch {
	case s.Revert:
		return fmt.Sprintf("%d MiB, which was chosen here, turned out to be too little: back to what is configured", e.SizeMiB())
	case s.Kind == Grow && s.MiB == 0:
		return fmt.Sprintf("%d of the last %d executions were ended for want of memory at %d MiB, and that is the most that the %s allows", e.RecentKills, e.Recent, e.SizeMiB(), s.Bound)
	case s.Kind == Grow:
		return fmt.Sprintf("%d of the last %d executions were ended for want of memory at %d MiB", e.RecentKills, e.Recent, e.SizeMiB())
	case s.Kind == Shrink:
		why := fmt.Sprintf("of %d MiB, %.0f %% of the executions used at most %.0f, and none over %.0f", e.SizeMiB(), nearlyAll*100, e.peaks.quantile(nearlyAll), e.MaxPeakMiB())
		switch s.Bound {
		case "cpu":
			why += "; less than is suggested would slow them down, for want of processors"
		case "network":
			why += "; less than is suggested would slow them down, for want of network"
		case "floor":
			why += fmt.Sprintf("; but %d MiB was once too little", e.FloorMiB)
		}
		return why
	}
	return ""
}

// Summary is the evidence for people and programs.
type Summary struct {
	Runs          uint64  `json:"runs"`
	Kills         uint64  `json:"kills"`
	Errors        uint64  `json:"errors"`
	Timeouts      uint64  `json:"timeouts"`
	Crashes       uint64  `json:"crashes"`
	PeakMedianMiB float64 `json:"peakMedianMiB"`
	PeakP99MiB    float64 `json:"peakP99MiB"`
	PeakMaxMiB    float64 `json:"peakMaxMiB"`
	DurationP50   float64 `json:"durationP50Seconds"`
	DurationP99   float64 `json:"durationP99Seconds"`
	MeanSeconds   float64 `json:"durationMeanSeconds"`
	// CPUs is how many processors the executions use while they run; 0 is
	// little, or not known.
	CPUs      float64 `json:"cpus"`
	InPerRun  float64 `json:"networkInPerRun"`
	OutPerRun float64 `json:"networkOutPerRun"`
	TooLittle int     `json:"tooLittleMiB,omitempty"` // the most that was too little
}

// Summary sums the evidence up.
func (e *Evidence) Summary() Summary {
	s := Summary{
		Runs: e.Runs, Kills: e.Kills, Errors: e.Errors, Timeouts: e.Timeouts, Crashes: e.Crashes,
		PeakMedianMiB: e.peaks.quantile(0.5), PeakP99MiB: min(e.peaks.quantile(nearlyAll), e.MaxPeakMiB()), PeakMaxMiB: e.MaxPeakMiB(),
		DurationP50: e.times.quantile(0.5), DurationP99: e.times.quantile(0.99), TooLittle: e.FloorMiB,
	}
	if e.BusySeconds > 0 {
		s.CPUs = e.CPUSeconds / e.BusySeconds
	}
	if e.Counted > 0 {
		s.InPerRun, s.OutPerRun, s.MeanSeconds = e.InBytes/e.Counted, e.OutBytes/e.Counted, e.Seconds/e.Counted
	}
	return s
}
