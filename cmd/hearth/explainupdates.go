package main

import (
	"cmp"
	"context"
	"slices"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
)

// updateSteps is how many steps of a function's updates are looked up.
const updateSteps = 200

// explainUpdates prints how new code of a function took over from old, with
// how its packages came.
func (a *app) explainUpdates(ctx context.Context, r *remote, function string) error {
	var steps []hearth.Decision
	for _, kind := range []hearth.DecisionKind{hearth.DecisionUpdate, hearth.DecisionFetch} {
		ds, err := r.control.Find(ctx, control.DecisionQuery{Function: function, Kind: kind, Limit: updateSteps})
		if err != nil {
			return r.failure("can't look decisions up", err)
		}
		steps = append(steps, ds...)
	}
	slices.SortFunc(steps, func(x, y hearth.Decision) int { return cmp.Compare(x.Seq, y.Seq) })
	if a.json {
		if steps == nil {
			steps = []hearth.Decision{}
		}
		return a.printJSON(steps)
	}
	if len(steps) == 0 {
		return refused("no update of "+function+" is recorded", "hearth deploy "+function+r.dataFlag()+" makes one.")
	}
	t := table{header: []string{"AT", "VERSION", "STEP", "WHERE", "WHY"}}
	for _, d := range steps {
		t.add(d.At.Local().Format("15:04:05.000"), d.Version, a.bold(string(d.Kind)+" "+d.Chosen), d.Instance, d.Why)
	}
	t.print(a.out, a)
	return nil
}
