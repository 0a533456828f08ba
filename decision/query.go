package decision

import (
	"slices"
	"time"

	"github.com/hearth-faas/hearth"
)

// Filter selects decisions; an empty field selects all.
type Filter struct {
	RequestID string
	Account   hearth.Account // and what is about no account, as the warming pool
	Owner     hearth.Account // of the code, that another account ran
	Function  string
	Kind      hearth.DecisionKind
	Since     time.Time // recorded at or after
	// Limit is at most how many Query returns, the newest; 0 is 100.
	Limit int
}

func (f *Filter) fits(d *hearth.Decision) bool {
	return (f.RequestID == "" || d.RequestID == f.RequestID) &&
		(f.Account == "" || d.Account == f.Account || d.Account == "" && d.Function == "") &&
		(f.Owner == "" || d.Owner == f.Owner) &&
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
	var began time.Time // of the request, once that is known
	oldest := r.ring.first()
	for seq := r.ring.last(); seq >= oldest; seq-- {
		if r.ring.get(seq, &d) != present {
			continue
		}
		if d.At.Before(began) {
			return found, nil // what is older is of requests before it
		}
		if !f.fits(&d) {
			continue
		}
		if found = append(found, d); len(found) == f.Limit {
			return found, nil
		}
		if f.RequestID != "" && ends(&d) {
			began = d.At.Add(-slack)
			for _, spent := range d.Spent {
				began = began.Add(-spent)
			}
		}
	}
	if !began.IsZero() {
		return found, nil
	}
	if r.disk == nil {
		return found, nil
	}
	older, err := r.disk.search(oldest, f.Limit-len(found), &f)
	return append(found, older...), err
}

// slack is by how much a request may have begun before its decision says so.
const slack = time.Second

// ends reports whether d tells of its request as a whole: from when on there
// may be others about it.
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
