// Package sqlite keeps records in an SQLite database, in pure Go.
//
// The database is in WAL mode with synchronous=FULL: a commit is one fsync of
// the log. There is one writer, a goroutine that takes whatever has queued up
// while the last fsync ran and commits it as one transaction, so that the
// number of commits a second grows with the number of callers although the
// disk's does not. Readers have connections of their own and never wait.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"

	driver "modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/hearth-faas/hearth/store"
)

// Name is the database's file in the data folder.
const Name = "hearth.db"

// Each connection has a page cache of its own. Records are small and what is
// hot is kept in memory by those who own it, so both stay small.
const (
	cacheKiB = 512
	readers  = 2
)

// Store is a database in a data folder. It implements store.Store.
type Store struct {
	folder string
	read   *sql.DB
	write  *sql.DB
	w      *writer

	mu     sync.RWMutex // closed, and sending on w.queue
	closed bool
}

var _ store.Store = (*Store)(nil)

// Open opens the database in folder, making or migrating it where needed.
// The caller holds the folder's lock (store.OpenFolder). A database that a
// newer version wrote is refused and left as it is.
func Open(ctx context.Context, folder string) (*Store, error) {
	return open(ctx, folder, "")
}

// open takes further pragmas for tests.
func open(ctx context.Context, folder, pragmas string) (_ *Store, err error) {
	path := filepath.Join(folder, Name)
	// The file holds secrets, sealed or not, and SQLite would make it with
	// the umask's mode; its -wal and -shm get the mode of the file.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, store.Explain(folder, err)
	}
	if err := f.Close(); err != nil {
		return nil, store.Explain(folder, err)
	}

	s := &Store{folder: folder}
	defer func() {
		if err != nil {
			_ = s.closeDBs() // what failed before says more
			err = s.explain(err)
		}
	}()
	common := fmt.Sprintf("_pragma=busy_timeout(10000)&_pragma=cache_size(-%d)&_pragma=temp_store(memory)&_pragma=trusted_schema(0)", cacheKiB)
	base := (&url.URL{Scheme: "file", Path: path}).String()
	s.write, err = sql.Open("sqlite", base+"?_pragma=journal_mode(wal)&_pragma=synchronous(full)&_pragma=journal_size_limit(4194304)&"+common+pragmas)
	if err != nil {
		return nil, err
	}
	conn, err := s.write.Conn(ctx)
	if err != nil {
		return nil, err
	}
	if err := migrate(ctx, conn, folder); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	s.read, err = sql.Open("sqlite", base+"?_pragma=query_only(1)&"+common)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	s.read.SetMaxOpenConns(readers)
	s.read.SetMaxIdleConns(1)
	if s.w, err = newWriter(ctx, conn, s.explain); err != nil {
		return nil, err
	}
	return s, nil
}

// View implements store.Store.
func (s *Store) View(ctx context.Context, fn func(store.Reader) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return store.ErrClosed
	}
	tx, err := s.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return s.explain(err)
	}
	// Nothing was written, so how the transaction ends decides nothing; with
	// a cancelled ctx database/sql has ended it already.
	defer func() { _ = tx.Rollback() }()
	return fn(&reader{ctx: ctx, explain: s.explain,
		get:  func(args ...any) *sql.Row { return tx.QueryRowContext(ctx, getSQL, args...) },
		scan: func(args ...any) (*sql.Rows, error) { return tx.QueryContext(ctx, scanSQL, args...) },
	})
}

// Update implements store.Store.
func (s *Store) Update(ctx context.Context, fn func(store.Tx) error) error {
	r := &request{ctx: ctx, fn: fn, done: make(chan struct{})}
	s.mu.RLock()
	if s.closed {
		s.mu.RUnlock()
		return store.ErrClosed
	}
	select {
	case s.w.queue <- r:
		s.mu.RUnlock()
	case <-ctx.Done():
		s.mu.RUnlock()
		return ctx.Err()
	}
	<-r.done
	if r.panicked != nil {
		panic(r.panicked)
	}
	return r.err
}

// Close implements store.Store. The log is folded into the database, so that
// one file remains.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.w.queue)
	s.mu.Unlock()
	<-s.w.ended
	return errors.Join(s.w.close(), s.closeDBs())
}

func (s *Store) closeDBs() error {
	var errs []error
	for _, db := range []*sql.DB{s.read, s.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// explain gives SQLite's errors the sentences of package store.
func (s *Store) explain(err error) error {
	e, ok := errors.AsType[*driver.Error](err)
	if !ok {
		return err
	}
	switch e.Code() & 0xff { // the rest says which call it was
	case lib.SQLITE_FULL:
		return store.Full(s.folder, err)
	case lib.SQLITE_READONLY, lib.SQLITE_CANTOPEN, lib.SQLITE_PERM:
		return store.ReadOnly(s.folder, err)
	case lib.SQLITE_CORRUPT, lib.SQLITE_NOTADB:
		return fmt.Errorf("the database %s is damaged: restore it from a backup, or start with another data folder: %w", filepath.Join(s.folder, Name), err)
	}
	return fmt.Errorf("the database %s: %w", filepath.Join(s.folder, Name), err)
}
