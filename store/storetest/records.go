// Package storetest holds what every backend of package store must do, as
// suites that the backends' own tests run.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth/store"
)

// Records runs the suite of store.Store. open opens the same records each
// time it is called within one test (the suite closes what it opened), and
// begins with none for each t.
func Records(t *testing.T, open func(t *testing.T) func() store.Store) {
	for name, test := range map[string]func(*testing.T, func() store.Store){
		"WhatWasPutIsRead":                       putGet,
		"AFailedUpdateLeavesNothing":             failedUpdate,
		"APanicLeavesNothingAndReachesTheCaller": panics,
		"AnUpdateSeesItsOwnWrites":               ownWrites,
		"AScanIsInTheOrderOfBytes":               scanOrder,
		"AScanCanBeWrittenUnder":                 scanWrites,
		"AViewIsASnapshot":                       snapshot,
		"ACancelledUpdateDoesNotRun":             cancelled,
		"BadKeysAreRefused":                      badKeys,
		"ConcurrentIncrementsAreAllCounted":      increments,
		"AClosedStoreSaysSo":                     closed,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
	t.Run("ItAnswersAsAMapDoes", func(t *testing.T) {
		rapid.Check(t, func(rt *rapid.T) { model(rt, open(t)) })
	})
}

func update(t testing.TB, s store.Store, fn func(store.Tx) error) {
	t.Helper()
	if err := s.Update(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
}

func put(t testing.TB, s store.Store, bucket, key, value string) {
	t.Helper()
	update(t, s, func(tx store.Tx) error { return tx.Put(bucket, key, []byte(value)) })
}

func get(t testing.TB, s store.Store, bucket, key string) (value string, ok bool) {
	t.Helper()
	err := s.View(context.Background(), func(r store.Reader) error {
		b, found, err := r.Get(bucket, key)
		value, ok = string(b), found
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return value, ok
}

func scan(r store.Reader, bucket, prefix, after string) (all []string, err error) {
	for rec, err := range r.Scan(bucket, prefix, after) {
		if err != nil {
			return nil, err
		}
		all = append(all, rec.Key+"="+string(rec.Value))
	}
	return all, nil
}

func putGet(t *testing.T, open func() store.Store) {
	s := open()
	put(t, s, "b", "k", "one")
	put(t, s, "b", "k", "two")
	put(t, s, "other", "k", "")
	update(t, s, func(tx store.Tx) error {
		v := []byte("copied")
		err := tx.Put("b", "copy", v)
		copy(v, "XXXXXX")
		return errors.Join(err, tx.Put("b", "gone", v), tx.Delete("b", "gone"), tx.Delete("b", "never"), tx.Put("b", "nil", nil))
	})
	check := func() {
		t.Helper()
		for _, want := range []struct {
			bucket, key, value string
			ok                 bool
		}{{"b", "k", "two", true}, {"other", "k", "", true}, {"b", "copy", "copied", true}, {"b", "gone", "", false}, {"b", "nil", "", true}, {"x", "k", "", false}} {
			if v, ok := get(t, s, want.bucket, want.key); v != want.value || ok != want.ok {
				t.Errorf("%s/%s: %q %v, want %q %v", want.bucket, want.key, v, ok, want.value, want.ok)
			}
		}
	}
	check()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open()
	check()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func failedUpdate(t *testing.T, open func() store.Store) {
	s := open()
	defer s.Close()
	put(t, s, "b", "k", "before")
	mine := errors.New("mine")
	err := s.Update(context.Background(), func(tx store.Tx) error {
		return errors.Join(tx.Put("b", "k", []byte("after")), tx.Put("b", "more", nil), mine)
	})
	if !errors.Is(err, mine) {
		t.Errorf("the error became %v", err)
	}
	if v, _ := get(t, s, "b", "k"); v != "before" {
		t.Errorf("k is %q", v)
	}
	if _, ok := get(t, s, "b", "more"); ok {
		t.Error("more is there")
	}
}

func panics(t *testing.T, open func() store.Store) {
	s := open()
	defer s.Close()
	func() {
		defer func() {
			if r := recover(); r != "ouch" {
				t.Errorf("recovered %v", r)
			}
		}()
		_ = s.Update(context.Background(), func(tx store.Tx) error {
			if err := tx.Put("b", "k", nil); err != nil {
				return err
			}
			panic("ouch")
		})
	}()
	if _, ok := get(t, s, "b", "k"); ok {
		t.Error("k is there")
	}
	put(t, s, "b", "k", "still works")
}

func ownWrites(t *testing.T, open func() store.Store) {
	s := open()
	defer s.Close()
	put(t, s, "b", "old", "1")
	update(t, s, func(tx store.Tx) error {
		if err := errors.Join(tx.Put("b", "new", []byte("2")), tx.Delete("b", "old")); err != nil {
			return err
		}
		if _, ok, err := tx.Get("b", "old"); ok || err != nil {
			t.Errorf("old: %v %v", ok, err)
		}
		all, err := scan(tx, "b", "", "")
		if !slices.Equal(all, []string{"new=2"}) {
			t.Errorf("scan: %q", all)
		}
		return err
	})
}

func scanOrder(t *testing.T, open func() store.Store) {
	s := open()
	defer s.Close()
	keys := []string{"a", "a/", "a/1", "a/10", "a/2", "a/é", "a/\U0001F525", "a0", "B", "b", "\U0010FFFF", "\U0010FFFF\U0010FFFF", "\x01"}
	for i := range 400 { // more than any page
		keys = append(keys, fmt.Sprintf("many/%04d", i))
	}
	update(t, s, func(tx store.Tx) error {
		for _, k := range keys {
			if err := errors.Join(tx.Put("b", k, []byte("v")), tx.Put("a", k, nil), tx.Put("c", k, nil)); err != nil {
				return err
			}
		}
		return nil
	})
	slices.Sort(keys)
	for _, q := range []struct{ prefix, after string }{
		{"", ""}, {"a/", ""}, {"a/", "a/1"}, {"a/", "a"}, {"a/", "b"}, {"", "a/2"}, {"none", ""},
		{"\U0010FFFF", ""}, {"many/", "many/0127"}, {"many/", "many/01275"}, {"many/0399", ""}, {"", "many/0398"},
	} {
		var want []string
		for _, k := range keys {
			if strings.HasPrefix(k, q.prefix) && k > q.after {
				want = append(want, k+"=v")
			}
		}
		if err := s.View(context.Background(), func(r store.Reader) error {
			got, err := scan(r, "b", q.prefix, q.after)
			if !slices.Equal(got, want) {
				t.Errorf("prefix %q after %q: %d records, want %d\n%.300q", q.prefix, q.after, len(got), len(want), got)
			}
			for range r.Scan("b", q.prefix, q.after) {
				break // stopping early is allowed
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func scanWrites(t *testing.T, open func() store.Store) {
	s := open()
	defer s.Close()
	const n = 500
	update(t, s, func(tx store.Tx) error {
		for i := range n {
			if err := tx.Put("b", fmt.Sprintf("k%04d", i), nil); err != nil {
				return err
			}
		}
		return nil
	})
	update(t, s, func(tx store.Tx) error {
		seen := 0
		for rec, err := range tx.Scan("b", "k", "") {
			if err != nil {
				return err
			}
			seen++
			if err := errors.Join(tx.Delete("b", rec.Key), tx.Put("b", "a"+rec.Key, nil)); err != nil {
				return err
			}
		}
		if seen != n {
			t.Errorf("saw %d of %d", seen, n)
		}
		return nil
	})
	if err := s.View(context.Background(), func(r store.Reader) error {
		all, err := scan(r, "b", "", "")
		if len(all) != n || !strings.HasPrefix(all[0], "ak") {
			t.Errorf("%d records remain, first %q", len(all), all[0])
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func snapshot(t *testing.T, open func() store.Store) {
	s := open()
	defer s.Close()
	put(t, s, "b", "k", "before")
	err := s.View(context.Background(), func(r store.Reader) error {
		read := func(want string) {
			if v, _, err := r.Get("b", "k"); err != nil || string(v) != want {
				t.Errorf("%q %v, want %q", v, err, want)
			}
		}
		read("before")
		done := make(chan struct{})
		go func() { defer close(done); put(t, s, "b", "k", "after") }()
		<-done // an Update does not wait for a View
		read("before")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if v, _ := get(t, s, "b", "k"); v != "after" {
		t.Errorf("a later View sees %q", v)
	}
}

func cancelled(t *testing.T, open func() store.Store) {
	s := open()
	defer s.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := s.Update(ctx, func(tx store.Tx) error { t.Error("it ran"); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	// Once it runs, the outcome is what the caller learns.
	ctx, cancel = context.WithCancel(context.Background())
	if err := s.Update(ctx, func(tx store.Tx) error { cancel(); return tx.Put("b", "k", nil) }); err != nil {
		t.Error(err)
	}
	if _, ok := get(t, s, "b", "k"); !ok {
		t.Error("an acknowledged record is not there")
	}
}

func badKeys(t *testing.T, open func() store.Store) {
	s := open()
	defer s.Close()
	for _, bad := range []string{"", "nul\x00", "\xff", strings.Repeat("x", store.MaxKey+1)} {
		for _, pair := range [][2]string{{"b", bad}, {bad, "k"}} {
			if err := s.Update(context.Background(), func(tx store.Tx) error {
				if tx.Put(pair[0], pair[1], nil) == nil || tx.Delete(pair[0], pair[1]) == nil {
					t.Errorf("%.20q was taken", pair)
				}
				if _, _, err := tx.Get(pair[0], pair[1]); err == nil {
					t.Errorf("%.20q was looked for", pair)
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
		}
	}
	long := strings.Repeat("x", store.MaxKey)
	put(t, s, long, long, "v")
	if v, _ := get(t, s, long, long); v != "v" {
		t.Errorf("the longest key gives %q", v)
	}
}

func increments(t *testing.T, open func() store.Store) {
	s := open()
	const workers, each = 16, 25
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				boom := errors.New("boom")
				err := s.Update(context.Background(), func(tx store.Tx) error {
					v, _, err := tx.Get("b", "n")
					if err != nil {
						return err
					}
					if err := tx.Put("b", "n", append(v, '1')); err != nil {
						return err
					}
					if (w+i)%5 == 0 {
						return boom
					}
					return tx.Put("b", fmt.Sprintf("%d.%d", w, i), nil)
				})
				if (w+i)%5 == 0 != errors.Is(err, boom) || err != nil && !errors.Is(err, boom) {
					t.Errorf("worker %d, turn %d: %v", w, i, err)
				}
			}
		})
		wg.Go(func() {
			for range each {
				if err := s.View(context.Background(), func(r store.Reader) error {
					v, _, err := r.Get("b", "n")
					all, err2 := scan(r, "b", "", "")
					if len(v) > 0 && len(all) != len(v)+1 {
						t.Errorf("a view shows %d increments and %d records", len(v), len(all))
					}
					return errors.Join(err, err2)
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if v, _ := get(t, s, "b", "n"); len(v) != workers*each*4/5 {
		t.Errorf("counted %d", len(v))
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func closed(t *testing.T, open func() store.Store) {
	s := open()
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if err := s.Update(context.Background(), func(store.Tx) error { return nil }); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Update: %v", err)
	}
	if err := s.View(context.Background(), func(store.Reader) error { return nil }); !errors.Is(err, store.ErrClosed) {
		t.Errorf("View: %v", err)
	}
}

// model runs random transactions against a map, closing and opening between.
func model(t *rapid.T, open func() store.Store) {
	s := open()
	defer func() { s.Close() }()
	buckets := rapid.SampledFrom([]string{"a", "b"})
	keys := rapid.StringMatching(`[ab/é]{1,3}`)
	want := map[string][]byte{} // "bucket key"
	update := func(fn func(store.Tx) error) error { return s.Update(context.Background(), fn) }
	// The records of an earlier try of the same check are removed.
	if err := update(func(tx store.Tx) error {
		for _, b := range []string{"a", "b"} {
			for rec, err := range tx.Scan(b, "", "") {
				if err = errors.Join(err, tx.Delete(b, rec.Key)); err != nil {
					return err
				}
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	t.Repeat(map[string]func(*rapid.T){
		"update": func(t *rapid.T) {
			type op struct {
				bucket, key string
				value       []byte
			}
			ops := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) op {
				o := op{bucket: buckets.Draw(t, "bucket"), key: keys.Draw(t, "key")}
				if rapid.Bool().Draw(t, "put") {
					o.value = append([]byte{}, rapid.SliceOfN(rapid.Byte(), 0, 8).Draw(t, "value")...)
				}
				return o
			}), 0, 5).Draw(t, "ops")
			fail := rapid.IntRange(0, 4).Draw(t, "fail") == 0
			next := maps.Clone(want)
			err := update(func(tx store.Tx) error {
				for _, o := range ops {
					var err error
					if o.value == nil {
						err = tx.Delete(o.bucket, o.key)
						delete(next, o.bucket+" "+o.key)
					} else {
						err = tx.Put(o.bucket, o.key, o.value)
						next[o.bucket+" "+o.key] = o.value
					}
					if err != nil {
						return err
					}
				}
				if fail {
					return errors.New("fail")
				}
				return nil
			})
			if (err != nil) != fail {
				t.Fatal(err)
			}
			if !fail {
				want = next
			}
		},
		"reopen": func(t *rapid.T) {
			if rapid.IntRange(0, 5).Draw(t, "really") != 0 {
				return
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open()
		},
		"": func(t *rapid.T) {
			bucket, prefix, after := buckets.Draw(t, "bucket"), rapid.SampledFrom([]string{"", "a", "é", "a/"}).Draw(t, "prefix"), rapid.SampledFrom([]string{"", "a", "b/"}).Draw(t, "after")
			var wantKeys []string
			for k := range want {
				b, key, _ := strings.Cut(k, " ")
				if b == bucket && strings.HasPrefix(key, prefix) && key > after {
					wantKeys = append(wantKeys, key)
				}
			}
			slices.Sort(wantKeys)
			if err := s.View(context.Background(), func(r store.Reader) error {
				i := 0
				for rec, err := range r.Scan(bucket, prefix, after) {
					if err != nil {
						return err
					}
					if i >= len(wantKeys) || rec.Key != wantKeys[i] || !bytes.Equal(rec.Value, want[bucket+" "+rec.Key]) {
						t.Fatalf("record %d is %q; want %q", i, rec.Key, wantKeys)
					}
					got, ok, err := r.Get(bucket, rec.Key)
					if err != nil || !ok || !bytes.Equal(got, rec.Value) {
						t.Fatalf("Get(%q): %q %v %v", rec.Key, got, ok, err)
					}
					i++
				}
				if i != len(wantKeys) {
					t.Fatalf("%d records; want %q", i, wantKeys)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		},
	})
}
