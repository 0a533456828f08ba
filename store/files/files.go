// Package files keeps blobs as files named after their SHA-256.
//
//	sha256/ab/abcdef…   a blob, complete and read-only
//	incoming/…          one being written
//
// A blob is written under incoming, synced, renamed to its name, and the
// directory that got the name is synced: whatever happens in between, a name
// under sha256 always stands for all of its bytes.
package files

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"

	"github.com/hearth-faas/hearth/store"
)

// Dir is a folder of blobs. It implements store.Blobs.
type Dir struct{ root string }

var _ store.Blobs = (*Dir)(nil)

const (
	sums     = "sha256"
	incoming = "incoming"
)

// Open uses root, a folder under the data folder whose lock the caller holds,
// and removes what a crash left half written.
func Open(root string) (*Dir, error) {
	if err := os.RemoveAll(filepath.Join(root, incoming)); err != nil {
		return nil, store.Explain(root, err)
	}
	for _, dir := range []string{sums, incoming} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			return nil, store.Explain(root, err)
		}
	}
	d := &Dir{root: root}
	// The folders' own names must last as long as the blobs in them.
	for _, dir := range []string{root, filepath.Dir(root)} {
		if err := syncDir(dir); err != nil {
			return nil, store.Explain(root, err)
		}
	}
	return d, nil
}

func (d *Dir) path(sum string) string { return filepath.Join(d.root, sums, sum[:2], sum) }

// Put implements store.Blobs.
func (d *Dir) Put(ctx context.Context, sum string, r io.Reader) error {
	if err := store.CheckSum(sum); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Join(d.root, incoming), sum[:8]+"-")
	if err != nil {
		return store.Explain(d.root, err)
	}
	err = d.put(ctx, f, sum, r)
	if err != nil {
		// The name is gone if the rename was done; then there is nothing to
		// remove. A file that stays is swept by the next Open.
		err = errors.Join(err, ignore(os.Remove(f.Name()), fs.ErrNotExist))
	}
	return err
}

func (d *Dir) put(ctx context.Context, f *os.File, sum string, r io.Reader) (err error) {
	closed := false
	defer func() {
		if !closed {
			err = errors.Join(err, f.Close())
		}
	}()
	hash := sha256.New()
	if _, err := io.Copy(io.MultiWriter(&explainer{f, d.root}, hash), &reader{ctx, r}); err != nil {
		return err
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != sum {
		return fmt.Errorf("%w: %s instead of %s", store.ErrHash, got, sum)
	}
	if err := f.Chmod(0o400); err != nil {
		return store.Explain(d.root, err)
	}
	if err := f.Sync(); err != nil {
		return store.Explain(d.root, err)
	}
	closed = true
	if err := f.Close(); err != nil {
		return store.Explain(d.root, err)
	}
	to := d.path(sum)
	switch err := os.Mkdir(filepath.Dir(to), 0o700); {
	case err == nil:
		if err := syncDir(filepath.Join(d.root, sums)); err != nil {
			return store.Explain(d.root, err)
		}
	case !errors.Is(err, fs.ErrExist):
		return store.Explain(d.root, err)
	}
	// Over a blob of the same name this changes nothing but the inode: a
	// concurrent Put of the same bytes, or a repeated one, is harmless.
	if err := os.Rename(f.Name(), to); err != nil {
		return store.Explain(d.root, err)
	}
	return store.Explain(d.root, syncDir(filepath.Dir(to)))
}

// Open implements store.Blobs.
func (d *Dir) Open(ctx context.Context, sum string) (store.Blob, int64, error) {
	if err := store.CheckSum(sum); err != nil {
		return nil, 0, err
	}
	f, err := os.Open(d.path(sum))
	if err != nil {
		return nil, 0, d.missing(sum, err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(store.Explain(d.root, err), f.Close())
	}
	return f, info.Size(), nil
}

// Stat implements store.Blobs.
func (d *Dir) Stat(ctx context.Context, sum string) (int64, error) {
	if err := store.CheckSum(sum); err != nil {
		return 0, err
	}
	info, err := os.Stat(d.path(sum))
	if err != nil {
		return 0, d.missing(sum, err)
	}
	return info.Size(), nil
}

// Delete implements store.Blobs.
func (d *Dir) Delete(ctx context.Context, sum string) error {
	if err := store.CheckSum(sum); err != nil {
		return err
	}
	return store.Explain(d.root, ignore(os.Remove(d.path(sum)), fs.ErrNotExist))
}

// All implements store.Blobs. Files that are no blobs are passed over.
func (d *Dir) All(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		top, err := os.ReadDir(filepath.Join(d.root, sums))
		if err != nil {
			yield("", store.Explain(d.root, err))
			return
		}
		for _, dir := range top {
			if err := ctx.Err(); err != nil {
				yield("", err)
				return
			}
			blobs, err := os.ReadDir(filepath.Join(d.root, sums, dir.Name()))
			if err != nil {
				yield("", store.Explain(d.root, err))
				return
			}
			for _, b := range blobs {
				if store.CheckSum(b.Name()) == nil && !yield(b.Name(), nil) {
					return
				}
			}
		}
	}
}

func (d *Dir) missing(sum string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s", store.ErrNoBlob, sum)
	}
	return store.Explain(d.root, err)
}

func ignore(err, target error) error {
	if errors.Is(err, target) {
		return nil
	}
	return err
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// reader ends a copy when ctx does.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// explainer tells errors of the disk from those of the source.
type explainer struct {
	w    io.Writer
	path string
}

func (e *explainer) Write(p []byte) (int, error) {
	n, err := e.w.Write(p)
	return n, store.Explain(e.path, err)
}
