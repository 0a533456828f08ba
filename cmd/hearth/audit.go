package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hearth-faas/hearth/audit"
)

func (a *app) auditCmd() *cobra.Command {
	var f audit.Filter
	var since, mark string
	var verify bool
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Show who did what: the calls that change or look at what there is",
		Long: `Show the audit log: each call of the control plane, of every service, with who
made it, from where, on what, and what came of it; refused ones too. An account
sees what its own principals did, and what others did with what is its; the
operator's account sees everything.

  hearth audit --since 24h --errors
  hearth audit --who alice --action 'lambda:Delete*'
  hearth audit --verify                    is it whole, and as it was written?
  hearth audit --verify --mark MARK        and does it still hold what it held when MARK was given?`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := a.connect()
			if err != nil {
				return err
			}
			if verify {
				v, err := r.control.VerifyAudit(cmd.Context(), mark)
				if err != nil {
					return r.failure("can't have the audit log verified", err)
				}
				return a.printVerdict(v)
			}
			if f.Since, err = sinceTime(since, time.Now()); err != nil {
				return err
			}
			events, err := r.control.Audit(cmd.Context(), f)
			if err != nil {
				return r.failure("can't read the audit log", err)
			}
			if a.json {
				return a.printJSON(events)
			}
			if len(events) == 0 {
				a.say("Nothing is recorded that fits.")
				return nil
			}
			t := table{header: []string{"TIME", "WHO", "FROM", "ACTION", "RESOURCE", "OUTCOME"}}
			for i := len(events) - 1; i >= 0; i-- {
				t.add(auditRow(&events[i])...)
			}
			t.print(a.out, a)
			if len(events) == f.Limit {
				a.say("These are the newest %d; those before them: --before %d", f.Limit, events[len(events)-1].Seq)
			}
			return nil
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&since, "since", "", "only calls since then: a `time`, or a duration before now")
	fl.StringVar((*string)(&f.Account), "account", "", "only the `account`'s principals and resources")
	fl.StringVar(&f.Who, "who", "", "only principals or access keys with that `text` in them")
	fl.StringVar(&f.Action, "action", "", "only the `action`, with * for any text")
	fl.StringVar(&f.Resource, "resource", "", "only resources with that `text` in them")
	fl.BoolVar(&f.Errors, "errors", false, "only calls that failed or were refused")
	fl.IntVar(&f.Limit, "limit", 100, "the newest `number` of them, up to 1000")
	fl.Uint64Var(&f.Before, "before", 0, "only records before that `number`")
	fl.BoolVar(&verify, "verify", false, "check that nothing in the log was changed or taken out")
	fl.StringVar(&mark, "mark", "", "a `mark` that an earlier --verify gave")
	return cmd
}

func auditRow(e *audit.Event) []string {
	who := e.Principal
	if _, name, ok := strings.Cut(who, "::"); ok {
		who = name // the account and the principal's name
	}
	if who == "" {
		who = "unproven"
		if e.AccessKeyID != "" {
			who += " (" + e.AccessKeyID + ")"
		}
	}
	outcome := e.ErrorCode
	if outcome == "" {
		outcome = "ok"
	}
	if e.Times > 1 {
		outcome += fmt.Sprintf(" × %d", e.Times)
	}
	return []string{e.Time.Local().Format(time.DateTime), who, e.SourceIP, e.Action, e.Resource, outcome}
}

// errAltered is how hearth audit --verify ends where the log is not whole.
var errAltered = errors.New("the audit log is not as it was written")

func (a *app) printVerdict(v audit.Verdict) error {
	if a.json {
		if err := a.printJSON(v); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(a.out, "%d records, %d to %d\n", v.Records, v.First, v.Last)
		for _, w := range v.Wrong {
			fmt.Fprintln(a.out, "  "+w)
		}
	}
	if len(v.Wrong) > 0 {
		return failed("verified", errAltered, "Compare it with a backup of the data folder's audit folder.")
	}
	if !a.json {
		fmt.Fprintln(a.out, "nothing was changed or taken out")
		a.say("To find later that the whole log was put back to an older one, keep this elsewhere: --mark %s", v.Mark)
	}
	return nil
}
