package sim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth/manager"
)

var update = flag.Bool("update", false, "write golden files")

// called is a trace of one function of 1,024 MiB that runs for 100 ms, called
// in those minutes of a day once, at their beginning.
func called(minutes ...uint32) *Trace {
	f := Function{Name: "f", MiB: 1024, RunTimes: RunTimes{100, 100, 100, 100, 100, 100, 100}}
	for _, m := range minutes {
		f.Minutes = append(f.Minutes, Minute{m, 1})
	}
	return &Trace{Functions: []Function{f}, Length: 24 * time.Hour}
}

func every(n, from, to uint32) (m []uint32) {
	for ; from < to; from += n {
		m = append(m, from)
	}
	return m
}

var even = Settings{Spread: Even, Cold: time.Second}

func TestWhatAFixedTimeCosts(t *testing.T) {
	trace := called(0, 5, 30)
	for _, c := range []struct {
		life   time.Duration
		cold   int
		waited time.Duration // of one container
	}{
		{0, 3, 0},
		{10 * time.Minute, 2, 5*time.Minute - 1100*time.Millisecond + 20*time.Minute},
		{time.Hour, 1, 30*time.Minute - 1200*time.Millisecond + time.Hour},
	} {
		r := run(t, trace, Fixed(c.life), even)
		if r.Cold != c.cold || math.Abs(r.Wasted-1024*c.waited.Seconds()) > 1 {
			t.Errorf("%s: %d cold, %.0f MiB·s, want %d and %.0f", r.Policy, r.Cold, r.Wasted, c.cold, 1024*c.waited.Seconds())
		}
		if busy := 3 * 0.1 * 1024; math.Abs(r.Tally.Busy-busy) > 1e-6 || math.Abs(r.Total-r.Wasted-busy-1024*float64(c.cold)) > 1e-6 {
			t.Errorf("%s: %+v", r.Policy, r.Tally)
		}
	}
}

func TestWhoWaitsIsServedByWhatComesFirst(t *testing.T) {
	// Three within the making of one: the first is served by its container
	// after 1.1 s, and the others when that comes free again and again, before
	// their own are ready.
	f := Function{Name: "f", MiB: 1, RunTimes: RunTimes{100, 100, 100, 100, 100, 100, 100}, Minutes: []Minute{{0, 100}}}
	trace := &Trace{Functions: []Function{f}, Length: time.Hour}
	r := run(t, trace, Fixed(time.Hour), Settings{Spread: Even, Cold: 1100 * time.Millisecond})
	if r.Cold != 3 || r.P99 > 600*time.Millisecond || math.Abs(r.Tally.Busy-10) > 1e-6 || math.Abs(r.Tally.Making-3.3) > 1e-6 {
		t.Errorf("%+v", r)
	}
}

func TestOneContainerServesManyWhereItIsShared(t *testing.T) {
	f := Function{Name: "f", MiB: 1, RunTimes: RunTimes{5000, 5000, 5000, 5000, 5000, 5000, 5000}, Minutes: []Minute{{0, 60}, {1, 1}}}
	trace := &Trace{Functions: []Function{f}, Length: time.Hour}
	s := Settings{Spread: Even, Cold: 1500 * time.Millisecond, Shared: true}
	r := run(t, trace, Fixed(10*time.Minute), s)
	// The first, and the second that comes while the container is made. It is
	// at work from 1.5 s until 5 s after the last came.
	if r.Cold != 2 || math.Abs(r.Tally.Busy-63.5) > 1e-6 || math.Abs(r.Wasted-600) > 1e-6 {
		t.Errorf("%d cold, %+v", r.Cold, r.Tally)
	}
}

