package sizing

import (
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
)

func BenchmarkAdd(b *testing.B) {
	var e Evidence
	e.Begin(1, 128, time.Time{})
	u := hearth.Use{End: hearth.EndOK, MemoryMiB: 128, PeakMiB: 40, Duration: time.Millisecond, NetworkIn: 100}
	recent := Rule{}.Recent()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		u.Duration = time.Duration(i % 1e6)
		e.Add(&u, recent)
	}
}

func BenchmarkSuggest(b *testing.B) {
	var e Evidence
	e.Begin(1, 1024, time.Time{})
	u := hearth.Use{End: hearth.EndOK, MemoryMiB: 1024, PeakMiB: 40, Duration: time.Millisecond, CPU: time.Millisecond, Busy: 100 * time.Millisecond}
	for range 200 {
		e.Add(&u, 40)
	}
	b.ReportAllocs()
	for b.Loop() {
		if s := (Rule{}).Suggest(&e, Machine{MaxMiB: 4096, FullCPUMiB: 1769}); s.Kind != Shrink {
			b.Fatal(s)
		}
	}
}

func BenchmarkNow(b *testing.B) {
	for b.Loop() {
		time.Now()
	}
}
