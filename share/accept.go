package share

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/sandbox/egress/allow"
)

// maxTimeout is the service's, in seconds.
const maxTimeout = 900

// Acceptance is what a caller asks for: a name of its own for what is offered.
type Acceptance struct {
	Name  string `json:"name"`
	Offer string `json:"offer"`
	// Version is one of the offer's; "" is its first, which tracks what the owner
	// changes if that is $LATEST or an alias.
	Version        string `json:"version,omitempty"`
	Description    string `json:"description,omitempty"`
	MemoryMiB      int    `json:"memoryMiB,omitempty"`      // 0 is the function's own
	TimeoutSeconds int    `json:"timeoutSeconds,omitempty"` // 0 is the function's own
	// Network is what the run may reach; nil is what the offer says that it
	// needs, and nothing if it says nothing.
	Network *hearth.NetworkPolicy `json:"network,omitempty"`
	// Markup is the most that is agreed to of what the offer asks on top of what a
	// run costs; nil is what it asks of a new alias, and of one that there is what
	// was agreed to.
	Markup *float64 `json:"markup,omitempty"`
	// Parameters are set by name. Of an alias that there is, those that are not
	// named stay as they are, and nil takes one away.
	Parameters map[string]*string `json:"parameters,omitempty"`
}

// record is a shared alias on disk.
type record struct {
	Account        hearth.Account       `json:"account"`
	Name           string               `json:"name"`
	Offer          string               `json:"offer"`
	Owner          hearth.Account       `json:"owner"`
	Version        string               `json:"version,omitempty"`
	Description    string               `json:"description,omitempty"`
	MemoryMiB      int                  `json:"memoryMiB,omitempty"`
	TimeoutSeconds int                  `json:"timeoutSeconds,omitempty"`
	Network        hearth.NetworkPolicy `json:"network"`
	Markup         *float64             `json:"markup,omitempty"` // agreed to; nil, which only records without an offer have, is any
	Set            []string             `json:"set,omitempty"`
	Sealed         []byte               `json:"sealed,omitempty"` // the parameters' values, by name
	Created        time.Time            `json:"created"`
	Updated        time.Time            `json:"updated"`
	Revision       string               `json:"revision"`
}

// belongs is what the values are sealed for: those of another alias, or of
// another owner's code, do not open here.
func (r *record) belongs() []byte {
	return []byte("share " + string(r.Account) + "/" + r.Name + " " + r.Offer + " " + string(r.Owner))
}

