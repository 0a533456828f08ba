package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/spf13/cobra"
)

// shownURL is a function's URL as hearth url --json prints it.
type shownURL struct {
	Function   string `json:"function"`
	URL        string `json:"url"`
	AuthType   string `json:"authType"`
	InvokeMode string `json:"invokeMode"`
}

// urlWish is what a user asks of hearth url.
type urlWish struct {
	create, delete, stream bool
	auth                   string
}

func (a *app) urlCmd() *cobra.Command {
	var w urlWish
	cmd := &cobra.Command{
		Use:   "url NAME[:ALIAS]",
		Short: "Show, make or delete the URL at which a function serves HTTP",
		Long: `Show, make or delete the URL at which a function serves HTTP.

With --auth iam callers sign their requests, as for every call of the API.
With --auth none anybody who reaches the server may call: the function's
policy gets the two statements that this takes.`,
		Example: `  hearth url hello --create --auth none
  curl "$(hearth url hello)"`,
		Args:              exactly(1),
		ValidArgsFunction: a.completeFunctions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if w.auth != "iam" && w.auth != "none" {
				return usage(fmt.Sprintf("--auth %q is neither iam nor none", w.auth), "See hearth url --help.")
			}
			if w.create && w.delete {
				return usage("--create and --delete are not for one run", "")
			}
			if !w.create && (cmd.Flags().Changed("auth") || w.stream) {
				return usage("--auth and --stream are for a URL that is made", "Use them with --create.")
			}
			r, err := a.connect()
			if err != nil {
				return err
			}
			return a.url(cmd.Context(), r, args[0], w)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&w.create, "create", false, "make it")
	f.BoolVar(&w.delete, "delete", false, "delete it")
	f.StringVar(&w.auth, "auth", "iam", "who may call: `iam`, who signs; or none, anybody")
	f.BoolVar(&w.stream, "stream", false, "pass responses on while the function makes them")
	return cmd
}

// Statements that let anybody call a URL. Since October 2025 the service wants
// two.
const (
	sidURL    = "FunctionURLAllowPublicAccess"
	sidInvoke = "FunctionURLAllowInvoke"
)

func (a *app) url(ctx context.Context, r *remote, name string, w urlWish) error {
	shown := shownURL{Function: name}
	switch {
	case w.create:
		in := &lambda.CreateFunctionUrlConfigInput{FunctionName: &name, AuthType: types.FunctionUrlAuthTypeAwsIam, InvokeMode: types.InvokeModeBuffered}
		if w.auth == "none" {
			in.AuthType = types.FunctionUrlAuthTypeNone
		}
		if w.stream {
			in.InvokeMode = types.InvokeModeResponseStream
		}
		out, err := r.lambda.CreateFunctionUrlConfig(ctx, in)
		if err != nil {
			return r.failure("can't make a URL for "+name, err)
		}
		shown.URL, shown.AuthType, shown.InvokeMode = aws.ToString(out.FunctionUrl), string(out.AuthType), string(out.InvokeMode)
		if w.auth == "none" {
			if err := r.letAnybodyCall(ctx, name); err != nil {
				return r.failure("the URL is made, but nobody can be let in", err)
			}
			a.say("anybody who reaches the server may call it")
		}
	case w.delete:
		if _, err := r.lambda.DeleteFunctionUrlConfig(ctx, &lambda.DeleteFunctionUrlConfigInput{FunctionName: &name}); err != nil {
			return r.failure("can't delete the URL of "+name, err)
		}
		for _, sid := range []string{sidURL, sidInvoke} {
			_, err := r.lambda.RemovePermission(ctx, &lambda.RemovePermissionInput{FunctionName: &name, StatementId: &sid})
			if _, missing := errors.AsType[*types.ResourceNotFoundException](err); err != nil && !missing {
				return r.failure("the URL is deleted, but not who may call it", err)
			}
		}
		if a.json {
			return a.printJSON(map[string]any{"deleted": name})
		}
		fmt.Fprintf(a.out, "the URL of %s deleted\n", a.bold(name))
		return nil
	default:
		out, err := r.lambda.GetFunctionUrlConfig(ctx, &lambda.GetFunctionUrlConfigInput{FunctionName: &name})
		if _, missing := errors.AsType[*types.ResourceNotFoundException](err); missing {
			return failed(name+" has no URL", err, "Make one with: hearth url "+name+" --create"+r.dataFlag())
		}
		if err != nil {
			return r.failure("can't find the URL of "+name, err)
		}
		shown.URL, shown.AuthType, shown.InvokeMode = aws.ToString(out.FunctionUrl), string(out.AuthType), string(out.InvokeMode)
	}
	if a.json {
		return a.printJSON(shown)
	}
	fmt.Fprintln(a.out, shown.URL) // alone, for $(hearth url NAME)
	return nil
}

// letAnybodyCall adds the statements to the function's policy.
func (r *remote) letAnybodyCall(ctx context.Context, name string) error {
	for _, in := range []lambda.AddPermissionInput{
		{StatementId: aws.String(sidURL), Action: aws.String("lambda:InvokeFunctionUrl"), FunctionUrlAuthType: types.FunctionUrlAuthTypeNone},
		{StatementId: aws.String(sidInvoke), Action: aws.String("lambda:InvokeFunction"), InvokedViaFunctionUrl: aws.Bool(true)},
	} {
		in.FunctionName, in.Principal = &name, aws.String("*")
		_, err := r.lambda.AddPermission(ctx, &in)
		if _, there := errors.AsType[*types.ResourceConflictException](err); err != nil && !there {
			return err
		}
	}
	return nil
}
