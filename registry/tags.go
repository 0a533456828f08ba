package registry

import (
	"context"
	"maps"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/tags"
)

// Tags returns the function's tags. The map is the caller's.
func (r *Registry) Tags(_ context.Context, account hearth.Account, name string) (map[string]string, error) {
	v := r.view(key{account, name})
	if v == nil {
		return nil, r.notFound(account, name, "")
	}
	return tags.Without(v.tags, nil), nil
}

// Tag adds tags, or gives them other values. They change no revision and are
// taken in any state.
func (r *Registry) Tag(ctx context.Context, account hearth.Account, name string, more map[string]string) error {
	if len(more) == 0 {
		return invalid("An error occurred and the request cannot be processed.")
	}
	return r.retag(ctx, account, name, func(now map[string]string) (map[string]string, error) { return tags.With(now, more) })
}

// Untag removes tags; those that are not there are no error.
func (r *Registry) Untag(ctx context.Context, account hearth.Account, name string, keys []string) error {
	if len(keys) == 0 {
		return hearth.Errorf(hearth.Validation, "1 validation error detected: Value null at 'tagKeys' failed to satisfy constraint: Member must not be null")
	}
	return r.retag(ctx, account, name, func(now map[string]string) (map[string]string, error) { return tags.Without(now, keys), nil })
}

func (r *Registry) retag(ctx context.Context, account hearth.Account, name string, change func(map[string]string) (map[string]string, error)) error {
	k := key{account, name}
	defer r.locks.lock(k)()
	old := r.view(k)
	if old == nil {
		return r.notFound(account, name, "")
	}
	tags, err := change(old.tags)
	if err != nil || maps.Equal(tags, old.tags) {
		return err
	}
	new := *old
	new.tags = tags
	return internal("Tag", old.newest, r.commit(ctx, k, old, &new))
}
