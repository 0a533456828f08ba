package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) canCmd() *cobra.Command {
	var account string
	var about []string
	cmd := &cobra.Command{
		Use:   "can WHO ACTION [RESOURCE]",
		Short: "Tell whether somebody may do something, and by which statement",
		Long: `Tell whether a user or role may do something with a resource, by the same
evaluation that decides about requests: the policies that it has, its permissions
boundary, and the policy of the function, queue, layer version or role. WHO is a
name, user/NAME, role/NAME, an ARN, or root. RESOURCE is an ARN, or for lambda: a
function's name, for sqs: a queue's, for sts: a role's. The tags of the resource
are those that it has; what a request would say is given by --context. Exit code 1
is that it may not.`,
		Example: `  hearth can ann lambda:InvokeFunction orders
  hearth can role/deployer iam:PassRole arn:aws:iam::111122223333:role/fn \
      --context iam:PassedToService=lambda.amazonaws.com
  hearth can ann lambda:CreateFunction new --context aws:RequestTag/team=web --context aws:TagKeys=team`,
		Args: between(2, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.connect()
			if err != nil {
				return err
			}
			v, err := r.control.Can(cmd.Context(), account, args[0], args[1], strings.Join(args[2:], ""), about)
			if err != nil {
				return r.failure("can't find out what "+args[0]+" may do", err)
			}
			exit := &failure{code: exitFailed}
			if a.json {
				if err := a.printJSON(v); err != nil || v.Allowed {
					return err
				}
				return exit
			}
			word := a.bold("no")
			if v.Allowed {
				word = a.bold("yes")
			}
			fmt.Fprintf(a.out, "%s: %s\n", word, v.Why)
			if v.SID != "" {
				fmt.Fprintf(a.out, "statement %s of %s\n", v.SID, v.By)
			}
			if v.Statement != nil {
				var b bytes.Buffer
				if err := json.Indent(&b, v.Statement, "  ", "  "); err != nil {
					return err
				}
				fmt.Fprintf(a.out, "  %s\n", b.String())
			}
			if v.Allowed {
				return nil
			}
			return exit
		},
	}
	cmd.Flags().StringVar(&account, "account", "", "the `account` that WHO is of, by its id or name (default one's own)")
	cmd.Flags().StringArrayVar(&about, "context", nil, "`KEY=VALUE` that conditions may ask about, such as aws:SourceIp=192.0.2.1")
	return cmd
}
