package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/hearth-faas/hearth/lambda"
)

func (a *app) apiCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "api",
		Short: "Show the operations of the Lambda API and which of them this Hearth has",
		Args:  exactly(0),
		RunE: func(*cobra.Command, []string) error {
			all := lambda.Operations()
			if a.json {
				return a.printJSON(all)
			}
			t, n := table{header: []string{"OPERATION", "HERE", "REQUEST", "NOTE"}}, 0
			for _, op := range all {
				here := "no"
				if op.Built {
					here = a.green("yes")
					n++
				}
				t.add(op.Name, here, op.Method+" "+op.Path, op.Note)
			}
			t.print(a.out, a)
			fmt.Fprintf(a.out, "%d of %d\n", n, len(all))
			return nil
		},
	}
}
