package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hearth-faas/hearth/backfill"
)

func (a *app) backfillCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backfill",
		Short: "Run every item of a data set through a function, at a bounded rate",
		Long: `Run every item of a data set through a function, at a bounded rate: each at
least once, however often the server is stopped or killed meanwhile. Items that
fail are tried again, and then reported.

The function is given {"backfill": ID, "items": [{"id", "value", "attempt"}]}.
Of a batch it can say that some failed, as for SQS:
{"batchItemFailures": [{"itemIdentifier": "..."}]}.`,
	}
	cmd.AddCommand(a.backfillStartCmd(), a.backfillStatusCmd(), a.backfillReportCmd(),
		a.onBackfillCmd("cancel", "Stop a backfill where it is", "is cancelled"),
		a.onBackfillCmd("resume", "Go on with a backfill, or try again what a finished one gave up", "goes on"),
		a.onBackfillCmd("remove", "Forget a backfill that does not run, and its report", "is gone"))
	return cmd
}

func (a *app) backfillStartCmd() *cobra.Command {
	var spec backfill.Spec
	var order backfill.Order
	var within time.Duration
	var rules []string
	var detach bool
	cmd := &cobra.Command{
		Use:   "start SOURCE FUNCTION",
		Short: "Begin, and show how far it is",
		Long: `Begin, and show how far it is. The source is on the server's machine:
  lines:///srv/orders.jsonl     the lines of a file
  csv:///srv/users.csv          its records, by the names in its first
  json:///srv/users.json        the elements of an array
  chunks:///srv/disk?size=1048576
                                pieces, which the function reads by itself
  lines+s3://bucket/key         the same of an object: csv+s3, json+s3, chunks+s3
  folder:///srv/photos          the files of a folder, at any depth
  s3://bucket/prefix            the objects whose keys begin so
  sqlite:///srv/app.db          with --query; --key is an item's id
  source:///shop                the same of a PostgreSQL (hearth source add)
  sqs:///orders                 what is in a queue, until it is empty

With --within 30s a folder, bucket or query is followed while it grows: what was
modified since the start is done within that time, and the rest beside it. It
ends when nothing has come for so long.

Items can wait until others are done; an order that can't be is refused before
anything is called, and what waits for an item that is given up is given up:
  --after-field parent          a field has the id that it waits for, or several
  --after '^(.+)\.sig$=$1'      a.sig waits for a
  --chain '^([^/]+)/'           what begins alike, one after the other`,
		Example: `  hearth backfill start folder:///srv/photos thumbnail --parallel 20 --rate 100
  hearth backfill start sqlite:///srv/app.db mail --query "SELECT id, address FROM users" --batch 50`,
		Args: exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.connect()
			if err != nil {
				return err
			}
			spec.Source, spec.Function, spec.Within = args[0], args[1], within.Seconds()
			for _, rule := range rules {
				match, after, ok := strings.Cut(rule, "=")
				if !ok {
					return usage(fmt.Sprintf("--after %q says not what to wait for", rule), `give it as REGEXP=ID, as in --after '^(.+)\.sig$=$1'`)
				}
				order.Rules = append(order.Rules, backfill.Rule{Match: match, After: after})
			}
			if order.Field != "" || order.Chain != "" || len(order.Rules) > 0 {
				spec.Order = &order
			}
			s, err := r.control.StartBackfill(cmd.Context(), spec)
			if err != nil {
				return r.failure("can't begin the backfill", err)
			}
			if detach {
				if a.json {
					return a.printJSON(s)
				}
				fmt.Fprintln(a.out, s.ID)
				return nil
			}
			a.say("Backfill %s runs in the server; leaving this does not stop it.", s.ID)
			return a.watchBackfill(cmd.Context(), r, s.ID)
		},
	}
	f := cmd.Flags()
	f.StringVar(&spec.Query, "query", "", "the `SQL` that lists a database's items")
	f.StringVar(&spec.Key, "key", "", "the query's `column`, or the records' field, that is an item's id (default the first, or where they begin)")
	f.StringVar(&spec.Modified, "modified", "", "the query's `column` that says when a row was modified")
	f.DurationVar(&within, "within", 0, "follow the source while it grows, and have what is new done within this `time`")
	f.StringVar(&order.Field, "after-field", "", "the `field` of an item's value with the id that it waits for, or a list of ids")
	f.StringArrayVar(&rules, "after", nil, "items whose id matches wait for another: `REGEXP=ID`")
	f.StringVar(&order.Chain, "chain", "", "items with the same first group of this `regexp` are done one after the other")
	f.IntVar(&spec.Batch, "batch", 0, "`items` a call at most (default 1)")
	f.IntVar(&spec.Parallel, "parallel", 0, "`calls` at a time at most (default 10)")
	f.Float64Var(&spec.Rate, "rate", 0, "`items` a second at most (default any)")
	f.IntVar(&spec.Attempts, "attempts", 0, "`calls` that may fail before an item is given up (default 3)")
	f.BoolVar(&detach, "detach", false, "print its id and do not wait")
	return cmd
}

