package sim

import "math"

// forecast predicts the next value of a series: by whichever of four models
// has the least AIC, ARIMA(0,0,0), (1,0,0), (0,1,0) and (1,1,0), fitted by
// least squares. Series of idle times beyond four hours are too short in a day
// for a model of higher order to win.
func forecast(x []float64) float64 {
	if len(x) < 3 {
		return x[len(x)-1]
	}
	diff := make([]float64, len(x)-1)
	for i := range diff {
		diff[i] = x[i+1] - x[i]
	}
	best, aic := 0.0, math.Inf(1)
	for _, m := range []struct {
		series []float64
		ar     bool
		base   float64
	}{{x, false, 0}, {x, true, 0}, {diff, false, x[len(x)-1]}, {diff, true, x[len(x)-1]}} {
		if m.ar && len(m.series) < 4 {
			continue
		}
		next, rss, n, params := fit(m.series, m.ar)
		score := n*math.Log(max(rss, 1e-9)/n) + 2*params
		if score < aic {
			best, aic = m.base+next, score
		}
	}
	return max(best, 0)
}

// fit predicts the next value by the mean, or by a line through the one before.
func fit(x []float64, ar bool) (next, rss, n, params float64) {
	if !ar {
		mean := 0.0
		for _, v := range x {
			mean += v / float64(len(x))
		}
		for _, v := range x {
			rss += (v - mean) * (v - mean)
		}
		return mean, rss, float64(len(x)), 1
	}
	n = float64(len(x) - 1)
	var sx, sy, sxx, sxy float64
	for i := 1; i < len(x); i++ {
		sx, sy, sxx, sxy = sx+x[i-1], sy+x[i], sxx+x[i-1]*x[i-1], sxy+x[i-1]*x[i]
	}
	slope := 0.0
	if d := n*sxx - sx*sx; d > 0 {
		slope = (n*sxy - sx*sy) / d
	}
	slope = max(min(slope, 1), -1) // stationary
	icept := (sy - slope*sx) / n
	for i := 1; i < len(x); i++ {
		e := x[i] - icept - slope*x[i-1]
		rss += e * e
	}
	return icept + slope*x[len(x)-1], rss, n, 2
}
