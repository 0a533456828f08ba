package schedule

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

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/delivery"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/storetest"
)

const account = hearth.Account("111111111111")

var began = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

type tester interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// world is a store, and what has arrived at the targets.
type world struct {
	t     tester
	store store.Store
	clock *clock.Fake

	mu   sync.Mutex
	got  []string // the scheduled times, in the order in which they came
	fail int      // how many deliveries fail first
}

func newWorld(t tester) *world {
	return &world{t: t, store: &storetest.Memory{}, clock: clock.NewFake(began)}
}

// Deliver implements delivery.Target: the target is in the same store.
func (w *world) Deliver(ctx context.Context, d *delivery.Delivery, settle func(store.Tx) error) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fail > 0 {
		w.fail--
		return false, errors.New("asked to")
	}
	if err := w.store.Update(ctx, settle); err != nil {
		return false, err
	}
	var e struct{ Time string }
	if err := json.Unmarshal(d.Payload, &e); err != nil {
		e.Time = string(d.Payload)
	}
	w.got = append(w.got, e.Time)
	return true, nil
}

// server is one of the servers on the store.
type server struct {
	*Schedules
	timers *Timers
	queue  *delivery.Queue
}

func (w *world) server(c CatchUp) *server {
	log := slog.New(slog.DiscardHandler)
	s := &server{timers: NewTimers(TimersConfig{Store: w.store, Clock: w.clock, Log: log})}
	s.queue = delivery.New(delivery.Config{Store: w.store, Clock: w.clock, Log: log, Targets: map[string]delivery.Target{"lambda": w}})
	s.Schedules = New(Config{Store: w.store, Clock: w.clock, Region: "us-east-1", Timers: s.timers, Queue: s.queue, CatchUp: c, Log: log})
	return s
}

func every(expression string) Schedule {
	return Schedule{Account: account, Group: DefaultGroup, Name: "s", Expression: expression, Target: Target{
		ARN: "arn:aws:lambda:us-east-1:111111111111:function:f", Role: "arn:aws:iam::111111111111:role/r", Retry: delivery.DefaultPolicy,
	}}
}

// slowDue are the times between two, by the minute.
func slowDue(step, offset int, from, to time.Time) (times []time.Time) {
	for t := from.Truncate(time.Minute).Add(time.Minute); !t.After(to); t = t.Add(time.Minute) {
		if int(t.Sub(began)/time.Minute)%step == offset%step {
			times = append(times, t)
		}
	}
	return times
}

// Whatever stops and restarts there are between, and however many servers: each
// due time fires exactly once while one of them runs, and those that were
// missed as the catch-up says.
func TestEachDueTimeFiresOnceOverRestarts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		rule := rapid.SampledFrom([]CatchUp{Skip, Last, All}).Draw(t, "catch-up")
		step := rapid.SampledFrom([]int{1, 5, 15}).Draw(t, "step")
		text, offset := fmt.Sprintf("cron(0/%d * * * ? *)", step), 0
		if rapid.Bool().Draw(t, "rate") {
			text = fmt.Sprintf("rate(%d minutes)", step)
		}
		servers := []*server{w.server(rule)}
		if _, err := servers[0].Create(t.Context(), every(text)); err != nil {
			t.Fatal(err)
		}
		looked := began // when somebody looked last
		var want []string
		for range rapid.IntRange(1, 6).Draw(t, "steps") {
			kill := rapid.IntRange(0, 3).Draw(t, "kill")
			switch kill {
			case 0: // all, for a while
				w.clock.Advance(time.Duration(rapid.IntRange(0, 40).Draw(t, "down")) * time.Minute)
				servers = []*server{w.server(rule)}
			case 1: // after a claim and before its end
				w.mu.Lock()
				w.fail = 1
				w.mu.Unlock()
				servers = []*server{w.server(rule)}
			case 2:
				servers = append(servers, w.server(rule))
			}
			for range rapid.IntRange(1, 8).Draw(t, "minutes") {
				w.clock.Advance(time.Minute)
				now := w.clock.Now()
				var wg sync.WaitGroup
				for _, s := range servers {
					wg.Go(func() { s.timers.round() })
				}
				wg.Wait()
				late, due := []time.Time{}, slowDue(step, offset, looked, now)
				for len(due) > 0 && due[0].Before(now.Add(-time.Minute)) {
					late, due = append(late, due[0]), due[1:]
				}
				switch {
				case rule == All:
					due = append(late, due...)
				case rule == Last && len(due) == 0 && len(late) > 0:
					due = late[len(late)-1:]
				}
				for _, at := range due {
					want = append(want, at.Format(time.RFC3339))
				}
				looked = now
			}
		}
		for range len(want) + 3 { // retries are due within a minute
			w.clock.Advance(time.Minute)
			for _, s := range servers {
				s.queue.Settle()
			}
		}
		slices.Sort(w.got)
		if !slices.Equal(w.got, want) {
			t.Fatalf("%s, %s: fired\n%v\nwant\n%v", text, rule, w.got, want)
		}
		s, err := servers[0].Get(t.Context(), account, DefaultGroup, "s")
		if err != nil || int(s.Fired) != len(want) {
			t.Fatalf("%+v, %v", s, err)
		}
	})
}