func (s *Shares) open(r *record) (map[string]string, error) {
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

// Accept makes a shared alias, or changes the one that there is of the same
// offer. It is on disk when Accept returns, and the next call goes by it. Errors:
// InvalidParameterValue, ResourceNotFound if there is no such offer for the
// account, ResourceConflict if the name is taken.
func (s *Shares) Accept(ctx context.Context, account hearth.Account, want Acceptance) (*hearth.SharedAlias, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	if err := checkName(want.Name); err != nil {
		return nil, err
	}
	k := key{account, want.Name}
	was := s.records.Get(k.String())
	if was != nil && want.Offer == "" {
		want.Offer = was.Offer
	}
	o := s.offer(want.Offer)
	switch {
	case want.Offer == "":
		return nil, invalid("offer: say which offer is accepted.")
	case o == nil, o.Owner == account, !o.Grants(account):
		return nil, hearth.Errorf(hearth.NotFound, "There is no offer %q for the account %s.", want.Offer, account)
	case was != nil && was.Offer != want.Offer:
		return nil, hearth.Errorf(hearth.Conflict, "The shared alias %s is of the offer %s: delete it first, or take another name.", want.Name, was.Offer)
	}
	r, err := s.recordOf(account, was, o, want)
	if err != nil {
		return nil, err
	}
	if was == nil && s.aliasesOf(account) >= maxAliases {
		return nil, invalid("The account has %d shared aliases, which is the limit.", maxAliases)
	}
	put := func() error {
		if _, err := s.records.Change(ctx, k.String(), func(*record) (*record, error) { return r, nil }); err != nil {
			return stored(err)
		}
		a := s.find(account, want.Name)
		if a == nil {
			a = &alias{key: k}
			a.terms.Store(s.termsOf(r))
			s.set(k, a)
			return nil
		}
		s.replace(a, s.termsOf(r))
		return nil
	}
	if was == nil {
		err = s.cfg.Functions.Unclaimed(account, want.Name, put)
	} else {
		err = put()
	}
	if err != nil {
		return nil, err
	}
	return s.Alias(account, want.Name)
}

// recordOf is what is to be kept of an acceptance.
func (s *Shares) recordOf(account hearth.Account, was *record, o *hearth.Offer, want Acceptance) (*record, error) {
	at := now(s.cfg.Clock)
	r := &record{
		Account: account, Name: want.Name, Offer: o.ID, Owner: o.Owner, Version: want.Version, Description: want.Description,
		MemoryMiB: want.MemoryMiB, TimeoutSeconds: want.TimeoutSeconds, Created: at, Updated: at, Revision: uuid.NewString(),
	}
	var values map[string]string
	if was != nil {
		r.Created = was.Created
		kept, err := s.open(was)
		if err != nil {
			s.cfg.Log.Error("the parameters of a shared alias do not open", "alias", s.arn(key{account, want.Name}), "error", err)
			kept = nil // what is missing is said below
		}
		values = kept
	}
	switch {
	case want.Network != nil:
		r.Network = *want.Network
	case was != nil:
		r.Network = was.Network
	default:
		r.Network = hearth.NetworkPolicy{Allow: o.Reaches}
	}
	switch {
	case want.Markup != nil:
		if !(*want.Markup >= 0 && *want.Markup <= maxMarkup) {
			return nil, invalid("markup: it is a share of what a run costs, from 0 to %d; 0.25 is a quarter more.", maxMarkup)
		}
		r.Markup = want.Markup
	case was != nil:
		r.Markup = was.Markup
	default:
		r.Markup = new(o.Markup)
	}
	if name := Undeclared(o.Parameters, want.Parameters); name != "" {
		return nil, invalid("parameters: the offer has no %s; it has %s.", name, Names(o.Parameters))
	}
	values, err := Set(values, want.Parameters)
	if err != nil {
		return nil, err
	}
	r.Set = slices.Sorted(maps.Keys(values))
	if refused := unmet(r, o); refused != nil {
		return nil, invalid("%s", refused.Message)
	}
	if r.Network.Open && len(r.Network.Allow) > 0 {
		return nil, invalid("network: it is open, or allows some destinations, not both.")
	}
	if _, err := allow.Parse(r.Network.Allow); err != nil {
		return nil, invalid("network: %v.", err)
	}
	if len(r.Description) > maxText {
		return nil, invalid("description: it has more than %d bytes.", maxText)
	}
	if len(values) > 0 {
		plain, err := json.Marshal(values)
		if err != nil {
			return nil, err
		}
		if r.Sealed, err = s.cfg.Seal.Seal(plain, r.belongs()); err != nil {
			return nil, hearth.Errorf(hearth.Service, "The parameters could not be sealed: %w", err)
		}
	}
	return r, nil
}

// unmet is what of an offer's terms an alias does not meet; nil is nothing. It is
// asked when the alias is made, and again when the offer has changed.
func unmet(r *record, o *hearth.Offer) *hearth.Error {
	refuse := func(format string, args ...any) *hearth.Error {
		return hearth.Errorf(hearth.AccessDenied, format, args...)
	}
	if name := Missing(o.Parameters, r.Set); name != "" {
		return refuse("The parameter %s is required: set it.", name)
	}
	if v := r.Version; v != "" && !slices.Contains(o.Versions, v) && !(number(v) && slices.Contains(o.Versions, "*")) {
		return refuse("The offer has no version %s; it has %s.", v, strings.Join(o.Versions, ", "))
	}
	if m := r.MemoryMiB; m != 0 && (m < max(o.MinMemoryMiB, hearth.MinMemoryMiB) || o.MaxMemoryMiB == 0 || m > o.MaxMemoryMiB) {
		return refuse("The offer does not allow a memory of %d MiB; %s.", m, bounds(o.MinMemoryMiB, o.MaxMemoryMiB, hearth.MinMemoryMiB, "MiB"))
	}
	if t := r.TimeoutSeconds; t != 0 && (t < max(o.MinTimeoutSeconds, 1) || o.MaxTimeoutSeconds == 0 || t > o.MaxTimeoutSeconds) {
		return refuse("The offer does not allow a timeout of %d seconds; %s.", t, bounds(o.MinTimeoutSeconds, o.MaxTimeoutSeconds, 1, "seconds"))
	}
	if r.Markup != nil && o.Markup > *r.Markup { // an owner does not raise what others pay on its own
		return refuse("The offer asks for a markup of %v, and %v is agreed to. To agree: hearth shared-alias update %s --markup %v", o.Markup, *r.Markup, r.Name, o.Markup)
	}
	return nil
}

func bounds(low, high, least int, unit string) string {
	if high == 0 {
		return "it is the function's own"
	}
	return "it is from " + itoa(max(low, least)) + " to " + itoa(high) + " " + unit
}

// Delete removes a shared alias with its parameters, and what is configured of it.
func (s *Shares) Delete(ctx context.Context, account hearth.Account, name string) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	return s.delete(ctx, key{account, name})
}

