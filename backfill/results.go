package backfill

import (
	"bufio"
	"bytes"
	"cmp"
	"container/heap"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
)

// hash stands for an item in the caches.
type hash [16]byte

func hashOf(id string) (h hash) {
	sum := sha256.Sum256([]byte(id))
	copy(h[:], sum[:])
	return h
}

const (
	hashSize = len(hash{})
	// block is how many hashes are read at a time; the first of each block is
	// in memory.
	block = 256
	// maxFiles is how many files there are before they are merged.
	maxFiles = 8
)

// results is the part of a results cache that is in files: sorted hashes, which
// are never changed, only merged. One goroutine at a time adds; any number ask.
type results struct {
	folder string
	files  []*sorted
	next   int // the number of the next file
}

// sorted is a file of sorted hashes.
type sorted struct {
	f         *os.File
	n         int
	first     []hash // of each block
	low, high int    // the numbers of what was merged in it, its own if nothing was
}

// openResults opens the files of a folder, which is made if it is not there.
func openResults(folder string) (_ *results, err error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	r := &results{folder: folder, next: 1}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	names, err := filepath.Glob(filepath.Join(folder, "*.done"))
	if err != nil {
		return nil, err
	}
	// The widest first.
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(width(b), width(a)), cmp.Compare(a, b)) })
	for _, name := range names {
		var first, last int
		if _, err := fmt.Sscanf(filepath.Base(name), "%d-%d.done", &first, &last); err != nil {
			return nil, fmt.Errorf("%s is not a file of results", name)
		}
		if slices.ContainsFunc(r.files, func(s *sorted) bool { return s.low <= first && last <= s.high }) {
			// A kill came between a merge and the removal of what it merged.
			if err := os.Remove(name); err != nil {
				return nil, err
			}
			continue
		}
		s, err := openSorted(name)
		if err != nil {
			return nil, err
		}
		s.low, s.high = first, last
		r.files = append(r.files, s)
		r.next = max(r.next, last+1)
	}
	left, err := filepath.Glob(filepath.Join(folder, "*.tmp")) // of a kill
	for _, name := range left {
		err = errors.Join(err, os.Remove(name))
	}
	return r, err
}

// width is how many files a file was merged from, less one.
func width(name string) int {
	var first, last int
	if _, err := fmt.Sscanf(filepath.Base(name), "%d-%d.done", &first, &last); err != nil {
		return 0
	}
	return last - first
}

func openSorted(name string) (*sorted, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	s := &sorted{f: f}
	info, err := f.Stat()
	if err == nil && info.Size()%int64(hashSize) != 0 {
		err = fmt.Errorf("%s is damaged: its size is no multiple of %d", name, hashSize)
	}
	if err == nil {
		s.n = int(info.Size()) / hashSize
		for i := 0; i < s.n && err == nil; i += block {
			var h hash
			_, err = f.ReadAt(h[:], int64(i*hashSize))
			s.first = append(s.first, h)
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return s, nil
}

func (r *results) close() (err error) {
	for _, s := range r.files {
		err = errors.Join(err, s.f.Close())
	}
	return err
}

// count is how many hashes there are.
func (r *results) count() (n int) {
	for _, s := range r.files {
		n += s.n
	}
	return n
}

// has tells whether the hash is there.
func (r *results) has(h hash) (bool, error) {
	for _, s := range r.files {
		if ok, err := s.has(h); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

func (s *sorted) has(h hash) (bool, error) {
	i := sort.Search(len(s.first), func(i int) bool { return bytes.Compare(s.first[i][:], h[:]) > 0 }) - 1
	if i < 0 {
		return false, nil
	}
	var b [block * hashSize]byte
	n := min(block, s.n-i*block)
	if _, err := s.f.ReadAt(b[:n*hashSize], int64(i*block*hashSize)); err != nil {
		return false, err
	}
	j := sort.Search(n, func(j int) bool { return bytes.Compare(b[j*hashSize:(j+1)*hashSize], h[:]) >= 0 })
	return j < n && bytes.Equal(b[j*hashSize:(j+1)*hashSize], h[:]), nil
}

// add writes hashes into a file, and returns once they would survive a loss of
// power. Those that are there already must not be among them.
func (r *results) add(hs []hash) error {
	slices.SortFunc(hs, func(a, b hash) int { return bytes.Compare(a[:], b[:]) })
	err := r.write(r.next, func(w *bufio.Writer) error {
		for _, h := range hs {
			if _, err := w.Write(h[:]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || len(r.files) <= maxFiles {
		return err
	}
	return r.merge()
}

// write makes the next file, of those from low on.
func (r *results) write(low int, fill func(*bufio.Writer) error) (err error) {
	high := max(low, r.next)
	name := filepath.Join(r.folder, fmt.Sprintf("%08d-%08d.done", low, high))
	f, err := os.Create(strings.TrimSuffix(name, ".done") + ".tmp")
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 256<<10)
	if err = fill(w); err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err == nil {
		err = syncFolder(r.folder)
	}
	if err != nil {
		return errors.Join(err, removed(f.Name()))
	}
	s, err := openSorted(name)
	if err != nil {
		return err
	}
	s.low, s.high = low, high
	r.files = append(r.files, s)
	r.next = high + 1
	return nil
}

func removed(name string) error {
	if err := os.Remove(name); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func syncFolder(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// merge makes one file of all. If a kill comes before the old ones are removed,
// the next start removes them, since the new one's name has theirs in it.
func (r *results) merge() error {
	old := r.files
	low := r.next
	for _, s := range old {
		low = min(low, s.low)
	}
	err := r.write(low, func(w *bufio.Writer) error {
		var h heads
		for _, s := range old {
			d := &head{r: bufio.NewReaderSize(io.NewSectionReader(s.f, 0, int64(s.n*hashSize)), 64<<10)}
			if ok, err := d.read(); err != nil {
				return err
			} else if ok {
				h = append(h, d)
			}
		}
		heap.Init(&h)
		var last hash
		for first := true; len(h) > 0; first = false {
			d := h[0]
			if first || d.h != last {
				if _, err := w.Write(d.h[:]); err != nil {
					return err
				}
			}
			last = d.h
			if ok, err := d.read(); err != nil {
				return err
			} else if ok {
				heap.Fix(&h, 0)
			} else {
				heap.Pop(&h)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.files = r.files[len(old):]
	for _, s := range old {
		err = errors.Join(err, s.f.Close(), os.Remove(s.f.Name()))
	}
	return err
}

// head is a file of a merge, and its next hash.
type head struct {
	h hash
	r *bufio.Reader
}

func (d *head) read() (bool, error) {
	_, err := io.ReadFull(d.r, d.h[:])
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	return err == nil, err
}

// heads is a heap.
type heads []*head

func (h heads) Len() int           { return len(h) }
func (h heads) Less(i, j int) bool { return bytes.Compare(h[i].h[:], h[j].h[:]) < 0 }
func (h heads) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *heads) Push(x any) { *h = append(*h, x.(*head)) }

// Pop implements heap.Interface.
func (h *heads) Pop() any {
	last := len(*h) - 1
	d := (*h)[last]
	*h = (*h)[:last]
	return d
}
