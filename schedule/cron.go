package schedule

import (
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// cron is six fields: minutes, hours, day of month, month, day of week, year.
// Of the two days one is "?". Sets are bits.
type cron struct {
	minutes, hours, months uint64
	years                  [lastYear - firstYear + 1]bool
	days                   dayOfMonth
	week                   *dayOfWeek // nil: days counts
}

const (
	firstYear = 1970
	lastYear  = 2199
)

// dayOfMonth is the days of a month: of a set, or counted from the last, or
// those weekdays that are nearest to one.
type dayOfMonth struct {
	set     uint64
	last    uint64 // bits of how many days before the last
	nearest uint64 // the weekdays nearest to these days
	lastW   bool   // the last weekday
}

// dayOfWeek is days of the week, Sunday being 1.
type dayOfWeek struct {
	set  uint64
	last uint64    // the month's last such days
	nth  [8]uint64 // by day: bits of which in the month
}

var (
	monthNames = []string{"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"}
	dayNames   = []string{"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"}
)

// field is what numbers a field takes, and by which names.
type field struct {
	what      string
	low, high int
	names     []string // of low and those after it
}

func parseCron(text string) (*cron, error) {
	f := strings.Fields(text)
	if len(f) != 6 {
		return nil, fmt.Errorf("needs six fields (minutes, hours, day of month, month, day of week, year), not %d", len(f))
	}
	c := &cron{}
	var err error
	if c.minutes, err = (field{"minutes", 0, 59, nil}).set(f[0]); err != nil {
		return nil, err
	}
	if c.hours, err = (field{"hours", 0, 23, nil}).set(f[1]); err != nil {
		return nil, err
	}
	if c.months, err = (field{"month", 1, 12, monthNames}).set(f[3]); err != nil {
		return nil, err
	}
	err = field{"year", firstYear, lastYear, nil}.each(f[5], func(y int) { c.years[y-firstYear] = true })
	if err != nil {
		return nil, err
	}
	if (f[2] == "?") == (f[4] == "?") {
		return nil, errors.New("one of day of month and day of week must be ?, and only one")
	}
	if f[4] == "?" {
		return c, c.days.parse(f[2])
	}
	c.week = &dayOfWeek{}
	return c, c.week.parse(f[4])
}

// each calls take with every number that a field's text names.
func (f field) each(text string, take func(int)) error {
	for part := range strings.SplitSeq(text, ",") {
		span, stepText, stepped := strings.Cut(part, "/")
		step := 1
		if stepped {
			var err error
			if step, err = strconv.Atoi(stepText); err != nil || step < 1 {
				return fmt.Errorf("%s: %q is no step, such as 0/15", f.what, part)
			}
		}
		low, high := f.low, f.high
		if span != "*" {
			from, to, ranged := strings.Cut(span, "-")
			var err error
			if low, err = f.number(from); err != nil {
				return err
			}
			switch {
			case ranged:
				if high, err = f.number(to); err != nil {
					return err
				}
			case !stepped:
				high = low
			}
		}
		// A range may go over the end: FRI-MON.
		size := f.high - f.low + 1
		length := high - low
		if length < 0 {
			length += size
		}
		for i := 0; i <= length; i += step {
			take((low-f.low+i)%size + f.low)
		}
	}
	return nil
}

func (f field) set(text string) (set uint64, err error) {
	err = f.each(text, func(n int) { set |= 1 << n })
	return set, err
}

func (f field) number(text string) (int, error) {
	for i, name := range f.names {
		if strings.EqualFold(name, text) {
			return f.low + i, nil
		}
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < f.low || n > f.high {
		return 0, fmt.Errorf("%s: %q is not between %d and %d", f.what, text, f.low, f.high)
	}
	return n, nil
}

func (d *dayOfMonth) parse(text string) error {
	f := field{"day of month", 1, 31, nil}
	for part := range strings.SplitSeq(text, ",") {
		before, isWeekday := strings.CutSuffix(part, "W")
		offset, isOffset := strings.CutPrefix(part, "L-")
		switch {
		case part == "L":
			d.last |= 1
		case part == "LW":
			d.lastW = true
		case isOffset:
			n, err := strconv.Atoi(offset)
			if err != nil || n < 1 || n > 30 {
				return fmt.Errorf("day of month: %q is no day before the last, such as L-3", part)
			}
			d.last |= 1 << n
		case isWeekday:
			n, err := f.number(before)
			if err != nil {
				return err
			}
			d.nearest |= 1 << n
		default:
			set, err := f.set(part)
			if err != nil {
				return err
			}
			d.set |= set
		}
	}
	return nil
}

func (d *dayOfWeek) parse(text string) error {
	f := field{"day of week", 1, 7, dayNames}
	for part := range strings.SplitSeq(text, ",") {
		day, nth, numbered := strings.Cut(part, "#")
		before, isLast := strings.CutSuffix(part, "L")
		switch {
		case part == "L": // of the week
			d.set |= 1 << 7
		case numbered:
			n, err := f.number(day)
			if err != nil {
				return err
			}
			i, err := strconv.Atoi(nth)
			if err != nil || i < 1 || i > 5 {
				return fmt.Errorf("day of week: %q is no day such as 3#2, the second Tuesday", part)
			}
			d.nth[n] |= 1 << i
		case isLast:
			n, err := f.number(before)
			if err != nil {
				return err
			}
			d.last |= 1 << n
		default:
			set, err := f.set(part)
			if err != nil {
				return err
			}
			d.set |= set
		}
	}
	return nil
}

// on tells whether a day is one of its days.
func (c *cron) on(year int, month time.Month, day int) bool {
	first := time.Date(year, month, 1, 0, 0, 0, 0, time.UTC)
	length := first.AddDate(0, 1, -1).Day()
	weekday := func(day int) int { return (int(first.Weekday())+day-1)%7 + 1 } // Sunday is 1
	if w := c.week; w != nil {
		wd := weekday(day)
		return w.set&(1<<wd) != 0 || w.last&(1<<wd) != 0 && day+7 > length || w.nth[wd]&(1<<((day-1)/7+1)) != 0
	}
	d := &c.days
	if d.set&(1<<day) != 0 || d.last&(1<<(length-day)) != 0 {
		return true
	}
	nearest := func(to int) int {
		switch weekday(to) {
		case 7: // Saturday: the Friday before, but not in another month
			if to == 1 {
				return 3
			}
			return to - 1
		case 1: // Sunday: the Monday after
			if to == length {
				return to - 2
			}
			return to + 1
		}
		return to
	}
	if d.lastW && nearest(length) == day {
		return true
	}
	for set := d.nearest; set != 0; set &= set - 1 {
		if to := bits.TrailingZeros64(set); to <= length && nearest(to) == day {
			return true
		}
	}
	return false
}

// next is the first time after a given one.
func (c *cron) next(after time.Time, zone *time.Location) (time.Time, bool) {
	from := after.In(zone)
	year, month, day := from.Date()
	hour, minute := from.Hour(), from.Minute()
	for ; year <= lastYear; year, month, day, hour, minute = year+1, 1, 1, 0, 0 {
		if year < firstYear || !c.years[year-firstYear] {
			continue
		}
		for ; month <= 12; month, day, hour, minute = month+1, 1, 0, 0 {
			if c.months&(1<<month) == 0 {
				continue
			}
			length := time.Date(year, month+1, 0, 0, 0, 0, 0, time.UTC).Day()
			for ; day <= length; day, hour, minute = day+1, 0, 0 {
				if !c.on(year, month, day) {
					continue
				}
				for ; hour < 24; hour, minute = hour+1, 0 {
					if c.hours&(1<<hour) == 0 {
						continue
					}
					for ; minute < 60; minute++ {
						if c.minutes&(1<<minute) == 0 {
							continue
						}
						if t, ok := instant(year, month, day, hour, minute, 0, zone); ok && t.After(after) {
							return t, true
						}
					}
				}
			}
		}
	}
	return time.Time{}, false
}
