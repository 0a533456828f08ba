package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
)

func (a *app) explainCmd() *cobra.Command {
	var last, updates string
	cmd := &cobra.Command{
		Use:   "explain REQUEST_ID | FUNCTION | --last NAME | --updates NAME",
		Short: "Tell the story of an invocation: its way, why, and where its time went; or what was learned about a function",
		Long: `Tell the story of an invocation: its way, why, and where its time went; or what
was learned about a function.

A function is named by its name or its ARN, and so is what another account
shares: a shared alias, or ALIAS--TASK of a task API. Of that an account is told
what became of its own calls; the owner is told of its function how often each
account called it and how that ended, and of one call what its own side of it was,
if the caller tells it the request id.`,
		Example: `  hearth explain --last hello
  hearth explain hello
  hearth explain --updates hello    how its new code took over from old, step by step
  hearth explain 6f0c2a54-9c1e-4b0a-8f55-0d5a5f2b7c11`,
		Args: between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := valid(cmd, (len(args) == 1) != (last != "" || updates != "") && (last == "" || updates == ""), "either a request id, --last NAME or --updates NAME is wanted, or the name of a function"); err != nil {
				return err
			}
			r, err := a.connect()
			if err != nil {
				return err
			}
			if updates != "" {
				return a.explainUpdates(cmd.Context(), r, updates)
			}
			if len(args) == 1 && !isRequestID(args[0]) {
				sections, err := r.control.Learned(cmd.Context(), args[0])
				if f, ok := errors.AsType[*control.Failure](err); !ok || f.Kind != hearth.NotFound || strings.HasPrefix(args[0], "arn:") {
					return a.explainFunction(r, args[0], sections, err)
				}
			}
			d, err := r.decision(cmd.Context(), strings.Join(args, ""), last)
			if err != nil {
				return err
			}
			if d == nil {
				return a.explainShared(cmd.Context(), r, args[0])
			}
			if a.json {
				return a.printJSON(*d)
			}
			a.printStory(a.out, *d)
			return a.explainBeside(cmd.Context(), r, d.RequestID)
		},
	}
	cmd.Flags().StringVar(&last, "last", "", "the last invocation of function `NAME`")
	cmd.Flags().StringVar(&updates, "updates", "", "how new code of function `NAME` took over from old")
	for _, flag := range []string{"last", "updates"} {
		_ = cmd.RegisterFlagCompletionFunc(flag, a.completeFunctions) // fails only if the flag is unknown
	}
	return cmd
}

// isRequestID tells a request id, which is a UUID, from a function's name.
func isRequestID(s string) bool {
	parts := strings.Split(s, "-")
	if len(s) != 36 || len(parts) != 5 {
		return false
	}
	return strings.Trim(s, "0123456789abcdefABCDEF-") == ""
}

// explainFunction tells what was learned about a function, and what would be
// done next.
func (a *app) explainFunction(r *remote, function string, sections []control.Section, err error) error {
	if err != nil {
		return r.failure("can't find out what was learned about "+function, err)
	}
	if a.json {
		return a.printJSON(control.LearnedOf{Function: function, Sections: sections})
	}
	fmt.Fprintln(a.out, a.bold(function))
	if len(sections) == 0 {
		a.say("Nothing has been learned about it yet.")
	}
	for _, s := range sections {
		for i, says := range s.Says {
			label := s.System
			if i > 0 {
				label = ""
			}
			fmt.Fprintf(a.out, "  %s %s\n", a.faint(fmt.Sprintf("%-8s", label)), says)
		}
	}
	return nil
}

// explainBeside tells what else was decided on account of the invocation: that
// a prediction had come true, or how much memory its function should have.
func (a *app) explainBeside(ctx context.Context, r *remote, request string) error {
	all, err := r.control.Find(ctx, control.DecisionQuery{RequestID: request, Limit: 20})
	if err != nil {
		return r.failure("can't look decisions up", err)
	}
	slices.Reverse(all)
	for _, d := range all {
		if d.Kind != hearth.DecisionPlace && d.Kind != hearth.DecisionRefuse && d.Kind != hearth.DecisionProxy {
			fmt.Fprintf(a.out, "\n  %s %s: %s\n", a.faint("also  "), d.Kind, d.Why)
		}
	}
	return nil
}

// noInvocation is that nothing is known of a request id.
func noInvocation(request string) error {
	return refused("no invocation with request id "+request+" is recorded",
		"Old decisions are dropped: hearth up --decision-log sets how much is kept.")
}

// decision finds the one that tells of an invocation: of kind place or refuse;
// nil if none of the account's has the request id.
func (r *remote) decision(ctx context.Context, request, function string) (*hearth.Decision, error) {
	var best *hearth.Decision
	kinds := []hearth.DecisionKind{hearth.DecisionPlace, hearth.DecisionRefuse}
	if request != "" {
		kinds = append(kinds, hearth.DecisionProxy)
	}
	for _, kind := range kinds {
		ds, err := r.control.Find(ctx, control.DecisionQuery{RequestID: request, Function: function, Kind: kind, Limit: 1})
		if err != nil {
			return nil, r.failure("can't look decisions up", err)
		}
		if len(ds) > 0 && (best == nil || ds[0].Seq > best.Seq) {
			best = &ds[0]
		}
	}
	if best == nil && request != "" && !isRequestID(request) {
		return nil, refused("nothing is called "+request+" here, and no invocation has that request id",
			"hearth ls shows the functions, hearth shared-alias those of other accounts, hearth explain --last NAME what ran under a name that is gone.")
	}
	if best == nil && request == "" {
		return nil, refused("no invocation of "+function+" is recorded", "hearth invoke "+function+r.dataFlag()+" makes one.")
	}
	return best, nil
}

// fleetWords says what each fleet is.
var fleetWords = map[string]string{
	"low":  ", chosen for code that is called seldom",
	"high": ", chosen for code that is called often",
}

// pathWords says what each way of S00.3 is.
var pathWords = map[string]string{
	string(hearth.PathReuse):     "a container that had the code loaded",
	string(hearth.PathContainer): "a new container in an instance of the account",
	string(hearth.PathWarm):      "an instance from the warming pool",
	string(hearth.PathCold):      "nothing was ready: an instance made from scratch",
	string(hearth.PathRecorded):  "no container: the answer was that of an earlier, equal request",
	string(hearth.PathJoined):    "no container: an equal request ran at the same time",
}

// outcome is how an invocation ended, in its colour.
func (a *app) outcome(word string) string {
	if word == "ok" {
		return a.green(word)
	}
	return a.amber(word)
}

func (a *app) printStory(w io.Writer, d hearth.Decision) {
	var total time.Duration
	for _, s := range d.Spent {
		total += s
	}
	version := ""
	if d.Version != "" {
		version = ":" + d.Version
	}
	fmt.Fprintf(w, "%s %s%s  %s in %s\n", d.RequestID, a.bold(d.Function), version, a.outcome(d.Outcome), ms(total))
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
	if d.Kind == hearth.DecisionProxy { // which knows no containers
		return
	}
	if d.Generation > 0 {
		line("code", "generation %d of the code and configuration", d.Generation)
	}
	if d.Instance != "" {
		line("where", "container %s in instance %s", d.Container, d.Instance)
	}
	if d.Capacity != "" {
		line("cost", "%.6g, on %s capacity at a price of %v for a GiB an hour", d.Cost, d.Capacity, d.Price)
	}
	if d.Node != "" {
		line("node", "%s%s", d.Node, fleetWords[d.Fleet])
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
