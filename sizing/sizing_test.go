package sizing

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
)

var machine = Machine{MaxMiB: 8192, FullCPUMiB: 1769, CPUs: 4}

// ran is the evidence of a function with so much memory.
func ran(mib int) *Evidence {
	e := &Evidence{}
	e.Begin(1, mib, time.Unix(1, 0))
	return e
}

// add adds n executions of the same sort. Unless said otherwise they use
// little of the processors.
func (e *Evidence) adds(n int, u hearth.Use) *Evidence {
	if u.MemoryMiB == 0 {
		u.MemoryMiB = e.SizeMiB()
	}
	if u.Duration == 0 {
		u.Duration = 200 * time.Millisecond
	}
	if u.Busy == 0 {
		u.CPU, u.Busy = 2*time.Millisecond, u.Duration
	}
	for range n {
		e.Add(&u, Rule{}.Recent())
	}
	return e
}

func TestWhatExecutionsMean(t *testing.T) {
	ok := func(peak float64) hearth.Use { return hearth.Use{End: hearth.EndOK, PeakMiB: peak} }
	end := func(end hearth.End) hearth.Use { return hearth.Use{End: end, PeakMiB: 40} }
	killed := hearth.Use{End: hearth.EndMemory, PeakMiB: 256}
	for name, test := range map[string]struct {
		rule Rule
		e    *Evidence
		m    Machine
		want Suggestion
	}{
		"nothing is known":                                 {e: ran(256)},
		"too few were killed to tell":                      {e: ran(256).adds(9, killed)},
		"all are killed":                                   {e: ran(256).adds(10, killed), want: Suggestion{Kind: Grow, MiB: 384, Bound: "memory"}},
		"one of ten is killed, which is an accident":       {e: ran(256).adds(9, ok(200)).adds(1, killed)},
		"two of twenty are killed":                         {e: ran(256).adds(18, ok(200)).adds(2, killed), want: Suggestion{Kind: Grow, MiB: 384, Bound: "memory"}},
		"two of twenty, where a fifth is asked for":        {rule: Rule{Share: 0.2}, e: ran(256).adds(18, ok(200)).adds(2, killed)},
		"two of two, where two are enough":                 {rule: Rule{Runs: 2}, e: ran(256).adds(2, killed), want: Suggestion{Kind: Grow, MiB: 384, Bound: "memory"}},
		"half report errors":                               {e: ran(256).adds(50, ok(200)).adds(50, end(hearth.EndError))},
		"all time out":                                     {e: ran(128).adds(100, end(hearth.EndTimeout))},
		"all crash":                                        {e: ran(128).adds(100, end(hearth.EndCrash))},
		"one with more, which it had asked for, needed it": {e: ran(256).adds(1, hearth.Use{End: hearth.EndOK, PeakMiB: 700, MemoryMiB: 1024}).adds(10, killed), want: Suggestion{Kind: Grow, MiB: 960, Bound: "memory"}},
		"more than the machine has":                        {e: ran(256).adds(10, killed), m: Machine{MaxMiB: 300, FullCPUMiB: 1769}, want: Suggestion{Kind: Grow, MiB: 300, Bound: "machine"}},
		"more than the policy allows":                      {rule: Rule{MaxMiB: 256}, e: ran(256).adds(10, killed), want: Suggestion{Kind: Grow, Bound: "policy"}},

		"40 MiB of 1024":                            {e: ran(1024).adds(100, ok(40)), want: Suggestion{Kind: Shrink, MiB: 128, Bound: "policy"}},
		"40 MiB of 1024, too seldom to tell":        {e: ran(1024).adds(99, ok(40))},
		"40 MiB of 128":                             {e: ran(128).adds(200, ok(40))},
		"300 MiB of 1024":                           {e: ran(1024).adds(100, ok(300)), want: Suggestion{Kind: Shrink, MiB: 448, Bound: "memory"}},
		"300 MiB of 512, which saves too little":    {e: ran(512).adds(100, ok(300))},
		"once it was much":                          {e: ran(1024).adds(200, ok(40)).adds(1, ok(600)), want: Suggestion{Kind: Shrink, MiB: 704, Bound: "memory"}},
		"of memory little, of the processors all":   {e: ran(1024).adds(100, hearth.Use{End: hearth.EndOK, PeakMiB: 40, CPU: 110 * time.Millisecond, Busy: 200 * time.Millisecond})},
		"of the processors some":                    {e: ran(1024).adds(100, hearth.Use{End: hearth.EndOK, PeakMiB: 40, CPU: 20 * time.Millisecond, Busy: 200 * time.Millisecond}), want: Suggestion{Kind: Shrink, MiB: 256, Bound: "cpu"}},
		"quick, and back to back for a period":      {e: ran(1024).adds(100, hearth.Use{End: hearth.EndOK, PeakMiB: 40, Duration: 5 * time.Millisecond, CPU: 55 * time.Millisecond, Busy: 100 * time.Millisecond})},
		"quick, and alone in its period":            {e: ran(1024).adds(100, hearth.Use{End: hearth.EndOK, PeakMiB: 40, Duration: 5 * time.Millisecond, CPU: 5 * time.Millisecond, Busy: 5 * time.Millisecond}), want: Suggestion{Kind: Shrink, MiB: 128, Bound: "policy"}},
		"nobody looked at the processors":           {e: ran(1024).adds(100, hearth.Use{End: hearth.EndOK, PeakMiB: 40, Busy: -1})},
		"of memory little, of the network much":     {e: ran(1024).adds(100, hearth.Use{End: hearth.EndOK, PeakMiB: 40, NetworkOut: 5e6, Duration: time.Second}), m: Machine{LinkBytesPerMiB: 125e6 / 8192}, want: Suggestion{Kind: Shrink, MiB: 704, Bound: "network"}},
		"of memory little, and a policy wants more": {rule: Rule{MinMiB: 512}, e: ran(1024).adds(100, ok(40)), want: Suggestion{Kind: Shrink, MiB: 512, Bound: "policy"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := test.m
			if m == (Machine{}) {
				m = machine
			}
			if got := test.rule.Suggest(test.e, m); got != test.want {
				t.Errorf("%+v, want %+v", got, test.want)
			}
		})
	}
}

