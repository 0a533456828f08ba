package sim

import (
	"context"
	"math"
	"time"
)

// Oracle knows the future. It is no policy but what no policy can beat: for
// each time that a level of demand is not occupied it knows how long that
// will last, and at a price, a number of MiB·s that avoiding one cold start is
// worth, it does what costs least. One that may make containers ahead keeps
// one through or makes it again just in time; one that may not keeps it or
// lets it go.
type Oracle struct {
	keep, ahead bill
	invocations int
}

// bill sums up gaps by what bridging them costs, in bins of 1/32 of an octave
// of MiB·s.
type bill struct {
	n    [billBins]int
	cost [billBins]float64
	// never is how many cold starts cannot be avoided.
	never int
}

const billBins = 64 * 32

func (b *bill) add(cost float64) {
	i := int((math.Log2(max(cost, 1e-6)) + 20) * 32)
	i = min(max(i, 0), billBins-1)
	b.n[i]++
	b.cost[i] += cost
}

// Point is a place on a frontier.
type Point struct {
	Cold float64 // share of invocations
	// MeanCold is the mean over functions of their shares; 0 for an oracle.
	MeanCold float64
	Wasted   float64 // MiB·s
	Knob     float64 // what leads there, in the unit of the line
}

// frontier is what can be reached, from bridging nothing to everything.
func (b *bill) frontier(invocations int) []Point {
	cold := b.never
	for _, n := range b.n {
		cold += n
	}
	points := []Point{{Cold: float64(cold) / float64(max(invocations, 1))}}
	waste := 0.0
	for i, n := range b.n {
		if n > 0 {
			cold -= n
			waste += b.cost[i]
			points = append(points, Point{Cold: float64(cold) / float64(max(invocations, 1)), Wasted: waste, Knob: b.cost[i] / float64(n)})
		}
	}
	return points
}

// Keep is the frontier of the oracle that makes nothing ahead.
func (o *Oracle) Keep() []Point { return o.keep.frontier(o.invocations) }

// Ahead is the frontier of the oracle that may make containers ahead.
func (o *Oracle) Ahead() []Point { return o.ahead.frontier(o.invocations) }

// Foresee replays the trace as if no container had to be made, and notes each
// gap.
func Foresee(ctx context.Context, t *Trace, s Settings) (*Oracle, error) {
	o := &Oracle{}
	cold := s.Cold
	s.Cold = 0
	r, err := Run(ctx, t, foresight{o, cold}, s)
	if err != nil {
		return nil, err
	}
	o.invocations = r.Invocations
	return o, nil
}

type foresight struct {
	o    *Oracle
	cold time.Duration
}

// Name says what it is.
func (foresight) Name() string { return "oracle" }

// Keeper returns one that notes what happens and lets nothing go.
func (p foresight) Keeper(f *Function) Keeper { return &foreseer{p: p, mib: f.MiB} }

type foreseer struct {
	levels
	p   foresight
	mib float64
}

func (k *foreseer) Rise(at time.Duration, n int) {
	lead := k.p.cold.Seconds() * k.mib
	if n > len(k.since) {
		k.since = append(k.since, Never)
	}
	if k.since[n-1] == Never {
		k.p.o.keep.never++
		k.p.o.ahead.add(lead)
		return
	}
	gap := (at - k.since[n-1]).Seconds() * k.mib
	k.p.o.keep.add(gap)
	k.p.o.ahead.add(min(gap, lead))
}

func (k *foreseer) Fall(at time.Duration, n int) { k.fall(at, n) }
func (k *foreseer) Patience() time.Duration      { return Never / 2 }
func (k *foreseer) Want(_ time.Duration, demand, containers int) (int, int, time.Duration) {
	return max(demand, containers), 0, Never
}
