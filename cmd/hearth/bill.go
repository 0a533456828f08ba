package main

import (
	"cmp"
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/meter"
)

func (a *app) billCmd() *cobra.Command {
	var q meter.Query
	var account string
	var asCSV bool
	cmd := &cobra.Command{
		Use:   "bill",
		Short: "What an account has used in a month, and what that costs",
		Long: `Show what the account has used in a month: processor time as the kernel has
counted it, memory, network and invocations, and what that costs by the
operator's prices. What other accounts have run of this account's code is on
their bills; here it is shown as revenue. The operator may see every account's.

  hearth bill                                 this month, by function
  hearth bill --month 2026-11 --by hour --csv > november.csv
  hearth bill --account all --by account      the operator's view
  hearth bill prices                          what things cost
  hearth bill prices set currency=EUR cpuSecond=0.00001 gibSecond=0.0000167 networkGB=0.09 call=0.0000002`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asCSV && a.json {
				return usage("--csv and --json at once", "Choose one.")
			}
			r, err := a.connect()
			if err != nil {
				return err
			}
			q.Account = hearth.Account(account)
			b, err := r.control.Bill(cmd.Context(), q)
			if err != nil {
				return r.failure("can't make the bill", err)
			}
			switch {
			case a.json:
				return a.printJSON(b)
			case asCSV:
				return writeBill(a.out, b)
			}
			a.printBill(b)
			return nil
		},
	}
	cmd.Flags().StringVar(&account, "account", "", "whose bill: an account's `ID`, or all (for the operator)")
	cmd.Flags().StringVar(&q.Month, "month", "", "`YYYY-MM`, of universal time (default: the present month)")
	cmd.Flags().StringVar(&q.By, "by", "function", "what a line is of: function, api, hour or account")
	cmd.Flags().BoolVar(&asCSV, "csv", false, "print comma-separated values")
	cmd.AddCommand(a.pricesCmd())
	return cmd
}

func (a *app) pricesCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "prices",
		Short: "Show what use costs, and has cost",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := a.connect()
			if err != nil {
				return err
			}
			lists, err := r.control.Prices(cmd.Context())
			if err != nil {
				return r.failure("can't find out about the prices", err)
			}
			return a.printPrices(lists)
		},
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "set NAME=VALUE...",
		Short: "Have prices hold from the present hour on (the operator alone may)",
		Long: `Set what a second of a processor (cpuSecond), a GiB of memory for a second of
run time (gibSecond), 10^9 bytes of network (networkGB) and an invocation (call)
cost, and the currency to print. What is not named costs nothing. What was used
in earlier hours keeps the price that it had.`,
		Args: between(1, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := pricesOf(args)
			if err != nil {
				return err
			}
			r, err := a.connect()
			if err != nil {
				return err
			}
			lists, err := r.control.SetPrices(cmd.Context(), p)
			if err != nil {
				return r.failure("can't set the prices", err)
			}
			return a.printPrices(lists)
		},
	})
	return cmd
}

// pricesOf reads NAME=VALUE arguments.
func pricesOf(args []string) (p meter.Prices, err error) {
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		field := map[string]*float64{"cpuSecond": &p.CPUSecond, "gibSecond": &p.GiBSecond, "networkGB": &p.NetworkGB, "call": &p.Call}[name]
		switch {
		case ok && name == "currency":
			p.Currency = value
		case !ok || field == nil:
			return p, usage(fmt.Sprintf("%q sets no price", arg), "The names are cpuSecond, gibSecond, networkGB, call and currency, as in cpuSecond=0.00001.")
		default:
			if *field, err = strconv.ParseFloat(value, 64); err != nil {
				return p, usage(fmt.Sprintf("%s: %q is no number", name, value), "As in "+name+"=0.00001.")
			}
		}
	}
	return p, nil
}

