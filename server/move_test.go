package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hearth-faas/hearth/internal/pgtest"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/postgres"
	"github.com/hearth-faas/hearth/store/sqlite"
)

// folderOf makes a data folder with records, and is its path.
func folderOf(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	st, err := sqlite.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	err = st.Update(t.Context(), func(tx store.Tx) error {
		for i := range n {
			if err := tx.Put([]string{"a", "bü"}[i%2], fmt.Sprintf("key %d", i), []byte{byte(i), 0, 0xff}); err != nil {
				return err
			}
		}
		return tx.Put("empty", "value", nil)
	})
	if err := errors.Join(err, st.Close()); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestRecordsAreMovedWholeOrNotAtAll(t *testing.T) {
	const n = 5000
	dir, database := folderOf(t, n), pgtest.New(t)
	cfg := DefaultConfig()
	cfg.DataDir, cfg.Database = dir, database

	// Broken off after each page, it leaves the folder as it was.
	for _, after := range []int{1, 2000} {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := MoveRecords(ctx, cfg, func(records int) {
			if records >= after {
				cancel()
			}
		})
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("broken off: %v", err)
		}
		if _, err := os.Stat(filepath.Join(dir, DatabaseFile)); err == nil {
			t.Fatal("the folder belongs to the database before all is there")
		}
	}
	// Nobody else may have what is there in part.
	other := cfg
	other.DataDir = folderOf(t, 1)
	if _, err := MoveRecords(t.Context(), other, nil); err == nil || !strings.Contains(err.Error(), "are being moved to the database") {
		t.Errorf("another folder: %v", err)
	}
	// Meanwhile the folder may have been used.
	st, err := sqlite.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	err = st.Update(t.Context(), func(tx store.Tx) error { return errors.Join(tx.Delete("a", "key 0"), tx.Put("late", "k", []byte("v"))) })
	if err := errors.Join(err, st.Close()); err != nil {
		t.Fatal(err)
	}
	m, err := MoveRecords(t.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	if m.Records != n+1 || m.Buckets["a"] != n/2-1 || m.Buckets["bü"] != n/2 || m.Buckets["late"] != 1 || strings.Contains(m.Database, pgtest.Password) {
		t.Errorf("%+v", m)
	}
	if _, err := os.Stat(m.Kept); err != nil {
		t.Error(err)
	}
	to, err := postgres.Open(t.Context(), postgres.Config{URL: database})
	if err != nil {
		t.Fatal(err)
	}
	err = to.View(t.Context(), func(r store.Reader) error {
		v, ok, err := r.Get("bü", "key 4999")
		if err != nil || !ok || string(v) != string([]byte{4999 & 0xff, 0, 0xff}) {
			t.Errorf("a record is %q, %v, %v", v, ok, err)
		}
		if _, ok, err := r.Get("a", "key 0"); ok || err != nil {
			t.Errorf("what was removed is there: %v", err)
		}
		_, moving, err := r.Get(bindingBucket, movingKey)
		owner, claimed, err2 := r.Get(bindingBucket, bindingKey)
		if moving || !claimed || string(owner) != dir {
			t.Errorf("moving %v, claimed %v by %s", moving, claimed, owner)
		}
		return errors.Join(err, err2)
	})
	if err := errors.Join(err, to.Close()); err != nil {
		t.Fatal(err)
	}
	for want, c := range map[string]Config{
		"has its records in the database": cfg,
		"belongs to the data folder":      other,
	} {
		if _, err := MoveRecords(t.Context(), c, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	// A kill before the last step: the same command does it.
	if err := os.Rename(m.Kept, filepath.Join(dir, sqlite.Name)); err != nil {
		t.Fatal(err)
	}
	if m, err = MoveRecords(t.Context(), cfg, nil); err != nil || m.Records != n+1 {
		t.Errorf("after a kill: %+v, %v", m, err)
	}
}

func TestAFolderInUseIsNotMoved(t *testing.T) {
	dir := folderOf(t, 1)
	folder, err := store.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	cfg := DefaultConfig()
	cfg.DataDir, cfg.Database = dir, "postgres://nobody@127.0.0.1:1/none"
	if _, err := MoveRecords(t.Context(), cfg, nil); !isA[*store.InUseError](err) {
		t.Errorf("%v", err)
	}
}
