package registry

import (
	"context"
	"iter"
	"math"
	"reflect"
	"slices"
	"strings"

	"github.com/hearth-faas/hearth"
)

// What functions take of their account's concurrency. Each number is a
// function's setting; what must hold is of the account as a whole, so that
// whoever takes more decides under one lock.

// leastUnreserved is how much of an account's concurrency must be left to the functions
// that have reserved none.
const leastUnreserved = 100

// Reserve gives a function n of its account's concurrency for itself; nil
// takes its reservation back. Errors: ResourceNotFound, and
// InvalidParameterValue if too little would be left to the account, or if
// more is provisioned for the function.
func (r *Registry) Reserve(ctx context.Context, account hearth.Account, name string, n *int) error {
	r.claims.Lock()
	defer r.claims.Unlock()
	_, err := r.Configure(ctx, account, name, "", func(s *Settings) error {
		if n == nil {
			s.ReservedConcurrency = nil
			return nil
		}
		all := r.view(key{account, name}).settings
		if provisioned := provisionedBut(all, ""); provisioned > *n {
			return invalid(" ReservedConcurrentExecutions  %d should not be lower than function's total provisioned concurrency [%d].", *n, provisioned)
		}
		if had := claimed(all); *n > had && r.Unreserved(account)+had-*n < r.floor(account) {
			return invalid("Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [%d].", r.floor(account))
		}
		s.ReservedConcurrency = new(*n)
		return nil
	})
	return err
}