func TestHistogramPolicyDoesAsThePaperSays(t *testing.T) {
	t.Run("a window before the next invocation", func(t *testing.T) {
		r := run(t, called(every(30, 0, 24*60)...), Hybrid{}, even)
		// From the first idle time on it is 30 min less 1.1 s, which is bin
		// 29: ready from 26.1 min on.
		if r.Cold != 2 && r.Cold != 1 || r.Tally.Prewarmed < 44 {
			t.Errorf("%d cold, %d made ahead", r.Cold, r.Tally.Prewarmed)
		}
		if per := r.Wasted / 1024 / 60 / 47; per < 3.5 || per > 5.5 {
			t.Errorf("%.1f minutes are waited for each of 47", per)
		}
	})
	t.Run("four hours while nothing is known", func(t *testing.T) {
		r := run(t, called(0), Hybrid{}, even)
		if math.Abs(r.Wasted-1024*4*3600) > 1 {
			t.Errorf("%.2f hours", r.Wasted/1024/3600)
		}
	})
	t.Run("four hours while the bins are too even", func(t *testing.T) {
		k := Hybrid{}.Keeper(nil).(*hybridKeeper)
		for b := range hybridBins {
			k.add(time.Duration(b) * time.Minute)
		}
		if k.decide(); k.prewarm != 0 || k.until != 4*time.Hour {
			t.Errorf("%v to %v", k.prewarm, k.until)
		}
	})
	t.Run("a forecast where idle times are out of the bins", func(t *testing.T) {
		k := Hybrid{}.Keeper(nil).(*hybridKeeper)
		for range 5 {
			k.add(10 * time.Hour)
		}
		if k.decide(); k.prewarm.Round(time.Minute) != 510*time.Minute || k.until.Round(time.Minute) != 690*time.Minute {
			t.Errorf("%v to %v, the next one is 10 h", k.prewarm, k.until)
		}
	})
}

func TestForecastFollowsTheSeries(t *testing.T) {
	for _, c := range []struct {
		series []float64
		want   float64
	}{
		{[]float64{7}, 7}, {[]float64{5, 6}, 6},
		{[]float64{10, 10, 10, 10, 10}, 10},
		{[]float64{1, 2, 3, 4, 5, 6, 7, 8}, 9},
		{[]float64{10, 20, 10, 20, 10, 20, 10, 20}, 10},
	} {
		if got := forecast(c.series); math.Abs(got-c.want) > 0.5 {
			t.Errorf("after %v: %v, want %v", c.series, got, c.want)
		}
	}
}

func TestLearnedPolicyMakesAheadOfASchedule(t *testing.T) {
	trace := called(every(60, 0, 24*60)...)
	r := run(t, trace, &Learned{IdleLife: manager.IdleLife{}.Complete(), Lead: even.Cold}, even)
	kept := run(t, trace, Fixed(time.Hour), even)
	if r.Cold > 4 || r.Wasted > kept.Wasted/3 {
		t.Errorf("%d cold, %.0f GiB·h; kept through it is %.0f", r.Cold, gibHours(r.Wasted), gibHours(kept.Wasted))
	}
}

func TestReplayIsDeterminedByItsSeed(t *testing.T) {
	trace := excerpt(t)
	of := func(seed uint64) Result {
		s := standard
		s.Seed = seed
		return *run(t, trace, &Learned{IdleLife: manager.IdleLife{}.Complete(), Lead: s.Cold}, s)
	}
	if a, b := of(1), of(1); a != b {
		t.Errorf("the same seed gives %+v and %+v", a, b)
	}
	if of(1) == of(2) {
		t.Error("another seed gives the same")
	}
}

func TestReplayEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	gone := errors.New("interrupted")
	cancel(gone)
	if _, err := Compare(ctx, excerpt(t), manager.IdleLife{}, standard); !errors.Is(err, gone) {
		t.Errorf("%v", err)
	}
}

// aTrace draws a few functions' day.
func aTrace(t *rapid.T) *Trace {
	trace := &Trace{Length: 24 * time.Hour}
	for i := range rapid.IntRange(1, 4).Draw(t, "functions") {
		ms := rapid.Float64Range(1, 100_000).Draw(t, "run")
		f := Function{Name: string(rune('a' + i)), MiB: rapid.Float64Range(64, 4096).Draw(t, "MiB"), RunTimes: RunTimes{0, ms, ms, ms, ms, 2 * ms, 3 * ms}}
		at := uint32(0)
		for range rapid.IntRange(0, 60).Draw(t, "minutes") {
			at += rapid.Uint32Range(1, 90).Draw(t, "gap")
			if at < 24*60 {
				f.Minutes = append(f.Minutes, Minute{at, rapid.Uint32Range(1, 20).Draw(t, "count")})
			}
		}
		trace.Functions = append(trace.Functions, f)
	}
	return trace
}

