package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"

	"github.com/hearth-faas/hearth"
)

// aliasRecord is an alias on disk.
type aliasRecord struct {
	Version     string             `json:"version"`
	Description string             `json:"description,omitempty"`
	Weights     map[string]float64 `json:"weights,omitempty"`
	RevisionID  string             `json:"revisionId"`
}

func decodeAlias(k key, region, name string, data []byte) (*hearth.Alias, error) {
	var rec aliasRecord
	if err := json.Unmarshal(data, &rec); err != nil {
		return nil, err
	}
	return &hearth.Alias{Account: k.account, Region: region, Function: k.name, Name: name, Version: rec.Version,
		Description: rec.Description, Weights: rec.Weights, RevisionID: rec.RevisionID}, nil
}

// alias finds an alias by its name, or returns nil.
func (v *view) alias(name string) *hearth.Alias {
	// Written out, as find is: Resolve must not allocate.
	lo, hi := 0, len(v.aliases)
	for lo < hi {
		if mid := int(uint(lo+hi) >> 1); v.aliases[mid].Name < name {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(v.aliases) && v.aliases[lo].Name == name {
		return v.aliases[lo]
	}
	return nil
}

// route chooses the version that an invocation of the alias runs. pick gives
// a number from 0 to below 1.
func route(a *hearth.Alias, pick func() float64) string {
	for version, weight := range a.Weights { // at most one
		if pick() < weight {
			return version
		}
	}
	return a.Version
}

// resolve finds what an invocation with the qualifier runs, in whatever state
// it is; nil if there is no such thing.
func (v *view) resolve(qualifier string, pick func() float64) *hearth.Function {
	if a := v.alias(qualifier); a != nil {
		qualifier = route(a, pick)
	}
	switch qualifier {
	case "":
		if v.newest.CapacityProvider != nil {
			return v.published.resolve()
		}
	case hearth.Latest:
	case hearth.LatestPublished:
		return v.published.resolve()
	default:
		return v.version(qualifier)
	}
	if v.active != nil {
		return v.active
	}
	return v.newest
}

// Alias asks for a new alias, or for a change of one: what is nil stays as it
// is.
type Alias struct {
	Version     *string
	Description *string
	Weights     map[string]float64 // empty and not nil removes them
	RevisionID  string             // of an update: "" is any
}

func (r *Registry) noAlias(account hearth.Account, name, alias string) error {
	return hearth.Errorf(hearth.NotFound, "Cannot find alias arn: %s:%s", r.arn(account, name), alias)
}

// Alias returns an alias, which is shared and must not be changed. Errors:
// ResourceNotFound.
func (r *Registry) Alias(_ context.Context, account hearth.Account, name, alias string) (*hearth.Alias, error) {
	if v := r.view(key{account, name}); v != nil {
		if a := v.alias(alias); a != nil {
			return a, nil
		}
	}
	return nil, r.noAlias(account, name, alias)
}

// Aliases returns the function's aliases in the order of their names, only
// those to version if it is not "", by pages as List does.
func (r *Registry) Aliases(_ context.Context, account hearth.Account, name, version, marker string, max int) (as []*hearth.Alias, next string, err error) {
	v := r.view(key{account, name})
	if v == nil {
		return nil, "", r.notFound(account, name, "")
	}
	after, _, err := readMarker(marker)
	if err != nil {
		return nil, "", err
	}
	max = page(max)
	for _, a := range v.aliases {
		if a.Name <= after && marker != "" || version != "" && a.Version != version && !has(a.Weights, version) {
			continue
		}
		if len(as) == max {
			return as, marked(as[max-1].Name, 0), nil
		}
		as = append(as, a)
	}
	return as, "", nil
}

func has(weights map[string]float64, version string) bool {
	_, ok := weights[version]
	return ok
}

// CreateAlias makes an alias. Version must be set. Errors: ResourceNotFound,
// ResourceConflict if there is one of the name, InvalidParameterValue.
func (r *Registry) CreateAlias(ctx context.Context, account hearth.Account, name, alias string, c Alias) (*hearth.Alias, error) {
	k := key{account, name}
	defer r.locks.lock(k)()
	old := r.view(k)
	switch {
	case old == nil:
		return nil, r.notFound(account, name, *c.Version)
	case old.alias(alias) != nil:
		return nil, hearth.Errorf(hearth.Conflict, "Alias already exists: %s:%s", r.arn(account, name), alias)
	}
	a := &hearth.Alias{Account: account, Region: r.cfg.Region, Function: name, Name: alias}
	return r.setAlias(ctx, k, old, a, c)
}

// UpdateAlias changes an alias, once Config.Ahead has the versions ready that
// it is to point to. Errors: as those of CreateAlias, and
// PreconditionFailed for another revision.
func (r *Registry) UpdateAlias(ctx context.Context, account hearth.Account, name, alias string, c Alias) (*hearth.Alias, error) {
	k := key{account, name}
	r.ahead(ctx, k, alias, c) // without the lock: it may take a while
	defer r.locks.lock(k)()
	old := r.view(k)
	if old == nil || old.alias(alias) == nil {
		return nil, hearth.Errorf(hearth.NotFound, "Alias not found: %s:%s", r.arn(account, name), alias)
	}
	a := *old.alias(alias)
	if c.RevisionID != "" && c.RevisionID != a.RevisionID {
		return nil, wrongRevision()
	}
	return r.setAlias(ctx, k, old, &a, c)
}

// setAlias gives a what c sets and commits it. The caller holds the key's
// lock.
func (r *Registry) setAlias(ctx context.Context, k key, old *view, a *hearth.Alias, c Alias) (_ *hearth.Alias, err error) {
	set(&a.Version, c.Version)
	set(&a.Description, c.Description)
	if c.Weights != nil {
		a.Weights = maps.Clone(c.Weights)
		if len(a.Weights) == 0 {
			a.Weights = nil
		}
	}
	if err := r.checkAlias(old, a); err != nil {
		return nil, err
	}
	if a.RevisionID, err = r.revision(); err != nil {
		return nil, internal("setAlias", old.newest, err)
	}
	v := *old
	i, found := slices.BinarySearchFunc(v.aliases, a.Name, func(b *hearth.Alias, name string) int { return cmp.Compare(b.Name, name) })
	v.aliases = slices.Clone(v.aliases)
	if found {
		v.aliases[i] = a
	} else {
		v.aliases = slices.Insert(v.aliases, i, a)
	}
	if err := r.commit(ctx, k, old, &v); err != nil {
		return nil, internal("setAlias", old.newest, err)
	}
	return a, nil
}

// checkAlias tells whether a may point where it does.
func (r *Registry) checkAlias(v *view, a *hearth.Alias) error {
	if len(a.Weights) > 1 {
		return invalid("Number of items in AdditionalVersionWeights cannot be greater than 1")
	}
	for version := range a.Weights {
		switch {
		case a.Version == hearth.Latest:
			return invalid("$LATEST is not supported for an alias pointing to more than 1 version")
		case version == a.Version:
			return invalid("Invalid function version %s. Function version %s is already included in routing configuration.", version, version)
		case v.version(version) == nil:
			return r.notFound(a.Account, a.Function, version)
		}
	}
	if a.Version != hearth.Latest && v.version(a.Version) == nil {
		return r.notFound(a.Account, a.Function, a.Version)
	}
	if s := v.settings[a.Name]; s != nil && s.Provisioned != nil {
		return v.checkProvisionedAlias(a)
	}
	return nil
}

// DeleteAlias removes an alias with its settings; that there is none is no
// error. Errors: ResourceNotFound if there is no function.
func (r *Registry) DeleteAlias(ctx context.Context, account hearth.Account, name, alias string) error {
	k := key{account, name}
	defer r.locks.lock(k)()
	old := r.view(k)
	switch {
	case old == nil:
		return r.notFound(account, name, "")
	case old.alias(alias) == nil:
		return nil
	}
	v := *old
	v.aliases = slices.DeleteFunc(slices.Clone(v.aliases), func(a *hearth.Alias) bool { return a.Name == alias })
	v.settings = without(v.settings, alias)
	return internal("DeleteAlias", old.newest, r.commit(ctx, k, old, &v))
}

// pointing are the aliases that name the version.
func (v *view) pointing(version string) (names []string) {
	for _, a := range v.aliases {
		if a.Version == version || has(a.Weights, version) {
			names = append(names, a.Name)
		}
	}
	return names
}