func TestLessThanWasAskedForIsTakenBackAtTheFirstSign(t *testing.T) {
	e := ran(1024).adds(100, hearth.Use{End: hearth.EndOK, PeakMiB: 40})
	e.Apply(Rule{}.Suggest(e, machine).MiB)
	if e.SizeMiB() != 128 {
		t.Fatalf("it has %d MiB", e.SizeMiB())
	}
	e.adds(50, hearth.Use{End: hearth.EndOK, PeakMiB: 40}).adds(1, hearth.Use{End: hearth.EndMemory, PeakMiB: 128})
	s := Rule{}.Suggest(e, machine)
	if s != (Suggestion{Kind: Grow, MiB: 1024, Revert: true, Bound: "memory"}) {
		t.Fatalf("%+v", s)
	}
	e.Apply(s.MiB)
	// It is not tried again, nor what is little more.
	e.adds(200, hearth.Use{End: hearth.EndOK, PeakMiB: 40})
	if s := (Rule{}).Suggest(e, machine); s != (Suggestion{Kind: Shrink, MiB: 192, Bound: "floor"}) {
		t.Errorf("%+v", s)
	}
}

func TestOtherCodeIsOtherEvidence(t *testing.T) {
	e := ran(256).adds(10, hearth.Use{End: hearth.EndMemory})
	e.Apply(384)
	if e.Begin(1, 256, time.Unix(2, 0)); e.Runs != 10 {
		t.Error("the same code lost its evidence")
	}
	if !e.Begin(3, 256, time.Unix(3, 0)) || e.Runs != 0 || e.FloorMiB != 0 || e.SizeMiB() != 384 {
		t.Errorf("new code: %+v; what the last was found to need is kept until more is known", e.facts)
	}
	if e.Begin(2, 256, time.Unix(4, 0)) {
		t.Error("what ends late counts as evidence of what came after it")
	}
	if e.Begin(4, 512, time.Unix(5, 0)); e.SizeMiB() != 512 {
		t.Errorf("its owner asked for 512 MiB, it has %d", e.SizeMiB())
	}
	e.Apply(128)
	if e.Begin(5, 512, time.Unix(6, 0)); e.SizeMiB() != 512 {
		t.Errorf("new code has %d MiB, which were enough for the last", e.SizeMiB())
	}
}

// need is a function as the decider does not know it: how much an execution
// needs, by chance.
type need struct{ base, spread, big, often float64 }

func (n need) draw(x, y float64) float64 {
	if y < n.often {
		return n.big
	}
	return n.base + n.spread*x
}

// Whatever a function needs, a decider whose suggestions are taken comes to
// rest: amounts change less than once for each step that lies between the
// least and the most.
func TestAmountsComeToRest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := need{
			base: rapid.Float64Range(20, 2000).Draw(t, "base"), spread: rapid.Float64Range(0, 500).Draw(t, "spread"),
			big: rapid.Float64Range(20, 5000).Draw(t, "big"), often: rapid.SampledFrom([]float64{0, 0.002, 0.02, 0.3, 1}).Draw(t, "often"),
		}
		configured := rapid.IntRange(128, 8192).Draw(t, "configured")
		e, rule := ran(configured), Rule{}
		random := rapid.SliceOfN(rapid.Float64Range(0, 1), 97, 97).Draw(t, "chance")
		changes, lastFloor := 0, 0
		for i := range 6000 {
			x, y := random[i%97], math.Mod(random[i*7%97]+random[i/97%97], 1)
			wants, has := n.draw(x, y), e.SizeMiB()
			u := hearth.Use{End: hearth.EndOK, MemoryMiB: has, PeakMiB: wants, Duration: 200 * time.Millisecond, CPU: time.Millisecond, Busy: 200 * time.Millisecond}
			if wants > float64(has) {
				u.End, u.PeakMiB = hearth.EndMemory, float64(has)
			}
			if !e.Add(&u, rule.Recent()) {
				continue
			}
			s := rule.Suggest(e, machine)
			if s.MiB == 0 {
				continue
			}
			if s.MiB == has || s.MiB > machine.MaxMiB && s.Kind == Grow && !s.Revert {
				t.Fatalf("of %d MiB: %+v", has, s)
			}
			if s.Kind == Shrink && s.MiB <= e.FloorMiB {
				t.Fatalf("%d MiB were too little, and are suggested again: %+v", e.FloorMiB, s)
			}
			e.Apply(s.MiB)
			changes++
			if e.FloorMiB < lastFloor {
				t.Fatalf("what was too little is forgotten: %d, then %d", lastFloor, e.FloorMiB)
			}
			lastFloor = e.FloorMiB
		}
		if most := 2 * int(math.Ceil(math.Log(8192/128)/math.Log(step))); changes > most {
			t.Fatalf("the amount changed %d times", changes)
		}
	})
}

