package sim

import (
	"bufio"
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Trace is what functions did: what a replay is made of.
type Trace struct {
	Functions []Function
	// Length is how long the recording is.
	Length time.Duration
	// Guessed counts the functions whose run times or memory were not in the
	// files and are the standard ones instead.
	Guessed struct{ RunTimes, Memory int }
	// Lived is what happened when the trace was recorded; nil if it does not
	// tell.
	Lived *Lived
}

// Invocations counts those of all functions.
func (t *Trace) Invocations() (n int) {
	for i := range t.Functions {
		n += len(t.Functions[i].Calls)
		for _, m := range t.Functions[i].Minutes {
			n += int(m.Count)
		}
	}
	return n
}

// Function is what a trace knows of one function.
type Function struct {
	Owner, App, Name string // as in the files: hashes
	MiB              float64
	RunTimes         RunTimes
	// Minutes are those with invocations, in order; unless Calls, which are in
	// order, too, has each.
	Minutes []Minute
	Calls   []Call
}

// Minute tells how often a function was invoked in one minute.
type Minute struct {
	At    uint32 // from the trace's beginning; the first minute is 0
	Count uint32
}

// RunTimes is the distribution of run times: the values in milliseconds at the
// shares of runs that runTimeShares lists.
type RunTimes [7]float64

// runTimeShares are the percentiles that the format has.
var runTimeShares = [7]float64{0, 0.01, 0.25, 0.50, 0.75, 0.99, 1}

// At is the run time that the share u of runs, from 0 to 1, does not exceed.
// Between two known percentiles it is interpolated linearly.
func (r *RunTimes) At(u float64) time.Duration {
	i := 1
	for i < len(r)-1 && u > runTimeShares[i] {
		i++
	}
	x := (u - runTimeShares[i-1]) / (runTimeShares[i] - runTimeShares[i-1])
	return time.Duration((r[i-1] + x*(r[i]-r[i-1])) * float64(time.Millisecond))
}

// Mean is the mean of the distribution, in milliseconds.
func (r *RunTimes) Mean() (m float64) {
	for i := 1; i < len(r); i++ {
		m += (runTimeShares[i] - runTimeShares[i-1]) * (r[i] + r[i-1]) / 2
	}
	return m
}

// Standards for functions that the files of run times and memory do not have:
// the medians over the applications of the published dataset.
var (
	standardRunTimes = RunTimes{100, 100, 500, 700, 1000, 3000, 3000}
	standardMiB      = 170.0
)

// Files names the files of a trace in the format of the Azure Functions 2019
// dataset. Several of invocations are of days that follow each other; of run
// times and memory what a later file says counts. Those two may be nil: then
// every function is standard.
type Files struct{ Invocations, RunTimes, Memory []string }

// Read reads a trace. Its rows are read one at a time, and only minutes with
// invocations are kept: four bytes for the minute and four for the count.
//
// Errors name the file, and the line and column where one is at fault.
func Read(f Files) (*Trace, error) {
	if len(f.Invocations) == 0 {
		return nil, errors.New("a trace needs a file of invocations")
	}
	t := &Trace{}
	index := map[string]int{}
	for _, name := range f.Invocations {
		if err := readFile(name, func(r io.Reader) error { return t.invocations(r, index) }); err != nil {
			return nil, err
		}
	}
	known := make([]bool, len(t.Functions))
	for _, name := range f.RunTimes {
		if err := readFile(name, func(r io.Reader) error { return t.runTimes(r, index, known) }); err != nil {
			return nil, err
		}
	}
	for i, ok := range known {
		if !ok {
			t.Guessed.RunTimes++
			t.Functions[i].RunTimes = standardRunTimes
		}
	}
	apps := map[string]float64{}
	for _, name := range f.Memory {
		if err := readFile(name, func(r io.Reader) error { return memory(r, apps) }); err != nil {
			return nil, err
		}
	}
	for i := range t.Functions {
		fn := &t.Functions[i]
		if fn.MiB = apps[fn.Owner+"/"+fn.App]; fn.MiB == 0 {
			t.Guessed.Memory++
			fn.MiB = standardMiB
		}
	}
	return t, nil
}

func readFile(name string, read func(io.Reader) error) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close() // it was only read
	if err := read(bufio.NewReaderSize(f, 1<<16)); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// table reads CSV with a header, whose columns may be in any order.
type table struct {
	r      *csv.Reader
	column map[string]int
	row    []string
}

func newTable(r io.Reader, need ...string) (*table, error) {
	t := &table{r: csv.NewReader(r), column: map[string]int{}}
	t.r.ReuseRecord = true
	header, err := t.r.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("the file is empty; it should begin with a line of column names")
	}
	if err != nil {
		return nil, err
	}
	for i, name := range header {
		// The first may begin with a byte order mark.
		t.column[strings.ToLower(strings.TrimSpace(strings.TrimPrefix(name, "\ufeff")))] = i
	}
	for _, name := range need {
		if _, ok := t.column[strings.ToLower(name)]; !ok {
			return nil, fmt.Errorf("there is no column %s; is it a file of the Azure Functions format?", name)
		}
	}
	return t, nil
}

// next reads a row; false at the end.
func (t *table) next() (bool, error) {
	row, err := t.r.Read()
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	t.row = row
	return err == nil, err
}

