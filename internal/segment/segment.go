// Package segment is the files of a log on disk: each begins with the sequence
// number in its name, the oldest go when room is needed. What is in them is
// their owner's.
package segment

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// Segment is one file: the number that its content begins with, and its size
// in bytes.
type Segment struct {
	First uint64
	Size  int64
}

// Files are the segments in a folder. One goroutine at a time may write to the
// last one and tell of it (Add, Grew); the rest is safe for concurrent use.
type Files struct {
	dir, prefix, suffix string

	mu    sync.Mutex
	files []Segment // oldest first
	size  atomic.Int64
}

// Open finds the segments in dir, which it makes with mode 0700 if need be.
func Open(dir, prefix, suffix string) (*Files, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return Look(dir, prefix, suffix)
}

// Look finds the segments in dir and changes nothing.
func Look(dir, prefix, suffix string) (*Files, error) {
	f := &Files{dir: dir, prefix: prefix, suffix: suffix}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name(), prefix)
		if number, ok2 := strings.CutSuffix(number, suffix); ok && ok2 {
			first, err := strconv.ParseUint(number, 10, 64)
			info, err2 := e.Info()
			if err != nil || err2 != nil {
				continue // not one of ours, or gone
			}
			f.files = append(f.files, Segment{first, info.Size()})
			f.size.Add(info.Size())
		}
	}
	slices.SortFunc(f.files, func(a, b Segment) int { return cmp.Compare(a.First, b.First) })
	return f, nil
}

// Path is the file of the segment that begins with first.
func (f *Files) Path(first uint64) string {
	return filepath.Join(f.dir, fmt.Sprintf("%s%020d%s", f.prefix, first, f.suffix))
}

// Size is that of all segments, in bytes.
func (f *Files) Size() int64 { return f.size.Load() }

// List returns the segments, oldest first.
func (f *Files) List() []Segment {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.files)
}

// Last is the newest segment; false if there is none.
func (f *Files) Last() (Segment, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.files) == 0 {
		return Segment{}, false
	}
	return f.files[len(f.files)-1], true
}

// Add tells of a new, empty segment. One of the same number is replaced.
func (f *Files) Add(first uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := len(f.files) - 1; i >= 0 && f.files[i].First == first {
		f.size.Add(-f.files[i].Size)
		f.files = f.files[:i]
	}
	f.files = append(f.files, Segment{First: first})
}

// Grew tells that the last segment has n bytes more, or fewer.
func (f *Files) Grew(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.files[len(f.files)-1].Size += n
	f.size.Add(n)
}

// MakeRoom deletes the oldest segments while spare tells that one may go, and
// never more than all but keep. spare is called without a lock.
func (f *Files) MakeRoom(keep int, spare func(oldest Segment) (bool, error)) error {
	for {
		f.mu.Lock()
		if len(f.files) <= keep {
			f.mu.Unlock()
			return nil
		}
		oldest := f.files[0]
		f.mu.Unlock()
		if ok, err := spare(oldest); err != nil || !ok {
			return err
		}
		if err := os.Remove(f.Path(oldest.First)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		f.mu.Lock()
		f.size.Add(-oldest.Size)
		f.files = slices.Delete(f.files, 0, 1)
		f.mu.Unlock()
	}
}
