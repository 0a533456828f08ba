package share

import (
	"context"
	"maps"
	"time"

	"github.com/hearth-faas/hearth"
)

// Resolve implements hearth.Functions: for the name of a shared alias it gives
// the derived Function, for all others what the registry has. Errors of an
// alias: AccessDenied if its owner has withdrawn it or deleted the function or the
// version, or its terms are not met; ResourceNotFound of a qualifier, which an
// alias has none of; and ResourceConflict while the owner's function is not
// Active. None tells anything of the code.
func (s *Shares) Resolve(ctx context.Context, account hearth.Account, name, qualifier string) (*hearth.Function, error) {
	a := s.find(account, name)
	if a == nil {
		return s.cfg.Functions.Resolve(ctx, account, name, qualifier)
	}
	if qualifier != "" && qualifier != hearth.Latest {
		return nil, hearth.Errorf(hearth.NotFound, "Function not found: %s:%s is a shared alias, which has no versions of its own", s.arn(a.key), qualifier)
	}
	return s.resolve(ctx, a, a.terms.Load())
}

func (s *Shares) resolve(ctx context.Context, a *alias, t *terms) (*hearth.Function, error) {
	if err := s.refusal(t); err != nil {
		return nil, err
	}
	f, err := s.cfg.Functions.Resolve(ctx, t.offer.Owner, t.offer.Function, t.version)
	if err != nil {
		return nil, s.unresolved(a, t, err)
	}
	if f.KMSKeyARN != "" && s.cfg.CheckKey != nil && s.cfg.CheckKey(f.KMSKeyARN) != nil {
		return nil, hearth.Errorf(hearth.KMSDisabled, "The function that the shared alias %s runs is under a key of its owner's that is missing or disabled.", s.arn(a.key))
	}
	if d := t.of(f.Version); d != nil && d.Shared.OwnerGeneration >= f.Generation {
		return d, nil // a newer one: f is what was there a moment ago
	}
	return s.derive(ctx, a, t, f)
}

// refusal is why no call is let in under the terms, or nil.
func (s *Shares) refusal(t *terms) error {
	if t.refused != nil {
		return t.refused
	}
	if err := s.cfg.Usable(t.offer.Owner); err != nil {
		return hearth.Errorf(hearth.AccessDenied, "The account %s, whose function the shared alias %s runs, is not active.", t.offer.Owner, t.record.Name)
	}
	return nil
}

// unresolved tells a caller why there is nothing to run, in words that are none
// of the owner's.
func (s *Shares) unresolved(a *alias, t *terms, err error) error {
	switch kind := hearth.KindOf(err); kind {
	case hearth.NotFound, hearth.NoPublishedVersion:
		what := "the function"
		if t.version != "" && t.version != hearth.Latest {
			what = "version " + t.version + " of the function"
		}
		// Not ResourceNotFound, for which stored events are dropped without a trace.
		return hearth.Errorf(hearth.AccessDenied, "The account %s has deleted %s that the shared alias %s runs.", t.offer.Owner, what, s.arn(a.key))
	case hearth.Conflict:
		return hearth.Errorf(hearth.Conflict, "The operation cannot be performed at this time. The function that the shared alias %s runs is not in the state Active.", s.arn(a.key))
	default:
		return hearth.Errorf(hearth.Service, "The function that the shared alias %s runs cannot be looked up.", s.arn(a.key))
	}
}

// derive makes the Function that runs f under the terms.
func (s *Shares) derive(ctx context.Context, a *alias, t *terms, f *hearth.Function) (*hearth.Function, error) {
	a.mu.Lock()
	was := t.of(f.Version)
	if was != nil && was.Shared.OwnerGeneration >= f.Generation {
		a.mu.Unlock()
		return was, nil
	}
	d, err := s.derived(ctx, a, t, f)
	if err != nil {
		a.mu.Unlock()
		return nil, err
	}
	m := maps.Clone(t.all())
	if m == nil {
		m = map[string]*hearth.Function{}
	}
	m[f.Version] = d
	t.derived.Store(&m)
	a.mu.Unlock()
	if was != nil {
		s.cfg.Changed(was, d)
	}
	if a.terms.Load() != t || s.find(a.account, a.name) != a {
		s.bury(a, d) // whoever changed them may not have seen it; Enter looks again
	}
	return d, nil
}

