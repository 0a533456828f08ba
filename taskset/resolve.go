package taskset

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/share"
)

// live is what of a subscription outlives a change of what was said of it.
type live struct {
	id string

	// derived are what its calls run, by stage and task.
	derived  atomic.Pointer[map[member]*derived]
	deriving sync.Mutex // one derivation at a time

	mu      sync.Mutex // of what follows
	running int
	bucket  bucket
	counts  counts
	keys    map[string]*keyLive // by id
	cpu     budget
}

// member is a task at a stage.
type member struct{ stage, task string }

// derived is what a task's calls run, and under which parameters.
type derived struct {
	*hearth.Function
	parameters []hearth.Parameter
	values     string // as Subscription.Values
}

// saved reports whether there is nothing of it that is not on disk.
func (l *live) saved() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.running == 0 && !l.counts.dirty
}

// life is that of an account's access to an API.
func (s *Sets) life(id string) *live {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lives[id]
	if l == nil {
		l = &live{id: id, keys: map[string]*keyLive{}}
		l.counts = countsOf(s.counts.Get(id))
		s.lives[id] = l
	}
	return l
}

// refusal is why a subscription's calls are refused, or nil.
func (u *sub) refusal() error {
	deny := func(why string) error {
		return hearth.Errorf(hearth.AccessDenied, "The task API %s of the account %s %s", u.API, u.Owner, why)
	}
	switch {
	case u.api == nil:
		return deny("has been deleted.")
	case slices.Contains(u.api.Except, u.Account):
		return deny("has been withdrawn from this account by its owner.")
	case u.Status == Pending:
		return deny("waits for its owner's approval.")
	case u.Status != Active:
		return deny("has been denied to this account by its owner.")
	case u.raised():
		return deny(fmt.Sprintf("asks for a markup of %v, and %v is agreed to. To agree: hearth tasks subscribe %s/%s --as %s --markup %v", u.api.Markup, *u.Markup, u.Owner, u.API, u.Alias, u.api.Markup))
	}
	return nil
}

// raised reports whether the owner asks for more than the subscriber has agreed
// to, which is not to be paid without knowing.
func (u *sub) raised() bool {
	return u.api != nil && u.Markup != nil && u.api.Markup > *u.Markup
}

// Resolve implements hearth.Functions: for ALIAS--TASK of a subscription it
// gives the derived Function of the stage that the qualifier names, for all
// other names what Next has. Errors of such a name: AccessDenied if the
// subscription is not active, or the owner's function is gone; ResourceNotFound
// if there is no such stage or task. None tells anything of the code.
func (s *Sets) Resolve(ctx context.Context, account hearth.Account, name, qualifier string) (*hearth.Function, error) {
	alias, task, ok := strings.Cut(name, Separator)
	if !ok {
		return s.cfg.Next.Resolve(ctx, account, name, qualifier)
	}
	st := s.state.Load()
	u := st.subs[key{account, alias}]
	if u == nil {
		return s.cfg.Next.Resolve(ctx, account, name, qualifier)
	}
	return s.resolve(ctx, st, u, task, qualifier)
}

// resolve is Resolve in one state.
func (s *Sets) resolve(ctx context.Context, st *state, u *sub, task, stage string) (*hearth.Function, error) {
	if u.refused != nil {
		return nil, u.refused
	}
	if stage == "" || stage == hearth.Latest {
		stage = u.api.defaultStage()
	}
	set, ok := u.api.stages[stage]
	if !ok {
		return nil, hearth.Errorf(hearth.NotFound, "Function not found: the task API %s of the account %s has no stage %s", u.API, u.Owner, stage)
	}
	t, ok := set.tasks[task]
	if !ok {
		return nil, hearth.Errorf(hearth.NotFound, "Function not found: the task API %s of the account %s has no task %s at its stage %s", u.API, u.Owner, task, stage)
	}
	if name := share.Missing(set.parameters, u.Set); name != "" {
		return nil, hearth.Errorf(hearth.AccessDenied, "The task API %s of the account %s needs the parameter %s at its stage %s. Set it with: hearth tasks subscribe %s/%s --as %s --set %s=VALUE", u.API, u.Owner, name, stage, u.Owner, u.API, u.Alias, name)
	}
	if err := s.cfg.Usable(u.Owner); err != nil {
		return nil, hearth.Errorf(hearth.AccessDenied, "The account %s, whose task API %s is, is not active.", u.Owner, u.API)
	}
	f, err := s.cfg.Functions.Resolve(ctx, u.Owner, t.Function, t.Version)
	if err != nil {
		switch kind := hearth.KindOf(err); kind {
		case hearth.NotFound, hearth.NoPublishedVersion:
			return nil, hearth.Errorf(hearth.AccessDenied, "The account %s has deleted the function behind the task %s of its API %s.", u.Owner, task, u.API)
		default:
			return nil, hearth.Errorf(hearth.Service, "The task %s of the API %s cannot be looked up.", task, u.API)
		}
	}
	m := member{stage, task}
	if d := u.live.of(m); d != nil && d.of(u, &set, f) {
		return d.Function, nil
	}
	return s.derive(ctx, st, u, m, &set, f)
}

// of is what was derived for a task; nil if nothing was.
func (l *live) of(m member) *derived {
	if all := l.derived.Load(); all != nil {
		return (*all)[m]
	}
	return nil
}

// put keeps what was derived, or with nil forgets it. deriving is held.
func (l *live) put(m member, f *derived) {
	all := map[member]*derived{}
	if was := l.derived.Load(); was != nil {
		all = maps.Clone(*was)
	}
	if f == nil {
		delete(all, m)
	} else {
		all[m] = f
	}
	l.derived.Store(&all)
}

