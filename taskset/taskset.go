// Package taskset lets an account publish a set of its functions as one API
// that other accounts call (S06).
//
// An API has versions, which are immutable lists of tasks, and stages, which
// point at versions. An account that asks is enabled, at once or when the owner
// approves, and then has names for all tasks in its own function namespace:
// img--thumb is the task thumb of the API img at its stage of default,
// img--thumb:beta at its stage beta. They are shared aliases (S05): what such a
// name resolves to is a Function that is derived of the owner's, with the code
// of the owner, the account of the caller, and Shared set, so that everything
// below withholds, isolates and meters as it does for those.
//
// The whole of what is said about APIs and subscriptions is one immutable state
// behind one pointer. A change is on disk first and then replaces the pointer:
// a call goes by one state from its name to its Function, so that it sees a set
// as it was or as it is, and whoever has seen the new one never sees the old
// again.
package taskset

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/share"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/table"
)

// Functions are the accounts' own functions.
type Functions interface {
	hearth.Functions
	// Generation gives a number that no Function has.
	Generation(ctx context.Context) (uint64, error)
}

// Config is what Sets work with. All fields are needed but where it says
// otherwise.
type Config struct {
	Store store.Store
	// Functions are the owners' functions. Next answers for the names that are
	// none of an API; nil is Functions.
	Functions Functions
	Next      hearth.Functions
	Seal      share.Sealer // of parameters
	Clock     hearth.Clock
	Region    string
	// Publish gives the number of the version that a function's code is as it is
	// now, and makes that if there is none.
	Publish func(ctx context.Context, account hearth.Account, function string) (string, error)
	// Changed is told when now takes the place of old, so that what runs old is
	// let go; nil is nobody.
	Changed func(old, now *hearth.Function)
	// Usable tells why an account's functions may not be run, or run for it; nil
	// is that all may.
	Usable func(hearth.Account) error
	// Taken names a function of the account's whose name begins with the prefix,
	// "" if there is none; nil is that there is none.
	Taken func(account hearth.Account, prefix string) string
	// CPU is what an account has used of an owner's API in this month, for budgets;
	// nil is that budgets are not held to.
	CPU func(ctx context.Context, account, owner hearth.Account, api string) (time.Duration, error)
	Log *slog.Logger // nil is slog.Default
}

// Sets are the APIs and the subscriptions to them. Safe for concurrent use.
// Resolve takes no lock once a task has been called.
type Sets struct {
	cfg    Config
	apis   *table.Table[API]
	subs   *table.Table[Subscription]
	counts *table.Table[Counts]

	changing sync.Mutex // one change at a time
	state    atomic.Pointer[state]

	looks sync.WaitGroup // at budgets

	mu    sync.Mutex // of lives
	lives map[string]*live
	saver *table.Saver // of what they count
}

// The buckets of the records, and the version of their form.
const (
	apisBucket   = "taskset-apis"          // owner/name    → API
	subsBucket   = "taskset-subscriptions" // account/alias → Subscription
	countsBucket = "taskset-counts"        // API's id/account, or key's id → Counts
	format       = 1
)

// state is everything that was said, at a moment. It never changes.
type state struct {
	apis map[key]*api
	subs map[key]*sub
	keys map[[32]byte]*sub // by a key's hash
}

// key names an API by its owner, or a subscription by its account.
type key struct {
	account hearth.Account
	name    string
}

func (k key) String() string { return string(k.account) + "/" + k.name }

// api is an API with what is looked up of it.
type api struct {
	*API
	stages map[string]stage
}

// stage is a version of an API that calls can be for.
type stage struct {
	tasks      map[string]Task
	parameters []hearth.Parameter
}

// sub is a subscription with what it is to.
type sub struct {
	*Subscription
	api *api // nil: it is gone
	// refused is why no call is let in; nil is that they are.
	refused error
	live    *live
}

