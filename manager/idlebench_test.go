package manager_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/hearth-faas/hearth/manager"
)

// histories are those of n functions, each of which was called 50 times by up
// to three at once.
func histories(n int) []manager.IdleHistory {
	all := make([]manager.IdleHistory, n)
	for i := range all {
		d := newDemand()
		for c := range 50 {
			d.run(1+c%3, time.Second)
			d.at += time.Duration(1+(i*7+c*3)%90) * 10 * time.Second
		}
		all[i] = d.h
	}
	return all
}

func BenchmarkIdleHistoryRiseAndFall(b *testing.B) {
	d := newDemand()
	d.run(1, time.Second)
	b.ReportAllocs()
	for b.Loop() {
		d.at += time.Second
		d.h.Rise(d.at, 1)
		d.h.Fall(d.at, 1)
	}
}

// BenchmarkIdleLifePlan shows that a decision takes as long whether there are
// a hundred functions or a hundred thousand: it looks at one of them. What
// grows is what the processor's caches do not hold.
func BenchmarkIdleLifePlan(b *testing.B) {
	for _, n := range []int{100, 10_000, 100_000} {
		b.Run(fmt.Sprint(n, " functions"), func(b *testing.B) {
			all := histories(n)
			var pool manager.Pool
			for i := range all {
				pool.Add(&all[i])
			}
			need := manager.Need{MiB: 512, Ahead: true, Prior: pool.Prior()}
			for i := range all { // what is found once is remembered
				need.At = all[i].Last() + 2*time.Minute
				life.Plan(&all[i], need)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				h := &all[i%n]
				need.At = h.Last() + 2*time.Minute
				life.Plan(h, need)
				i++
			}
		})
	}
}

func TestMemoryOfIdleHistoriesGrowsWithTheFunctionsOnly(t *testing.T) {
	size := func(n int) float64 {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.GC() // the first one only retires what pools hold
		runtime.ReadMemStats(&before)
		all := histories(n)
		runtime.GC()
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(all)
		return float64(after.HeapAlloc-before.HeapAlloc) / float64(n)
	}
	few, many := size(1000), size(10_000)
	t.Logf("%.0f bytes for each of 1,000 functions, %.0f of 10,000", few, many)
	if many > 4096 || many > 1.2*few+200 {
		t.Errorf("%.0f bytes for each of 1,000 functions with three at once, %.0f of 10,000", few, many)
	}
}

func TestIdleHistoryIsBoundedByTheHighestDemand(t *testing.T) {
	d := newDemand()
	for range 3 {
		d.run(20_000, time.Second)
		d.at += time.Minute
	}
	data, err := d.h.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > 32<<10 {
		t.Errorf("%d bytes on disk after 20,000 at once", len(data))
	}
	least := 1.0
	for range 5 { // others in this process may allocate meanwhile
		least = min(least, testing.AllocsPerRun(3, func() { d.at += time.Minute; d.run(20_000, time.Second) }))
	}
	if least != 0 {
		t.Errorf("%v allocations for 20,000 at once, as often before", least)
	}
}

// BenchmarkIdleHistoryRead is what a start takes for each function of which
// something was learned.
func BenchmarkIdleHistoryRead(b *testing.B) {
	data, err := histories(1)[0].MarshalJSON()
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		var h manager.IdleHistory
		if err := h.UnmarshalJSON(data); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPrior is what the sweep does each ten minutes.
func BenchmarkPriorOf10000Functions(b *testing.B) {
	all := histories(10_000)
	for b.Loop() {
		var p manager.Pool
		for i := range all {
			p.Add(&all[i])
		}
		p.Prior()
	}
}
