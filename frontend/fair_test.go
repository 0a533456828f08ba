package frontend

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/internal/processors"
)

// shutGate is one that is shut, with so many slots.
func shutGate(slots int) *Gate {
	g := &Gate{Busy: func() (float64, bool) { return 1, true }, Least: slots}
	g.adjust()
	g.mu.Lock()
	g.places.Share(slots)
	g.mu.Unlock()
	return g
}

// One account's flood does not make another wait at all.
func TestAFloodWaitsBehindItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := shutGate(2)
		work := func(account hearth.Account, d time.Duration) time.Duration {
			began := time.Now()
			s, err := g.enter(t.Context(), account)
			if err != nil {
				t.Error(err)
			}
			waited := time.Since(began)
			time.Sleep(d)
			s.leave()
			return waited
		}
		var wg sync.WaitGroup
		for range 200 {
			wg.Go(func() { work("111122223333", 10*time.Millisecond) })
		}
		synctest.Wait()
		var worst time.Duration
		for i := range 20 {
			account := hearth.Account(fmt.Sprintf("2222333344%02d", i%4))
			if w := work(account, time.Millisecond); w > worst {
				worst = w
			}
			time.Sleep(5 * time.Millisecond)
		}
		if worst > 0 {
			t.Errorf("somebody else waited for %v", worst)
		}
		wg.Wait()
		if s := g.Stats(); s.Waiting != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// Over time, accounts that all have more than enough to do use the same of the
// slots, whatever one invocation of theirs costs and however many they send.
func TestAccountsShareSlotsByWhatTheyUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := shutGate(2)
		ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
		defer stop()
		var used [3]atomic.Int64
		var wg sync.WaitGroup
		for i, c := range []struct {
			workers int
			each    time.Duration
		}{{50, 2 * time.Millisecond}, {5, 20 * time.Millisecond}, {4, 5 * time.Millisecond}} {
			for range c.workers {
				wg.Go(func() {
					for ctx.Err() == nil {
						s, err := g.enter(ctx, hearth.Account(fmt.Sprint("11112222333", i)))
						if err != nil {
							return
						}
						time.Sleep(c.each)
						s.leave()
						used[i].Add(int64(c.each))
					}
				})
			}
		}
		wg.Wait()
		least, most := used[0].Load(), used[0].Load()
		for i := range used {
			least, most = min(least, used[i].Load()), max(most, used[i].Load())
		}
		if float64(most) > 1.1*float64(least) {
			t.Errorf("%v, %v, %v", time.Duration(used[0].Load()), time.Duration(used[1].Load()), time.Duration(used[2].Load()))
		}
	})
}

// Accounts that have more than enough to do use the slots in proportion to their
// weights, however many slots there are, whatever one invocation costs and
// whatever their weights become meanwhile.
func TestAccountsShareSlotsByTheirWeights(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(2, 4).Draw(rt, "accounts")
		slots := rapid.IntRange(1, 12).Draw(rt, "slots")
		weights := rapid.SliceOfN(rapid.IntRange(1, 4), n, n).Draw(rt, "weights")
		later := rapid.SliceOfN(rapid.IntRange(1, 4), n, n).Draw(rt, "weights later")
		each := rapid.SliceOfN(rapid.IntRange(2, 10), n, n).Draw(rt, "milliseconds")
		synctest.Test(t, func(t *testing.T) {
			g := shutGate(slots)
			var mu sync.Mutex
			now := weights
			g.Weight = func(a hearth.Account) int {
				mu.Lock()
				defer mu.Unlock()
				return now[a[len(a)-1]-'0']
			}
			ctx, stop := context.WithCancel(t.Context())
			used := make([]atomic.Int64, n)
			var wg sync.WaitGroup
			for i := range n {
				for range 24 {
					wg.Go(func() {
						for ctx.Err() == nil {
							s, err := g.enter(ctx, hearth.Account(fmt.Sprint("11112222333", i)))
							if err != nil {
								return
							}
							time.Sleep(time.Duration(each[i]) * time.Millisecond)
							s.leave()
							used[i].Add(int64(each[i]))
						}
					})
				}
			}
			for _, w := range [][]int{weights, later} {
				mu.Lock()
				now = w
				mu.Unlock()
				time.Sleep(100 * time.Millisecond) // what was let in by the weights before
				for i := range used {
					used[i].Store(0)
				}
				time.Sleep(time.Second)
				least, most := 0.0, 0.0
				for i := range used {
					part := float64(used[i].Load()) / float64(w[i])
					if i == 0 || part < least {
						least = part
					}
					most = max(most, part)
				}
				if most > 1.2*least {
					rt.Errorf("%d slots, weights %v: the accounts used %v, %v to %v a weight", slots, w, used, least, most)
				}
			}
			stop()
			wg.Wait()
		})
	})
}

