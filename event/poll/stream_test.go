package poll

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/event"
)

// stream is a made-up stream, whose positions are numbers.
type stream struct {
	mu        sync.Mutex
	logs      map[string][]*Record
	ended     map[string]bool
	change    chan struct{}
	committed map[string]string
	fails     int
	opens     int
}

func newStream(shards ...string) *stream {
	s := &stream{logs: map[string][]*Record{}, ended: map[string]bool{}, change: make(chan struct{}), committed: map[string]string{}}
	for _, id := range shards {
		s.logs[id] = nil
	}
	return s
}

func (s *stream) put(shard, id, group string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logs[shard] = append(s.logs[shard], &Record{
		ID: id, Body: body(id), Group: group, Position: strconv.Itoa(len(s.logs[shard]) + 1), Sent: time.Now(),
	})
	close(s.change)
	s.change = make(chan struct{})
}

// at is how far the shard has been committed.
func (s *stream) at(shard string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.committed[shard]
}

func (s *stream) Open2(context.Context, *event.Mapping, Place) (Source, error) { return s, nil }

func (s *stream) Event(rs []*Record) ([]byte, error) { return Records(rs) }
func (s *stream) View(r *Record) []byte              { return r.Body }
func (s *stream) Close() error                       { return nil }

func (s *stream) Shards(context.Context) (list []Shard, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.logs {
		list = append(list, Shard{ID: id})
	}
	return list, nil
}

func (s *stream) Open(_ context.Context, shard, after string) (Reader, error) {
	at := 0
	if after != "" {
		at, _ = strconv.Atoi(after)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opens++
	return &reader{s, shard, at}, nil
}

type reader struct {
	*stream
	shard string
	at    int
}

func (r *reader) Read(ctx context.Context, most int, wait time.Duration) ([]*Record, error) {
	until := time.Now().Add(wait)
	for {
		r.mu.Lock()
		if r.fails > 0 {
			r.fails--
			r.mu.Unlock()
			return nil, errors.New("the stream is away")
		}
		var read []*Record
		for _, rec := range r.logs[r.shard][r.at:min(r.at+most, len(r.logs[r.shard]))] {
			copied := *rec
			read = append(read, &copied)
		}
		r.at += len(read)
		ended, change := r.ended[r.shard], r.change
		r.mu.Unlock()
		switch {
		case len(read) > 0:
			return read, nil
		case ended:
			return nil, ErrEnd
		case !time.Now().Before(until):
			return nil, nil
		}
		select {
		case <-change:
		case <-time.After(time.Until(until)):
		case <-ctx.Done():
			return nil, nil
		}
	}
}

func (r *reader) Commit(_ context.Context, position string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.committed[r.shard] = position
	return nil
}

func (r *reader) Close() error { return nil }

// inOrder tells whether the IDs of a group, which grow, were begun in order,
// repeats aside: what is later must never be begun while an earlier one never
// was.
func inOrder(calls [][]string, group map[string]string) error {
	begun := map[string]bool{}
	seen := map[string][]string{}
	for _, call := range calls {
		for _, id := range call {
			if !begun[id] {
				begun[id] = true
				g := group[id]
				if l := seen[g]; len(l) > 0 && l[len(l)-1] > id {
					return fmt.Errorf("%s was begun before %s, both of group %s", l[len(l)-1], id, g)
				}
				seen[g] = append(seen[g], id)
			}
		}
	}
	return nil
}

// Whatever fails, is throttled, or is killed and started again: each record of a
// stream is processed or parked, in the order of its shard or of its key, and a
// start goes on where the last one was.
func TestEveryRecordOfAStreamIsProcessedInOrderOrParked(t *testing.T) {
	records := newMemory()
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		n := rapid.IntRange(1, 50).Draw(rt, "records")
		all := ids("r", n)
		group, poison := map[string]string{}, map[string]bool{}
		for _, id := range all {
			group[id] = rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(rt, "group")
			poison[id] = rapid.IntRange(0, 14).Draw(rt, "poison") == 0
		}
		size := rapid.IntRange(1, 12).Draw(rt, "batch")
		window := rapid.IntRange(0, 2).Draw(rt, "window")
		parallel := rapid.IntRange(1, 4).Draw(rt, "parallel")
		partial := rapid.Bool().Draw(rt, "partial")
		throttles := rapid.IntRange(0, 5).Draw(rt, "throttles")
		fails := rapid.IntRange(0, 2).Draw(rt, "fails")
		restarts := rapid.IntRange(0, 2).Draw(rt, "restarts")
		kill := rapid.Bool().Draw(rt, "kill")
		takes := rapid.SliceOfN(rapid.IntRange(1, 3000), 8, 8).Draw(rt, "takes")
		err := bubble(t, func(t *testing.T) error {
			src := newStream("s-0")
			w := newWorld(t, OpenerFunc(src.Open2), records)
			left := throttles
			do := func(w *world) function {
				return func(ids []string) (string, error) {
					w.mu.Lock()
					defer w.mu.Unlock()
					if left > 0 {
						left--
						return "", hearth.Errorf(hearth.TooManyRequests, "Rate Exceeded.")
					}
					var bad []string
					for _, id := range ids {
						if poison[id] {
							bad = append(bad, `{"itemIdentifier":"`+id+`"}`)
						}
					}
					switch {
					case len(bad) > 0 && partial:
						return `{"batchItemFailures":[` + strings.Join(bad, ",") + `]}`, nil
					case len(bad) > 0:
						return "fail", nil
					}
					return "null", nil
				}
			}
			w.do = do(w)
			w.takes = func(ids []string) time.Duration {
				return time.Duration(takes[len(w.calls)%len(takes)]) * time.Millisecond
			}
			m := streamMapping(func(m *event.Mapping) {
				m.ID = fmt.Sprint("s", run)
				m.Settings.BatchSize, m.Settings.WindowSeconds, m.Settings.Parallelism = size, &window, parallel
				m.Settings.MaxRetries, m.Settings.Bisect = new(2), true
				if partial {
					m.Settings.ResponseTypes = []string{"ReportBatchItemFailures"}
				}
			})
			stop := w.run(m)
			for _, id := range all[:n/2] {
				src.put("s-0", id, group[id])
			}
			for range restarts {
				time.Sleep(1500 * time.Millisecond)
				if kill {
					w.Abandon()
				}
				stop()
				if kill {
					// Another process, with what this one has seen.
					next := newWorld(t, OpenerFunc(src.Open2), records)
					next.calls, next.processed, next.parked, next.takes = w.calls, w.processed, w.parked, w.takes
					w = next
					w.do = do(w)
					w.takes = func(ids []string) time.Duration {
						return time.Duration(takes[len(w.calls)%len(takes)]) * time.Millisecond
					}
				}
				stop = w.run(m)
			}
			src.mu.Lock()
			src.fails = fails
			src.mu.Unlock()
			for _, id := range all[n/2:] {
				src.put("s-0", id, group[id])
			}
			err := w.until("all are done", func() bool { return w.finished() == n && src.at("s-0") == strconv.Itoa(n) })
			stop()
			if err != nil {
				return fmt.Errorf("%w: %d of %d finished", err, w.finished(), n)
			}
			for _, id := range all {
				if _, parked := w.parked[id]; parked != poison[id] {
					return fmt.Errorf("%s: parked is %v (%s), poison is %v", id, parked, w.parked[id], poison[id])
				}
			}
			if parallel == 1 {
				for id := range group {
					group[id] = "all"
				}
			}
			if err := inOrder(w.calls, group); err != nil {
				return err
			}
			if w.most > parallel {
				return fmt.Errorf("%d batches at once of one shard, where %d are allowed", w.most, parallel)
			}
			// Nothing is left for the next.
			before := len(w.calls)
			stop = w.run(m)
			time.Sleep(time.Minute)
			stop()
			if len(w.calls) != before {
				return fmt.Errorf("after a restart it ran %v again", w.calls[before:])
			}
			return nil
		})
		if err != nil {
			rt.Fatal(err)
		}
	})
}

