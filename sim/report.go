package sim

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"
	"time"
)

// Report is a Comparison as JSON. Memory-time is in MiB·s.
type Report struct {
	Functions     int     `json:"functions"`
	Invocations   int     `json:"invocations"`
	LengthSeconds float64 `json:"lengthSeconds"`
	// Guessed are how many functions have the standard run times and memory.
	GuessedRunTimes int     `json:"guessedRunTimes"`
	GuessedMemory   int     `json:"guessedMemory"`
	Seed            uint64  `json:"seed"`
	Spread          Spread  `json:"spread"`
	ColdSeconds     float64 `json:"coldSeconds"`
	Shared          bool    `json:"shared"`

	// Lived is what happened when the trace was recorded, if it tells.
	Lived *LivedReport `json:"lived,omitempty"`

	Policies []PolicyReport `json:"policies"`
	// AtHistogram is what each policy wastes at the histogram policy's share
	// of cold starts, AtHistogramMean at its mean over functions.
	AtHistogram     []StandingReport `json:"atHistogramColdShare"`
	AtHistogramMean []StandingReport `json:"atHistogramMeanColdShare"`
	Frontiers       []LineReport     `json:"frontiers"`
}

// LivedReport is a Lived as JSON.
type LivedReport struct {
	Cold          int     `json:"cold"`
	ColdShare     float64 `json:"coldShare"`
	MeanColdShare float64 `json:"meanColdShare"`
}

// PolicyReport is a Result as JSON.
type PolicyReport struct {
	Policy          string  `json:"policy"`
	Cold            int     `json:"cold"`
	ColdShare       float64 `json:"coldShare"`
	MeanColdShare   float64 `json:"meanColdShare"`
	P75ColdShare    float64 `json:"p75ColdShare"`
	P50StartSeconds float64 `json:"p50StartSeconds"`
	P99StartSeconds float64 `json:"p99StartSeconds"`
	Wasted          float64 `json:"wastedMiBSeconds"`
	Total           float64 `json:"totalMiBSeconds"`
	LetGo           int     `json:"letGo"`
	MadeAhead       int     `json:"madeAhead"`
}

// StandingReport is a Standing as JSON; its numbers are nil where the policy
// does not come to so few cold starts.
type StandingReport struct {
	Policy string   `json:"policy"`
	Wasted *float64 `json:"wastedMiBSeconds"`
	Ratio  *float64 `json:"ratio"`
}

// LineReport is a Line as JSON.
type LineReport struct {
	Policy string        `json:"policy"`
	Knob   string        `json:"knob"`
	Points []PointReport `json:"points"`
}

// PointReport is a Point as JSON.
type PointReport struct {
	Knob          float64 `json:"knob"`
	ColdShare     float64 `json:"coldShare"`
	MeanColdShare float64 `json:"meanColdShare,omitempty"`
	Wasted        float64 `json:"wastedMiBSeconds"`
}

// Report returns c as JSON has it.
func (c *Comparison) Report() Report {
	r := Report{
		Functions: len(c.Trace.Functions), Invocations: c.Results[None].Invocations, LengthSeconds: c.Trace.Length.Seconds(),
		GuessedRunTimes: c.Trace.Guessed.RunTimes, GuessedMemory: c.Trace.Guessed.Memory,
		Seed: c.Settings.Seed, Spread: c.Settings.Spread, ColdSeconds: c.Settings.Cold.Seconds(), Shared: c.Settings.Shared,
	}
	if l := c.Trace.Lived; l != nil {
		r.Lived = &LivedReport{l.Cold, float64(l.Cold) / float64(max(r.Invocations, 1)), l.MeanCold}
	}
	for _, p := range c.Results {
		r.Policies = append(r.Policies, PolicyReport{
			Policy: p.Policy, Cold: p.Cold, ColdShare: p.ColdShare(), MeanColdShare: p.MeanCold, P75ColdShare: p.P75Cold,
			P50StartSeconds: p.P50.Seconds(), P99StartSeconds: p.P99.Seconds(), Wasted: p.Wasted, Total: p.Total,
			LetGo: p.Tally.Released, MadeAhead: p.Tally.Prewarmed,
		})
	}
	for i := range c.Lines {
		l := &c.Lines[i]
		r.AtHistogram = append(r.AtHistogram, standing(l, l.Against(c.Results[Histogram], false)))
		if !l.Oracle() {
			r.AtHistogramMean = append(r.AtHistogramMean, standing(l, l.Against(c.Results[Histogram], true)))
		}
		o := LineReport{Policy: l.Policy, Knob: l.Knob}
		for _, p := range thin(l.Points) {
			o.Points = append(o.Points, PointReport{p.Knob, p.Cold, p.MeanCold, p.Wasted})
		}
		r.Frontiers = append(r.Frontiers, o)
	}
	return r
}

