package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
)

func (a *app) accountCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "account",
		Short: "Accounts: make, list, suspend, delete them, and their keys and quotas",
		Long: `Each team that uses a Hearth has an account of its own: its functions, queues,
schedules, roles and users, its access keys and its quotas. The account that the
server made at its first start is the operator's, and its root alone manages the
others.

  hearth account create team-a           make one, with a key of its root
  eval "$(hearth env --account team-a)"  act as its root in this shell
  hearth account suspend team-a          stop all of it, and keep it
  hearth account delete team-a           for good, if it has nothing any more

An account is named by its twelve digits or by its name.`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.accountCreateCmd(), a.accountListCmd(), a.accountSuspendCmd(), a.accountResumeCmd(), a.accountDeleteCmd(), a.accountKeysCmd(), a.accountQuotaCmd())
	return cmd
}

func (a *app) accountCreateCmd() *cobra.Command {
	var id string
	var q control.Quotas
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make an account, with a key of its root",
		Example: `  hearth account create team-a
  hearth account create team-b --id 111122223333 --concurrency 50`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.connect()
			if err != nil {
				return err
			}
			made, err := r.control.CreateAccount(cmd.Context(), hearth.Account(id), args[0], q)
			if err != nil {
				return r.failure("can't make the account "+args[0], err)
			}
			if a.json {
				return a.printJSON(struct {
					control.AccountMade
					Endpoint string `json:"endpoint"`
				}{made, firstOf(r.running.Public, r.endpoint)})
			}
			fmt.Fprintf(a.out, "account            %s\nname               %s\naccess key id      %s\nsecret access key  %s\n",
				a.bold(string(made.Account.ID)), made.Account.Name, made.AccessKeyID, made.SecretAccessKey)
			a.say(`The secret is not shown again. Whoever uses the account puts this into ~/.aws/credentials

  [%s]
  aws_access_key_id = %s
  aws_secret_access_key = %s

and this into ~/.aws/config

  [profile %s]
  region = %s
  endpoint_url = %s

and then works with: aws --profile %s …, and hearth --profile %s …
To act as its root yourself, in this shell: eval "$(hearth env --account %s%s)"`,
				args[0], made.AccessKeyID, made.SecretAccessKey, args[0], made.Region, firstOf(r.running.Public, r.endpoint), args[0], args[0], args[0], r.dataFlag())
			return nil
		},
	}
	cmd.Flags().StringVar(&id, "id", "", "the account's twelve `digits` (default random ones)")
	quotaFlags(cmd, &q)
	return cmd
}

func quotaFlags(cmd *cobra.Command, q *control.Quotas) {
	f := cmd.Flags()
	f.IntVar(&q.Concurrency, "concurrency", 0, "how many `invocations` may run at once (0: as --concurrency of hearth up)")
	f.IntVar(&q.Functions, "functions", 0, "how `many` functions there may be (0: any number)")
	f.Int64Var(&q.CodeBytes, "code-bytes", 0, "how many `bytes` of packages there may be (0: 75 GiB)")
	f.IntVar(&q.Requests, "requests", 0, "how many `requests` of the API beside invocations in a second (0: as --api-rate of hearth up)")
	f.IntVar(&q.Weight, "weight", 0, "how many accounts' `turns` it has, while processors are short and at having containers made (0: 1)")
}

func (a *app) accountListCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the accounts",
		Args:    exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return list(cmd.Context(), a, "the accounts", (*control.Client).Accounts, func(r *remote, list []control.Account) error {
				t := table{header: []string{"ACCOUNT", "NAME", "STATE", "FUNCTIONS", "CODE", "CREATED"}}
				for _, one := range list {
					state := one.State
					if one.Reason != "" {
						state += " (" + one.Reason + ")"
					}
					t.add(a.bold(string(one.ID)), one.Name, state, of(one.Usage.Functions, one.Quotas.Functions), megabytes(one.Usage.CodeBytes), ago(time.Since(one.Created))+" ago")
				}
				t.print(a.out, a)
				if len(list) == 1 && list[0].Operator {
					a.say("There is the operator's account alone. Make one for a team with: hearth account create NAME%s", r.dataFlag())
				}
				return nil
			})
		},
	}
}

