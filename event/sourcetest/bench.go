package sourcetest

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/poll"
	"github.com/hearth-faas/hearth/store/sqlite"
)

// Bench compares reading a source through the framework, with a function that
// does nothing, with bare, a consumer that takes batches of a hundred and
// acknowledges them by the broker's own client. publish publishes b.N small
// messages for the mapping, which is read from its beginning; bare reads as many.
// They take turns, so that what else the machine does hits both.
func Bench(b *testing.B, opener poll.Opener, mapping func() (*event.Mapping, poll.Place), publish func(m *event.Mapping, n int), bare func(m *event.Mapping, n int)) {
	b.StopTimer()
	var through, alone time.Duration
	for range 3 {
		m, _ := mapping()
		publish(m, b.N)
		began := time.Now()
		bare(m, b.N)
		alone += time.Since(began)

		m, at := mapping()
		m.Settings.BatchSize = 100
		publish(m, b.N)
		st, err := sqlite.Open(b.Context(), b.TempDir())
		if err != nil {
			b.Fatal(err)
		}
		f := &counting{until: int64(b.N), done: make(chan struct{})}
		p := poll.New(poll.Config{Store: st, Clock: clock.System(), Openers: map[event.Kind]poll.Opener{m.Kind(): opener},
			Place: func(context.Context, *event.Mapping) (poll.Place, error) { return at, nil }, Run: f, Log: slog.New(slog.DiscardHandler)})
		p.Start()
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		began = time.Now()
		b.StartTimer()
		go func() {
			defer close(ended)
			p.Run(ctx, m, func(string) {})
		}()
		select {
		case <-f.done:
		case <-time.After(patience):
			b.Errorf("%d of %d came", f.n.Load(), b.N)
		}
		b.StopTimer()
		through += time.Since(began)
		cancel()
		<-ended
		if err := st.Close(); err != nil {
			b.Error(err)
		}
	}
	b.ReportMetric(3*float64(b.N)/through.Seconds(), "events/s")
	b.ReportMetric(3*float64(b.N)/alone.Seconds(), "bare/s")
	b.ReportMetric(alone.Seconds()/through.Seconds(), "of-bare")
	b.ReportMetric(0, "ns/op")
}

// counting is a function that counts the messages it was given.
type counting struct {
	n     atomic.Int64
	until int64
	done  chan struct{}
}

// Invoke implements hearth.Invoker.
func (c *counting) Invoke(_ context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
	n := int64(countBodies(inv.Payload))
	if now := c.n.Add(n); now >= c.until && now-n < c.until {
		close(c.done)
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
