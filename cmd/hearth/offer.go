package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
)

func (a *app) offerCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "offer [OFFER]",
		Short: "Let other accounts run a function of yours, without seeing its code",
		Long: `Show what the account offers others of its functions, and what others offer it.

An offer says who may run a function, under which terms, and which parameters the
code wants from each caller. Whoever accepts it runs the function under a name and
an ARN of its own, with parameters of its own, and pays for it: see
hearth shared-alias. A caller does not see the code, the owner not what a caller
puts in or gets out.

  hearth offer                        what there is
  hearth offer OFFER                  one of them whole, with what it asks for
  hearth offer create archive --to 111122223333 --parameter KEY:secret:required
  hearth offer revoke OFFER 111122223333`,
		Args: between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				r, err := a.connect()
				if err != nil {
					return err
				}
				all, err := r.control.Offers(cmd.Context())
				if err != nil {
					return r.failure("can't look up the offer", err)
				}
				return a.printOffer(r, &all, args[0])
			}
			return list(cmd.Context(), a, "the offers", (*control.Client).Offers, func(r *remote, all control.Offers) error {
				if len(all.Own)+len(all.Offered) == 0 {
					a.say("Nothing is offered. Offer a function with: hearth offer create FUNCTION --to ACCOUNT")
					return nil
				}
				t := table{header: []string{"OFFER", "FUNCTION", "OWNER", "FOR", "PARAMETERS", "REACHES", "MARKUP"}}
				for _, o := range all.Own {
					t.add(a.bold(o.ID), o.Function, "you", grantees(&o), parameterNames(&o), strings.Join(o.Reaches, " "), percent(o.Markup))
				}
				for _, o := range all.Offered {
					t.add(a.bold(o.ID), o.Function, string(o.Owner), "you", parameterNames(&o), strings.Join(o.Reaches, " "), percent(o.Markup))
				}
				t.print(a.out, a)
				if len(all.Offered) > 0 {
					a.say("See one whole with: hearth offer OFFER%s\nAccept one with: hearth shared-alias create NAME OFFER --set PARAMETER=VALUE%s", r.dataFlag(), r.dataFlag())
				}
				return nil
			})
		},
	}
	cmd.AddCommand(a.offerSetCmd(false), a.offerSetCmd(true), a.offerGrantCmd(), a.offerRevokeCmd(), a.offerWithdrawCmd(), a.offerUsesCmd())
	return cmd
}

func grantees(o *hearth.Offer) string {
	who := []string{}
	if o.Public {
		who = append(who, "everybody")
		if len(o.Except) > 0 {
			who = append(who, "but "+accounts(o.Except))
		}
		return strings.Join(who, " ")
	}
	if len(o.Accounts) == 0 {
		return "nobody"
	}
	return accounts(o.Accounts)
}

func accounts(list []hearth.Account) string {
	var all []string
	for _, a := range list {
		all = append(all, string(a))
	}
	return strings.Join(all, " ")
}

func parameterNames(o *hearth.Offer) string {
	var all []string
	for _, p := range o.Parameters {
		name := p.Name
		if p.Required {
			name += "*"
		}
		all = append(all, name)
	}
	return strings.Join(all, " ")
}

func percent(share float64) string {
	if share == 0 {
		return ""
	}
	return "+" + strconv.FormatFloat(share*100, 'g', 4, 64) + "%"
}

// offerFlags are the terms of an offer as the command line says them.
type offerFlags struct {
	to, versions, parameters, reaches []string
	public                            bool
	memory, timeout, description      string
	concurrency                       int
	rate, markup                      float64
	calls                             int64
}

