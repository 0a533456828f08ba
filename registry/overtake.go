package registry

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/hearth-faas/hearth"
)

// updates are the changes of $LATEST that are in progress while what was
// active before still answers, and who waits for their ends.
type updates struct {
	count atomic.Int64

	mu      sync.Mutex
	waiting map[key]chan struct{} // closed when nothing is in progress any more
}

// replacing reports whether a change of $LATEST is in progress, while what was
// active answers.
func (v *view) replacing() bool {
	return v != nil && v.active != nil && v.newest.UpdateStatus == hearth.UpdateInProgress
}

// moved is told after new has been seen instead of old.
func (u *updates) moved(k key, old, new *view) {
	was, is := old.replacing(), new.replacing()
	if was == is {
		return
	}
	if is {
		u.count.Add(1)
		return
	}
	u.count.Add(-1)
	u.mu.Lock()
	defer u.mu.Unlock()
	if ch := u.waiting[k]; ch != nil {
		close(ch)
		delete(u.waiting, k)
	}
}

// end is closed when k's change has ended that is in progress now.
func (u *updates) end(k key) <-chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.waiting[k] == nil {
		if u.waiting == nil {
			u.waiting = map[key]chan struct{}{}
		}
		u.waiting[k] = make(chan struct{})
	}
	return u.waiting[k]
}

// Updating reports whether a change of any function's $LATEST is in progress.
// It costs no more than to look at a number.
func (r *Registry) Updating() bool { return r.updates.count.Load() > 0 }

// Settled waits until no change of $LATEST is in progress, if that is what the
// qualifier names, and tells how it went: waited is whether there was one, and
// err is why it failed. Nothing to wait for is no error.
func (r *Registry) Settled(ctx context.Context, account hearth.Account, name, qualifier string) (waited bool, err error) {
	k := key{account, name}
	for {
		end := r.updates.end(k) // before the look, so that no end is missed
		v := r.view(k)
		if !v.replacing() || !v.latest(qualifier) {
			if !v.replacing() {
				r.updates.forget(k)
			}
			if waited && v != nil && v.newest.UpdateStatus == hearth.UpdateFailed {
				err = hearth.Errorf(hearth.Conflict, "The update that the invocation waited for has failed: %s", v.newest.UpdateReason)
			}
			return waited, err
		}
		waited = true
		select {
		case <-end:
		case <-ctx.Done():
			return true, inProgress(v.newest)
		case <-r.ctx.Done():
			return true, inProgress(v.newest)
		}
	}
}

// forget drops the channel of a function of which nothing is in progress.
func (u *updates) forget(k key) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if ch := u.waiting[k]; ch != nil {
		close(ch) // whoever has it looks again
		delete(u.waiting, k)
	}
}

// latest reports whether the qualifier names $LATEST.
func (v *view) latest(qualifier string) bool {
	if a := v.alias(qualifier); a != nil {
		qualifier = a.Version
	}
	if qualifier == "" {
		return v.newest.CapacityProvider == nil // where it names $LATEST.PUBLISHED
	}
	return qualifier == hearth.Latest
}

// overtake has f, which is prepared, take over from what is active. It returns
// when f may become active.
func (r *Registry) overtake(k key, f *hearth.Function) {
	if r.cfg.Overtake == nil || !r.holds(k, f) {
		return
	}
	switch v := r.view(k); {
	case f.Version == hearth.Latest && v.replacing():
		r.cfg.Overtake(r.ctx, v.active, f)
	case f.Version == hearth.LatestPublished && v.published.running() != nil:
		r.cfg.Overtake(r.ctx, v.published.active, f)
	}
}

// ahead has the versions ready that an alias is about to give more of its
// invocations.
func (r *Registry) ahead(ctx context.Context, k key, alias string, c Alias) {
	v := r.view(k)
	if r.cfg.Ahead == nil || v == nil {
		return
	}
	a := v.alias(alias)
	if a == nil || c.RevisionID != "" && c.RevisionID != a.RevisionID {
		return // which is told below
	}
	next := *a
	set(&next.Version, c.Version)
	if c.Weights != nil {
		next.Weights = c.Weights
	}
	if r.checkAlias(v, &next) != nil {
		return
	}
	from, was := v.runnable(a.Version), shares(a)
	for version, share := range shares(&next) {
		if f := v.runnable(version); from != nil && f != nil && f != from && share > was[version] {
			r.cfg.Ahead(ctx, from, f, share)
		}
	}
}

// shares is what part of its invocations an alias gives each version.
func shares(a *hearth.Alias) map[string]float64 {
	m, rest := map[string]float64{}, 1.0
	for version, weight := range a.Weights {
		m[version] = weight
		rest -= weight
	}
	m[a.Version] += rest
	return m
}

// runnable is the version as it is invoked, or nil.
func (v *view) runnable(version string) *hearth.Function {
	if version == hearth.Latest {
		return v.active
	}
	return v.activeVersion(version)
}
