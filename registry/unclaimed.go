package registry

import (
	"context"

	"github.com/hearth-faas/hearth"
)

// Unclaimed runs f while no function of the name can be made, so that the name
// can be given to something else (Config.Taken). If there is such a function, or
// the name is something else's already, it returns ResourceConflict instead. f must
// not change functions of that name.
func (r *Registry) Unclaimed(account hearth.Account, name string, f func() error) error {
	k := key{account, name}
	defer r.locks.lock(k)()
	if err := r.free(k); err != nil {
		return err
	}
	return f()
}

// free tells what has the name; nil is nothing. It stays so while the name's lock
// is held.
func (r *Registry) free(k key) error {
	switch {
	case r.view(k) != nil:
		return hearth.Errorf(hearth.Conflict, "Function already exist: %s", k.name)
	case r.cfg.Taken != nil && r.cfg.Taken(k.account, k.name):
		return hearth.Errorf(hearth.Conflict, "Function already exist: %s is the account's name for another account's function: hearth shared-alias and hearth tasks list those", k.name)
	}
	return nil
}

// Generation gives a number that no Function has had, nor will have.
func (r *Registry) Generation(ctx context.Context) (uint64, error) { return r.generations.take(ctx) }
