package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hearth-faas/hearth/control"
)

func (a *app) hintCmd() *cobra.Command {
	var count int
	var at, trigger string
	var in, lasts time.Duration
	cmd := &cobra.Command{
		Use:   "hint FUNCTION | --trigger NAME",
		Short: "Say that invocations are coming, so that environments are ready for them",
		Long: `Say that invocations of a function are coming, so that as many environments are
ready at that time; what was not used is released afterwards. Or give the notice
of a trigger, of which Hearth has learned how many invocations follow it: see
hearth trigger.`,
		Example: `  hearth hint report --count 20 --in 10m
  hearth hint report --count 20 --at 2030-01-01T08:00:00Z --for 5m
  hearth hint --trigger page_open`,
		Args: between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := valid(cmd, (len(args) == 1) != (trigger != ""), "either a function or --trigger NAME is wanted"); err != nil {
				return err
			}
			if err := valid(cmd, at == "" || in == 0, "either --at or --in says when, not both"); err != nil {
				return err
			}
			when := time.Now().Add(in)
			if at != "" {
				var err error
				if when, err = time.Parse(time.RFC3339, at); err != nil {
					return usage(fmt.Sprintf("--at %q is no time", at), "Write it as 2030-01-01T08:00:00Z, or use --in 10m.")
				}
			}
			r, err := a.connect()
			if err != nil {
				return err
			}
			if trigger != "" {
				if err := r.control.Fire(cmd.Context(), trigger); err != nil {
					return r.failure("can't give the notice of "+trigger, err)
				}
				if a.json {
					return a.printJSON(control.Fired{Name: trigger})
				}
				fmt.Fprintf(a.out, "%s is heeded\n", trigger)
				return nil
			}
			function, qualifier, _ := strings.Cut(args[0], ":")
			id, err := r.control.Hint(cmd.Context(), control.Hint{Function: function, Qualifier: qualifier, Count: count, At: when, Until: when.Add(lasts)})
			if err != nil {
				return r.failure("can't take the hint", err)
			}
			if a.json {
				return a.printJSON(control.Hinted{ID: id})
			}
			fmt.Fprintf(a.out, "%d of %s will be ready at %s, for %v\n", count, args[0], when.Local().Format("15:04:05"), lasts)
			return nil
		},
	}
	f := cmd.Flags()
	f.IntVar(&count, "count", 1, "how `many` invocations at once")
	f.StringVar(&at, "at", "", "when they come, as a `time` such as 2030-01-01T08:00:00Z (default: now)")
	f.DurationVar(&in, "in", 0, "when they come, as a `duration` from now")
	f.DurationVar(&lasts, "for", time.Minute, "for how long environments are kept ready, a `duration` of an hour at most")
	f.StringVar(&trigger, "trigger", "", "the trigger of that `name`")
	return cmd
}

func (a *app) triggerCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trigger",
		Short: "Say what foretells invocations, and see what was learned about it",
		Long: `A trigger foretells invocations of functions: a notice from outside, such as
that somebody has opened a page, or a run of another function. Hearth learns how
many invocations follow it, and when, and has environments ready for them.`,
	}
	cmd.AddCommand(a.triggerAddCmd(), a.triggerLsCmd(), a.triggerRmCmd())
	return cmd
}

func (a *app) triggerAddCmd() *cobra.Command {
	var run string
	var functions []string
	cmd := &cobra.Command{
		Use:   "add NAME --for FUNCTION",
		Short: "Add a trigger, or replace it",
		Example: `  hearth trigger add page_open --for checkout
  hearth trigger add upload --run thumbnail --for gallery`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := valid(cmd, len(functions) > 0, "--for FUNCTION is wanted"); err != nil {
				return err
			}
			r, err := a.connect()
			if err != nil {
				return err
			}
			t, err := r.control.SetTrigger(cmd.Context(), control.Trigger{Name: args[0], Run: run, Functions: functions})
			if err != nil {
				return r.failure("can't add the trigger", err)
			}
			if a.json {
				return a.printJSON(t)
			}
			fmt.Fprintf(a.out, "%s foretells %s\n", t.Name, strings.Join(t.Functions, ", "))
			if t.Token != "" {
				account, err := r.account(cmd.Context())
				if err != nil {
					return r.failure("can't find out whose trigger it is", err)
				}
				a.say("Give its notice with: hearth hint --trigger %s%s", t.Name, r.dataFlag())
				a.say("or, without credentials, by POST to this URL; it is shown only now:")
				fmt.Fprintf(a.out, "%s%s/trigger?account=%s&name=%s&token=%s\n", r.control.Endpoint, control.Prefix, account, t.Name, t.Token)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&run, "run", "", "the `function` whose runs are the trigger (default: a notice from outside)")
	cmd.Flags().StringSliceVar(&functions, "for", nil, "the `function` whose invocations it foretells; may be repeated")
	_ = cmd.RegisterFlagCompletionFunc("run", a.completeFunctions) // fails only if the flag is unknown
	_ = cmd.RegisterFlagCompletionFunc("for", a.completeFunctions)
	return cmd
}

func (a *app) triggerLsCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "List the triggers, and what follows them",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return list(cmd.Context(), a, "the triggers", (*control.Client).Triggers, func(_ *remote, list []control.Trigger) error {
				if len(list) == 0 {
					a.say("There are no triggers. Add one with: hearth trigger add NAME --for FUNCTION")
					return nil
				}
				t := table{header: []string{"TRIGGER", "IS", "FOR", "LEARNED"}}
				for _, tr := range list {
					is := "a notice"
					if tr.Run != "" {
						is = "a run of " + tr.Run
					}
					t.add(a.bold(tr.Name), is, strings.Join(tr.Functions, ", "), strings.Join(tr.Learned, "; "))
				}
				t.print(a.out, a)
				return nil
			})
		},
	}
}

func (a *app) triggerRmCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "rm NAME...",
		Short: "Remove triggers, and what was learned about them",
		Args:  between(1, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(args, "removed", func(r *remote, name string) error {
				if err := r.control.RemoveTrigger(cmd.Context(), name); err != nil {
					return r.failure("can't remove "+name, err)
				}
				return nil
			})
		},
	}
}
