// Package store keeps what Hearth must not lose: records and blobs.
//
// It holds the two interfaces and the lock on the data folder. The backends
// are its sub-packages: sqlite and postgres for records, files for blobs. A
// further one must pass the suites of storetest.
package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"unicode/utf8"
)

// Store is a set of records, ordered by bucket and key, with transactions.
//
// It is deliberately no more than that: every backend, SQL or not, can keep a
// table of (bucket, key, value), so that the meaning of records stays with the
// packages that own them. Work queues, whose leases want the database's own
// row locks, get an interface of their own when they come.
//
// Safe for concurrent use.
type Store interface {
	// View runs fn on a consistent snapshot. Any number of Views run at once,
	// beside Updates. A View that begins after an Update returned sees it.
	View(ctx context.Context, fn func(Reader) error) error

	// Update runs fn in a transaction that is as if it ran alone, and returns
	// nil only after everything that fn wrote would survive a loss of power.
	// An error from fn is returned as it is, and nothing of fn remains.
	//
	// fn may be run again when the backend had to abandon an attempt, so it
	// must have no effect beside its writes and variables that it sets anew
	// each time. It must be quick, since others wait for it, and must not
	// call the Store. ctx is looked at until fn begins, not later: an outcome
	// is always known.
	Update(ctx context.Context, fn func(Tx) error) error

	// Close waits for what runs and releases the backend. What is called
	// after it fails with ErrClosed.
	Close() error
}

// Reader reads records. It is valid only during the function that it was
// given to, and used by one goroutine.
type Reader interface {
	// Get returns the record's value; ok is false if there is none. The
	// caller may keep and change the value.
	Get(bucket, key string) (value []byte, ok bool, err error)
	// Scan yields the records of bucket whose keys begin with prefix and are
	// greater than after ("" is from the beginning), in the order of the
	// keys' bytes. Records that the loop's body writes behind the cursor are
	// not seen; whether those ahead of it are is not said.
	Scan(bucket, prefix, after string) iter.Seq2[Record, error]
}

// Tx reads and writes records in a transaction. It sees its own writes.
type Tx interface {
	Reader
	// Put sets the record's value, which it copies.
	Put(bucket, key string, value []byte) error
	// Delete removes the record; that there is none is no error.
	Delete(bucket, key string) error
}

// Record is one record of a Scan.
type Record struct {
	Key   string
	Value []byte
}

// ErrClosed is the error of a closed Store.
var ErrClosed = errors.New("the store is closed")

// MaxKey bounds the length of a bucket's name and of a key, in bytes, so that
// every backend can index them.
const MaxKey = 1024

// CheckKey tells whether bucket and key are such that all backends can keep
// them: UTF-8 without NUL (PostgreSQL takes no other text), not empty, and no
// longer than MaxKey.
func CheckKey(bucket, key string) error {
	for _, s := range [...]struct{ what, text string }{{"bucket", bucket}, {"key", key}} {
		switch {
		case s.text == "":
			return fmt.Errorf("store: empty %s", s.what)
		case len(s.text) > MaxKey:
			return fmt.Errorf("store: a %s of %d bytes; the limit is %d", s.what, len(s.text), MaxKey)
		case !utf8.ValidString(s.text) || strings.ContainsRune(s.text, 0):
			return fmt.Errorf("store: %s %q is not UTF-8 without NUL", s.what, s.text)
		}
	}
	return nil
}
