package fleet

import (
	"context"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/sqlite"
)

func records(t *testing.T) store.Store {
	t.Helper()
	s, err := sqlite.Open(context.Background(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func history(t *testing.T, s store.Store, clk hearth.Clock, router string, limit int) *History {
	t.Helper()
	h, err := OpenHistory(context.Background(), HistoryConfig{Store: s, Router: router, Clock: clk, Limit: limit,
		Criteria: func(hearth.Account, string) Criteria { return criteria }})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

var f = &hearth.Function{Account: "111111111111", Name: "f", MemoryMiB: 128}

func TestRoutersShareWhatTheyCount(t *testing.T) {
	s, clk := records(t), clock.NewFake(start)
	a, b := history(t, s, clk, "a", 0), history(t, s, clk, "b", 0)
	defer a.Close()
	defer b.Close()
	for range 160 { // neither sees enough by itself: 40 a window, and 60 are needed
		clk.Advance(750 * time.Millisecond)
		a.Of(f.Account, f.Name).Note(f, clk.Now())
		clk.Advance(750 * time.Millisecond)
		b.Of(f.Account, f.Name).Note(f, clk.Now())
	}
	for name, h := range map[string]*History{"a": a, "b": b} {
		if v := h.Of(f.Account, f.Name).Class(clk.Now()); v.Class != High {
			t.Errorf("router %s takes it for %v: %s", name, v.Class, v.Why)
		}
	}
	// One that has just started knows what the others do.
	c := history(t, s, clk, "c", 0)
	defer c.Close()
	if v := c.Of(f.Account, f.Name).Class(clk.Now()); v.Class != High {
		t.Errorf("a new router takes it for %v: %s", v.Class, v.Why)
	}
}

func TestARouterGoesOnWhereItEnded(t *testing.T) {
	s, clk := records(t), clock.NewFake(start)
	h := history(t, s, clk, "a", 0)
	for range 90 {
		h.Of(f.Account, f.Name).Note(f, clk.Now())
		clk.Advance(500 * time.Millisecond)
	}
	since := h.Of(f.Account, f.Name).Class(clk.Now()).Since
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	h = history(t, s, clk, "a", 0)
	defer h.Close()
	v := h.Of(f.Account, f.Name).Class(clk.Now())
	if v.Class != High || !v.Since.Equal(since) || h.Of(f.Account, f.Name).Seen(clk.Now()).Count < 60 {
		t.Errorf("after a restart %+v, was since %v", v, since)
	}
}

func TestAnEmptiedHistoryIsNoHistoryAndFillsAnew(t *testing.T) {
	s, clk := records(t), clock.NewFake(start)
	h := history(t, s, clk, "a", 0)
	defer h.Close()
	hot := func() {
		for range 240 {
			h.Of(f.Account, f.Name).Note(f, clk.Now())
			clk.Advance(250 * time.Millisecond)
		}
	}
	hot()
	if err := h.Empty(context.Background()); err != nil {
		t.Fatal(err)
	}
	if v := h.Of(f.Account, f.Name).Class(clk.Now()); v.Class != Low {
		t.Errorf("emptied, it is %v: %s", v.Class, v.Why)
	}
	hot()
	if v := h.Of(f.Account, f.Name).Class(clk.Now()); v.Class != High {
		t.Errorf("a window later it is %v: %s", v.Class, v.Why)
	}
}

func TestADamagedRecordCostsOnlyItself(t *testing.T) {
	s, clk := records(t), clock.NewFake(start)
	h := history(t, s, clk, "a", 0)
	h.Of(f.Account, f.Name).Note(f, clk.Now())
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Update(context.Background(), func(tx store.Tx) error { return tx.Put(bucket, "b/111111111111/g", []byte("{")) }); err != nil {
		t.Fatal(err)
	}
	h = history(t, s, clk, "a", 0)
	defer h.Close()
	if got := h.Of(f.Account, f.Name).Seen(clk.Now()).Count; got != 1 {
		t.Errorf("counted %v", got)
	}
}

func TestHistoryIsBounded(t *testing.T) {
	clk := clock.NewFake(start)
	h := history(t, nil, clk, "a", 640)
	defer h.Close()
	for i := range 5000 {
		g := &hearth.Function{Account: "111111111111", Name: string(rune('a' + i))}
		h.Of(g.Account, g.Name).Note(g, clk.Now())
		clk.Advance(time.Millisecond)
	}
	n := 0
	h.Each(func(*Code) { n++ })
	if n > 640 {
		t.Errorf("%d functions are known", n)
	}
}

func TestCountingAllocatesNothing(t *testing.T) {
	clk := clock.NewFake(start)
	h := history(t, nil, clk, "a", 0)
	defer h.Close()
	h.Of(f.Account, f.Name).Note(f, clk.Now())
	if n := testing.AllocsPerRun(100, func() { h.Of(f.Account, f.Name).Note(f, clk.Now()) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