// One that waits for something itself, or for another invocation, holds nobody
// up for longer than the lease.
func TestALongInvocationHoldsItsSlotNoLongerThanTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := shutGate(1)
		unplaced, err := g.enter(t.Context(), "111122223333")
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		long, err := g.enter(t.Context(), "111122223333")
		if err != nil || time.Since(began) != placing {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		long.begin()
		began = time.Now()
		s, err := g.enter(t.Context(), "111122223333")
		if err != nil || time.Since(began) != lease {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		unplaced.begin() // late
		unplaced.leave()
		s.leave()
		long.leave()
		long.leave()
		if st := g.Stats(); g.places.Taken() != 0 || st.Waiting != 0 {
			t.Errorf("%d slots are taken", g.places.Taken())
		}
	})
}

func TestTheGateShutsUnderPressureAndOpensAfterIt(t *testing.T) {
	part, known := 0.5, true
	g := &Gate{Busy: func() (float64, bool) { return part, known }, Least: 2}
	step := func() GateStats { g.adjust(); return g.Stats() }
	if s := step(); s.Shut {
		t.Error("shut without need")
	}
	part = 0.99
	if s := step(); !s.Shut || s.Slots != 4 {
		t.Errorf("%+v", s)
	}
	step()
	if s := step(); s.Slots != 2 {
		t.Errorf("%+v", s)
	}
	part = 0.85
	if s := step(); s.Slots != 2 || !s.Shut {
		t.Errorf("%+v", s)
	}
	part = 0.3
	n := 0
	for ; step().Shut; n++ {
		if n > 100 {
			t.Fatal("it stays shut")
		}
	}
	part = 1
	step()
	known = false
	if s := step(); s.Shut {
		t.Error("shut without knowing")
	}
}

func TestWhoGoesAwayLeavesNothingBehind(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			g := shutGate(1 + r.IntN(3))
			var wg sync.WaitGroup
			for range 60 {
				account := hearth.Account(fmt.Sprint("11112222333", r.IntN(4)))
				patience, work, after := time.Duration(r.IntN(60))*time.Millisecond, time.Duration(r.IntN(80))*time.Millisecond, time.Duration(r.IntN(50))*time.Millisecond
				wg.Go(func() {
					time.Sleep(after)
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					defer cancel()
					s, err := g.enter(ctx, account)
					if err != nil {
						if !errors.Is(err, context.DeadlineExceeded) {
							t.Error(err)
						}
						return
					}
					time.Sleep(work)
					s.leave()
				})
			}
			if r.IntN(2) == 0 {
				time.Sleep(30 * time.Millisecond)
				g.mu.Lock()
				g.open()
				g.mu.Unlock()
			}
			wg.Wait()
			time.Sleep(2 * lease)
			g.mu.Lock()
			defer g.mu.Unlock()
			if g.places.Taken() != 0 || g.places.Waiting() != 0 {
				t.Errorf("%d taken, %d waiting", g.places.Taken(), g.places.Waiting())
			}
		})
	})
}

// An open gate costs next to nothing, and allocates nothing.
func BenchmarkOpenGate(b *testing.B) {
	g := NewGate(processors.New())
	g.looked.Store(time.Now().Add(time.Hour).UnixNano())
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		if g.look(now); g.shut.Load() {
			b.Fatal("shut")
		}
	}
}

func BenchmarkShutGate(b *testing.B) {
	g := shutGate(8)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			s, err := g.enter(context.Background(), "111122223333")
			if err != nil {
				b.Fatal(err)
			}
			s.leave()
		}
	})
}

// A contest is when several accounts come while the gate is shut, until it opens
// or one has been alone for a while.
func TestAContestIsToldWhenItBeginsAndWhenItIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var idle atomic.Bool
		var mu sync.Mutex // the gate looks by itself, too
		var told []bool
		g := &Gate{Least: 2, Busy: func() (float64, bool) {
			if idle.Load() {
				return 0, true
			}
			return 1, true
		}, Contest: func(yes bool) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, yes)
		}}
		come := func(accounts ...hearth.Account) {
			t.Helper()
			var slots []*slot
			for _, a := range accounts {
				s, err := g.enter(t.Context(), a)
				if err != nil {
					t.Fatal(err)
				}
				slots = append(slots, s)
			}
			g.adjust()
			for _, s := range slots {
				s.leave()
			}
		}
		want := func(when string, all ...bool) {
			t.Helper()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(told, all) {
				t.Errorf("%s it was told %v, want %v", when, told, all)
			}
		}
		come("a", "b")
		want("when the gate was still open")
		come("a")
		want("with one account")
		come("a", "b")
		want("with two", true)
		time.Sleep(contestFor / 2)
		come("a")
		want("soon after the second had gone", true)
		time.Sleep(contestFor)
		come("a")
		want("long after it", true, false)
		come("a", "b")
		for idle.Store(true); g.Stats().Shut; {
			g.adjust()
		}
		want("when the gate had opened", true, false, true, false)
		idle.Store(false)
		come("a", "b")
		come("a", "b")
		time.Sleep(2 * contestFor)
		synctest.Wait()
		want("when nobody had come since", true, false, true, false, true, false)
	})
}
