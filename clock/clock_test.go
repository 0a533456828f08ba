package clock_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hearth-faas/hearth/clock"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestFakeRunsWhatIsDueInOrderOfTimeAndOfMaking(t *testing.T) {
	c := clock.NewFake(start)
	var ran []string
	add := func(d time.Duration, name string) {
		c.AfterFunc(d, func() { ran = append(ran, name+"@"+c.Now().Sub(start).String()) })
	}
	add(3*time.Second, "c")
	add(time.Second, "a")
	add(time.Second, "b")
	add(time.Minute, "never")
	c.Advance(5 * time.Second)
	if want := []string{"a@1s", "b@1s", "c@3s"}; !slices.Equal(ran, want) {
		t.Errorf("ran %v, want %v", ran, want)
	}
	if got := c.Now().Sub(start); got != 5*time.Second {
		t.Errorf("the clock moved by %v, want 5s", got)
	}
	if c.Pending() != 1 {
		t.Errorf("%d timers pending, want 1", c.Pending())
	}
}

func TestFakeTimerMadeByATimerRunsInTheSameAdvance(t *testing.T) {
	c := clock.NewFake(start)
	n := 0
	var tick func()
	tick = func() { n++; c.AfterFunc(time.Second, tick) }
	c.AfterFunc(time.Second, tick)
	c.Advance(10 * time.Second)
	if n != 10 {
		t.Errorf("ticked %d times in 10 s, want 10", n)
	}
}

func TestFakeTimerStopsOnceAndCanBeSetAgain(t *testing.T) {
	c := clock.NewFake(start)
	n := 0
	timer := c.AfterFunc(time.Second, func() { n++ })
	if !timer.Stop() || timer.Stop() {
		t.Error("Stop must report true for a pending timer, and then false")
	}
	c.Advance(time.Hour)
	if n != 0 {
		t.Error("a stopped timer ran")
	}
	if timer.Reset(time.Second) {
		t.Error("Reset of a timer that was not pending reported true")
	}
	c.Advance(time.Second)
	if n != 1 {
		t.Errorf("ran %d times after Reset, want once", n)
	}
}

func TestSystemClockShowsAndWaitsForTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, began := clock.System(), time.Now()
		fired := make(chan time.Time, 1)
		c.AfterFunc(time.Minute, func() { fired <- c.Now() })
		if got := (<-fired).Sub(began); got != time.Minute {
			t.Errorf("fired after %v, want 1m", got)
		}
	})
}
