package taskset

import (
	"cmp"
	"context"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/sandbox/egress/allow"
	"github.com/hearth-faas/hearth/share"
)

// What an owner does. Errors everywhere: InvalidParameterValue, and
// ResourceNotFound of an API that the account has not.

// What an account may have at most.
const (
	maxAPIs     = 200
	maxVersions = 100 // that no stage is at go, the oldest first
	maxTasks    = 100
	maxStages   = 20
	maxAccounts = 1000
	maxText     = 1024
	maxMarkup   = 100
)

var (
	apiName   = regexp.MustCompile(`^[a-z0-9](-?[a-z0-9]){0,31}$`)
	taskName  = regexp.MustCompile(`^[A-Za-z0-9]([-_]?[A-Za-z0-9]){0,29}$`)
	stageName = regexp.MustCompile(`^[A-Za-z]([-_]?[A-Za-z0-9]){0,31}$`)
	account12 = regexp.MustCompile(`^[0-9]{12}$`)
)

func invalid(format string, args ...any) error {
	return hearth.Errorf(hearth.InvalidParameter, format, args...)
}

func noAPI(name string) error {
	return hearth.Errorf(hearth.NotFound, "The account has no task API %q.", name)
}

// Create makes an API without tasks.
func (s *Sets) Create(ctx context.Context, owner hearth.Account, name, description string, settings Settings) (*API, error) {
	if !apiName.MatchString(name) || len(name) > 32 {
		return nil, invalid("name: %q is no name of an API: small letters and digits, with single dashes between, up to 32.", name)
	}
	if len(description) > maxText {
		return nil, invalid("description: it has more than %d bytes.", maxText)
	}
	if err := settings.check(owner); err != nil {
		return nil, err
	}
	n := 0
	for range s.apis.Scan(string(owner)+"/", "") {
		n++
	}
	if n >= maxAPIs {
		return nil, invalid("The account has %d task APIs, which is the limit.", maxAPIs)
	}
	return s.change(ctx, owner, name, func(was *API) (*API, error) {
		if was != nil {
			return nil, hearth.Errorf(hearth.Conflict, "The account has a task API %s already.", name)
		}
		return &API{Format: format, ID: uuid.NewString(), Owner: owner, Name: name, Description: description, Settings: settings,
			Stages: map[string]int{}, Created: s.now()}, nil
	})
}

// change replaces an API's record, and then the state.
func (s *Sets) change(ctx context.Context, owner hearth.Account, name string, change func(was *API) (*API, error)) (*API, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	a, err := s.apis.Change(ctx, key{owner, name}.String(), func(was *API) (*API, error) {
		a, err := change(was)
		if a != nil && a != was && err == nil {
			a.Updated = s.now()
		}
		return a, err
	})
	if err != nil {
		return nil, stored(err)
	}
	s.renew()
	return a, nil
}

// alter is change of an API that must be there; it is given a copy.
func (s *Sets) alter(ctx context.Context, owner hearth.Account, name string, alter func(a *API) error) (*API, error) {
	return s.change(ctx, owner, name, func(was *API) (*API, error) {
		if was == nil {
			return nil, noAPI(name)
		}
		a := *was
		a.Versions = slices.Clone(was.Versions)
		a.Stages = map[string]int{}
		for stage, n := range was.Stages {
			a.Stages[stage] = n
		}
		return &a, alter(&a)
	})
}

// stored is what a caller is told of an error of the store.
func stored(err error) error {
	if hearth.KindOf(err) != "" && hearth.KindOf(err) != hearth.Service {
		return err
	}
	return hearth.Errorf(hearth.Service, "The change could not be stored: %w", err)
}

// Configure replaces an API's settings. They hold for the next call.
func (s *Sets) Configure(ctx context.Context, owner hearth.Account, name string, settings Settings) (*API, error) {
	if err := settings.check(owner); err != nil {
		return nil, err
	}
	return s.alter(ctx, owner, name, func(a *API) error {
		if _, ok := a.Stages[settings.Stage]; settings.Stage != "" && !ok {
			return invalid("stage: the API %s has no stage %s.", name, settings.Stage)
		}
		a.Settings = settings
		return nil
	})
}

