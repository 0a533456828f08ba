package sim

import (
	"math"
	"time"
)

// Hybrid is the hybrid histogram policy of Shahrad et al., "Serverless in the
// Wild", USENIX ATC 2020, section 4, with the constants of its evaluation:
//
//   - Idle times, from the end of an application's executions to its next
//     invocation, are counted in 240 bins of a minute.
//   - Pre-warming window: the 5th percentile, rounded down, less 10 %; keep-alive
//     until the 99th percentile, rounded up, plus 10 %.
//   - While the bins' coefficient of variation is below 2 the histogram is not
//     representative: nothing is unloaded for the histogram's range of 4 hours.
//   - When half of the idle times or more are out of the range, a time series
//     forecast of the next one, with a margin of 15 % on both sides.
//
// In Hearth a container runs one function, so that what the paper does for an
// application is done here for a function. The paper's model has one container
// for each application; where several idle side by side, each is kept as long,
// and a pre-warming makes one.
type Hybrid struct {
	// Head and Tail are the percentiles, as shares. 0 are 0.05 and 0.99.
	Head, Tail float64
}

// Name says what it is.
func (h Hybrid) Name() string { return "histogram (ATC'20)" }

// Keeper returns the decider of one function.
func (h Hybrid) Keeper(*Function) Keeper {
	if h.Head == 0 {
		h.Head = 0.05
	}
	if h.Tail == 0 {
		h.Tail = 0.99
	}
	return &hybridKeeper{policy: h}
}

const (
	hybridBins  = 240
	hybridRange = hybridBins * time.Minute
)

type hybridKeeper struct {
	levels
	policy  Hybrid
	bins    [hybridBins]uint32
	in, out int
	squares float64 // of the bins' counts
	recent  []float64
	idle    bool // nothing runs
	end     time.Duration

	prewarm, until time.Duration // after the end of the last execution
}

func (k *hybridKeeper) Rise(at time.Duration, n int) {
	if n == 1 && k.idle {
		k.add(at - k.end)
		k.idle = false
	}
}

func (k *hybridKeeper) add(d time.Duration) {
	if b := int(d / time.Minute); b < hybridBins {
		k.squares += 2*float64(k.bins[b]) + 1
		k.bins[b]++
		k.in++
	} else {
		k.out++
	}
	// The forecast is made of out-of-bounds functions only, which have few
	// idle times: at most six a day.
	if k.recent = append(k.recent, d.Seconds()); len(k.recent) > 64 {
		k.recent = k.recent[1:]
	}
}

func (k *hybridKeeper) Fall(at time.Duration, n int) {
	k.fall(at, n)
	if n == 1 {
		k.idle, k.end = true, at
	}
	k.decide()
}

// decide sets the windows by what was seen.
func (k *hybridKeeper) decide() {
	if k.in+k.out == 0 {
		k.prewarm, k.until = 0, hybridRange
		return
	}
	if 2*k.out >= k.in+k.out {
		next := forecast(k.recent)
		k.prewarm, k.until = time.Duration(0.85*next*float64(time.Second)), time.Duration(1.15*next*float64(time.Second))
		return
	}
	mean := float64(k.in) / hybridBins
	if math.Sqrt(k.squares/hybridBins-mean*mean) < 2*mean {
		k.prewarm, k.until = 0, hybridRange
		return
	}
	k.prewarm = time.Duration(0.9 * float64(time.Minute) * float64(k.percentile(k.policy.Head)))
	k.until = time.Duration(1.1 * float64(time.Minute) * float64(k.percentile(k.policy.Tail)+1))
}

// percentile is the bin in which the share q is reached.
func (k *hybridKeeper) percentile(q float64) int {
	sum := 0.0
	for i, n := range k.bins {
		if sum += float64(n); sum >= q*float64(k.in) {
			return i
		}
	}
	return hybridBins - 1
}

func (k *hybridKeeper) Patience() time.Duration { return 0 }

func (k *hybridKeeper) Want(at time.Duration, demand, containers int) (int, int, time.Duration) {
	if demand > 0 || k.prewarm == 0 {
		want := max(containers, demand)
		for want > demand && want <= len(k.since) && at-k.since[want-1] >= k.until {
			want--
		}
		if want == demand || want > len(k.since) {
			return want, 0, Never
		}
		return want, 0, k.since[want-1] + k.until
	}
	switch age := at - k.end; {
	case !k.idle || age >= k.until:
		return 0, 0, Never
	case age < k.prewarm:
		return 0, 0, k.end + k.prewarm
	default:
		return 1, 1, k.end + k.until
	}
}
