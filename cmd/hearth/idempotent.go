package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
)

func (a *app) idempotentCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "idempotent [FUNCTION]",
		Short: "Show or declare which functions need not be run again while nothing has changed",
		Long: `Show which functions are declared idempotent, and what that has spared; of one
function also what was declared. A declaration says what a result depends on
beside the code: objects, pages, files, rows, other functions. While none of it
has changed, an equal request gets the recorded answer, and its response says so
in the header X-Hearth-Recorded.`,
		Example: `  hearth idempotent
  hearth idempotent set report @report.json
  hearth idempotent set report '{"dependencies": [{"s3": "s3://data/${$.day}.csv"}]}'
  hearth invoke report '{"day": "2030-01-01"}' --recompute
  hearth idempotent forget report`,
		Args:              between(0, 1),
		ValidArgsFunction: a.completeFunctions,
		RunE: func(cmd *cobra.Command, args []string) error {
			function := strings.Join(args, "")
			r, err := a.connect()
			if err != nil {
				return err
			}
			list, err := r.control.Idempotent(cmd.Context(), function)
			if err != nil {
				return r.failure("can't find out what is declared", err)
			}
			switch {
			case a.json:
				return a.printJSON(control.IdempotentList{Functions: list})
			case len(list) == 0 && function != "":
				return refused(function+" is not declared idempotent", "hearth idempotent set "+function+r.dataFlag()+" declares it.")
			case len(list) == 0:
				a.say("No function is declared idempotent: every request is run.")
				return nil
			}
			t := table{header: []string{"FUNCTION", "RECORDED", "JOINED", "RAN", "SPARED", "RECORDS"}}
			for _, i := range list {
				c := i.Counts
				t.add(a.bold(i.Function), fmt.Sprint(c.Recorded), fmt.Sprint(c.Joined), fmt.Sprint(c.Ran+c.Unknown),
					time.Duration(c.SavedSeconds*float64(time.Second)).Round(time.Millisecond).String(), fmt.Sprint(c.Records))
			}
			t.print(a.out, a)
			if function == "" {
				return nil
			}
			said, err := json.MarshalIndent(list[0].Declared, "", "  ")
			if err != nil {
				return err
			}
			fmt.Fprintf(a.out, "\n%s\n", said)
			return nil
		},
	}
	cmd.AddCommand(a.idempotentSetCmd(), a.idempotentClearCmd(), a.idempotentForgetCmd())
	return cmd
}

func (a *app) idempotentSetCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "set FUNCTION DECLARATION | @FILE | -",
		Short: "Declare a function idempotent",
		Long: `Declare a function idempotent. The declaration is JSON; {} is a function whose
result depends on nothing but its code, its environment and its event. A secret
that is "" stays as it is.`,
		Args: between(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := a.event(args[1], false)
			if err != nil {
				return err
			}
			var d *hearth.Idempotence
			dec := json.NewDecoder(strings.NewReader(string(text)))
			dec.DisallowUnknownFields()
			if err = dec.Decode(&d); err == nil {
				if _, more := dec.Token(); !errors.Is(more, io.EOF) {
					err = errors.New("something follows it")
				}
			}
			if err == nil && d == nil {
				err = errors.New("it is null")
			}
			if err != nil {
				return usage("that is no declaration: "+err.Error(), "See hearth idempotent --help.")
			}
			r, err := a.connect()
			if err != nil {
				return err
			}
			if err := r.control.DeclareIdempotent(cmd.Context(), args[0], d); err != nil {
				return r.failure("can't declare "+args[0]+" idempotent", err)
			}
			fmt.Fprintf(a.out, "%s is declared idempotent\n", args[0])
			return nil
		},
	}
}

func (a *app) idempotentClearCmd() *cobra.Command {
	return &cobra.Command{
		Use:               "clear FUNCTION",
		Short:             "Take the declaration back: every request is run again",
		Args:              between(1, 1),
		ValidArgsFunction: a.completeFunctions,
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.connect()
			if err != nil {
				return err
			}
			if err := r.control.DeclareIdempotent(cmd.Context(), args[0], nil); err != nil {
				return r.failure("can't take the declaration back", err)
			}
			fmt.Fprintf(a.out, "%s is run at each request\n", args[0])
			return nil
		},
	}
}

func (a *app) idempotentForgetCmd() *cobra.Command {
	return &cobra.Command{
		Use:               "forget FUNCTION",
		Short:             "Drop the recorded results of a function",
		Args:              between(1, 1),
		ValidArgsFunction: a.completeFunctions,
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.connect()
			if err != nil {
				return err
			}
			n, err := r.control.ForgetResults(cmd.Context(), args[0])
			if err != nil {
				return r.failure("can't drop the results of "+args[0], err)
			}
			if a.json {
				return a.printJSON(control.Forgotten{Function: args[0], Records: n})
			}
			fmt.Fprintf(a.out, "%d results of %s are forgotten\n", n, args[0])
			return nil
		},
	}
}
