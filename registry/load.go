package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"sync"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
)

// How the memory is filled from the records at a start.

// load fills the memory from the store, before anybody else looks at it.
func (r *Registry) load(ctx context.Context) error {
	err := r.cfg.Store.View(ctx, func(tx store.Reader) error {
		err := decodeAll(tx, r.vault(), functionsBucket, func(d *decoder, rec store.Record) (*view, error) {
			v, err := d.view(rec.Value)
			if err != nil {
				return nil, fmt.Errorf("the record of function %s is damaged: %w", rec.Key, err)
			}
			return v, nil
		}, func(rec store.Record, v *view) error {
			k := key{v.newest.Account, v.newest.Name}
			if k.record() != rec.Key {
				return fmt.Errorf("the record of function %s is that of %s", rec.Key, k.record())
			}
			r.firstView(k, v)
			a := r.account(k.account)
			a.names = append(a.names, k.name) // in order
			return nil
		})
		if err != nil {
			return err
		}
		err = decodeAll(tx, r.vault(), versionsBucket, func(d *decoder, rec store.Record) (version, error) {
			ver, err := d.publishedVersion(rec.Value)
			if err != nil {
				return ver, fmt.Errorf("the record of version %s is damaged: %w", rec.Key, err)
			}
			return ver, nil
		}, func(rec store.Record, ver version) error {
			k := key{ver.f.Account, ver.f.Name}
			v := r.view(k)
			if v == nil || k.versionKey(ver.number) != rec.Key {
				return fmt.Errorf("the version %s belongs to no function", rec.Key)
			}
			v.versions = append(v.versions, ver) // in order
			return nil
		})
		if err != nil {
			return err
		}
		return r.loadBeside(tx)
	})
	if err != nil {
		return err
	}
	for k, v := range r.all() {
		r.packages.refer(nil, v)
		r.account(k.account).code += v.codeBytes()
		r.denials.Add(v.denials())
	}
	return nil
}

// batch is records that are decoded together.
type batch[T any] struct {
	records  []store.Record
	values   []T
	errs     []error
	decoding sync.WaitGroup
}

// decodeAll reads the records of a bucket, has them decoded by all processors
// while it reads on, and gives what came of each to take, one at a time and in
// their order.
func decodeAll[T any](tx store.Reader, secrets vault, bucket string, decode func(*decoder, store.Record) (T, error), take func(store.Record, T) error) error {
	const some = 1024 // in a batch; two of them are in memory at once
	decoders := make([]*decoder, runtime.GOMAXPROCS(0))
	for w := range decoders {
		decoders[w] = newDecoder(secrets)
	}
	read, begun := &batch[T]{}, &batch[T]{}
	defer func() { begun.decoding.Wait() }()
	turn := func() error {
		begun.decoding.Wait()
		for i, rec := range begun.records {
			err := begun.errs[i]
			if err == nil {
				err = take(rec, begun.values[i])
			}
			if err != nil {
				return err
			}
		}
		b := read
		b.values, b.errs = make([]T, len(b.records)), make([]error, len(b.records))
		for w, d := range decoders {
			b.decoding.Go(func() {
				for i := w; i < len(b.records); i += len(decoders) {
					b.values[i], b.errs[i] = decode(d, b.records[i])
				}
			})
		}
		read, begun = &batch[T]{records: begun.records[:0]}, b
		return nil
	}
	for rec, err := range tx.Scan(bucket, "", "") {
		if err == nil {
			if read.records = append(read.records, rec); len(read.records) == some {
				err = turn()
			}
		}
		if err != nil {
			return err
		}
	}
	if err := turn(); err != nil {
		return err
	}
	return turn() // nothing was read since, so that this takes the last
}

// loadBeside reads what is kept beside functions and versions: aliases and
// settings.
func (r *Registry) loadBeside(tx store.Reader) error {
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
			v := r.view(k)
			if !ok || v == nil {
				return fmt.Errorf("the %s %s belongs to no function", part.what, rec.Key)
			}
			if err := part.take(v, k, rec.Key[i+1:], rec.Value); err != nil {
				return fmt.Errorf("the record of %s %s is damaged: %w", part.what, rec.Key, err)
			}
		}
	}
	return nil
}
