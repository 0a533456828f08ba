package clock

import (
	"slices"
	"sync"
	"time"

	"github.com/hearth-faas/hearth"
)

// Fake is a clock that stands still until Advance moves it. Safe for
// concurrent use, except that one goroutine at a time may call Advance.
type Fake struct {
	mu      sync.Mutex
	now     time.Time
	made    uint64 // orders timers that are due at the same time
	pending []*fakeTimer
}

// NewFake returns a clock that shows start.
func NewFake(start time.Time) *Fake { return &Fake{now: start} }

// Now returns the time that the clock shows.
func (c *Fake) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// AfterFunc arranges for the Advance that reaches now+d to run f. With d zero
// or negative that is the next Advance, even one by nothing.
func (c *Fake) AfterFunc(d time.Duration, f func()) hearth.Timer {
	t := &fakeTimer{clock: c, f: f}
	c.mu.Lock()
	defer c.mu.Unlock()
	t.schedule(d)
	return t
}

// Advance moves the clock by d and runs what becomes due on the way, in order
// of time, each function in its own goroutine which Advance waits for: when
// Advance returns, everything that was due has run to its end. A function
// that waits for a later time than its own therefore never ends; it has to
// arrange for another timer instead.
func (c *Fake) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	until := c.now.Add(d)
	for {
		t := c.next(until)
		if t == nil {
			break
		}
		if t.due.After(c.now) {
			c.now = t.due
		}
		c.mu.Unlock()
		done := make(chan struct{})
		go func() {
			defer close(done)
			t.f()
		}()
		<-done
		c.mu.Lock()
	}
	c.now = until
}

// Pending tells how many timers have not run yet.
func (c *Fake) Pending() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pending)
}

// next removes and returns the first timer due by until; nil if there is none.
func (c *Fake) next(until time.Time) *fakeTimer {
	if len(c.pending) == 0 || c.pending[0].due.After(until) {
		return nil
	}
	t := c.pending[0]
	c.pending = slices.Delete(c.pending, 0, 1)
	return t
}

type fakeTimer struct {
	clock *Fake
	f     func()
	due   time.Time
	order uint64
}

func (t *fakeTimer) Stop() bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	return t.remove()
}

func (t *fakeTimer) Reset(d time.Duration) bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	was := t.remove()
	t.schedule(d)
	return was
}

func (t *fakeTimer) remove() bool {
	i := slices.Index(t.clock.pending, t)
	if i < 0 {
		return false
	}
	t.clock.pending = slices.Delete(t.clock.pending, i, i+1)
	return true
}

func (t *fakeTimer) schedule(d time.Duration) {
	c := t.clock
	c.made++
	t.due, t.order = c.now.Add(d), c.made
	i, _ := slices.BinarySearchFunc(c.pending, t, func(a, b *fakeTimer) int {
		if n := a.due.Compare(b.due); n != 0 {
			return n
		}
		return int(int64(a.order - b.order))
	})
	c.pending = slices.Insert(c.pending, i, t)
}
