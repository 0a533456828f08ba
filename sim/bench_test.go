package sim

import (
	"fmt"
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/hearth-faas/hearth/manager"
)

// BenchmarkReplay is a day of seven functions, and of many more like them:
// what it costs grows with the invocations.
func BenchmarkReplay(b *testing.B) {
	few := excerpt(b)
	for _, n := range []int{7, 70, 700} {
		b.Run(fmt.Sprint(n, " functions"), func(b *testing.B) {
			t := &Trace{Length: few.Length}
			for i := range n {
				f := few.Functions[i%len(few.Functions)]
				f.Name = fmt.Sprint(f.Name, i)
				t.Functions = append(t.Functions, f)
			}
			for b.Loop() {
				run(b, t, &Learned{IdleLife: manager.IdleLife{}.Complete(), Lead: standard.Cold}, standard)
			}
			b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(t.Invocations()), "ns/invocation")
		})
	}
}

func TestMemoryOfAReplayDoesNotGrowWithItsInvocations(t *testing.T) {
	grown := func(times uint32) float64 {
		trace := excerpt(t)
		for i := range trace.Functions {
			for m := range trace.Functions[i].Minutes {
				trace.Functions[i].Minutes[m].Count *= times
			}
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		run(t, trace, Fixed(10*time.Minute), standard)
		runtime.ReadMemStats(&after)
		return float64(after.TotalAlloc - before.TotalAlloc)
	}
	once, often := grown(1), grown(10)
	t.Logf("%.0f KiB allocated in all, %.0f with ten times the invocations", once/1024, often/1024)
	// What is there at once grows with how many run at once.
	if often > 10*math.Max(once, 100<<10) {
		t.Errorf("%.0f bytes are allocated, %.0f with ten times the invocations", once, often)
	}
}