func TestAScheduleEndsAndIsDeletedIfAskedTo(t *testing.T) {
	w := newWorld(t)
	s := w.server(Last)
	ctx := t.Context()
	once := every("at(2026-01-01T00:02:00)")
	once.Delete = true
	once.Target.Input = `{"time":"<aws.scheduler.scheduled-time>"}`
	n, err := s.Create(ctx, once)
	if err != nil {
		t.Fatal(err)
	}
	ends := every("rate(1 minute)")
	ends.Name, ends.Start, ends.End = "ends", began.Add(2*time.Minute), began.Add(4*time.Minute)
	if _, err := s.Create(ctx, ends); err != nil {
		t.Fatal(err)
	}
	if got := n.Upcoming(5); len(got) != 1 || !got[0].Equal(began.Add(2*time.Minute)) {
		t.Errorf("upcoming %v", got)
	}
	for range 10 {
		w.clock.Advance(30 * time.Second)
		s.timers.round()
		s.queue.Settle()
	}
	slices.Sort(w.got)
	if got := strings.Join(w.got, " "); got != "2026-01-01T00:02:00Z 2026-01-01T00:02:00Z 2026-01-01T00:03:00Z 2026-01-01T00:04:00Z" {
		t.Error(got)
	}
	if _, err := s.Get(ctx, account, DefaultGroup, "s"); hearth.KindOf(err) != hearth.NotFound {
		t.Errorf("after its last time: %v", err)
	}
	if n, err := s.Get(ctx, account, DefaultGroup, "ends"); err != nil || !n.Next.IsZero() || n.Fired != 3 {
		t.Errorf("%+v, %v", n, err)
	}
}

