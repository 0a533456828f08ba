package storetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/hearth-faas/hearth/store"
)

// Blobs runs the suite of store.Blobs. open opens the same blobs each time it
// is called within one test, and begins with none for each t.
func Blobs(t *testing.T, open func(t *testing.T) func() store.Blobs) {
	for name, test := range map[string]func(*testing.T, func() store.Blobs){
		"WhatWasPutIsRead":                    blobPutOpen,
		"WrongBytesAreRefused":                blobWrong,
		"ABrokenSourceLeavesNothing":          blobBroken,
		"ADeletedBlobIsReadToItsEnd":          blobDelete,
		"SumsThatAreNoneAreRefused":           blobSums,
		"ConcurrentPutsAndDeletesAreHarmless": blobRace,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func sumOf(b []byte) string { s := sha256.Sum256(b); return hex.EncodeToString(s[:]) }

func all(t *testing.T, s store.Blobs) (sums []string) {
	t.Helper()
	for sum, err := range s.All(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, sum)
	}
	slices.Sort(sums)
	return sums
}

func blobPutOpen(t *testing.T, open func() store.Blobs) {
	s, ctx := open(), context.Background()
	var sums []string
	for _, text := range []string{"", "one", strings.Repeat("long", 1<<18)} {
		sum := sumOf([]byte(text))
		sums = append(sums, sum)
		for range 2 { // twice is no error
			if err := s.Put(ctx, sum, strings.NewReader(text)); err != nil {
				t.Fatal(err)
			}
		}
		for _, s := range []store.Blobs{s, open()} {
			f, size, err := s.Open(ctx, sum)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(f)
			if string(got) != text || size != int64(len(text)) || err != nil {
				t.Errorf("read %d bytes of %d, %v", len(got), size, err)
			}
			if text == "one" {
				two := make([]byte, 2)
				if _, err := f.ReadAt(two, 1); err != nil || string(two) != "ne" {
					t.Errorf("ReadAt: %q %v", two, err)
				}
				if n, err := f.Seek(2, io.SeekStart); n != 2 || err != nil {
					t.Errorf("Seek: %d %v", n, err)
				}
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			if n, err := s.Stat(ctx, sum); n != size || err != nil {
				t.Errorf("Stat: %d %v", n, err)
			}
		}
	}
	slices.Sort(sums)
	if got := all(t, s); !slices.Equal(got, sums) {
		t.Errorf("All: %q", got)
	}
	for range s.All(ctx) {
		break // stopping early is allowed
	}
}

func blobWrong(t *testing.T, open func() store.Blobs) {
	s, sum := open(), sumOf([]byte("right"))
	if err := s.Put(context.Background(), sum, strings.NewReader("wrong")); !errors.Is(err, store.ErrHash) {
		t.Errorf("the error is %v", err)
	}
	if got := all(t, s); len(got) != 0 {
		t.Errorf("left behind: %q", got)
	}
}

func blobBroken(t *testing.T, open func() store.Blobs) {
	s, sum := open(), sumOf([]byte("right"))
	broken := errors.New("broken")
	if err := s.Put(context.Background(), sum, io.MultiReader(strings.NewReader("ri"), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("the error is %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Put(ctx, sum, strings.NewReader("right")); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	if _, _, err := s.Open(context.Background(), sum); !errors.Is(err, store.ErrNoBlob) {
		t.Errorf("Open: %v", err)
	}
	if _, err := s.Stat(context.Background(), sum); !errors.Is(err, store.ErrNoBlob) {
		t.Errorf("Stat: %v", err)
	}
}

func blobDelete(t *testing.T, open func() store.Blobs) {
	s, ctx, text := open(), context.Background(), bytes.Repeat([]byte("x"), 1<<20)
	sum := sumOf(text)
	if err := s.Put(ctx, sum, bytes.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	f, _, err := s.Open(ctx, sum)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := errors.Join(s.Delete(ctx, sum), s.Delete(ctx, sum)); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(f); !bytes.Equal(got, text) || err != nil {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
	if got := all(t, s); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
}

func blobSums(t *testing.T, open func() store.Blobs) {
	s, ctx := open(), context.Background()
	good := sumOf(nil)
	for _, bad := range []string{"", "ab", "../../etc/passwd", strings.ToUpper(good), good + "0", good[:63] + "g", good[:62] + "/.", strings.Repeat("é", 32)} {
		_, _, err := s.Open(ctx, bad)
		_, err2 := s.Stat(ctx, bad)
		if err == nil || err2 == nil || s.Delete(ctx, bad) == nil || s.Put(ctx, bad, strings.NewReader("")) == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func blobRace(t *testing.T, open func() store.Blobs) {
	s, ctx := open(), context.Background()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for turn := range 8 {
				text := fmt.Sprint("text ", turn%3)
				sum := sumOf([]byte(text))
				if err := s.Put(ctx, sum, strings.NewReader(text)); err != nil {
					t.Error(err)
				}
				if f, size, err := s.Open(ctx, sum); err == nil {
					got, err := io.ReadAll(f)
					if string(got) != text || int(size) != len(text) || err != nil {
						t.Errorf("read %q of %d, %v", got, size, err)
					}
					f.Close()
				} else if !errors.Is(err, store.ErrNoBlob) {
					t.Error(err)
				}
				if i%2 == 0 {
					if err := s.Delete(ctx, sum); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
}