func (a *app) offerSetCmd(update bool) *cobra.Command {
	var f offerFlags
	cmd := &cobra.Command{
		Use:   "create FUNCTION",
		Short: "Offer a function to other accounts",
		Long: `Offer a function to the accounts of --to, or with --public to all. The callers'
parameters come to the code as environment variables.

What is not given is the function's own (memory, time-out), nothing (parameters,
what the code may reach) or without a limit.`,
		Example: `  hearth offer create archive --to 111122223333,444455556666 \
      --parameter BUCKET:required --parameter KEY:secret:required --parameter PREFIX=archive/ \
      --reaches s3.example.com:443 --memory 128-512 --markup 0.2
  hearth offer create resize --public --version prod --version '*' --rate 10 --calls 100000`,
		Args: exactly(1),
	}
	if update {
		cmd.Use, cmd.Short = "update OFFER", "Change the terms of an offer"
		cmd.Long = "Change what the flags say of an offer; the rest stays. What its aliases do not meet\nany more is refused with their next call, and told in hearth shared-alias."
		cmd.Example = "  hearth offer update OFFER --markup 0.3 --rate 20"
	}
	cmd.Flags().StringSliceVar(&f.to, "to", nil, "accounts that may accept it")
	cmd.Flags().BoolVar(&f.public, "public", false, "every account may")
	cmd.Flags().StringSliceVar(&f.versions, "version", nil, "versions and aliases that may be run; the first unless a caller pins another; * is every number")
	cmd.Flags().StringArrayVar(&f.parameters, "parameter", nil, "what the code wants: NAME[:secret][:required][=DEFAULT]")
	cmd.Flags().StringSliceVar(&f.reaches, "reaches", nil, "what the code needs of the network: HOST:PORT")
	cmd.Flags().StringVar(&f.memory, "memory", "", "MiB that a caller may choose: MIN-MAX")
	cmd.Flags().StringVar(&f.timeout, "timeout", "", "seconds that a caller may choose: MIN-MAX")
	cmd.Flags().IntVar(&f.concurrency, "concurrency", 0, "runs of each caller at a time")
	cmd.Flags().Float64Var(&f.rate, "rate", 0, "runs of each caller in a second")
	cmd.Flags().Int64Var(&f.calls, "calls", 0, "runs of each caller in all")
	cmd.Flags().Float64Var(&f.markup, "markup", 0, "asked on top of what a run costs, as a share of it: 0.25 is a quarter")
	cmd.Flags().StringVar(&f.description, "description", "", "what it is, for whoever is to accept it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r, err := a.connect()
		if err != nil {
			return err
		}
		o := hearth.Offer{Function: args[0]}
		if update {
			all, err := r.control.Offers(cmd.Context())
			if err != nil {
				return r.failure("can't look up the offer", err)
			}
			o = hearth.Offer{}
			for _, one := range all.Own {
				if one.ID == args[0] {
					o = one
				}
			}
			if o.ID == "" {
				return usage("there is no offer "+args[0]+" of yours", "hearth offer lists those that there are.")
			}
		}
		if err := f.apply(cmd, &o); err != nil {
			return err
		}
		made, err := r.control.SetOffer(cmd.Context(), o)
		if err != nil {
			return r.failure("can't offer "+args[0], err)
		}
		if a.json {
			return a.printJSON(made)
		}
		fmt.Fprintln(a.out, made.ID)
		a.say("For %s: they accept it with: hearth shared-alias create NAME %s", grantees(&made), made.ID)
		return nil
	}
	return cmd
}

// apply puts what was said on the command line into o.
func (f *offerFlags) apply(cmd *cobra.Command, o *hearth.Offer) (err error) {
	said := cmd.Flags().Changed
	if said("to") {
		o.Accounts = nil
		for _, to := range f.to {
			o.Accounts = append(o.Accounts, hearth.Account(to))
		}
	}
	if said("public") {
		o.Public = f.public
	}
	if said("version") {
		o.Versions = f.versions
	}
	if said("parameter") {
		o.Parameters = nil
		for _, p := range f.parameters {
			one, err := parameterOf(p)
			if err != nil {
				return err
			}
			o.Parameters = append(o.Parameters, one)
		}
	}
	if said("reaches") {
		o.Reaches = f.reaches
	}
	if said("memory") {
		if o.MinMemoryMiB, o.MaxMemoryMiB, err = span(f.memory); err != nil {
			return usage("--memory "+f.memory+": "+err.Error(), "As in --memory 128-512.")
		}
	}
	if said("timeout") {
		if o.MinTimeoutSeconds, o.MaxTimeoutSeconds, err = span(f.timeout); err != nil {
			return usage("--timeout "+f.timeout+": "+err.Error(), "As in --timeout 1-30.")
		}
	}
	if said("concurrency") {
		o.Concurrency = f.concurrency
	}
	if said("rate") {
		o.Rate = f.rate
	}
	if said("calls") {
		o.Calls = f.calls
	}
	if said("markup") {
		o.Markup = f.markup
	}
	if said("description") {
		o.Description = f.description
	}
	return nil
}

