package sim

import (
	"math"
	"testing"

	"github.com/hearth-faas/hearth/manager"
)

// against is what the learned policy wastes, as a share of what the histogram
// policy does: at the same share of cold starts, and at the same mean of the
// functions' shares.
func against(t testing.TB, trace *Trace, s Settings, keep bool) (share, mean float64) {
	h := run(t, trace, Hybrid{}, s)
	var shares, means []Point
	for _, times := range []float64{1. / 4, 1. / 2, 1, 2, 4} {
		l := manager.IdleLife{}.Complete()
		l.Worth *= times
		r := run(t, trace, &Learned{IdleLife: l, Lead: s.Cold, KeepOnly: keep}, s)
		shares = append(shares, Point{Cold: r.ColdShare(), Wasted: r.Wasted})
		means = append(means, Point{Cold: r.MeanCold, Wasted: r.Wasted})
		if r.ColdShare() < h.ColdShare() && r.MeanCold < h.MeanCold {
			break
		}
	}
	return At(shares, h.ColdShare()) / h.Wasted, At(means, h.MeanCold) / h.Wasted
}

// TestAtTheHistogramsColdStartsAtMostHalfItsWaste is the aim, on the sample
// and on samples that nothing was chosen by: other arrivals within the minute,
// parts of it, and functions drawn anew with other memory at other times.
func TestAtTheHistogramsColdStartsAtMostHalfItsWaste(t *testing.T) {
	whole := sample(t)
	with := func(seed uint64, spread Spread) Settings {
		return Settings{Seed: seed, Spread: spread, Cold: standard.Cold}
	}
	for _, c := range []struct {
		name  string
		trace *Trace
		s     Settings
		long  bool
	}{
		{"the sample", whole, standard, false},
		{"other arrivals", whole, with(77, Uniform), true},
		{"at equal distances", whole, with(2, Even), true},
		{"at the minute's start", whole, with(3, Start), true},
		{"one half of the functions", half(whole, 0), with(4, Uniform), true},
		{"the other half", half(whole, 1), with(5, Uniform), true},
		{"the first twelve hours", hoursOf(whole, 0, 12), with(6, Uniform), true},
		{"the last twelve hours", hoursOf(whole, 12, 24), with(7, Uniform), true},
		{"drawn anew", resampled(whole, 1), with(8, Uniform), true},
		{"drawn again", resampled(whole, 2), with(9, Uniform), true},
		{"and again", resampled(whole, 3), with(10, Uniform), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.long && testing.Short() {
				t.Skip("the sample alone will do")
			}
			t.Parallel()
			share, mean := against(t, c.trace, c.s, false)
			t.Logf("%.3f of the histogram policy's waste at its share of cold starts, %.3f at its mean of functions", share, mean)
			if !(share <= 0.5) || !(mean <= 0.6) || math.IsNaN(mean) {
				t.Errorf("%.3f of the histogram policy's waste, %.3f at the mean of functions", share, mean)
			}
		})
	}
}

func TestWithNothingMadeAheadTheAimIsMetToo(t *testing.T) {
	share, mean := against(t, sample(t), standard, true)
	t.Logf("%.3f, %.3f at the mean of functions", share, mean)
	if !(share <= 0.5) || !(mean <= 0.6) {
		t.Errorf("%.3f of the histogram policy's waste, %.3f at the mean of functions", share, mean)
	}
}
