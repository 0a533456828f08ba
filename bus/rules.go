package bus

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/schedule"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/tags"
)

func noRule(name, bus string) error {
	return hearth.Errorf(hearth.NotFound, "Rule %s does not exist on EventBus %s.", name, bus)
}

// base is what a rate counts from.
func (r *Rule) base(e *schedule.Expression) time.Time { return r.Set.Add(e.Rate()) }

// PutRule makes a rule or replaces one, whose targets stay, and whose tags
// those of n do not change. Errors: Validation, InvalidEventPattern,
// ResourceNotFound for the bus, LimitExceeded.
func (b *Buses) PutRule(ctx context.Context, n Rule) (*Rule, error) {
	n.State = cmp.Or(n.State, Enabled)
	n.Region = b.cfg.Region
	e, err := n.check()
	if err != nil {
		return nil, err
	}
	if err := tags.Check(n.Tags); err != nil {
		return nil, invalid("%s", err)
	}
	if n.Role != "" && b.cfg.Role != nil {
		if err := b.cfg.Role(n.Account, n.Role, n.ARN()); err != nil {
			return nil, err
		}
	}
	k := ruleKey(n.Account, n.Bus, n.Name)
	made := n
	err = b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		made = n
		if _, err := b.busOf(tx, n.Account, n.Bus); err != nil {
			return err
		}
		old, err := get[Rule](tx, rulesBucket, k)
		if err != nil {
			return err
		}
		now := b.now()
		made.Created, made.Set = now, now.Truncate(time.Second)
		var was time.Time
		if old == nil {
			others, _, err := scan[Rule](tx, rulesBucket, ruleKey(n.Account, n.Bus, ""), "", MaxRules, nil)
			if err != nil {
				return err
			}
			if len(others) == MaxRules {
				return hearth.Errorf(hearth.LimitExceeded, "The requested resource exceeds the maximum number allowed: an event bus can have %d rules.", MaxRules)
			}
		} else {
			was = old.Next
			made.Targets, made.Tags, made.Created = old.Targets, old.Tags, old.Created
			if made.Schedule == old.Schedule {
				made.Set = old.Set
			}
		}
		return b.write(tx, &made, e, was, now)
	})
	if err != nil {
		return nil, stored("PutRule", err)
	}
	b.cfg.Timers.Wake()
	return &made, nil
}

// write writes a rule and its timer, as part of a transaction. e is its
// schedule, nil if it has none.
func (b *Buses) write(tx store.Tx, r *Rule, e *schedule.Expression, was, now time.Time) error {
	r.Next = time.Time{}
	if e != nil && r.Enabled() {
		if t, ok := e.Next(now, r.base(e)); ok {
			r.Next = t.UTC()
		}
	}
	k := ruleKey(r.Account, r.Bus, r.Name)
	if err := put(tx, rulesBucket, k, r); err != nil {
		return err
	}
	if err := b.cfg.Timers.Set(tx, Kind, k, was, r.Next); err != nil {
		return err
	}
	return changed(tx, r.Account, r.Bus)
}

// Change changes a rule's state, targets or tags. Errors: ResourceNotFound,
// Validation, and those of change.
func (b *Buses) Change(ctx context.Context, account hearth.Account, bus, name string, change func(*Rule) error) error {
	err := b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		if _, err := b.busOf(tx, account, bus); err != nil {
			return err
		}
		r, err := get[Rule](tx, rulesBucket, ruleKey(account, bus, name))
		if err != nil || r == nil {
			return cmp.Or(err, noRule(name, bus))
		}
		was := r.Next
		if err := change(r); err != nil {
			return err
		}
		e, err := r.check()
		if err != nil {
			return err
		}
		return b.write(tx, r, e, was, b.now())
	})
	b.cfg.Timers.Wake()
	return stored("Change", err)
}

// PutTargets adds targets to a rule, or replaces those of the same ids. What
// is wrong with one is told by its place in the list; the others are put.
// Errors: ResourceNotFound, LimitExceeded.
func (b *Buses) PutTargets(ctx context.Context, account hearth.Account, bus, name string, ts []Target) (wrong []error, err error) {
	wrong = make([]error, len(ts))
	for i := range ts {
		wrong[i] = ts[i].check(account)
		if wrong[i] == nil && ts[i].Role != "" && b.cfg.Role != nil {
			wrong[i] = b.cfg.Role(account, ts[i].Role, (&Rule{Account: account, Bus: bus, Name: name, Region: b.cfg.Region}).ARN())
		}
	}
	err = b.Change(ctx, account, bus, name, func(r *Rule) error {
		targets := slices.Clone(r.Targets)
		for i, t := range ts {
			if wrong[i] != nil {
				continue
			}
			targets = slices.DeleteFunc(targets, func(o Target) bool { return o.ID == t.ID })
			targets = append(targets, t)
		}
		if len(targets) > MaxTargets && len(targets) > len(r.Targets) {
			return hearth.Errorf(hearth.LimitExceeded, "The requested resource exceeds the maximum number allowed: a rule can have %d targets.", MaxTargets)
		}
		slices.SortFunc(targets, func(a, b Target) int { return strings.Compare(a.ID, b.ID) })
		r.Targets = targets
		return nil
	})
	return wrong, err
}

// DeleteRule removes a rule; that there is none is no error. Errors:
// Validation for one that has targets, ResourceNotFound for the bus.
func (b *Buses) DeleteRule(ctx context.Context, account hearth.Account, bus, name string) error {
	k := ruleKey(account, bus, name)
	err := b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		if _, err := b.busOf(tx, account, bus); err != nil {
			return err
		}
		r, err := get[Rule](tx, rulesBucket, k)
		switch {
		case err != nil || r == nil:
			return err
		case len(r.Targets) > 0:
			return invalid("Rule can't be deleted since it has targets.")
		}
		if err := b.cfg.Timers.Set(tx, Kind, k, r.Next, time.Time{}); err != nil {
			return err
		}
		if err := tx.Delete(rulesBucket, k); err != nil {
			return err
		}
		return changed(tx, account, bus)
	})
	return stored("DeleteRule", err)
}

// Rule returns a rule. Errors: ResourceNotFound.
func (b *Buses) Rule(ctx context.Context, account hearth.Account, bus, name string) (r *Rule, err error) {
	err = b.cfg.Store.View(ctx, func(tx store.Reader) error {
		if _, err := b.busOf(tx, account, bus); err != nil {
			return err
		}
		r, err = get[Rule](tx, rulesBucket, ruleKey(account, bus, name))
		if err == nil && r == nil {
			err = noRule(name, bus)
		}
		return err
	})
	return r, stored("Rule", err)
}

// Rules lists a bus's rules that fit, as List does buses.
func (b *Buses) Rules(ctx context.Context, account hearth.Account, bus, names, after string, max int, fits func(*Rule) bool) (list []*Rule, last string, err error) {
	prefix := ruleKey(account, bus, "")
	if after != "" && !strings.HasPrefix(after, prefix) {
		return nil, "", invalid("Parameter NextToken is not valid.")
	}
	err = b.cfg.Store.View(ctx, func(r store.Reader) error {
		if _, err := b.busOf(r, account, bus); err != nil {
			return err
		}
		list, last, err = scan(r, rulesBucket, prefix+names, after, max, fits)
		return err
	})
	return list, last, stored("Rules", err)
}
