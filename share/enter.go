package share

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"sync"
	"time"

	"github.com/hearth-faas/hearth"
)

// grantKey names what one account has of one offer, under however many names.
type grantKey struct {
	offer   string
	account hearth.Account
}

// grant counts the runs of one account of one offer, and holds them to the
// offer's limits. Its lock is what a run and a change of terms are ordered by:
// a run is let in before the change, or meets what changed.
type grant struct {
	mu      sync.Mutex
	running int
	tokens  float64
	filled  time.Time
	use     hearth.SharedUse
	dirty   bool
}

func (s *Shares) grant(k grantKey) *grant {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.grants[k]
	if g == nil {
		g = &grant{use: hearth.SharedUse{Offer: k.offer, Account: k.account}}
		s.grants[k] = g
	}
	return g
}

// termsOf is what holds for an alias now.
func (s *Shares) termsOf(r *record) *terms {
	t := &terms{record: r, grant: s.grant(grantKey{r.Offer, r.Account}), version: r.Version}
	o := s.offers.Get(offerKey(r.Owner, r.Offer))
	if o == nil || !o.Grants(r.Account) {
		t.refused = hearth.Errorf(hearth.AccessDenied, "The account %s has withdrawn the function that the shared alias %s runs.", r.Owner, s.arn(key{r.Account, r.Name}))
		return t
	}
	t.offer = o
	if t.version == "" {
		t.version = o.Versions[0]
	}
	if t.refused = unmet(r, o); t.refused != nil {
		t.refused.Message = "The shared alias " + r.Name + " does not meet what its offer asks for now. " + t.refused.Message
	}
	return t
}

// renew puts the aliases of an offer under what it says now. changing is held.
func (s *Shares) renew(offer string) {
	for _, a := range *s.index.Load() {
		if r := a.terms.Load().record; r.Offer == offer {
			s.replace(a, s.termsOf(r))
		}
	}
}

// replace puts an alias under other terms, and lets go of what ran under those
// before. changing is held.
func (s *Shares) replace(a *alias, t *terms) {
	was := a.terms.Load()
	t.grant.mu.Lock()
	a.terms.Store(t)
	t.grant.mu.Unlock()
	s.retire(a, was)
}

// throttled is why the offer's limits refuse a run that begins now; nil if they
// do not. g.mu is held.
func (g *grant) throttled(o *hearth.Offer, at time.Time) *hearth.Error {
	e := func(what string, after time.Duration) *hearth.Error {
		return &hearth.Error{Op: "share.Enter", Kind: hearth.TooManyRequests, Message: "Rate Exceeded. " + what, Reason: hearth.ReasonReservedConcurrency, RetryAfter: after}
	}
	switch {
	case o.Calls > 0 && g.use.Calls >= o.Calls:
		return e("The offer's "+strconv.FormatInt(o.Calls, 10)+" calls are used up: ask its owner for more.", 0)
	case o.Concurrency > 0 && g.running >= o.Concurrency:
		return e("The offer allows "+itoa(o.Concurrency)+" runs at a time.", 0)
	case o.Rate > 0:
		burst := max(o.Rate, 1)
		if g.filled.IsZero() {
			g.tokens = burst
		} else {
			g.tokens = min(burst, g.tokens+o.Rate*at.Sub(g.filled).Seconds())
		}
		g.filled = at
		if g.tokens < 1 {
			err := e("The offer allows "+strconv.FormatFloat(o.Rate, 'g', -1, 64)+" runs a second.", time.Duration((1-g.tokens)/o.Rate*float64(time.Second)))
			err.Reason = hearth.ReasonReservedRate
			return err
		}
		g.tokens--
	}
	return nil
}

// Enter lets a run in whose Function is a derived one, or refuses it: with what
// Resolve says if that has changed, and TooManyRequests beyond the limits of the
// offer. A run that is let in goes to its end, whatever changes meanwhile; the
// caller then calls Leave once. It sets inv.Function anew where the terms have
// changed since it was resolved.
func (s *Shares) Enter(ctx context.Context, inv *hearth.Invocation) error {
	for range 8 {
		f := inv.Function
		a := s.find(f.Account, f.Name)
		if a == nil {
			return hearth.Errorf(hearth.NotFound, "Function not found: %s was a shared alias, which was deleted", f.ARN())
		}
		t := a.terms.Load()
		fresh, err := s.resolve(ctx, a, t)
		if err != nil {
			return err
		}
		g := t.grant
		g.mu.Lock()
		if a.terms.Load() != t {
			g.mu.Unlock()
			continue // it was changed just now
		}
		if err := g.throttled(t.offer, s.cfg.Clock.Now()); err != nil {
			g.use.Owner = t.offer.Owner
			g.use.Refused++
			g.dirty = true
			g.mu.Unlock()
			s.saver.Soon()
			return err
		}
		g.running++
		g.use.Calls++
		g.use.Owner = t.offer.Owner
		g.dirty = true
		g.mu.Unlock()
		inv.Function = fresh
		s.saver.Soon()
		return nil
	}
	return hearth.Errorf(hearth.TooManyRequests, "The shared alias %s is being changed again and again: try again.", inv.Function.Name)
}

// Leave takes note of the end of a run that Enter let in.
func (s *Shares) Leave(inv *hearth.Invocation) {
	f := inv.Function
	g := s.grant(grantKey{f.Shared.Offer, f.Account})
	defer s.saver.Soon()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running--
	if g.use.Ends == nil {
		g.use.Ends = map[string]int64{}
	}
	g.use.Ends[inv.Use.End.String()]++
	g.dirty = true
}

// Uses are the counts that concern the account: of its own offers, and of those
// that it has accepted.
func (s *Shares) Uses(account hearth.Account) (list []hearth.SharedUse) {
	s.mu.Lock()
	all := maps.Clone(s.grants)
	s.mu.Unlock()
	for k, g := range all {
		g.mu.Lock()
		if u := g.use; u.Owner == account || k.account == account && u.Owner != "" {
			u.Ends = maps.Clone(u.Ends)
			list = append(list, u)
		}
		g.mu.Unlock()
	}
	return sorted(list)
}

// save stores the counts that have changed.
func (s *Shares) save(ctx context.Context) error {
	s.mu.Lock()
	all := maps.Clone(s.grants)
	s.mu.Unlock()
	var errs []error
	for k, g := range all {
		g.mu.Lock()
		u := g.use
		u.Ends = maps.Clone(u.Ends)
		dirty := g.dirty
		g.dirty = false
		g.mu.Unlock()
		if !dirty {
			continue
		}
		if _, err := s.counted.Change(ctx, useKey(k), func(*hearth.SharedUse) (*hearth.SharedUse, error) { return &u, nil }); err != nil {
			errs = append(errs, err)
			g.mu.Lock()
			g.dirty = true
			g.mu.Unlock()
		}
	}
	return errors.Join(errs...)
}

func useKey(k grantKey) string { return k.offer + "/" + string(k.account) }

// forgetUse removes the counts of an account that is deleted, as a caller.
func (s *Shares) forgetUse(ctx context.Context, account hearth.Account) error {
	s.mu.Lock()
	all := maps.Clone(s.grants)
	s.mu.Unlock()
	for k := range all {
		if k.account != account {
			continue
		}
		s.mu.Lock()
		delete(s.grants, k)
		s.mu.Unlock()
		if _, err := s.counted.Change(ctx, useKey(k), func(*hearth.SharedUse) (*hearth.SharedUse, error) { return nil, nil }); err != nil {
			return stored(err)
		}
	}
	return nil
}
