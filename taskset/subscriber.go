package taskset

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/sandbox/egress/allow"
	"github.com/hearth-faas/hearth/share"
)

// What a subscriber does.

const (
	maxSubscriptions = 500
	maxKeys          = 100
)

// keyPrefix begins a key's secret, so that a leaked one is recognised.
const keyPrefix = "hk-"

// Separator stands between a subscription's alias and a task's name.
const Separator = "--"

func noSubscription(alias string) error {
	return hearth.Errorf(hearth.NotFound, "The account has no subscription %q.", alias)
}

// TaskWish is what a subscriber asks for beside access.
type TaskWish struct {
	// Network is what the tasks may reach. nil leaves it, or of a new
	// subscription is what the API says that they need; AsOffered is what it says
	// now, whatever there was.
	Network   *hearth.NetworkPolicy `json:"network,omitempty"`
	AsOffered bool                  `json:"asOffered,omitempty"`
	// Markup is the most that is agreed to of what the API asks on top of what a
	// run costs. nil leaves it, or of a new subscription is what the API asks.
	Markup *float64 `json:"markup,omitempty"`
	// Parameters are set by name. Those that are not named stay as they are, and
	// nil takes one away.
	Parameters map[string]*string `json:"parameters,omitempty"`
}

// Subscribe asks for access to an owner's API, under a name of the account's own
// ("" is the API's): for all its tasks, in one operation. It is active at once if
// the owner has said so, and pending until the owner approves otherwise. Asking
// again changes what the tasks may reach and find in their environment: it is on
// disk when Subscribe returns, and the next call goes by it. Errors:
// InvalidParameterValue, ResourceNotFound if there is no such API,
// ResourceConflict if the name is in use, AccessDenied to whom access was
// withdrawn.
func (s *Sets) Subscribe(ctx context.Context, account, owner hearth.Account, name, alias string, want TaskWish) (*Subscription, error) {
	network := want.Network
	if alias == "" {
		alias = name
	}
	if !apiName.MatchString(alias) || len(alias) > 32 {
		return nil, invalid("alias: %q is no name of an API: small letters and digits, with single dashes between, up to 32.", alias)
	}
	if network != nil {
		if want.AsOffered {
			return nil, invalid("network: it is as offered, or as it says, not both.")
		}
		if network.Open && len(network.Allow) > 0 {
			return nil, invalid("network: it is open, or allows some destinations, not both.")
		}
		if _, err := allow.Parse(network.Allow); err != nil {
			return nil, invalid("network: %v.", err)
		}
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	st := s.state.Load()
	a := st.apis[key{owner, name}]
	switch {
	case owner == account:
		return nil, invalid("The API %s is the account's own: call its functions by their names.", name)
	case a == nil:
		return nil, hearth.Errorf(hearth.NotFound, "There is no task API %q of the account %s.", name, owner)
	case slices.Contains(a.Except, account):
		return nil, hearth.Errorf(hearth.AccessDenied, "The account %s has withdrawn access to the API %s: ask its people.", owner, name)
	case want.Markup != nil && !(*want.Markup >= 0 && *want.Markup <= maxMarkup):
		return nil, invalid("markup: %v is not from 0 to %d.", *want.Markup, maxMarkup)
	case want.Markup != nil && *want.Markup < a.Markup:
		return nil, invalid("markup: the API %s asks for %v, which is more than %v.", name, a.Markup, *want.Markup)
	}
	mine := 0
	for _, u := range st.subs {
		if u.Account != account {
			continue
		}
		mine++
		if u.APIID == a.ID && u.Alias != alias {
			return nil, hearth.Errorf(hearth.Conflict, "The account has the API %s of %s already, as %s.", name, owner, u.Alias)
		}
	}
	was := st.subs[key{account, alias}]
	switch {
	case was != nil && was.APIID != a.ID:
		return nil, hearth.Errorf(hearth.Conflict, "The name %s is that of a subscription to the API %s of %s: leave that, or take another name.", alias, was.API, was.Owner)
	case was == nil && mine >= maxSubscriptions:
		return nil, invalid("The account has %d subscriptions, which is the limit.", maxSubscriptions)
	case was == nil:
		if taken := s.cfg.Taken(account, alias+Separator); taken != "" {
			return nil, hearth.Errorf(hearth.Conflict, "The account has a function %s, and names that begin with %s are to be the API's: take another alias.", taken, alias+Separator)
		}
	}
	r, err := s.subs.Change(ctx, key{account, alias}.String(), func(was *Subscription) (*Subscription, error) {
		r := &Subscription{Format: format, ID: uuid.NewString(), Account: account, Alias: alias, Owner: owner, API: name, APIID: a.ID, Status: Pending, Created: s.now()}
		if was != nil {
			again := *was
			r = &again
		}
		if (r.Status == Pending || r.Status == Denied) && (a.Open || slices.Contains(a.Accounts, account)) {
			r.Status = Active
		}
		switch {
		case network != nil:
			r.Network = network
		case was == nil, want.AsOffered, r.Network == nil && len(want.Parameters) > 0:
			// What the owner says later does not let secrets out.
			r.Network = &hearth.NetworkPolicy{Allow: a.Reaches}
		}
		switch {
		case want.Markup != nil:
			r.Markup = want.Markup
		case was == nil:
			r.Markup = new(a.Markup)
		}
		r.Updated = s.now()
		return r, s.setParameters(r, a, want.Parameters)
	})
	if err != nil {
		return nil, stored(err)
	}
	s.renew()
	return s.Subscription(account, r.Alias)
}

// setParameters has a subscription know what its parameters are set to.
func (s *Sets) setParameters(r *Subscription, a *api, change map[string]*string) error {
	if r.Status == Active { // who waits for approval is not told what there is
		if name := share.Undeclared(a.parameters(), change); name != "" {
			return invalid("parameters: the task API %s has no %s; it has %s.", r.API, name, share.Names(a.parameters()))
		}
	}
	if len(change) > 0 {
		values, err := s.open(r)
		if err != nil {
			s.cfg.Log.Error("the parameters of a subscription do not open", "account", r.Account, "subscription", r.Alias, "error", err)
			values = nil // what is missing is said below
		}
		if values, err = share.Set(values, change); err != nil {
			return err
		}
		r.Set, r.Sealed, r.Values = slices.Sorted(maps.Keys(values)), nil, uuid.NewString()
		if len(values) > 0 {
			plain, err := json.Marshal(values)
			if err != nil {
				return err
			}
			if r.Sealed, err = s.cfg.Seal.Seal(plain, r.belongs()); err != nil {
				return hearth.Errorf(hearth.Service, "The parameters could not be sealed: %w", err)
			}
		}
	}
	if name := share.Missing(a.stages[a.defaultStage()].parameters, r.Set); name != "" && r.Status == Active {
		return invalid("The parameter %s is required: set it.", name)
	}
	return nil
}

// parameters are those of all stages.
func (a *api) parameters() (all []hearth.Parameter) {
	for _, stage := range slices.Sorted(maps.Keys(a.stages)) {
		for _, p := range a.stages[stage].parameters {
			if !slices.ContainsFunc(all, func(o hearth.Parameter) bool { return o.Name == p.Name }) {
				all = append(all, p)
			}
		}
	}
	return all
}

// belongs is what a subscription's parameters are sealed for: those of another
// account, or for another owner's API, do not open here.
func (r *Subscription) belongs() []byte {
	return []byte("tasks " + r.ID + " " + string(r.Account) + " " + r.APIID + " " + string(r.Owner))
}

// open reads what a subscription's parameters are set to.
func (s *Sets) open(r *Subscription) (map[string]string, error) {
	if len(r.Sealed) == 0 {
		return nil, nil
	}
	plain, err := s.cfg.Seal.Open(r.Sealed, r.belongs())
	if err != nil {
		return nil, err
	}
	var values map[string]string
	return values, json.Unmarshal(plain, &values)
}

// Unsubscribe ends a subscription, with its keys. What it has used of its quotas
// is not forgotten.
func (s *Sets) Unsubscribe(ctx context.Context, account hearth.Account, alias string) error {
	var gone *Subscription
	err := s.alterSub(ctx, account, alias, func(r *Subscription) (*Subscription, error) { gone = r; return nil, nil })
	if err != nil {
		return err
	}
	for _, k := range gone.Keys {
		s.forget(ctx, k.ID)
	}
	return nil
}

// alterSub changes a subscription that must be there; alter is given a copy.
func (s *Sets) alterSub(ctx context.Context, account hearth.Account, alias string, alter func(r *Subscription) (*Subscription, error)) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	_, err := s.subs.Change(ctx, key{account, alias}.String(), func(was *Subscription) (*Subscription, error) {
		if was == nil {
			return nil, noSubscription(alias)
		}
		r := *was
		r.Keys, r.Updated = slices.Clone(was.Keys), s.now()
		return alter(&r)
	})
	if err != nil {
		return stored(err)
	}
	s.renew()
	return nil
}

