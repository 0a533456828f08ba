package poll

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/event"
)

// queue is a made-up queue: what is taken and not extended comes again.
type queue struct {
	mu     sync.Mutex
	traits Traits
	ready  []*Record
	held   map[string]time.Time // until when, by ID
	all    map[string]*Record
	change chan struct{}
	opened int
	fails  int           // takes that fail from now on
	away   time.Duration // how long an answer of it takes
	taking int           // takes under way
	most   int           // of them at once
	unused int           // released so
	doubly int           // acknowledged without being held
}

func newQueue(traits Traits) *queue {
	return &queue{traits: traits, held: map[string]time.Time{}, all: map[string]*Record{}, change: make(chan struct{})}
}

func (q *queue) Open(context.Context, *event.Mapping, Place) (Source, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.opened++
	return q, nil
}

func (q *queue) put(ids ...string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, id := range ids {
		r := &Record{ID: id, Body: body(id), Sent: time.Now()}
		q.all[id] = r
		q.ready = append(q.ready, r)
	}
	close(q.change)
	q.change = make(chan struct{})
}

func (q *queue) Event(rs []*Record) ([]byte, error) { return Records(rs) }
func (q *queue) View(r *Record) []byte              { return r.Body }
func (q *queue) Traits() Traits                     { return q.traits }

// Close gives back everything that is held.
func (q *queue) Close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for id := range q.held {
		q.ready = append(q.ready, q.all[id])
		delete(q.held, id)
	}
	return nil
}

func (q *queue) Take(ctx context.Context, most int, wait time.Duration) ([]*Record, error) {
	q.mu.Lock()
	q.taking++
	q.most = max(q.most, q.taking)
	q.mu.Unlock()
	defer func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.taking--
	}()
	time.Sleep(q.away)
	until := time.Now().Add(wait)
	for {
		q.mu.Lock()
		if q.fails > 0 {
			q.fails--
			q.mu.Unlock()
			return nil, errors.New("the queue is away")
		}
		now := time.Now()
		if q.traits.Hold > 0 {
			for id, at := range q.held {
				if now.After(at) {
					q.ready = append(q.ready, q.all[id])
					delete(q.held, id)
				}
			}
		}
		n := min(most, len(q.ready))
		var taken []*Record
		for _, r := range q.ready[:n] {
			q.held[r.ID] = now.Add(q.traits.Hold)
			again := *r
			again.Receives++
			again.Taken = time.Time{}
			q.all[r.ID] = &again
			taken = append(taken, &again)
		}
		q.ready = slices.Clone(q.ready[n:])
		change := q.change
		q.mu.Unlock()
		if n > 0 || wait == 0 {
			return taken, nil
		}
		select {
		case <-change:
		case <-time.After(min(time.Until(until), time.Second)):
			if !time.Now().Before(until) {
				return nil, nil
			}
		case <-ctx.Done():
			return nil, nil
		}
	}
}

func (q *queue) Ack(_ context.Context, rs []*Record) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range rs {
		if _, held := q.held[r.ID]; !held {
			q.doubly++
		}
		delete(q.held, r.ID)
		delete(q.all, r.ID)
	}
	return nil
}

func (q *queue) Release(_ context.Context, rs []*Record, why Reason) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range rs {
		if why == Unused {
			q.unused++
		} else if q.traits.Redelivers && r.Receives >= 3 {
			// Its own dead-letter queue.
			delete(q.held, r.ID)
			delete(q.all, r.ID)
			continue
		}
		if _, held := q.held[r.ID]; held {
			delete(q.held, r.ID)
			q.ready = append(q.ready, r)
		}
	}
	return nil
}

func (q *queue) Extend(_ context.Context, rs []*Record) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range rs {
		if _, held := q.held[r.ID]; held {
			q.held[r.ID] = time.Now().Add(q.traits.Hold)
		}
	}
	return nil
}

func (q *queue) left() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.all)
}

func ids(prefix string, n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("%s%03d", prefix, i))
	}
	return all
}

