package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/account"
	"github.com/hearth-faas/hearth/bus"
	"github.com/hearth-faas/hearth/schedule"
)

// belongings are those who keep things of accounts, in the order in which an
// account is emptied: what starts something before what it starts, and what
// uses something before what is used.
func (s *Server) belongings() []account.Holder {
	return []account.Holder{
		{What: "event source mappings", Names: s.mappingsOf, Clear: each(s.mappingsOf, func(ctx context.Context, a hearth.Account, id string) error {
			_, err := s.mappings.Delete(ctx, a, id)
			return err
		})},
		{What: "schedules", Names: s.schedulesOf, Clear: s.clearSchedules},
		{What: "rules", Names: s.rulesOf, Clear: s.clearRules},
		{What: "event buses", Names: s.busesOf, Clear: each(s.busesOf, s.buses.DeleteBus)},
		{What: "backfills", Names: s.backfillsOf, Clear: each(s.backfillsOf, s.clearBackfill)},
		{What: "proxy APIs and resources", Names: s.proxiesOf, Clear: func(ctx context.Context, a hearth.Account) error { return s.proxies.Clear(ctx, a) }},
		{What: "HTTP APIs", Names: s.httpAPIsOf, Clear: s.apis.DeleteAccount},
		{What: "functions", Names: s.functionNames, Clear: each(s.functionNames, func(ctx context.Context, a hearth.Account, name string) error {
			return s.registry.Delete(ctx, a, name, "")
		})},
		{What: "layers", Names: s.layersOf, Clear: each(s.layersOf, s.clearLayer)},
		{What: "code signing configurations", Names: s.signingOf, Clear: each(s.signingOf, s.signing.Delete)},
		{What: "capacity providers", Names: s.capacityOf, Clear: each(s.capacityOf, func(ctx context.Context, a hearth.Account, name string) error {
			_, err := s.capacity.Delete(ctx, a, name)
			return err
		})},
		{What: "event sources", Names: s.sourcesOf, Clear: each(s.sourcesOf, s.sources.Remove)},
		{What: "triggers", Names: s.triggersOf, Clear: each(s.triggersOf, s.predictor.RemoveTrigger)},
		{What: "queues", Names: s.queuesOf, Clear: each(s.queuesOf, s.queues.DeleteQueue)},
		{What: "roles and policies", Names: func(_ context.Context, a hearth.Account) ([]string, error) { return s.roles.Names(a), nil }, Clear: s.roles.Clear},
		// What follows is of what was there before: it does not keep an account
		// from being deleted, and goes with it.
		{What: "task APIs", Names: nothing, Clear: s.forgetTasks},
		{What: "shared functions", Names: nothing, Clear: s.shares.Forget},
		{What: "parked events", Names: nothing, Clear: s.clearParked},
		{What: "logs", Names: nothing, Clear: each(s.logGroupsOf, s.clearLogGroup)},
		{What: "execution policy", Names: nothing, Clear: func(ctx context.Context, a hearth.Account) error { return s.policies.Set(ctx, a, "", nil) }},
	}
}

// names lists what an account has of something.
type names = func(context.Context, hearth.Account) ([]string, error)

func nothing(context.Context, hearth.Account) ([]string, error) { return nil, nil }

