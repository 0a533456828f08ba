package backfill

import (
	"math"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"
)

// TestTenMillionResultsTakeLittleMemory also tells how long it takes to ask.
func TestTenMillionResultsTakeLittleMemory(t *testing.T) {
	files := 20
	if os.Getenv("HEARTH_SCENARIOS") == "full" {
		files = 153 // ten million
	}
	r, err := openResults(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	before := inUse()
	n := 0
	began := time.Now()
	for range files {
		hs := make([]hash, recentMost)
		for i := range hs {
			hs[i] = hashOf(strconv.Itoa(n))
			n++
		}
		if err := r.add(hs); err != nil {
			t.Fatal(err)
		}
	}
	added := time.Since(began)
	took := inUse() - before
	if took > int64(n)/8+1<<20 {
		t.Errorf("%d hashes take %d bytes", n, took)
	}
	began = time.Now()
	const asked = 10_000
	for i := range asked {
		if ok, err := r.has(hashOf(strconv.Itoa(i * (n / asked)))); !ok || err != nil {
			t.Fatalf("%d is not there: %v", i, err)
		}
	}
	t.Logf("%d hashes: %d KiB of memory, added in %v, asked in %v each", n, took>>10, added.Round(time.Second), time.Since(began)/asked)
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
}

// inUse is the least of a few looks: others may allocate between a collection
// and the look after it.
func inUse() int64 {
	least := int64(math.MaxInt64)
	for range 3 {
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		least = min(least, int64(s.HeapAlloc))
	}
	return least
}