func TestQuantilesAreWithinABucketOfTheTruth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.SampledFrom([]*shape{memoryShape, timeShape, coresShape}).Draw(t, "shape")
		values := rapid.SliceOfN(rapid.Float64Range(s.least, s.edge(s.buckets-2)), 1, window-1).Draw(t, "values")
		var h histogram
		for _, v := range values {
			h.add(s, v)
		}
		q := rapid.Float64Range(0.01, 1).Draw(t, "q")
		got := h.quantile(q)
		fits := 0
		for _, v := range values {
			if v <= got*(1+1e-9) {
				fits++
			}
		}
		if float64(fits) < q*float64(len(values))-1e-9 {
			t.Fatalf("%v of the values do not exceed %v; %d of %d do", q, got, len(values)-fits, len(values))
		}
		below := 0
		for _, v := range values {
			if v <= got/math.Exp2(1/float64(s.perOct))*(1-1e-9) {
				below++
			}
		}
		if below == len(values) {
			t.Fatalf("%v is more than a bucket above all of them", got)
		}
	})
}

func TestEvidenceOutlivesItsProcess(t *testing.T) {
	e := ran(1024).adds(2000, hearth.Use{End: hearth.EndOK, PeakMiB: 300, NetworkIn: 1000, NetworkOut: 10}).adds(3, hearth.Use{End: hearth.EndMemory})
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > 1200 {
		t.Errorf("it takes %d bytes on disk", len(b))
	}
	var again Evidence
	if err := json.Unmarshal(b, &again); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(again.Summary(), e.Summary()) || (Rule{}).Suggest(&again, machine) != (Rule{}).Suggest(e, machine) {
		t.Errorf("%+v, was %+v", again.Summary(), e.Summary())
	}
}

func FuzzEvidence(f *testing.F) {
	b, err := json.Marshal(ran(1024).adds(200, hearth.Use{End: hearth.EndOK, PeakMiB: 300}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"peaks":{"from":111,"count":[65535,1]},"configuredMiB":-1}`))
	f.Add([]byte(`{"times":{"from":0,"count":[65535,65535]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var e Evidence
		if json.Unmarshal(b, &e) != nil {
			return
		}
		// Whatever it says can be used and kept.
		e.adds(3, hearth.Use{End: hearth.EndOK, PeakMiB: 50})
		s := Rule{}.Suggest(&e, machine)
		_ = s.Why(&e)
		if e.peaks.n > window || e.times.n > window {
			t.Errorf("%d values", e.peaks.n)
		}
	})
}

func TestWhoWaitsForProcessorsIsTold(t *testing.T) {
	use := func(cpu time.Duration) *Evidence {
		return ran(256).adds(50, hearth.Use{End: hearth.EndOK, PeakMiB: 40, CPU: cpu, Busy: 200 * time.Millisecond})
	}
	if !use(28 * time.Millisecond).Hungry(machine) {
		t.Error("one that uses all of its 0.14 processors is not")
	}
	if use(10 * time.Millisecond).Hungry(machine) {
		t.Error("one that uses a third of them is")
	}
	if e := ran(8192).adds(50, hearth.Use{End: hearth.EndOK, CPU: 800 * time.Millisecond, Busy: 200 * time.Millisecond}); e.Hungry(machine) {
		t.Error("one that has the whole machine is: more of it is not to be had")
	}
}

func TestSuggestionsSayWhy(t *testing.T) {
	for want, e := range map[string]*Evidence{
		"10 of the last 10 executions were ended for want of memory at 256 MiB": ran(256).adds(10, hearth.Use{End: hearth.EndMemory}),
		"of 1024 MiB, 99 % of the executions used at most 41":                   ran(1024).adds(100, hearth.Use{End: hearth.EndOK, PeakMiB: 40}),
	} {
		if got := (Rule{}).Suggest(e, machine).Why(e); !strings.HasPrefix(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
