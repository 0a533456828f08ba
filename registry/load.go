package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
)

// How the memory is filled from the records at a start.

// load fills the memory from the store.
func (r *Registry) load(ctx context.Context) error {
	views := map[key]*view{}
	err := r.cfg.Store.View(ctx, func(tx store.Reader) error {
		err := decodeAll(tx, functionsBucket, func(rec store.Record) (*view, error) {
			v, err := decodeView(rec.Value, r.vault())
			if err != nil {
				return nil, fmt.Errorf("the record of function %s is damaged: %w", rec.Key, err)
			}
			return v, nil
		}, func(rec store.Record, v *view) error {
			k := key{v.newest.Account, v.newest.Name}
			if k.record() != rec.Key {
				return fmt.Errorf("the record of function %s is that of %s", rec.Key, k.record())
			}
			views[k] = v
			return nil
		})
		if err != nil {
			return err
		}
		err = decodeAll(tx, versionsBucket, func(rec store.Record) (version, error) {
			ver, err := decodeVersion(rec.Value, r.vault())
			if err != nil {
				return ver, fmt.Errorf("the record of version %s is damaged: %w", rec.Key, err)
			}
			return ver, nil
		}, func(rec store.Record, ver version) error {
			k := key{ver.f.Account, ver.f.Name}
			if views[k] == nil || k.versionKey(ver.number) != rec.Key {
				return fmt.Errorf("the version %s belongs to no function", rec.Key)
			}
			views[k].versions = append(views[k].versions, ver) // in order
			return nil
		})
		if err != nil {
			return err
		}
		return loadBeside(tx, views)
	})
	if err != nil {
		return err
	}
	for k, v := range views {
		r.packages.refer(nil, v)
		a := r.account(k.account)
		a.names = append(a.names, k.name)
		a.code += v.codeBytes()
		r.denials.Add(v.denials())
		r.setView(k, v)
	}
	for _, a := range r.accounts {
		slices.Sort(a.names)
	}
	return nil
}

// decodeAll reads the records of a bucket, has them decoded by all processors,
// and gives what came of each to take, one at a time and in their order.
func decodeAll[T any](tx store.Reader, bucket string, decode func(store.Record) (T, error), take func(store.Record, T) error) error {
	const some = 1024 // in memory at once
	records, decoded, errs := make([]store.Record, 0, some), make([]T, some), make([]error, some)
	flush := func() error {
		var wg sync.WaitGroup
		for w, n := 0, runtime.GOMAXPROCS(0); w < n; w++ {
			wg.Go(func() {
				for i := w; i < len(records); i += n {
					decoded[i], errs[i] = decode(records[i])
				}
			})
		}
		wg.Wait()
		for i, rec := range records {
			err := errs[i]
			if err == nil {
				err = take(rec, decoded[i])
			}
			if err != nil {
				return err
			}
		}
		records = records[:0]
		return nil
	}
	for rec, err := range tx.Scan(bucket, "", "") {
		if err == nil {
			if records = append(records, rec); len(records) == some {
				err = flush()
			}
		}
		if err != nil {
			return err
		}
	}
	return flush()
}

// loadBeside reads what is kept beside functions and versions: aliases and
// settings.
func loadBeside(tx store.Reader, views map[key]*view) error {
	for _, part := range []struct {
		bucket, what string
		take         func(v *view, k key, last string, value []byte) error
	}{
		{aliasesBucket, "alias", func(v *view, k key, last string, value []byte) error {
			a, err := decodeAlias(k, v.newest.Region, last, value)
			if err == nil {
				v.aliases = append(v.aliases, a) // in order
			}
			return err
		}},
		{settingsBucket, "settings", func(v *view, _ key, last string, value []byte) error {
			s := new(Settings)
			if err := json.Unmarshal(value, s); err != nil {
				return err
			}
			if v.settings == nil {
				v.settings = map[string]*Settings{}
			}
			v.settings[last] = s
			return nil
		}},
	} {
		for rec, err := range tx.Scan(part.bucket, "", "") {
			if err != nil {
				return err
			}
			i := strings.LastIndexByte(rec.Key, '/')
			account, name, ok := strings.Cut(rec.Key[:max(i, 0)], "/")
			k := key{hearth.Account(account), name}
			if !ok || views[k] == nil {
				return fmt.Errorf("the %s %s belongs to no function", part.what, rec.Key)
			}
			if err := part.take(views[k], k, rec.Key[i+1:], rec.Value); err != nil {
				return fmt.Errorf("the record of %s %s is damaged: %w", part.what, rec.Key, err)
			}
		}
	}
	return nil
}
