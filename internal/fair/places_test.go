package fair

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
)

func account(n int) hearth.Account { return hearth.Account(fmt.Sprintf("11112222%04d", n)) }

func (p *Place) isHad() bool {
	select {
	case <-p.Had():
		return true
	default:
		return false
	}
}

// Whoever comes and goes, nobody waits for a place of his account's own or while
// there is room, an account's are served as they came, and in the end nothing is
// kept.
func TestNobodyWaitsWithoutNeed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var now time.Time
		lead := rapid.SampledFrom([]time.Duration{0, 5 * time.Millisecond}).Draw(t, "lead")
		q := Places{Now: func() time.Time { return now }, Entry: time.Millisecond, Lead: lead}
		joined := map[hearth.Account][]*Place{}
		t.Repeat(map[string]func(*rapid.T){
			"join": func(t *rapid.T) {
				a := account(rapid.IntRange(0, 3).Draw(t, "account"))
				weight := rapid.IntRange(-1, 4).Draw(t, "weight")
				joined[a] = append(joined[a], q.Join(a, weight, min(weight, 2)))
			},
			"leave": func(t *rapid.T) {
				a := account(rapid.IntRange(0, 3).Draw(t, "account"))
				if len(joined[a]) == 0 {
					return // nobody is there
				}
				n := rapid.IntRange(0, len(joined[a])-1).Draw(t, "which")
				now = now.Add(time.Duration(rapid.IntRange(0, 9).Draw(t, "ms")) * time.Millisecond)
				q.Leave(joined[a][n])
				joined[a] = slices.Delete(joined[a], n, n+1)
			},
			"share": func(t *rapid.T) { q.Share(rapid.SampledFrom([]int{0, 1, 2, 5, Unbounded}).Draw(t, "room")) },
			"even":  func(*rapid.T) { q.Even() },
			"": func(t *rapid.T) {
				taken, waiting := 0, 0
				for a, places := range joined {
					had := 0
					for n, p := range places {
						if p.isHad() {
							had++
						} else {
							waiting++
						}
						if n > 0 && p.isHad() && !places[n-1].isHad() {
							t.Fatalf("%s: one who came later was let in before", a)
						}
					}
					taken += had
					if s := q.shares[a]; had < len(places) && q.mayOwn(s) {
						t.Fatalf("%s waits and has %d places, of which %d are its own", a, had, s.own)
					}
				}
				if taken != q.Taken() || waiting != q.Waiting() {
					t.Fatalf("%d, %d are told of %d taken, %d waiting", q.Taken(), q.Waiting(), taken, waiting)
				}
				if waiting > 0 && taken < q.Room() {
					t.Fatalf("%d wait, and %d of %d places are taken", waiting, taken, q.Room())
				}
			},
		})
		for _, places := range joined {
			for _, p := range places {
				q.Leave(p)
			}
		}
		if q.Even(); q.Taken() != 0 || q.Waiting() != 0 || len(q.shares) != 0 {
			t.Fatalf("%d taken, %d waiting, %d accounts", q.Taken(), q.Waiting(), len(q.shares))
		}
	})
}

// Accounts that all want more than there is have places for times in proportion
// to their weights, however many places there are, whatever each takes, and
// whatever the weights become.
func TestAccountsHavePlacesByTheirWeights(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 4).Draw(t, "accounts")
		each := rapid.SliceOfN(rapid.IntRange(2, 40), n, n).Draw(t, "milliseconds")
		weights := rapid.SliceOfN(rapid.IntRange(1, 5), n, n).Draw(t, "weights")
		var now time.Duration
		q := Places{Now: func() time.Time { return time.Time{}.Add(now) }, Entry: time.Millisecond}
		own := func(weight int) int { return weight }
		if rapid.Bool().Draw(t, "lead") { // in place of places by the weight
			q.Lead = 100 * time.Millisecond
			own = func(int) int { return 1 }
		}
		q.Share(rapid.IntRange(1, 12).Draw(t, "room"))
		type work struct {
			of           int
			place        *Place
			began, until time.Duration
		}
		waiting, running := make([][]*work, n), []*work{}
		join := func(i int) {
			waiting[i] = append(waiting[i], &work{of: i, place: q.Join(account(i), weights[i], own(weights[i]))})
		}
		for i := range n {
			for range 20 {
				join(i)
			}
		}
		run := func(until time.Duration) (used []time.Duration) {
			used = make([]time.Duration, n)
			for {
				for i, all := range waiting {
					for ; len(all) > 0 && all[0].place.isHad(); all = all[1:] {
						all[0].began, all[0].until = now, now+time.Duration(each[i])*time.Millisecond
						running = append(running, all[0])
					}
					waiting[i] = all
				}
				w := slices.MinFunc(running, func(a, b *work) int { return cmp.Compare(a.until, b.until) })
				if now = w.until; now > until {
					return used
				}
				running = slices.DeleteFunc(running, func(x *work) bool { return x == w })
				q.Leave(w.place)
				used[w.of] += now - w.began
				join(w.of)
			}
		}
		for range 2 {
			run(now + time.Second) // what was let in by the weights before
			used := run(now + 4*time.Second)
			var parts []float64
			for i, u := range used {
				parts = append(parts, u.Seconds()/float64(weights[i]))
			}
			// One may be ahead by the lead and by what is under way.
			if slices.Max(parts) > 1.1*slices.Min(parts)+(q.Lead+50*time.Millisecond).Seconds() {
				t.Fatalf("weights %v, %d places: used %v, by the weights %v", weights, q.Room(), used, parts)
			}
			weights = rapid.SliceOfN(rapid.IntRange(1, 5), n, n).Draw(t, "weights later")
		}
	})
}

// What somebody had while nobody waited is not held against him once it was
// forgotten, and nobody saves up by staying away.
func TestWhoStayedAwayHasSavedNothing(t *testing.T) {
	const one, other, third hearth.Account = "111122223333", "444455556666", "777788889999"
	now := time.Time{}
	q := Places{Now: func() time.Time { return now }, Entry: time.Millisecond}
	q.Share(2)
	a, b := q.Join(one, 1, 1), q.Join(one, 1, 1)
	waits := q.Join(one, 1, 1)
	now = now.Add(time.Hour)
	q.Leave(a) // which was long
	if !waits.isHad() {
		t.Fatal("it waits for nobody")
	}
	late, later := q.Join(other, 1, 1), q.Join(other, 1, 1)
	own := q.Join(one, 1, 1)
	if !late.isHad() || later.isHad() || own.isHad() {
		t.Fatal("one has two places, and the other its own")
	}
	q.Leave(b)
	if q.Leave(late); !later.isHad() || own.isHad() {
		t.Fatal("it is not the turn of who has used less")
	}
	q.Leave(waits)
	q.Leave(own)
	q.Leave(later)
	if q.Even(); len(q.shares) != 0 {
		t.Errorf("%d accounts are kept", len(q.shares))
	}
	if p := q.Join(third, 0, 0); !p.isHad() {
		t.Error("it waits for nobody")
	}
}
