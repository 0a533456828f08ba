package schedule

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func zone(t interface{ Fatal(...any) }, name string) *time.Location {
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func TestExpressionsAreDueAsDocumented(t *testing.T) {
	for _, c := range []struct{ text, zone, after, want string }{
		{"cron(0 10 * * ? *)", "UTC", "2026-01-01T09:59:59Z", "2026-01-01T10:00:00Z 2026-01-02T10:00:00Z"},
		{"cron(15 12 * * ? *)", "UTC", "2026-01-01T12:15:00Z", "2026-01-02T12:15:00Z"},
		{"cron(0 18 ? * MON-FRI *)", "UTC", "2026-01-02T18:00:00Z", "2026-01-05T18:00:00Z"},
		{"cron(0 8 1 * ? *)", "UTC", "2026-01-01T08:00:00Z", "2026-02-01T08:00:00Z"},
		{"cron(0/15 * * * ? *)", "UTC", "2026-01-01T00:44:00Z", "2026-01-01T00:45:00Z 2026-01-01T01:00:00Z"},
		{"cron(0/5 8-17 ? * MON-FRI *)", "UTC", "2026-01-02T17:54:00Z", "2026-01-02T17:55:00Z 2026-01-05T08:00:00Z"},
		{"cron(0 0 ? * FRI-MON *)", "UTC", "2026-01-05T00:00:00Z", "2026-01-09T00:00:00Z 2026-01-10T00:00:00Z"},
		{"cron(15 10 ? * 6L 2022-2023)", "UTC", "2022-12-01T00:00:00Z", "2022-12-30T10:15:00Z 2023-01-27T10:15:00Z"},
		{"cron(0 9 ? * 2#1 *)", "UTC", "2026-01-01T00:00:00Z", "2026-01-05T09:00:00Z 2026-02-02T09:00:00Z"},
		{"cron(0 9 ? * TUE#5 *)", "UTC", "2026-01-01T00:00:00Z", "2026-03-31T09:00:00Z"},
		{"cron(0 0 L * ? *)", "UTC", "2024-02-01T00:00:00Z", "2024-02-29T00:00:00Z 2024-03-31T00:00:00Z"},
		{"cron(0 0 L-2 2 ? *)", "UTC", "2026-01-01T00:00:00Z", "2026-02-26T00:00:00Z"},
		{"cron(0 0 3W * ? *)", "UTC", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z 2026-02-03T00:00:00Z"},
		{"cron(0 0 1W 8 ? *)", "UTC", "2026-01-01T00:00:00Z", "2026-08-03T00:00:00Z"},
		{"cron(0 0 31W 5 ? *)", "UTC", "2026-01-01T00:00:00Z", "2026-05-29T00:00:00Z"},
		{"cron(0 0 LW 1,2 ? *)", "UTC", "2026-01-01T00:00:00Z", "2026-01-30T00:00:00Z 2026-02-27T00:00:00Z"},
		{"cron(0 0 29 2 ? *)", "UTC", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z 2032-02-29T00:00:00Z"},
		{"cron(0 0 30 2 ? *)", "UTC", "2026-01-01T00:00:00Z", ""},
		{"cron(0 0 1 1 ? 2020)", "UTC", "2026-01-01T00:00:00Z", ""},
		{"cron(0 0 ? * L *)", "UTC", "2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z"},
		// The hour that spring leaves out, and the one that autumn has twice.
		{"cron(30 2 * * ? *)", "America/New_York", "2026-03-07T08:00:00Z", "2026-03-09T06:30:00Z"},
		{"cron(30 1 * * ? *)", "America/New_York", "2026-10-31T06:00:00Z", "2026-11-01T05:30:00Z 2026-11-02T06:30:00Z"},
		{"cron(0 0 * * ? *)", "America/Santiago", "2026-09-05T12:00:00Z", "2026-09-07T03:00:00Z"}, // midnight itself is left out
		{"cron(0 9 * * ? *)", "Asia/Kolkata", "2026-01-01T00:00:00Z", "2026-01-01T03:30:00Z"},
		{"at(2026-07-01T12:00:00)", "Europe/Berlin", "2026-01-01T00:00:00Z", "2026-07-01T10:00:00Z"},
		{"at(2026-10-25T02:30:00)", "Europe/Berlin", "2026-01-01T00:00:00Z", "2026-10-25T00:30:00Z"},
		{"at(2026-03-29T02:30:00)", "Europe/Berlin", "2026-01-01T00:00:00Z", "2026-03-29T01:30:00Z"},
		{"at(2020-01-01T00:00:00)", "UTC", "2026-01-01T00:00:00Z", ""},
		{"rate(5 minutes)", "UTC", "2026-01-01T00:07:00Z", "2026-01-01T00:10:00Z 2026-01-01T00:15:00Z"},
		{"rate(1 day)", "America/New_York", "2026-03-07T12:00:00Z", "2026-03-08T00:00:00Z 2026-03-09T00:00:00Z"},
	} {
		e, err := Parse(c.text, zone(t, c.zone))
		if err != nil {
			t.Error(err)
			continue
		}
		base := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		at, err := time.Parse(time.RFC3339, c.after)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for range max(1, len(strings.Fields(c.want))) {
			next, ok := e.Next(at, base)
			if !ok {
				break
			}
			at = next
			got = append(got, at.UTC().Format(time.RFC3339))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s after %s: %v, not %s", c.text, c.after, got, c.want)
		}
	}
}

func TestWrongExpressionsSayWhatIsWrong(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "none of",
		"every(5 minutes)":        "there are rate, cron and at",
		"rate(5 minutes":          "none of",
		"rate(5)":                 "a number and minutes",
		"rate(0 minutes)":         "above 0",
		"rate(-1 minutes)":        "above 0",
		"rate(5 seconds)":         `"seconds" is none of`,
		"rate(9999999 days)":      "100 years",
		"at(tomorrow)":            "no time such as",
		"at(2026-02-30T00:00:00)": "no time such as",
		"cron(* * * * *)":         "six fields",
		"cron(* * * * * *)":       "must be ?",
		"cron(* * ? * ? *)":       "must be ?",
		"cron(60 * * * ? *)":      "minutes: \"60\" is not between 0 and 59",
		"cron(0 24 * * ? *)":      "hours",
		"cron(0 0 0 * ? *)":       "day of month",
		"cron(0 0 1 13 ? *)":      "month",
		"cron(0 0 ? * 8 *)":       "day of week",
		"cron(0 0 ? * MON#6 *)":   "second Tuesday",
		"cron(0 0 L-31 * ? *)":    "before the last",
		"cron(0/0 0 1 * ? *)":     "step",
		"cron(/5 0 1 * ? *)":      "minutes",
		"cron(0 0 1 * ? 2200)":    "year",
		"cron(" + strings.Repeat("1,", 200) + "1 0 1 * ? *)": "limit is 256",
	} {
		if _, err := Parse(text, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %v", text, err)
		}
	}
}

// slow tells of one minute whether it is due, from the words' meaning alone.
func slow(c *cronText, t time.Time, zone *time.Location) bool {
	l := t.In(zone)
	if !slices.Contains(c.minutes, l.Minute()) || !slices.Contains(c.hours, l.Hour()) || !slices.Contains(c.months, int(l.Month())) {
		return false
	}
	for d := time.Minute; d <= 2*time.Hour; d += time.Minute {
		if e := t.Add(-d).In(zone); e.Day() == l.Day() && e.Hour() == l.Hour() && e.Minute() == l.Minute() {
			return false // the second time
		}
	}
	next := l.AddDate(0, 0, 1)
	switch {
	case c.last:
		return next.Day() == 1
	case c.nth > 0: // such a Monday
		return l.Weekday() == time.Monday && (l.Day()+6)/7 == c.nth
	}
	return slices.Contains(c.days, l.Day())
}

type cronText struct {
	minutes, hours, months, days []int
	last                         bool
	nth                          int
}

func (c *cronText) String() string {
	list := func(ns []int) string { return strings.Trim(strings.ReplaceAll(fmt.Sprint(ns), " ", ","), "[]") }
	day, week := list(c.days), "?"
	if c.last {
		day = "L"
	} else if c.nth > 0 {
		day, week = "?", fmt.Sprintf("MON#%d", c.nth)
	}
	return fmt.Sprintf("cron(%s %s %s %s %s *)", list(c.minutes), list(c.hours), day, list(c.months), week)
}

// Around the changes of clocks above all, what is computed is what a walk
// through the minutes finds.
func TestNextIsWhatAWalkThroughTheMinutesFinds(t *testing.T) {
	zones := []string{"UTC", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "America/Santiago", "Asia/Kolkata"}
	starts := []string{"2026-03-07", "2026-03-28", "2026-10-24", "2026-10-31", "2026-04-03", "2026-10-02", "2026-04-04", "2026-09-05", "2024-02-28", "2026-12-31"}
	rapid.Check(t, func(t *rapid.T) {
		set := func(low, high, most int, name string) []int {
			s := rapid.SliceOfNDistinct(rapid.IntRange(low, high), 1, most, rapid.ID[int]).Draw(t, name)
			return s
		}
		c := &cronText{minutes: set(0, 59, 3, "minutes"), hours: set(0, 4, 3, "hours"), months: set(1, 12, 12, "months"), days: set(1, 31, 20, "days")}
		c.last, c.nth = rapid.IntRange(0, 3).Draw(t, "last") == 0, max(0, rapid.IntRange(-5, 5).Draw(t, "nth"))
		z := zone(t, rapid.SampledFrom(zones).Draw(t, "zone"))
		start, err := time.Parse("2006-01-02", rapid.SampledFrom(starts).Draw(t, "start"))
		if err != nil {
			t.Fatal(err)
		}
		after := start.Add(time.Duration(rapid.IntRange(0, 48*60).Draw(t, "minute")) * time.Minute)
		e, err := Parse(c.String(), z)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := e.Next(after, after)
		for at, end := after.Add(time.Minute), after.Add(36*time.Hour); at.Before(end); at = at.Add(time.Minute) {
			if slow(c, at, z) {
				if !ok || !got.Equal(at) {
					t.Fatalf("%s after %v in %v: %v, not %v", c, after, z, got, at)
				}
				return
			}
			if ok && got.Equal(at) {
				t.Fatalf("%s after %v in %v: %v is not due", c, after, z, got)
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add("cron(0/5,3-7 8-17 ? JAN-mar MON#2,6L *)")
	f.Add("cron(0 0 L-3,3W,LW * ? 2026)")
	f.Add("rate(5 minutes)")
	f.Add("at(2026-07-01T12:00:00)")
	after := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		e, err := Parse(text, nil)
		if err != nil {
			return
		}
		if next, ok := e.Next(after, after); ok && !next.After(after) {
			t.Fatalf("%s: %v is not after %v", text, next, after)
		}
	})
}