// each deletes all that of lists. What is gone meanwhile is no error; what
// can't be deleted keeps nothing else from it.
func each(of names, remove func(context.Context, hearth.Account, string) error) func(context.Context, hearth.Account) error {
	return func(ctx context.Context, a hearth.Account) error {
		all, err := of(ctx, a)
		if err != nil {
			return err
		}
		var errs []error
		for _, name := range all {
			if err := remove(ctx, a, name); err != nil && hearth.KindOf(err) != hearth.NotFound {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
		}
		return errors.Join(errs...)
	}
}

// pages collects what page gives until there is no more; it is told where it
// left off.
func pages(page func(after string) (names []string, next string, err error)) (all []string, err error) {
	for after := ""; ; {
		some, next, err := page(after)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
		if next == "" {
			return all, nil
		}
		after = next
	}
}

// aPage is how much is asked for at a time.
const aPage = 50

func (s *Server) mappingsOf(_ context.Context, a hearth.Account) ([]string, error) {
	return pages(func(after string) (ids []string, next string, _ error) {
		list, more := s.mappings.List(a, "", "", after, aPage)
		for _, m := range list {
			ids = append(ids, m.ID)
		}
		if more {
			next = list[len(list)-1].ID
		}
		return ids, next, nil
	})
}

func (s *Server) schedulesOf(ctx context.Context, a hearth.Account) ([]string, error) {
	return pages(func(after string) (all []string, next string, _ error) {
		list, next, err := s.schedules.List(ctx, a, "", "", after, aPage, nil)
		for _, one := range list {
			all = append(all, one.Group+"/"+one.Name)
		}
		return all, next, err
	})
}

func (s *Server) clearSchedules(ctx context.Context, a hearth.Account) error {
	groups, err := pages(func(after string) (all []string, next string, _ error) {
		list, next, err := s.schedules.Groups(ctx, a, "", after, aPage)
		for _, g := range list {
			all = append(all, g.Name)
		}
		return all, next, err
	})
	if err != nil {
		return err
	}
	for _, g := range groups {
		if g == schedule.DefaultGroup {
			continue
		}
		if err := s.schedules.DeleteGroup(ctx, a, g); err != nil && hearth.KindOf(err) != hearth.NotFound {
			return err
		}
	}
	for {
		list, _, err := s.schedules.List(ctx, a, "", "", "", aPage, nil)
		if err != nil || len(list) == 0 {
			return err
		}
		for _, one := range list {
			if err := s.schedules.Delete(ctx, a, one.Group, one.Name); err != nil && hearth.KindOf(err) != hearth.NotFound {
				return err
			}
		}
	}
}

// everyBus are an account's buses, with the default one.
func (s *Server) everyBus(ctx context.Context, a hearth.Account) ([]string, error) {
	return pages(func(after string) (all []string, next string, _ error) {
		list, next, err := s.buses.List(ctx, a, "", after, aPage)
		for _, b := range list {
			all = append(all, b.Name)
		}
		return all, next, err
	})
}

func (s *Server) busesOf(ctx context.Context, a hearth.Account) (own []string, err error) {
	all, err := s.everyBus(ctx, a)
	for _, name := range all {
		if name != bus.DefaultBus {
			own = append(own, name)
		}
	}
	return own, err
}

// everyRule shows look each of an account's rules.
func (s *Server) everyRule(ctx context.Context, a hearth.Account, look func(*bus.Rule) error) error {
	buses, err := s.everyBus(ctx, a)
	if err != nil {
		return err
	}
	for _, b := range buses {
		var all []*bus.Rule
		_, err := pages(func(after string) ([]string, string, error) {
			list, next, err := s.buses.Rules(ctx, a, b, "", after, aPage, nil)
			all = append(all, list...)
			return nil, next, err
		})
		if err != nil {
			return err
		}
		for _, r := range all {
			if err := look(r); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Server) rulesOf(ctx context.Context, a hearth.Account) (all []string, err error) {
	err = s.everyRule(ctx, a, func(r *bus.Rule) error {
		all = append(all, r.Bus+"/"+r.Name)
		return nil
	})
	return all, err
}

func (s *Server) clearRules(ctx context.Context, a hearth.Account) error {
	return s.everyRule(ctx, a, func(r *bus.Rule) error {
		err := s.buses.Change(ctx, a, r.Bus, r.Name, func(r *bus.Rule) error {
			r.Targets = nil
			return nil
		})
		if err == nil {
			err = s.buses.DeleteRule(ctx, a, r.Bus, r.Name)
		}
		if hearth.KindOf(err) == hearth.NotFound {
			return nil
		}
		return err
	})
}

func (s *Server) backfillsOf(_ context.Context, a hearth.Account) (ids []string, _ error) {
	for _, b := range s.backfills.List(a) {
		ids = append(ids, b.ID)
	}
	return ids, nil
}

func (s *Server) clearBackfill(ctx context.Context, a hearth.Account, id string) error {
	// One that does not run can't be canceled, and need not be.
	if err := s.backfills.Cancel(ctx, a, id); err != nil && hearth.KindOf(err) != hearth.Conflict {
		return err
	}
	return s.backfills.Remove(ctx, a, id)
}

func (s *Server) functionNames(ctx context.Context, a hearth.Account) ([]string, error) {
	return pages(func(after string) (all []string, next string, _ error) {
		list, next, err := s.registry.List(ctx, a, after, aPage, false)
		for _, f := range list {
			all = append(all, f.Name)
		}
		return all, next, err
	})
}

func (s *Server) layersOf(_ context.Context, a hearth.Account) ([]string, error) {
	return pages(func(after string) (all []string, next string, _ error) {
		list, next, err := s.registry.Layers(a, "", "", after, aPage)
		for _, l := range list {
			all = append(all, l.Name)
		}
		return all, next, err
	})
}

func (s *Server) clearLayer(ctx context.Context, a hearth.Account, name string) error {
	for {
		list, _, err := s.registry.LayerVersions(a, name, "", "", "", aPage)
		if err != nil || len(list) == 0 {
			return err
		}
		for _, v := range list {
			if err := s.registry.DeleteLayerVersion(ctx, a, name, v.Version); err != nil && hearth.KindOf(err) != hearth.NotFound {
				return err
			}
		}
	}
}

func (s *Server) signingOf(_ context.Context, a hearth.Account) ([]string, error) {
	return pages(func(after string) (ids []string, next string, _ error) {
		list, more := s.signing.List(a, after, aPage)
		for _, c := range list {
			ids = append(ids, c.ID)
		}
		if more {
			next = list[len(list)-1].ID
		}
		return ids, next, nil
	})
}

func (s *Server) capacityOf(_ context.Context, a hearth.Account) (all []string, _ error) {
	for p := range s.capacity.List(a, "") {
		all = append(all, p.Name)
	}
	return all, nil
}

func (s *Server) sourcesOf(_ context.Context, a hearth.Account) (all []string, _ error) {
	for _, one := range s.sources.List(a) {
		all = append(all, one.Name)
	}
	return all, nil
}

func (s *Server) triggersOf(_ context.Context, a hearth.Account) (all []string, _ error) {
	for _, t := range s.predictor.Triggers(a) {
		all = append(all, t.Name)
	}
	return all, nil
}

func (s *Server) queuesOf(_ context.Context, a hearth.Account) ([]string, error) {
	return pages(func(after string) (all []string, next string, _ error) {
		all, more := s.queues.List(a, "", after, aPage)
		if more {
			next = all[len(all)-1]
		}
		return all, next, nil
	})
}

func (s *Server) logGroupsOf(ctx context.Context, a hearth.Account) ([]string, error) {
	return pages(func(after string) (all []string, next string, _ error) {
		list, next, err := s.logs.Groups(ctx, a, "", after, aPage)
		for _, g := range list {
			all = append(all, g.Name)
		}
		return all, next, err
	})
}

func (s *Server) clearLogGroup(ctx context.Context, a hearth.Account, name string) error {
	if err := s.logs.Protect(ctx, a, name, false); err != nil {
		return err
	}
	return s.logs.DeleteGroup(ctx, a, name)
}

// clearParked forgets what was given up, and what waits to be delivered: its
// targets are gone.
func (s *Server) clearParked(ctx context.Context, a hearth.Account) error {
	return errors.Join(s.async.Forget(ctx, a), s.deliveries.Forget(ctx, a))
}
