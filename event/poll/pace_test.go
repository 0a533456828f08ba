package poll

import (
	"context"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/event"
)

// flood puts a second's records, rate of them, for some seconds.
func flood(q *queue, rate, seconds int) (n int) {
	for range seconds * 50 {
		var now []string
		for range rate / 50 {
			now = append(now, fmt.Sprintf("f%06d", n))
			n++
		}
		q.put(now...)
		time.Sleep(20 * time.Millisecond)
	}
	return n
}

func single(m *event.Mapping) { m.Settings.BatchSize = 1 }

// A function that waits for 100 ms needs fifty at once for 500 records a second:
// it gets them within seconds, with nothing set, and gives them up afterwards.
func TestParallelismFollowsTheRateOfTheSource(t *testing.T) {
	err := bubble(t, func(t *testing.T) error {
		q := newQueue(Traits{})
		w := newWorld(t, q, nil, func(c *Config) { c.Places = 500 })
		call := 0
		w.takes = func([]string) time.Duration { // not all the same, so that they do not end at one instant
			call++
			return time.Duration(80+10*(call%5)) * time.Millisecond
		}
		stop := w.run(queueMapping(single))
		flood(q, 50, 2)
		if most := w.mostAtOnce(); most > 12 {
			return fmt.Errorf("%d at once for five", most)
		}
		n := 100 + flood(q, 500, 20)
		behind := q.left()
		time.Sleep(5 * time.Second)
		left := q.left()
		stop()
		t.Logf("%d at most, %d behind when the burst ended, %d five seconds later", w.mostAtOnce(), behind, left)
		if left > 0 || w.mostAtOnce() < 45 {
			return fmt.Errorf("%d of %d left five seconds after the burst, %d at once at most", left, n, w.mostAtOnce())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// A function that computes gets no more done with more at once than the machine
// has processors: more would only make each slower to start.
func TestAFunctionThatTheMachineBoundsIsNotPiledUp(t *testing.T) {
	err := bubble(t, func(t *testing.T) error {
		const processors = 4
		q := newQueue(Traits{})
		w := newWorld(t, q, nil, func(c *Config) { c.Places = 500 })
		var sum, count int
		w.takes = func([]string) time.Duration {
			sum, count = sum+w.running, count+1
			return 10 * time.Millisecond * time.Duration(max(w.running, processors)) / processors
		}
		stop := w.run(queueMapping(single))
		q.put(ids("r", 1000)...)
		for i := range 5 {
			q.put(ids(fmt.Sprint("s", i), 1000)...)
		}
		err := w.until("all are done", func() bool { return q.left() == 0 })
		stop()
		if mean := sum / count; mean > 3*processors || err != nil {
			return fmt.Errorf("%d at once on average, %d at most, with %d processors; %v", mean, w.mostAtOnce(), processors, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// A long function does not hold up the growth by its own time.
func TestLongFunctionsAreStartedWithoutWaitingForTheFirstToEnd(t *testing.T) {
	err := bubble(t, func(t *testing.T) error {
		q := newQueue(Traits{})
		w := newWorld(t, q, nil, func(c *Config) { c.Places = 500 })
		w.takes = func([]string) time.Duration { return time.Minute }
		stop := w.run(queueMapping(single))
		q.put(ids("r", 100)...)
		time.Sleep(5 * time.Second)
		w.mu.Lock()
		running := w.running
		w.mu.Unlock()
		err := w.until("all are done", func() bool { return q.left() == 0 })
		stop()
		if running != 100 {
			return fmt.Errorf("%d of 100 had begun after five seconds", running)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// While one mapping floods all places, another's record is taken and begun at
// once.
func TestAFloodDoesNotDelayAnothersTrickle(t *testing.T) {
	err := bubble(t, func(t *testing.T) error {
		q, other := newQueue(Traits{}), newQueue(Traits{})
		w := newWorld(t, nil, nil, func(c *Config) {
			c.Places = 16
			c.Openers[event.SQS] = OpenerFunc(func(_ context.Context, m *event.Mapping, _ Place) (Source, error) {
				if m.ID == "other" {
					return other, nil
				}
				return q, nil
			})
		})
		began := map[string]time.Time{}
		w.takes = func(ids []string) time.Duration {
			began[ids[0]] = time.Now()
			if ids[0][0] == 't' {
				return 100 * time.Millisecond
			}
			return time.Second
		}
		stop := w.run(queueMapping(single))
		stopOther := w.run(queueMapping(single, func(m *event.Mapping) { m.ID, m.Account = "other", "222222222222" }))
		q.put(ids("r", 500)...)
		var worst time.Duration
		for i := range 20 {
			id := fmt.Sprint("t", i)
			at := time.Now()
			other.put(id)
			time.Sleep(500 * time.Millisecond)
			w.mu.Lock()
			b, ok := began[id]
			w.mu.Unlock()
			if !ok {
				return fmt.Errorf("%s has not begun after half a second", id)
			}
			worst = max(worst, b.Sub(at))
		}
		stop()
		stopOther()
		if worst > 10*time.Millisecond {
			return fmt.Errorf("a record waited %v behind another's flood", worst)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// Whatever asks and comes back: never more have a place than there are, nobody
// with nothing at work waits while there is one, and all get theirs in the end.
func TestPlacesAreBoundedAndStarveNobody(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		total := rapid.IntRange(1, 9).Draw(t, "total")
		p := newPlaces(total)
		type held struct {
			account hearth.Account
			mapping string
		}
		var waiting []*waiter
		var running []held
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "ask") {
				w := &waiter{hearth.Account(rapid.SampledFrom([]string{"1", "2"}).Draw(t, "account")), rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "mapping"), make(chan struct{})}
				p.waiting = append(p.waiting, w)
				waiting = append(waiting, w)
				p.give()
			} else if len(running) > 0 {
				i := rapid.IntRange(0, len(running)-1).Draw(t, "which")
				p.release(running[i].account, running[i].mapping)
				running = append(running[:i], running[i+1:]...)
			}
			var still []*waiter
			for _, w := range waiting {
				select {
				case <-w.given:
					running = append(running, held{w.account, w.mapping})
				default:
					still = append(still, w)
				}
			}
			waiting = still
			if len(running) > total || p.running != len(running) {
				t.Fatalf("%d run in %d places, it says %d", len(running), total, p.running)
			}
			for _, w := range waiting {
				busy := 0
				for _, r := range running {
					if r.mapping == w.mapping {
						busy++
					}
				}
				if busy == 0 && len(running) < total {
					t.Fatalf("%s waits with nothing at work, and %d of %d places are taken", w.mapping, len(running), total)
				}
			}
		}
		for len(running) > 0 {
			p.release(running[0].account, running[0].mapping)
			running = running[1:]
			var still []*waiter
			for _, w := range waiting {
				select {
				case <-w.given:
					running = append(running, held{w.account, w.mapping})
				default:
					still = append(still, w)
				}
			}
			waiting = still
		}
		if len(waiting) > 0 || len(p.account) > 0 || len(p.mapping) > 0 {
			t.Fatalf("left: %d, %v, %v", len(waiting), p.account, p.mapping)
		}
	})
}

// While the processors are all at work, nothing may end for long because
// containers are being made: the limit follows then, too, but does not run away.
func TestThePaceGrowsInSmallStepsWhileTheProcessorsAreAtWork(t *testing.T) {
	now := time.Unix(0, 0)
	for _, pressed := range []bool{false, true} {
		p := newPace(1, 1000)
		for range 20 { // five seconds in which nothing ends
			now = now.Add(stallTime)
			p.stalled(now, pressed)
		}
		if got := p.allowed(); pressed && got != firstLimit+20 || !pressed && got != 1000 {
			t.Errorf("pressed %v: %d at once after five seconds in which nothing ended", pressed, got)
		}
		p = newPace(1, 1000)
		for range 10_000 {
			now = now.Add(200 * time.Millisecond / time.Duration(p.allowed()))
			p.ended(ending{took: 200 * time.Millisecond, full: true, pressed: pressed}, now)
		}
		if got := p.allowed(); got < 30 {
			t.Errorf("pressed %v: %d at once although more at once got more done", pressed, got)
		}
	}
}
