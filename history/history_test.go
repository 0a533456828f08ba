package history

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/sqlite"
)

type seen struct {
	N int `json:"n"`
}

var background = context.Background()

type world struct {
	t     *testing.T
	clock *clock.Fake
	store store.Store
}

func newWorld(t *testing.T) *world {
	s, err := sqlite.Open(background, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &world{t, clock.NewFake(time.Unix(1_700_000_000, 0)), s}
}

func (w *world) open(limit int) *Table[seen] {
	w.t.Helper()
	table, err := Open[seen](background, Config{Store: w.store, Bucket: "seen", Clock: w.clock, Limit: limit})
	if err != nil {
		w.t.Fatal(err)
	}
	return table
}

func count(e *Entry[seen]) (n int) {
	if e == nil {
		return -1
	}
	e.View(func(s *seen) { n = s.N })
	return n
}

func TestWhatWasLearnedIsOnDiskAfterAMomentAndAfterClose(t *testing.T) {
	w := newWorld(t)
	a := w.open(0)
	a.Of("f").Update(func(s *seen) { s.N = 3 })
	if got := count(w.open(0).Find("f")); got != -1 {
		t.Errorf("it is on disk at once: %d", got)
	}
	w.clock.Advance(time.Minute)
	if got := count(w.open(0).Find("f")); got != 3 {
		t.Errorf("after a minute %d is on disk", got)
	}
	a.Of("f").Update(func(s *seen) { s.N++ })
	a.Of("g").Update(func(s *seen) { s.N = 1 })
	a.Forget("g")
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	b := w.open(0)
	if got, g := count(b.Find("f")), b.Find("g"); got != 4 || g != nil {
		t.Errorf("after Close %d is on disk, and g: %v", got, g)
	}
}

func TestThoseUsedLongestAgoAreForgottenFirst(t *testing.T) {
	w := newWorld(t)
	table := w.open(100)
	for i := range 100 {
		table.Of(fmt.Sprint(i)).Update(func(s *seen) { s.N = i })
		w.clock.Advance(time.Millisecond)
	}
	table.Of("0").Update(func(s *seen) {})
	table.Of("new").Update(func(s *seen) {})
	if table.Find("0") == nil || table.Find("new") == nil || table.Find("99") == nil {
		t.Error("one that was used lately is forgotten")
	}
	for i := 1; i <= 10; i++ {
		if table.Find(fmt.Sprint(i)) != nil {
			t.Errorf("%d, used long ago, is kept", i)
		}
	}
	if err := table.Close(); err != nil {
		t.Fatal(err)
	}
	if got := w.open(100).Len(); got != table.Len() {
		t.Errorf("%d entries are on disk, %d in memory", got, table.Len())
	}
}

func TestADamagedRecordIsForgottenAndTheOthersAreRead(t *testing.T) {
	w := newWorld(t)
	err := w.store.Update(background, func(tx store.Tx) error {
		return errors.Join(tx.Put("seen", "bad", []byte("{")), tx.Put("seen", "good", []byte(`{"n":7}`)))
	})
	if err != nil {
		t.Fatal(err)
	}
	table := w.open(0)
	if table.Find("bad") != nil || count(table.Find("good")) != 7 {
		t.Errorf("bad is %v, good is %d", table.Find("bad"), count(table.Find("good")))
	}
}

// failing fails every Update until it is told not to.
type failing struct {
	store.Store
	err error
}

func (f *failing) Update(ctx context.Context, fn func(store.Tx) error) error {
	if f.err != nil {
		return f.err
	}
	return f.Store.Update(ctx, fn)
}

func TestWhatCouldNotBeWrittenIsWrittenTheNextTime(t *testing.T) {
	w := newWorld(t)
	disk := &failing{w.store, errors.New("disk full")}
	table, err := Open[seen](background, Config{Store: disk, Bucket: "seen", Clock: w.clock})
	if err != nil {
		t.Fatal(err)
	}
	table.Of("f").Update(func(s *seen) { s.N = 5 })
	if err := table.Flush(background); err == nil {
		t.Fatal("a full disk is no error")
	}
	disk.err = nil
	if err := table.Flush(background); err != nil {
		t.Fatal(err)
	}
	if got := count(w.open(0).Find("f")); got != 5 {
		t.Errorf("%d is on disk", got)
	}
}

func TestHammer(t *testing.T) {
	w := newWorld(t)
	table := w.open(50)
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range 500 {
				table.Of(fmt.Sprint((g + i) % 80)).Update(func(s *seen) { s.N++ })
				if i%100 == 0 {
					if err := table.Flush(background); err != nil {
						t.Error(err)
					}
				}
				if i%50 == 0 {
					table.Forget(fmt.Sprint(i % 80))
				}
			}
		})
	}
	all.Wait()
	if err := table.Close(); err != nil {
		t.Fatal(err)
	}
	if n := table.Len(); n > 50 {
		t.Errorf("%d entries, the limit is 50", n)
	}
	if got := w.open(50).Len(); got != table.Len() {
		t.Errorf("%d entries are on disk, %d in memory", got, table.Len())
	}
}