// Whatever fails, is throttled, is away for a while or is stopped and started
// again: each record of a queue is processed or parked, only poison is parked,
// and no more run at once than the mapping allows.
func TestEveryRecordOfAQueueIsProcessedOrParked(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 60).Draw(rt, "records")
		all := ids("r", n)
		poison := map[string]bool{}
		for _, id := range all {
			poison[id] = rapid.IntRange(0, 9).Draw(rt, "poison") == 0
		}
		size := rapid.IntRange(1, 12).Draw(rt, "batch")
		window := rapid.IntRange(0, 2).Draw(rt, "window")
		ceiling := rapid.IntRange(2, 8).Draw(rt, "ceiling")
		partial := rapid.Bool().Draw(rt, "partial")
		hold := time.Duration(rapid.IntRange(0, 1).Draw(rt, "hold")) * 6 * time.Second
		throttles := rapid.IntRange(0, 10).Draw(rt, "throttles")
		fails := rapid.IntRange(0, 3).Draw(rt, "fails")
		restarts := rapid.IntRange(0, 2).Draw(rt, "restarts")
		takes := rapid.SliceOfN(rapid.IntRange(1, 20_000), 8, 8).Draw(rt, "takes")
		parallel := rapid.Bool().Draw(rt, "parallel")
		away := time.Duration(rapid.IntRange(0, 50).Draw(rt, "away")) * time.Millisecond
		err := bubble(t, func(t *testing.T) error {
			q := newQueue(Traits{Hold: hold, Parallel: parallel})
			q.away = away
			w := newWorld(t, q, nil)
			left := throttles
			w.do = func(ids []string) (string, error) {
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
				case len(bad) == 0:
					return "null", nil
				case partial:
					return `{"batchItemFailures":[` + strings.Join(bad, ",") + `]}`, nil
				}
				return "fail", nil
			}
			w.takes = func(ids []string) time.Duration {
				return time.Duration(takes[len(w.calls)%len(takes)]) * time.Millisecond
			}
			m := queueMapping(func(m *event.Mapping) {
				m.Settings.BatchSize, m.Settings.WindowSeconds, m.Settings.MaxConcurrency = size, &window, &ceiling
				m.Settings.MaxRetries = new(2)
				if partial {
					m.Settings.ResponseTypes = []string{"ReportBatchItemFailures"}
				}
			})
			stop := w.run(m)
			q.put(all[:n/2]...)
			for range restarts {
				time.Sleep(1500 * time.Millisecond)
				stop()
				if got := len(q.held); got > 0 {
					return fmt.Errorf("%d records are held after the stop", got)
				}
				stop = w.run(m)
			}
			q.mu.Lock()
			q.fails = fails
			q.mu.Unlock()
			q.put(all[n/2:]...)
			err := w.until("all are done", func() bool { return w.finished() == n && q.left() == 0 })
			stop()
			if err != nil {
				return fmt.Errorf("%w: %d of %d finished, %d left", err, w.finished(), n, q.left())
			}
			for _, id := range all {
				if _, parked := w.parked[id]; parked != poison[id] {
					return fmt.Errorf("%s: parked is %v (%s), poison is %v", id, parked, w.parked[id], poison[id])
				}
			}
			if w.most > ceiling {
				return fmt.Errorf("%d at once, where %d are allowed", w.most, ceiling)
			}
			if q.taking != 0 || q.most > 1 && (!parallel || q.most > ceiling) {
				return fmt.Errorf("it was taken from by %d at once, and is by %d after the stop", q.most, q.taking)
			}
			if restarts == 0 {
				for id, times := range w.processed {
					if times > 1 {
						return fmt.Errorf("%s was processed %d times though nothing was cut short", id, times)
					}
				}
			}
			return nil
		})
		if err != nil {
			rt.Fatal(err)
		}
	})
}

