package sim

import (
	"context"
	"math"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/hearth-faas/hearth/manager"
)

// Comparison is what several policies lead to on one trace.
type Comparison struct {
	Trace    *Trace
	Settings Settings
	// Results are of no keep-alive, fixed 10 minutes, the histogram policy,
	// the learned one and the learned one that makes nothing ahead, in this
	// order.
	Results []*Result
	// Lines are what each policy can reach as its knob is turned.
	Lines []Line
}

// The places in Comparison.Results.
const (
	None = iota
	Fixed10
	Histogram
	Ours
	OursKept
)

// Line is the frontier of a policy: by what is turned, from many cold starts
// to few.
type Line struct {
	Policy string
	Knob   string
	Points []Point
}

// Oracle reports whether the line is of an oracle, which is not one policy at
// several settings but what no policy can do better.
func (l *Line) Oracle() bool { return strings.HasPrefix(l.Policy, "oracle") }

// The places in Comparison.Lines.
const (
	FixedLine = iota
	HistogramLine
	OurLine
	OurKeptLine
	OracleKeepLine
	OracleAheadLine
)

// Worths are the prices that a comparison tries beside the one it is given,
// as multiples of that.
var Worths = []float64{1. / 16, 1. / 8, 1. / 4, 1. / 2, 1, 2, 4, 8, 16}

// Compare replays the trace under each policy. life is the learned one's; its
// zero fields are as live. Replays run side by side, as many as there are
// processors.
func Compare(ctx context.Context, t *Trace, life manager.IdleLife, s Settings) (*Comparison, error) {
	life = life.Complete()
	learned := func(times float64, keep bool) Policy {
		l := life
		l.Worth *= times
		return &Learned{IdleLife: l, Lead: s.Cold, KeepOnly: keep}
	}
	c := &Comparison{Trace: t, Settings: s, Results: make([]*Result, 5)}
	c.Lines = []Line{
		FixedLine: {Policy: "fixed", Knob: "keep-alive, in seconds"}, HistogramLine: {Policy: Hybrid{}.Name(), Knob: "percentile of the keep-alive"},
		OurLine: {Policy: learned(1, false).Name(), Knob: "MiB·s that a cold start spared is worth"}, OurKeptLine: {Policy: learned(1, true).Name(), Knob: "MiB·s that a cold start spared is worth"},
		OracleKeepLine: {Policy: "oracle that keeps", Knob: "MiB·s that a cold start spared is worth"}, OracleAheadLine: {Policy: "oracle that also makes ahead", Knob: "MiB·s that a cold start spared is worth"},
	}

	var jobs []job
	for _, d := range []time.Duration{0, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 20 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour} {
		result := -1
		switch d {
		case 0:
			result = None
		case 10 * time.Minute:
			result = Fixed10
		}
		jobs = append(jobs, job{Fixed(d), d.Seconds(), FixedLine, result})
	}
	for _, tail := range []float64{0.5, 0.75, 0.9, 0.95, 0.99, 1} {
		result := -1
		if tail == 0.99 {
			result = Histogram
		}
		jobs = append(jobs, job{Hybrid{Tail: tail}, 100 * tail, HistogramLine, result})
	}
	for i, keep := range []bool{false, true} {
		for _, times := range Worths {
			result := -1
			if times == 1 {
				result = Ours + i
			}
			jobs = append(jobs, job{learned(times, keep), times * life.Worth, OurLine + i, result})
		}
	}
	results, err := c.replay(ctx, jobs)
	if err != nil {
		return nil, err
	}
	for i, j := range jobs {
		r := results[i]
		l := &c.Lines[j.line]
		l.Points = append(l.Points, Point{Cold: r.ColdShare(), MeanCold: r.MeanCold, Wasted: r.Wasted, Knob: j.knob})
		if j.result >= 0 {
			c.Results[j.result] = r
		}
	}
	o, err := Foresee(ctx, t, s)
	if err != nil {
		return nil, err
	}
	c.Lines[OracleKeepLine].Points, c.Lines[OracleAheadLine].Points = o.Keep(), o.Ahead()
	return c, nil
}

// job is one replay, and where its result goes.
type job struct {
	policy Policy
	knob   float64
	line   int
	result int // -1 is that it is of a line only
}

// replay runs the jobs side by side, and returns their results in order.
func (c *Comparison) replay(ctx context.Context, jobs []job) ([]*Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	results := make([]*Result, len(jobs))
	free := make(chan struct{}, runtime.GOMAXPROCS(0))
	var all sync.WaitGroup
	for i, j := range jobs {
		free <- struct{}{}
		all.Go(func() {
			defer func() { <-free }()
			r, err := Run(ctx, c.Trace, j.policy, c.Settings)
			if err != nil {
				cancel(err)
				return
			}
			results[i] = r
		})
	}
	all.Wait()
	return results, context.Cause(ctx)
}

// Standing is how a frontier stands to a policy at the same share of cold
// starts: what the frontier wastes there, and as a share of what the policy
// does. NaN if the frontier does not reach there.
type Standing struct{ Wasted, Ratio float64 }

// Against compares a line with a result at the result's share of cold starts:
// of all invocations, or with mean the mean over functions.
func (l *Line) Against(r *Result, mean bool) Standing {
	cold, points := r.ColdShare(), l.Points
	if mean {
		cold = r.MeanCold
		points = make([]Point, len(l.Points))
		for i, p := range l.Points {
			points[i] = Point{Cold: p.MeanCold, Wasted: p.Wasted}
		}
	}
	w := At(points, cold)
	return Standing{w, w / r.Wasted}
}

// At is the waste of a frontier at a share of cold starts. Frontiers are lists
// from many cold starts to few; between two points it is interpolated, which
// is never too little where a frontier is convex. NaN if no point has so few.
func At(frontier []Point, cold float64) float64 {
	for i, p := range frontier {
		if p.Cold <= cold {
			if i == 0 || p.Cold == frontier[i-1].Cold {
				return p.Wasted
			}
			q := frontier[i-1]
			x := (q.Cold - cold) / (q.Cold - p.Cold)
			return q.Wasted + x*(p.Wasted-q.Wasted)
		}
	}
	return math.NaN()
}