// Open reads what there is. The caller closes the store after the Sets.
func Open(ctx context.Context, cfg Config) (s *Sets, err error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Next == nil {
		cfg.Next = cfg.Functions
	}
	if cfg.Changed == nil {
		cfg.Changed = func(_, _ *hearth.Function) {}
	}
	if cfg.Usable == nil {
		cfg.Usable = func(hearth.Account) error { return nil }
	}
	if cfg.Taken == nil {
		cfg.Taken = func(hearth.Account, string) string { return "" }
	}
	s = &Sets{cfg: cfg, lives: map[string]*live{}}
	s.saver = table.NewSaver(cfg.Clock, s.save, func(err error) {
		cfg.Log.Error("the counts of task APIs could not be stored; they are tried again", "error", err)
	})
	if s.apis, err = table.Open[API](ctx, cfg.Store, apisBucket); err == nil {
		if s.subs, err = table.Open[Subscription](ctx, cfg.Store, subsBucket); err == nil {
			s.counts, err = table.Open[Counts](ctx, cfg.Store, countsBucket)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("taskset: %w", err)
	}
	for k, a := range s.apis.Scan("", "") {
		if a.Format != format {
			return nil, newer("API", k, a.Format)
		}
	}
	for k, r := range s.subs.Scan("", "") {
		if r.Format != format {
			return nil, newer("subscription", k, r.Format)
		}
	}
	if err := s.agree(ctx); err != nil {
		return nil, fmt.Errorf("taskset: %w", err)
	}
	s.renew()
	return s, nil
}

// agree has subscriptions of before markups were agreed to agree to what is asked
// now, so that it is not raised on them either.
func (s *Sets) agree(ctx context.Context) error {
	for k, r := range s.subs.Scan("", "") {
		a := s.apis.Get(key{r.Owner, r.API}.String())
		if r.Markup != nil || a == nil || a.ID != r.APIID {
			continue
		}
		again := *r
		again.Markup = new(a.Markup)
		if _, err := s.subs.Change(ctx, k, func(*Subscription) (*Subscription, error) { return &again, nil }); err != nil {
			return err
		}
	}
	return nil
}

func newer(what, key string, v int) error {
	return fmt.Errorf("taskset: the %s %s is of version %d, and this Hearth knows %d: it was written by a newer one", what, key, v, format)
}

// renew replaces the state by what the tables have, and lets go of what no call
// can come to any more. changing is held, but by Open.
func (s *Sets) renew() {
	st := &state{apis: map[key]*api{}, subs: map[key]*sub{}, keys: map[[32]byte]*sub{}}
	for _, a := range s.apis.Scan("", "") {
		st.apis[key{a.Owner, a.Name}] = newAPI(a)
	}
	for _, r := range s.subs.Scan("", "") {
		u := &sub{Subscription: r, live: s.life(r.life())}
		if a := st.apis[key{r.Owner, r.API}]; a != nil && a.ID == r.APIID {
			u.api = a
		}
		u.refused = u.refusal()
		st.subs[key{r.Account, r.Alias}] = u
		for _, k := range r.Keys {
			st.keys[[32]byte(k.Hash)] = u
		}
	}
	s.state.Store(st)
	kept := map[*live]bool{}
	for _, u := range st.subs {
		kept[u.live] = true
		s.retire(u.live, u)
	}
	s.mu.Lock()
	var gone []*live
	for id, l := range s.lives {
		if !kept[l] {
			gone = append(gone, l)
			if l.saved() {
				delete(s.lives, id)
			}
		}
	}
	s.mu.Unlock()
	for _, l := range gone {
		s.retire(l, nil)
	}
}

func newAPI(a *API) *api {
	out := &api{API: a, stages: map[string]stage{}}
	for name, number := range a.Stages {
		st := stage{tasks: map[string]Task{}}
		for _, v := range a.Versions {
			if v.Number == number {
				st.parameters = v.Parameters
				for _, t := range v.Tasks {
					st.tasks[t.Name] = t
				}
			}
		}
		out.stages[name] = st
	}
	return out
}

// defaultStage is the one that a call without one is for.
func (a *API) defaultStage() string {
	if a.Stage != "" {
		return a.Stage
	}
	return DefaultStage
}

func (s *Sets) now() time.Time { return s.cfg.Clock.Now().UTC().Round(0) }

// Close saves the counts. No method may be called after it.
func (s *Sets) Close() error {
	s.looks.Wait()
	return s.saver.Close()
}
