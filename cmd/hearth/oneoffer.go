package main

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
)

// printOffer shows one offer whole: what whoever is to accept it has to know.
func (a *app) printOffer(r *remote, all *control.Offers, id string) error {
	var o *hearth.Offer
	mine := false
	for i := range all.Own {
		if all.Own[i].ID == id {
			o, mine = &all.Own[i], true
		}
	}
	for i := range all.Offered {
		if all.Offered[i].ID == id {
			o = &all.Offered[i]
		}
	}
	if o == nil {
		return &failure{thing: "there is no offer " + plain(id) + " of yours or for you", way: "hearth offer" + r.dataFlag() + " lists those that there are."}
	}
	if a.json {
		return a.printJSON(o)
	}
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(a.out, "  %-11s %s\n", name, value)
		}
	}
	of := "a function of yours"
	if !mine {
		of = "a function of the account " + string(o.Owner)
	}
	fmt.Fprintf(a.out, "%s  %s, %s\n", a.bold(o.ID), o.Function, of)
	line("what it is", plain(o.Description))
	if mine {
		line("for", grantees(o))
	}
	line("versions", strings.Join(o.Versions, " ")+", of which the first runs unless another is pinned")
	line("memory", within(o.MinMemoryMiB, o.MaxMemoryMiB, hearth.MinMemoryMiB, "MiB"))
	line("timeout", within(o.MinTimeoutSeconds, o.MaxTimeoutSeconds, 1, "seconds"))
	for _, p := range o.Parameters {
		var words []string
		switch {
		case p.Required && p.Default == "":
			words = append(words, "must be set")
		case p.Default != "":
			words = append(words, strconv.Quote(p.Default)+" unless it is set")
		default:
			words = append(words, "may be set")
		}
		if p.Secret {
			words = append(words, "secret")
		}
		if p.Description != "" {
			words = append(words, plain(p.Description))
		}
		line("parameter", p.Name+": "+strings.Join(words, ", "))
	}
	line("reaches", reaches(hearth.NetworkPolicy{Allow: o.Reaches})+" of the network, unless the caller says otherwise")
	line("limits", limits(o))
	line("costs", strings.Replace(markedUp(&o.Markup), "at most ", "", 1)+", at the caller's expense")
	if !mine {
		a.say("Accept it with: hearth shared-alias create NAME %s%s", o.ID, r.dataFlag())
	}
	return nil
}

func within(low, high, least int, unit string) string {
	if high == 0 {
		return "the function's own"
	}
	return fmt.Sprintf("%d to %d %s, as the caller says", max(low, least), high, unit)
}

// limits are those of each caller.
func limits(o *hearth.Offer) string {
	var all []string
	if o.Concurrency > 0 {
		all = append(all, fmt.Sprintf("%d runs at a time", o.Concurrency))
	}
	if o.Rate > 0 {
		all = append(all, number(o.Rate)+" runs a second")
	}
	if o.Calls > 0 {
		all = append(all, fmt.Sprintf("%d runs in all", o.Calls))
	}
	return strings.Join(all, ", ")
}

// plain is another account's text without what a terminal would take for
// commands.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}
