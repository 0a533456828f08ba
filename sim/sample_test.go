package sim

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"
)

// excerpt is seven functions of the sample, which are always here.
func excerpt(t testing.TB) *Trace {
	t.Helper()
	return read(t, Files{[]string{"testdata/excerpt_inv.csv"}, []string{"testdata/excerpt_run.csv"}, []string{"testdata/excerpt_mem.csv"}})
}

// sample is 100 functions of one day; testdata/README.md names the source.
func sample(t testing.TB) *Trace {
	t.Helper()
	const dir = "../../shared/data/azure-functions-2019/"
	return read(t, Files{[]string{dir + "100_inv.csv"}, []string{dir + "100_run.csv"}, []string{dir + "100_mem.csv"}})
}

func read(t testing.TB, f Files) *Trace {
	t.Helper()
	trace, err := Read(f)
	if err != nil {
		t.Fatalf("the trace is missing: %v", err)
	}
	return trace
}

// resampled is a sample that might as well have been taken: functions drawn
// with replacement, each with the memory of another and its day turned by some
// whole minutes.
func resampled(of *Trace, seed uint64) *Trace {
	rng := rand.New(rand.NewPCG(seed, 17))
	t := &Trace{Length: of.Length}
	minutes := uint32(of.Length / time.Minute)
	for i := range of.Functions {
		f := of.Functions[rng.IntN(len(of.Functions))]
		f.MiB = of.Functions[rng.IntN(len(of.Functions))].MiB
		f.Name += string(rune('a' + i%26)) // arrivals of its own
		turn := rng.Uint32N(minutes)
		turned := make([]Minute, 0, len(f.Minutes))
		for _, from := range []bool{true, false} { // what comes after the turn is first
			for _, m := range f.Minutes {
				if (m.At+turn >= minutes) == from {
					turned = append(turned, Minute{(m.At + turn) % minutes, m.Count})
				}
			}
		}
		f.Minutes = turned
		t.Functions = append(t.Functions, f)
	}
	return t
}

// half is every second function.
func half(of *Trace, from int) *Trace {
	t := &Trace{Length: of.Length}
	for i := from; i < len(of.Functions); i += 2 {
		t.Functions = append(t.Functions, of.Functions[i])
	}
	return t
}

// hours is a part of the day.
func hoursOf(of *Trace, from, to int) *Trace {
	t := &Trace{Length: time.Duration(to-from) * time.Hour}
	for _, f := range of.Functions {
		var kept []Minute
		for _, m := range f.Minutes {
			if h := int(m.At) / 60; h >= from && h < to {
				kept = append(kept, Minute{m.At - uint32(from)*60, m.Count})
			}
		}
		f.Minutes = kept
		t.Functions = append(t.Functions, f)
	}
	return t
}

func run(t testing.TB, trace *Trace, p Policy, s Settings) *Result {
	t.Helper()
	r, err := Run(context.Background(), trace, p, s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var standard = Settings{Seed: 1, Spread: Uniform, Cold: 400 * time.Millisecond}
