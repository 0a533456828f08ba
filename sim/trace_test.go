package sim

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// file writes a file and returns its name.
func file(t testing.TB, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "f.csv")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestTraceIsReadInBothLayoutsOfItsColumns(t *testing.T) {
	published := file(t, "HashOwner,HashApp,HashFunction,Trigger,1,2,3\no,a,f,timer,0,5,0\no,a,f,http,1,1,0\no,a,g,queue,0,0,0\n")
	sampled := file(t, "HashFunction,HashApp,HashOwner,minute_1,minute_2,minute_3\nf,a,o,1,6,0\ng,a,o,0,0,0\n")
	durations := file(t, "HashOwner,HashApp,HashFunction,Average,Count,Minimum,Maximum,percentile_Average_0,percentile_Average_1,percentile_Average_25,percentile_Average_50,percentile_Average_75,percentile_Average_99,percentile_Average_100\n"+
		"o,a,f,9,9,1,9,1,2,3,4,5,6,7\no,other,h,9,9,1,9,1,2,3,4,5,6,7\n")
	memory := file(t, "HashOwner,HashApp,SampleCount,AverageAllocatedMb\no,a,4,123.5\n")
	for _, name := range []string{published, sampled} {
		trace := read(t, Files{[]string{name}, []string{durations}, []string{memory}})
		if len(trace.Functions) != 2 || trace.Length != 3*time.Minute || trace.Invocations() != 7 {
			t.Fatalf("%d functions, %v, %d invocations", len(trace.Functions), trace.Length, trace.Invocations())
		}
		f := trace.Functions[0]
		if f.Owner != "o" || f.App != "a" || f.Name != "f" || f.MiB != 123.5 || f.RunTimes != (RunTimes{1, 2, 3, 4, 5, 6, 7}) {
			t.Errorf("%+v", f)
		}
		if len(f.Minutes) != 2 || f.Minutes[0] != (Minute{0, 1}) || f.Minutes[1] != (Minute{1, 6}) {
			t.Errorf("minutes %v", f.Minutes)
		}
		if trace.Guessed.RunTimes != 1 || trace.Guessed.Memory != 0 {
			t.Errorf("guessed: %+v", trace.Guessed)
		}
	}
}

func TestDaysFollowEachOther(t *testing.T) {
	one := file(t, "HashOwner,HashApp,HashFunction,1,2\no,a,f,0,5\n")
	two := file(t, "HashOwner,HashApp,HashFunction,1,2\no,a,g,1,0\no,a,f,3,0\n")
	trace := read(t, Files{Invocations: []string{one, two}})
	if trace.Length != 4*time.Minute || len(trace.Functions) != 2 {
		t.Fatalf("%v, %d functions", trace.Length, len(trace.Functions))
	}
	if m := trace.Functions[0].Minutes; len(m) != 2 || m[0] != (Minute{1, 5}) || m[1] != (Minute{2, 3}) {
		t.Errorf("minutes %v", m)
	}
	if trace.Guessed.RunTimes != 2 || trace.Guessed.Memory != 2 {
		t.Errorf("guessed: %+v", trace.Guessed)
	}
}

