package store

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
)

// Blobs keeps immutable byte strings under their SHA-256. Safe for concurrent
// use, also by Put and Delete of the same blob.
type Blobs interface {
	// Put keeps what r gives and returns once it would survive a loss of
	// power. sum is the SHA-256 that the bytes must have, in lower-case
	// hexadecimal; other bytes fail with ErrHash and leave nothing behind.
	// Putting what is there already is no error.
	Put(ctx context.Context, sum string, r io.Reader) error
	// Open gives the blob's bytes and their number, or ErrNoBlob. A blob
	// that is deleted while it is open can be read to its end.
	Open(ctx context.Context, sum string) (Blob, int64, error)
	// Stat returns the blob's size, or ErrNoBlob.
	Stat(ctx context.Context, sum string) (int64, error)
	// Delete removes the blob; that there is none is no error.
	Delete(ctx context.Context, sum string) error
	// All yields the sums of all blobs, in no order. Blobs put or deleted
	// meanwhile may or may not be among them.
	All(ctx context.Context) iter.Seq2[string, error]
}

// Blob is an open blob.
type Blob interface {
	io.ReadSeekCloser
	io.ReaderAt
}

// Errors of Blobs.
var (
	ErrNoBlob = errors.New("no such blob")
	ErrHash   = errors.New("the bytes do not have the hash that was given")
)

// CheckSum tells whether sum is a SHA-256 in lower-case hexadecimal.
func CheckSum(sum string) error {
	var b [32]byte
	if n, err := hex.Decode(b[:], []byte(sum[:min(len(sum), 64)])); err != nil || n != 32 || len(sum) != 64 {
		return fmt.Errorf("store: %.70q is not a SHA-256 in hexadecimal", sum)
	}
	for _, c := range []byte(sum) {
		if 'A' <= c && c <= 'F' {
			return fmt.Errorf("store: %q has upper-case digits", sum)
		}
	}
	return nil
}