func (s *Shares) derived(ctx context.Context, a *alias, t *terms, f *hearth.Function) (*hearth.Function, error) {
	if err := offerable(f); err != nil {
		return nil, hearth.Errorf(hearth.Conflict, "The function that the shared alias %s runs has become one that cannot be shared.", s.arn(a.key))
	}
	values, err := s.open(s.newest(t.record))
	if err != nil {
		s.cfg.Log.Error("the parameters of a shared alias do not open", "alias", s.arn(a.key), "error", err)
		return nil, hearth.Errorf(hearth.Service, "The parameters of the shared alias %s cannot be read: set them anew.", s.arn(a.key))
	}
	g, err := s.cfg.Functions.Generation(ctx)
	if err != nil {
		return nil, hearth.Errorf(hearth.Service, "The shared alias %s cannot be made ready: %w", s.arn(a.key), err)
	}
	o := t.offer
	return &hearth.Function{
		Account: a.account, Region: s.cfg.Region, Name: a.name, Version: f.Version, Generation: g,
		Runtime: f.Runtime, Handler: f.Handler, Description: t.record.Description,
		MemoryMiB: or(t.record.MemoryMiB, clamp(f.MemoryMiB, o.MinMemoryMiB, o.MaxMemoryMiB)),
		Timeout:   orTime(t.record.TimeoutSeconds, f.Timeout, o.MinTimeoutSeconds, o.MaxTimeoutSeconds),
		TmpMiB:    f.TmpMiB, Architectures: f.Architectures, Env: Environment(f.Env, t.offer.Parameters, values),
		PackageType: f.PackageType, Package: f.Package, Layers: f.Layers, Image: f.Image,
		// The owner's format and levels could tell of the code; its group is its own.
		Logging:     hearth.Logging{Format: "Text"},
		TracingMode: "PassThrough", SnapStart: "None", TenantIsolation: f.TenantIsolation,
		State: hearth.Active, UpdateStatus: hearth.UpdateSuccessful,
		LastModified: t.record.Updated, RevisionID: t.record.Revision,
		Shared: &hearth.Shared{
			Owner: o.Owner, OwnerFunction: o.Function, OwnerVersion: f.Version, OwnerGeneration: f.Generation,
			Offer: o.ID, Markup: o.Markup, Network: t.record.Network,
		},
	}, nil
}

func or(a, b int) int {
	if a != 0 {
		return a
	}
	return b
}

// clamp is n within bounds, of which zero ones are none.
func clamp(n, low, high int) int {
	if high > 0 {
		n = min(n, high)
	}
	return max(n, low)
}

func orTime(seconds int, own time.Duration, low, high int) time.Duration {
	if seconds == 0 {
		seconds = clamp(int(own/time.Second), low, high)
	}
	return time.Duration(seconds) * time.Second
}

func (s *Shares) arn(k key) string {
	return "arn:aws:lambda:" + s.cfg.Region + ":" + string(k.account) + ":function:" + k.name
}

// OwnerChanged is told when a function is another now, nil if it is gone: what
// was derived of it is let go. The next call derives anew.
func (s *Shares) OwnerChanged(old, now *hearth.Function) {
	if old == nil || now != nil {
		return // the next call finds what it is now, and lets go of what was
	}
	for _, a := range *s.index.Load() {
		t := a.terms.Load()
		if t.offer == nil || t.offer.Owner != old.Account || t.offer.Function != old.Name {
			continue
		}
		a.mu.Lock()
		d := t.of(old.Version)
		if d != nil {
			t.drop(old.Version)
		}
		a.mu.Unlock()
		if d != nil {
			s.bury(a, d)
		}
	}
}
