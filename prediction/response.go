package prediction

import (
	"math"
	"time"

	"github.com/hearth-faas/hearth"
)

// lags is in how many parts the time after a trigger is divided. The window is
// divided evenly into as many.
const lags = 32

// Response is what is known of how one function is invoked after a trigger:
// how many times, and how soon.
type Response struct {
	Window time.Duration `json:"window"` // that the lags divide
	// Events is how many triggers there were, Sum how many invocations followed
	// them, and Squares the sum of the squares of these numbers; the older the
	// less.
	Events  float64       `json:"events"`
	Sum     float64       `json:"sum"`
	Squares float64       `json:"squares"`
	ByLag   [lags]float64 `json:"byLag"`

	Predicted float64 `json:"predicted,omitempty"` // invocations in all, one trigger at a time
	Came      float64 `json:"came,omitempty"`      // after those triggers
	Made      uint64  `json:"made,omitempty"`      // containers, of which
	Hit       uint64  `json:"hit,omitempty"`       // were used
	// WastedMiBSeconds is the memory-time of those that were not.
	WastedMiBSeconds float64 `json:"wastedMiBSeconds,omitempty"`

	open []*notice
}

// notice is one trigger whose window is open.
type notice struct {
	at    time.Time
	came  float64
	byLag [lags]float64
	said  float64 // how many were predicted
}

const (
	// responseDecay is what a trigger weighs less with each further one: a
	// trigger that nothing follows any more is expected to be followed by half
	// as many after 23.
	responseDecay = 0.97
	// leastEvents is how many triggers must have been seen before anything is
	// made ready after one.
	leastEvents = 5
	// maxOpen bounds the triggers whose windows are open; of more the oldest are
	// closed early.
	maxOpen = 1024
	// shares bounds among how many open triggers an invocation is shared out.
	shares = 128
)

// rewindow begins to learn anew if the window is another.
func (r *Response) rewindow(window time.Duration) {
	if r.Window != window {
		*r = Response{Window: window, Made: r.Made, Hit: r.Hit, WastedMiBSeconds: r.WastedMiBSeconds}
	}
}

// Mean is how many invocations follow a trigger.
func (r *Response) Mean() float64 {
	if r.Events == 0 {
		return 0
	}
	return r.Sum / r.Events
}

// variance is that of the number of invocations after one trigger.
func (r *Response) variance() float64 {
	if r.Events == 0 {
		return 0
	}
	m := r.Mean()
	return max(r.Squares/r.Events-m*m, 0)
}

// settle closes the windows that are over.
func (r *Response) settle(now time.Time) {
	for len(r.open) > 0 && (now.Sub(r.open[0].at) >= r.Window || len(r.open) > maxOpen) {
		n := r.open[0]
		r.open[0] = nil
		r.open = r.open[1:]
		r.Events = responseDecay*r.Events + 1
		r.Sum = responseDecay*r.Sum + n.came
		r.Squares = responseDecay*r.Squares + n.came*n.came
		for i := range r.ByLag {
			r.ByLag[i] = responseDecay*r.ByLag[i] + n.byLag[i]
		}
		r.Predicted += n.said
		r.Came += n.came
	}
}

// Triggered says that the trigger has come.
func (r *Response) Triggered(at time.Time) {
	r.settle(at)
	r.open = append(r.open, &notice{at: at, said: r.Mean()})
}

// Invoked says that the function was invoked. Which of the open triggers it
// follows is not known: it is shared out among them by how likely its lag is
// after each.
func (r *Response) Invoked(at time.Time) {
	r.settle(at)
	open := r.open[max(len(r.open)-shares, 0):]
	var weights [shares]float64
	total := 0.0
	for i, n := range open {
		// Something of every lag, so that a new one can be learned.
		weights[i] = r.ByLag[r.lag(at.Sub(n.at))] + 0.01*r.Sum/lags + 1e-6
		total += weights[i]
	}
	for i, n := range open {
		share := weights[i] / total
		n.came += share
		n.byLag[r.lag(at.Sub(n.at))] += share
	}
}

func (r *Response) lag(after time.Duration) int {
	return min(max(int(after*lags/max(r.Window, 1)), 0), lags-1)
}

// left is the share of invocations that have a longer lag.
func (r *Response) left(after time.Duration) float64 {
	if r.Sum <= 0 {
		return 0
	}
	sum := 0.0
	for i := lags - 1; i > r.lag(after); i-- {
		sum += r.ByLag[i]
	}
	sum += r.ByLag[r.lag(after)] / 2
	return min(sum/r.Sum, 1)
}

// lagAt is the lag that the share q of invocations do not exceed, as the end of
// its part of the window, or its beginning.
func (r *Response) lagAt(q float64, end bool) time.Duration {
	sum, i := 0.0, 0
	for ; i < lags-1; i++ {
		if sum += r.ByLag[i]; sum >= q*r.Sum {
			break
		}
	}
	if end {
		i++
	}
	return r.Window * time.Duration(i) / lags
}

// Forecast is what is expected after the triggers whose windows are open.
type Forecast struct {
	Invocations  float64 // still to come
	Environments int     // needed for them, with the confidence asked for
	Begin, Until time.Time
}

// Forecast foretells what is still to come. busy is how long an invocation keeps
// an environment busy, 0 if that is not known: then each is taken to need its
// own.
func (r *Response) Forecast(now time.Time, confidence float64, busy time.Duration) (f Forecast) {
	r.settle(now)
	if r.Events < leastEvents || len(r.open) == 0 {
		return f
	}
	mean, variance := 0.0, 0.0
	for _, n := range r.open {
		left := r.left(now.Sub(n.at))
		mean += left * r.Mean()
		variance += left * (r.variance() + (1-left)*r.Mean())
	}
	f.Invocations = mean
	first, last := r.open[0].at, r.open[len(r.open)-1].at
	soonest, latest := r.lagAt(0.05, false), r.lagAt(0.99, true)
	f.Begin, f.Until = first.Add(soonest), last.Add(latest)
	if mean < 0.5 {
		return f // most likely none
	}
	z := math.Sqrt2 * math.Erfinv(2*confidence-1)
	most := mean + z*math.Sqrt(variance)
	// They are spread over the lags, and over the time in which the triggers
	// came; unevenly, so that at the busiest moment twice as many are at work as
	// in the mean, and by chance more.
	spread := latest - soonest + last.Sub(first)
	if together := float64(busy) / float64(max(spread, 1)); busy > 0 && together < 1 {
		busiest := 2 * mean * together
		most = min(most, busiest+max(z, 2)*math.Sqrt(busiest)+1)
	}
	f.Environments = max(int(math.Ceil(most-0.5)), 1)
	return f
}

// Target is a function that a trigger foretells invocations of.
type Target struct {
	Account             hearth.Account
	Function, Qualifier string
}
