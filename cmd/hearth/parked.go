package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/hearth-faas/hearth/control"
)

func (a *app) parkedCmd() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "parked",
		Short: "Show asynchronous invocations that were given up and that nothing else took",
		Long: `Show asynchronous invocations that were given up and that nothing else took:
their function has no destination for failures and no dead-letter queue, or it
could not be reached. With them is what rules and schedules could not deliver
and had no dead-letter queue for, and what of event sources was given up.
They are kept for 14 days.`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return list(cmd.Context(), a, "the parked events", func(c *control.Client, ctx context.Context) ([]control.ParkedEvent, error) {
				return c.Parked(ctx, limit)
			}, func(r *remote, list []control.ParkedEvent) error {
				if len(list) == 0 {
					a.say("No events are parked.")
					return nil
				}
				t := table{header: []string{"EVENT", "FUNCTION", "ACCEPTED", "ATTEMPTS", "WHY", "LAST ANSWER"}}
				for _, e := range list {
					name := e.Function
					if e.Qualifier != "" {
						name += ":" + e.Qualifier
					}
					t.add(e.ID, a.bold(name), ago(time.Since(e.Accepted))+" ago", fmt.Sprint(e.Attempts), e.Reason, e.Last)
				}
				t.print(a.out, a)
				a.say("Run them again with: hearth parked redrive EVENT...%s", r.dataFlag())
				return nil
			})
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 100, "`number` of events shown at most, the oldest first")
	cmd.AddCommand(&cobra.Command{
		Use:   "redrive EVENT...",
		Short: "Take parked events back into the queue",
		Args:  between(1, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(args, "in the queue again", func(r *remote, id string) error {
				if err := r.control.Redrive(cmd.Context(), id); err != nil {
					return r.failure("can't take back "+id, err)
				}
				return nil
			})
		},
	})
	return cmd
}
