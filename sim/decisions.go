package sim

import (
	"cmp"
	"errors"
	"iter"
	"slices"
	"time"

	"github.com/hearth-faas/hearth"
)

// Call is one invocation of a recording that has each: when it came, from the
// trace's beginning, and how long it ran.
type Call struct{ At, Run time.Duration }

// Lived is what became of a trace's invocations when they were recorded.
type Lived struct {
	// Cold counts those that found no container of their function: they were
	// not served on the path "reuse".
	Cold int
	// MeanCold is the mean over functions of the share of those.
	MeanCold float64
}

// FromDecisions makes a trace of what a server recorded of invocations that
// ran: each comes when it came and runs as long as it ran. A function's
// versions have containers of their own, and so are functions of their own
// here. mib is the memory that each has, which decisions do not tell; 0 is the
// standard one.
//
// It keeps 16 bytes for each invocation.
func FromDecisions(decisions iter.Seq2[hearth.Decision, error], mib float64) (*Trace, error) {
	type record struct {
		function *Function
		cold     int
	}
	began := map[[3]string]*record{}
	var order []*record
	var base, end time.Time
	for d, err := range decisions {
		if err != nil {
			return nil, err
		}
		if d.Kind != hearth.DecisionPlace || d.Spent[hearth.StageRun] == 0 {
			continue
		}
		var total time.Duration
		for _, s := range d.Spent {
			total += s
		}
		at := d.At.Add(-total)
		if base.IsZero() {
			base = at
		}
		if d.At.After(end) {
			end = d.At
		}
		key := [3]string{string(d.Account), d.Function, d.Version}
		r := began[key]
		if r == nil {
			r = &record{function: &Function{Owner: key[0], App: key[1], Name: key[2], MiB: cmp.Or(mib, standardMiB), RunTimes: standardRunTimes}}
			began[key] = r
			order = append(order, r)
		}
		r.function.Calls = append(r.function.Calls, Call{at.Sub(base), d.Spent[hearth.StageRun]})
		if hearth.Path(d.Chosen) != hearth.PathReuse {
			r.cold++
		}
	}
	if len(order) == 0 {
		return nil, errors.New("no invocation that ran is in the log")
	}
	// They are in the order in which they ended: one may have come before all.
	var first time.Duration
	for _, r := range order {
		slices.SortStableFunc(r.function.Calls, func(a, b Call) int { return cmp.Compare(a.At, b.At) })
		first = min(first, r.function.Calls[0].At)
	}
	t := &Trace{Length: end.Sub(base) - first + 1, Lived: &Lived{}}
	for _, r := range order {
		calls := r.function.Calls
		for i := range calls {
			calls[i].At -= first
		}
		t.Functions = append(t.Functions, *r.function)
		t.Lived.Cold += r.cold
		t.Lived.MeanCold += float64(r.cold) / float64(len(calls)) / float64(len(order))
	}
	if mib == 0 {
		t.Guessed.Memory = len(order)
	}
	return t, nil
}
