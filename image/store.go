package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Store keeps images unpacked. On disk it has a record for each image, by its
// digest, and a folder for each layer, by the digest of its tar:
//
//	images/DIGEST.json   written last, and when all is on the disk
//	layers/DIGEST/       made elsewhere and renamed
//	new-…/, old-…/       of an unpacking or a removal that was cut off
//
// Safe for concurrent use. Locks: Store.mu is held while folders are renamed,
// and while nothing else is done.
type Store struct {
	cfg       Config
	transport http.RoundTripper
	ctx       context.Context // ends with Close
	cancel    context.CancelFunc
	work      sync.WaitGroup

	mu       sync.Mutex
	images   map[string]*entry
	layers   map[string]*layer
	seq      int
	unpacked uint64
}

// entry is an image. Its record exists once ready is closed with err nil.
type entry struct {
	digest string
	record record
	held   int  // by those who have acquired it
	unkept bool // no function has it any more
	ready  chan struct{}
	err    error
}

// layer is a layer. Its folder exists once ready is closed with err nil.
type layer struct {
	refs  int // of images, also of those that are being brought
	ready chan struct{}
	err   error
}

// record is an image on disk. The names are fixed.
type record struct {
	Layers     []string `json:"layers"` // digests of the tars, the lowest first
	EntryPoint []string `json:"entryPoint,omitempty"`
	Command    []string `json:"command,omitempty"`
	Env        []string `json:"env,omitempty"`
	WorkingDir string   `json:"workingDir,omitempty"`
}

// bringTime bounds how long an image may take to be brought.
const bringTime = 30 * time.Minute

// Open opens a Store and removes what was cut off. Images stay until Keep or
// Forget says that no function has them.
func Open(cfg Config) (*Store, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = maxBytes
	}
	s := &Store{cfg: cfg, transport: newTransport(cfg.Insecure), images: map[string]*entry{}, layers: map[string]*layer{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	for _, dir := range []string{cfg.Dir, s.path("images"), s.path("layers")} {
		// Sandboxes are shown layers by mounts: their users need no way in.
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("images: %w", err)
		}
	}
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("images: %w", err)
	}
	return s, nil
}

func (s *Store) path(name ...string) string {
	return filepath.Join(append([]string{s.cfg.Dir}, name...)...)
}