func (a *app) printPrices(lists []meter.Prices) error {
	if a.json {
		return a.printJSON(control.PriceList{Prices: lists})
	}
	if len(lists) == 0 {
		a.say("Nothing costs anything. Set prices with: hearth bill prices set cpuSecond=0.00001 …")
		return nil
	}
	t := table{header: []string{"FROM", "CPU SECOND", "GIB SECOND", "NETWORK GB", "CALL", "CURRENCY"}}
	for _, p := range lists {
		t.add(string(p.From)+":00Z", number(p.CPUSecond), number(p.GiBSecond), number(p.NetworkGB), number(p.Call), p.Currency)
	}
	t.print(a.out, a)
	return nil
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// lineNames are the columns that tell the lines of a bill apart.
func lineNames(b *meter.Bill) []string {
	names := map[string][]string{"function": {"FUNCTION"}, "api": {"OWNER", "API", "STAGE"}, "hour": {"HOUR"}}[b.By]
	if b.Account == "" || b.By == "account" {
		names = append([]string{"ACCOUNT"}, names...)
	}
	return names
}

// revenueNames are those of what others have run. Whose code it was goes without
// saying in an account's own bill.
func revenueNames(b *meter.Bill) []string {
	names := slices.DeleteFunc(lineNames(b), func(n string) bool { return n == "ACCOUNT" || n == "OWNER" })
	if b.By == "function" {
		names = []string{"ITS FUNCTION"}
	}
	names = append([]string{"ACCOUNT"}, names...)
	if b.Account == "" {
		names = append([]string{"OWNER"}, names...)
	}
	return names
}

func lineName(l *meter.Line, column string) string {
	switch column {
	case "ACCOUNT":
		return string(l.Account)
	case "OWNER":
		return string(l.Owner)
	case "ITS FUNCTION":
		return l.Function
	case "FUNCTION":
		if l.Owner != "" {
			return l.Function + " (of " + string(l.Owner) + ")"
		}
		return l.Function
	case "API":
		return l.API
	case "STAGE":
		return l.Stage
	}
	return string(l.Hour)
}

func (a *app) printBill(b *meter.Bill) {
	of := "account " + string(b.Account)
	if b.Account == "" {
		of = "all accounts"
	}
	fmt.Fprintf(a.out, "Bill of %s for %s, with everything until %s\n", of, b.Month, b.At.UTC().Format("2006-01-02 15:04:05Z"))
	cost := strings.TrimSpace("COST " + b.Currency)
	print := func(lines []meter.Line, total meter.Line, names []string, cost string) {
		t := table{header: append(append([]string{}, names...), "CALLS", "ERRORS", "STARTS", "CPU S", "GIB S", "HELD GIB S", "NET IN", "NET OUT", cost)}
		row := func(named []string, l *meter.Line) {
			t.add(append(named, strconv.FormatInt(l.Calls, 10), strconv.FormatInt(l.Errors, 10), strconv.FormatInt(l.Starts, 10),
				fmt.Sprintf("%.3f", l.CPUSeconds), fmt.Sprintf("%.3f", l.AllottedMiBSeconds/1024), fmt.Sprintf("%.3f", l.HeldMiBSeconds/1024),
				strconv.FormatInt(l.NetworkInBytes, 10), strconv.FormatInt(l.NetworkOutBytes, 10), strings.TrimSpace(fmt.Sprintf("%.6f %s", l.Cost, l.Currency)))...)
		}
		for _, l := range lines {
			var named []string
			for _, column := range names {
				named = append(named, lineName(&l, column))
			}
			row(named, &l)
		}
		sum := make([]string, len(names))
		sum[0] = "total"
		row(sum, &total)
		t.print(a.out, a)
	}
	print(b.Lines, b.Total, lineNames(b), cost)
	if len(b.Revenue) > 0 {
		fmt.Fprintln(a.out, "\nRevenue: what other accounts have run of this one's code, at their expense")
		print(b.Revenue, b.RevenueTotal, revenueNames(b), strings.TrimSpace("REVENUE "+b.Currency))
	}
	if other := func(l meter.Line) bool { return l.Currency != "" }; slices.ContainsFunc(b.Lines, other) || slices.ContainsFunc(b.Revenue, other) {
		a.say("The prices of the month were in several currencies: the totals' amounts are in %s alone.", b.Currency)
	}
	if b.Currency == "" && b.Total.Cost == 0 {
		a.say("No prices are set: see hearth bill prices --help.")
	}
}

// writeBill writes a bill for spreadsheets and other programs: every line with
// all names, those of revenue marked, and no totals.
func writeBill(w io.Writer, b *meter.Bill) error {
	out := csv.NewWriter(w)
	rows := [][]string{{"section", "month", "account", "function", "owner", "api", "stage", "hour", "calls", "errors", "starts", "busy_seconds",
		"cpu_seconds", "allotted_mib_seconds", "held_mib_seconds", "network_in_bytes", "network_out_bytes", "cost", "markup", "currency"}}
	for _, s := range []struct {
		name  string
		lines []meter.Line
	}{{"use", b.Lines}, {"revenue", b.Revenue}} {
		for _, l := range s.lines {
			rows = append(rows, []string{s.name, b.Month, string(l.Account), l.Function, string(l.Owner), l.API, l.Stage, string(l.Hour),
				strconv.FormatInt(l.Calls, 10), strconv.FormatInt(l.Errors, 10), strconv.FormatInt(l.Starts, 10), number(l.BusySeconds),
				number(l.CPUSeconds), number(l.AllottedMiBSeconds), number(l.HeldMiBSeconds),
				strconv.FormatInt(l.NetworkInBytes, 10), strconv.FormatInt(l.NetworkOutBytes, 10), number(l.Cost), number(l.Markup), cmp.Or(l.Currency, b.Currency)})
		}
	}
	return out.WriteAll(rows)
}
