package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/share"
)

func (a *app) sharedAliasCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "shared-alias [NAME]",
		Short: "Run functions that other accounts offer you, under names of your own",
		Long: `Show the account's shared aliases: its own names for functions of other accounts.
Such a name is invoked as any function of the account's. The code runs for the
account, with the parameters that it has set, which are sealed on disk and shown
to nobody again, and reaches of the network only what the account allows.

  hearth offer                                          what there is to accept
  hearth shared-alias create my-archive OFFER --set BUCKET=mine --set-file KEY=key.txt
  hearth invoke my-archive '{}'`,
		Args: between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.connect()
			if err != nil {
				return err
			}
			list, err := r.control.SharedAliases(cmd.Context(), strings.Join(args, ""))
			if err != nil {
				return r.failure("can't show the shared aliases", err)
			}
			if a.json {
				return a.printJSON(list)
			}
			if len(list.Aliases) == 0 {
				a.say("There are none. See what is offered to you with: hearth offer")
				return nil
			}
			t := table{header: []string{"NAME", "OWNER", "OFFER", "VERSION", "SET", "REACHES", "MARKUP", "STATUS"}}
			for _, s := range list.Aliases {
				t.add(a.bold(s.Name), string(s.Owner), s.Offer, s.Version, strings.Join(s.Set, " "), reaches(s.Network), agreed(s.Markup), s.Status)
			}
			t.print(a.out, a)
			return nil
		},
	}
	cmd.AddCommand(a.sharedAliasSetCmd(false), a.sharedAliasSetCmd(true), a.sharedAliasDeleteCmd())
	return cmd
}

func reaches(p hearth.NetworkPolicy) string {
	switch {
	case p.Open:
		return "everything"
	case len(p.Allow) == 0:
		return "nothing"
	}
	return strings.Join(p.Allow, " ")
}

// agreed is the markup that an account has agreed to.
func agreed(markup *float64) string {
	if markup == nil {
		return "any"
	}
	return percent(*markup)
}

// markedUp is what a run costs that has no more markup than that.
func markedUp(markup *float64) string {
	switch {
	case markup == nil:
		return "what a run costs and what the owner asks on top"
	case *markup == 0:
		return "what a run costs"
	}
	return "what a run costs and at most " + strings.TrimPrefix(percent(*markup), "+") + " on top"
}

