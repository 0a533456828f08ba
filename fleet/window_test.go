package fleet

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var start = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// What slides out does so within a part, so that a count lies between those of
// a window and of one that is a sixteenth shorter or longer.
func TestAWindowCountsWhatWasWithinIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := Window{Width: time.Duration(rapid.IntRange(16, 100_000).Draw(t, "width")) * time.Millisecond}
		now := start
		var calls []time.Time
		for _, gap := range rapid.SliceOfN(rapid.Float64Range(0, 0.4), 0, 60).Draw(t, "gaps") {
			now = now.Add(time.Duration(gap * float64(w.Width)))
			w.Add(now)
			calls = append(calls, now)
		}
		now = now.Add(time.Duration(rapid.Float64Range(0, 1.5).Draw(t, "after") * float64(w.Width)))
		within := func(d time.Duration) (n float64) {
			for _, at := range calls {
				if now.Sub(at) < d {
					n++
				}
			}
			return n
		}
		for _, share := range []float64{1, 0.25} {
			d := time.Duration(share * float64(w.Width))
			part := w.Width/slots + 1
			got := w.Count(now, share)
			if low, high := within(d-part), within(d+part); got < low-1e-9 || got > high+1e-9 {
				t.Fatalf("%.2f of a window of %v: counted %v, there were %v to %v", share, w.Width, got, low, high)
			}
		}
	})
}

func TestCountsOfSeveralRoutersAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		one, a, b := Window{Width: time.Minute}, Window{Width: time.Minute}, Window{Width: time.Minute}
		now := start
		for range rapid.IntRange(0, 100).Draw(t, "calls") {
			now = now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond)
			one.Add(now)
			if rapid.Bool().Draw(t, "a") {
				a.Add(now)
			} else {
				b.Add(now)
			}
		}
		if got, want := a.Count(now, 1)+b.Count(now, 1), one.Count(now, 1); math.Abs(got-want) > 1e-6 {
			t.Fatalf("two routers counted %v, one %v", got, want)
		}
	})
}

func TestAClockThatIsSetBackLosesNothing(t *testing.T) {
	w := Window{Width: time.Minute}
	w.Add(start)
	w.Add(start.Add(-time.Hour))
	if got := w.Count(start, 1); got != 2 {
		t.Errorf("counted %v, want 2", got)
	}
}
