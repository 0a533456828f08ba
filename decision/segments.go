package decision

import (
	"bytes"
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
	"time"

	"github.com/hearth-faas/hearth"
)

const (
	// minLog is the least that a log may be bounded to.
	minLog = 1 << 20
	// perLog is how many segments share the bound: one of them is what is
	// lost when room is made for a new one.
	perLog = 32
	// maxBatch bounds what is written at once.
	maxBatch = 128 << 10
	// retryAfter is how long nothing is tried after a write has failed.
	retryAfter = time.Second

	prefix, suffix = "decisions-", ".log"
)

// segments is the log on disk: files that each begin with the Seq in their
// name. add, full, commit and close are called by one goroutine at a time;
// the rest by any.
type segments struct {
	dir      string
	max, seg int64

	mu    sync.Mutex
	files []segment // oldest first; the last is current if file is set
	size  atomic.Int64

	file    *os.File // the current segment; nil: the next commit makes one
	enc     *encoder
	batch   []byte
	first   uint64 // seq of the batch's first
	count   int
	retryAt time.Time // after a failure
}

type segment struct {
	first uint64
	size  int64
}

func (s *segments) path(first uint64) string {
	return filepath.Join(s.dir, fmt.Sprintf("%s%020d%s", prefix, first, suffix))
}

func openSegments(dir string, most int64) (*segments, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s := &segments{dir: dir, max: max(most, minLog)}
	s.seg = s.max / perLog
	var err error
	if s.files, err = segmentsIn(dir); err != nil {
		return nil, err
	}
	for _, f := range s.files {
		s.size.Add(f.size)
	}
	return s, s.makeRoom(0)
}

// segmentsIn returns the segments in dir, oldest first.
func segmentsIn(dir string) ([]segment, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var files []segment
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name(), prefix)
		if number, ok2 := strings.CutSuffix(number, suffix); ok && ok2 {
			first, err := strconv.ParseUint(number, 10, 64)
			info, err2 := e.Info()
			if err != nil || err2 != nil {
				continue // not one of ours, or gone
			}
			files = append(files, segment{first, info.Size()})
		}
	}
	slices.SortFunc(files, func(a, b segment) int { return cmp.Compare(a.first, b.first) })
	return files, nil
}

// makeRoom deletes the oldest segments until n more bytes fit.
func (s *segments) makeRoom(n int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.size.Load()+n > s.max && len(s.files) > 0 {
		if s.file != nil && len(s.files) == 1 {
			return nil // the current one, which a batch can't outgrow
		}
		if err := os.Remove(s.path(s.files[0].first)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		s.size.Add(-s.files[0].size)
		s.files = slices.Delete(s.files, 0, 1)
	}
	return nil
}

// add encodes d for the next commit.
func (s *segments) add(d *hearth.Decision) {
	if s.count == 0 {
		s.first = d.Seq
		if s.file != nil && s.currentSize() >= s.seg {
			s.finish()
		}
		if s.file == nil {
			s.enc = newEncoder()
			s.batch = append(s.batch[:0], header...)
		}
	}
	s.batch = s.enc.append(s.batch, d)
	s.count++
}

func (s *segments) full() bool { return len(s.batch) >= maxBatch }

func (s *segments) currentSize() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files[len(s.files)-1].size
}

// commit writes what was added. It returns how many decisions were lost, and
// an error if a write failed; within a moment after such a failure they are
// lost without another try, and without another error.
func (s *segments) commit(now time.Time) (lost int, err error) {
	if s.count == 0 {
		return 0, nil
	}
	n := s.count
	s.count = 0
	defer func() { s.batch = s.batch[:0] }()
	if now.Before(s.retryAt) {
		return n, nil
	}
	if err := s.write(); err != nil {
		// What the batch has defined is not in the file: it can't go on.
		s.finish()
		s.retryAt = now.Add(retryAfter)
		return n, err
	}
	return 0, nil
}

func (s *segments) write() error {
	if err := s.makeRoom(int64(len(s.batch))); err != nil {
		return err
	}
	if s.file == nil {
		// A file of this name holds decisions of the same numbers, from a run
		// that ended before it had written any that could be read.
		f, err := os.OpenFile(s.path(s.first), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		s.file = f
		s.mu.Lock()
		if i := len(s.files) - 1; i >= 0 && s.files[i].first == s.first {
			s.size.Add(-s.files[i].size)
			s.files = s.files[:i]
		}
		s.files = append(s.files, segment{first: s.first})
		s.mu.Unlock()
	}
	n, err := s.file.Write(s.batch)
	s.mu.Lock()
	s.files[len(s.files)-1].size += int64(n)
	s.mu.Unlock()
	s.size.Add(int64(n))
	return err
}

// finish ends the current segment. It isn't synced: the log may lose its last
// moment in a power cut, and a torn end is expected.
func (s *segments) finish() {
	if s.file != nil {
		_ = s.file.Close() // all that was promised was written
		s.file = nil
	}
}

func (s *segments) close() error {
	if s.file == nil {
		return nil
	}
	err := errors.Join(s.file.Sync(), s.file.Close())
	s.file = nil
	return err
}

// list returns the segments' first numbers, newest first.
func (s *segments) list() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var firsts []uint64
	for _, f := range slices.Backward(s.files) {
		firsts = append(firsts, f.first)
	}
	return firsts
}

// read returns the decisions of a segment that fit, oldest first. A segment
// that is gone has none, and damage ends one.
func (s *segments) read(first uint64, fits func(*hearth.Decision) bool, needle []byte) ([]hearth.Decision, error) {
	data, err := os.ReadFile(s.path(first))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if needle != nil && !bytes.Contains(data, needle) {
		return nil, nil
	}
	var found []hearth.Decision
	dec, err := newDecoder(data)
	if err != nil {
		return nil, nil
	}
	var d hearth.Decision
	for {
		more, err := dec.next(&d)
		if err != nil || !more {
			return found, nil
		}
		if fits(&d) {
			found = append(found, d)
		}
	}
}

// tail returns the last n decisions, oldest first.
func (s *segments) tail(n int) ([]hearth.Decision, error) {
	var last []hearth.Decision
	for _, first := range s.list() {
		ds, err := s.read(first, func(*hearth.Decision) bool { return true }, nil)
		if err != nil {
			return nil, err
		}
		last = append(ds, last...)
		if len(last) >= n {
			return last[len(last)-n:], nil
		}
	}
	return last, nil
}

// search returns up to limit decisions with a Seq under before that fit f,
// newest first.
func (s *segments) search(before uint64, limit int, f *Filter) ([]hearth.Decision, error) {
	var found []hearth.Decision
	var needle []byte
	var id [16]byte
	if parseUUID(f.RequestID, &id) {
		needle = id[:]
	}
	for _, first := range s.list() {
		if first >= before {
			continue
		}
		ds, err := s.read(first, func(d *hearth.Decision) bool { return d.Seq < before && f.fits(d) }, needle)
		for _, d := range slices.Backward(ds) {
			if found = append(found, d); len(found) == limit || f.RequestID != "" && ends(&d) {
				return found, nil
			}
		}
		if err != nil {
			return found, err
		}
	}
	return found, nil
}
