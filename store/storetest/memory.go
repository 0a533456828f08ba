package storetest

import (
	"context"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/hearth-faas/hearth/store"
)

// Memory is a Store that forgets: for tests of what is built on one, which
// would else wait for a disk thousands of times. Its zero value is empty.
type Memory struct {
	mu sync.RWMutex
	m  map[string]map[string][]byte // by bucket and key
}

// View implements store.Store.
func (s *Memory) View(ctx context.Context, fn func(store.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return fn(memoryTx{s.m})
}

// Update implements store.Store.
func (s *Memory) Update(ctx context.Context, fn func(store.Tx) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	m := make(map[string]map[string][]byte, len(s.m))
	for bucket, records := range s.m {
		m[bucket] = maps.Clone(records)
	}
	if err := fn(memoryTx{m}); err != nil {
		return err
	}
	s.m = m
	return nil
}

// Close implements store.Store; what is in it can still be read.
func (s *Memory) Close() error { return nil }

type memoryTx struct{ m map[string]map[string][]byte }

func (t memoryTx) Get(bucket, key string) ([]byte, bool, error) {
	if err := store.CheckKey(bucket, key); err != nil {
		return nil, false, err
	}
	v, ok := t.m[bucket][key]
	return slices.Clone(v), ok, nil
}

func (t memoryTx) Scan(bucket, prefix, after string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		for _, key := range slices.Sorted(maps.Keys(t.m[bucket])) {
			v, ok := t.m[bucket][key]
			if ok && key > after && strings.HasPrefix(key, prefix) && !yield(store.Record{Key: key, Value: slices.Clone(v)}, nil) {
				return
			}
		}
	}
}

func (t memoryTx) Put(bucket, key string, value []byte) error {
	if err := store.CheckKey(bucket, key); err != nil {
		return err
	}
	if t.m[bucket] == nil {
		t.m[bucket] = map[string][]byte{}
	}
	t.m[bucket][key] = slices.Clone(value)
	return nil
}

func (t memoryTx) Delete(bucket, key string) error {
	if err := store.CheckKey(bucket, key); err != nil {
		return err
	}
	delete(t.m[bucket], key)
	return nil
}
