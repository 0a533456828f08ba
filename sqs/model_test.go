package sqs

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// modelMessage is what a queue should know of a message.
type modelMessage struct {
	body, group string
	n           int
	until       int64 // in flight or delayed until then
	count       int
	handle      string
}

// TestQueuesDoWhatTheModelDoes drives a standard and a FIFO queue with sends,
// receipts, deletions, timeouts and kills, and holds them against a list: no
// message is lost or comes before its time, and a group comes in order.
func TestQueuesDoWhatTheModelDoes(t *testing.T) {
	for _, fifo := range []bool{false, true} {
		t.Run(fmt.Sprint("fifo=", fifo), func(t *testing.T) {
			w := newWorld(t)
			run := 0
			rapid.Check(t, func(rt *rapid.T) {
				run++
				name := fmt.Sprint("q", run)
				if fifo {
					name += ".fifo"
				}
				arn := w.create(name)
				defer func() {
					if err := w.DeleteQueue(context.Background(), account, name); err != nil {
						rt.Error(err)
					}
				}()
				model(rt, w, arn, fifo)
			})
		})
	}
}

func model(t *rapid.T, w *world, arn string, fifo bool) {
	var all []*modelMessage
	ids := map[string]int64{}
	n := 0
	hidden := func(m *modelMessage) bool { return m.until > w.now() }
	t.Repeat(map[string]func(*rapid.T){
		"send": func(t *rapid.T) {
			q, err := w.byARN(arn)
			if err != nil {
				t.Fatal(err)
			}
			var batch []Outgoing
			for range rapid.IntRange(1, 3).Draw(t, "batch") {
				n++
				o := Outgoing{Body: fmt.Sprint(n)}
				m := &modelMessage{body: o.Body, n: n}
				if fifo {
					o.Group = rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "group")
					o.Deduplication = rapid.SampledFrom([]string{"1", "2", "3", "4", "5", "6", "7", "8"}).Draw(t, "id")
					m.group = o.Group
				} else if rapid.Bool().Draw(t, "delayed") {
					d := rapid.IntRange(0, 20).Draw(t, "delay")
					o.Delay = new(time.Duration(d) * time.Second)
					m.until = w.now() + int64(d)*1000
				}
				batch = append(batch, o)
				if fifo {
					if ids[o.Deduplication] > w.now() {
						continue
					}
					ids[o.Deduplication] = w.now() + dedupFor
				}
				all = append(all, m)
			}
			if _, errs := q.send(context.Background(), batch); slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
				t.Fatal(errs)
			}
		},
		"receive": func(t *rapid.T) {
			most, timeout := rapid.IntRange(1, 10).Draw(t, "most"), rapid.IntRange(1, 60).Draw(t, "timeout")
			held := map[string]bool{}
			for _, m := range all {
				if hidden(m) {
					held[m.group] = true
				}
			}
			got, err := w.Receive(context.Background(), arn, ReceiveOptions{Max: most, Visibility: new(time.Duration(timeout) * time.Second)})
			if err != nil {
				t.Fatal(err)
			}
			may := 0
			for _, m := range all {
				if !hidden(m) && (!fifo || !held[m.group]) {
					may++
				}
			}
			if len(got) != min(most, may) {
				t.Fatalf("received %d of at most %d, of which %d could be", len(got), most, may)
			}
			for _, g := range got {
				i := slices.IndexFunc(all, func(m *modelMessage) bool { return m.body == g.Body })
				if i < 0 || hidden(all[i]) {
					t.Fatalf("received %q, which is not there or not visible", g.Body)
				}
				m := all[i]
				if fifo {
					for _, earlier := range all[:i] {
						if earlier.group == m.group && !hidden(earlier) {
							t.Fatalf("received %q before %q of its group", m.body, earlier.body)
						}
					}
				}
				if m.count++; g.Receives != m.count {
					t.Fatalf("%q was received %d times, and says %d", m.body, m.count, g.Receives)
				}
				m.until, m.handle = w.now()+int64(timeout)*1000, g.Handle
			}
		},
		"delete": func(t *rapid.T) {
			var held []*modelMessage
			for _, m := range all {
				if m.handle != "" && (hidden(m) || !fifo) {
					held = append(held, m)
				}
			}
			if len(held) == 0 {
				return // an action that changes nothing is one too
			}
			m := rapid.SampledFrom(held).Draw(t, "message")
			if err := w.Delete(context.Background(), arn, m.handle)[0]; err != nil {
				t.Fatal(err)
			}
			all = slices.DeleteFunc(all, func(o *modelMessage) bool { return o == m })
		},
		"change": func(t *rapid.T) {
			var held []*modelMessage
			for _, m := range all {
				if m.handle != "" && hidden(m) {
					held = append(held, m)
				}
			}
			if len(held) == 0 {
				return
			}
			m := rapid.SampledFrom(held).Draw(t, "message")
			to := rapid.IntRange(0, 30).Draw(t, "timeout")
			if err := w.ChangeVisibility(context.Background(), arn, Visibility{m.handle, time.Duration(to) * time.Second})[0]; err != nil {
				t.Fatal(err)
			}
			m.until = w.now() + int64(to)*1000
		},
		"time passes": func(t *rapid.T) {
			w.clock.Advance(time.Duration(rapid.IntRange(1, 120).Draw(t, "seconds")) * time.Second)
		},
		"kill": func(t *rapid.T) { w.reopen() },
		"": func(t *rapid.T) {
			_, name, _ := ParseARN(arn)
			a, err := w.Attributes(context.Background(), account, name, []string{"All"})
			if err != nil {
				t.Fatal(err)
			}
			out := 0
			for _, m := range all {
				if hidden(m) && m.count > 0 {
					out++
				}
			}
			if a["ApproximateNumberOfMessagesNotVisible"] != fmt.Sprint(out) {
				t.Fatalf("in flight: %s, should be %d", a["ApproximateNumberOfMessagesNotVisible"], out)
			}
		},
	})
}

