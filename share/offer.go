package share

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/sandbox/egress/allow"
)

// What an account may have at most.
const (
	maxOffers   = 1000
	maxAliases  = 1000
	maxAccounts = 1000 // that an offer names
	maxVersions = 50
	maxText     = 4096 // bytes of a description, a default or a value
	maxMarkup   = 100  // a run that costs a hundred times as much is a mistake
)

func offerKey(owner hearth.Account, id string) string { return string(owner) + "/" + id }

// Offer makes an offer of a function of the account's, under a new id, or with an
// id changes that one. Aliases go by the change with their next call. Errors:
// InvalidParameterValue, ResourceNotFound of the function or the offer.
func (s *Shares) Offer(ctx context.Context, owner hearth.Account, o hearth.Offer) (*hearth.Offer, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	at := now(s.cfg.Clock)
	o.Owner, o.Updated = owner, at
	if o.ID == "" {
		if n := s.count(owner); n >= maxOffers {
			return nil, hearth.Errorf(hearth.InvalidParameter, "The account has %d offers, which is the limit: withdraw one that nobody needs.", n)
		}
		o.ID, o.Created = newID("offer-"), at
	} else {
		was := s.offers.Get(offerKey(owner, o.ID))
		if was == nil {
			return nil, noOffer(o.ID)
		}
		if o.Function != "" && o.Function != was.Function {
			return nil, invalid("function: the offer %s is of %s, and stays so: make an offer of %s of its own.", o.ID, was.Function, o.Function)
		}
		o.Function, o.Created = was.Function, was.Created
	}
	if err := s.checkOffer(ctx, &o); err != nil {
		return nil, err
	}
	kept, err := s.offers.Change(ctx, offerKey(owner, o.ID), func(*hearth.Offer) (*hearth.Offer, error) { return &o, nil })
	if err != nil {
		return nil, stored(err)
	}
	s.renew(o.ID)
	return kept, nil
}

// Withdraw ends an offer: calls of its aliases are refused from now on. What was
// let in before runs to its end.
func (s *Shares) Withdraw(ctx context.Context, owner hearth.Account, id string) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	return s.withdraw(ctx, owner, id)
}

func (s *Shares) withdraw(ctx context.Context, owner hearth.Account, id string) error {
	if s.offers.Get(offerKey(owner, id)) == nil {
		return noOffer(id)
	}
	if _, err := s.offers.Change(ctx, offerKey(owner, id), func(*hearth.Offer) (*hearth.Offer, error) { return nil, nil }); err != nil {
		return stored(err)
	}
	s.renew(id)
	return nil
}

// Revoke takes an offer back from one account, for which it is as withdrawn.
func (s *Shares) Revoke(ctx context.Context, owner hearth.Account, id string, from hearth.Account) (*hearth.Offer, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	kept, err := s.offers.Change(ctx, offerKey(owner, id), func(was *hearth.Offer) (*hearth.Offer, error) {
		switch {
		case was == nil:
			return nil, noOffer(id)
		case !was.Grants(from):
			return nil, hearth.Errorf(hearth.NotFound, "The offer %s is not granted to %s.", id, from)
		}
		o := *was
		o.Updated = now(s.cfg.Clock)
		if o.Public {
			o.Except = append(slices.Clone(o.Except), from)
		} else {
			o.Accounts = slices.DeleteFunc(slices.Clone(o.Accounts), func(a hearth.Account) bool { return a == from })
		}
		return &o, nil
	})
	if err != nil {
		return nil, stored(err)
	}
	s.renew(id)
	return kept, nil
}

// Grant adds an account to those that an offer is for.
func (s *Shares) Grant(ctx context.Context, owner hearth.Account, id string, to hearth.Account) (*hearth.Offer, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	kept, err := s.offers.Change(ctx, offerKey(owner, id), func(was *hearth.Offer) (*hearth.Offer, error) {
		switch {
		case was == nil:
			return nil, noOffer(id)
		case was.Grants(to):
			return was, nil
		}
		o := *was
		o.Updated = now(s.cfg.Clock)
		o.Except = slices.DeleteFunc(slices.Clone(o.Except), func(a hearth.Account) bool { return a == to })
		if !o.Public {
			o.Accounts = append(slices.Clone(o.Accounts), to)
		}
		return &o, s.checkGrantees(&o)
	})
	if err != nil {
		return nil, stored(err)
	}
	s.renew(id)
	return kept, nil
}

// Offers are those that the account has made.
func (s *Shares) Offers(owner hearth.Account) (list []hearth.Offer) {
	for _, o := range s.offers.Scan(string(owner)+"/", "") {
		list = append(list, *o)
	}
	return list
}

// Offered are the offers of others that the account may accept. The other
// accounts that they are for are not told.
func (s *Shares) Offered(to hearth.Account) (list []hearth.Offer) {
	for _, o := range s.offers.Scan("", "") {
		if o.Owner != to && o.Grants(to) {
			list = append(list, shown(o))
		}
	}
	return list
}

// shown is an offer as one of those sees it whom it is for.
func shown(o *hearth.Offer) hearth.Offer {
	c := *o
	c.Accounts, c.Except = nil, nil
	return c
}

