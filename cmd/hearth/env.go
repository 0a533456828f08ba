package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) envCmd() *cobra.Command {
	var format, account string
	var hours float64
	var public bool
	cmd := &cobra.Command{
		Use:   "env",
		Short: "Print the variables that point aws, boto3 and the SDKs at the server",
		Example: `  eval "$(hearth env)"
  hearth env --format fish | source
  eval "$(hearth env --account team-a)"    as the root of another account, for an hour
  hearth env --public --account team-a     for another machine`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.json {
				format = "json"
			}
			if err := valid(cmd, format == "sh" || format == "fish" || format == "json", fmt.Sprintf("--format %q is none of sh, fish, json", format)); err != nil {
				return err
			}
			// The environment may be of a server that is gone: here the data
			// folder counts alone.
			r := &remote{}
			if err := a.connectByFolder(r); err != nil {
				return err
			}
			if !r.running.Alive(cmd.Context()) {
				return noServer(a.dataDir(), r.dataFlag())
			}
			endpoint := r.endpoint
			if public {
				if endpoint = r.running.Public; endpoint == "" {
					return refused("the server does not tell where other machines reach it", "It needs --tls-listen, and a name: of its certificate, --acme-domains or --own-names.")
				}
			}
			// Of a session that was there before nothing may be left.
			token := [2]string{"AWS_SESSION_TOKEN", ""}
			if account != "" {
				if err := valid(cmd, hours > 0 && hours <= 12, "--hours is more than 0 and at most 12"); err != nil {
					return err
				}
				r.dial()
				session, err := r.control.AccountSession(cmd.Context(), account, time.Duration(hours*float64(time.Hour)))
				if err != nil {
					return r.failure("can't act for the account "+account, err)
				}
				r.credentials.AccessKeyID, r.credentials.SecretAccessKey = session.AccessKeyID, session.SecretAccessKey
				token[1] = session.SessionToken
			}
			vars := [][2]string{
				{"AWS_ENDPOINT_URL", endpoint},
				{"AWS_ACCESS_KEY_ID", r.credentials.AccessKeyID},
				{"AWS_SECRET_ACCESS_KEY", r.credentials.SecretAccessKey},
				{"AWS_REGION", r.region},
				{"AWS_DEFAULT_REGION", r.region}, // what boto3 and the AWS command line read
			}
			if account != "" || a.getenv(token[0]) != "" {
				vars = append(vars, token)
			}
			return a.printEnv(vars, format)
		},
	}
	cmd.Flags().StringVar(&account, "account", "", "the `account` to act for, by its id or name (default the operator's own)")
	cmd.Flags().BoolVar(&public, "public", false, "for another machine: name where such reach the server, under TLS")
	cmd.Flags().Float64Var(&hours, "hours", 1, "how many `hours` the credentials of another account hold, at most 12")
	cmd.Flags().StringVar(&format, "format", "sh", "`sh`, fish or json")
	return cmd
}

func (a *app) printEnv(vars [][2]string, format string) error {
	if format == "json" {
		m := map[string]string{}
		for _, v := range vars {
			m[v[0]] = v[1]
		}
		out, err := json.MarshalIndent(m, "", "  ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(a.out, string(out))
		return err
	}
	line := "export %s=%s\n"
	if format == "fish" {
		line = "set -gx %s %s\n"
	}
	for _, v := range vars {
		if _, err := fmt.Fprintf(a.out, line, v[0], shellQuote(v[1])); err != nil {
			return err
		}
	}
	_, err := fmt.Fprint(a.out, awsFunctions[format])
	return err
}

// awsFunctions is what makes aws sqs work with version 1 of the AWS command
// line: it sends SQS's commands to its own address whatever AWS_ENDPOINT_URL
// says, unless it is told on the command line.
var awsFunctions = map[string]string{
	"sh": `aws() { if [ "$1" = sqs ] && [ -n "$AWS_ENDPOINT_URL" ]; then command aws --endpoint-url "$AWS_ENDPOINT_URL" "$@"; else command aws "$@"; fi; }
`,
	"fish": `function aws; if test "$argv[1]" = sqs -a -n "$AWS_ENDPOINT_URL"; command aws --endpoint-url "$AWS_ENDPOINT_URL" $argv; else; command aws $argv; end; end
`,
}

// shellQuote quotes s for sh and fish, if it needs it.
func shellQuote(s string) string {
	plain := s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=+@,%") == ""
	if plain {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
