package main

import (
	"context"
	"testing"
	"time"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/sizing"
)

// fixedAdvice knows of two functions.
type fixedAdvice struct{}

func (fixedAdvice) Advice(_ context.Context, _ hearth.Account, function string) ([]control.Advice, error) {
	var list []control.Advice
	for _, a := range []control.Advice{
		{Function: "echo", Version: "$LATEST", Since: time.Now().Add(-time.Hour), Mode: "advise", ConfiguredMiB: 256, CurrentMiB: 256, CPUs: 0.145,
			Suggestion: "grow", SuggestedMiB: 384, SavedGBSeconds: -12.5, Why: "5 of the last 10 executions were ended for want of memory at 256 MiB",
			Notes: []string{"a note"}, Evidence: sizing.Summary{Runs: 10, Kills: 5, PeakMaxMiB: 250, DurationP50: 0.012, CPUs: 0.02}},
		{Function: "fit", Version: "3", Since: time.Now(), Mode: "auto", ConfiguredMiB: 128, CurrentMiB: 192, Evidence: sizing.Summary{Runs: 7}},
	} {
		if function == "" || function == a.Function {
			list = append(list, a)
		}
	}
	return list, nil
}

func TestAdviceIsShownAndTaken(t *testing.T) {
	f := newFake(t)
	f.control.Sizes = fixedAdvice{}
	f.hearth("advise").want(t, 0, "echo:$LATEST  256 MiB        384 MiB")
	f.hearth("advise").want(t, 0, "fit:3         192 MiB (128)  -")
	f.hearth("advise", "echo").want(t, 0, "10 in 1h: 5 ended for want of memory")
	f.hearth("advise", "echo").want(t, 0, "384 MiB, 12.50 GB-seconds more for 1,000 executions")
	f.hearth("advise", "fit").want(t, 0, "192 MiB, where 128 is configured")
	f.hearth("advise", "--json", "echo").want(t, 0, `"suggestedMiB": 384`)
	f.hearth("advise", "nobody").want(t, 1, "")
	f.hearth("advise", "fit", "--apply").want(t, 0, "")
}
