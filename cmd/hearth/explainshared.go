package main

import (
	"context"
	"fmt"
	"time"

	hearth "github.com/hearth-faas/hearth"
)

// explainShared tells the owner of code what became of another account's run of
// it, by the request id that this one has told.
func (a *app) explainShared(ctx context.Context, r *remote, request string) error {
	runs, err := r.control.SharedRuns(ctx, request)
	if err != nil {
		return r.failure("can't look runs of shared functions up", err)
	}
	if len(runs) == 0 {
		return noInvocation(request)
	}
	if a.json {
		return a.printJSON(runs)
	}
	for i, run := range runs {
		if i > 0 {
			fmt.Fprintln(a.out)
		}
		var total time.Duration
		for _, spent := range run.Spent {
			total += spent
		}
		fmt.Fprintf(a.out, "%s %s:%s  %s in %s\n", run.RequestID, a.bold(run.Function), run.Version, a.outcome(run.Outcome), ms(total))
		line := func(label, text string) { fmt.Fprintf(a.out, "  %s %s\n", a.faint(fmt.Sprintf("%-6s", label)), text) }
		line("at", run.At.Local().Format("2006-01-02 15:04:05.000"))
		line("for", fmt.Sprintf("account %s, by %s", run.Account, run.Terms))
		if words := pathWords[string(run.Start)]; words != "" {
			line("way", fmt.Sprintf("%s: %s", run.Start, words))
		}
		if run.Why != "" {
			line("why", run.Why)
		}
		line("log", "what it printed and what it was given are its caller's, and kept from you")
		fmt.Fprintln(a.out)
		var passed time.Duration
		for _, stage := range []hearth.Stage{hearth.StageAttach, hearth.StageBoot, hearth.StageInit, hearth.StageRun} {
			spent := run.Spent[stage.String()]
			if spent == 0 {
				continue
			}
			fmt.Fprintf(a.out, "  %-7s %10s  %s\n", stage, ms(spent), bar(passed, spent, total, 48))
			passed += spent
		}
	}
	return nil
}