func (s *Shares) delete(ctx context.Context, k key) error {
	a := s.find(k.account, k.name)
	if a == nil {
		return noAlias(k.name)
	}
	err := s.cfg.Functions.GiveUp(ctx, k.account, k.name, func() error {
		_, err := s.records.Change(ctx, k.String(), func(*record) (*record, error) { return nil, nil })
		if err == nil {
			s.set(k, nil)
		}
		return err
	})
	if err != nil {
		return stored(err)
	}
	t := a.terms.Load()
	gone := *t.record
	s.replace(a, &terms{record: &gone, grant: t.grant, refused: hearth.Errorf(hearth.NotFound, "Function not found: %s was a shared alias, which was deleted", s.arn(k))})
	return nil
}

// Alias is what the account sees of a shared alias of its own.
func (s *Shares) Alias(account hearth.Account, name string) (*hearth.SharedAlias, error) {
	a := s.find(account, name)
	if a == nil {
		return nil, noAlias(name)
	}
	t := a.terms.Load()
	r := t.record
	view := &hearth.SharedAlias{
		Account: account, Name: name, ARN: s.arn(a.key), Offer: r.Offer, Owner: r.Owner, Version: r.Version, Description: r.Description,
		MemoryMiB: r.MemoryMiB, TimeoutSeconds: r.TimeoutSeconds, Network: r.Network, Markup: r.Markup, Set: r.Set, Created: r.Created, Updated: r.Updated,
		Status: "active",
	}
	if err := s.refusal(t); err != nil {
		view.Status = told(err)
	}
	return view, nil
}

// Aliases are the account's own.
func (s *Shares) Aliases(account hearth.Account) (list []hearth.SharedAlias) {
	for _, r := range s.records.Scan(string(account)+"/", "") {
		if a, err := s.Alias(account, r.Name); err == nil { // else it was deleted meanwhile
			list = append(list, *a)
		}
	}
	return list
}

func (s *Shares) aliasesOf(account hearth.Account) (n int) {
	for range s.records.Scan(string(account)+"/", "") {
		n++
	}
	return n
}

// Forget removes all that an account has offered and accepted: it is deleted.
func (s *Shares) Forget(ctx context.Context, account hearth.Account) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	for _, o := range s.Offers(account) {
		if err := s.withdraw(ctx, account, o.ID); err != nil {
			return err
		}
	}
	for _, a := range s.Aliases(account) {
		if err := s.delete(ctx, key{account, a.Name}); err != nil {
			return err
		}
	}
	// An account that is made later under the same number is another.
	for _, o := range s.offers.Scan("", "") {
		if !slices.Contains(o.Accounts, account) && !slices.Contains(o.Except, account) {
			continue
		}
		c := *o
		is := func(a hearth.Account) bool { return a == account }
		c.Accounts, c.Except = slices.DeleteFunc(slices.Clone(o.Accounts), is), slices.DeleteFunc(slices.Clone(o.Except), is)
		if _, err := s.offers.Change(ctx, offerKey(o.Owner, o.ID), func(*hearth.Offer) (*hearth.Offer, error) { return &c, nil }); err != nil {
			return stored(err)
		}
		s.renew(o.ID)
	}
	return s.forgetUse(ctx, account)
}

func number(v string) bool { return v != "" && strings.Trim(v, "0123456789") == "" }

func checkName(name string) error {
	if name == "" || len(name) > 64 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
		return invalid("name: %q is not one that a function can have: up to 64 letters, digits, - and _.", name)
	}
	return nil
}

func noAlias(name string) error {
	return hearth.Errorf(hearth.NotFound, "There is no shared alias %q.", name)
}