func (a *app) backfillStatusCmd() *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use:   "status [ID]",
		Short: "Show how far backfills are",
		Args:  between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.connect()
			if err != nil {
				return err
			}
			id := ""
			if len(args) == 1 {
				if id = args[0]; watch {
					return a.watchBackfill(cmd.Context(), r, id)
				}
			}
			list, err := r.control.Backfills(cmd.Context(), id)
			if err != nil {
				return r.failure("can't tell of backfills", err)
			}
			if a.json {
				return a.printJSON(list)
			}
			if len(list) == 0 {
				a.say("There are no backfills.")
				return nil
			}
			t := table{header: []string{"BACKFILL", "STATUS", "FUNCTION", "FOUND", "DONE", "FAILED", "SOURCE"}}
			for _, s := range list {
				t.add(s.ID, s.Status, a.bold(s.Spec.Function), fmt.Sprint(s.Found), fmt.Sprint(s.Succeeded), fmt.Sprint(s.Failed), s.Spec.Source)
			}
			t.print(a.out, a)
			return nil
		},
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "show the progress of one until it ends")
	return cmd
}

// watchBackfill shows how far a backfill is until it ends.
func (a *app) watchBackfill(ctx context.Context, r *remote, id string) error {
	show := a.errTTY && !a.json
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		list, err := r.control.Backfills(ctx, id)
		if err != nil {
			return r.failure("can't tell of the backfill", err)
		}
		s := list[0]
		if show {
			fmt.Fprint(a.err, "\r\x1b[K"+progressLine(&s))
		}
		if s.Status != backfill.Running {
			if show {
				fmt.Fprintln(a.err)
			}
			return a.printBackfill(r, &s)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// barWidth is a progress bar's, in columns.
const barWidth = 30

// progressLine is how far a backfill is, in a line. While its source is still
// being listed, nobody knows how much is left.
func progressLine(s *backfill.Status) string {
	done, filled := s.Succeeded+s.Failed, 0
	if s.Found > 0 {
		filled = barWidth * done / s.Found
	}
	line := fmt.Sprintf("[%s%s] %d of %d", strings.Repeat("#", filled), strings.Repeat(".", barWidth-filled), done, s.Found)
	if !s.Listed {
		line += " found so far"
	}
	if s.New != nil {
		line += fmt.Sprintf(" (%d new, %d late)", s.New.Found, s.New.Late)
	}
	if s.Failed > 0 {
		line += fmt.Sprintf(", %d failed", s.Failed)
	}
	if s.PerSecond > 0 {
		line += fmt.Sprintf(", %.0f/s", s.PerSecond)
	}
	if s.Left > 0 {
		line += ", " + (time.Duration(s.Left) * time.Second).String() + " left"
	}
	return line
}

func (a *app) printBackfill(r *remote, s *backfill.Status) error {
	if a.json {
		return a.printJSON(s)
	}
	fmt.Fprintf(a.out, "%s: %d items found, %d done, %d failed\n", s.Status, s.Found, s.Succeeded, s.Failed)
	if n := s.New; n != nil {
		fmt.Fprintf(a.out, "of these %d were new; they took %.1f s at most, and %d longer than %v\n", n.Done, n.Worst, n.Late, time.Duration(s.Spec.Within*float64(time.Second)))
	}
	if s.Why != "" {
		fmt.Fprintln(a.out, s.Why)
	}
	if s.Failed > 0 {
		a.say("See them with: hearth backfill report %s%s", s.ID, r.dataFlag())
	}
	return nil
}

// maxFailures is how many failures a report shows.
const maxFailures = 1000

func (a *app) backfillReportCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "report ID",
		Short: "Show the items that a backfill gave up",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.connect()
			if err != nil {
				return err
			}
			report, err := r.control.BackfillReport(cmd.Context(), args[0], maxFailures)
			if err != nil {
				return r.failure("can't report", err)
			}
			if a.json {
				return a.printJSON(report)
			}
			t := table{header: []string{"ITEM", "ATTEMPTS", "LAST ANSWER"}}
			for _, f := range report.Failures {
				t.add(f.ID, fmt.Sprint(f.Attempts), f.Error)
			}
			t.print(a.out, a)
			if report.More {
				a.say("There are more than these %d.", maxFailures)
			}
			return nil
		},
	}
}

// onBackfillCmd is a command that does something with a backfill.
func (a *app) onBackfillCmd(action, short, done string) *cobra.Command {
	return &cobra.Command{
		Use:   action + " ID",
		Short: short,
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.connect()
			if err != nil {
				return err
			}
			if err := r.control.OnBackfill(cmd.Context(), action, args[0]); err != nil {
				return r.failure("can't "+action+" the backfill "+args[0], err)
			}
			if a.json {
				return a.printJSON(args)
			}
			fmt.Fprintln(a.out, args[0], done)
			return nil
		},
	}
}