// check tells what is wrong with settings.
func (c *Settings) check(owner hearth.Account) error {
	if !(c.Markup >= 0 && c.Markup <= maxMarkup) {
		return invalid("markup: %v is not from 0 to %d.", c.Markup, maxMarkup)
	}
	if len(c.Accounts) > maxAccounts {
		return invalid("accounts: there are %d, and %d is the limit.", len(c.Accounts), maxAccounts)
	}
	for _, a := range c.Accounts {
		if !account12.MatchString(string(a)) || a == owner {
			return invalid("accounts: %q is no other account: it takes twelve digits.", a)
		}
	}
	if _, err := allow.Parse(c.Reaches); err != nil {
		return invalid("reaches: %v.", err)
	}
	if c.KeyQuota.CPUSeconds != 0 || c.KeyQuota.Concurrency != 0 {
		return invalid("keyQuota: cpuSeconds and concurrency are for subscriptions: of keys only how often they are used is counted.")
	}
	if err := c.Quota.check("quota"); err != nil {
		return err
	}
	return c.KeyQuota.check("keyQuota")
}

func (q *Quota) check(what string) error {
	for name, v := range map[string]float64{"rate": q.Rate, "burst": float64(q.Burst), "concurrency": float64(q.Concurrency),
		"day": float64(q.Day), "month": float64(q.Month), "cpuSeconds": q.CPUSeconds} {
		if !(v >= 0) || math.IsInf(v, 0) {
			return invalid("%s: %s is %v; it takes a number from 0, which is no bound.", what, name, v)
		}
	}
	if q.Burst > 0 && q.Rate == 0 {
		return invalid("%s: a burst needs a rate.", what)
	}
	return nil
}

// TaskChange is what an owner changes of a set, all at once.
type TaskChange struct {
	Description string   `json:"description,omitempty"` // of the version that it makes
	Set         []Task   `json:"set,omitempty"`         // one without a version: its function's code as it is now
	Remove      []string `json:"remove,omitempty"`
	// Parameters replace those that there are; nil leaves them.
	Parameters *[]hearth.Parameter `json:"parameters,omitempty"`
}

// Put makes a new version of the set: that of the stage, or none of none, with
// some tasks set, others removed and perhaps other parameters, and puts the stage
// at it, all at once. A version that is the same as the stage's is the stage's.
func (s *Sets) Put(ctx context.Context, owner hearth.Account, name, stage string, c TaskChange) (*API, error) {
	set := slices.Clone(c.Set)
	if s.apis.Get(key{owner, name}.String()) == nil {
		return nil, noAPI(name)
	}
	if len(c.Description) > maxText {
		return nil, invalid("description: it has more than %d bytes.", maxText)
	}
	if c.Parameters != nil {
		if err := share.CheckParameters(*c.Parameters); err != nil {
			return nil, err
		}
	}
	for i, t := range set {
		if !taskName.MatchString(t.Name) || len(t.Name) > 30 {
			return nil, invalid("tasks: %q is no name of a task: letters and digits, with single dashes or underscores between, up to 30.", t.Name)
		}
		if slices.ContainsFunc(set[:i], func(o Task) bool { return o.Name == t.Name }) || slices.Contains(c.Remove, t.Name) {
			return nil, invalid("tasks: %s is there twice.", t.Name)
		}
		full, err := s.member(ctx, owner, t)
		if err != nil {
			return nil, err
		}
		set[i] = full
	}
	return s.alter(ctx, owner, name, func(a *API) error {
		stage := cmp.Or(stage, a.defaultStage())
		var was Version
		now, staged := a.Stages[stage]
		for _, v := range a.Versions {
			if staged && v.Number == now {
				was = v
			}
		}
		tasks, parameters := slices.Clone(was.Tasks), was.Parameters
		if c.Parameters != nil {
			parameters = *c.Parameters
		}
		for _, gone := range c.Remove {
			i := slices.IndexFunc(tasks, func(t Task) bool { return t.Name == gone })
			if i < 0 {
				return hearth.Errorf(hearth.NotFound, "The stage %s of %s has no task %q.", stage, name, gone)
			}
			tasks = slices.Delete(tasks, i, i+1)
		}
		for _, t := range set {
			tasks = slices.DeleteFunc(tasks, func(o Task) bool { return o.Name == t.Name })
			tasks = append(tasks, t)
		}
		slices.SortFunc(tasks, func(a, b Task) int { return cmp.Compare(a.Name, b.Name) })
		switch {
		case len(tasks) > maxTasks:
			return invalid("tasks: there would be %d, and %d is the limit.", len(tasks), maxTasks)
		case staged && slices.Equal(tasks, was.Tasks) && slices.Equal(parameters, was.Parameters):
			return nil
		}
		a.Last++
		a.Versions = append(a.Versions, Version{Number: a.Last, Description: c.Description, Tasks: tasks, Parameters: parameters, Created: s.now()})
		if err := a.point(stage, a.Last); err != nil {
			return err
		}
		a.trim()
		return nil
	})
}

