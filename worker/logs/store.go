package logs

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hearth-faas/hearth"
)

const (
	// flushAfter is how long an event waits in memory for others to be
	// written with.
	flushAfter = 25 * time.Millisecond
	// spaceWait is how long an append waits for the writer when the queue is
	// full, before the event is dropped.
	spaceWait = 20 * time.Millisecond
	// segmentBytes is at what size a segment is sealed: small enough that
	// retention, which removes whole segments, is precise, and that one can
	// be searched within milliseconds.
	segmentBytes = 4 << 20
	// tidyEvery is how often retention is looked at while nothing is written.
	tidyEvery = 10 * time.Minute
)

// Options are a store's bounds. Zero fields take the defaults in brackets.
type Options struct {
	Dir        string        // made if it does not exist
	MaxBytes   int64         // of all segments [512 MiB]
	Retention  time.Duration // of groups without one of their own [0: for ever]
	QueueBytes int           // of messages that wait to be written [4 MiB]
	Clock      hearth.Clock
	Log        *slog.Logger // of the store's own troubles [slog.Default]
}

// Store keeps log events on disk. Safe for concurrent use. One process may have
// a directory open at a time, which its owner sees to.
type Store struct {
	opt Options

	queue   queue
	wake    chan struct{}      // there is something to write
	hurry   chan struct{}      // ... without waiting for more
	flushes chan chan struct{} // somebody wants to know when it is done
	stopped chan struct{}

	loaded  chan struct{} // closed when what is on disk is known
	failure error         // to find it out; read after loaded

	disk    sync.RWMutex
	groups  map[groupKey]*group
	bytes   int64         // of all segments
	changed chan struct{} // closed and replaced when something was written
	trouble bool          // writing failed last time
	out     []byte        // what the writer encodes into

	tidyMu sync.Mutex
	tidier hearth.Timer
}

// queue is what waits to be written.
type queue struct {
	mu      sync.Mutex
	entries []entry
	text    []byte        // the entries' messages
	space   chan struct{} // closed and replaced when the writer took all
	lost    int64         // events dropped since the start
	closed  bool
}

type groupKey struct {
	account hearth.Account
	name    string
}

// entry is an event in the queue; its message is text[from:to].
type entry struct {
	stream   *Stream
	at       int64 // ms
	ingested int64
	request  string
	from, to int
}

// Stream is a log stream that can be appended to. Safe for concurrent use.
type Stream struct {
	store   *Store
	key     groupKey
	name    string
	created int64

	// Guarded by store.queue.mu.
	last    int64 // time of the newest event, ms
	dropped int   // events since the last that got through

	// Of the writer alone.
	segment *segment
	number  uint32
}

