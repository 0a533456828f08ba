package manager_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/manager"
)

func TestSearchOrder(t *testing.T) {
	none := []manager.Room(nil)
	for _, c := range []struct {
		name         string
		rooms        []manager.Room
		exact, blank int
		want         manager.Choice
	}{
		{"nothing at all", none, 0, 0, manager.Choice{Path: hearth.PathCold, Room: -1, Exact: true}},
		{"only the pool", none, 1, 0, manager.Choice{Path: hearth.PathWarm, Room: -1, Ready: true, Exact: true}},
		{"the account's ready slot before the pool", []manager.Room{{FreeMiB: 128, Exact: 1}}, 9, 9,
			manager.Choice{Path: hearth.PathContainer, Ready: true, Exact: true}},
		{"the pool before a slot that must be made", []manager.Room{{FreeMiB: 4096}}, 1, 0,
			manager.Choice{Path: hearth.PathWarm, Room: -1, Ready: true, Exact: true}},
		{"the pool's booted one before the account's blank one", []manager.Room{{FreeMiB: 4096, Blank: 3}}, 1, 0,
			manager.Choice{Path: hearth.PathWarm, Room: -1, Ready: true, Exact: true}},
		{"the account's blank slot before the pool's", []manager.Room{{FreeMiB: 4096, Blank: 1}}, 0, 5,
			manager.Choice{Path: hearth.PathContainer, Ready: true}},
		{"the pool's blank one before a slot that must be made", []manager.Room{{FreeMiB: 4096}}, 0, 1,
			manager.Choice{Path: hearth.PathWarm, Room: -1, Ready: true}},
		{"the account's room before a new instance", []manager.Room{{FreeMiB: 4096}}, 0, 0,
			manager.Choice{Path: hearth.PathContainer, Exact: true}},
		{"no room", []manager.Room{{FreeMiB: 127, Exact: 1}}, 0, 0, manager.Choice{Path: hearth.PathCold, Room: -1, Exact: true}},
		{"the fullest that fits", []manager.Room{{FreeMiB: 100, Exact: 1}, {FreeMiB: 512, Exact: 1}, {FreeMiB: 256, Exact: 1}, {FreeMiB: 256, Exact: 1}}, 0, 0,
			manager.Choice{Path: hearth.PathContainer, Room: 2, Ready: true, Exact: true}},
	} {
		got := manager.Search{}.Choose(128, c.rooms, c.exact, c.blank)
		if got.Why == "" {
			t.Errorf("%s: no reason was given", c.name)
		}
		if got.Why = ""; got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestNoBootIsPutBeforeACallerWhomSomethingReadyCouldServe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rooms := rapid.SliceOf(rapid.Custom(func(t *rapid.T) manager.Room {
			return manager.Room{FreeMiB: rapid.IntRange(0, 512).Draw(t, "free"), Exact: rapid.IntRange(0, 2).Draw(t, "exact"), Blank: rapid.IntRange(0, 2).Draw(t, "blank")}
		})).Draw(t, "rooms")
		mib := rapid.IntRange(1, 512).Draw(t, "mib")
		exact, blank := rapid.IntRange(0, 2).Draw(t, "pool exact"), rapid.IntRange(0, 2).Draw(t, "pool blank")
		c := manager.Search{}.Choose(mib, rooms, exact, blank)

		fits := func(ok func(manager.Room) bool) bool {
			return slices.ContainsFunc(rooms, func(r manager.Room) bool { return r.FreeMiB >= mib && ok(r) })
		}
		ownExact, ownBlank := fits(func(r manager.Room) bool { return r.Exact > 0 }), fits(func(r manager.Room) bool { return r.Blank > 0 })
		if ready := ownExact || ownBlank || exact+blank > 0; c.Ready != ready {
			t.Fatalf("%+v although something ready: %v", c, ready)
		}
		if c.Ready && c.Exact != (ownExact || exact > 0) {
			t.Fatalf("%+v although a booted one is there: %v", c, ownExact || exact > 0)
		}
		if c.Path == hearth.PathContainer && rooms[c.Room].FreeMiB < mib {
			t.Fatalf("%+v does not fit", c)
		}
		if c.Path == hearth.PathCold && fits(func(manager.Room) bool { return true }) {
			t.Fatalf("%+v although an instance of the account has room", c)
		}
	})
}

