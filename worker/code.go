package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"

	"github.com/hearth-faas/hearth"
)

// Packages opens a package's archive by its SHA-256. The registry is one.
type Packages interface {
	OpenPackage(ctx context.Context, sha256 string) (archive io.ReadSeekCloser, size int64, err error)
}

// codeCache keeps the node's unpacked packages, each once, as directories that
// are shown read-only to any number of containers. Directories that nobody
// uses are removed, oldest use first, when together they exceed the cap.
// Safe for concurrent use.
type codeCache struct {
	dir      string
	capBytes int64
	fetching *fetching
	unpack   func(ctx context.Context, r io.ReaderAt, size int64, dir string) error

	mu      sync.Mutex
	entries map[string]*codeEntry
	bytes   int64
	useSeq  uint64
	fetches uint64
}

// codeEntry is one unpacked package. Its directory exists once ready is closed
// with err nil.
type codeEntry struct {
	sha   string
	bytes int64
	refs  int
	used  uint64 // codeCache.useSeq at the last use
	ready chan struct{}
	err   error
}

// leastBytes is what a package counts for at least: its directories and
// inodes, so that many tiny ones are bounded too.
const leastBytes = 64 << 10

// newCodeCache opens the cache in dir, taking over what an earlier run left
// whole there and removing what it left half made.
func newCodeCache(dir string, capBytes int64, fetching *fetching, unpack func(context.Context, io.ReaderAt, int64, string) error) (*codeCache, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("code cache: %w", err)
	}
	c := &codeCache{dir: dir, capBytes: capBytes, fetching: fetching, unpack: unpack, entries: map[string]*codeEntry{}}
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("code cache: %w", err)
	}
	for _, n := range names {
		path := filepath.Join(dir, n.Name())
		if !isSHA256(n.Name()) {
			if err := os.RemoveAll(path); err != nil {
				return nil, fmt.Errorf("code cache: remove leftover: %w", err)
			}
			continue
		}
		size, err := treeBytes(path)
		if err != nil {
			return nil, fmt.Errorf("code cache: %w", err)
		}
		ready := make(chan struct{})
		close(ready)
		size = max(size, leastBytes)
		c.entries[n.Name()] = &codeEntry{sha: n.Name(), bytes: size, ready: ready}
		c.bytes += size
	}
	return c, nil
}

// Acquire makes sure that the package, of f, is unpacked and returns its
// directory, which stays until release is called. Equal requests at once fetch
// and unpack once.
func (c *codeCache) Acquire(ctx context.Context, f *hearth.Function, p hearth.Package) (dir string, release func(), err error) {
	for {
		c.mu.Lock()
		e, ok := c.entries[p.SHA256]
		if !ok {
			e = &codeEntry{sha: p.SHA256, bytes: max(p.Unpacked, leastBytes), ready: make(chan struct{})}
			c.entries[p.SHA256] = e
			c.bytes += e.bytes
			c.fetches++
			e.refs++
			c.touch(e)
			c.mu.Unlock()
			// The fetch outlives a caller that gives up: others may wait
			// for it, and the next one will want it.
			go c.fetch(context.WithoutCancel(ctx), f, p, e)
		} else {
			e.refs++
			c.touch(e)
			c.mu.Unlock()
		}
		select {
		case <-e.ready:
		case <-ctx.Done():
			c.release(e)
			return "", nil, ctx.Err()
		}
		if e.err == nil {
			return filepath.Join(c.dir, e.sha), sync.OnceFunc(func() { c.release(e) }), nil
		}
		c.release(e)
		if ok && ctx.Err() == nil {
			continue // it was another's attempt that failed: make one of our own
		}
		return "", nil, e.err
	}
}

// Fetches is how often a package was unpacked.
func (c *codeCache) Fetches() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fetches
}

// Used is what the unpacked packages take, in bytes.
func (c *codeCache) Used() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}

func (c *codeCache) touch(e *codeEntry) {
	c.useSeq++
	e.used = c.useSeq
}

func (c *codeCache) fetch(ctx context.Context, f *hearth.Function, p hearth.Package, e *codeEntry) {
	err := c.fetchTo(ctx, f, p, filepath.Join(c.dir, e.sha))
	if err != nil {
		c.mu.Lock()
		delete(c.entries, e.sha)
		c.bytes -= e.bytes
		c.mu.Unlock()
		e.err = err
	}
	close(e.ready)
}

func (c *codeCache) fetchTo(ctx context.Context, f *hearth.Function, p hearth.Package, dir string) (err error) {
	file, size, err := c.fetching.fetch(ctx, f, p, c.dir)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := errors.Join(file.Close(), os.Remove(file.Name())); err == nil && cerr != nil {
			// It is unpacked; what is left takes space until the next start.
			c.fetching.leftover(cerr)
		}
	}()
	if err := c.unpack(ctx, file, size, dir); err != nil {
		return fmt.Errorf("code cache: unpack %s: %w", p.SHA256, err)
	}
	return nil
}

func (c *codeCache) release(e *codeEntry) {
	c.mu.Lock()
	e.refs--
	c.touch(e)
	victims := c.victims()
	c.mu.Unlock()
	for _, path := range victims {
		// The entry has gone from the map: a directory that can't be
		// removed now is removed at the next start.
		_ = os.RemoveAll(path)
	}
}

// victims takes what exceeds the cap out of the map and out of sight, under
// the lock, so that a fetch of the same package at once finds its place free.
func (c *codeCache) victims() []string {
	if c.bytes <= c.capBytes {
		return nil
	}
	var idle []*codeEntry
	for _, e := range c.entries {
		if e.refs == 0 {
			idle = append(idle, e)
		}
	}
	sort.Slice(idle, func(i, j int) bool { return idle[i].used < idle[j].used })
	var out []string
	for _, e := range idle {
		if c.bytes <= c.capBytes {
			break
		}
		old := filepath.Join(c.dir, fmt.Sprintf(".old-%s-%d", e.sha, c.useSeq))
		if err := os.Rename(filepath.Join(c.dir, e.sha), old); err != nil {
			continue
		}
		delete(c.entries, e.sha)
		c.bytes -= e.bytes
		out = append(out, old)
	}
	return out
}

func isSHA256(name string) bool {
	return len(name) == 64 && strings.Trim(name, "0123456789abcdef") == ""
}

func treeBytes(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	return n, err
}
