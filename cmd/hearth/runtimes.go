package main

import (
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hearth-faas/hearth/control"
)

func (a *app) runtimesCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "runtimes",
		Short: "Show the runtimes and what serves each here",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return list(cmd.Context(), a, "the runtimes", (*control.Client).Runtimes, func(_ *remote, list []control.Runtime) error {
				a.printRuntimes(a.out, list)
				return nil
			})
		},
	}
}

func (a *app) printRuntimes(w io.Writer, list []control.Runtime) {
	t := table{header: []string{"RUNTIME", "HERE", "SERVED BY", "NOTE"}}
	for _, rt := range list {
		here := a.green("yes")
		switch {
		case !rt.Usable:
			here = "no"
		case !rt.Exact:
			here = a.amber("nearest")
		}
		t.add(rt.Name, here, strings.TrimSpace(rt.Interpreter+" "+rt.Version), rt.Note)
	}
	t.print(w, a)
}
