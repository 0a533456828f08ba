package async

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
)

// weather is a capacity that is cheap now and then, and events that wait for
// that for up to a limit.
type weather struct {
	mu    sync.Mutex
	cheap bool
	limit time.Duration
	most  int // at work at once
	clock hearth.Clock
	late  time.Duration // by how much one was started too late
}

func (w *weather) set(cheap bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cheap = cheap
}

func (w *weather) start(h Held) Start {
	w.mu.Lock()
	defer w.mu.Unlock()
	latest := h.Accepted.Add(w.limit)
	now := w.clock.Now()
	switch {
	case !now.Before(latest):
		w.late = max(w.late, now.Sub(latest))
		return Start{Now: true, Capacity: hearth.CapacityFixed, Why: "it is not to start later"}
	case !w.cheap:
		return Start{Again: latest, Why: "it is dear"}
	case h.Running >= w.most:
		return Start{Again: latest, Why: "as many run as there is room for"}
	}
	return Start{Now: true, Why: "it is cheap"}
}

type noted struct {
	mu  sync.Mutex
	all []hearth.Decision
}

func (n *noted) Record(d *hearth.Decision) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, *d)
}

func (n *noted) count(chosen string) (k int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, d := range n.all {
		if d.Kind == hearth.DecisionEvent && d.Chosen == chosen {
			k++
		}
	}
	return k
}

func holding(h *weather, rec hearth.Recorder) func(*Config) {
	return func(c *Config) {
		h.clock = c.Clock
		c.Holds = func(_ hearth.Account, function string) bool { return function == "can-wait" }
		c.Start, c.Recorder = h.start, rec
	}
}

func (w *world) await(what string, cond func() bool) {
	w.t.Helper()
	for end := time.Now().Add(2 * time.Minute); !cond(); time.Sleep(50 * time.Microsecond) {
		if time.Now().After(end) {
			w.t.Fatalf("waited for %s in vain: %+v", what, w.Counts())
		}
	}
}

func TestWhatCanWaitStartsInACheapTimeOrAtItsLimitAndHoldsUpNobody(t *testing.T) {
	var mu sync.Mutex
	ran := map[string]hearth.CapacityKind{}
	rec, h := &noted{}, &weather{limit: time.Hour, most: 5}
	w := newWorld(t, t.TempDir(), func(inv *hearth.Invocation) (*hearth.Result, error) {
		mu.Lock()
		defer mu.Unlock()
		ran[string(inv.Payload)] = inv.Capacity
		return &hearth.Result{}, nil
	}, holding(h, rec))
	defer w.close()
	w.accept("can-wait", `1`)
	w.accept("can-wait", `2`)
	w.accept("f", `3`)
	w.await("what can't wait", func() bool { c := w.Counts(); return c.Succeeded == 1 })
	w.clock.Advance(50 * time.Minute)
	if c := w.Counts(); c.Held != 2 || c.Waiting != 2 || c.Succeeded != 1 {
		t.Errorf("%+v", c)
	}
	w.clock.Advance(10 * time.Minute)
	w.await("those at their limit", func() bool { return w.Counts().Succeeded == 3 })
	w.accept("can-wait", `4`)
	w.clock.Advance(time.Minute)
	h.set(true)
	w.Reconsider()
	w.await("the cheap time", func() bool { return w.Counts().Succeeded == 4 })
	mu.Lock()
	defer mu.Unlock()
	for payload, want := range map[string]hearth.CapacityKind{"1": hearth.CapacityFixed, "2": hearth.CapacityFixed, "3": "", "4": ""} {
		if got, ok := ran[payload]; !ok || got != want {
			t.Errorf("%s ran on %q, %v", payload, got, ok)
		}
	}
	if rec.count("delay") < 2 || rec.count("start") != 3 {
		t.Errorf("decided %+v", rec.all)
	}
}

// Whatever the weather, and whenever the process is killed: every event runs,
// none before it is cheap unless its limit has come, and none after.
func TestWhatCanWaitIsNeitherLostNorLateAlsoAfterKills(t *testing.T) {
	root := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		const limit = 30 * time.Minute
		var mu sync.Mutex
		h := &weather{limit: limit, most: 100}
		var w *world
		accepted := map[string]bool{}
		ended := map[string]bool{}
		dir, err := os.MkdirTemp(root, "events")
		if err != nil {
			t.Fatal(err)
		}
		w = newWorld(t, dir, func(inv *hearth.Invocation) (*hearth.Result, error) {
			mu.Lock()
			defer mu.Unlock()
			ended[inv.RequestID] = true
			return &hearth.Result{}, nil
		}, holding(h, nil))
		defer w.close()
		idle := func() {
			w.await("what is at work", func() bool { return w.Counts().Running == 0 })
		}
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0, 1:
				mu.Lock() // it may run before its id is known here
				id := w.accept("can-wait", `1`)
				accepted[id] = true
				mu.Unlock()
			case 2:
				w.clock.Advance(time.Duration(rapid.IntRange(1, 10).Draw(t, "pass")) * time.Minute)
			case 3:
				h.set(rapid.Bool().Draw(t, "cheap"))
				w.Reconsider()
			case 4:
				w.kill()
				var err error
				if w.Queue, err = Open(context.Background(), w.cfg); err != nil {
					t.Fatal(err)
				}
				w.Start()
			}
			idle()
		}
		w.clock.Advance(limit)
		w.await("all to end", func() bool { c := w.Counts(); return c.Waiting == 0 && c.Running == 0 })
		mu.Lock()
		defer mu.Unlock()
		if h.late > 0 {
			t.Errorf("it was decided up to %v late to start", h.late)
		}
		for id := range accepted {
			if !ended[id] {
				t.Errorf("%s is lost", id)
			}
		}
	})
}

func TestNoMoreOfWhatCanWaitRunsAtOnceThanThereIsRoomFor(t *testing.T) {
	h := &weather{limit: time.Hour, most: 2, cheap: true}
	release := make(chan struct{})
	w := newWorld(t, t.TempDir(), func(*hearth.Invocation) (*hearth.Result, error) {
		<-release
		return &hearth.Result{}, nil
	}, holding(h, nil))
	defer w.close()
	for range 5 {
		w.accept("can-wait", `1`)
	}
	w.await("two to run", func() bool { return w.Counts().Running == 2 })
	release <- struct{}{} // whose end lets the next begin
	w.await("the third", func() bool { c := w.Counts(); return c.Succeeded == 1 && c.Running == 2 && c.Held == 2 })
	close(release)
	w.await("all", func() bool { return w.Counts().Succeeded == 5 })
}
