package decision_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/decision"
)

func open(t testing.TB, cfg decision.Config) *decision.Recorder {
	t.Helper()
	cfg.Clock = clock.System()
	r, err := decision.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func place(id, function string) *hearth.Decision {
	return &hearth.Decision{Kind: hearth.DecisionPlace, RequestID: id, Account: hearth.DefaultAccount, Function: function, Version: hearth.Latest,
		Chosen: string(hearth.PathReuse), Why: "a container with this code was idle", Instance: "i-1", Container: "c-1",
		Knew: hearth.Knowledge{Idle: 3, FreeMiB: 1024, Committed: 512}, Outcome: "ok",
		Spent: [hearth.Stages]time.Duration{hearth.StageRun: 42 * time.Microsecond}}
}

// An owner finds what became of its code by the request id, in memory and on
// disk, and not what others' code did.
func TestARunOfSharedCodeIsFoundByItsOwner(t *testing.T) {
	dir := t.TempDir()
	id := uuid.NewString()
	want := place(id, "callers")
	want.Owner, want.OwnerFunction, want.Terms, want.Withheld = "111122223333", "archive", "offer o", "why"
	for _, keep := range []int{100, 1} {
		r := open(t, decision.Config{Keep: keep, Dir: dir, MaxBytes: 1 << 20})
		if keep > 1 {
			r.Record(place(id, "own"))
			r.Record(want)
			r.Record(place(uuid.NewString(), "f"))
		}
		for owner, n := range map[hearth.Account]int{"111122223333": 1, "444455556666": 0} {
			ds, err := r.Query(decision.Filter{RequestID: id, Owner: owner})
			if err != nil || len(ds) != n {
				t.Fatalf("%s finds %+v, %v", owner, ds, err)
			}
			if n == 1 && (ds[0].OwnerFunction != "archive" || ds[0].Terms != "offer o" || ds[0].Withheld != "why" || ds[0].Account != hearth.DefaultAccount) {
				t.Errorf("%+v", ds[0])
			}
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRecordedDecisionIsExplained(t *testing.T) {
	r := open(t, decision.Config{})
	before := time.Now()
	id := uuid.NewString()
	r.Record(place("other", "g"))
	r.Record(place(id, "f"))
	ds, err := r.Explain(id)
	if err != nil || len(ds) != 1 {
		t.Fatalf("explain: %v, %v", ds, err)
	}
	d := ds[0]
	if d.Seq != 2 || d.At.Before(before) || d.Mono <= 0 || d.Function != "f" || d.Spent[hearth.StageRun] != 42*time.Microsecond {
		t.Errorf("explained as %+v", d)
	}
	if ds, _ := r.Explain("unknown"); len(ds) != 0 {
		t.Errorf("an unknown request is explained: %+v", ds)
	}
	if ds, _ := r.Explain(""); len(ds) != 0 {
		t.Errorf("no request is explained: %+v", ds)
	}
}

func TestQueryReturnsTheNewestThatFit(t *testing.T) {
	r := open(t, decision.Config{})
	for i := range 10 {
		r.Record(place(fmt.Sprint(i), []string{"even", "odd"}[i%2]))
	}
	r.Record(&hearth.Decision{Kind: hearth.DecisionEvict, Function: "even"})
	for _, c := range []struct {
		name   string
		filter decision.Filter
		want   []uint64
	}{
		{"all", decision.Filter{Limit: 3}, []uint64{11, 10, 9}},
		{"function", decision.Filter{Function: "odd", Limit: 2}, []uint64{10, 8}},
		{"kind", decision.Filter{Kind: hearth.DecisionEvict}, []uint64{11}},
		{"function and kind", decision.Filter{Function: "even", Kind: hearth.DecisionPlace, Limit: 1}, []uint64{9}},
		{"another account", decision.Filter{Account: "999999999999"}, nil},
		{"the future", decision.Filter{Since: time.Now().Add(time.Hour)}, nil},
	} {
		ds, err := r.Query(c.filter)
		var got []uint64
		for _, d := range ds {
			got = append(got, d.Seq)
		}
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v, want %v", c.name, got, err, c.want)
		}
	}
}

func TestMemoryIsBoundedAndKeepsTheNewest(t *testing.T) {
	r := open(t, decision.Config{Keep: 64})
	for i := range 1000 {
		r.Record(place(fmt.Sprint(i), "f"))
	}
	ds, err := r.Query(decision.Filter{Limit: 1000})
	if err != nil || len(ds) != 64 || ds[0].RequestID != "999" || ds[63].RequestID != "936" {
		t.Errorf("%d are kept, from %s on: %v", len(ds), ds[0].RequestID, err)
	}
}

func TestSeqHasNoGapsWhateverRecordsAtOnce(t *testing.T) {
	dir := t.TempDir()
	r := open(t, decision.Config{Keep: 1 << 14, Dir: dir})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 1000 {
				r.Record(place(fmt.Sprintf("%d-%d", g, i), "f"))
			}
		})
	}
	wg.Wait()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, decision.Config{Keep: 1 << 14, Dir: dir})
	for _, r := range []*decision.Recorder{r, again} {
		ds, err := r.Query(decision.Filter{Limit: 10000})
		if err != nil || len(ds) != 8000 {
			t.Fatalf("%d decisions, %v, want 8000", len(ds), err)
		}
		seen := map[string]bool{}
		for i, d := range ds {
			seen[d.RequestID] = true
			if d.Seq != uint64(8000-i) {
				t.Fatalf("decision %d has seq %d", i, d.Seq)
			}
		}
		if len(seen) != 8000 {
			t.Errorf("%d different requests, want 8000", len(seen))
		}
	}
	if n := r.Stats().Dropped; n != 0 {
		t.Errorf("%d were dropped", n)
	}
}

