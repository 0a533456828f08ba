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
			r, err := a.connect()
			if err != nil {
				return err
			}
			list, err := r.control.Runtimes(cmd.Context())
			if err != nil {
				return r.failure("can't list the runtimes", err)
			}
			if a.json {
				return a.printJSON(list)
			}
			a.printRuntimes(a.out, list)
			return nil
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
