package schedule

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// An Expression says when something is due: rate(5 minutes), cron(0 10 * * ?
// *) or at(2030-01-01T00:00:00). It does not change.
type Expression struct {
	text  string
	every time.Duration // of rate
	once  time.Time     // of at
	cron  *cron
	zone  *time.Location
}

// maxExpression bounds an expression's text, in bytes.
const maxExpression = 256

// Parse reads an expression whose times are of a zone; nil is UTC. Its error
// says what is wrong with which part.
func Parse(text string, zone *time.Location) (*Expression, error) {
	if zone == nil {
		zone = time.UTC
	}
	if len(text) > maxExpression {
		return nil, fmt.Errorf("the expression has %d bytes; the limit is %d", len(text), maxExpression)
	}
	e := &Expression{text: text, zone: zone}
	kind, rest, ok := strings.Cut(text, "(")
	inner, closed := strings.CutSuffix(rest, ")")
	if !ok || !closed {
		return nil, fmt.Errorf("%q is none of rate(5 minutes), cron(0 10 * * ? *) and at(2030-01-01T00:00:00)", text)
	}
	var err error
	switch kind {
	case "rate":
		e.every, err = parseRate(inner)
	case "at":
		e.once, err = parseAt(inner, zone)
	case "cron":
		e.cron, err = parseCron(inner)
	default:
		err = fmt.Errorf("there are rate, cron and at")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", text, err)
	}
	return e, nil
}

// String returns the text that e was parsed from.
func (e *Expression) String() string { return e.text }

// Once tells whether it is an at: due no more than once.
func (e *Expression) Once() bool { return e.cron == nil && e.every == 0 }

// Rate is how long lies between two times of a rate; 0 of anything else.
func (e *Expression) Rate() time.Duration { return e.every }

// Next returns the first time after a given one at which it is due; false if
// there is none. A rate counts from base: base itself is the first time of
// all. A local time that the change to summer time leaves out is not due, and
// one that comes twice in autumn is due the first time only.
func (e *Expression) Next(after, base time.Time) (time.Time, bool) {
	switch {
	case e.cron != nil:
		return e.cron.next(after, e.zone)
	case e.every == 0:
		return e.once, e.once.After(after)
	case after.Before(base):
		return base, true
	}
	n := after.Sub(base)/e.every + 1
	return base.Add(n * e.every), true
}

var units = map[string]time.Duration{
	"minute": time.Minute, "minutes": time.Minute, "hour": time.Hour, "hours": time.Hour, "day": 24 * time.Hour, "days": 24 * time.Hour,
}

// longestRate keeps arithmetic with times in range.
const longestRate = 100 * 365 * 24 * time.Hour

func parseRate(text string) (time.Duration, error) {
	words := strings.Fields(text)
	if len(words) != 2 {
		return 0, fmt.Errorf("a rate is a number and minutes, hours or days")
	}
	n, err := strconv.ParseUint(words[0], 10, 31)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is no whole number above 0", words[0])
	}
	unit, ok := units[words[1]]
	if !ok {
		return 0, fmt.Errorf("%q is none of minutes, hours and days", words[1])
	}
	if time.Duration(n) > longestRate/unit {
		return 0, fmt.Errorf("a rate is 100 years at most")
	}
	return time.Duration(n) * unit, nil
}

func parseAt(text string, zone *time.Location) (time.Time, error) {
	const form = "2006-01-02T15:04:05"
	t, err := time.Parse(form, text)
	if err != nil {
		return t, fmt.Errorf("%q is no time such as 2030-01-01T00:00:00", text)
	}
	at, ok := instant(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), zone)
	if !ok {
		// Left out by the change to summer time: an hour later, as the clocks
		// then show.
		at = time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, zone)
	}
	return at.UTC(), nil
}

// instant is the first time at which clocks in the zone show something; false
// if they never do.
func instant(year int, month time.Month, day, hour, minute, second int, zone *time.Location) (time.Time, bool) {
	shown := time.Date(year, month, day, hour, minute, second, 0, time.UTC)
	var first time.Time
	found := false
	// Zones change their offsets no more than once in two days.
	for _, around := range []time.Duration{-24 * time.Hour, 24 * time.Hour} {
		_, offset := shown.Add(around).In(zone).Zone()
		t := shown.Add(-time.Duration(offset) * time.Second)
		l := t.In(zone)
		same := l.Day() == shown.Day() && l.Hour() == hour && l.Minute() == minute && l.Second() == second
		if same && (!found || t.Before(first)) {
			first, found = t, true
		}
	}
	return first, found
}
