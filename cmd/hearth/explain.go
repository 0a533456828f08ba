package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
)

func (a *app) explainCmd() *cobra.Command {
	var last string
	cmd := &cobra.Command{
		Use:   "explain REQUEST_ID | --last NAME",
		Short: "Tell the story of an invocation: its way, why, and where its time went",
		Example: `  hearth explain --last hello
  hearth explain 6f0c2a54-9c1e-4b0a-8f55-0d5a5f2b7c11`,
		Args: between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := valid(cmd, (len(args) == 1) != (last != ""), "either a request id or --last NAME is wanted"); err != nil {
				return err
			}
			r, err := a.connect()
			if err != nil {
				return err
			}
			d, err := r.decision(cmd.Context(), strings.Join(args, ""), last)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(d)
			}
			a.printStory(a.out, d)
			return nil
		},
	}
	cmd.Flags().StringVar(&last, "last", "", "the last invocation of function `NAME`")
	_ = cmd.RegisterFlagCompletionFunc("last", a.completeFunctions) // fails only if the flag is unknown
	return cmd
}

// decision finds the one that tells of an invocation: of kind place or refuse.
func (r *remote) decision(ctx context.Context, request, function string) (hearth.Decision, error) {
	var best *hearth.Decision
	for _, kind := range []hearth.DecisionKind{hearth.DecisionPlace, hearth.DecisionRefuse} {
		ds, err := r.control.Find(ctx, control.DecisionQuery{RequestID: request, Function: function, Kind: kind, Limit: 1})
		if err != nil {
			return hearth.Decision{}, r.failure("can't look decisions up", err)
		}
		if len(ds) > 0 && (best == nil || ds[0].Seq > best.Seq) {
			best = &ds[0]
		}
	}
	if best == nil && request != "" {
		return hearth.Decision{}, refused("no invocation with request id "+request+" is recorded",
			"Old decisions are dropped: hearth up --decision-log sets how much is kept.")
	}
	if best == nil {
		return hearth.Decision{}, refused("no invocation of "+function+" is recorded", "hearth invoke "+function+r.dataFlag()+" makes one.")
	}
	return *best, nil
}

// pathWords says what each way of S00.3 is.
var pathWords = map[string]string{
	string(hearth.PathReuse):     "a container that had the code loaded",
	string(hearth.PathContainer): "a new container in an instance of the account",
	string(hearth.PathWarm):      "an instance from the warming pool",
	string(hearth.PathCold):      "nothing was ready: an instance made from scratch",
}

func (a *app) printStory(w io.Writer, d hearth.Decision) {
	var total time.Duration
	for _, s := range d.Spent {
		total += s
	}
	outcome := a.green(d.Outcome)
	if d.Outcome != "ok" {
		outcome = a.amber(d.Outcome)
	}
	fmt.Fprintf(w, "%s %s:%s  %s in %s\n", d.RequestID, a.bold(d.Function), d.Version, outcome, ms(total))
	line := func(label, format string, args ...any) {
		fmt.Fprintf(w, "  %s %s\n", a.faint(fmt.Sprintf("%-6s", label)), fmt.Sprintf(format, args...))
	}
	line("at", "%s", d.At.Local().Format("2006-01-02 15:04:05.000"))
	if words := pathWords[d.Chosen]; words != "" {
		line("way", "%s: %s", d.Chosen, words)
	} else {
		line("way", "%s", d.Chosen)
	}
	line("why", "%s", d.Why)
	if d.Instance != "" {
		line("where", "container %s in instance %s", d.Container, d.Instance)
	}
	k := d.Knew
	line("knew", "with this code %d idle, %d busy, %d waiting; for it %d ready slots, %d instances with room, %d in the pool; %d MiB promised, %d free",
		k.Idle, k.Busy, k.Waiting, k.Slots, k.Room, k.Pool, k.Committed, k.FreeMiB)
	fmt.Fprintln(w)
	const columns = 48
	var passed time.Duration
	for s, spent := range d.Spent {
		stage := hearth.Stage(s)
		if spent == 0 && (stage == hearth.StageAttach || stage == hearth.StageBoot || stage == hearth.StageInit) {
			continue // a reused container passes none of them
		}
		fmt.Fprintf(w, "  %-7s %10s  %s\n", stage, ms(spent), bar(passed, spent, total, columns))
		passed += spent
	}
}

// bar shows where a stage lies in the whole: something even of the shortest.
func bar(from, spent, total time.Duration, columns int) string {
	if total <= 0 || spent <= 0 {
		return ""
	}
	start := int(int64(from) * int64(columns) / int64(total))
	end := int((int64(from+spent)*int64(columns) + int64(total) - 1) / int64(total))
	return strings.Repeat(" ", start) + strings.Repeat("█", max(1, end-start))
}
