package manager

import (
	"math/rand/v2"
	"testing"
	"time"
)

// tick feeds a clockwork the seconds at which something happens.
func tick(seconds ...int) *clockwork {
	c := &clockwork{}
	for _, s := range seconds {
		c.rise(time.Duration(s) * time.Second)
	}
	return c
}

func TestClockworkFindsThePeriodOfASchedule(t *testing.T) {
	for _, every := range []int{2, 5, 15, 60, 90} {
		var at []int
		// Two minutes could be chance for longer.
		times := max(3, 30/every)
		for i := range times {
			at = append(at, 600+i*every*60+i%3)
		}
		c := tick(at...)
		w, ok := c.window(time.Duration(at[times-1]+60)*time.Second, 1)
		due := time.Duration(600+times*every*60) * time.Second
		if !ok || w.from > due || w.to < due+2*time.Second || w.to-w.from > 15*time.Second || w.sure < 0.6 {
			t.Errorf("every %d minutes: %+v, %v; it is due at %v", every, w, ok, due)
		}
	}
}

func TestClockworkFindsNoPeriodInChance(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	found := 0
	for range 200 {
		c := &clockwork{}
		for m := range 256 {
			if rng.Float64() < 0.1 {
				c.rise(time.Duration(m)*time.Minute + time.Duration(rng.IntN(60))*time.Second)
			}
		}
		if w, ok := c.window(257*time.Minute, 1); ok && w.sure > 0.5 {
			found++
		}
	}
	if found > 10 {
		t.Errorf("a period was found in %d of 200 sequences of chance", found)
	}
}

func TestClockworkForgetsAScheduleThatHasEnded(t *testing.T) {
	var at []int
	for i := range 6 {
		at = append(at, i*300)
	}
	c := tick(at...)
	if _, ok := c.window(30*time.Minute, 1); !ok {
		t.Fatal("the schedule was not found")
	}
	if w, ok := c.window(10*time.Hour, 1); ok {
		t.Errorf("ten hours later it is expected at %v", w.from)
	}
}

func TestRanksAndLevelsAreEachOthersInverse(t *testing.T) {
	last := -1
	for n := 1; n <= 20_000; n++ {
		r := rank(n)
		if r < 0 {
			continue
		}
		if r != last+1 || levelAt(r) != n || r >= levelsWatched {
			t.Fatalf("level %d has rank %d after %d, which is level %d", n, r, last, levelAt(r))
		}
		last = r
	}
	if last != levelsWatched-1 {
		t.Errorf("the highest rank is %d of %d", last, levelsWatched)
	}
}

func TestBinsOfIdleTimesCoverAllTimes(t *testing.T) {
	for b := range gapBins {
		start := gapBinStart(b)
		if gapBin(start) != b || b > 0 && gapBin(start-1) != b-1 {
			t.Errorf("bin %d begins at %v, which is in bin %d; before it is bin %d", b, start, gapBin(start), gapBin(start-1))
		}
	}
	if gapBin(-time.Second) != 0 || gapBin(1<<62) != gapBins-1 {
		t.Error("a time beyond all bins is not in the first or the last")
	}
}
