package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) nodesCmd() *cobra.Command {
	var drain, undrain string
	cmd := &cobra.Command{
		Use:   "nodes [--drain NAME | --undrain NAME]",
		Short: "Show the machines that functions run on; have one get nothing new",
		Example: `  hearth nodes
  hearth nodes --drain rack2      # what runs there ends, and nothing new comes
  hearth nodes --undrain rack2`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := valid(cmd, drain == "" || undrain == "", "one node is drained, or undrained, at a time"); err != nil {
				return err
			}
			r, err := a.connect()
			if err != nil {
				return err
			}
			if name := firstOf(drain, undrain); name != "" {
				if err := r.control.Drain(cmd.Context(), name, drain != ""); err != nil {
					return r.failure("can't change what the node "+name+" gets", err)
				}
				if !a.json {
					if drain != "" {
						a.say("Nothing new comes to %s; hearth nodes shows what still runs there.", name)
					} else {
						a.say("%s gets invocations again.", name)
					}
					return nil
				}
			}
			list, err := r.control.Nodes(cmd.Context())
			if err != nil {
				return r.failure("can't list nodes", err)
			}
			if a.json {
				return a.printJSON(list)
			}
			t := table{header: []string{"NODE", "STATE", "FLEET", "AT WORK", "CONTAINERS", "MEMORY", "KEPT WARM", "SERVED", "HEARD", "ADDRESS"}}
			for _, n := range list.Nodes {
				state, heard, address := n.State, "", n.Address
				if state != "up" {
					state = a.amber(state)
				}
				if n.Local {
					address = a.faint("(this server)")
				} else {
					heard = ago(time.Since(n.Heard)) + " ago"
				}
				t.add(a.bold(n.Name), state, strings.Join(n.Fleets, ", "), fmt.Sprint(n.InFlight), fmt.Sprint(n.Containers),
					fmt.Sprintf("%d of %d MiB", n.CommittedMiB, n.MemoryMiB), fmt.Sprintf("%d MiB", n.WarmMiB), fmt.Sprint(n.Served), heard, address)
			}
			t.print(a.out, a)
			if waits := list.WaitingLow + list.WaitingHigh; waits > 0 {
				fmt.Fprintf(a.out, "\n%s\n", a.amber(fmt.Sprintf("%d invocations wait for a node with room.", waits)))
			}
			if list.Listening == "" {
				a.say("No node may join: hearth up --nodes HOST:PORT has it take some.")
			} else if len(list.Nodes) == 1 {
				a.say("Nodes join with: hearth node --join %s --token-file FILE, a copy of node.token in the server's data folder.", list.Listening)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&drain, "drain", "", "let nothing new come to node `NAME`")
	cmd.Flags().StringVar(&undrain, "undrain", "", "have node `NAME` get invocations again")
	return cmd
}
