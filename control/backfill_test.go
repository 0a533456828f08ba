package control

import (
	"context"
	"encoding/json"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/backfill"
)

type backfillParts struct{ *parts }

var aBackfill = backfill.Status{
	ID: "b", Spec: backfill.Spec{Source: "lines:///x", Function: "f", Batch: 1, Parallel: 10, Rate: 2.5, Attempts: 3, Query: "SELECT 1", Key: "k", Within: 3, Modified: "m",
		Order: &backfill.Order{Field: "f", Rules: []backfill.Rule{{Match: "m", After: "a"}}, Chain: "c"}}, Status: backfill.Failed, Why: "because",
	Started: noon, Ended: noon, Found: 10, Succeeded: 7, Failed: 1, InProcess: 2, Pass: 1, PerSecond: 1.5, Left: 2,
	New: &backfill.New{Since: noon, Found: 3, Done: 2, Late: 1, Worst: 4.5, Deferred: 1, InProcess: 1}, Ordered: &backfill.Plan{Items: 3, Edges: 2, Steps: 2, Blocked: 1},
}

func (p backfillParts) List(hearth.Account) []backfill.Status { return []backfill.Status{aBackfill} }

func (p backfillParts) Status(_ hearth.Account, id string) (backfill.Status, error) {
	return aBackfill, p.err
}

func (p backfillParts) Start(context.Context, hearth.Account, backfill.Spec) (backfill.Status, error) {
	return aBackfill, p.err
}

func (p backfillParts) Cancel(context.Context, hearth.Account, string) error { return p.err }
func (p backfillParts) Resume(context.Context, hearth.Account, string) error { return p.err }
func (p backfillParts) Remove(context.Context, hearth.Account, string) error { return p.err }

func (p backfillParts) Report(_ context.Context, _ hearth.Account, _ string, take func(backfill.Failure) bool) error {
	take(backfill.Failure{ID: "i", Value: json.RawMessage(`{"n":1}`), Attempts: 3, Error: "poison"})
	return p.err
}
