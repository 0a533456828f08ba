package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hearth-faas/hearth/control"
)

func (a *app) psCmd() *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use:   "ps",
		Short: "Show instances and their containers",
		Long: `Show instances and their containers. An instance belongs to one account, or
waits in the warming pool for one; a container runs one function version.`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := a.connect()
			if err != nil {
				return err
			}
			if watch {
				return a.watch(cmd.Context(), r)
			}
			s, err := r.control.PS(cmd.Context())
			if err != nil {
				return r.failure("can't list instances", err)
			}
			if a.json {
				return a.printJSON(s)
			}
			a.printSnapshot(a.out, s)
			return nil
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it anew every second")
	return cmd
}

// watch prints snapshots until it is interrupted, which is how it ends well.
func (a *app) watch(ctx context.Context, r *remote) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		s, err := r.control.PS(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return r.failure("can't list instances", err)
		}
		var b strings.Builder
		if a.json {
			if err := a.printJSON(s); err != nil {
				return err
			}
		} else {
			if a.outTTY {
				b.WriteString("\x1b[H\x1b[2J")
			}
			a.printSnapshot(&b, s)
			if _, err := io.WriteString(a.out, b.String()); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (a *app) printSnapshot(w io.Writer, s control.Snapshot) {
	pooled := 0
	t := table{header: []string{"INSTANCE", "ACCOUNT", "CONTAINER", "STATE", "AGE", "FUNCTION", "RUNS", "MEMORY", "CPU"}}
	for _, i := range s.Instances {
		account := string(i.Account)
		if account == "" {
			pooled++
			account = a.faint("(pool)")
		}
		if len(i.Containers) == 0 {
			t.add(i.ID, account)
		}
		for _, c := range i.Containers {
			what := string(c.Boot)
			if c.Function != "" {
				what = c.Function + ":" + c.Version
				if c.Tenant != "" {
					what += " of " + c.Tenant
				}
				if i.Capacity != "" {
					what += " (" + string(i.Capacity) + ")"
				}
				if c.Prepared {
					what += " (prepared)"
				}
				if c.Provisioned {
					what += " (provisioned)"
				}
			}
			state := string(c.State)
			switch c.State {
			case control.StateBusy:
				state = a.green(state)
			case control.StateLoading:
				state = a.amber(state)
			}
			memory := ""
			if c.LimitMiB > 0 {
				memory = fmt.Sprintf("%.0f of %d MiB", c.UsedMiB, c.LimitMiB)
			}
			t.add(i.ID, account, c.ID, state, ago(s.At.Sub(c.Since)), what, fmt.Sprint(c.Invocations), memory, ms(time.Duration(c.CPUMillis)*time.Millisecond))
		}
	}
	fmt.Fprintf(w, "%d instances of accounts, %d in the warming pool (%.1f of %d MiB); %d of %d MiB promised to functions\n",
		len(s.Instances)-pooled, pooled, s.PoolMiB, s.PoolBudgetMiB, s.CommittedMiB, s.MemoryMiB)
	if len(t.rows) > 0 {
		fmt.Fprintln(w)
		t.print(w, a)
	}
}
