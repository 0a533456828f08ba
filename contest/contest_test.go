package contest_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/contest"
)

const tick = 100 * time.Millisecond

func one(hearth.Account) int { return 1 }

func TestWhoUsesMoreThanItsShareYieldsWhileOthersWantTheProcessors(t *testing.T) {
	var j contest.Judge
	light := func(used map[hearth.Account]time.Duration) map[hearth.Account]time.Duration {
		for i := range 9 {
			used[hearth.Account(fmt.Sprint("light", i))] = time.Millisecond
		}
		return used
	}
	yields := j.Look(tick, light(map[hearth.Account]time.Duration{"flood": 150 * time.Millisecond}), one)
	share, yes := yields["flood"]
	if !yes || len(yields) != 1 {
		t.Fatalf("%v yield", yields)
	}
	if share.Used < .9 || share.Used > 1 || share.Own < .099 || share.Own > .101 {
		t.Errorf("its share is %+v", share)
	}
	// Another that is beyond its share, and far behind, does not yield.
	for range 20 {
		yields = j.Look(tick, light(map[hearth.Account]time.Duration{"flood": 150 * time.Millisecond, "burst": 30 * time.Millisecond}), one)
	}
	if _, yes := yields["flood"]; !yes || len(yields) != 1 {
		t.Errorf("%v yield beside a burst", yields)
	}
	// The others have gone: it is alone.
	for n := 0; len(yields) > 0; n++ {
		if n == 100 {
			t.Fatal("it yields to nobody")
		}
		yields = j.Look(tick, map[hearth.Account]time.Duration{"flood": 200 * time.Millisecond}, one)
	}
	// Two that want as much as each other go beside each other, before nobody.
	for range 20 {
		yields = j.Look(tick, light(map[hearth.Account]time.Duration{"flood": 90 * time.Millisecond, "flood2": 90 * time.Millisecond}), one)
	}
	if _, other := yields["flood2"]; !other || len(yields) != 2 {
		t.Errorf("%v yield of two that flood", yields)
	}
	// Nobody yields while all use the same.
	j = contest.Judge{}
	for range 20 {
		if yields = j.Look(tick, map[hearth.Account]time.Duration{"a": 90 * time.Millisecond, "b": 90 * time.Millisecond}, one); len(yields) != 0 {
			t.Fatalf("%v yield of two that use the same", yields)
		}
	}
}

func TestAnAccountOfMoreWeightMayUseMore(t *testing.T) {
	used := map[hearth.Account]time.Duration{"heavy": 80 * time.Millisecond, "a": 20 * time.Millisecond}
	for weight, want := range map[int]bool{1: true, 4: false} {
		var j contest.Judge
		_, yields := j.Look(tick, used, func(a hearth.Account) int {
			if a == "heavy" {
				return weight
			}
			return 1
		})["heavy"]
		if yields != want {
			t.Errorf("with weight %d it yields: %v", weight, yields)
		}
	}
}

// Whatever accounts want of a machine on which who yields has what is left,
// nobody is kept from its share, and what is there is used.
func TestNobodyIsKeptFromItsShare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 12).Draw(t, "accounts")
		before, want, weights := map[hearth.Account]float64{}, map[hearth.Account]float64{}, map[hearth.Account]int{}
		var sum float64
		part := rapid.Float64Range(.01, 1) // of all processors' time
		for i := range n {
			a := hearth.Account(fmt.Sprint(i))
			before[a], want[a] = part.Draw(t, "wanted"), part.Draw(t, "wants")
			weights[a] = rapid.IntRange(1, 4).Draw(t, "weight")
			sum += float64(weights[a])
		}
		weight := func(a hearth.Account) int { return weights[a] }
		var j contest.Judge
		yields := map[hearth.Account]contest.Share{}
		got := map[hearth.Account]float64{}
		const earlier, looks = 30, 600
		for look := range earlier + looks {
			want := want
			if look < earlier {
				want = before
			}
			var all float64
			used := map[hearth.Account]time.Duration{}
			first := map[hearth.Account]float64{}
			rest := map[hearth.Account]float64{}
			for a, w := range want {
				all += w
				if _, yes := yields[a]; yes {
					rest[a] = w
				} else {
					first[a] = w
				}
			}
			left := 1.0
			for _, some := range []map[hearth.Account]float64{first, rest} {
				for a, part := range divide(left, some, weight) {
					left -= part
					if look >= earlier {
						got[a] += part
					}
					used[a] = time.Duration(part * float64(tick))
				}
			}
			if left > 1e-6 && all > 1 {
				t.Fatalf("%.3f is not used", left)
			}
			yields = j.Look(tick, used, weight)
		}
		for a, w := range want {
			if own := min(w, float64(weights[a])/sum); got[a]/looks < .7*own {
				t.Fatalf("%s of weight %d wants %.3f and has got %.3f of %.3f; all want %v", a, weights[a], w, got[a]/looks, own, want)
			}
		}
	})
}

// divide gives each what it wants, or its part by weight.
func divide(all float64, want map[hearth.Account]float64, weight func(hearth.Account) int) map[hearth.Account]float64 {
	got, open := map[hearth.Account]float64{}, map[hearth.Account]bool{}
	for a := range want {
		open[a] = true
	}
	for len(open) > 0 && all > 1e-12 {
		var sum float64
		for a := range open {
			sum += float64(weight(a))
		}
		given := 0.0
		for a := range open {
			part := min(want[a]-got[a], all*float64(weight(a))/sum)
			got[a] += part
			given += part
			if want[a]-got[a] < 1e-12 {
				delete(open, a)
			}
		}
		if all -= given; given < 1e-12 {
			break
		}
	}
	return got
}