// point puts a stage at a version.
func (a *API) point(stage string, number int) error {
	switch _, staged := a.Stages[stage]; {
	case !stageName.MatchString(stage) || len(stage) > 32:
		return invalid("stage: %q is no name of a stage: a letter, then letters and digits, with single dashes or underscores between, up to 32.", stage)
	case !staged && len(a.Stages) >= maxStages:
		return invalid("stage: the API has %d stages, which is the limit.", maxStages)
	}
	a.Stages[stage] = number
	return nil
}

// trim forgets the oldest versions that no stage is at.
func (a *API) trim() {
	over := len(a.Versions) - maxVersions
	a.Versions = slices.DeleteFunc(a.Versions, func(v Version) bool {
		if over <= 0 {
			return false
		}
		for _, n := range a.Stages {
			if n == v.Number {
				return false
			}
		}
		over--
		return true
	})
}

// member is a task as it is kept: of a published version that others may run.
func (s *Sets) member(ctx context.Context, owner hearth.Account, t Task) (Task, error) {
	f, err := s.cfg.Functions.Resolve(ctx, owner, t.Function, t.Version)
	if err != nil {
		return t, err
	}
	if err := share.Offerable(f); err != nil {
		return t, err
	}
	t.Version = f.Version
	if _, err := strconv.Atoi(t.Version); err == nil {
		return t, nil
	}
	if f.Version != hearth.Latest || s.cfg.Publish == nil {
		return t, invalid("tasks: %s is to be a published version, such as %s:1.", t.Name, t.Function)
	}
	t.Version, err = s.cfg.Publish(ctx, owner, t.Function)
	return t, err
}

// Point puts a stage at a version that there is, such as an earlier one. With
// number 0 the stage is removed.
func (s *Sets) Point(ctx context.Context, owner hearth.Account, name, stage string, number int) (*API, error) {
	return s.alter(ctx, owner, name, func(a *API) error {
		if number == 0 {
			switch _, ok := a.Stages[stage]; {
			case !ok:
				return hearth.Errorf(hearth.NotFound, "The API %s has no stage %q.", name, stage)
			case stage == a.defaultStage() && len(a.Stages) > 1:
				return invalid("stage: %s is the one that calls without one are for: have another be that first.", stage)
			}
			delete(a.Stages, stage)
			return nil
		}
		if !slices.ContainsFunc(a.Versions, func(v Version) bool { return v.Number == number }) {
			return hearth.Errorf(hearth.NotFound, "The API %s has no version %d.", name, number)
		}
		return a.point(stage, number)
	})
}

