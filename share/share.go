// Package share lets accounts run each other's functions without trusting each
// other (S05). An owner offers a function; a caller accepts the offer under a
// name of its own, the shared alias, with parameters of its own. Resolve then
// answers for that name with a Function that is derived of both: the owner's
// code under the caller's account, with the caller's parameters in its
// environment, and Shared set, by which everything below knows what to withhold.
//
// Parameters come in the environment, because every runtime has one, code needs
// no change for them, and a container has one for ever: two callers never meet
// in a process, and a replaced secret comes with new containers.
//
// A derived Function has a generation of its own, which stays the same as long
// as the owner's code, the offer's terms and the caller's choices do. What
// changes any of them makes a new one, and the containers of the old are let go.
//
// Order of locks: Shares.changing, grant.mu, alias.mu. None is held while
// functions are resolved or told of.
package share

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/table"
)

// Sealer encrypts what must not be read from the disk. The associated data
// says what the secret belongs to.
type Sealer interface {
	Seal(plain, associated []byte) ([]byte, error)
	Open(sealed, associated []byte) ([]byte, error)
}

// Functions are the accounts' own functions.
type Functions interface {
	hearth.Functions
	// Unclaimed runs f while no function of that name can be made; if there is
	// one it returns ResourceConflict instead.
	Unclaimed(account hearth.Account, name string, f func() error) error
	// GiveUp forgets what is configured of a name that is an alias's, and then
	// runs f, which ends the alias.
	GiveUp(ctx context.Context, account hearth.Account, name string, f func() error) error
	// Generation gives a number that no Function has.
	Generation(ctx context.Context) (uint64, error)
}

// Config is what a Shares works with. All fields are needed but where it says
// otherwise.
type Config struct {
	Store     store.Store
	Functions Functions
	Seal      Sealer
	Clock     hearth.Clock
	Region    string
	// Changed is told when now takes the place of old, so that what runs old is
	// let go. What ends for good is replaced by a Function that is never resolved.
	Changed func(old, now *hearth.Function)
	// Usable tells why an account's functions may not be run, or run for it; nil
	// is that all may.
	Usable func(hearth.Account) error
	// CheckKey tells whether the key that an owner's function names can be used;
	// nil is always.
	CheckKey func(arn string) error
	Log      *slog.Logger // nil is slog.Default
}

// Shares keeps offers and shared aliases. Safe for concurrent use. Resolve takes
// no lock.
type Shares struct {
	cfg     Config
	offers  *table.Table[hearth.Offer]
	records *table.Table[record]
	counted *table.Table[hearth.SharedUse]

	changing sync.Mutex // of offers and aliases, one at a time
	index    atomic.Pointer[map[key]*alias]

	mu     sync.Mutex // of grants
	grants map[grantKey]*grant
	saver  *table.Saver // of what they count
}

// key names a shared alias.
type key struct {
	account hearth.Account
	name    string
}

func (k key) String() string { return string(k.account) + "/" + k.name }

// The buckets of the records.
const (
	offersBucket  = "share-offers"  // owner/id          → hearth.Offer
	aliasesBucket = "share-aliases" // account/name      → record
	usesBucket    = "share-uses"    // offer/account     → hearth.SharedUse
)

