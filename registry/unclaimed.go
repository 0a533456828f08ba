package registry

import (
	"context"

	"github.com/hearth-faas/hearth"
)

// Unclaimed runs f while no function of the name can be made, so that the name
// can be given to something else (Config.Taken). If there is such a function it
// returns ResourceConflict instead. f must not change functions of that name.
func (r *Registry) Unclaimed(account hearth.Account, name string, f func() error) error {
	k := key{account, name}
	defer r.locks.lock(k)()
	if r.view(k) != nil {
		return exists(name)
	}
	return f()
}

// Generation gives a number that no Function has had, nor will have.
func (r *Registry) Generation(ctx context.Context) (uint64, error) { return r.generations.take(ctx) }
