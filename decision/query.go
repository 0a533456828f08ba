package decision

import (
	"slices"
	"time"

	"github.com/hearth-faas/hearth"
)

// Filter selects decisions; an empty field selects all.
type Filter struct {
	RequestID string
	Account   hearth.Account
	Function  string
	Kind      hearth.DecisionKind
	Since     time.Time // recorded at or after
	// Limit is at most how many Query returns, the newest; 0 is 100.
	Limit int
}

func (f *Filter) fits(d *hearth.Decision) bool {
	return (f.RequestID == "" || d.RequestID == f.RequestID) &&
		(f.Account == "" || d.Account == f.Account) &&
		(f.Function == "" || d.Function == f.Function) &&
		(f.Kind == "" || d.Kind == f.Kind) &&
		(f.Since.IsZero() || !d.At.Before(f.Since))
}

// Query returns the decisions that fit f, newest first: from memory, and, as
// long as those are too few, from the log. An error is of reading the log;
// what was found is returned beside it.
func (r *Recorder) Query(f Filter) ([]hearth.Decision, error) {
	if f.Limit <= 0 {
		f.Limit = 100
	}
	var found []hearth.Decision
	var d hearth.Decision
	oldest := r.ring.first()
	for seq := r.ring.last(); seq >= oldest; seq-- {
		if r.ring.get(seq, &d) != present || !f.fits(&d) {
			continue
		}
		if found = append(found, d); len(found) == f.Limit {
			return found, nil
		}
		if f.RequestID != "" && ends(&d) {
			return found, nil
		}
	}
	if r.disk == nil {
		return found, nil
	}
	older, err := r.disk.search(oldest, f.Limit-len(found), &f)
	return append(found, older...), err
}

// ends reports whether d is the last, and with the newest first the first,
// that will ever be found of its request.
func ends(d *hearth.Decision) bool {
	return d.Kind == hearth.DecisionPlace || d.Kind == hearth.DecisionRefuse
}

// Explain returns what is known of one invocation, in the order in which it
// was decided; nothing if it is unknown or too old.
func (r *Recorder) Explain(requestID string) ([]hearth.Decision, error) {
	if requestID == "" {
		return nil, nil
	}
	ds, err := r.Query(Filter{RequestID: requestID})
	slices.Reverse(ds)
	return ds, err
}