// of is a number of a bound; 0 is none.
func of(n, most int) string {
	if most == 0 {
		return strconv.Itoa(n)
	}
	return fmt.Sprintf("%d of %d", n, most)
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

func (a *app) accountSuspendCmd() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "suspend ACCOUNT",
		Short: "Stop everything of an account, and keep it",
		Long: `Stop everything of an account: every request that is signed for it is refused,
its functions, function URLs, event source mappings and schedules do not run.
Nothing of it is lost; events that came before wait, and it goes on with:
hearth account resume.`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.connect()
			if err != nil {
				return err
			}
			one, err := r.control.SuspendAccount(cmd.Context(), args[0], reason)
			if err != nil {
				return r.failure("can't suspend "+args[0], err)
			}
			if a.json {
				return a.printJSON(one)
			}
			fmt.Fprintf(a.out, "%s (%s) is suspended\n", one.Name, one.ID)
			a.say("Let it go on with: hearth account resume %s%s", args[0], r.dataFlag())
			return nil
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "`why`, which whoever is refused is told")
	return cmd
}

func (a *app) accountResumeCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "resume ACCOUNT",
		Short: "Let a suspended account go on",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.connect()
			if err != nil {
				return err
			}
			one, err := r.control.ResumeAccount(cmd.Context(), args[0])
			if err != nil {
				return r.failure("can't resume "+args[0], err)
			}
			if a.json {
				return a.printJSON(one)
			}
			fmt.Fprintf(a.out, "%s (%s) goes on\n", one.Name, one.ID)
			return nil
		},
	}
}

func (a *app) accountDeleteCmd() *cobra.Command {
	var everything bool
	cmd := &cobra.Command{
		Use:   "delete ACCOUNT",
		Short: "Delete an account for good",
		Long: `Delete an account for good. One that has anything (functions, queues, rules,
schedules, roles and so on) is refused and told what it has, unless --everything
is said, with which all of it is deleted first. That goes on after the command
was interrupted, and after the server was restarted.`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.connect()
			if err != nil {
				return err
			}
			if err := r.control.DeleteAccount(cmd.Context(), args[0], everything); err != nil {
				return r.failure("can't delete "+args[0], err)
			}
			if a.json {
				return a.printJSON(control.AccountName{Account: args[0]})
			}
			fmt.Fprintf(a.out, "%s is deleted\n", args[0])
			return nil
		},
	}
	cmd.Flags().BoolVar(&everything, "everything", false, "with everything that it has")
	return cmd
}

func (a *app) accountKeysCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys [ACCOUNT]",
		Short: "Show and rotate the keys of an account's root",
		Long: `Show the long-lived keys of an account's root, one's own unless the operator
names another. There may be two, so that one can be put in place before the other
is taken away:

  hearth account keys create team-a
  hearth account keys deactivate AKIA… team-a    see that nothing used it
  hearth account keys delete AKIA… team-a`,
		Args: between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return list(cmd.Context(), a, "the keys", func(c *control.Client, ctx context.Context) ([]control.AccessKey, error) {
				return c.AccountKeys(ctx, strings.Join(args, ""))
			}, func(_ *remote, list []control.AccessKey) error {
				t := table{header: []string{"KEY", "STATE", "CREATED", "USED"}}
				for _, k := range list {
					state, used := "active", "never"
					switch {
					case k.Fixed:
						used = "(not kept)"
					case !k.Used.IsZero():
						used = ago(time.Since(k.Used)) + " ago"
					}
					if !k.Active {
						state = "inactive"
					}
					t.add(a.bold(k.ID), state, k.Created.Format(time.DateOnly), used)
				}
				t.print(a.out, a)
				return nil
			})
		},
	}
	create := &cobra.Command{
		Use: "create [ACCOUNT]", Short: "Make a key; its secret is shown once", Args: between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.connect()
			if err != nil {
				return err
			}
			k, err := r.control.CreateAccountKey(cmd.Context(), strings.Join(args, ""))
			if err != nil {
				return r.failure("can't make a key", err)
			}
			if a.json {
				return a.printJSON(k)
			}
			fmt.Fprintf(a.out, "access key id      %s\nsecret access key  %s\n", a.bold(k.ID), k.SecretAccessKey)
			a.say("The secret is not shown again. When the old key is not used any more: hearth account keys deactivate KEY %s", strings.Join(args, ""))
			return nil
		},
	}
	act := func(use, short, done string, do func(*cobra.Command, *remote, string, string) error) *cobra.Command {
		return &cobra.Command{
			Use: use + " KEY [ACCOUNT]", Short: short, Args: between(1, 2),
			RunE: func(cmd *cobra.Command, args []string) error {
				r, err := a.connect()
				if err != nil {
					return err
				}
				if err := do(cmd, r, strings.Join(args[1:], ""), args[0]); err != nil {
					return r.failure("can't "+use+" "+args[0], err)
				}
				if a.json {
					return a.printJSON(struct {
						ID string `json:"id"`
					}{args[0]})
				}
				fmt.Fprintf(a.out, "%s is %s\n", args[0], done)
				return nil
			},
		}
	}
	cmd.AddCommand(create,
		act("activate", "Let a key be used", "active", func(cmd *cobra.Command, r *remote, account, key string) error {
			return r.control.UpdateAccountKey(cmd.Context(), account, key, true)
		}),
		act("deactivate", "Keep a key from being used", "inactive", func(cmd *cobra.Command, r *remote, account, key string) error {
			return r.control.UpdateAccountKey(cmd.Context(), account, key, false)
		}),
		act("delete", "Delete a key", "deleted", func(cmd *cobra.Command, r *remote, account, key string) error {
			return r.control.DeleteAccountKey(cmd.Context(), account, key)
		}),
	)
	return cmd
}

