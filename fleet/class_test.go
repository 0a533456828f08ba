package fleet

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
)

var criteria = Criteria{Window: time.Minute, High: 60, Low: 30, Trend: 2}

func TestCodeWithoutHistoryIsLowVolume(t *testing.T) {
	if v := criteria.Decide(Verdict{}, start, Seen{}); v.Class != Low || !v.Since.IsZero() || v.Why != "nothing is known of how often it is called" {
		t.Errorf("%+v", v)
	}
}

// drive calls code at perSecond for as long, and returns each change of class.
func drive(c Criteria, w *Window, v *Verdict, now *time.Time, perSecond float64, d time.Duration) (changes []Verdict) {
	const step = 250 * time.Millisecond
	due := 0.0
	last := *now
	for end := now.Add(d); now.Before(end); *now = now.Add(step) {
		for due += perSecond * step.Seconds(); due >= 1; due-- {
			w.Add(*now)
			last = *now
		}
		was := v.Class
		*v = c.Decide(*v, *now, Seen{Count: w.Count(*now, 1), Quarter: w.Count(*now, 0.25), Last: last})
		if v.Class != was {
			changes = append(changes, *v)
		}
	}
	return changes
}

func TestCodeThatBecomesHotOrColdChangesOnceWithinTwoWindows(t *testing.T) {
	w, v, now := Window{Width: criteria.Window}, Verdict{}, start
	if got := drive(criteria, &w, &v, &now, 0.05, 10*time.Minute); len(got) != 0 {
		t.Fatalf("seldom called, it became %+v", got)
	}
	for _, hot := range []bool{true, false, true} {
		began, rate, want := now, 0.05, Low
		if hot {
			rate, want = 5, High
		}
		got := drive(criteria, &w, &v, &now, rate, 10*time.Minute)
		if len(got) != 1 || got[0].Class != want || got[0].Since.Sub(began) > 2*criteria.Window {
			t.Errorf("called %v times a second it became %+v, want %v once within two windows", rate, got, want)
		}
	}
}

func TestCodeBetweenTheBoundsStaysWhatItIs(t *testing.T) {
	for _, was := range []Class{Low, High} {
		w, v, now := Window{Width: criteria.Window}, Verdict{Class: was}, start
		if was == High {
			drive(criteria, &w, &v, &now, 2, 3*time.Minute)
		}
		if got := drive(criteria, &w, &v, &now, 0.75, time.Hour); len(got) != 0 {
			t.Errorf("%v at 45 a window, between 30 and 60, became %+v", was, got)
		}
	}
}

func TestAClassLastsAWindowWhateverHappens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, v, now := Window{Width: criteria.Window}, Verdict{}, start
		var changes []Verdict
		for range rapid.IntRange(1, 30).Draw(t, "spells") {
			rate := rapid.Float64Range(0, 6).Draw(t, "rate")
			changes = append(changes, drive(criteria, &w, &v, &now, rate, time.Duration(rapid.IntRange(1, 90).Draw(t, "s"))*time.Second)...)
		}
		for i := 1; i < len(changes); i++ {
			if d := changes[i].Since.Sub(changes[i-1].Since); d < criteria.Window {
				t.Fatalf("changed again after %v", d)
			}
		}
	})
}

func TestCriteriaCanBeSet(t *testing.T) {
	now := start.Add(time.Hour)
	seen := Seen{Count: 40, Quarter: 10, Last: now.Add(-20 * time.Second), MemoryMiB: 512}
	for name, c := range map[string]struct {
		policy hearth.RoutingPolicy
		was    Class
		want   Class
	}{
		"as it is":           {hearth.RoutingPolicy{}, Low, Low},
		"a lower count":      {hearth.RoutingPolicy{HighCount: 40}, Low, High},
		"always high":        {hearth.RoutingPolicy{Mode: "high"}, Low, High},
		"always low":         {hearth.RoutingPolicy{Mode: "low"}, High, Low},
		"recency":            {hearth.RoutingPolicy{IdleSeconds: 15}, High, Low},
		"called more lately": {hearth.RoutingPolicy{IdleSeconds: 25}, High, High},
		"large":              {hearth.RoutingPolicy{LargeMiB: 512}, Low, High},
		"not so large":       {hearth.RoutingPolicy{LargeMiB: 513}, Low, Low},
		"trend":              {hearth.RoutingPolicy{Trend: 0.5}, Low, High},
		"a higher low":       {hearth.RoutingPolicy{LowCount: 50}, High, Low},
	} {
		if got := criteria.With(&c.policy).Decide(Verdict{Class: c.was}, now, seen); got.Class != c.want {
			t.Errorf("%s: %+v, want %v", name, got, c.want)
		}
	}
	if err := (&hearth.RoutingPolicy{HighCount: 1, LowCount: 2}).Check(); err == nil {
		t.Error("a lower bound above the upper is not refused")
	}
}
