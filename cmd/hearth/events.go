package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/hearth-faas/hearth/control"
)

func (a *app) eventsCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "events [BUS]",
		Short: "Show the events that come to an event bus, as they come",
		Long: `Show the events that come to an event bus, as they come, whether a rule wants
them or not, until interrupted. Without a name it is the default bus.`,
		Example: `  hearth events
  hearth events orders --json | jq .detail`,
		Args: between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			bus := "default"
			if len(args) > 0 {
				bus = args[0]
			}
			r, err := a.connect()
			if err != nil {
				return err
			}
			a.say("what comes to the event bus %s:", bus)
			err = r.control.Events(cmd.Context(), bus, func(l control.BusLine) error {
				if l.Missed > 0 {
					a.say("%d events came faster than they could be shown", l.Missed)
					return nil
				}
				if a.json {
					_, err := fmt.Fprintf(a.out, "%s\n", l.Event)
					return err
				}
				var e struct {
					Source     string
					DetailType string `json:"detail-type"`
					Detail     json.RawMessage
				}
				if err := json.Unmarshal(l.Event, &e); err != nil {
					return err
				}
				_, err := fmt.Fprintf(a.out, "%s %s  %s  %s\n", a.faint(time.Now().Format("15:04:05.000")), a.bold(e.Source), e.DetailType, e.Detail)
				return err
			})
			if cmd.Context().Err() != nil {
				return nil // which is how it ends
			}
			if err != nil {
				return r.failure("can't show the events of "+bus, err)
			}
			return nil
		},
	}
}