// MakeKey makes an API key of a subscription, and tells its secret, for the only
// time.
func (s *Sets) MakeKey(ctx context.Context, account hearth.Account, alias, name string) (Key, string, error) {
	if len(name) > 128 {
		return Key{}, "", invalid("name: it has more than 128 bytes.")
	}
	var random [24]byte
	_, _ = rand.Read(random[:]) // it never fails
	secret := keyPrefix + hex.EncodeToString(random[:])
	sum := sha256.Sum256([]byte(secret))
	k := Key{ID: "key-" + hex.EncodeToString(sum[:5]), Name: name, Hash: sum[:], Created: s.now()}
	err := s.alterSub(ctx, account, alias, func(r *Subscription) (*Subscription, error) {
		if len(r.Keys) >= maxKeys {
			return nil, invalid("The subscription has %d keys, which is the limit.", maxKeys)
		}
		r.Keys = append(r.Keys, k)
		return r, nil
	})
	k.Hash = nil
	return k, secret, err
}

// DeleteKey ends a key: calls with it are refused from now on.
func (s *Sets) DeleteKey(ctx context.Context, account hearth.Account, alias, id string) error {
	err := s.alterSub(ctx, account, alias, func(r *Subscription) (*Subscription, error) {
		i := slices.IndexFunc(r.Keys, func(k Key) bool { return k.ID == id })
		if i < 0 {
			return nil, hearth.Errorf(hearth.NotFound, "The subscription %s has no key %q.", alias, id)
		}
		r.Keys = slices.Delete(r.Keys, i, i+1)
		return r, nil
	})
	if err == nil {
		s.forget(ctx, id)
	}
	return err
}