func standing(l *Line, s Standing) StandingReport {
	if math.IsNaN(s.Ratio) || math.IsInf(s.Ratio, 0) {
		return StandingReport{Policy: l.Policy}
	}
	return StandingReport{l.Policy, &s.Wasted, &s.Ratio}
}

// thin leaves out most of the points of a long line, which the oracles' are.
func thin(points []Point) []Point {
	const most = 128
	if len(points) <= most {
		return points
	}
	var kept []Point
	for i := range most {
		kept = append(kept, points[i*(len(points)-1)/(most-1)])
	}
	return kept
}

// WriteTable writes c for a person to read.
func (c *Comparison) WriteTable(w io.Writer) error {
	r := c.Report()
	fmt.Fprintf(w, "%d functions, %d invocations in %s; a cold start takes %s; ", r.Functions, r.Invocations, hours(c.Trace.Length), c.Settings.Cold)
	if r.Lived != nil {
		fmt.Fprintln(w, "each invocation comes when it came")
	} else {
		fmt.Fprintf(w, "seed %d, arrivals %s within their minute\n", r.Seed, c.Settings.Spread)
	}
	if r.Shared {
		fmt.Fprintln(w, "One container serves any number of invocations of its function at once.")
	}
	if r.GuessedRunTimes+r.GuessedMemory > 0 {
		fmt.Fprintf(w, "Not recorded, and guessed: the run times of %d functions, the memory of %d.\n", r.GuessedRunTimes, r.GuessedMemory)
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "policy\tcold starts\tmean of functions\tstart p50\tp99\twaiting, GiB·h\tall, GiB·h\tmade ahead\t")
	if l := r.Lived; l != nil {
		fmt.Fprintf(t, "as it happened\t%.2f %%\t%.1f %%\t\t\t\t\t\t\n", 100*l.ColdShare, 100*l.MeanColdShare)
	}
	for _, p := range c.Results {
		fmt.Fprintf(t, "%s\t%.2f %%\t%.1f %%\t%s\t%s\t%s\t%s\t%d\t\n", p.Policy, 100*p.ColdShare(), 100*p.MeanCold,
			p.P50.Round(time.Millisecond), p.P99.Round(time.Millisecond), number(gibHours(p.Wasted)), number(gibHours(p.Total)), p.Tally.Prewarmed)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	h := c.Results[Histogram]
	fmt.Fprintf(w, "\nAt the histogram policy's %.2f %% of cold starts, and at its mean of functions of %.1f %%:\n\n", 100*h.ColdShare(), 100*h.MeanCold)
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "policy\twaiting, GiB·h\tof the histogram's\tat its mean\t")
	for i := range c.Lines {
		l := &c.Lines[i]
		s := l.Against(h, false)
		mean := "–"
		if !l.Oracle() {
			mean = ratio(l.Against(h, true).Ratio)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t\n", l.Policy, number(gibHours(s.Wasted)), ratio(s.Ratio), mean)
	}
	return t.Flush()
}

func gibHours(mibs float64) float64 { return mibs / 1024 / 3600 }

func number(x float64) string {
	if math.IsNaN(x) {
		return "out of reach"
	}
	if x > 0 && x < 10 {
		return fmt.Sprintf("%.2g", x)
	}
	return fmt.Sprintf("%.0f", x)
}

func ratio(x float64) string {
	if math.IsNaN(x) {
		return "out of reach"
	}
	return fmt.Sprintf("%.2f ×", x)
}

func hours(d time.Duration) string {
	if d%(24*time.Hour) == 0 {
		return fmt.Sprintf("%d d", d/(24*time.Hour))
	}
	return d.String()
}
