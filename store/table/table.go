// Package table keeps the records of one bucket of a store in memory too, as
// values of one type: what has to be looked up quickly, is changed now and
// then, and must survive. A change is first committed to the store and then
// seen.
package table

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/hearth-faas/hearth/store"
)

// Table is the records of one bucket. T's JSON is what is on disk, so that
// its fields want names that stay. The values that a Table hands out are
// shared and must not be changed. Safe for concurrent use.
type Table[T any] struct {
	store  store.Store
	bucket string

	changing sync.Mutex // one change at a time

	mu   sync.RWMutex
	keys []string // sorted
	m    map[string]*T
}

// Open reads the bucket. No two Tables may be of the same one.
func Open[T any](ctx context.Context, s store.Store, bucket string) (*Table[T], error) {
	t := &Table[T]{store: s, bucket: bucket, m: map[string]*T{}}
	err := s.View(ctx, func(r store.Reader) error {
		for rec, err := range r.Scan(bucket, "", "") {
			if err != nil {
				return err
			}
			v := new(T)
			if err := json.Unmarshal(rec.Value, v); err != nil {
				return fmt.Errorf("the record %s of %s is damaged: %w", rec.Key, bucket, err)
			}
			t.keys = append(t.keys, rec.Key)
			t.m[rec.Key] = v
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Get returns the value of the key, or nil.
func (t *Table[T]) Get(key string) *T {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.m[key]
}

// Len is how many records there are.
func (t *Table[T]) Len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.keys)
}

// Scan yields the records whose keys begin with prefix and are greater than
// after ("" is from the beginning), in the order of the keys' bytes. What is
// changed meanwhile may or may not be seen.
func (t *Table[T]) Scan(prefix, after string) iter.Seq2[string, *T] {
	return func(yield func(string, *T) bool) {
		for key := max(prefix, after); ; {
			t.mu.RLock()
			i, found := slices.BinarySearch(t.keys, key)
			if found && key == after {
				i++
			}
			if i == len(t.keys) || !strings.HasPrefix(t.keys[i], prefix) {
				t.mu.RUnlock()
				return
			}
			key = t.keys[i]
			v := t.m[key]
			t.mu.RUnlock()
			if !yield(key, v) {
				return
			}
			after = key
		}
	}
}

// Page returns at most max of the records that Scan yields and fit, and whether
// others follow; a nil fits is all.
func (t *Table[T]) Page(prefix, after string, max int, fits func(*T) bool) (page []*T, more bool) {
	for _, v := range t.Scan(prefix, after) {
		switch {
		case fits != nil && !fits(v):
		case len(page) == max:
			return page, true
		default:
			page = append(page, v)
		}
	}
	return page, false
}

// Settled waits until the change that is under way, if there is one, is on disk.
func (t *Table[T]) Settled() {
	t.changing.Lock()
	//lint:ignore SA2001 it is waited for
	t.changing.Unlock()
}

// Change replaces the key's value by what change makes of it: nil is none,
// before and after. The value that it is given must not be altered. Its error
// is returned and changes nothing. It runs one at a time with all changes of
// the Table, and must not change the Table itself. Change returns what is
// there now, once it is on disk.
func (t *Table[T]) Change(ctx context.Context, key string, change func(old *T) (*T, error)) (*T, error) {
	t.changing.Lock()
	defer t.changing.Unlock()
	old := t.Get(key)
	v, err := change(old)
	if err != nil || v == old {
		return v, err
	}
	var value []byte
	if v != nil {
		if value, err = json.Marshal(v); err != nil {
			return nil, err
		}
	}
	err = t.store.Update(ctx, func(tx store.Tx) error {
		if v == nil {
			return tx.Delete(t.bucket, key)
		}
		return tx.Put(t.bucket, key, value)
	})
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	i, found := slices.BinarySearch(t.keys, key)
	switch {
	case v == nil && found:
		t.keys = slices.Delete(t.keys, i, i+1)
		delete(t.m, key)
	case v != nil:
		if !found {
			t.keys = slices.Insert(t.keys, i, key)
		}
		t.m[key] = v
	}
	return v, nil
}
