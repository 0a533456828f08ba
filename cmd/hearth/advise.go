package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/spf13/cobra"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/sizing"
)

func (a *app) adviseCmd() *cobra.Command {
	var apply bool
	cmd := &cobra.Command{
		Use:   "advise [FUNCTION]",
		Short: "Tell how much memory functions should have, by what they have used",
		Long: `Tell how much memory functions should have, by what their executions have used.
More is suggested when executions were ended for want of memory, less when many
never came near what they have. With the name of a function its evidence is
shown, and what was done about it.

With --apply the function's MemorySize is set to what is suggested for $LATEST;
without a function, that of every function for which there is a suggestion.
Hearth does it by itself, for new containers, under the policy sizing.mode=auto.`,
		Example: `  hearth advise
  hearth advise hello
  hearth advise hello --apply`,
		Args: between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			function := strings.Join(args, "")
			r, err := a.connect()
			if err != nil {
				return err
			}
			list, err := r.control.Advice(cmd.Context(), function)
			if err != nil {
				return r.failure("can't find out about memory", err)
			}
			if function != "" && len(list) == 0 {
				return refused("nothing is known of "+function, "It has to run first: hearth invoke "+function+r.dataFlag())
			}
			if apply {
				return a.applyAdvice(cmd.Context(), r, list)
			}
			if a.json {
				return a.printJSON(list)
			}
			switch {
			case function != "":
				return a.printAdvice(cmd.Context(), r, list)
			case len(list) == 0:
				a.say("Nothing is known yet: functions have to run first.")
			default:
				a.printAdvices(list)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&apply, "apply", false, "set the memory of the function to what is suggested")
	cmd.ValidArgsFunction = a.completeFunctions
	return cmd
}

// suggested is a suggestion in a word or two.
func suggested(d control.Advice) string {
	switch {
	case d.SuggestedMiB > 0:
		return fmt.Sprintf("%d MiB", d.SuggestedMiB)
	case d.Suggestion == string(sizing.Grow):
		return "more than there is"
	}
	return "-"
}

func (a *app) printAdvices(list []control.Advice) {
	t := table{header: []string{"FUNCTION", "HAS", "SUGGESTED", "RUNS", "KILLED", "USED 50%", "99%", "MOST", "WHY"}}
	for _, d := range list {
		has := fmt.Sprintf("%d MiB", d.CurrentMiB)
		if d.CurrentMiB != d.ConfiguredMiB {
			has += fmt.Sprintf(" (%d)", d.ConfiguredMiB)
		}
		e := d.Evidence
		t.add(a.bold(d.Function+":"+d.Version), has, suggested(d), fmt.Sprint(e.Runs), fmt.Sprint(e.Kills),
			fmt.Sprintf("%.0f", e.PeakMedianMiB), fmt.Sprintf("%.0f", e.PeakP99MiB), fmt.Sprintf("%.0f", e.PeakMaxMiB), d.Why)
	}
	t.print(a.out, a)
}

// printAdvice prints all that is known of one function.
func (a *app) printAdvice(ctx context.Context, r *remote, list []control.Advice) error {
	for i, d := range list {
		if i > 0 {
			fmt.Fprintln(a.out)
		}
		a.printEvidence(a.out, d)
	}
	done, err := r.control.Find(ctx, control.DecisionQuery{Function: list[0].Function, Kind: hearth.DecisionSize, Limit: 10})
	if err != nil {
		return r.failure("can't look decisions up", err)
	}
	if len(done) > 0 {
		fmt.Fprintln(a.out)
		t := table{header: []string{"AT", "VERSION", "DONE", "WHY"}}
		for _, d := range done {
			t.add(d.At.Local().Format("2006-01-02 15:04:05"), d.Version, d.Chosen, d.Why)
		}
		t.print(a.out, a)
	}
	for _, d := range list {
		if d.Version == hearth.Latest && d.SuggestedMiB > 0 {
			a.say("Take it with: hearth advise %s --apply%s; or let Hearth do it from now on: hearth policy set %s sizing.mode=auto%s",
				d.Function, r.dataFlag(), d.Function, r.dataFlag())
		}
	}
	return nil
}

func (a *app) printEvidence(w io.Writer, d control.Advice) {
	line := func(label, format string, args ...any) {
		fmt.Fprintf(w, "  %s %s\n", a.faint(fmt.Sprintf("%-9s", label)), fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(w, "%s:%s  %s\n", a.bold(d.Function), d.Version, d.Mode)
	has := fmt.Sprintf("%d MiB", d.CurrentMiB)
	if d.CurrentMiB != d.ConfiguredMiB {
		has += fmt.Sprintf(", where %d is configured", d.ConfiguredMiB)
	}
	if d.CPUs > 0 {
		has += fmt.Sprintf("; with that come %.2f CPUs", d.CPUs)
	}
	line("has", "%s", has)
	switch {
	case d.Suggestion == "":
		line("suggested", "nothing else")
	default:
		words := suggested(d)
		if s := d.SavedGBSeconds; s > 0 {
			words += fmt.Sprintf(", %.2f GB-seconds less for 1,000 executions", s)
		} else if s < 0 {
			words += fmt.Sprintf(", %.2f GB-seconds more for 1,000 executions", -s)
		}
		line("suggested", "%s", a.green(words))
		line("why", "%s", d.Why)
	}
	e := d.Evidence
	line("runs", "%d in %s: %d ended for want of memory, %d reported an error, %d timed out, %d crashed",
		e.Runs, ago(time.Since(d.Since)), e.Kills, e.Errors, e.Timeouts, e.Crashes)
	line("memory", "half used at most %.0f MiB, 99 %% at most %.0f, and the most was %.0f", e.PeakMedianMiB, e.PeakP99MiB, e.PeakMaxMiB)
	line("time", "half took at most %s, 99 %% at most %s", seconds(e.DurationP50), seconds(e.DurationP99))
	if e.CPUs > 0 {
		line("CPU", "%.2f while they run", e.CPUs)
	}
	line("network", "%.1f KB in and %.1f KB out each", e.InPerRun/1000, e.OutPerRun/1000)
	for _, n := range d.Notes {
		line("note", "%s", n)
	}
}

func seconds(s float64) string { return ms(time.Duration(s * float64(time.Second))) }

// applyAdvice gives functions what is suggested for them.
func (a *app) applyAdvice(ctx context.Context, r *remote, list []control.Advice) error {
	applied := []control.Advice{}
	for _, d := range list {
		if d.Version != hearth.Latest || d.SuggestedMiB == 0 {
			continue
		}
		mib := int32(d.SuggestedMiB)
		if _, err := r.lambda.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{FunctionName: &d.Function, MemorySize: &mib}); err != nil {
			return r.failure("can't change the memory of "+d.Function, err)
		}
		if _, err := r.wait(ctx, d.Function); err != nil {
			return r.failure("can't change the memory of "+d.Function, err)
		}
		applied = append(applied, d)
		if !a.json {
			fmt.Fprintf(a.out, "%s has %d MiB now, not %d\n", d.Function, d.SuggestedMiB, d.ConfiguredMiB)
		}
	}
	if a.json {
		return a.printJSON(applied)
	}
	if len(applied) == 0 {
		a.say("There is nothing to apply: no suggestion is about $LATEST.")
	}
	return nil
}