// What a queue that is some way off gives does not depend on how far: as long as
// it gives as much as it is asked for, more ask it at once, and one when it is
// empty. Without Parallel a second and more would pass for each 500 records.
func TestAQueueSomeWayOffIsTakenFromByAsManyAsItHasRecordsFor(t *testing.T) {
	const n, away = 4000, 25 * time.Millisecond
	for _, parallel := range []bool{true, false} {
		if err := bubble(t, func(t *testing.T) error {
			q := newQueue(Traits{Redelivers: true, Hold: 30 * time.Second, Parallel: parallel})
			q.away = away
			w := newWorld(t, q, nil)
			q.put(ids("r", n)...)
			began := time.Now()
			stop := w.run(queueMapping())
			defer stop()
			if err := w.until("all are processed", func() bool { return w.finished() == n && q.left() == 0 }); err != nil {
				return err
			}
			took := time.Since(began)
			time.Sleep(time.Second)
			q.mu.Lock()
			now, most := q.taking, q.most
			q.mu.Unlock()
			alone := n / 10 * away
			if now != 1 || parallel != (most >= 8) || parallel != (took < alone/3) || most > 64 {
				return fmt.Errorf("parallel is %v: %d took from it at once, and %d do now that it is empty; %v went by, where one alone needs %v", parallel, most, now, took, alone)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
}

// An error of one taker is its own, one that lasts has the source opened anew, and
// what the others had taken by then is processed or comes again.
func TestAnErrorOfOneTakerLosesNothingOfTheOthers(t *testing.T) {
	for _, fails := range []int{1, 10} {
		if err := bubble(t, func(t *testing.T) error {
			const n = 600
			q := newQueue(Traits{Redelivers: true, Hold: 30 * time.Second, Parallel: true})
			q.away = 25 * time.Millisecond
			w := newWorld(t, q, nil)
			q.put(ids("r", n)...)
			stop := w.run(queueMapping())
			defer stop()
			if err := w.until("several take", func() bool { q.mu.Lock(); defer q.mu.Unlock(); return q.taking > 2 }); err != nil {
				return err
			}
			q.mu.Lock()
			q.fails = fails
			q.mu.Unlock()
			if err := w.until("all are processed", func() bool { return w.finished() == n && q.left() == 0 }); err != nil {
				return err
			}
			if fails == 1 && q.opened > 2 || fails > 1 && q.opened < 2 {
				return fmt.Errorf("after %d errors it was opened %d times", fails, q.opened)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
}

// While what was taken is processed, however long that lasts, an error passes and
// reading goes on, with no more at once than the mapping allows. A queue that stays
// broken is opened anew when nothing is at work.
func TestAnErrorOfAQueueIsNotWaitedOutByABatchAtWork(t *testing.T) {
	if err := bubble(t, func(t *testing.T) error {
		q := newQueue(Traits{Hold: 30 * time.Second})
		w := newWorld(t, q, nil)
		w.takes = func(ids []string) time.Duration {
			if ids[0] == "slow" {
				return 15 * time.Minute
			}
			return time.Millisecond
		}
		stop := w.run(queueMapping(func(m *event.Mapping) { m.Settings.MaxConcurrency = new(2) }))
		defer stop()
		began := time.Now()
		q.put("slow")
		if err := w.until("the slow one is at work", func() bool { return w.mostAtOnce() == 1 }); err != nil {
			return err
		}
		q.mu.Lock()
		q.fails = 3
		q.mu.Unlock()
		q.put(ids("r", 50)...)
		if err := w.until("the others are processed", func() bool { return w.finished() == 50 }); err != nil {
			return err
		}
		if took := time.Since(began); took > 10*time.Second || q.opened != 1 {
			return fmt.Errorf("the others were processed after %v, and the queue was opened %d times", took, q.opened)
		}
		q.mu.Lock()
		q.fails = 1 << 30
		q.mu.Unlock()
		if err := w.until("the slow one is processed", func() bool { return w.finished() == 51 && q.left() == 0 }); err != nil {
			return err
		}
		q.mu.Lock()
		opened, failed := q.opened, 1<<30-q.fails
		q.mu.Unlock()
		if opened != 1 || failed > 60 {
			return fmt.Errorf("while the slow one was at work the queue was opened %d times, and %d takes failed", opened, failed)
		}
		if err := w.until("the queue is opened anew", func() bool { q.mu.Lock(); defer q.mu.Unlock(); return q.opened == 2 }); err != nil {
			return err
		}
		if w.most > 2 || q.doubly > 0 || w.processed["slow"] != 1 {
			return fmt.Errorf("%d batches were at work at once, %d records were acknowledged that were not held, and the slow one was processed %d times", w.most, q.doubly, w.processed["slow"])
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