// parameterOf reads NAME[:secret][:required][=DEFAULT].
func parameterOf(s string) (p hearth.Parameter, err error) {
	head, value, _ := strings.Cut(s, "=")
	p.Default = value
	words := strings.Split(head, ":")
	p.Name = words[0]
	for _, w := range words[1:] {
		switch w {
		case "secret":
			p.Secret = true
		case "required":
			p.Required = true
		default:
			return p, usage(fmt.Sprintf("--parameter %s: %q is neither secret nor required", s, w), "As in --parameter KEY:secret:required.")
		}
	}
	return p, nil
}

// span reads MIN-MAX, or one number for both.
func span(s string) (low, high int, err error) {
	from, to, two := strings.Cut(s, "-")
	if low, err = strconv.Atoi(from); err != nil {
		return 0, 0, fmt.Errorf("%q is no number", from)
	}
	if !two {
		return low, low, nil
	}
	if high, err = strconv.Atoi(to); err != nil {
		return 0, 0, fmt.Errorf("%q is no number", to)
	}
	return low, high, nil
}

func (a *app) offerGrantCmd() *cobra.Command {
	return a.onOffer("grant OFFER ACCOUNT", "Add an account to those that an offer is for", func(cmd *cobra.Command, r *remote, args []string) (hearth.Offer, error) {
		return r.control.GrantOffer(cmd.Context(), args[0], hearth.Account(args[1]))
	}, "is offered to")
}

func (a *app) offerRevokeCmd() *cobra.Command {
	return a.onOffer("revoke OFFER ACCOUNT", "Take an offer back from an account, whose next call is refused", func(cmd *cobra.Command, r *remote, args []string) (hearth.Offer, error) {
		return r.control.RevokeOffer(cmd.Context(), args[0], hearth.Account(args[1]))
	}, "is taken back from")
}

func (a *app) onOffer(use, short string, act func(*cobra.Command, *remote, []string) (hearth.Offer, error), did string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.connect()
			if err != nil {
				return err
			}
			o, err := act(cmd, r, args)
			if err != nil {
				return r.failure("can't change the offer", err)
			}
			if a.json {
				return a.printJSON(o)
			}
			fmt.Fprintf(a.out, "%s %s %s\n", o.ID, did, args[1])
			return nil
		},
	}
}

func (a *app) offerWithdrawCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "withdraw OFFER",
		Short: "End an offer: the next call of each of its aliases is refused",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.connect()
			if err != nil {
				return err
			}
			left, err := r.control.WithdrawOffer(cmd.Context(), args[0])
			if err != nil {
				return r.failure("can't withdraw "+args[0], err)
			}
			if a.json {
				return a.printJSON(left)
			}
			fmt.Fprintf(a.out, "%s is withdrawn\n", args[0])
			return nil
		},
	}
}

func (a *app) offerUsesCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "uses",
		Short: "Count the runs of your offers, and those that you have accepted",
		Long: `Count the runs of what the account offers and of what it has accepted, by caller,
with how they ended. There is nothing of what went in or came out.`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := a.connect()
			if err != nil {
				return err
			}
			list, err := r.control.SharedUses(cmd.Context())
			if err != nil {
				return r.failure("can't count the runs", err)
			}
			if a.json {
				return a.printJSON(list)
			}
			t := table{header: []string{"OFFER", "OWNER", "CALLER", "CALLS", "REFUSED", "OK", "ERROR", "MEMORY", "TIMEOUT", "CRASH"}}
			for _, u := range list.Uses {
				n := func(end string) string { return strconv.FormatInt(u.Ends[end], 10) }
				t.add(u.Offer, string(u.Owner), string(u.Account), strconv.FormatInt(u.Calls, 10), strconv.FormatInt(u.Refused, 10), n("ok"), n("error"), n("memory"), n("timeout"), n("crash"))
			}
			if len(t.rows) == 0 {
				a.say("Nothing that is shared has run.")
				return nil
			}
			t.print(a.out, a)
			return nil
		},
	}
}
