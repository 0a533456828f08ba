package main

import (
	"cmp"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/hearth-faas/hearth/control"
)

func (a *app) capacityCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "capacity",
		Short: "Show the kinds of capacity, what they cost, and what functions have spent",
		Long: `Show the kinds of this machine's capacity: what is fixed, what is variable (it
comes and goes with a feed, and so does its price), and the instances that the
account has for itself; what each costs, and what functions have spent on it.

Which kind serves a function is said by its policy:

  hearth policy set FUNCTION capacity.kind=variable capacity.maxPrice=0.02
  hearth policy set FUNCTION capacity.delaySeconds=3600
  hearth policy set capacity.dedicated=2                for all of the account`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := a.connect()
			if err != nil {
				return err
			}
			c, err := r.control.Capacity(cmd.Context())
			if err != nil {
				return r.failure("can't find out about capacity", err)
			}
			if a.json {
				return a.printJSON(c)
			}
			a.printCapacity(a.out, c)
			return nil
		},
	}
}

func (a *app) printCapacity(w io.Writer, c control.Capacity) {
	if f := c.Feed; f != nil {
		state := a.green("fresh")
		switch {
		case !f.Known:
			state = a.amber("it has said nothing yet")
		case !f.Fresh:
			state = a.amber("too old: nothing new is started on variable capacity")
		}
		fmt.Fprintf(w, "feed %s: %s", f.Source, state)
		if f.Known {
			fmt.Fprintf(w, ", price %v", f.Price)
			if f.At != nil {
				fmt.Fprintf(w, " at %s", f.At.Local().Format(time.TimeOnly))
			}
		}
		if f.Error != "" {
			fmt.Fprintf(w, " (%s)", f.Error)
		}
		fmt.Fprint(w, "\n\n")
	}
	pools := a.subpoolTable(c.Subpools)
	pools.print(w, a)
	if len(c.Functions) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := table{header: []string{"FUNCTION", "KIND", "RUNS", "GIB·S", "COST", "CUT"}}
	for _, f := range c.Functions {
		t.add(a.bold(f.Function), string(f.Kind), fmt.Sprint(f.Invocations), fmt.Sprintf("%.3f", f.GiBSeconds), fmt.Sprintf("%.6g", f.Cost), fmt.Sprint(f.Withdrawn))
	}
	t.print(w, a)
}

// subpoolTable shows kinds of capacity, also for hearth top.
func (a *app) subpoolTable(all []control.Subpool) table {
	t := table{header: []string{"CAPACITY", "PROMISED", "OF MIB", "AT MOST", "INSTANCES", "WARMING", "WAITING", "PRICE", "RUNS", "COST"}}
	for _, p := range all {
		waiting := fmt.Sprint(p.Waiting)
		if p.Waiting > 0 {
			waiting = a.amber(waiting)
		}
		t.add(cmp.Or(string(p.Kind), "-"), fmt.Sprint(p.CommittedMiB), fmt.Sprint(p.CapacityMiB), fmt.Sprint(p.MostMiB), fmt.Sprint(p.Instances),
			fmt.Sprint(p.Warming), waiting, fmt.Sprint(p.Price), fmt.Sprint(p.Invocations), fmt.Sprintf("%.6g", p.Cost))
	}
	return t
}