// Open opens the store in opt.Dir.
func Open(opt Options) (*Store, error) {
	s := Begin(opt)
	if err := s.Loaded(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Begin is Open that does not wait until it is known what is on disk, which may
// be files of many thousands of functions. Until then what is appended waits in
// memory, and so does who reads. Loaded must be called, and the store be closed
// if it fails.
func Begin(opt Options) *Store {
	if opt.MaxBytes == 0 {
		opt.MaxBytes = 512 << 20
	}
	if opt.QueueBytes == 0 {
		opt.QueueBytes = 4 << 20
	}
	if opt.Log == nil {
		opt.Log = slog.Default()
	}
	s := &Store{
		opt:     opt,
		wake:    make(chan struct{}, 1),
		hurry:   make(chan struct{}, 1),
		flushes: make(chan chan struct{}),
		stopped: make(chan struct{}),
		loaded:  make(chan struct{}),
		groups:  make(map[groupKey]*group),
		changed: make(chan struct{}),
	}
	s.queue.space = make(chan struct{})
	s.disk.Lock() // until it is known what is there
	go func() {
		err := s.load()
		if err == nil {
			s.tidyLocked()
		} else {
			s.failure = &hearth.Error{Op: "logs.Open", Subject: opt.Dir, Kind: hearth.Service, Message: "the logs can't be opened", Err: err}
		}
		s.disk.Unlock()
		close(s.loaded)
		if err != nil {
			close(s.stopped) // nothing is written over what can't be read
			return
		}
		s.write()
	}()
	s.scheduleTidy()
	return s
}

// Loaded waits until it is known what is on disk, and returns why that could
// not be found out.
func (s *Store) Loaded() error {
	<-s.loaded
	return s.failure
}

// load finds the groups that are on disk.
func (s *Store) load() error {
	if err := os.MkdirAll(s.opt.Dir, 0o700); err != nil {
		return err
	}
	accounts, err := os.ReadDir(s.opt.Dir)
	if err != nil {
		return err
	}
	for _, a := range accounts {
		dir := filepath.Join(s.opt.Dir, a.Name())
		groups, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range groups {
			if strings.HasPrefix(e.Name(), deletedPrefix) {
				if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
					return err
				}
				continue
			}
			g, err := openGroup(hearth.Account(a.Name()), filepath.Join(dir, e.Name()))
			if err != nil {
				return err
			}
			if g == nil {
				continue
			}
			s.groups[groupKey{g.account, g.name}] = g
			for _, seg := range g.segments {
				s.bytes += seg.Size
			}
		}
	}
	return nil
}

// Stream returns a stream to append to. It appears in listings with its first
// event.
func (s *Store) Stream(account hearth.Account, group, name string) *Stream {
	return &Stream{store: s, key: groupKey{account, group}, name: name, created: s.opt.Clock.Now().UnixMilli()}
}

// Keeper is where the lines of functions go: a Store, or on a node that has
// joined a server the way to the Store there. Safe for concurrent use.
type Keeper interface {
	Appender(account hearth.Account, group, name string) Appender
}

// Appender is a log stream; Stream is one. Append must not wait long, and
// keeps nothing of message. Safe for concurrent use.
type Appender interface {
	Append(at time.Time, requestID string, message []byte)
}

// Appender implements Keeper.
func (s *Store) Appender(account hearth.Account, group, name string) Appender {
	return s.Stream(account, group, name)
}

// Name is the stream's name.
func (st *Stream) Name() string { return st.name }

// Append adds an event, whose message is copied. Events of a stream are kept in
// order: one that is older than its predecessor gets the predecessor's time.
// requestID may be empty. See the package's documentation for what happens when
// the disk is too slow.
func (st *Stream) Append(at time.Time, requestID string, message []byte) {
	if len(message) > maxEvent {
		message = message[:maxEvent]
	}
	if len(requestID) > 128 {
		requestID = requestID[:128]
	}
	s := st.store
	now := s.opt.Clock.Now().UnixMilli()
	q := &s.queue
	q.mu.Lock()
	// A stream that loses events already does not wait for each of them.
	if len(q.text)+len(message) > s.opt.QueueBytes && !q.closed && st.dropped == 0 {
		space := q.space
		q.mu.Unlock()
		notify(s.hurry)
		notify(s.wake)
		t := time.NewTimer(spaceWait)
		select {
		case <-space:
		case <-t.C:
		}
		t.Stop()
		q.mu.Lock()
	}
	if q.closed || len(q.text)+len(message) > s.opt.QueueBytes {
		st.dropped++
		q.lost++
		q.mu.Unlock()
		return
	}
	st.last = max(st.last, at.UnixMilli())
	if st.dropped > 0 {
		q.push(st, now, "", fmt.Appendf(nil, "[hearth] %d log events were dropped here: they came faster than the disk takes them.\n", st.dropped))
		st.dropped = 0
	}
	first := len(q.entries) == 0
	q.push(st, now, requestID, message)
	full := len(q.text) > s.opt.QueueBytes/2
	q.mu.Unlock()
	if first {
		notify(s.wake)
	}
	if full {
		notify(s.hurry)
	}
}

// push queues an event. The queue's lock is held.
func (q *queue) push(st *Stream, now int64, requestID string, message []byte) {
	from := len(q.text)
	q.text = append(q.text, message...)
	q.entries = append(q.entries, entry{st, st.last, max(now, st.last), requestID, from, len(q.text)})
}

// notify leaves a token in a channel of one.
func notify(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// Lost is how many events were dropped since the store was opened.
func (s *Store) Lost() int64 {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	return s.queue.lost
}

// Flush returns when everything that was appended before is written, or could
// not be.
func (s *Store) Flush() {
	done := make(chan struct{})
	select {
	case s.flushes <- done:
		<-done
	case <-s.stopped:
	}
}

// Close writes what waits and ends the store. Events that are appended later
// are dropped.
func (s *Store) Close() error {
	s.queue.mu.Lock()
	if s.queue.closed {
		s.queue.mu.Unlock()
		return nil
	}
	s.queue.closed = true
	s.queue.mu.Unlock()
	s.tidyMu.Lock()
	s.tidier.Stop()
	s.tidier = nil
	s.tidyMu.Unlock()
	notify(s.wake)
	notify(s.hurry)
	<-s.stopped

	s.disk.Lock()
	defer s.disk.Unlock()
	var errs []error
	for _, g := range s.groups {
		if n := len(g.segments); n > 0 && !g.segments[n-1].sealed {
			errs = append(errs, g.seal(g.segments[n-1]))
		}
	}
	return errors.Join(errs...)
}

// scheduleTidy looks at retention from time to time, also while nothing is
// written.
func (s *Store) scheduleTidy() {
	s.tidyMu.Lock()
	defer s.tidyMu.Unlock()
	s.tidier = s.opt.Clock.AfterFunc(tidyEvery, func() {
		s.tidy()
		s.tidyMu.Lock()
		defer s.tidyMu.Unlock()
		if s.tidier != nil {
			s.tidier.Reset(tidyEvery)
		}
	})
}

// tidy removes what is too old, and then the oldest segments until the rest
// fits into MaxBytes.
func (s *Store) tidy() {
	s.disk.Lock()
	defer s.disk.Unlock()
	s.tidyLocked()
}

func (s *Store) tidyLocked() {
	now := s.opt.Clock.Now()
	type candidate struct {
		g   *group
		seg *segment
		at  int64
	}
	var rest []candidate
	drop := func(c candidate) {
		s.bytes -= c.seg.Size
		c.seg.sealed = true // the writer begins a new one
		if err := ignoreMissing(c.g.remove(c.seg)); err != nil {
			s.opt.Log.Error("remove a log segment", "group", c.g.name, "err", err)
		}
	}
	for _, g := range s.groups {
		keep := s.opt.Retention
		if g.meta.Retention > 0 {
			keep = time.Duration(g.meta.Retention) * 24 * time.Hour
		}
		for _, seg := range slices.Clone(g.segments) {
			c := candidate{g, seg, seg.newest()}
			if keep > 0 && c.at < now.Add(-keep).UnixMilli() {
				drop(c)
			} else {
				rest = append(rest, c)
			}
		}
	}
	if s.bytes <= s.opt.MaxBytes {
		return
	}
	slices.SortFunc(rest, func(a, b candidate) int { return int(min(max(a.at-b.at, -1), 1)) })
	for _, c := range rest {
		if s.bytes <= s.opt.MaxBytes {
			return
		}
		drop(c)
	}
}
