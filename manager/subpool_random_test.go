package manager_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
)

// Whatever the price and the amount of variable capacity do, and whoever calls:
// nothing is begun at a price above what its user pays, what runs ends within
// its grace of a price that does not suit, no more is promised than there is
// once the grace is over, and every invocation ends well when capacity comes.
func TestRandomMarketsKeepToEverybodysConstraint(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		type step struct {
			what  int
			price float64
			units int
			user  int
			pause time.Duration
		}
		var steps []step
		for range rapid.IntRange(1, 30).Draw(r, "steps") {
			steps = append(steps, step{
				what: rapid.IntRange(0, 3).Draw(r, "what"), price: float64(rapid.IntRange(0, 4).Draw(r, "price")), units: rapid.IntRange(0, 4).Draw(r, "units"),
				user: rapid.IntRange(1, 3).Draw(r, "user"), pause: time.Duration(rapid.IntRange(0, 4000).Draw(r, "pause")) * time.Millisecond,
			})
		}
		synctest.Test(t, func(t *testing.T) {
			k := newKinds(t, nil)
			defer drain(t, k.Manager, k.w)
			const grace = 5 * time.Second
			price := 0.0
			var mu sync.Mutex
			var wrong []string
			k.w.onInvoke = func(c *fakeContainer, inv *hearth.Invocation) (*hearth.Result, bool, error) {
				began := time.Now()
				select {
				case <-time.After(7 * time.Second):
				case <-c.Done():
					inv.Use.End = hearth.EndCrash
					if time.Since(began) < grace && inv.Capacity == "" {
						mu.Lock()
						wrong = append(wrong, fmt.Sprintf("it was cut after %v", time.Since(began)))
						mu.Unlock()
					}
					return &hearth.Result{FunctionError: "Unhandled"}, false, nil
				}
				return &hearth.Result{}, true, nil
			}
			fs := map[int]*hearth.Function{}
			for user := 1; user <= 3; user++ {
				p := hearth.CapacityPolicy{Kind: "variable", MaxPrice: float64(user), WaitSeconds: 900}
				k.say(acct, fmt.Sprint(user), &p)
				fs[user] = function(acct, fmt.Sprint(user), 256)
			}
			var all sync.WaitGroup
			for _, s := range steps {
				switch s.what {
				case 0, 1:
					all.Go(func() {
						inv := invocation(fs[s.user])
						res, err := k.Invoke(context.Background(), inv)
						mu.Lock()
						defer mu.Unlock()
						// Cut again and again it fails in the end, as its policy says.
						if err != nil && hearth.KindOf(err) != hearth.Service || err == nil && (res.FunctionError != "" || inv.Placement.Price > float64(s.user)) {
							wrong = append(wrong, fmt.Sprintf("of %d: %v %+v at %v", s.user, err, res, inv.Placement.Price))
						}
					})
				case 2:
					price = s.price
					k.Market(quote(price, s.units*256))
				case 3:
					st := quote(price, 1024)
					st.Fresh = false
					k.Market(st)
				}
				time.Sleep(s.pause)
				if s.pause == 0 {
					synctest.Wait()
				}
			}
			k.Market(quote(0.5, 1024))
			all.Wait()
			time.Sleep(2 * grace)
			if s := k.Subpools()[1]; s.CommittedMiB > s.CapacityMiB || s.Waiting > 0 {
				t.Errorf("%+v", s)
			}
			for _, w := range wrong {
				t.Error(w)
			}
		})
		if t.Failed() {
			r.FailNow()
		}
	})
}