// of reports whether d is what u's calls run of f at a stage.
func (d *derived) of(u *sub, set *stage, f *hearth.Function) bool {
	x := d.Shared
	return x.OwnerFunction == f.Name && x.OwnerVersion == f.Version && x.OwnerGeneration == f.Generation &&
		x.Markup == u.api.Markup && x.Network.Open == u.network().Open && slices.Equal(x.Network.Allow, u.network().Allow) && d.under(u, set)
}

// under reports whether d has the parameters that u's calls have at a stage.
func (d *derived) under(u *sub, set *stage) bool {
	return slices.Equal(d.parameters, set.parameters) && (d.values == u.Values || len(set.parameters) == 0)
}

// network is what a subscription's runs may reach.
func (u *sub) network() hearth.NetworkPolicy {
	if u.Network != nil {
		return *u.Network
	}
	return hearth.NetworkPolicy{Allow: u.api.Reaches}
}

// derive makes what runs f for a task.
func (s *Sets) derive(ctx context.Context, st *state, u *sub, m member, set *stage, f *hearth.Function) (*hearth.Function, error) {
	u.live.deriving.Lock()
	was := u.live.of(m)
	if was != nil && was.of(u, set, f) {
		u.live.deriving.Unlock()
		return was.Function, nil
	}
	fn, err := s.derived(ctx, u, m, set, f)
	if err != nil {
		u.live.deriving.Unlock()
		return nil, err
	}
	// What a state that was replaced meanwhile says is not kept, and does not run
	// either (Enter): it must not take the place of what came after it.
	current := s.state.Load() == st
	if current {
		u.live.put(m, &derived{fn, set.parameters, u.Values})
	}
	u.live.deriving.Unlock()
	if current && was != nil {
		s.cfg.Changed(was.Function, fn)
	}
	return fn, nil
}

func (s *Sets) derived(ctx context.Context, u *sub, m member, set *stage, f *hearth.Function) (*hearth.Function, error) {
	if err := share.Offerable(f); err != nil {
		return nil, hearth.Errorf(hearth.Conflict, "The function behind the task %s of the API %s has become one that cannot be shared.", m.task, u.API)
	}
	var values map[string]string
	if len(set.parameters) > 0 {
		var err error
		if values, err = s.open(u.Subscription); err != nil {
			s.cfg.Log.Error("the parameters of a subscription do not open", "account", u.Account, "subscription", u.Alias, "error", err)
			return nil, hearth.Errorf(hearth.Service, "The parameters of the subscription %s cannot be read: set them anew.", u.Alias)
		}
	}
	g, err := s.cfg.Functions.Generation(ctx)
	if err != nil {
		return nil, hearth.Errorf(hearth.Service, "The task %s of the API %s cannot be made ready: %w", m.task, u.API, err)
	}
	return &hearth.Function{
		Account: u.Account, Region: s.cfg.Region, Name: u.Alias + Separator + m.task, Version: f.Version, Generation: g,
		Runtime: f.Runtime, Handler: f.Handler, MemoryMiB: f.MemoryMiB, Timeout: f.Timeout, TmpMiB: f.TmpMiB,
		Architectures: f.Architectures, Env: share.Environment(f.Env, set.parameters, values), PackageType: f.PackageType, Package: f.Package, Layers: f.Layers, Image: f.Image,
		// The owner's format and levels could tell of the code; its group is its own.
		Logging:     hearth.Logging{Format: "Text"},
		TracingMode: "PassThrough", SnapStart: "None", TenantIsolation: f.TenantIsolation,
		State: hearth.Active, UpdateStatus: hearth.UpdateSuccessful, LastModified: u.Updated.Truncate(time.Millisecond), RevisionID: u.ID,
		Shared: &hearth.Shared{
			Owner: u.Owner, OwnerFunction: f.Name, OwnerVersion: f.Version, OwnerGeneration: f.Generation,
			Offer: u.APIID, Markup: u.api.Markup, Network: u.network(),
			API: u.API, Stage: m.stage, Task: m.task, Subscription: u.ID,
		},
	}, nil
}

// retire lets go of what was derived for tasks that a subscription has no more,
// or with parameters that are set to something else now; a nil u has none. Other
// code is taken over when its next call comes.
func (s *Sets) retire(l *live, u *sub) {
	l.deriving.Lock()
	var gone []*hearth.Function
	if all := l.derived.Load(); all != nil {
		for m, f := range *all {
			keep := false
			if u != nil && u.refused == nil {
				set := u.api.stages[m.stage]
				_, keep = set.tasks[m.task]
				keep = keep && f.under(u, &set) && share.Missing(set.parameters, u.Set) == ""
			}
			if !keep {
				l.put(m, nil)
				gone = append(gone, f.Function)
			}
		}
	}
	l.deriving.Unlock()
	for _, f := range gone {
		s.bury(f)
	}
}

// bury tells that nothing may run f any more: what takes its place is never
// resolved.
func (s *Sets) bury(f *hearth.Function) {
	g, err := s.cfg.Functions.Generation(context.Background())
	if err != nil {
		s.cfg.Log.Error("the containers of a task that is withdrawn may stay until they are idle for long", "task", f.ARN(), "error", err)
		return
	}
	grave := *f
	grave.Generation, grave.Env, grave.State = g, nil, hearth.Inactive
	s.cfg.Changed(f, &grave)
}

var _ hearth.Functions = (*Sets)(nil)