func TestAReaderThatWasFollowedStoresNothing(t *testing.T) {
	points := checkpoints{openStore(t), "m"}
	old, err := points.claim(t.Context(), "s")
	if err != nil {
		t.Fatal(err)
	}
	new, err := points.claim(t.Context(), "s")
	if err != nil {
		t.Fatal(err)
	}
	new.Position = "5"
	if err := points.save(t.Context(), "s", new); err != nil {
		t.Fatal(err)
	}
	old.Position = "3"
	if err := points.save(t.Context(), "s", old); !errors.Is(err, errFenced) {
		t.Errorf("the old reader stored: %v", err)
	}
	if now, err := points.claim(t.Context(), "s"); err != nil || now.Position != "5" {
		t.Errorf("the next goes on from %+v, %v", now, err)
	}
	if err := points.forget(t.Context()); err != nil {
		t.Fatal(err)
	}
	if now, err := points.claim(t.Context(), "s"); err != nil || now.Position != "" {
		t.Errorf("what was forgotten goes on from %+v, %v", now, err)
	}
}

// A sum over windows of ten seconds: each window's final invocation has the sum
// of its own records, also across a restart.
func TestTumblingWindowsHandTheirStateOn(t *testing.T) {
	records := newMemory()
	err := bubble(t, func(t *testing.T) error {
		src := newStream("s-0")
		w := newWorld(t, OpenerFunc(src.Open2), records)
		type payload struct {
			Records []struct{ ID string }
			Window  struct{ Start, End time.Time }
			State   struct{ N int }
			Final   bool   `json:"isFinalInvokeForWindow"`
			Shard   string `json:"shardId"`
			ARN     string `json:"eventSourceARN"`
		}
		var sums []int
		got := 0
		w.do = func([]string) (string, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			var p payload
			if err := json.Unmarshal([]byte(w.payloads[len(w.payloads)-1]), &p); err != nil {
				return "fail", nil
			}
			if p.Shard != "s-0" || !strings.HasPrefix(p.ARN, "arn:") || p.Window.End.Sub(p.Window.Start) != 10*time.Second {
				return "fail", nil
			}
			if p.Final {
				sums = append(sums, p.State.N)
				return "null", nil
			}
			got += len(p.Records)
			return fmt.Sprintf(`{"state":{"n":%d}}`, p.State.N+len(p.Records)), nil
		}
		m := streamMapping(func(m *event.Mapping) { m.ID, m.Settings.TumblingSeconds = "tumbling", 10 })
		stop := w.run(m)
		want := map[time.Time]int{}
		for i := range 60 {
			want[time.Now().Truncate(10*time.Second)]++
			src.put("s-0", fmt.Sprintf("r%03d", i), "")
			time.Sleep(700 * time.Millisecond)
			if i == 30 {
				stop()
				stop = w.run(m)
			}
		}
		time.Sleep(20 * time.Second)
		stop()
		total := 0
		for _, n := range sums {
			total += n
		}
		if len(sums) != len(want) || total != 60 {
			return fmt.Errorf("%d windows with sums %v, want %v (%d records seen, parked %v)", len(sums), sums, want, got, w.parked)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
