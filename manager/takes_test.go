package manager_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth/manager"
)

// poisson calls take at independent times of the rate, per second, for so
// long, and returns the end.
func poisson(r *rand.Rand, at time.Time, rate float64, long time.Duration, take func(time.Time)) time.Time {
	end := at.Add(long)
	for {
		at = at.Add(time.Duration(r.ExpFloat64() / rate * float64(time.Second)))
		if at.After(end) {
			return end
		}
		take(at)
	}
}

var trend = manager.Trend{}.Complete()

var begin = time.Unix(1_700_000_000, 0)

func TestARateThatHoldsIsSeldomTakenForATrend(t *testing.T) {
	for _, rate := range []float64{0.05, 1, 20} {
		var k manager.Takes
		r := rand.New(rand.NewPCG(1, 2))
		at := poisson(r, begin, rate, 10*time.Minute, func(at time.Time) { trend.Take(&k, at, time.Second) })
		seen, wrong := 0, 0
		poisson(r, at, rate, time.Hour, func(at time.Time) {
			seen++
			if trend.Take(&k, at, time.Second) != 1 {
				wrong++
			}
		})
		if share := float64(wrong) / float64(seen); share > 0.06 {
			t.Errorf("%v a second: %.0f %% of the takes are in a trend", rate, share*100)
		}
	}
}

func TestARiseAndAFallAreSeenWithinTheShortWindow(t *testing.T) {
	var k manager.Takes
	r := rand.New(rand.NewPCG(3, 4))
	take := func(at time.Time) { trend.Take(&k, at, time.Second) }
	at := poisson(r, begin, 2, 10*time.Minute, take)
	calm := trend.Coming(&k, at, time.Second)
	at = poisson(r, at, 20, 10*time.Second, take)
	if d := trend.Direction(&k, at); d != manager.Rising {
		t.Errorf("ten times as many for ten seconds: %v", d)
	}
	rising := trend.Coming(&k, at, time.Second)
	if rising < 3*calm || rising < 20 {
		t.Errorf("%.1f are expected, %.1f were before the rise", rising, calm)
	}
	at = poisson(r, at, 20, 10*time.Minute, take)
	if d := trend.Direction(&k, at); d == manager.Rising {
		t.Errorf("after ten minutes at the new rate it is still %v", d)
	}
	at = poisson(r, at, 0.01, 20*time.Second, take)
	if d := trend.Direction(&k, at); d != manager.Falling {
		t.Errorf("after the end of the load: %v", d)
	}
	if got := trend.Coming(&k, at, time.Second); got > rising/2 {
		t.Errorf("falling, %.1f are expected still", got)
	}
}

func TestOfARisingRateMoreIsAddedThanIsTaken(t *testing.T) {
	var k manager.Takes
	at, added, taken := begin, 0, 0
	for range 60 { // a ramp: each second one more
		at = at.Add(time.Second)
		for range taken/30 + 1 {
			added += trend.Take(&k, at, time.Second)
			taken++
		}
	}
	if added <= taken {
		t.Errorf("%d were taken and %d added", taken, added)
	}
}

func TestABurstIsExpectedAgain(t *testing.T) {
	var k manager.Takes
	for range 6 {
		trend.Take(&k, begin, time.Second)
	}
	soon := trend.Coming(&k, begin.Add(2*time.Minute), time.Second)
	late := trend.Coming(&k, begin.Add(2*time.Hour), time.Second)
	if soon < 4 || soon > 8 || late > 0.1 {
		t.Errorf("of a burst of six %.1f are expected after two minutes and %.1f after two hours", soon, late)
	}
}

func TestWhatWasTakenAtThisTimeOfTheWeekIsExpectedBeforeItComes(t *testing.T) {
	var k manager.Takes
	week := 7 * 24 * time.Hour
	for i := range 3 {
		at := begin.Add(time.Duration(i) * week)
		for range 5 {
			trend.Take(&k, at, time.Second)
		}
		trend.Take(&k, at.Add(3*time.Hour), time.Second) // one at another time
	}
	next := begin.Add(3 * week)
	slot := next.Truncate(15 * time.Minute)
	for _, c := range []struct {
		when     string
		at       time.Time
		min, max float64
	}{
		{"half a minute before the slot", slot.Add(-30 * time.Second), 3, 7},
		{"in the slot", next, 3, 7},
		{"an hour after it", next.Add(time.Hour), 0, 0.2},
	} {
		if got := trend.Coming(&k, c.at, time.Second); got < c.min || got > c.max {
			t.Errorf("%s %.2f are expected", c.when, got)
		}
	}
}

func TestASeasonThatEndsIsForgotten(t *testing.T) {
	var k manager.Takes
	week := 7 * 24 * time.Hour
	for range 5 {
		trend.Take(&k, begin, time.Second)
	}
	var got float64
	for i := 1; i <= 6; i++ {
		got = trend.Coming(&k, begin.Add(time.Duration(i)*week), time.Second)
	}
	if got > 0.5 {
		t.Errorf("five weeks after the last time %.2f are expected still", got)
	}
}

func TestWhatIsExpectedIsFiniteAndNeverLessThanNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var k manager.Takes
		at := begin
		for range rapid.IntRange(0, 40).Draw(t, "n") {
			at = at.Add(time.Duration(rapid.Int64Range(-int64(time.Second), int64(30*time.Hour)).Draw(t, "gap")))
			lead := time.Duration(rapid.Int64Range(int64(time.Millisecond), int64(time.Minute)).Draw(t, "lead"))
			if add := trend.Take(&k, at, lead); add < 0 || add > 2 {
				t.Fatalf("%d are added", add)
			}
			if c := trend.Coming(&k, at, lead); c < 0 || math.IsNaN(c) || math.IsInf(c, 0) {
				t.Fatalf("%v are expected", c)
			}
		}
	})
}