// Delete removes an API: calls are refused from now on.
func (s *Sets) Delete(ctx context.Context, owner hearth.Account, name string) error {
	id := ""
	_, err := s.change(ctx, owner, name, func(was *API) (*API, error) {
		if was == nil {
			return nil, noAPI(name)
		}
		id = was.ID
		return nil, nil
	})
	if err != nil {
		return err
	}
	for c := range s.counts.Scan(id+"/", "") {
		s.forget(ctx, c)
	}
	return nil
}

// API is an account's own API of a name.
func (s *Sets) API(owner hearth.Account, name string) (*API, error) {
	a := s.apis.Get(key{owner, name}.String())
	if a == nil {
		return nil, noAPI(name)
	}
	return a, nil
}

// APIs are an account's own, by name.
func (s *Sets) APIs(owner hearth.Account) (all []*API) {
	for _, a := range s.apis.Scan(string(owner)+"/", "") {
		all = append(all, a)
	}
	return all
}

// Subscribers are the subscriptions to an owner's API, without what is the
// subscribers' own business.
func (s *Sets) Subscribers(owner hearth.Account, name string) (all []*Subscription) {
	for _, u := range s.state.Load().subs {
		if u.Owner == owner && u.API == name {
			shown := s.shown(u)
			shown.Network, shown.Keys, shown.Alias, shown.Set = nil, nil, "", nil
			all = append(all, shown)
		}
	}
	slices.SortFunc(all, func(a, b *Subscription) int { return strings.Compare(string(a.Account), string(b.Account)) })
	return all
}

// Approve lets an account in that has asked or was thrown out, with a quota of
// its own or the API's.
func (s *Sets) Approve(ctx context.Context, owner hearth.Account, name string, account hearth.Account, quota *Quota) (*API, error) {
	if quota != nil {
		if err := quota.check("quota"); err != nil {
			return nil, err
		}
	}
	if err := s.decide(ctx, owner, name, account, Active, quota); err != nil {
		return nil, err
	}
	return s.alter(ctx, owner, name, func(a *API) error {
		a.Except = slices.DeleteFunc(slices.Clone(a.Except), func(o hearth.Account) bool { return o == account })
		return nil
	})
}

// Deny says no to an account that has asked.
func (s *Sets) Deny(ctx context.Context, owner hearth.Account, name string, account hearth.Account) error {
	return s.decide(ctx, owner, name, account, Denied, nil)
}

// Withdraw takes access back from an account: its calls are refused from now on,
// and asking again does not help. What was let in before runs to its end.
func (s *Sets) Withdraw(ctx context.Context, owner hearth.Account, name string, account hearth.Account) (*API, error) {
	return s.alter(ctx, owner, name, func(a *API) error {
		if !account12.MatchString(string(account)) {
			return invalid("account: %q is no account: it takes twelve digits.", account)
		}
		if !slices.Contains(a.Except, account) {
			if len(a.Except) >= maxAccounts {
				return invalid("account: access was withdrawn from %d accounts, which is the limit.", maxAccounts)
			}
			a.Except = append(slices.Clone(a.Except), account)
		}
		return nil
	})
}

// decide sets the status of an account's subscription to an owner's API.
func (s *Sets) decide(ctx context.Context, owner hearth.Account, name string, account hearth.Account, status Status, quota *Quota) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	if s.apis.Get(key{owner, name}.String()) == nil {
		return noAPI(name)
	}
	for _, u := range s.state.Load().subs {
		if u.Owner != owner || u.API != name || u.Account != account || u.api == nil {
			continue
		}
		_, err := s.subs.Change(ctx, key{account, u.Alias}.String(), func(was *Subscription) (*Subscription, error) {
			r := *was
			r.Status, r.Updated = status, s.now()
			r.Quota = quota
			return &r, nil
		})
		if err != nil {
			return stored(err)
		}
		s.renew()
		return nil
	}
	return hearth.Errorf(hearth.NotFound, "The account %s has not asked for the API %s.", account, name)
}
