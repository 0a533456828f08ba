// Package sourcetest is what every source of events must hold to, against a
// real broker: what was published is processed, by ID; what failed is tried
// again; what can never be processed is parked and delays nobody; a broker that
// is killed, a connection that is cut and a server that was away lose nothing.
package sourcetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/poll"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/sqlite"
)

// Source is a source under test.
type Source struct {
	Kind   event.Kind
	Opener poll.Opener
	// Broker is what is killed and cut; nil if it cannot be.
	Broker Broker
	// Stream: its records are processed in order, so that a poison record
	// holds up those behind it until it is parked.
	Stream bool
	// Redelivers: the source itself gives up what fails again and again, so that
	// nothing is parked here.
	Redelivers bool
	// Keeps: what was taken stays taken when the connection is lost, so that
	// reading goes on beside it.
	Keeps bool
	// New makes something to read, under a name of its own, and a mapping and
	// a place that read it from its beginning.
	New func(t *testing.T) (*event.Mapping, poll.Place)
	// Publish publishes a message whose body is {"id": ID}, for each ID, and
	// returns when the broker has them for sure.
	Publish func(t *testing.T, m *event.Mapping, ids []string)
	// IDs are those of the messages in an event.
	IDs func(t *testing.T, payload []byte) []string
	// Left is how many messages the broker still keeps for the mapping. Blind:
	// what was taken and not acknowledged is not among them while it is read.
	Left  func(t *testing.T, m *event.Mapping) int
	Blind bool
}

// Broker is what a *brokers.Broker can.
type Broker interface {
	Kill()
	Start(testing.TB)
	Cut()
}

// patience is how long a test waits for what must come. It is long, for busy
// machines; RabbitMQ alone may need a good part of a minute to start on one.
const patience = 3 * time.Minute

// Reader is a mapping that is being read, and its function.
type Reader struct {
	t       *testing.T
	source  Source
	mapping *event.Mapping
	cancel  context.CancelFunc
	poller  *poll.Poller
	ended   chan struct{}

	mu      sync.Mutex
	changed chan struct{}
	answer  func(ids []string) error // of the function
	seen    map[string]int           // how often each ID was processed
	tried   map[string]int           // how often each ID came
	parked  []string
	results []string
	events  [][]byte // that were processed
}

// Store makes a store for Read, which can be read with again.
func Store(t *testing.T) store.Store {
	t.Helper()
	st, err := sqlite.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return st
}

// Read reads the mapping until the test ends or Stop. The function answers as
// answer does: an error is the function's.
func Read(t *testing.T, s Source, st store.Store, m *event.Mapping, at poll.Place, answer func(ids []string) error) *Reader {
	t.Helper()
	r := &Reader{t: t, source: s, mapping: m, changed: make(chan struct{}), answer: answer, seen: map[string]int{}, tried: map[string]int{}}
	r.poller = poll.New(poll.Config{
		Store: st, Clock: clock.System(),
		Openers: map[event.Kind]poll.Opener{m.Kind(): s.Opener},
		Place:   func(context.Context, *event.Mapping) (poll.Place, error) { return at, nil },
		Run:     (*function)(r),
		Park: func(_ context.Context, p poll.Parked) error {
			r.change(func() { r.parked = append(r.parked, s.IDs(t, p.Payload)...) })
			return nil
		},
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	r.poller.Start()
	r.begin()
	t.Cleanup(r.Stop)
	return r
}

func (r *Reader) begin() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	r.cancel, r.ended = cancel, ended
	go func() {
		defer close(ended)
		r.poller.Run(ctx, r.mapping, func(result string) { r.change(func() { r.results = append(r.results, result) }) })
	}()
}

// Stop stops reading as a server does that is told to, and returns when nothing
// is at work.
func (r *Reader) Stop() {
	r.cancel()
	<-r.ended
}

// Abandon stops reading as a server that dies does, as far as that can be had
// in one process: what is at work is given up.
func (r *Reader) Abandon() {
	r.poller.Abandon()
	r.Stop()
}

func (r *Reader) change(do func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	do()
	close(r.changed)
	r.changed = make(chan struct{})
}

// Answer has the function answer otherwise from now on.
func (r *Reader) Answer(answer func(ids []string) error) { r.change(func() { r.answer = answer }) }

// Wait waits until what is so of the reader.
func (r *Reader) Wait(what string, so func(*Reader) bool) {
	r.t.Helper()
	deadline := time.After(patience)
	for {
		r.mu.Lock()
		ok, changed := so(r), r.changed
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			r.mu.Lock()
			defer r.mu.Unlock()
			r.t.Fatalf("not within %v: %s; processed %d, tried %d, parked %v, reported %q",
				patience, what, len(r.seen), len(r.tried), r.parked, r.results)
		}
	}
}