func (s *Shares) count(owner hearth.Account) (n int) {
	for range s.offers.Scan(string(owner)+"/", "") {
		n++
	}
	return n
}

// offer finds one by its id alone.
func (s *Shares) offer(id string) *hearth.Offer {
	for _, o := range s.offers.Scan("", "") {
		if o.ID == id {
			return o
		}
	}
	return nil
}

func (s *Shares) checkOffer(ctx context.Context, o *hearth.Offer) error {
	if o.Function == "" {
		return invalid("function: say which function is offered.")
	}
	if len(o.Versions) == 0 {
		o.Versions = []string{hearth.Latest}
	}
	if len(o.Versions) > maxVersions {
		return invalid("versions: there are %d, and %d is the limit.", len(o.Versions), maxVersions)
	}
	for i, v := range o.Versions {
		if v == "" {
			o.Versions[i] = hearth.Latest
		}
		if v == "*" {
			if i == 0 {
				return invalid(`versions: "*" can't be the first, which is what runs unless a caller pins another.`)
			}
			continue
		}
		f, err := s.cfg.Functions.Resolve(ctx, o.Owner, o.Function, o.Versions[i])
		if err != nil {
			return err
		}
		if err := offerable(f); err != nil {
			return err
		}
	}
	if err := s.checkGrantees(o); err != nil {
		return err
	}
	switch {
	case o.MinMemoryMiB != 0 && (o.MinMemoryMiB < hearth.MinMemoryMiB || o.MinMemoryMiB > hearth.MaxMemoryMiB),
		o.MaxMemoryMiB != 0 && (o.MaxMemoryMiB < hearth.MinMemoryMiB || o.MaxMemoryMiB > hearth.MaxMemoryMiB):
		return invalid("minMemoryMiB and maxMemoryMiB: memory is from %d to %d MiB.", hearth.MinMemoryMiB, hearth.MaxMemoryMiB)
	case o.MaxMemoryMiB != 0 && o.MinMemoryMiB > o.MaxMemoryMiB:
		return invalid("minMemoryMiB %d is more than maxMemoryMiB %d.", o.MinMemoryMiB, o.MaxMemoryMiB)
	case o.MinTimeoutSeconds < 0 || o.MinTimeoutSeconds > maxTimeout || o.MaxTimeoutSeconds < 0 || o.MaxTimeoutSeconds > maxTimeout:
		return invalid("minTimeoutSeconds and maxTimeoutSeconds: a timeout is from 1 to %d seconds.", maxTimeout)
	case o.MaxTimeoutSeconds != 0 && o.MinTimeoutSeconds > o.MaxTimeoutSeconds:
		return invalid("minTimeoutSeconds %d is more than maxTimeoutSeconds %d.", o.MinTimeoutSeconds, o.MaxTimeoutSeconds)
	case o.Concurrency < 0 || o.Rate < 0 || o.Calls < 0:
		return invalid("concurrency, rate and calls: a limit is not below 0, which is none.")
	case !(o.Markup >= 0 && o.Markup <= maxMarkup):
		return invalid("markup: it is a share of what a run costs, from 0 to %d; 0.25 is a quarter more.", maxMarkup)
	case len(o.Description) > maxText:
		return invalid("description: it has more than %d bytes.", maxText)
	}
	if _, err := allow.Parse(o.Reaches); err != nil {
		return invalid("reaches: %v.", err)
	}
	return CheckParameters(o.Parameters)
}

func (s *Shares) checkGrantees(o *hearth.Offer) error {
	if len(o.Accounts)+len(o.Except) > maxAccounts {
		return invalid("accounts: an offer names at most %d; make it public, or another offer.", maxAccounts)
	}
	for _, a := range slices.Concat(o.Accounts, o.Except) {
		if len(a) != 12 || strings.Trim(string(a), "0123456789") != "" {
			return invalid("accounts: %q is not an account: it is twelve digits.", a)
		}
		if a == o.Owner {
			return invalid("accounts: %s is the owner itself, who needs no offer.", a)
		}
	}
	return nil
}

// offerable tells why a function can't be shared.
func offerable(f *hearth.Function) error {
	switch {
	case f.Durable != nil:
		return invalid("%s is a durable function, whose history would show its callers' data to its owner: it can't be offered.", f.Name)
	case f.CapacityProvider != nil:
		return invalid("%s is on a capacity provider, whose environments serve several invocations at once: it can't be offered.", f.Name)
	case f.Shared != nil:
		return invalid("%s is a shared alias: only its owner can offer the function.", f.Name)
	}
	return nil
}

// newID makes an id that nobody guesses.
func newID(prefix string) string {
	var b [10]byte
	_, _ = rand.Read(b[:]) // it never fails
	return prefix + hex.EncodeToString(b[:])
}

func invalid(format string, args ...any) error {
	return hearth.Errorf(hearth.InvalidParameter, format, args...)
}

func noOffer(id string) error {
	return hearth.Errorf(hearth.NotFound, "There is no offer %s of yours.", strconv.Quote(id))
}

// stored is the error of a change: what the disk said is for the log.
func stored(err error) error {
	if hearth.KindOf(err) != hearth.Service {
		return err
	}
	return &hearth.Error{Op: "share", Kind: hearth.Service, Message: "The change could not be stored.", Err: err}
}