func TestEvictEndsWhatIsWorthLeastAndNoMoreThanNeeded(t *testing.T) {
	idle := []manager.Idler{
		{MiB: 128, Idle: 10 * time.Second, Life: time.Hour},     // just used, long-lived
		{MiB: 128, Idle: 50 * time.Second, Life: time.Minute},   // nearly over
		{MiB: 128, Idle: 10 * time.Minute, Life: time.Hour},     //
		{MiB: 1024, Idle: 30 * time.Second, Life: time.Minute},  // half
		{MiB: 128, Idle: 11 * time.Minute, Life: 0},             // over
		{MiB: 128, Idle: 10 * time.Minute, Life: 2 * time.Hour}, //
	}
	for _, c := range []struct {
		need int
		want []int
	}{
		{1, []int{4}}, {128, []int{4}}, {129, []int{4, 1}}, {300, []int{4, 1, 3}}, {1300, []int{4, 1, 3, 2}},
		{1664, []int{4, 1, 3, 2, 5, 0}}, {1665, nil},
	} {
		if got := (manager.Evict{}).Choose(c.need, idle); !slices.Equal(got, c.want) {
			t.Errorf("for %d MiB: %v, want %v", c.need, got, c.want)
		}
	}
}

func TestStockFillsWhatLacksMostWithinItsBudget(t *testing.T) {
	s := manager.Stock{Min: map[hearth.Boot]int{"": 4, "node": 2}, Extra: 4, BudgetMiB: 100}
	for _, c := range []struct {
		name    string
		shelves map[hearth.Boot]manager.Shelf
		used    float64
		want    hearth.Boot
		ok      bool
	}{
		{"empty: by name among equals", map[hearth.Boot]manager.Shelf{"": {SlotMiB: 1}, "node": {SlotMiB: 32}}, 0, "", true},
		{"the one that lacks most", map[hearth.Boot]manager.Shelf{"": {SlotMiB: 1, Ready: 2}, "node": {SlotMiB: 32}}, 2, "node", true},
		{"those being made count", map[hearth.Boot]manager.Shelf{"": {SlotMiB: 1, Ready: 4}, "node": {SlotMiB: 32, Ready: 1, Making: 1}}, 68, "", false},
		{"what does not fit is passed over", map[hearth.Boot]manager.Shelf{"": {SlotMiB: 1, Ready: 3}, "node": {SlotMiB: 32, Ready: 1}}, 80, "", true},
		{"what failed is passed over", map[hearth.Boot]manager.Shelf{"": {SlotMiB: 1, Held: true}, "node": {SlotMiB: 32}}, 0, "node", true},
		{"demand raises what is wanted", map[hearth.Boot]manager.Shelf{"python": {SlotMiB: 20, Coming: 3.2, Ready: 2}}, 40, "python", true},
		{"but not for ever", map[hearth.Boot]manager.Shelf{"python": {SlotMiB: 20, Coming: 0.4}}, 0, "", false},
		{"nor without end", map[hearth.Boot]manager.Shelf{"python": {SlotMiB: 1, Coming: 100, Ready: 4}}, 4, "", false},
	} {
		if b, ok := s.Next(c.shelves, c.used); b != c.want || ok != c.ok {
			t.Errorf("%s: %q %v, want %q %v", c.name, b, ok, c.want, c.ok)
		}
	}
	if b, ok := s.Surplus(map[hearth.Boot]manager.Shelf{"": {Ready: 4}, "node": {Ready: 2}, "python": {Ready: 2, Coming: 1}}); !ok || b != "python" {
		t.Errorf("surplus %q %v, want python", b, ok)
	}
}

func TestBackoffGrowsToItsBoundAndIsSpread(t *testing.T) {
	b := manager.NewBackoff(100*time.Millisecond, 30*time.Second, 1)
	if d := b.After(0); d != 0 {
		t.Errorf("after no failure: %v", d)
	}
	for n, whole := range map[int]time.Duration{1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 5: 1600 * time.Millisecond,
		9: 25600 * time.Millisecond, 10: 30 * time.Second, 40: 30 * time.Second, 1 << 30: 30 * time.Second} {
		seen := map[time.Duration]bool{}
		for range 20 {
			d := b.After(n)
			if seen[d] = true; d < whole/2 || d > whole {
				t.Errorf("after %d failures: %v, want %v to %v", n, d, whole/2, whole)
			}
		}
		if len(seen) < 10 {
			t.Errorf("after %d failures twenty waits have %d values", n, len(seen))
		}
	}
	x, y := manager.NewBackoff(time.Second, time.Minute, 7), manager.NewBackoff(time.Second, time.Minute, 7)
	if x.After(3) != y.After(3) {
		t.Error("equal seeds give different waits")
	}
}