// Provision asks for n environments, at least 1, that are kept ready for a
// published version or an alias, and returns what is configured then. Errors:
// ResourceNotFound, InvalidParameterValue, ResourceConflict.
func (r *Registry) Provision(ctx context.Context, account hearth.Account, name, qualifier string, n int) (*Provisioned, error) {
	r.claims.Lock()
	defer r.claims.Unlock()
	s, err := r.Configure(ctx, account, name, qualifier, func(s *Settings) error {
		v := r.view(key{account, name})
		if err := checkProvisioned(v, qualifier); err != nil {
			return err
		}
		if err := r.checkProvisionedCount(account, v, qualifier, n); err != nil {
			return err
		}
		s.Provisioned = &Provisioned{Requested: n, Modified: r.cfg.Clock.Now().UTC().Round(0)}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s.Provisioned, nil
}

// checkProvisioned tells whether environments can be provisioned for the
// qualifier.
func checkProvisioned(v *view, qualifier string) error {
	switch {
	case settingsKey(qualifier) == "":
		return unpublished()
	case v.newest.TenantIsolation != "":
		return invalid("Provisioned concurrency is not supported for functions with tenant isolation enabled.")
	case v.newest.CapacityProvider != nil:
		return invalid("Provisioned concurrency is not supported for functions with a capacity provider.")
	}
	if a := v.alias(qualifier); a != nil {
		if len(a.Weights) > 0 {
			return invalid("Alias with weights can not be used with Provisioned Concurrency")
		}
		return v.checkProvisionedAlias(a)
	}
	for _, name := range v.pointing(qualifier) {
		if s := v.settings[name]; s != nil && s.Provisioned != nil {
			return hearth.Errorf(hearth.Conflict, "Version is pointed by a Provisioned Concurrency alias")
		}
	}
	return nil
}

// checkProvisionedAlias tells whether an alias for which environments are
// provisioned may point where it does.
func (v *view) checkProvisionedAlias(a *hearth.Alias) error {
	if a.Version == hearth.Latest {
		return unpublished()
	}
	for qualifier, s := range v.settings {
		if s.Provisioned != nil && (qualifier == a.Version || has(a.Weights, qualifier)) {
			return hearth.Errorf(hearth.Conflict, "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version")
		}
	}
	return nil
}

func unpublished() error {
	return invalid("Provisioned Concurrency Configs cannot be applied to unpublished function versions.")
}

func (r *Registry) checkProvisionedCount(account hearth.Account, v *view, qualifier string, n int) error {
	others := provisionedBut(v.settings, qualifier)
	if s := v.settings[""]; s != nil && s.ReservedConcurrency != nil {
		if others+n > *s.ReservedConcurrency {
			return invalid("Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function")
		}
		return nil
	}
	left := r.Unreserved(account) + claimed(v.settings) - others
	switch {
	case others+n <= claimed(v.settings):
		return nil
	case n > left:
		return invalid("Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [%d].", left)
	case left-n < r.floor(account):
		return invalid("Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [%d].", r.floor(account))
	}
	return nil
}

// floor is how much of an account's concurrency nobody may claim.
func (r *Registry) floor(account hearth.Account) int {
	return min(leastUnreserved, r.quota(account).Concurrency)
}

// Unreserved is how much of the account's concurrency no function has for
// itself.
func (r *Registry) Unreserved(account hearth.Account) int {
	left := r.quota(account).Concurrency
	for k, v := range r.all() {
		if k.account == account {
			left -= claimed(v.settings)
		}
	}
	return max(left, 0) // a quota may be less than what is claimed
}

// claimed is what a function with these settings takes of its account's
// concurrency.
func claimed(settings map[string]*Settings) int {
	if s := settings[""]; s != nil && s.ReservedConcurrency != nil {
		return *s.ReservedConcurrency
	}
	return provisionedBut(settings, "")
}

// provisionedBut is how many environments are to be kept ready for qualifiers
// other than one.
func provisionedBut(settings map[string]*Settings, qualifier string) (n int) {
	for q, s := range settings {
		if q != qualifier && s.Provisioned != nil {
			n += s.Provisioned.Requested
		}
	}
	return n
}

// concurrency is what Config.Concurrent is told of a function.
func (v *view) concurrency(k key) *hearth.Concurrency {
	c := &hearth.Concurrency{Account: k.account, Function: k.name}
	if v == nil {
		return c
	}
	for qualifier, s := range v.settings {
		if qualifier == "" {
			c.Reserved = s.ReservedConcurrency
		}
		if s.Provisioned != nil {
			c.Provisions = append(c.Provisions, v.provisions(qualifier, s.Provisioned.Requested)...)
		}
		if s.Scaling != nil {
			c.Scaling = append(c.Scaling, v.scaling(qualifier, s.Scaling))
		}
	}
	slices.SortFunc(c.Scaling, func(a, b hearth.Scaling) int { return strings.Compare(a.Version, b.Version) })
	slices.SortFunc(c.Provisions, func(a, b hearth.Provision) int {
		if a.Qualifier != b.Qualifier {
			return strings.Compare(a.Qualifier, b.Qualifier)
		}
		return strings.Compare(a.Version, b.Version)
	})
	return c
}

// scaling is how the environments of a version are bounded.
func (v *view) scaling(version string, s *Scaling) hearth.Scaling {
	out := hearth.Scaling{Version: version, Function: v.activeVersion(version), Max: -1}
	if s.MinEnvironments != nil {
		out.Min = *s.MinEnvironments
	}
	if s.MaxEnvironments != nil {
		out.Max = *s.MaxEnvironments
	}
	return out
}

// activeVersion is nil for a version that is not Active.
func (v *view) activeVersion(version string) *hearth.Function {
	if version == hearth.LatestPublished {
		return v.published.running()
	}
	if f := v.version(version); f != nil && f.State == hearth.Active {
		return f
	}
	return nil
}

// PlacedOn yields the account's functions and versions that are placed on the
// capacity provider, in no order.
func (r *Registry) PlacedOn(account hearth.Account, provider string) iter.Seq[*hearth.Function] {
	on := func(f *hearth.Function) bool { return f.CapacityProvider != nil && f.CapacityProvider.ARN == provider }
	return func(yield func(*hearth.Function) bool) {
		for k, v := range r.all() {
			if k.account != account {
				continue
			}
			if on(v.newest) && !yield(v.newest) {
				return
			}
			for f := range v.publishedVersions {
				if on(f) && !yield(f) {
					return
				}
			}
		}
	}
}

// provisions are n environments for the qualifier: of its version, or of both
// of an alias by their weights.
func (v *view) provisions(qualifier string, n int) (ps []hearth.Provision) {
	add := func(version string, n int) {
		ps = append(ps, hearth.Provision{Qualifier: qualifier, Version: version, Function: v.activeVersion(version), Count: n})
	}
	a := v.alias(qualifier)
	if a == nil {
		add(qualifier, n)
		return ps
	}
	for version, weight := range a.Weights { // at most one
		other := int(math.Round(float64(n) * weight))
		add(version, other)
		n -= other
	}
	add(a.Version, n)
	return ps
}

// tellConcurrency calls Concurrent if the function's concurrency changed.
func (r *Registry) tellConcurrency(k key, old, new *view) {
	if !old.configured() && !new.configured() {
		return // as most are
	}
	if was, is := old.concurrency(k), new.concurrency(k); !sameConcurrency(was, is) {
		r.cfg.Concurrent(is)
	}
}

// configured tells whether there are any settings, without which a function has
// no concurrency of its own.
func (v *view) configured() bool { return v != nil && len(v.settings) > 0 }

func sameConcurrency(a, b *hearth.Concurrency) bool {
	return reflect.DeepEqual(a.Reserved, b.Reserved) && slices.Equal(a.Provisions, b.Provisions) && slices.Equal(a.Scaling, b.Scaling)
}

// Unprovision withdraws what Provision asked for; that nothing was asked for
// is no error. Errors: ResourceNotFound.
func (r *Registry) Unprovision(ctx context.Context, account hearth.Account, name, qualifier string) error {
	_, err := r.Configure(ctx, account, name, qualifier, func(s *Settings) error {
		s.Provisioned = nil
		return nil
	})
	return err
}
