package manager_test

import (
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth/manager"
)

var life = manager.IdleLife{Min: time.Second}.Complete()

// demand feeds a history as a manager does.
type demand struct {
	h  manager.IdleHistory
	at time.Duration
	n  int
}

// began is at a whole minute, as an epoch must be.
const began = 500_000 * time.Hour

func newDemand() *demand { return &demand{at: began} }

// run has n invocations begin at once, and end after d.
func (d *demand) run(n int, took time.Duration) {
	for range n {
		d.n++
		d.h.Rise(d.at, d.n)
	}
	d.at += took
	for range n {
		d.h.Fall(d.at, d.n)
		d.n--
	}
}

func (d *demand) plan(l manager.IdleLife, after time.Duration, change func(*manager.Need)) manager.Plan {
	n := manager.Need{At: d.at + after, Demand: d.n, MiB: 128, Lead: 2 * time.Second, Ahead: true}
	if change != nil {
		change(&n)
	}
	return l.Plan(&d.h, n)
}

func TestIdleLifeFollowsTheIdleTimesOfTheFunction(t *testing.T) {
	every := func(gap time.Duration, times int) *demand {
		d := newDemand()
		for range times {
			d.run(1, 10*time.Millisecond)
			d.at += gap + 7*time.Millisecond
		}
		d.run(1, 10*time.Millisecond)
		return d
	}
	big := func(n *manager.Need) { n.MiB, n.Ahead = 2048, false }
	for _, c := range []struct {
		name  string
		d     *demand
		after time.Duration
		keep  int
	}{
		{"every second: kept for some", every(time.Second, 300), 2 * time.Second, 1},
		{"every second, and then not for a minute: let go", every(time.Second, 300), time.Minute, 0},
		{"every 20 s: kept for that", every(20*time.Second, 300), 20 * time.Second, 1},
		{"every three hours: too long for so much memory", every(3*time.Hour, 6), 30 * time.Minute, 0},
	} {
		if p := c.d.plan(life, c.after, big); p.Keep != c.keep {
			t.Errorf("%s: %+v, want %d", c.name, p, c.keep)
		}
	}
	if p := every(3*time.Hour, 6).plan(life, 30*time.Minute, func(n *manager.Need) { n.Ahead = false }); p.Keep != 1 {
		t.Errorf("every three hours, and small: let go: %+v", p)
	}
	if p := every(3*time.Hour, 6).plan(life, 30*time.Minute, nil); p.Keep != 0 || p.Again > began+21*time.Hour {
		t.Errorf("every three hours, and could be made ahead: kept: %+v", p)
	}
}

func TestEachLevelOfDemandHasIdleTimesOfItsOwn(t *testing.T) {
	d := newDemand()
	for hour := range 4 {
		for range 359 {
			d.run(1, 10*time.Millisecond)
			d.at += 10*time.Second - 10*time.Millisecond
		}
		d.run(10, 10*time.Millisecond)
		if hour < 3 {
			d.at += 10 * time.Second
		}
	}
	p := d.plan(life, 8*time.Second, func(n *manager.Need) { n.MiB = 1024 })
	if p.Keep < 1 || p.Keep > 2 {
		t.Errorf("%+v; one call comes each 10 s, ten at once each hour", p)
	}
	if p := d.plan(life, life.Min/2, nil); p.Keep < 10 {
		t.Errorf("%+v before the least life is over", p)
	}
}

func TestIdleLifeMakesAheadOfACallThatTheClockAnnounces(t *testing.T) {
	d := newDemand()
	rng := rand.New(rand.NewPCG(1, 2))
	for fire := range 12 {
		d.at = began + time.Duration(fire)*30*time.Minute + time.Duration(rng.IntN(3000))*time.Millisecond
		d.run(3, time.Second)
	}
	large := func(n *manager.Need) { n.MiB = 2048 }
	if p := d.plan(life, 5*time.Minute, large); p.Keep != 0 || p.Again > began+12*30*time.Minute {
		t.Errorf("five minutes after it fired: %+v", p)
	}
	due := began + 12*30*time.Minute - d.at
	p := d.plan(life, due-2*time.Second, large)
	if p.Make != 3 || p.Keep < 3 {
		t.Errorf("when it is about to fire, three at once: %+v", p)
	}
	if p.Until < d.at+due || p.Until > d.at+due+61*time.Second {
		t.Errorf("what is made is needed until %v after it is due", p.Until-d.at-due)
	}
	if p := d.plan(life, due+5*time.Minute, large); p.Make != 0 {
		t.Errorf("when it should have fired and has not: %+v", p)
	}
	if p := d.plan(life, due-2*time.Second, func(n *manager.Need) { n.Ahead = false }); p.Make != 0 {
		t.Errorf("made ahead although nobody can: %+v", p)
	}
}

func TestNewFunctionIsJudgedByAllOthers(t *testing.T) {
	pool := func(gap time.Duration) *manager.Prior {
		var p manager.Pool
		for range 30 {
			d := newDemand()
			for range 20 {
				d.run(1, time.Second)
				d.at += gap
			}
			p.Add(&d.h)
		}
		return p.Prior()
	}
	d := newDemand()
	d.run(1, time.Second)
	l := life
	l.Rare = -1
	at := func(p *manager.Prior) int {
		return d.plan(l, 2*time.Minute, func(n *manager.Need) { n.MiB, n.Prior, n.Ahead = 1500, p, false }).Keep
	}
	soon, late := at(pool(3*time.Minute)), at(pool(10*time.Second))
	if soon != 1 || late != 0 {
		t.Errorf("after two minutes %d where others are called each three minutes, %d where each ten seconds", soon, late)
	}
}

