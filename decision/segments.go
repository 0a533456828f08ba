package decision

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/internal/segment"
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
	*segment.Files
	max, seg int64

	file    *os.File // the current segment; nil: the next commit makes one
	enc     *encoder
	batch   []byte
	first   uint64 // seq of the batch's first
	count   int
	retryAt time.Time // after a failure
}

func openSegments(dir string, most int64) (*segments, error) {
	files, err := segment.Open(dir, prefix, suffix)
	if err != nil {
		return nil, err
	}
	s := &segments{Files: files, max: max(most, minLog)}
	s.seg = s.max / perLog
	return s, s.makeRoom(0)
}

// makeRoom deletes the oldest segments until n more bytes fit, but not the
// current one, which a batch can't outgrow.
func (s *segments) makeRoom(n int64) error {
	keep := 0
	if s.file != nil {
		keep = 1
	}
	return s.MakeRoom(keep, func(segment.Segment) (bool, error) { return s.Size()+n > s.max, nil })
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
	last, _ := s.Last()
	return last.Size
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
		f, err := os.OpenFile(s.Path(s.first), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		s.file = f
		s.Add(s.first)
	}
	n, err := s.file.Write(s.batch)
	s.Grew(int64(n))
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
	var firsts []uint64
	for _, f := range slices.Backward(s.List()) {
		firsts = append(firsts, f.First)
	}
	return firsts
}

// read returns the decisions of a segment that fit, oldest first. A segment
// that is gone has none, and damage ends one.
func (s *segments) read(first uint64, fits func(*hearth.Decision) bool, needle []byte) ([]hearth.Decision, error) {
	data, err := os.ReadFile(s.Path(first))
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