func (a *app) accountQuotaCmd() *cobra.Command {
	var q control.Quotas
	cmd := &cobra.Command{
		Use:   "quota ACCOUNT",
		Short: "Show an account's quotas, or change those that are named",
		Example: `  hearth account quota team-a
  hearth account quota team-a --concurrency 50 --functions 200`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.connect()
			if err != nil {
				return err
			}
			list, err := r.control.Accounts(cmd.Context())
			if err != nil {
				return r.failure("can't find out about the quotas", err)
			}
			var found *control.Account
			for i, one := range list {
				if string(one.ID) == args[0] || strings.EqualFold(one.Name, args[0]) {
					found = &list[i]
				}
			}
			if found == nil {
				return refused("there is no account "+args[0], "hearth account list shows those that there are.")
			}
			var c control.QuotaChange
			for name, change := range map[string]func(){
				"concurrency": func() { c.Concurrency = &q.Concurrency },
				"functions":   func() { c.Functions = &q.Functions },
				"code-bytes":  func() { c.CodeBytes = &q.CodeBytes },
				"requests":    func() { c.Requests = &q.Requests },
				"weight":      func() { c.Weight = &q.Weight },
			} {
				if cmd.Flags().Changed(name) {
					change()
				}
			}
			changed := c != (control.QuotaChange{})
			if changed {
				one, err := r.control.SetQuotas(cmd.Context(), args[0], c)
				if err != nil {
					return r.failure("can't change the quotas of "+args[0], err)
				}
				found = &one
			}
			if a.json {
				return a.printJSON(found)
			}
			t := table{header: []string{"QUOTA", "VALUE", "USED"}}
			t.add("concurrency", a.bold(strconv.Itoa(found.Quotas.Concurrency)), "")
			t.add("functions", a.bold(bound(int64(found.Quotas.Functions))), strconv.Itoa(found.Usage.Functions))
			t.add("code-bytes", a.bold(bound(found.Quotas.CodeBytes)), strconv.FormatInt(found.Usage.CodeBytes, 10))
			t.add("requests", a.bold(bound(int64(found.Quotas.Requests))), "")
			t.add("weight", a.bold(strconv.Itoa(found.Quotas.Weight)), "")
			t.print(a.out, a)
			if !changed {
				a.say("Change one with: hearth account quota %s --concurrency N", args[0])
			}
			return nil
		},
	}
	quotaFlags(cmd, &q)
	return cmd
}

// bound is a quota, of which 0 is none.
func bound(n int64) string {
	if n == 0 {
		return "any"
	}
	return strconv.FormatInt(n, 10)
}