func TestExplainReachesAcrossRestartsAndBeyondMemory(t *testing.T) {
	dir := t.TempDir()
	first, id := "", ""
	for run := range 3 {
		r := open(t, decision.Config{Keep: 16, Dir: dir})
		for i := range 100 {
			id = uuid.NewString()
			if first == "" {
				first = id
			}
			r.Record(place(id, fmt.Sprint("f", run)))
			if i%10 == 0 {
				r.Flush()
			}
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	r := open(t, decision.Config{Keep: 16, Dir: dir})
	for _, c := range []struct {
		id       string
		seq      uint64
		function string
	}{{first, 1, "f0"}, {id, 300, "f2"}} {
		ds, err := r.Explain(c.id)
		if err != nil || len(ds) != 1 || ds[0].Seq != c.seq || ds[0].Function != c.function || ds[0].Knew.FreeMiB != 1024 {
			t.Errorf("explain %s: %+v, %v, want seq %d of %s", c.id, ds, err, c.seq, c.function)
		}
	}
	ds, err := r.Query(decision.Filter{Limit: 1000})
	if err != nil || len(ds) != 300 {
		t.Fatalf("%d decisions in all, %v, want 300", len(ds), err)
	}
	for i, d := range ds {
		if d.Seq != uint64(300-i) {
			t.Fatalf("at %d there is seq %d", i, d.Seq)
		}
	}
}

func TestLogKeepsToItsBoundByForgettingTheOldest(t *testing.T) {
	const most = 1 << 20
	dir := t.TempDir()
	r := open(t, decision.Config{Keep: 1 << 12, Dir: dir, MaxBytes: most})
	for i := range 60000 {
		r.Record(place(uuid.NewString(), "f"))
		if i%1000 == 0 {
			r.Flush()
			if n := onDisk(t, dir); n > most || n != r.Stats().LogBytes {
				t.Fatalf("%d bytes on disk, %d are counted, %d allowed", n, r.Stats().LogBytes, most)
			}
		}
	}
	r.Flush()
	ds, err := r.Query(decision.Filter{Limit: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	// About 70 bytes each: if this fails the format has grown.
	if len(ds) < most*3/4/75 || len(ds) == 60000 {
		t.Errorf("%d decisions are kept in %d bytes", len(ds), most)
	}
	if ds[0].Seq != 60000 || ds[len(ds)-1].Seq != 60000-uint64(len(ds))+1 {
		t.Errorf("kept from %d to %d", ds[len(ds)-1].Seq, ds[0].Seq)
	}
}

func onDisk(t *testing.T, dir string) (n int64) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		n += info.Size()
	}
	return n
}

func TestTornEndOfTheLogIsToleratedAtEveryByte(t *testing.T) {
	dir := t.TempDir()
	r := open(t, decision.Config{Dir: dir})
	for i := range 5 {
		r.Record(place(fmt.Sprint(i), "f"))
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	whole, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	last := 0
	for n := range len(whole) + 1 {
		torn := t.TempDir()
		if err := os.WriteFile(filepath.Join(torn, filepath.Base(files[0])), whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		r := open(t, decision.Config{Dir: torn, Keep: 16})
		ds, err := r.Query(decision.Filter{})
		if err != nil || len(ds) < last || len(ds) > 5 {
			t.Fatalf("torn at %d: %d decisions, %v; there were %d before", n, len(ds), err, last)
		}
		last = len(ds)
		r.Record(place("new", "f"))
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		again := open(t, decision.Config{Dir: torn, Keep: 16})
		if ds, err := again.Explain("new"); err != nil || len(ds) != 1 || ds[0].Seq != uint64(last+1) {
			t.Fatalf("torn at %d, then recorded: %+v, %v", n, ds, err)
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if last != 5 {
		t.Errorf("the whole log has %d decisions, want 5", last)
	}
}

func TestFullDiskDropsAndCountsAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		r := open(t, decision.Config{Dir: dir, Keep: 16})
		link := filepath.Join(dir, fmt.Sprintf("decisions-%020d.log", 1))
		if err := os.Symlink("/dev/full", link); err != nil {
			t.Fatal(err)
		}
		r.Record(place("lost", "f"))
		r.Flush()
		r.Record(place("lost too", "f")) // not tried again so soon
		r.Flush()
		if n := r.Stats().Dropped; n != 2 {
			t.Errorf("%d are counted as dropped, want 2", n)
		}
		if ds, err := r.Explain("lost"); err != nil || len(ds) != 1 {
			t.Errorf("it is not in memory either: %v, %v", ds, err)
		}
		if err := os.Remove(link); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		r.Record(place("kept", "f"))
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		again := open(t, decision.Config{Dir: dir, Keep: 16})
		if ds, err := again.Explain("kept"); err != nil || len(ds) != 1 || ds[0].Seq != 3 {
			t.Errorf("after the disk had room again: %+v, %v", ds, err)
		}
		again.Close()
	})
}

func TestLogIsWrittenSoonWithoutBeingAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, decision.Config{Dir: t.TempDir(), Keep: 16})
		r.Record(place("a", "f"))
		time.Sleep(time.Second)
		one := r.Stats().LogBytes
		if one == 0 {
			t.Error("nothing was written within a second")
		}
		for range 16 { // at once more than half of what memory keeps
			for range 9 {
				r.Record(place("b", "f"))
			}
			synctest.Wait()
		}
		time.Sleep(time.Second)
		if s := r.Stats(); s.Dropped != 0 || s.LogBytes <= one {
			t.Errorf("a burst was not written in time: %+v", s)
		}
		r.Close()
	})
}

func TestFollowYieldsWhatComesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, decision.Config{})
		r.Record(place("before", "f"))
		since := r.Last()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var got []string
		done := make(chan struct{})
		go func() {
			defer close(done)
			for d := range r.Follow(ctx, since, decision.Filter{Function: "f"}) {
				if got = append(got, d.RequestID); len(got) == 3 {
					cancel()
				}
			}
		}()
		for _, id := range []string{"1", "2", "3"} {
			r.Record(place("-", "g"))
			r.Record(place(id, "f"))
			synctest.Wait()
		}
		<-done
		if strings.Join(got, " ") != "1 2 3" {
			t.Errorf("followed %v", got)
		}
	})
}

func BenchmarkRecord(b *testing.B) {
	for _, c := range []struct{ name, dir string }{{"memory", ""}, {"log", b.TempDir()}} {
		b.Run(c.name, func(b *testing.B) {
			r := open(b, decision.Config{Dir: c.dir})
			d := place(uuid.NewString(), "f")
			b.ReportAllocs()
			for b.Loop() {
				r.Record(d)
			}
		})
	}
}

func BenchmarkRecordParallel(b *testing.B) {
	r := open(b, decision.Config{Dir: b.TempDir()})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		d := place(uuid.NewString(), "f")
		for pb.Next() {
			r.Record(d)
		}
	})
}