// Open reads what is offered and accepted. The caller closes the store after the
// Shares.
func Open(ctx context.Context, cfg Config) (s *Shares, err error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Changed == nil {
		cfg.Changed = func(_, _ *hearth.Function) {}
	}
	if cfg.Usable == nil {
		cfg.Usable = func(hearth.Account) error { return nil }
	}
	s = &Shares{cfg: cfg, grants: map[grantKey]*grant{}}
	s.saver = table.NewSaver(cfg.Clock, s.save, func(err error) {
		cfg.Log.Error("the counts of shared functions could not be stored; they are tried again", "error", err)
	})
	if s.offers, err = table.Open[hearth.Offer](ctx, cfg.Store, offersBucket); err == nil {
		if s.records, err = table.Open[record](ctx, cfg.Store, aliasesBucket); err == nil {
			s.counted, err = table.Open[hearth.SharedUse](ctx, cfg.Store, usesBucket)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("share: %w", err)
	}
	for _, u := range s.counted.Scan("", "") {
		g := s.grant(grantKey{u.Offer, u.Account})
		g.use = *u
		g.use.Ends = maps.Clone(u.Ends)
	}
	if err := s.agree(ctx); err != nil {
		return nil, fmt.Errorf("share: %w", err)
	}
	m := map[key]*alias{}
	for _, r := range s.records.Scan("", "") {
		k := key{r.Account, r.Name}
		a := &alias{key: k}
		a.terms.Store(s.termsOf(r))
		m[k] = a
	}
	s.index.Store(&m)
	return s, nil
}

// agree has aliases of before markups were agreed to agree to what is asked now,
// so that it is not raised on them either.
func (s *Shares) agree(ctx context.Context) error {
	for k, r := range s.records.Scan("", "") {
		o := s.offers.Get(offerKey(r.Owner, r.Offer))
		if r.Markup != nil || o == nil {
			continue
		}
		again := *r
		again.Markup = new(o.Markup)
		if _, err := s.records.Change(ctx, k, func(*record) (*record, error) { return &again, nil }); err != nil {
			return err
		}
	}
	return nil
}

// Close saves the counts. No method may be called after it.
func (s *Shares) Close() error { return s.saver.Close() }

// alias is a shared alias, as long as there is one.
type alias struct {
	key
	terms atomic.Pointer[terms] // written under the grant's lock, and changing
	mu    sync.Mutex            // one derivation at a time
}

// terms are what holds for an alias until the offer or the alias changes. They
// never change, but for what was derived under them.
type terms struct {
	record *record
	offer  *hearth.Offer // nil: withdrawn
	grant  *grant        // nil without an offer
	// refused is why no call is let in; nil is that they are.
	refused *hearth.Error
	version string                                      // of the owner's function that is run
	derived atomic.Pointer[map[string]*hearth.Function] // by the owner's version
}

// of is what was derived of a version of the owner's; nil if nothing was.
func (t *terms) of(version string) *hearth.Function {
	if m := t.derived.Load(); m != nil {
		return (*m)[version]
	}
	return nil
}

// all are the Functions that were derived under the terms.
func (t *terms) all() map[string]*hearth.Function {
	if m := t.derived.Load(); m != nil {
		return *m
	}
	return nil
}

func (s *Shares) find(account hearth.Account, name string) *alias {
	return (*s.index.Load())[key{account, name}]
}

// Claimed reports whether a shared alias of the account has the name.
func (s *Shares) Claimed(account hearth.Account, name string) bool {
	return s.find(account, name) != nil
}

// set makes a what is found under the key; nil removes it. changing is held.
func (s *Shares) set(k key, a *alias) {
	m := maps.Clone(*s.index.Load())
	if a == nil {
		delete(m, k)
	} else {
		m[k] = a
	}
	s.index.Store(&m)
}

// retire lets go of what runs what was derived under terms that hold no more.
func (s *Shares) retire(a *alias, t *terms) {
	for _, f := range t.all() {
		s.bury(a, f)
	}
}

// bury tells that nothing may run f any more: what takes its place is never
// resolved, so that of calls which were let in before, too, no container stays.
func (s *Shares) bury(a *alias, f *hearth.Function) {
	g, err := s.cfg.Functions.Generation(context.Background())
	if err != nil {
		s.cfg.Log.Error("the containers of a shared alias whose terms have changed may stay until they are idle for long", "alias", f.ARN(), "error", err)
		return
	}
	grave := *f
	grave.Generation, grave.Env, grave.State = g, nil, hearth.Inactive
	s.cfg.Changed(f, &grave)
	// What was derived meanwhile under the terms of now is older than that, and
	// would not be kept either: the next call derives it anew.
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.terms.Load()
	if d := t.of(f.Version); d != nil && d.Generation < g {
		t.drop(f.Version)
	}
}

// drop forgets what was derived of a version. The alias's mu is held.
func (t *terms) drop(version string) {
	m := maps.Clone(t.all())
	delete(m, version)
	t.derived.Store(&m)
}

var _ hearth.Functions = (*Shares)(nil)

func now(c hearth.Clock) time.Time { return c.Now().UTC().Round(0) }
