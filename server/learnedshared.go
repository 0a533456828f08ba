package server

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/taskset"
)

// shared tells, of what is run of one account by another, what both may know of
// it: how often, and how it ended. The caller is told by the name that it calls,
// the owner by its function.
// The error is that of resolving the name.
func (l learned) shared(account hearth.Account, name string, refused error) []control.Section {
	var says []string
	uses := l.s.shares.Uses(account)
	if a, err := l.s.shares.Alias(account, name); err == nil {
		says = append(says, fmt.Sprintf("it runs a function of the account %s, by %s", a.Owner, a.Offer))
		for _, u := range uses {
			if u.Account == account && u.Offer == a.Offer {
				says = append(says, "by that offer this account has called "+ran(u))
			}
		}
	}
	for _, o := range l.s.shares.Offers(account) {
		if o.Function != name {
			continue
		}
		for _, u := range uses {
			if u.Owner == account && u.Offer == o.ID {
				says = append(says, fmt.Sprintf("by %s the account %s has called it %s", o.ID, u.Account, ran(u)))
			}
		}
	}
	if alias, task, ok := strings.Cut(name, taskset.Separator); ok {
		if r, err := l.s.tasks.Subscription(account, alias); err == nil {
			says = append(says, fmt.Sprintf("it runs the task %s of the API %s of the account %s", task, r.API, r.Owner))
		}
	}
	if e, ok := errors.AsType[*hearth.Error](refused); ok {
		says = append(says, "a call of it is refused now: "+e.Message)
	}
	if says == nil {
		return nil
	}
	return []control.Section{{System: "shared", Says: says}}
}

// ran says how often something was called, and how that ended.
func ran(u hearth.SharedUse) string {
	ends := ""
	for _, end := range slices.Sorted(maps.Keys(u.Ends)) {
		ends += fmt.Sprintf(", %s %d", end, u.Ends[end])
	}
	if u.Refused > 0 {
		ends += fmt.Sprintf("; its limits refused %d more", u.Refused)
	}
	return fmt.Sprintf("%d times%s", u.Calls, ends)
}