// load takes over what is whole and removes the rest.
func (s *Store) load() error {
	have := map[string]bool{}
	dirs, err := os.ReadDir(s.path("layers"))
	if err != nil {
		return err
	}
	for _, d := range dirs {
		have[d.Name()] = isHex(d.Name())
	}
	records, err := os.ReadDir(s.path("images"))
	if err != nil {
		return err
	}
	for _, f := range records {
		digest, isRecord := cutSuffix(f.Name(), ".json")
		r, err := s.readRecord(f.Name())
		whole := isRecord && isHex(digest) && err == nil && len(r.Layers) > 0 &&
			!slices.ContainsFunc(r.Layers, func(l string) bool { return !have[l] })
		if !whole {
			if err := os.Remove(s.path("images", f.Name())); err != nil {
				return err
			}
			continue
		}
		e := &entry{digest: digest, record: r, ready: closed()}
		s.images[digest] = e
		for _, l := range distinct(r.Layers) {
			if s.layers[l] == nil {
				s.layers[l] = &layer{ready: closed()}
			}
			s.layers[l].refs++
		}
	}
	for name := range have {
		if s.layers[name] == nil {
			if err := remove(s.path("layers", name)); err != nil {
				return err
			}
		}
	}
	left, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return err
	}
	for _, d := range left {
		if d.Name() != "images" && d.Name() != "layers" {
			if err := remove(s.path(d.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Store) readRecord(name string) (r record, err error) {
	data, err := os.ReadFile(s.path("images", name))
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	return r, err
}

func cutSuffix(s, suffix string) (string, bool) {
	if len(s) > len(suffix) && s[len(s)-len(suffix):] == suffix {
		return s[:len(s)-len(suffix)], true
	}
	return s, false
}

func closed() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// distinct is a list without repetitions: an image may have a layer twice.
func distinct(list []string) []string { return slices.Compact(slices.Sorted(slices.Values(list))) }

// Close gives up what is being brought, and waits for it.
func (s *Store) Close() error {
	s.cancel()
	s.work.Wait()
	return nil
}

// Unpacked is how often a layer was unpacked.
func (s *Store) Unpacked() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unpacked
}

// Acquire brings the image of a digest, which uri names with it, to this
// machine if it is not there, and keeps it there until release is called, and
// longer if a function has it. Equal requests at once bring it once. Errors:
// ImageDeleted, ImageAccessDenied, InvalidImage.
func (s *Store) Acquire(ctx context.Context, uri, digest, architecture string) (_ *Image, release func(), err error) {
	for {
		s.mu.Lock()
		e, had := s.images[digest]
		if !had {
			e = &entry{digest: digest, ready: make(chan struct{})}
			s.images[digest] = e
			// It outlives a caller that gives up: others may wait for it.
			s.work.Go(func() { s.bring(e, uri, architecture) })
		}
		e.held++
		e.unkept = false
		s.mu.Unlock()
		select {
		case <-e.ready:
		case <-ctx.Done():
			s.release(e)
			return nil, nil, ctx.Err()
		}
		if e.err == nil {
			return s.shown(e), sync.OnceFunc(func() { s.release(e) }), nil
		}
		s.release(e)
		if had && ctx.Err() == nil {
			continue // that was another's attempt: make one of our own
		}
		return nil, nil, e.err
	}
}

func (s *Store) shown(e *entry) *Image {
	i := &Image{
		EntryPoint: e.record.EntryPoint, Command: e.record.Command, Env: e.record.Env, WorkingDirectory: e.record.WorkingDir,
	}
	for _, l := range e.record.Layers {
		i.Layers = append(i.Layers, s.path("layers", l))
	}
	return i
}

// Forget is told that no function has the image any more.
func (s *Store) Forget(digest string) {
	s.mu.Lock()
	e := s.images[digest]
	if e == nil {
		s.mu.Unlock()
		return
	}
	e.unkept = true
	old := s.dropLocked(e)
	s.mu.Unlock()
	s.work.Go(func() { s.removeAll(old) }) // the caller may hold a lock
}

// Keep forgets every image but those that needed tells of. It is for the start.
func (s *Store) Keep(needed func(digest string) bool) {
	s.mu.Lock()
	var all []string
	for digest := range s.images {
		all = append(all, digest)
	}
	s.mu.Unlock()
	for _, digest := range all {
		if !needed(digest) {
			s.Forget(digest)
		}
	}
}

func (s *Store) release(e *entry) {
	s.mu.Lock()
	e.held--
	old := s.dropLocked(e)
	s.mu.Unlock()
	s.removeAll(old)
}

// dropLocked takes an image that nobody needs off the list, with its layers,
// and gives what is left to remove.
func (s *Store) dropLocked(e *entry) (old []string) {
	if !e.unkept || e.held > 0 || s.images[e.digest] != e {
		return nil
	}
	select {
	case <-e.ready:
	default:
		return nil // who brings it sees to that
	}
	// The record first: it promises the layers.
	if err := os.Remove(s.path("images", e.digest+".json")); err != nil {
		s.cfg.Log.Warn("an image that is no longer needed cannot be removed", "image", e.digest, "error", err)
		return nil
	}
	delete(s.images, e.digest)
	return s.unrefLocked(distinct(e.record.Layers))
}

// unrefLocked takes a reference from each layer, and out of sight what has none
// left.
func (s *Store) unrefLocked(digests []string) (old []string) {
	for _, digest := range digests {
		l := s.layers[digest]
		if l.refs--; l.refs > 0 {
			continue
		}
		delete(s.layers, digest)
		s.seq++
		path := s.path(fmt.Sprintf("old-%d-%s", s.seq, digest))
		if err := os.Rename(s.path("layers", digest), path); err != nil {
			s.cfg.Log.Warn("a layer that is no longer needed cannot be removed", "layer", digest, "error", err)
			continue // the next start removes it
		}
		old = append(old, path)
	}
	return old
}

func (s *Store) removeAll(paths []string) {
	for _, p := range paths {
		if err := remove(p); err != nil {
			s.cfg.Log.Warn("a layer that is no longer needed cannot be removed whole; the next start removes the rest", "error", err)
		}
	}
}

// remove removes a tree. Its folders can be written: see dirMode.
func remove(path string) error {
	err := os.RemoveAll(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