func TestBadFileIsRefusedByWhereItIsBad(t *testing.T) {
	good := file(t, "HashOwner,HashApp,HashFunction,1\no,a,f,1\n")
	runs := "HashOwner,HashApp,HashFunction,percentile_Average_0,percentile_Average_1,percentile_Average_25,percentile_Average_50,percentile_Average_75,percentile_Average_99,percentile_Average_100\n"
	for want, f := range map[string]Files{
		"needs a file of invocations":       {},
		"no such file":                      {Invocations: []string{"missing.csv"}},
		"the file is empty":                 {Invocations: []string{file(t, "")}},
		"no column HashOwner":               {Invocations: []string{file(t, "a,b\n1,2\n")}},
		"no column 1 or minute_1":           {Invocations: []string{file(t, "HashOwner,HashApp,HashFunction\no,a,f\n")}},
		`line 3, column 9 (minute 2): "x"`:  {Invocations: []string{file(t, "HashOwner,HashApp,HashFunction,1,2\no,a,f,1,2\no,a,g,1,x\n")}},
		`"-1" is no count`:                  {Invocations: []string{file(t, "HashOwner,HashApp,HashFunction,1\no,a,f,-1\n")}},
		`"99999999" is no count`:            {Invocations: []string{file(t, "HashOwner,HashApp,HashFunction,1\no,a,f,99999999\n")}},
		"wrong number of fields":            {Invocations: []string{file(t, "HashOwner,HashApp,HashFunction,1\no,a,f\n")}},
		"no column percentile_average_25":   {Invocations: []string{good}, RunTimes: []string{file(t, strings.Replace(runs, "percentile_Average_25,", "", 1))}},
		`"NaN" is no number`:                {Invocations: []string{good}, RunTimes: []string{file(t, runs+"o,a,f,1,2,NaN,4,5,6,7\n")}},
		`line 2, column 5 (averageallocate`: {Invocations: []string{good}, Memory: []string{file(t, "HashOwner,HashApp,AverageAllocatedMb\no,a,-4\n")}},
	} {
		if _, err := Read(f); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add("HashOwner,HashApp,HashFunction,1,2\no,a,f,0,5\no,a,f,3,0\n",
		"HashOwner,HashApp,HashFunction,percentile_Average_0,percentile_Average_1,percentile_Average_25,percentile_Average_50,percentile_Average_75,percentile_Average_99,percentile_Average_100\no,a,f,1,2,3,4,5,6,7\n",
		"HashOwner,HashApp,AverageAllocatedMb\no,a,4\n")
	f.Add("HashOwner,HashApp,HashFunction,minute_1\n\"o,a,f,1\n", "", "")
	f.Fuzz(func(t *testing.T, invocations, runTimes, mem string) {
		trace, err := Read(Files{[]string{file(t, invocations)}, []string{file(t, runTimes)}, []string{file(t, mem)}})
		if err != nil {
			return
		}
		for _, fn := range trace.Functions {
			last := -1
			for _, m := range fn.Minutes {
				if int(m.At) <= last || m.Count == 0 || time.Duration(m.At)*time.Minute >= trace.Length {
					t.Fatalf("minutes %v of %v", fn.Minutes, trace.Length)
				}
				last = int(m.At)
			}
			if fn.MiB <= 0 || fn.RunTimes.At(0.5) < 0 {
				t.Fatalf("%v MiB, run times %v", fn.MiB, fn.RunTimes)
			}
		}
	})
}

func TestArrivalsAreThoseOfTheTraceAndOfTheSeed(t *testing.T) {
	f := &Function{Name: "f", RunTimes: RunTimes{1, 2, 3, 4, 5, 6, 7}, Minutes: []Minute{{3, 1}, {4, 500}, {1000, 14}}}
	for _, spread := range []Spread{Uniform, Even, Start} {
		counts, last := map[time.Duration]uint32{}, time.Duration(-1)
		a, b, c := newArrivals(f, spread, 1), newArrivals(f, spread, 1), newArrivals(f, spread, 2)
		same, differ := true, false
		for {
			at, run, ok := a.next()
			bAt, bRun, _ := b.next()
			cAt, cRun, _ := c.next()
			same, differ = same && at == bAt && run == bRun, differ || at != cAt || run != cRun
			if !ok {
				break
			}
			if at < last || run < time.Millisecond || run > 7*time.Millisecond {
				t.Fatalf("%s: %v after %v, runs for %v", spread, at, last, run)
			}
			if spread == Start && at%time.Minute > time.Second {
				t.Errorf("%v is not in the minute's first second", at)
			}
			last = at
			counts[at/time.Minute]++
		}
		for _, m := range f.Minutes {
			if counts[time.Duration(m.At)] != m.Count {
				t.Errorf("%s: %d invocations in minute %d, want %d", spread, counts[time.Duration(m.At)], m.At, m.Count)
			}
		}
		if !same || !differ {
			t.Errorf("%s: the same seed gives the same %v, another one others %v", spread, same, differ)
		}
	}
}

func TestRunTimesAreThoseOfTheirPercentiles(t *testing.T) {
	r := RunTimes{10, 20, 30, 40, 50, 60, 70}
	for share, want := range map[float64]time.Duration{0: 10, 0.01: 20, 0.25: 30, 0.5: 40, 0.625: 45, 0.75: 50, 0.99: 60, 1: 70} {
		if got := r.At(share); got.Round(time.Microsecond) != want*time.Millisecond {
			t.Errorf("%v of the runs take up to %v, want %v ms", share, got, int(want))
		}
	}
}
