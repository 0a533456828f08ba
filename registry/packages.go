package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
)

// packages knows which blobs and images are needed: those that a function, a version or a
// layer version refers to, and those that somebody works with. A blob that is neither is
// deleted at once, under the lock that every taker of a pin needs: so a pin
// that was taken keeps its blob.
type packages struct {
	blobs  store.Blobs
	images Images
	log    *slog.Logger

	mu   sync.Mutex
	refs map[string]int // by registered functions, versions and layer versions
	pins map[string]int // by readers, preparations and changes under way
}

// pin keeps the blob until the returned function is called, which may be done
// more than once.
func (p *packages) pin(sum string) (unpin func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pins[sum]++
	return sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.less(p.pins, sum)
	})
}

// less takes one from a count and deletes a blob that has none left. The
// caller holds p.mu.
func (p *packages) less(counts map[string]int, sum string) {
	if counts[sum]--; counts[sum] == 0 {
		delete(counts, sum)
	}
	if p.refs[sum] > 0 || p.pins[sum] > 0 {
		return
	}
	p.images.Forget(sum) // of an archive there is none
	if err := p.blobs.Delete(context.Background(), sum); err != nil {
		// It takes space and does no harm; the next Open removes it.
		p.log.Warn("code that is no longer needed cannot be removed", "sha256", sum, "error", err)
	}
}

// refer moves the references from what old held to what new holds.
func (p *packages) refer(old, new *view) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for sum := range new.sums() {
		p.refs[sum]++
	}
	for sum := range old.sums() {
		p.less(p.refs, sum)
	}
}

// hold takes a reference, of a layer version. The caller has pinned the blob,
// or nothing runs yet.
func (p *packages) hold(sum string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refs[sum]++
}

// letGo gives a reference back.
func (p *packages) letGo(sum string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.less(p.refs, sum)
}

// sums yields the packages of each function that v holds, its layers' too, as
// often as it does.
func (v *view) sums() func(yield func(string) bool) {
	return func(yield func(string) bool) {
		if v == nil {
			return
		}
		of := func(f *hearth.Function) bool {
			if f == nil {
				return true
			}
			if f.Package.SHA256 != "" && !yield(f.Package.SHA256) {
				return false
			}
			for i := range f.Layers {
				if !yield(f.Layers[i].Package.SHA256) {
					return false
				}
			}
			return true
		}
		if !of(v.newest) || !of(v.active) || !of(v.published.running()) {
			return
		}
		for f := range v.publishedVersions {
			if !of(f) {
				return
			}
		}
	}
}

// put stores the archive. The caller has pinned it.
func (p *packages) put(ctx context.Context, sum string, zip []byte) error {
	return p.blobs.Put(ctx, sum, bytes.NewReader(zip))
}

// sweep deletes blobs that nothing refers to, when nothing else runs: what a
// crash left between storing code and registering it.
func (p *packages) sweep(ctx context.Context) error {
	var orphans []string
	for sum, err := range p.blobs.All(ctx) {
		if err != nil {
			return err
		}
		if p.refs[sum] == 0 {
			orphans = append(orphans, sum)
		}
	}
	p.images.Keep(func(digest string) bool { return p.refs[digest] > 0 })
	for _, sum := range orphans {
		if err := p.blobs.Delete(ctx, sum); err != nil {
			return err
		}
	}
	return nil
}

// OpenPackage opens a package's archive by its SHA-256 in hexadecimal. The
// reader is an io.ReaderAt too, and the package stays until it is closed,
// whatever becomes of the function. Errors: ResourceNotFound.
func (r *Registry) OpenPackage(ctx context.Context, sha256 string) (io.ReadSeekCloser, int64, error) {
	if err := store.CheckSum(sha256); err != nil {
		return nil, 0, noPackage(sha256, err)
	}
	unpin := r.packages.pin(sha256)
	b, size, err := r.cfg.Blobs.Open(ctx, sha256)
	if err != nil {
		unpin()
		if errors.Is(err, store.ErrNoBlob) {
			err = noPackage(sha256, err)
		}
		return nil, 0, err
	}
	return &pinned{b, unpin}, size, nil
}

func noPackage(sum string, err error) error {
	return &hearth.Error{Op: "registry.OpenPackage", Subject: sum, Kind: hearth.NotFound, Message: "The code package does not exist.", Err: err}
}

type pinned struct {
	store.Blob
	unpin func()
}

// Close closes the blob and lets it go.
func (p *pinned) Close() error {
	defer p.unpin()
	return p.Blob.Close()
}
