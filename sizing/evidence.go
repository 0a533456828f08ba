package sizing

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/hearth-faas/hearth"
)

// Evidence is what the executions of one version of a function have shown of
// what it needs. What a new code or configuration needs is another question:
// Begin starts anew. The zero Evidence has seen nothing. It takes some 600
// bytes, however many executions there were. Not safe for concurrent use.
type Evidence struct {
	facts
	peaks   histogram // MiB, of executions that did not fail for want of memory
	times   histogram // seconds
	demands histogram // processors, as they are had at once
}

// facts are the numbers of the evidence, as they are on disk.
type facts struct {
	// Generation is of the code and configuration that the evidence is of.
	Generation uint64    `json:"generation"`
	Since      time.Time `json:"since"`
	// ConfiguredMiB is what the function's owner asked for.
	ConfiguredMiB int `json:"configuredMiB"`
	// AppliedMiB is what its new containers get instead; 0 is nothing else.
	AppliedMiB int `json:"appliedMiB,omitempty"`
	// FloorMiB is the most that was seen to be too little.
	FloorMiB int `json:"floorMiB,omitempty"`

	// Runs counts the executions since the evidence began, and the others how
	// many of them ended so.
	Runs     uint64 `json:"runs"`
	Kills    uint64 `json:"kills"` // for want of memory
	Errors   uint64 `json:"errors"`
	Timeouts uint64 `json:"timeouts"`
	Crashes  uint64 `json:"crashes"`

	// Recent and RecentKills count the latest executions with the present
	// amount; both are halved now and then.
	Recent      int `json:"recent"`
	RecentKills int `json:"recentKills"`

	// The most that was seen since the counts of peaks were halved last, and
	// before that since they were halved the time before.
	PeakMiB     float64 `json:"peakMiB"`
	PeakPastMiB float64 `json:"peakPastMiB"`

	// What was used, halved together.
	Seconds     float64 `json:"seconds"` // that executions took
	CPUSeconds  float64 `json:"cpuSeconds"`
	BusySeconds float64 `json:"busySeconds"` // of those of which CPUSeconds is known
	InBytes     float64 `json:"inBytes"`
	OutBytes    float64 `json:"outBytes"`
	Counted     float64 `json:"counted"` // executions in Seconds and bytes

	// Told is the suggestion that was made last, so that each is made once.
	Told int `json:"told,omitempty"`
}

// Begin starts the evidence anew if it is of an older generation. More memory
// than configured that the older one was given stays as long as what is
// configured does: it was found to be needed, and new code rarely needs less.
// Less than configured does not. It reports whether the evidence is of the
// generation.
func (e *Evidence) Begin(generation uint64, configuredMiB int, now time.Time) bool {
	if e.Generation >= generation {
		return e.Generation == generation
	}
	kept := 0
	if e.ConfiguredMiB == configuredMiB && e.AppliedMiB > configuredMiB {
		kept = e.AppliedMiB
	}
	*e = Evidence{facts: facts{Generation: generation, ConfiguredMiB: configuredMiB, AppliedMiB: kept, Since: now}}
	return true
}

// SizeMiB is what new containers get.
func (e *Evidence) SizeMiB() int {
	if e.AppliedMiB > 0 {
		return e.AppliedMiB
	}
	return e.ConfiguredMiB
}

// Apply makes mib what new containers get. What was seen of the need stays;
// what was seen of the old amount does not.
func (e *Evidence) Apply(mib int) {
	e.AppliedMiB = mib
	if mib == e.ConfiguredMiB {
		e.AppliedMiB = 0
	}
	e.Recent, e.RecentKills, e.Told = 0, 0, 0
}

// every is after how many executions it is asked again what they mean.
const every = 32

// Add takes an execution into account, and reports whether it is time to ask
// what the evidence means. recent bounds how many of the latest count as such.
func (e *Evidence) Add(u *hearth.Use, recent int) (ask bool) {
	if u.End == hearth.EndUnknown {
		return false
	}
	e.Runs++
	switch u.End {
	case hearth.EndMemory:
		e.Kills++
		// All that it tells of the need is that it is more.
		e.FloorMiB = max(e.FloorMiB, u.MemoryMiB)
	case hearth.EndError:
		e.Errors++
	case hearth.EndTimeout:
		e.Timeouts++
	case hearth.EndCrash:
		e.Crashes++
	}
	if u.MemoryMiB == e.SizeMiB() { // else it was made before, or asked for another amount
		e.Recent++
		if u.End == hearth.EndMemory {
			e.RecentKills++
		}
		if e.Recent >= recent {
			e.Recent, e.RecentKills = e.Recent/2, e.RecentKills/2
		}
	}
	if u.End != hearth.EndMemory {
		e.PeakMiB = max(e.PeakMiB, u.PeakMiB)
		if e.peaks.add(memoryShape, u.PeakMiB) {
			e.PeakPastMiB, e.PeakMiB = e.PeakMiB, u.PeakMiB
		}
	}
	e.times.add(timeShape, u.Duration.Seconds())
	e.Seconds += u.Duration.Seconds()
	e.InBytes += float64(u.NetworkIn)
	e.OutBytes += float64(u.NetworkOut)
	if u.Busy > 0 {
		e.CPUSeconds += u.CPU.Seconds()
		e.BusySeconds += u.Busy.Seconds()
		e.demands.add(coresShape, demand(u))
	}
	if e.Counted++; e.Counted >= window {
		for _, f := range []*float64{&e.Seconds, &e.CPUSeconds, &e.BusySeconds, &e.InBytes, &e.OutBytes, &e.Counted} {
			*f /= 2
		}
	}
	return u.End == hearth.EndMemory || e.Runs%every == 0
}

// period is what a share of the processors is had in: what is not used of one
// is lost, and within one it may be used at once.
const period = 100 * time.Millisecond

// demand is the share of the processors with which the work would have taken
// no longer than it did.
func demand(u *hearth.Use) float64 { return u.CPU.Seconds() / max(u.Busy, period).Seconds() }

// MaxPeakMiB is the most that was used lately.
func (e *Evidence) MaxPeakMiB() float64 { return max(e.PeakMiB, e.PeakPastMiB) }

// stored is the evidence on disk.
type stored struct {
	facts
	Peaks   *record `json:"peaks,omitempty"`
	Times   *record `json:"times,omitempty"`
	Demands *record `json:"demands,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (e *Evidence) MarshalJSON() ([]byte, error) {
	return json.Marshal(stored{e.facts, e.peaks.record(), e.times.record(), e.demands.record()})
}

// UnmarshalJSON implements json.Unmarshaler.
func (e *Evidence) UnmarshalJSON(b []byte) error {
	var s stored
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	f := &s.facts
	if f.ConfiguredMiB < 0 || f.AppliedMiB < 0 || f.FloorMiB < 0 || f.Recent < 0 || f.RecentKills < 0 {
		return errors.New("sizing: an amount is negative")
	}
	*e = Evidence{facts: s.facts}
	return errors.Join(e.peaks.restore(memoryShape, s.Peaks), e.times.restore(timeShape, s.Times), e.demands.restore(coresShape, s.Demands))
}
