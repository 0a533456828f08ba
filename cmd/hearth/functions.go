package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/spf13/cobra"
)

// listed is one function as hearth ls --json prints it. Its state is not here:
// the API leaves that out of its list.
type listed struct {
	Function     string `json:"function"`
	Runtime      string `json:"runtime"`
	Handler      string `json:"handler"`
	MemoryMiB    int32  `json:"memoryMiB"`
	TimeoutSecs  int32  `json:"timeoutSeconds"`
	LastModified string `json:"lastModified"`
	CodeSize     int64  `json:"codeSize"`
}

func (a *app) lsCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "List the functions",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := a.connect()
			if err != nil {
				return err
			}
			found, err := r.functions(cmd.Context())
			if err != nil {
				return r.failure("can't list the functions", err)
			}
			list := []listed{}
			for _, f := range found {
				list = append(list, listed{
					Function: aws.ToString(f.FunctionName), Runtime: string(f.Runtime), Handler: aws.ToString(f.Handler),
					MemoryMiB: aws.ToInt32(f.MemorySize), TimeoutSecs: aws.ToInt32(f.Timeout),
					LastModified: aws.ToString(f.LastModified), CodeSize: f.CodeSize,
				})
			}
			if a.json {
				return a.printJSON(list)
			}
			if len(list) == 0 {
				a.say("There are no functions yet. Make one with: hearth deploy DIR%s", r.dataFlag())
				a.sayShared(cmd.Context(), r)
				return nil
			}
			t := table{header: []string{"FUNCTION", "RUNTIME", "HANDLER", "MEMORY", "TIMEOUT", "CODE", "MODIFIED"}}
			for _, f := range list {
				t.add(a.bold(f.Function), f.Runtime, f.Handler, fmt.Sprintf("%d MiB", f.MemoryMiB), fmt.Sprintf("%d s", f.TimeoutSecs),
					size(f.CodeSize), modified(f.LastModified))
			}
			t.print(a.out, a)
			a.sayShared(cmd.Context(), r)
			return nil
		},
	}
}

// sayShared tells of the account's names for functions of others, which are no
// functions to the API that lists these.
func (a *app) sayShared(ctx context.Context, r *remote) {
	shared, err := r.control.SharedAliases(ctx, "")
	if err != nil || len(shared.Aliases) == 0 {
		return // who may list functions need not be one who may list these
	}
	names := make([]string, len(shared.Aliases))
	for i, s := range shared.Aliases {
		names[i] = s.Name
	}
	a.say("Of other accounts: %s. More with: hearth shared-alias%s", strings.Join(names, ", "), r.dataFlag())
}

// modified is the API's time as its age.
func modified(s string) string {
	at, err := time.Parse("2006-01-02T15:04:05.000-0700", s)
	if err != nil {
		return s
	}
	return ago(time.Since(at)) + " ago"
}

// functions lists all of them.
func (r *remote) functions(ctx context.Context) ([]types.FunctionConfiguration, error) {
	var all []types.FunctionConfiguration
	pages := lambda.NewListFunctionsPaginator(r.lambda, &lambda.ListFunctionsInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Functions...)
	}
	return all, nil
}

func (a *app) rmCmd() *cobra.Command {
	return &cobra.Command{
		Use:               "rm NAME...",
		Short:             "Delete functions, with all their versions",
		Args:              between(1, -1),
		ValidArgsFunction: a.completeFunctions,
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.connect()
			if err != nil {
				return err
			}
			deleted := []string{}
			for _, name := range args {
				if _, err := r.lambda.DeleteFunction(cmd.Context(), &lambda.DeleteFunctionInput{FunctionName: &name}); err != nil {
					return r.failure("can't delete "+name, err)
				}
				deleted = append(deleted, name)
				if !a.json {
					fmt.Fprintf(a.out, "%s deleted\n", a.bold(name))
				}
			}
			if a.json {
				return a.printJSON(map[string]any{"deleted": deleted})
			}
			return nil
		},
	}
}