func TestAFlexibleWindowIsKept(t *testing.T) {
	w := newWorld(t)
	s := w.server(Last)
	n := every("at(2026-01-01T00:01:00)")
	n.Flexible = 10 * time.Minute
	if _, err := s.Create(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(time.Minute)
	s.timers.round()
	w.clock.Advance(10 * time.Minute)
	s.queue.Settle()
	if len(w.got) != 1 {
		t.Errorf("in its window came %v", w.got)
	}
}

func TestChangesAndGroups(t *testing.T) {
	w := newWorld(t)
	s := w.server(Last)
	ctx := t.Context()
	wantKind := func(err error, kind hearth.Kind, text string) {
		t.Helper()
		if hearth.KindOf(err) != kind || !strings.Contains(err.Error(), text) {
			t.Errorf("%v is not %s: %s", err, kind, text)
		}
	}
	n := every("rate(1 hour)")
	n.Group = "g"
	_, err := s.Create(ctx, n)
	wantKind(err, hearth.NotFound, "group g")
	if _, err := s.CreateGroup(ctx, Group{Account: account, Name: "g", Token: "t"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateGroup(ctx, Group{Account: account, Name: "g", Token: "t"}); err != nil {
		t.Errorf("the same request again: %v", err)
	}
	_, err = s.CreateGroup(ctx, Group{Account: account, Name: "g"})
	wantKind(err, hearth.Conflict, "already exists")
	n.Token = "once"
	for range 2 {
		if _, err := s.Create(ctx, n); err != nil {
			t.Fatal(err)
		}
	}
	other := n
	other.Token = ""
	_, err = s.Create(ctx, other)
	wantKind(err, hearth.Conflict, "already exists")
	n.Disabled = true
	if u, err := s.Update(ctx, n); err != nil || !u.Next.IsZero() {
		t.Fatal(u, err)
	}
	w.clock.Advance(2 * time.Hour)
	s.timers.round()
	s.queue.Settle()
	if len(w.got) != 0 {
		t.Error("a disabled schedule fired")
	}
	n.Disabled = false
	if u, err := s.Update(ctx, n); err != nil || !u.Next.Equal(began.Add(3*time.Hour)) {
		t.Errorf("enabled again %+v, %v", u, err)
	}
	for i := range 5 {
		m := every("rate(1 day)")
		m.Name = fmt.Sprintf("p%d", i)
		if _, err := s.Create(ctx, m); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	for after := ""; ; {
		list, last, err := s.List(ctx, account, "", "", after, 2, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range list {
			names = append(names, l.Name)
		}
		if after = last; after == "" {
			break
		}
	}
	if strings.Join(names, " ") != "p0 p1 p2 p3 p4 s" {
		t.Error(names)
	}
	if err := s.DeleteGroup(ctx, account, "g"); err != nil {
		t.Fatal(err)
	}
	_, err = s.Get(ctx, account, "g", "s")
	wantKind(err, hearth.NotFound, "s does not exist")
	wantKind(s.Delete(ctx, account, DefaultGroup, "zz"), hearth.NotFound, "zz")
	wantKind(s.DeleteGroup(ctx, account, DefaultGroup), hearth.Validation, "default")
}

func TestWrongSchedulesAreRefused(t *testing.T) {
	w := newWorld(t)
	s := w.server(Last)
	for text, edit := range map[string]func(*Schedule){
		"'name'":                 func(n *Schedule) { n.Name = "a b" },
		"Expression rate":        func(n *Schedule) { n.Expression = "rate(1 second)" },
		"Timezone":               func(n *Schedule) { n.Timezone = "Mars/Base" },
		"time zone database":     func(n *Schedule) { n.Timezone = "../../etc/passwd" },
		"is past":                func(n *Schedule) { n.Expression = "at(2020-01-01T00:00:00)" },
		"before the EndDate":     func(n *Schedule) { n.Start, n.End = began.Add(time.Hour), began.Add(time.Minute) },
		"after the current time": func(n *Schedule) { n.End = began },
		"Universal":              func(n *Schedule) { n.Target.ARN = "arn:aws:scheduler:::aws-sdk:sqs:sendMessage" },
		"correct format, or not": func(n *Schedule) { n.Target.ARN = "arn:aws:ecs:us-east-1:111111111111:cluster/c" },
		"other accounts":         func(n *Schedule) { n.Target.ARN = "arn:aws:lambda:us-east-1:222222222222:function:f" },
		"role is not":            func(n *Schedule) { n.Target.Role = "r" },
		"must be JSON":           func(n *Schedule) { n.Target.Input = "{" },
		"for event buses":        func(n *Schedule) { n.Target.Bus = &BusEvent{"a", "b"} },
		"MessageGroupId":         func(n *Schedule) { n.Target.ARN = "arn:aws:sqs:us-east-1:111111111111:q.fifo" },
		"MaximumEventAge":        func(n *Schedule) { n.Target.Retry.MaxAge = time.Second },
		"MaximumRetryAttempts":   func(n *Schedule) { n.Target.Retry.MaxRetries = 186 },
		"MaximumWindowInMinutes": func(n *Schedule) { n.Flexible = 25 * time.Hour },
		"at most 512":            func(n *Schedule) { n.Description = strings.Repeat("x", 513) },
		"dead-letter":            func(n *Schedule) { n.Target.Retry.DeadLetter = "q" },
	} {
		n := every("rate(1 hour)")
		edit(&n)
		if _, err := s.Create(t.Context(), n); hearth.KindOf(err) != hearth.Validation || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestMissedYearsOfMinutesAreFoundQuickly(t *testing.T) {
	e, err := Parse("cron(* * * * ? *)", nil)
	if err != nil {
		t.Fatal(err)
	}
	now := began.AddDate(5, 0, 0)
	fire, next := e.Due(began, now, began, time.Time{}, All)
	if len(fire) != MaxMissed || !fire[MaxMissed-1].Equal(now) || !next.Equal(now.Add(time.Minute)) {
		t.Errorf("%d, %v, %v", len(fire), fire, next)
	}
	if fire, _ := e.Due(began, now, began, began.Add(time.Hour), Last); len(fire) != 1 || !fire[0].Equal(began.Add(time.Hour)) {
		t.Errorf("beyond the end %v", fire)
	}
}
