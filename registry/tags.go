package registry

import (
	"context"
	"maps"

	"github.com/hearth-faas/hearth"
)

// Tags returns the function's tags. The map is the caller's.
func (r *Registry) Tags(_ context.Context, account hearth.Account, name string) (map[string]string, error) {
	v := r.view(key{account, name})
	if v == nil {
		return nil, r.notFound(account, name, "")
	}
	tags := maps.Clone(v.tags)
	if tags == nil {
		tags = map[string]string{}
	}
	return tags, nil
}

// Tag adds tags, or gives them other values. They change no revision and are
// taken in any state.
func (r *Registry) Tag(ctx context.Context, account hearth.Account, name string, tags map[string]string) error {
	return r.retag(ctx, account, name, func(now map[string]string) error {
		if len(tags) == 0 {
			return invalid("An error occurred and the request cannot be processed.")
		}
		maps.Copy(now, tags)
		return checkTags(now)
	})
}

// Untag removes tags; those that are not there are no error.
func (r *Registry) Untag(ctx context.Context, account hearth.Account, name string, keys []string) error {
	return r.retag(ctx, account, name, func(now map[string]string) error {
		if len(keys) == 0 {
			return hearth.Errorf(hearth.Validation, "1 validation error detected: Value null at 'tagKeys' failed to satisfy constraint: Member must not be null")
		}
		for _, k := range keys {
			delete(now, k)
		}
		return nil
	})
}

func (r *Registry) retag(ctx context.Context, account hearth.Account, name string, change func(map[string]string) error) error {
	k := key{account, name}
	defer r.locks.lock(k)()
	tags, err := r.Tags(ctx, account, name)
	if err != nil {
		return err
	}
	if err := change(tags); err != nil {
		return err
	}
	old := r.view(k)
	if maps.Equal(tags, old.tags) {
		return nil
	}
	new := *old
	new.tags = tags
	return internal("Tag", old.newest, r.commit(ctx, k, old, &new))
}