// aDemand draws a history.
func aDemand(t *rapid.T) *demand {
	d := newDemand()
	for _, gap := range rapid.SliceOfN(rapid.Int64Range(0, int64(2*time.Hour)), 1, 60).Draw(t, "gaps") {
		d.run(rapid.IntRange(1, 40).Draw(t, "at once"), time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "run")))
		d.at += time.Duration(gap)
	}
	d.run(1, time.Second)
	return d
}

func TestDearerWaitingNeverKeepsMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := aDemand(t)
		l := life
		l.Max = 1000 * time.Hour // a wait that begins earlier is over earlier
		after := time.Duration(rapid.Int64Range(0, int64(5*time.Hour)).Draw(t, "after"))
		ahead := rapid.Bool().Draw(t, "ahead")
		last := -1
		for _, worth := range []float64{1, 1e3, 1e4, 1e5, 1e6, 1e7, 1e9} {
			l.Worth = worth
			h := d.h.Clone()
			p := l.Plan(&h, manager.Need{At: d.at + after, MiB: 512, Ahead: ahead})
			if !ahead && p.Keep < last {
				t.Fatalf("at a worth of %v only %d are kept, %d at less", worth, p.Keep, last)
			}
			last = p.Keep
			h = d.h.Clone()
			if q := l.Plan(&h, manager.Need{At: d.at + after, MiB: 512, Ahead: ahead, Scarce: 8}); !ahead && q.Keep > p.Keep {
				t.Fatalf("%d are kept when memory is short, %d when not", q.Keep, p.Keep)
			}
		}
	})
}

func TestIdleLifeKeepsToItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := aDemand(t)
		l := life
		l.Max = time.Duration(rapid.Int64Range(int64(l.Min), int64(6*time.Hour)).Draw(t, "max"))
		l.Worth = rapid.SampledFrom([]float64{-1, 1e4, 1e6, 1e12}).Draw(t, "worth")
		after := time.Duration(rapid.Int64Range(0, int64(10*time.Hour)).Draw(t, "after"))
		p := d.plan(l, after, func(n *manager.Need) { n.Ahead = false })
		if after >= l.Max && p.Keep > 0 {
			t.Fatalf("%+v %v after the last use, the longest life is %v", p, after, l.Max)
		}
		if after < l.Min && p.Keep < 1 {
			t.Fatalf("%+v %v after the last use, the least life is %v", p, after, l.Min)
		}
		q := d.plan(l, after, nil)
		if q.Make > q.Keep || q.Again <= d.at+after || q.Make > 0 && (q.Until <= d.at+after || q.Until > d.at+after+l.Max+4*time.Second) {
			t.Fatalf("%+v at %v", q, d.at+after)
		}
		if p.Keep > 0 {
			if kept := l.For(&d.h, manager.Need{At: d.at + after, MiB: 128}, 1); kept > l.Max {
				t.Fatalf("the last container's life is %v, the longest %v", kept, l.Max)
			}
		}
	})
}

func TestIdleHistoryIsReadAsItWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := aDemand(t)
		data, err := json.Marshal(d.h)
		if err != nil {
			t.Fatal(err)
		}
		var back manager.IdleHistory
		if err := json.Unmarshal(data, &back); err != nil {
			t.Fatalf("%v: %s", err, data)
		}
		for _, after := range []time.Duration{0, time.Minute, time.Hour} {
			n := manager.Need{At: d.at + after, MiB: 700, Ahead: true}
			h, back := d.h.Clone(), back.Clone()
			if p, q := life.Plan(&h, n), life.Plan(&back, n); p != q {
				t.Fatalf("%v later the plan is %+v, of what was read %+v", after, p, q)
			}
		}
	})
}

func FuzzIdleHistory(f *testing.F) {
	d := newDemand()
	for range 30 {
		d.run(20, time.Second)
		d.at += 5 * time.Minute
	}
	data, err := json.Marshal(d.h)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"gaps":{"99":{}}}`))
	f.Add([]byte(`{"levels":[{"since":-5,"minutes":[1,2,3,4]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var h manager.IdleHistory
		if json.Unmarshal(data, &h) != nil {
			return
		}
		at := h.Last() + time.Minute
		p := life.Plan(&h, manager.Need{At: at, MiB: 128, Ahead: true})
		if p.Make > p.Keep || p.Keep < 0 {
			t.Errorf("%+v", p)
		}
		h.Rise(at, 1)
		h.Fall(at+time.Second, 1)
	})
}

func TestNothingIsAllocatedToLearnFromAnInvocation(t *testing.T) {
	d := newDemand()
	d.run(40, time.Second)
	d.at += time.Second
	d.run(40, time.Second)
	if n := testing.AllocsPerRun(1000, func() {
		d.at += time.Minute
		d.run(40, time.Second)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	need := manager.Need{At: d.at + time.Minute, MiB: 128, Ahead: true}
	if n := testing.AllocsPerRun(1000, func() { need.At += time.Minute; life.Plan(&d.h, need) }); n != 0 {
		t.Errorf("%v allocations to decide", n)
	}
}