// Subscription is an account's own of a name.
func (s *Sets) Subscription(account hearth.Account, alias string) (*Subscription, error) {
	u := s.state.Load().subs[key{account, alias}]
	if u == nil {
		return nil, noSubscription(alias)
	}
	return s.shown(u), nil
}

// Subscriptions are an account's own, by alias.
func (s *Sets) Subscriptions(account hearth.Account) (all []*Subscription) {
	for _, u := range s.state.Load().subs {
		if u.Account == account {
			all = append(all, s.shown(u))
		}
	}
	slices.SortFunc(all, func(a, b *Subscription) int { return strings.Compare(a.Alias, b.Alias) })
	return all
}

// Names are the tasks that a subscription has names for at each stage, as they
// are now; nil if it is not active.
func (s *Sets) Names(account hearth.Account, alias string) map[string][]string {
	u := s.state.Load().subs[key{account, alias}]
	if u == nil || u.refused != nil {
		return nil
	}
	out := map[string][]string{}
	for stage, set := range u.api.stages {
		out[stage] = []string{}
		for name := range set.tasks {
			out[stage] = append(out[stage], name)
		}
		slices.Sort(out[stage])
	}
	return out
}

// Parameters are what the tasks want of a subscription at each stage, as they are
// now; nil if it is not active.
func (s *Sets) Parameters(account hearth.Account, alias string) map[string][]hearth.Parameter {
	u := s.state.Load().subs[key{account, alias}]
	if u == nil || u.refused != nil {
		return nil
	}
	out := map[string][]hearth.Parameter{}
	for stage, set := range u.api.stages {
		if len(set.parameters) > 0 {
			out[stage] = set.parameters
		}
	}
	return out
}

// Claimed reports whether a name of the account's is one of an API's, so that no
// function may be called that.
func (s *Sets) Claimed(account hearth.Account, name string) bool {
	alias, _, ok := strings.Cut(name, Separator)
	return ok && s.state.Load().subs[key{account, alias}] != nil
}

// shown is a subscription as it may be told: with the status that holds, and
// without the keys' hashes and what its parameters are set to.
func (s *Sets) shown(u *sub) *Subscription {
	r := *u.Subscription
	switch {
	case r.Status != Active:
	case u.refused == nil:
		if s.cfg.Usable(u.Owner) != nil {
			r.Status = Suspended
		}
	case u.raised():
		r.Status = Raised
	default:
		r.Status = Withdrawn
	}
	r.Sealed, r.Values = nil, ""
	r.Keys = slices.Clone(r.Keys)
	for i := range r.Keys {
		r.Keys[i].Hash = nil
	}
	return &r
}
