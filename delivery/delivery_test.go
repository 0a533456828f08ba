package delivery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/storetest"
)

var began = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const (
	here = "arn:aws:lambda:us-east-1:111111111111:function:f" // keeps what it gets in the same store
	away = "arn:aws:sqs:us-east-1:111111111111:q"             // does not
	dlq  = "arn:aws:sqs:us-east-1:111111111111:dlq"
)

// world is a store with targets.
type world struct {
	store  store.Store
	clock  *clock.Fake
	shared bool
	from   *Queue // to which is put

	mu     sync.Mutex
	got    map[string]int // by target and payload
	errs   func(d *Delivery) error
	letter map[string]string
}

func newWorld() *world {
	return &world{store: &storetest.Memory{}, clock: clock.NewFake(began), got: map[string]int{}, errs: func(*Delivery) error { return nil }}
}

func (w *world) Deliver(ctx context.Context, d *Delivery, settle func(store.Tx) error) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.errs(d); err != nil {
		return false, err
	}
	settled := d.Target == here
	if settled {
		if err := w.store.Update(ctx, settle); err != nil {
			return false, err
		}
	}
	if d.Dead {
		w.letter = maps.Clone(d.Letter)
	}
	w.got[d.Target+" "+string(d.Payload)]++
	return settled, nil
}

func (w *world) queue() *Queue {
	return New(Config{Store: w.store, Clock: w.clock, Shared: w.shared, Targets: map[string]Target{"lambda": w, "sqs": w}, Log: slog.New(slog.DiscardHandler)})
}

func (w *world) put(t interface{ Fatal(...any) }, ds ...Delivery) {
	if w.from == nil {
		w.from = w.queue()
	}
	err := w.store.Update(context.Background(), func(tx store.Tx) error {
		for _, d := range ds {
			if err := w.from.Put(tx, d, w.clock.Now()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func to(target, payload string) Delivery {
	return Delivery{Account: "111111111111", Origin: "arn:aws:events:us-east-1:111111111111:rule/r", Target: target, Policy: DefaultPolicy, Payload: []byte(payload)}
}

// Whatever fails and stops, and however many servers deliver: what a target in
// the same store gets it gets exactly once, others at least once.
func TestEverythingArrivesAndOnceWhereTheTargetIsInTheStore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		w.shared = true
		fails := rapid.SliceOfN(rapid.IntRange(0, 3), 64, 64).Draw(t, "failures")
		n := 0
		w.errs = func(*Delivery) error {
			n++
			switch fails[n%64] {
			case 0:
				return errors.New("broken")
			case 1:
				return hearth.Errorf(hearth.TooManyRequests, "Rate Exceeded.")
			}
			return nil
		}
		queues := []*Queue{w.queue()}
		want := map[string]bool{}
		for i := range rapid.IntRange(1, 12).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0, 1:
				d := to(rapid.SampledFrom([]string{here, away}).Draw(t, "target"), fmt.Sprint(i))
				w.put(t, d)
				want[d.Target+" "+string(d.Payload)] = true
			case 2:
				queues = append(queues, w.queue())
			case 3: // a server claims and is killed
				if ds := due(t, w); len(ds) > 0 {
					if _, err := queues[0].claim(ds, w.clock.Now()); err != nil {
						t.Fatal(err)
					}
				}
			case 4:
				w.clock.Advance(time.Duration(rapid.IntRange(0, 60).Draw(t, "seconds")) * time.Second)
			}
			settle(queues)
		}
		for end := 0; len(due(t, w)) > 0 || left(t, w) > 0; end++ {
			if end > 1000 {
				t.Fatal("it does not end")
			}
			w.clock.Advance(time.Minute)
			settle(queues)
		}
		for k := range want {
			if times := w.got[k]; times == 0 || times > 1 && strings.HasPrefix(k, here) {
				t.Fatalf("%s came %d times", k, times)
			}
		}
		if len(w.got) != len(want) {
			t.Fatalf("came %v, sent was %v", w.got, want)
		}
	})
}

func settle(queues []*Queue) {
	var wg sync.WaitGroup
	for _, q := range queues {
		wg.Go(q.Settle)
	}
	wg.Wait()
}