func FuzzRecords(f *testing.F) {
	f.Add((&entry{body: 1, sent: 2, due: 3, first: 4, count: 5, size: 6, group: "g", source: "s"}).encode())
	f.Add((&content{id: "i", body: "b", attributes: map[string]Attribute{"n": {Type: "String", Value: []byte("v")}}}).encode())
	f.Add((&dedup{expires: 1, seq: 2, id: "i"}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := decodeEntry(b); err == nil {
			if again, err := decodeEntry(e.encode()); err != nil || again != e {
				t.Errorf("%+v became %+v, %v", e, again, err)
			}
		}
		if c, err := decodeContent(b); err == nil {
			if again, err := decodeContent(c.encode()); err != nil || again.body != c.body || len(again.attributes) != len(c.attributes) {
				t.Errorf("%+v became %+v, %v", c, again, err)
			}
		}
		if d, err := decodeDedup(b); err == nil {
			if again, err := decodeDedup(d.encode()); err != nil || again != d {
				t.Errorf("%+v became %+v, %v", d, again, err)
			}
		}
	})
}

// BenchmarkSendReceiveDelete is a message's whole life, with many at once: the
// store's fsync is shared by those.
func BenchmarkSendReceiveDelete(b *testing.B) {
	for _, batch := range []int{1, 10} {
		b.Run(fmt.Sprint("batch=", batch), func(b *testing.B) {
			w := newWorld(b)
			arn := w.create("q")
			q, err := w.byARN(arn)
			if err != nil {
				b.Fatal(err)
			}
			var out []Outgoing
			for range batch {
				out = append(out, Outgoing{Body: strings.Repeat("x", 1000)})
			}
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, errs := q.send(context.Background(), slices.Clone(out)); errs[0] != nil {
						b.Error(errs[0])
					}
					got, err := w.Receive(context.Background(), arn, ReceiveOptions{Max: batch})
					if err != nil {
						b.Error(err)
					}
					var handles []string
					for _, m := range got {
						handles = append(handles, m.Handle)
					}
					for _, err := range w.Delete(context.Background(), arn, handles...) {
						if err != nil {
							b.Error(err)
						}
					}
				}
			})
			b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}
