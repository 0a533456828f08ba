package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/hearth-faas/hearth/store"
)

// Reseal gives visit each environment as the server's own key has sealed it, and
// puts what that returns in its place, unless it is nil. A function's own are
// replaced together. Those under keys of one's own are sealed by these.
func (r *Registry) Reseal(ctx context.Context, visit func(sealed, associated []byte) ([]byte, error), rest func(context.Context) error) error {
	r.sealing.Lock() // whoever sealed before has it on disk
	//lint:ignore SA2001 it is waited for
	r.sealing.Unlock()
	for _, k := range r.keys() {
		if err := r.resealOne(ctx, k, visit); err != nil {
			return err
		}
		if err := rest(ctx); err != nil {
			return err
		}
	}
	return nil
}

// keys are those of all functions, in order.
func (r *Registry) keys() (all []key) {
	r.mu.Lock()
	for account, a := range r.accounts {
		for _, name := range a.names {
			all = append(all, key{account, name})
		}
	}
	r.mu.Unlock()
	slices.SortFunc(all, func(a, b key) int { return strings.Compare(a.record(), b.record()) })
	return all
}

func (r *Registry) resealOne(ctx context.Context, k key, visit func(sealed, associated []byte) ([]byte, error)) error {
	defer r.locks.lock(k)() // nobody else writes what is read here
	changed := map[place][]byte{}
	err := r.cfg.Store.View(ctx, func(tx store.Reader) error {
		value, ok, err := tx.Get(functionsBucket, k.record())
		if err != nil || !ok {
			return err
		}
		var f functionRecord
		if err := reseal(k, value, &f, func() []*configuration {
			all := []*configuration{&f.Newest, f.Active, f.Running}
			if f.Published != nil {
				all = append(all, &f.Published.Function)
			}
			return all
		}, visit, func(again []byte) { changed[place{functionsBucket, k.record()}] = again }); err != nil {
			return err
		}
		for rec, err := range tx.Scan(versionsBucket, k.record()+"/", "") {
			if err != nil {
				return err
			}
			var v versionRecord
			if err := reseal(k, rec.Value, &v, func() []*configuration { return []*configuration{&v.Function} }, visit,
				func(again []byte) { changed[place{versionsBucket, rec.Key}] = again }); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || len(changed) == 0 {
		return err
	}
	return r.cfg.Store.Update(ctx, func(tx store.Tx) error {
		for at, value := range changed {
			if err := tx.Put(at.bucket, at.key, value); err != nil {
				return err
			}
		}
		return nil
	})
}

// reseal has visit decide about the environments in one record, which is decoded
// into rec, and gives keep the record if one is another now.
func reseal(k key, value []byte, rec any, in func() []*configuration, visit func(sealed, associated []byte) ([]byte, error), keep func([]byte)) error {
	if err := json.Unmarshal(value, rec); err != nil {
		return fmt.Errorf("a record of function %s is damaged: %w", k.record(), err)
	}
	changed := false
	for _, c := range in() {
		if c == nil || len(c.Env) == 0 || c.EnvKey != "" {
			continue
		}
		again, err := visit(c.Env, sealedTo(k.account, k.name))
		if err != nil {
			return err
		}
		if again != nil {
			c.Env, changed = again, true
		}
	}
	if !changed {
		return nil
	}
	again, err := json.Marshal(rec)
	if err == nil {
		keep(again)
	}
	return err
}