func (t *table) text(column string) string { return t.row[t.column[column]] }

// number reads a finite number that is not negative.
func (t *table) number(column string) (float64, error) {
	i := t.column[column]
	x, err := strconv.ParseFloat(strings.TrimSpace(t.row[i]), 64)
	if err != nil || x < 0 || math.IsInf(x, 0) || math.IsNaN(x) {
		line, col := t.r.FieldPos(i)
		return 0, fmt.Errorf("line %d, column %d (%s): %q is no number from 0 up", line, col, column, t.row[i])
	}
	return x, nil
}

const (
	// maxMinutes bounds a trace to a year.
	maxMinutes = 366 * 24 * 60
	// maxCount bounds the invocations of a minute.
	maxCount = 10_000_000
)

// invocations reads invocations per minute. The columns of minutes are named
// 1 to 1440, as published, or minute_1 to minute_1440, as in samples of it.
func (t *Trace) invocations(r io.Reader, index map[string]int) error {
	tab, err := newTable(r, "HashOwner", "HashApp", "HashFunction")
	if err != nil {
		return err
	}
	var at []int // by minute: the column
	for m := 1; m <= maxMinutes; m++ {
		i, ok := tab.column[strconv.Itoa(m)]
		if !ok {
			i, ok = tab.column["minute_"+strconv.Itoa(m)]
		}
		if !ok {
			break
		}
		at = append(at, i)
	}
	if len(at) == 0 {
		return errors.New("there is no column 1 or minute_1; it should have the invocations of each minute")
	}
	first := uint32(t.Length / time.Minute)
	if int(first)+len(at) > maxMinutes {
		return fmt.Errorf("the trace is longer than %d days", maxMinutes/(24*60))
	}
	t.Length += time.Duration(len(at)) * time.Minute
	for {
		ok, err := tab.next()
		if err != nil || !ok {
			return err
		}
		// A copy: the reader uses its row again.
		key := strings.Clone(tab.text("hashowner") + "/" + tab.text("hashapp") + "/" + tab.text("hashfunction"))
		n, ok := index[key]
		if !ok {
			n = len(t.Functions)
			index[key] = n
			names := strings.SplitN(key, "/", 3)
			t.Functions = append(t.Functions, Function{Owner: names[0], App: names[1], Name: names[2]})
		}
		if err := t.Functions[n].add(tab, at, first); err != nil {
			return err
		}
	}
}

// add takes in a row. A function with two triggers has two.
func (f *Function) add(tab *table, at []int, first uint32) error {
	before := len(f.Minutes)
	for m, i := range at {
		s := tab.row[i]
		if s == "0" || s == "" {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSuffix(s, ".0"), 10, 32)
		if err != nil || n > maxCount {
			line, col := tab.r.FieldPos(i)
			return fmt.Errorf("line %d, column %d (minute %d): %q is no count from 0 to %d", line, col, m+1, s, maxCount)
		}
		if n > 0 {
			f.Minutes = append(f.Minutes, Minute{first + uint32(m), uint32(n)})
		}
	}
	if before > 0 && before < len(f.Minutes) && f.Minutes[before].At <= f.Minutes[before-1].At {
		f.merge()
	}
	return nil
}

// merge puts minutes in order, each once.
func (f *Function) merge() {
	slices.SortStableFunc(f.Minutes, func(a, b Minute) int { return cmp.Compare(a.At, b.At) })
	kept := f.Minutes[:1]
	for _, m := range f.Minutes[1:] {
		if last := &kept[len(kept)-1]; last.At == m.At {
			last.Count += m.Count
		} else {
			kept = append(kept, m)
		}
	}
	f.Minutes = kept
}

func (t *Trace) runTimes(r io.Reader, index map[string]int, known []bool) error {
	columns := [7]string{"percentile_average_0", "percentile_average_1", "percentile_average_25", "percentile_average_50",
		"percentile_average_75", "percentile_average_99", "percentile_average_100"}
	tab, err := newTable(r, append([]string{"HashOwner", "HashApp", "HashFunction"}, columns[:]...)...)
	if err != nil {
		return err
	}
	for {
		ok, err := tab.next()
		if err != nil || !ok {
			return err
		}
		i, ok := index[tab.text("hashowner")+"/"+tab.text("hashapp")+"/"+tab.text("hashfunction")]
		if !ok {
			continue // it ran on another day
		}
		var rt RunTimes
		for n, c := range columns {
			if rt[n], err = tab.number(c); err != nil {
				return err
			}
			rt[n] = min(rt[n], float64(24*time.Hour/time.Millisecond))
			if n > 0 {
				rt[n] = max(rt[n], rt[n-1])
			}
		}
		t.Functions[i].RunTimes, known[i] = rt, true
	}
}

func memory(r io.Reader, apps map[string]float64) error {
	tab, err := newTable(r, "HashOwner", "HashApp", "AverageAllocatedMb")
	if err != nil {
		return err
	}
	for {
		ok, err := tab.next()
		if err != nil || !ok {
			return err
		}
		mib, err := tab.number("averageallocatedmb")
		if err != nil {
			return err
		}
		apps[tab.text("hashowner")+"/"+tab.text("hashapp")] = mib
	}
}
