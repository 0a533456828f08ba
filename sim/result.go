package sim

import (
	"math/bits"
	"slices"
	"time"
)

// Tally is memory-time, in MiB·s, and how many containers were let go and made
// ahead.
type Tally struct {
	Idle   float64 // of containers that waited
	Busy   float64 // of those that ran
	Making float64 // of those being made
	Ahead  float64 // of Making: for nobody who waited

	Released, Prewarmed int
}

// Result is what a policy led to.
type Result struct {
	Policy      string
	Invocations int
	// Cold counts the invocations that found no container ready.
	Cold int
	// MeanCold is the mean over functions of the share of cold invocations,
	// P75Cold the share that three of four functions do not exceed.
	MeanCold, P75Cold float64
	P50, P99          time.Duration // of the wait for a container
	// Wasted is memory-time, in MiB·s, of containers that did nothing: idle
	// ones, and those being made ahead of any invocation. Total is that of all.
	Wasted, Total float64
	Tally         Tally
}

// ColdShare is the share of invocations that found no container ready.
func (r *Result) ColdShare() float64 { return float64(r.Cold) / float64(max(r.Invocations, 1)) }

func (r *replay) result(policy Policy, t *Trace) *Result {
	res := &Result{Policy: policy.Name(), P50: r.waits.quantile(0.5), P99: r.waits.quantile(0.99)}
	var shares []float64
	for i := range r.pools {
		p := &r.pools[i]
		p.sum(max(t.Length, p.at))
		res.Invocations += p.count.all
		res.Cold += p.count.cold
		if p.count.all > 0 {
			shares = append(shares, float64(p.count.cold)/float64(p.count.all))
		}
		res.Tally.Idle += p.tally.Idle
		res.Tally.Busy += p.tally.Busy
		res.Tally.Making += p.tally.Making
		res.Tally.Ahead += p.tally.Ahead
		res.Tally.Released += p.tally.Released
		res.Tally.Prewarmed += p.tally.Prewarmed
	}
	if len(shares) > 0 {
		slices.Sort(shares)
		for _, s := range shares {
			res.MeanCold += s / float64(len(shares))
		}
		res.P75Cold = shares[len(shares)*3/4]
	}
	res.Wasted = res.Tally.Idle + res.Tally.Ahead
	res.Total = res.Tally.Idle + res.Tally.Busy + res.Tally.Making
	return res
}

// histogram counts waits in bins of 1/16 of an octave of microseconds, so that
// its memory does not grow with the trace. The first is for no wait.
type histogram struct {
	n    uint64
	bins [1 + 64*16]uint64
	most [1 + 64*16]time.Duration // in the bin
}

func (h *histogram) add(d time.Duration) {
	h.n++
	b := 0
	if us := uint64(max(d, 0) / time.Microsecond); us > 0 {
		e := bits.Len64(us) - 1
		b = 1 + e*16 + int(us<<(63-e)>>59&15)
	}
	h.bins[b]++
	h.most[b] = max(h.most[b], d)
}

// quantile is the longest wait in the bin in which the quantile lies.
func (h *histogram) quantile(q float64) time.Duration {
	var sum uint64
	for i, n := range h.bins {
		if sum += n; n > 0 && float64(sum) >= q*float64(h.n) {
			return h.most[i]
		}
	}
	return 0
}
