package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/hearth-faas/hearth/control"
)

func (a *app) logsCmd() *cobra.Command {
	var follow bool
	var since, request string
	cmd := &cobra.Command{
		Use:   "logs NAME",
		Short: "Print a function's log",
		Example: `  hearth logs hello -f
  hearth logs hello --since 10m`,
		Args:              exactly(1),
		ValidArgsFunction: a.completeFunctions,
		RunE: func(cmd *cobra.Command, args []string) error {
			q := control.LogQuery{Function: args[0], RequestID: request, Follow: follow}
			var err error
			if q.Since, err = sinceTime(since, time.Now()); err != nil {
				return err
			}
			r, err := a.connect()
			if err != nil {
				return err
			}
			enc := json.NewEncoder(a.out)
			enc.SetEscapeHTML(false)
			err = r.control.Logs(cmd.Context(), q, func(l control.LogLine) error {
				if a.json {
					return enc.Encode(l)
				}
				_, err := fmt.Fprintf(a.out, "%s %s\n", a.faint(l.At.Local().Format("15:04:05.000")), l.Message)
				return err
			})
			if follow && cmd.Context().Err() != nil {
				return nil // which is how following ends
			}
			if err != nil {
				return r.failure("can't read the log of "+args[0], err)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&follow, "follow", "f", false, "go on with new lines as they come")
	f.StringVar(&since, "since", "", "only from then on: a `duration` such as 10m, or a time such as 2006-01-02T15:04:05Z")
	f.StringVar(&request, "request", "", "only lines of this request `id`")
	return cmd
}

// sinceTime reads a duration before now, or a time.
func sinceTime(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	var d duration
	if err := d.Set(s); err == nil {
		return now.Add(-time.Duration(d)), nil
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, usage(fmt.Sprintf("--since %q is neither a duration nor a time", s), "It is 10m or 2006-01-02T15:04:05Z, for example.")
	}
	return at, nil
}