func TestOracleIsNeverBeaten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		trace := aTrace(t)
		s := Settings{Seed: rapid.Uint64().Draw(t, "seed"), Spread: rapid.SampledFrom([]Spread{Uniform, Even, Start}).Draw(t, "spread"), Shared: rapid.Bool().Draw(t, "shared")}
		o, err := Foresee(context.Background(), trace, s)
		if err != nil {
			t.Fatal(err)
		}
		l := manager.IdleLife{Worth: rapid.Float64Range(1e3, 1e7).Draw(t, "worth")}.Complete()
		for _, p := range []Policy{Fixed(0), Fixed(10 * time.Minute), Fixed(4 * time.Hour), &Learned{IdleLife: l, KeepOnly: true}} {
			r, err := Run(context.Background(), trace, p, s)
			if err != nil {
				t.Fatal(err)
			}
			// The oracle's gaps are summed up in bins of 1/32 of an octave.
			if best := At(o.Keep(), r.ColdShare()); r.Wasted < best/1.03-1e-6 {
				t.Fatalf("%s wastes %v at %v cold, the oracle %v", r.Policy, r.Wasted, r.ColdShare(), best)
			}
		}
	})
}

func TestPoolIsNeverBelowDemandAndAccountsForAllTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		trace := aTrace(t)
		s := Settings{Seed: 1, Cold: time.Duration(rapid.Int64Range(0, int64(10*time.Second)).Draw(t, "cold"))}
		for _, p := range []Policy{Fixed(time.Minute), Hybrid{}, &Learned{IdleLife: manager.IdleLife{}.Complete(), Lead: s.Cold}} {
			r, err := Run(context.Background(), trace, p, s)
			if err != nil {
				t.Fatal(err)
			}
			if r.Invocations != trace.Invocations() || r.Cold > r.Invocations || r.Wasted > r.Total+1e-6 || r.Wasted < 0 {
				t.Fatalf("%+v of %d invocations", r, trace.Invocations())
			}
		}
	})
}

func TestMoreWorthMeansMoreWaitingAndFewerColdStarts(t *testing.T) {
	trace := excerpt(t)
	s := standard
	s.Cold = 0 // else a cold start changes the demand that follows
	var last *Result
	for _, worth := range []float64{1e3, 1e4, 1e5, 1e6, 1e7} {
		r := run(t, trace, &Learned{IdleLife: manager.IdleLife{Worth: worth}.Complete(), KeepOnly: true}, s)
		if last != nil && (r.Wasted < 0.98*last.Wasted || r.Cold > last.Cold+last.Cold/50) {
			t.Errorf("at %v: %.0f MiB·s and %d cold, at a tenth of it %.0f and %d", worth, r.Wasted, r.Cold, last.Wasted, last.Cold)
		}
		last = r
	}
}

func TestComparisonOfTheExcerpt(t *testing.T) {
	c, err := Compare(context.Background(), excerpt(t), manager.IdleLife{}, standard)
	if err != nil {
		t.Fatal(err)
	}
	var table, svg bytes.Buffer
	if err := errors.Join(c.WriteTable(&table), c.WriteSVG(&svg)); err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/excerpt.golden"
	if *update {
		if err := os.WriteFile(golden, table.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if table.String() != string(want) {
		t.Errorf("%s is not what comes out; if it should be: go test ./sim -run Excerpt -update\n%s", golden, table.String())
	}
	if n := strings.Count(svg.String(), "<path"); n < 12 || !strings.HasSuffix(svg.String(), "</svg>\n") {
		t.Errorf("%d lines in the plot", n)
	}
	data, err := json.Marshal(c.Report())
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(data, &back); err != nil || len(back.Policies) != 5 || len(back.Frontiers) != 6 || back.Invocations != c.Trace.Invocations() {
		t.Errorf("%v: %s", err, data)
	}
}