func (a *app) sharedAliasSetCmd(update bool) *cobra.Command {
	var want share.Acceptance
	var set, files, allow, unset []string
	var allowAll, allowNone bool
	var markup float64
	cmd := &cobra.Command{
		Use:   "create NAME OFFER",
		Short: "Accept an offer under a name of your own",
		Long: `Accept an offer under a name of your own. The code may reach what the offer says
that it needs, or what --allow says in its place: whatever it is given it could
send there, so allow no more than you trust with your parameters and events.`,
		Example: `  hearth shared-alias create my-archive OFFER --set BUCKET=mine --set-file KEY=key.txt
  hearth shared-alias create my-archive OFFER --allow s3.example.com:443 --memory 256`,
		Args: exactly(2),
	}
	if update {
		cmd.Use, cmd.Short, cmd.Args = "update NAME", "Change a shared alias, or replace its parameters", exactly(1)
		cmd.Long = "Change what the flags say of a shared alias; the rest stays, parameters too. The\nnext call goes by it, in a new environment. An owner who asks for more markup than\nyou have agreed to has your calls refused until you agree, with --markup."
		cmd.Example = "  hearth shared-alias update my-archive --set-file KEY=new-key.txt"
	}
	cmd.Flags().StringArrayVar(&set, "set", nil, "a parameter: NAME=VALUE")
	cmd.Flags().StringArrayVar(&files, "set-file", nil, "a parameter from a file, or with - from the standard input: NAME=FILE")
	cmd.Flags().StringArrayVar(&unset, "unset", nil, "take a parameter away: NAME")
	cmd.Flags().StringSliceVar(&allow, "allow", nil, "what the code may reach: HOST:PORT, *.SUFFIX:PORT, ADDRESS:PORT, PREFIX:PORT; * is all ports")
	cmd.Flags().BoolVar(&allowAll, "allow-all", false, "let the code reach whatever your own functions may")
	cmd.Flags().BoolVar(&allowNone, "allow-nothing", false, "let the code reach nothing")
	cmd.Flags().StringVar(&want.Version, "version", "", "pin one of the offer's versions")
	cmd.Flags().IntVar(&want.MemoryMiB, "memory", 0, "MiB, within what the offer allows")
	cmd.Flags().IntVar(&want.TimeoutSeconds, "timeout", 0, "seconds, within what the offer allows")
	cmd.Flags().Float64Var(&markup, "markup", 0, "the most that you agree to on top of what a run costs, as a share of it (default: what the offer asks when it is accepted)")
	cmd.Flags().StringVar(&want.Description, "description", "", "for yourself")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := valid(cmd, btoi(len(allow) > 0)+btoi(allowAll)+btoi(allowNone) <= 1, "only one of --allow, --allow-all and --allow-nothing can hold"); err != nil {
			return err
		}
		values, err := parameterValues(cmd, set, files, unset)
		if err != nil {
			return err
		}
		r, err := a.connect()
		if err != nil {
			return err
		}
		want.Name, want.Parameters = args[0], values
		if cmd.Flags().Changed("markup") {
			want.Markup = &markup
		}
		if update {
			if err := keep(cmd, r, &want); err != nil {
				return err
			}
		} else {
			want.Offer = args[1]
		}
		switch {
		case len(allow) > 0:
			want.Network = &hearth.NetworkPolicy{Allow: allow}
		case allowAll:
			want.Network = &hearth.NetworkPolicy{Open: true}
		case allowNone:
			want.Network = &hearth.NetworkPolicy{}
		}
		made, err := r.control.SetSharedAlias(cmd.Context(), want)
		if err != nil {
			return r.failure("can't accept the offer", err)
		}
		if a.json {
			return a.printJSON(made)
		}
		fmt.Fprintln(a.out, made.ARN)
		a.say("It may reach %s, and costs %s. Run it with: hearth invoke %s '{}'%s\nor with any client: aws lambda invoke --endpoint-url %s --function-name %s out.json", reaches(made.Network), markedUp(made.Markup), made.Name, r.dataFlag(), r.endpoint, made.ARN)
		return nil
	}
	return cmd
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// keep fills in what the command line does not say of an alias that there is.
func keep(cmd *cobra.Command, r *remote, want *share.Acceptance) error {
	now, err := r.control.SharedAliases(cmd.Context(), want.Name)
	if err != nil {
		return r.failure("can't look up "+want.Name, err)
	}
	said := cmd.Flags().Changed
	for _, is := range now.Aliases {
		want.Offer = is.Offer
		if !said("version") {
			want.Version = is.Version
		}
		if !said("memory") {
			want.MemoryMiB = is.MemoryMiB
		}
		if !said("timeout") {
			want.TimeoutSeconds = is.TimeoutSeconds
		}
		if !said("description") {
			want.Description = is.Description
		}
	}
	return nil
}

// parameterValues are what the command line sets parameters to, by name; nil
// takes one away.
func parameterValues(cmd *cobra.Command, set, files, unset []string) (map[string]*string, error) {
	values := map[string]*string{}
	for _, s := range set {
		name, value, ok := strings.Cut(s, "=")
		if !ok {
			return nil, usage("--set "+name+" has no value", "As in --set NAME=VALUE; for a secret rather --set-file NAME=FILE, which no list of processes shows.")
		}
		values[name] = &value
	}
	for _, s := range files {
		name, file, ok := strings.Cut(s, "=")
		if !ok {
			return nil, usage("--set-file "+s+" names no file", "As in --set-file KEY=key.txt, or KEY=- for the standard input.")
		}
		value, err := readSecret(cmd.InOrStdin(), file)
		if err != nil {
			return nil, usage("the parameter "+name+" can't be read: "+err.Error(), "Give --set-file NAME=FILE a file that has it, or - for the standard input.")
		}
		values[name] = &value
	}
	for _, name := range unset {
		values[name] = nil
	}
	return values, nil
}

func (a *app) sharedAliasDeleteCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "delete NAME",
		Short: "Remove a shared alias with its parameters",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.connect()
			if err != nil {
				return err
			}
			left, err := r.control.RemoveSharedAlias(cmd.Context(), args[0])
			if err != nil {
				return r.failure("can't remove "+args[0], err)
			}
			if a.json {
				return a.printJSON(left)
			}
			fmt.Fprintf(a.out, "%s is removed\n", args[0])
			return nil
		},
	}
}
