// Package history keeps what is learned about functions: by name, in memory,
// bounded, and now and then on disk.
//
// What is learned can be learned again: a death of the process loses the last
// seconds of it, and a damaged record only itself.
package history

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
)

// Config is what a Table is made of. Clock is needed.
type Config struct {
	Store  store.Store // nil: nothing is kept on disk
	Bucket string      // of the Store; one for each kind of thing that is learned
	Clock  hearth.Clock
	Log    *slog.Logger // nil: nothing is logged
	// Limit bounds the entries; beyond it those used longest ago are
	// forgotten. 0 is 10,000.
	Limit int
	// Every is how often changes go to disk. 0 is 15 s.
	Every time.Duration
}

// Table is one kind of thing that is learned, a T for each key. T's JSON is
// what is on disk. Safe for concurrent use.
type Table[T any] struct {
	cfg     Config
	flushed sync.Mutex // held while writing

	mu      sync.Mutex
	entries map[string]*Entry[T]
	gone    map[string]struct{} // forgotten, and perhaps on disk; deleted before anything is put
	timer   hearth.Timer
	closed  bool
}

// Entry is what is learned under one key. Whoever needs it often keeps it: an
// entry that was forgotten can still be used, and is then only not kept.
type Entry[T any] struct {
	clock hearth.Clock
	used  atomic.Int64 // nanoseconds since 1970

	mu    sync.Mutex
	value T
	dirty bool
}

// Update has change alter the value, alone with it.
func (e *Entry[T]) Update(change func(*T)) {
	e.used.Store(e.clock.Now().UnixNano())
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dirty = true
	change(&e.value)
}

// Change is Update for who does it very often, and calls Update now and then:
// it does not note, for which it had to look at the clock, that the entry was
// used.
func (e *Entry[T]) Change(change func(*T)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dirty = true
	change(&e.value)
}

// View shows the value, alone with it.
func (e *Entry[T]) View(look func(*T)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	look(&e.value)
}

// Open reads what the store has. A record that can't be read is logged and
// forgotten.
func Open[T any](ctx context.Context, cfg Config) (*Table[T], error) {
	if cfg.Clock == nil {
		return nil, errors.New("history: Config needs a Clock")
	}
	if cfg.Limit == 0 {
		cfg.Limit = 10_000
	}
	if cfg.Every == 0 {
		cfg.Every = 15 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	t := &Table[T]{cfg: cfg, entries: map[string]*Entry[T]{}, gone: map[string]struct{}{}}
	if cfg.Store == nil {
		return t, nil
	}
	err := cfg.Store.View(ctx, func(r store.Reader) error {
		for rec, err := range r.Scan(cfg.Bucket, "", "") {
			if err != nil {
				return err
			}
			e := t.add(rec.Key)
			if err := json.Unmarshal(rec.Value, &e.value); err != nil {
				cfg.Log.Warn("what was learned about a function can't be read, and is learned anew", "of", rec.Key, "kind", cfg.Bucket, "error", err)
				delete(t.entries, rec.Key)
				t.gone[rec.Key] = struct{}{}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	t.mu.Lock() // it may fire at once
	t.timer = cfg.Clock.AfterFunc(cfg.Every, t.tick)
	t.mu.Unlock()
	return t, nil
}

// add makes an entry. Called with mu held, or by Open.
func (t *Table[T]) add(key string) *Entry[T] {
	e := &Entry[T]{clock: t.cfg.Clock}
	e.used.Store(t.cfg.Clock.Now().UnixNano())
	t.entries[key] = e
	return e
}

// Of is the entry of the key, made if there is none.
func (t *Table[T]) Of(key string) *Entry[T] {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.entries[key]; e != nil {
		return e
	}
	if len(t.entries) >= t.cfg.Limit {
		t.forgetSome()
	}
	return t.add(key)
}

// Find is the entry of the key, or nil.
func (t *Table[T]) Find(key string) *Entry[T] {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.entries[key]
}

// Forget removes the entry of the key, as of a function that was deleted.
func (t *Table[T]) Forget(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.entries[key] != nil {
		delete(t.entries, key)
		t.gone[key] = struct{}{}
	}
}

// Each calls look with every entry, in no order.
func (t *Table[T]) Each(look func(key string, e *Entry[T])) {
	t.mu.Lock()
	all := make(map[string]*Entry[T], len(t.entries))
	for k, e := range t.entries {
		all[k] = e
	}
	t.mu.Unlock()
	for k, e := range all {
		look(k, e)
	}
}

// Len is how many entries there are.
func (t *Table[T]) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.entries)
}

// forgetSome makes room: the tenth that was used longest ago goes at once, so
// that the search for it is rare.
func (t *Table[T]) forgetSome() {
	n := max(t.cfg.Limit/10, 1)
	oldest := newOldest(n)
	for k, e := range t.entries {
		oldest.offer(k, e.used.Load())
	}
	for _, k := range oldest.keys() {
		delete(t.entries, k)
		t.gone[k] = struct{}{}
	}
}

func (t *Table[T]) tick() {
	if err := t.Flush(context.Background()); err != nil && !errors.Is(err, store.ErrClosed) {
		t.cfg.Log.Warn("what was learned about functions can't be kept", "kind", t.cfg.Bucket, "error", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.timer.Reset(t.cfg.Every)
	}
}

// batch bounds the records of one transaction, for which others wait.
const batch = 500

// Flush writes what has changed to disk.
func (t *Table[T]) Flush(ctx context.Context) error {
	if t.cfg.Store == nil {
		return nil
	}
	t.flushed.Lock()
	defer t.flushed.Unlock()
	t.mu.Lock()
	gone := t.gone
	t.gone = map[string]struct{}{}
	t.mu.Unlock()
	changed := map[string]*Entry[T]{}
	t.Each(func(k string, e *Entry[T]) {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.dirty {
			changed[k] = e
		}
	})
	puts := make(map[string][]byte, batch)
	write := func() error {
		err := t.cfg.Store.Update(ctx, func(tx store.Tx) error {
			for k := range gone {
				if err := tx.Delete(t.cfg.Bucket, k); err != nil {
					return err
				}
			}
			for k, v := range puts {
				if err := tx.Put(t.cfg.Bucket, k, v); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.again(gone, puts, changed)
			return err
		}
		clear(gone)
		clear(puts)
		return nil
	}
	for k, e := range changed {
		v, err := e.encode()
		if err != nil {
			return err
		}
		puts[k] = v
		if len(puts) == batch {
			if err := write(); err != nil {
				return err
			}
		}
	}
	if len(puts) == 0 && len(gone) == 0 {
		return nil
	}
	return write()
}

// encode is the value's JSON; the entry is clean then.
func (e *Entry[T]) encode() ([]byte, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dirty = false
	return json.Marshal(&e.value)
}

// again has what could not be written be written the next time.
func (t *Table[T]) again(gone map[string]struct{}, puts map[string][]byte, changed map[string]*Entry[T]) {
	for k := range puts {
		e := changed[k]
		e.mu.Lock()
		e.dirty = true
		e.mu.Unlock()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for k := range gone {
		t.gone[k] = struct{}{}
	}
}

// Close writes what has changed to disk and ends the writing.
func (t *Table[T]) Close() error {
	t.mu.Lock()
	t.closed = true
	if t.timer != nil {
		t.timer.Stop()
	}
	t.mu.Unlock()
	return t.Flush(context.Background())
}