func all(t interface{ Fatal(...any) }, w *world, fits func(due time.Time) bool) (ds []*Delivery) {
	err := w.store.View(context.Background(), func(r store.Reader) error {
		for rec, err := range r.Scan(bucket, "", "") {
			if err != nil {
				return err
			}
			d, err := decode(rec.Key, rec.Value)
			if err != nil {
				return err
			}
			at := began
			if strings.HasPrefix(rec.Key, later) {
				at, _ = dueOf(rec.Key)
			}
			if fits(at) {
				ds = append(ds, d)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ds
}

func due(t interface{ Fatal(...any) }, w *world) []*Delivery {
	return all(t, w, func(at time.Time) bool { return !at.After(w.clock.Now()) })
}

func left(t interface{ Fatal(...any) }, w *world) int {
	return len(all(t, w, func(time.Time) bool { return true }))
}

func TestWhatIsGivenUpGoesToItsDeadLettersOrIsParked(t *testing.T) {
	for _, c := range []struct {
		name      string
		err       error
		policy    Policy
		attempts  int
		condition string
	}{
		{"what can't be mended", hearth.Errorf(hearth.AccessDenied, "no"), Policy{time.Hour, 5, dlq}, 1, ""},
		{"after its retries", errors.New("broken"), Policy{24 * time.Hour, 2, dlq}, 3, "MaximumRetryAttempts"},
		{"after its time", errors.New("broken"), Policy{90 * time.Second, 185, dlq}, 0, "MaximumEventAgeInSeconds"},
		{"without dead letters", errors.New("broken"), Policy{time.Hour, 0, ""}, 1, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld()
			attempts := 0
			w.errs = func(d *Delivery) error {
				if d.Target == dlq {
					return nil
				}
				attempts++
				return c.err
			}
			d := to(away, "p")
			d.Policy = c.policy
			w.put(t, d)
			q := w.queue()
			for end := 0; left(t, w) > 0; end++ {
				if end > 500 {
					t.Fatal("it does not end")
				}
				q.Settle()
				w.clock.Advance(time.Second)
			}
			if c.attempts > 0 && attempts != c.attempts {
				t.Errorf("%d attempts", attempts)
			}
			var parked []*Delivery
			if err := q.Parked(t.Context(), d.Account, func(p *Delivery) bool { parked = append(parked, p); return true }); err != nil {
				t.Fatal(err)
			}
			if c.policy.DeadLetter == "" {
				if len(parked) != 1 || parked[0].Why != "broken" || string(parked[0].Payload) != "p" {
					t.Errorf("parked %+v", parked)
				}
				if err := q.Redrive(t.Context(), "222222222222", parked[0].ID); hearth.KindOf(err) != hearth.NotFound {
					t.Errorf("another account redrove it: %v", err)
				}
				if err := q.Redrive(t.Context(), d.Account, parked[0].ID); err != nil || left(t, w) != 1 {
					t.Errorf("redriven: %v", err)
				}
				for range 3 {
					q.Settle()
					w.clock.Advance(time.Second)
				}
				w.clock.Advance(15 * 24 * time.Hour)
				q.sweep(w.clock.Now())
				if err := q.Parked(t.Context(), d.Account, func(*Delivery) bool { t.Error("not forgotten"); return false }); err != nil {
					t.Fatal(err)
				}
				return
			}
			if w.got[dlq+" p"] != 1 || len(parked) != 0 || w.letter["TARGET_ARN"] != away || w.letter["EXHAUSTED_RETRY_CONDITION"] != c.condition {
				t.Errorf("dead letters %v with %v, parked %v", w.got, w.letter, parked)
			}
		})
	}
}

func TestASlowTargetLeavesPlacesForOthers(t *testing.T) {
	w := newWorld()
	for i := range 100 {
		w.put(t, to(away, fmt.Sprint(i)))
	}
	w.put(t, to(here, "x"))
	q := w.queue()
	free := make(chan struct{})
	q.cfg.Targets = map[string]Target{"lambda": w, "sqs": blocked{free}}
	q.Start()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Millisecond) {
		w.mu.Lock()
		n := w.got[here+" x"]
		w.mu.Unlock()
		if n == 1 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it waits behind a target that does not answer")
		}
	}
	close(free)
	q.Stop(t.Context())
}

// What comes for another target has its turn before a flood that was there
// first, also if all of it is due.
func TestAFloodForOneTargetDoesNotDelayAnother(t *testing.T) {
	w := newWorld()
	var flood []Delivery
	for i := range 5000 {
		flood = append(flood, to(away, fmt.Sprint(i)))
	}
	w.put(t, flood...)
	w.put(t, to(here, "x"))
	q := w.queue()
	q.Settle() // one round, of as many as there are places
	if w.got[here+" x"] != 1 || len(w.got) < 2 {
		t.Errorf("in the first round came %v", w.got)
	}
}

type blocked struct{ free chan struct{} }

func (b blocked) Deliver(context.Context, *Delivery, func(store.Tx) error) (bool, error) {
	<-b.free
	return false, nil
}

// A server that is alone on its store takes up at its start what its
// predecessor was delivering.
func TestWhatAKillCutShortIsDeliveredByTheNextStart(t *testing.T) {
	w := newWorld()
	w.put(t, to(here, "x"))
	if mine, err := w.queue().claim(due(t, w), w.clock.Now()); err != nil || len(mine) != 1 {
		t.Fatal(mine, err)
	}
	q := w.queue()
	q.reclaim()
	q.Settle()
	if w.got[here+" x"] != 1 {
		t.Error(w.got)
	}
}

func FuzzDecode(f *testing.F) {
	d := to(here, "{}")
	d.ID = "i"
	b, err := d.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add("w/0000000000000001/i", b)
	f.Add("x", []byte("{}\n"))
	f.Fuzz(func(t *testing.T, key string, data []byte) {
		dueOf(key)
		d, err := decode(key, data)
		if err != nil {
			return
		}
		again, err := d.encode()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := decode(key, again); err != nil || back.ID != d.ID || string(back.Payload) != string(d.Payload) {
			t.Errorf("%q became %+v, %v", data, back, err)
		}
	})
}