// Processed waits until all the IDs have been.
func (r *Reader) Processed(ids []string) {
	r.t.Helper()
	r.t.Cleanup(func() {
		if r.t.Failed() {
			r.t.Logf("never processed: %v", slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return r.seen[id] > 0 }))
		}
	})
	r.Wait(fmt.Sprintf("%d messages processed", len(ids)), func(r *Reader) bool {
		return !slices.ContainsFunc(ids, func(id string) bool { return r.seen[id] == 0 })
	})
}

// Tried is how often the ID came to the function.
func (r *Reader) Tried(id string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tried[id]
}

// Events are what the function was given and processed.
func (r *Reader) Events() [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

// function is the reader as the function that its mapping invokes.
type function Reader

// Invoke implements hearth.Invoker.
func (f *function) Invoke(ctx context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
	r := (*Reader)(f)
	ids := r.source.IDs(r.t, inv.Payload)
	var answer func([]string) error
	r.change(func() {
		for _, id := range ids {
			r.tried[id]++
		}
		answer = r.answer
	})
	if answer != nil {
		if err := answer(ids); err != nil {
			message, merr := json.Marshal(map[string]string{"errorMessage": err.Error()})
			return &hearth.Result{FunctionError: "Unhandled", Payload: message}, merr
		}
	}
	r.change(func() {
		for _, id := range ids {
			r.seen[id]++
		}
		r.events = append(r.events, inv.Payload)
	})
	return &hearth.Result{Payload: []byte("null")}, nil
}

// IDs makes n IDs with a prefix.
func IDs(prefix string, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("%s-%d", prefix, i)
	}
	return ids
}

// Body is the body of the message with the ID.
func Body(id string) []byte { return fmt.Appendf(nil, `{"id":%q}`, id) }

// ID is the ID in a body.
func ID(t *testing.T, body []byte) string {
	t.Helper()
	var doc struct{ ID string }
	if err := json.Unmarshal(body, &doc); err != nil || doc.ID == "" {
		t.Errorf("a body that nobody published: %q (%v)", body, err)
	}
	return doc.ID
}

// drained waits until the broker keeps nothing for the mapping any more. What
// could not be acknowledged may come once more before that.
func (r *Reader) drained() {
	r.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if r.source.Blind {
			r.Stop()
		}
		left := r.source.Left(r.t, r.mapping)
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%d messages are left at the broker, although all were processed", left)
		}
		if r.source.Blind {
			r.begin()
		}
	}
}

var errPoison = errors.New("cannot process this")

// poisonous answers with an error if an ID is poison.
func poisonous(ids []string) error {
	for _, id := range ids {
		if strings.HasPrefix(id, "poison") {
			return errPoison
		}
	}
	return nil
}

