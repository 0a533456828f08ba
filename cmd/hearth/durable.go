package main

import (
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/spf13/cobra"
)

func (a *app) durableCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "durable",
		Short: "Look at durable executions, and stop them",
		Args:  exactly(0),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.durableListCmd(), a.durableShowCmd(), a.durableHistoryCmd(), a.durableStopCmd())
	return cmd
}

// durableExecution is one durable execution as hearth durable prints it in JSON.
type durableExecution struct {
	ARN     string     `json:"arn"`
	Name    string     `json:"name"`
	Status  string     `json:"status"`
	Started time.Time  `json:"started"`
	Ended   *time.Time `json:"ended,omitempty"`
	Input   *string    `json:"input,omitempty"`
	Result  *string    `json:"result,omitempty"`
	Error   *string    `json:"error,omitempty"`
}

func (a *app) durableListCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "list FUNCTION",
		Short: "List a function's executions, the newest first",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.connect()
			if err != nil {
				return err
			}
			list := []durableExecution{}
			pages := lambda.NewListDurableExecutionsByFunctionPaginator(r.lambda, &lambda.ListDurableExecutionsByFunctionInput{FunctionName: &args[0]})
			for pages.HasMorePages() {
				page, err := pages.NextPage(cmd.Context())
				if err != nil {
					return r.failure("can't list the executions", err)
				}
				for _, x := range page.DurableExecutions {
					list = append(list, durableExecution{ARN: *x.DurableExecutionArn, Name: *x.DurableExecutionName, Status: string(x.Status), Started: *x.StartTimestamp, Ended: x.EndTimestamp})
				}
			}
			if a.json {
				return a.printJSON(list)
			}
			t := table{header: []string{"NAME", "STATUS", "STARTED", "ARN"}}
			for _, x := range list {
				t.add(a.bold(x.Name), x.Status, ago(time.Since(x.Started))+" ago", x.ARN)
			}
			t.print(a.out, a)
			return nil
		},
	}
}

func (a *app) durableShowCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "show ARN",
		Short: "Show an execution with its input and its end",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.connect()
			if err != nil {
				return err
			}
			out, err := r.lambda.GetDurableExecution(cmd.Context(), &lambda.GetDurableExecutionInput{DurableExecutionArn: &args[0]})
			if err != nil {
				return r.failure("can't show the execution", err)
			}
			x := durableExecution{ARN: *out.DurableExecutionArn, Name: *out.DurableExecutionName, Status: string(out.Status), Started: *out.StartTimestamp,
				Ended: out.EndTimestamp, Input: out.InputPayload, Result: out.Result}
			if e := out.Error; e != nil {
				x.Error = aws.String(strings.Trim(aws.ToString(e.ErrorType)+": "+aws.ToString(e.ErrorMessage), ": "))
			}
			if a.json {
				return a.printJSON(x)
			}
			t := table{header: []string{a.bold(x.Name), x.Status}}
			t.add("started", x.Started.Format(time.RFC3339))
			if x.Ended != nil {
				t.add("ended", x.Ended.Format(time.RFC3339))
			}
			for _, p := range []struct {
				what string
				text *string
			}{{"input", x.Input}, {"result", x.Result}, {"error", x.Error}} {
				if p.text != nil {
					t.add(p.what, *p.text)
				}
			}
			t.print(a.out, a)
			return nil
		},
	}
}

// happening is one event of a history as hearth durable prints it in JSON.
type happening struct {
	ID   int32     `json:"id"`
	At   time.Time `json:"at"`
	Type string    `json:"type"`
	Name string    `json:"name,omitempty"`
}

func (a *app) durableHistoryCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "history ARN",
		Short: "Tell what happened in an execution",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.connect()
			if err != nil {
				return err
			}
			list := []happening{}
			pages := lambda.NewGetDurableExecutionHistoryPaginator(r.lambda, &lambda.GetDurableExecutionHistoryInput{
				DurableExecutionArn: &args[0], IncludeExecutionData: aws.Bool(false)})
			for pages.HasMorePages() {
				page, err := pages.NextPage(cmd.Context())
				if err != nil {
					return r.failure("can't tell the execution's history", err)
				}
				for _, e := range page.Events {
					list = append(list, happening{*e.EventId, *e.EventTimestamp, string(e.EventType), aws.ToString(e.Name)})
				}
			}
			if a.json {
				return a.printJSON(list)
			}
			t := table{header: []string{"AT", "EVENT", "NAME"}}
			for _, e := range list {
				t.add(e.At.Format("2006-01-02 15:04:05.000"), e.Type, e.Name)
			}
			t.print(a.out, a)
			return nil
		},
	}
}

func (a *app) durableStopCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "stop ARN",
		Short: "Stop an execution",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.connect()
			if err != nil {
				return err
			}
			_, err = r.lambda.StopDurableExecution(cmd.Context(), &lambda.StopDurableExecutionInput{
				DurableExecutionArn: &args[0], Error: &types.ErrorObject{ErrorMessage: aws.String("Stopped from the command line.")}})
			if err != nil {
				return r.failure("can't stop the execution", err)
			}
			if !a.json {
				a.say("Stopped.")
			}
			return nil
		},
	}
}
