package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hearth-faas/hearth/control"
)

func (a *app) sourceCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "source",
		Short: "Show the event sources that are registered, or register one",
		Long: `Show the event sources that are registered. A source that has no ARN in AWS (a
folder, Redis, RabbitMQ, MQTT, NATS, PostgreSQL, Kafka, an S3 server's
notifications), or is a queue of another SQS server, is registered under a name,
which gives it an ARN. An event source mapping takes that as any other:

  hearth source add incoming file:///var/incoming
  aws lambda create-event-source-mapping --function-name f \
      --event-source-arn arn:aws:hearth:us-east-1:000000000000:source/incoming`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return list(cmd.Context(), a, "the event sources", (*control.Client).Sources, func(_ *remote, list []control.EventSource) error {
				if len(list) == 0 {
					a.say("No event sources are registered. Register one with: hearth source add NAME URL")
					return nil
				}
				t := table{header: []string{"NAME", "URL", "SECRET", "CHANGED", "ARN"}}
				for _, s := range list {
					secret := "-"
					if s.Secret {
						secret = "sealed"
					}
					t.add(a.bold(s.Name), s.URL, secret, ago(time.Since(s.Modified))+" ago", s.ARN)
				}
				t.print(a.out, a)
				return nil
			})
		},
	}
	cmd.AddCommand(a.sourceAddCmd(), a.sourceRemoveCmd())
	return cmd
}

func (a *app) sourceAddCmd() *cobra.Command {
	var secretFile string
	cmd := &cobra.Command{
		Use:   "add NAME [URL]",
		Short: "Register an event source, or change the one that has the name",
		Long: `Register an event source under a name, or change the one that has it. The
secret is a password, or JSON with username and password, or with accessKeyId and
secretAccessKey for an SQS server's queue; it is sealed on disk and shown to nobody.
Without a URL the source is only a secret, for the SourceAccessConfigurations of
mappings. A source for an S3 server's notifications (s3://NAME) is given a token,
which is shown once.`,
		Example: `  hearth source add orders redis://db.example:6379/orders --secret-file password
  hearth source add incoming 'file:///var/incoming?recursive=true'
  hearth source add uploads s3://uploads
  hearth source add jobs sqs+https://sqs.eu-west-1.amazonaws.com/123456789012/jobs --secret-file keys`,
		Args: between(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			rawURL := strings.Join(args[1:], "")
			var secret *string
			if secretFile != "" {
				text, err := readSecret(cmd.InOrStdin(), secretFile)
				if err != nil {
					return usage("the secret can't be read: "+err.Error(), "Give --secret-file a file that has it, or - for the standard input.")
				}
				secret = &text
			}
			r, err := a.connect()
			if err != nil {
				return err
			}
			made, err := r.control.AddSource(cmd.Context(), args[0], rawURL, secret)
			if err != nil {
				return r.failure("can't register "+args[0], err)
			}
			if a.json {
				return a.printJSON(made)
			}
			fmt.Fprintln(a.out, made.ARN)
			if made.Token != "" {
				a.say("Have the S3 server notify %s/_hearth/v1/sources/notify?account=%s&name=%s&token=%s", r.endpoint, strings.Split(made.ARN, ":")[4], made.Name, made.Token)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&secretFile, "secret-file", "", "file with the secret; - is the standard input; an empty one takes it away")
	return cmd
}

// maxSecretFile bounds a secret's file, in bytes.
const maxSecretFile = 64 << 10

func readSecret(stdin io.Reader, name string) (string, error) {
	in := stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return "", err
		}
		defer file.Close()
		in = file
	}
	text, err := io.ReadAll(io.LimitReader(in, maxSecretFile+1))
	if err == nil && len(text) > maxSecretFile {
		err = fmt.Errorf("it has more than %d bytes", maxSecretFile)
	}
	return strings.TrimRight(string(text), "\r\n"), err
}

func (a *app) sourceRemoveCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME...",
		Short: "Forget event sources that no mapping reads",
		Args:  between(1, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(args, "removed", func(r *remote, name string) error {
				if err := r.control.RemoveSource(cmd.Context(), name); err != nil {
					return r.failure("can't remove "+name, err)
				}
				return nil
			})
		},
	}
}
