package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/identity"
)

func (a *app) keyring(masterKey string) (_ *identity.Keyring, done func(), _ error) {
	keys, done, err := identity.OpenKeyring(a.dataDir(), a.masterKey(masterKey))
	if err != nil {
		return nil, nil, failed("can't open the keys of "+a.dataDir(), err, "Start a server there first: hearth up.")
	}
	return keys, done, nil
}

func (a *app) keysCmd() *cobra.Command {
	masterKey := ""
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Keys of one's own for functions' environments",
		Long: `A function's environment is encrypted on disk by the server's own key, or by the
key that the function names (KMSKeyArn): one that was made here. While a key is
disabled, functions under it are not invoked and not changed. A key's file that
is lost takes the environments under it with it.`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	description, account := "", ""
	create := &cobra.Command{
		Use:   "create",
		Short: "Make a key and print its ARN",
		Args:  exactly(0),
		RunE: func(*cobra.Command, []string) error {
			keys, done, err := a.keyring(masterKey)
			if err != nil {
				return err
			}
			defer done()
			k, err := keys.Create(hearth.Account(account), description, time.Now())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(k)
			}
			fmt.Fprintln(a.out, k.ARN)
			return nil
		},
	}
	create.Flags().StringVar(&account, "account", "", "the `account`, twelve digits, whose functions may use it (default the operator's)")
	create.Flags().StringVar(&description, "description", "", "what the key is for")
	ls := &cobra.Command{
		Use:   "ls",
		Short: "List the keys",
		Args:  exactly(0),
		RunE: func(*cobra.Command, []string) error {
			keys, done, err := a.keyring(masterKey)
			if err != nil {
				return err
			}
			defer done()
			list, err := keys.List()
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(append([]identity.KeyInfo{}, list...))
			}
			t := table{header: []string{"KEY", "ENABLED", "CREATED", "DESCRIPTION"}}
			for _, k := range list {
				t.add(k.ARN, fmt.Sprint(k.Enabled), k.Created.Format(time.DateOnly), k.Description)
			}
			t.print(a.out, a)
			return nil
		},
	}
	enable := func(use, short string, enabled bool) *cobra.Command {
		return &cobra.Command{
			Use: use + " ARN", Short: short, Args: exactly(1),
			RunE: func(_ *cobra.Command, args []string) error {
				keys, done, err := a.keyring(masterKey)
				if err != nil {
					return err
				}
				defer done()
				return keys.Enable(args[0], enabled)
			},
		}
	}
	masterKeyFlag(cmd, &masterKey, "")
	cmd.AddCommand(create, ls, enable("enable", "Let a key be used", true), enable("disable", "Let a key not be used", false))
	return cmd
}
