package poll

import (
	"context"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/hearth-faas/hearth/store"
)

// memory is a store that may be used in a bubble and outlives it.
type memory struct {
	mu      sync.Mutex
	records map[string][]byte
}

func newMemory() *memory { return &memory{records: map[string][]byte{}} }

func (m *memory) View(_ context.Context, fn func(store.Reader) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return fn(memoryTx{m.records})
}

func (m *memory) Update(ctx context.Context, fn func(store.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	tx := memoryTx{maps.Clone(m.records)}
	if err := fn(tx); err != nil {
		return err
	}
	m.records = tx.records
	return nil
}

func (m *memory) Close() error { return nil }

type memoryTx struct{ records map[string][]byte }

func (t memoryTx) Get(bucket, key string) ([]byte, bool, error) {
	value, ok := t.records[bucket+"\x00"+key]
	return slices.Clone(value), ok, nil
}

func (t memoryTx) Scan(bucket, prefix, after string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		for _, full := range slices.Sorted(maps.Keys(t.records)) {
			key, ok := strings.CutPrefix(full, bucket+"\x00")
			if ok && strings.HasPrefix(key, prefix) && key > after && !yield(store.Record{Key: key, Value: t.records[full]}, nil) {
				return
			}
		}
	}
}

func (t memoryTx) Put(bucket, key string, value []byte) error {
	t.records[bucket+"\x00"+key] = slices.Clone(value)
	return nil
}

func (t memoryTx) Delete(bucket, key string) error {
	delete(t.records, bucket+"\x00"+key)
	return nil
}
