package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// bring brings an image here, for all who wait for it.
func (s *Store) bring(e *entry, uri, architecture string) {
	ctx, cancel := context.WithTimeout(s.ctx, bringTime)
	defer cancel()
	r, err := s.brought(ctx, e.digest, uri, architecture)
	if err != nil {
		err = failure(uri, err)
	}
	s.mu.Lock()
	e.record, e.err = r, err
	if err != nil && s.images[e.digest] == e {
		delete(s.images, e.digest)
	}
	close(e.ready)
	old := s.dropLocked(e) // it may have been forgotten meanwhile
	s.mu.Unlock()
	s.removeAll(old)
}

func (s *Store) brought(ctx context.Context, digest, uri, architecture string) (r record, err error) {
	ref, err := parse(uri)
	if err != nil {
		return r, broken("%v", err)
	}
	src, err := s.open(ctx, ref, architecture)
	if err != nil {
		return r, err
	}
	defer src.close()
	if src.digest.Hex != digest {
		return r, broken("it is %s, and not %s", src.digest.Hex, digest)
	}
	if err := src.check(); err != nil {
		return r, err
	}
	c := src.config.Config
	r = record{EntryPoint: c.Entrypoint, Command: c.Cmd, Env: c.Env, WorkingDir: c.WorkingDir}
	for _, l := range src.layers {
		r.Layers = append(r.Layers, l.diffID.Hex)
	}
	var have []string
	defer func() {
		if err != nil {
			s.mu.Lock()
			old := s.unrefLocked(have)
			s.mu.Unlock()
			s.removeAll(old)
		}
	}()
	b := newBudget(s.cfg.MaxBytes)
	for _, l := range src.layers {
		if slices.Contains(have, l.diffID.Hex) {
			continue
		}
		if err := s.bringLayer(ctx, l, b); err != nil {
			return r, err
		}
		have = append(have, l.diffID.Hex)
	}
	return r, s.write(digest, r)
}

// bringLayer makes sure that a layer is here, and counts a reference to it.
func (s *Store) bringLayer(ctx context.Context, src layerSource, b *budget) error {
	digest := src.diffID.Hex
	for {
		s.mu.Lock()
		l, had := s.layers[digest]
		if !had {
			l = &layer{ready: make(chan struct{})}
			s.layers[digest] = l
		}
		l.refs++
		s.mu.Unlock()
		if !had {
			if l.err = s.unpackLayer(ctx, src, b); l.err != nil {
				s.mu.Lock()
				delete(s.layers, digest)
				s.mu.Unlock()
			}
			close(l.ready)
		}
		select {
		case <-l.ready:
		case <-ctx.Done():
		}
		if err := ctx.Err(); err == nil && l.err == nil {
			return nil
		}
		s.mu.Lock()
		old := s.giveUpLocked(digest, l)
		s.mu.Unlock()
		s.removeAll(old)
		if err := ctx.Err(); err != nil {
			return err
		}
		if !had {
			return l.err
		}
		// It was another image's attempt that failed.
	}
}

// giveUpLocked takes back the reference to a layer that didn't come.
func (s *Store) giveUpLocked(digest string, l *layer) (old []string) {
	if s.layers[digest] == l {
		return s.unrefLocked([]string{digest})
	}
	return nil
}

// unpackLayer unpacks a layer and verifies it.
func (s *Store) unpackLayer(ctx context.Context, src layerSource, b *budget) (err error) {
	r, err := src.open()
	if err != nil {
		return err
	}
	// Its error is of what was read, and so of what is verified here.
	defer r.Close()
	dir, err := os.MkdirTemp(s.cfg.Dir, "new-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, remove(dir))
		}
	}()
	if err := os.Chmod(dir, 0o755); err != nil { // it becomes the root, if there is no other
		return err
	}
	sum := &hashing{r: r, h: sha256.New()}
	if err := unpack(ctx, sum, dir, b); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.h.Sum(nil)); got != src.diffID.Hex {
		return broken("the layer %s has other content than its digest says", src.diffID)
	}
	if err := os.Rename(dir, s.path("layers", src.diffID.Hex)); err != nil {
		return err
	}
	s.mu.Lock()
	s.unpacked++
	s.mu.Unlock()
	return nil
}

type hashing struct {
	r io.Reader
	h hash.Hash
}

func (h *hashing) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	h.h.Write(p[:n]) // never fails
	return n, err
}

// write makes an image's record, after everything that it promises.
func (s *Store) write(digest string, r record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	dir, err := os.Open(s.path("images"))
	if err != nil {
		return err
	}
	defer dir.Close() // only a place
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return fmt.Errorf("bring the layers to the disk: %w", err)
	}
	f, err := os.CreateTemp(s.cfg.Dir, "new-")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir.Name(), digest+".json"))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return dir.Sync()
}
