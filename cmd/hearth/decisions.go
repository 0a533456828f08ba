package main

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
)

func (a *app) decisionsCmd() *cobra.Command {
	var function, kind string
	var limit int
	cmd := &cobra.Command{
		Use:   "decisions",
		Short: "List what was decided, and why: the newest last",
		Long: `List what was decided, and why: which container served, what was made ahead,
what was ended, refused or given up. With --json each has all that was known.`,
		Example: `  hearth decisions
  hearth decisions --kind evict
  hearth decisions --function hello --limit 100`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := a.connect()
			if err != nil {
				return err
			}
			list, err := r.control.Find(cmd.Context(), control.DecisionQuery{Function: function, Kind: hearth.DecisionKind(kind), Limit: limit})
			if err != nil {
				return r.failure("can't look decisions up", err)
			}
			slices.Reverse(list)
			if a.json {
				return a.printJSON(list)
			}
			if len(list) == 0 {
				a.say("Nothing like that was decided, or it was long ago: hearth up --decision-log sets how much is kept.")
				return nil
			}
			t := table{header: []string{"AT", "KIND", "FUNCTION", "CHOSEN", "WHY"}}
			for _, d := range list {
				name := d.Function
				if d.Version != "" {
					name += ":" + d.Version
				}
				t.add(d.At.Local().Format("15:04:05.000"), string(d.Kind), a.bold(name), cmp.Or(d.Chosen, "-"), d.Why)
			}
			t.print(a.out, a)
			return nil
		},
	}
	cmd.Flags().StringVar(&function, "function", "", "only those about function `NAME`")
	cmd.Flags().StringVar(&kind, "kind", "", "only those of this `KIND`, such as place, refuse, replenish, pack, evict")
	cmd.Flags().IntVar(&limit, "limit", 30, fmt.Sprintf("how `MANY`, up to %d", control.MaxDecisions))
	_ = cmd.RegisterFlagCompletionFunc("function", a.completeFunctions) // fails only if the flag is unknown
	return cmd
}
