package sourcetest

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/poll"
	"github.com/hearth-faas/hearth/store/sqlite"
)

// Measured is a source whose reading through the framework, with a function that
// does nothing, is compared with a bare consumer by the source's own client.
type Measured struct {
	Opener poll.Opener
	// New makes something to read, and a mapping that reads it from its beginning.
	New func() (*event.Mapping, poll.Place)
	// Publish publishes n small messages, and returns when the source has them.
	// Their bodies are of BenchBody.
	Publish func(m *event.Mapping, n int) error
	// Bare takes n messages and acknowledges them, up to a hundred at once, and
	// calls heard for each when it has it.
	Bare func(m *event.Mapping, n int, heard func()) error
	// Live: only who listens hears what is published. Then the time of reading
	// begins with the publishing.
	Live bool
}

// singles are how many messages are published one at a time to tell how long
// after that they are heard.
const singles = 200

// Bench reports how many messages a second come through the framework and to
// the bare consumer, b.N at a time, and how long after the beginning of its
// publishing a single message comes to the function and to the bare consumer.
// They take turns, so that what else the machine does hits both.
func Bench(b *testing.B, s Measured) {
	b.StopTimer()
	var through, alone time.Duration
	for range 3 {
		alone += s.time(b, s.bare, b.N)
		through += s.time(b, s.framework, b.N)
	}
	b.ReportMetric(3*float64(b.N)/through.Seconds(), "events/s")
	b.ReportMetric(3*float64(b.N)/alone.Seconds(), "bare/s")
	b.ReportMetric(alone.Seconds()/through.Seconds(), "of-bare")
	for name, read := range map[string]reading{"bare": s.bare, "start": s.framework} {
		took := s.single(b, read)
		b.ReportMetric(took[len(took)/2].Seconds()*1000, name+"-p50-ms")
		b.ReportMetric(took[len(took)*99/100].Seconds()*1000, name+"-p99-ms")
	}
	b.ReportMetric(0, "ns/op")
}

// reading prepares to read n messages of a mapping: run returns when it has them,
// and heard is called for each; end is called after that.
type reading func(b *testing.B, m *event.Mapping, at poll.Place, n int, heard func()) (run, end func() error)

// time is how long it takes to read n messages at once.
func (s Measured) time(b *testing.B, read reading, n int) time.Duration {
	b.Helper()
	m, at := s.New()
	if s.Live {
		b.StartTimer()
		took, err := s.beside(b, read, m, at, n, func(func() error) error { return s.Publish(m, n) })
		b.StopTimer()
		if err != nil {
			b.Fatal(err)
		}
		return took
	}
	if err := s.Publish(m, n); err != nil {
		b.Fatal(err)
	}
	run, end := read(b, m, at, n, func() {})
	began := time.Now()
	b.StartTimer()
	err := run()
	b.StopTimer()
	took := time.Since(began)
	if err := errors.Join(err, end()); err != nil {
		b.Fatal(err)
	}
	return took
}

// single is how long each of single messages takes, sorted.
func (s Measured) single(b *testing.B, read reading) (took []time.Duration) {
	b.Helper()
	m, at := s.New()
	_, err := s.beside(b, read, m, at, singles, func(next func() error) error {
		for range singles {
			began := time.Now()
			if err := s.Publish(m, 1); err != nil {
				return err
			}
			if err := next(); err != nil {
				return err
			}
			took = append(took, time.Since(began))
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	slices.Sort(took)
	return took
}

// beside publishes while n messages are read, and one before them that shows that
// reading has begun. next waits for the next message. It tells how long it took.
func (s Measured) beside(b *testing.B, read reading, m *event.Mapping, at poll.Place, n int, publish func(next func() error) error) (time.Duration, error) {
	heard, failed := make(chan struct{}, n+1), make(chan error, 1)
	run, end := read(b, m, at, n+1, func() { heard <- struct{}{} })
	go func() { failed <- run() }()
	next := func() error {
		select {
		case <-heard:
			return nil
		case err := <-failed:
			failed <- err // that none is told to who waits for the end
			if err != nil {
				return err
			}
			<-heard // it was the last
			return nil
		case <-time.After(patience):
			return errors.New("a message did not come")
		}
	}
	if err := errors.Join(s.Publish(m, 1), next()); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := publish(next); err != nil {
		return 0, err
	}
	err := <-failed
	took := time.Since(began)
	return took, errors.Join(err, end())
}

func (s Measured) bare(_ *testing.B, m *event.Mapping, _ poll.Place, n int, heard func()) (run, end func() error) {
	return func() error { return s.Bare(m, n, heard) }, func() error { return nil }
}

func (s Measured) framework(b *testing.B, m *event.Mapping, at poll.Place, n int, heard func()) (run, end func() error) {
	m.Settings.BatchSize = 100
	st, err := sqlite.Open(b.Context(), b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	f := &counting{heard: heard, until: n, done: make(chan struct{})}
	p := poll.New(poll.Config{Store: st, Clock: clock.System(), Openers: map[event.Kind]poll.Opener{m.Kind(): s.Opener},
		Place: func(context.Context, *event.Mapping) (poll.Place, error) { return at, nil }, Run: f, Log: slog.New(slog.DiscardHandler)})
	p.Start()
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan struct{})
	return func() error {
			go func() {
				defer close(ended)
				p.Run(ctx, m, func(string) {})
			}()
			select {
			case <-f.done:
				return nil
			case <-time.After(patience):
				return fmt.Errorf("not all of %d messages came", n)
			}
		}, func() error {
			cancel()
			<-ended
			return st.Close()
		}
}

// counting is a function that counts the messages it was given.
type counting struct {
	mu    sync.Mutex
	n     int
	until int
	heard func()
	done  chan struct{}
}

// Invoke implements hearth.Invoker.
func (c *counting) Invoke(_ context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for range countBodies(inv.Payload) {
		if c.n++; c.n <= c.until {
			c.heard()
		}
		if c.n == c.until {
			close(c.done)
		}
	}
	return &hearth.Result{Payload: []byte("null")}, nil
}

// countBodies counts the messages in an event by what each has in it, which is
// quicker than to decode it and the same for all sources.
func countBodies(payload []byte) int {
	return bytes.Count(payload, []byte(mark)) + bytes.Count(payload, []byte(base64.StdEncoding.EncodeToString([]byte(`{"m":"` + mark)[:33])))
}

// mark is in the body of each message of a bench, in text and in base64.
const mark = "0123456789012345678901234567"

// BenchBody is the n-th body.
func BenchBody(n int) []byte { return fmt.Appendf(nil, `{"m":%q,"n":%d}`, mark, n) }