// Run runs the suite.
func Run(t *testing.T, s Source) {
	t.Run("what is published is processed and acknowledged", func(t *testing.T) {
		m, at := s.New(t)
		ids := IDs("a", 100)
		s.Publish(t, m, ids[:50])
		r := Read(t, s, Store(t), m, at, nil)
		s.Publish(t, m, ids[50:])
		r.Processed(ids)
		r.drained()
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, id := range ids {
			if r.seen[id] != 1 {
				t.Errorf("%s was processed %d times, with nothing gone wrong", id, r.seen[id])
			}
		}
	})
	t.Run("what failed is tried again until it is processed", func(t *testing.T) {
		m, at := s.New(t)
		r := Read(t, s, Store(t), m, at, func([]string) error { return errors.New("not today") })
		ids := IDs("b", 20)
		s.Publish(t, m, ids)
		r.Wait("a message tried twice", func(r *Reader) bool { return r.tried[ids[0]] >= 2 })
		if !s.Blind && s.Left(t, m) == 0 {
			t.Error("the broker let go of what was not processed")
		}
		r.Answer(nil)
		r.Processed(ids)
		r.drained()
	})
	if !s.Redelivers { // else the source has its own way with poison
		t.Run("poison is parked and the others are processed", func(t *testing.T) {
			m, at := s.New(t)
			m.Settings.MaxRetries = new(2)
			m.Settings.Bisect = true
			r := Read(t, s, Store(t), m, at, poisonous)
			ids := IDs("c", 30)
			s.Publish(t, m, slices.Concat(ids[:10], []string{"poison"}, ids[10:]))
			r.Processed(ids)
			r.Wait("the poison parked", func(r *Reader) bool { return slices.Equal(r.parked, []string{"poison"}) })
			r.drained()
		})
	}
	t.Run("what was published while nobody read is processed later", func(t *testing.T) {
		m, at := s.New(t)
		st := Store(t)
		r := Read(t, s, st, m, at, nil)
		ids := IDs("d", 20)
		s.Publish(t, m, ids[:10])
		r.Processed(ids[:10])
		r.Stop()
		s.Publish(t, m, ids[10:])
		r = Read(t, s, st, m, at, nil)
		r.Processed(ids[10:])
		r.drained()
	})
	t.Run("what was at work when the server died comes again", func(t *testing.T) {
		m, at := s.New(t)
		st := Store(t)
		stuck, started := make(chan struct{}), make(chan struct{})
		begun := sync.OnceFunc(func() { close(started) })
		r := Read(t, s, st, m, at, func([]string) error {
			begun()
			<-stuck
			return errors.New("the server is dead")
		})
		ids := IDs("e", 30)
		s.Publish(t, m, ids)
		<-started
		r.poller.Abandon()
		close(stuck)
		r.Stop()
		r = Read(t, s, st, m, at, nil)
		r.Processed(ids)
		r.drained()
	})
	if s.Broker == nil || testing.Short() { // brokers take long to come back
		return
	}
	t.Run("connections that are cut again and again lose nothing", func(t *testing.T) {
		m, at := s.New(t)
		r := Read(t, s, Store(t), m, at, nil)
		var all []string
		for i := range 4 {
			ids := IDs(fmt.Sprintf("f%d", i), 25)
			all = append(all, ids...)
			s.Publish(t, m, ids)
			r.Wait("some of them come", func(r *Reader) bool {
				return slices.ContainsFunc(ids, func(id string) bool { return r.tried[id] > 0 })
			})
			s.Broker.Cut()
		}
		r.Processed(all)
		r.drained()
	})
	if s.Keeps {
		t.Run("what is at work when a connection is cut holds up nothing", func(t *testing.T) {
			m, at := s.New(t)
			gate := make(chan struct{})
			r := Read(t, s, Store(t), m, at, func(ids []string) error {
				if ids[0] == "slow" {
					<-gate
				}
				return nil
			})
			open := sync.OnceFunc(func() { close(gate) })
			t.Cleanup(open) // before the reader is stopped, which waits for it
			s.Publish(t, m, []string{"slow"})
			r.Wait("the first is at work", func(r *Reader) bool { return r.tried["slow"] > 0 })
			s.Broker.Cut()
			ids := IDs("i", 30)
			s.Publish(t, m, ids)
			r.Processed(ids)
			open()
			r.Processed([]string{"slow"})
			r.drained()
			if n := r.Tried("slow"); n != 1 {
				t.Errorf("what was at work was run %d times", n)
			}
		})
	}
	t.Run("a broker that is killed and comes back loses nothing", func(t *testing.T) {
		m, at := s.New(t)
		gate := make(chan struct{})
		r := Read(t, s, Store(t), m, at, func(ids []string) error {
			if strings.HasPrefix(ids[0], "g-") {
				<-gate
			}
			return nil
		})
		before, after := IDs("g", 30), IDs("h", 30)
		s.Publish(t, m, before)
		r.Wait("the first is at work", func(r *Reader) bool { return r.tried[before[0]] > 0 })
		s.Broker.Kill()
		close(gate) // it ends while it cannot be acknowledged
		s.Broker.Start(t)
		s.Publish(t, m, after)
		r.Processed(slices.Concat(before, after))
		r.drained()
	})
}
