package prediction_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/manager"
	"github.com/hearth-faas/hearth/prediction"
)

func (w *world) trigger(name, run string) (token string) {
	w.t.Helper()
	token, err := w.p.SetTrigger(context.Background(), prediction.Trigger{Account: account, Name: name, Run: run, Functions: []string{"y"}})
	if err != nil {
		w.t.Fatal(err)
	}
	return token
}

func (w *world) fire(name string) {
	w.t.Helper()
	if err := w.p.Fire(account, name); err != nil {
		w.t.Fatal(err)
	}
}

// opens fires n triggers, one each so often; each is followed by 0 to 6 calls
// of y within 3 to 8 s. It returns how many calls there were.
func (w *world) opens(n int, each time.Duration, random *rand.Rand, fire func()) (calls int) {
	for range n {
		fire()
		for range random.IntN(7) {
			calls++
			time.AfterFunc(3*time.Second+time.Duration(random.Int64N(int64(5*time.Second))), func() {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.requests++
				inv := &hearth.Invocation{RequestID: "y" + string(rune(w.requests)), Account: account, Name: "y",
					Function: &hearth.Function{Account: account, Name: "y", Version: hearth.Latest, State: hearth.Active}}
				inv.Timeline.Begin(time.Now())
				w.p.Arrived(inv)
			})
		}
		time.Sleep(each)
	}
	return calls
}

func TestTheNumberThatFollowsATriggerIsPredicted(t *testing.T) {
	predict(t, func(w *world) {
		w.policy.PreTrigger.WindowSeconds = 10
		w.busy = 30 * time.Second // each needs an environment of its own
		w.cold = 4 * time.Second
		w.trigger("page_open", "")
		random := rand.New(rand.NewPCG(3, 4))
		w.opens(300, 2*time.Second, random, func() { w.fire("page_open") })
		time.Sleep(time.Minute)
		w.take(manager.LevelContainer)
		began := time.Now()
		calls := w.opens(100, 50*time.Millisecond, random, func() { w.fire("page_open") })
		most := 0
		var until time.Time
		for _, p := range w.take(manager.LevelContainer) {
			most = max(most, p.Count)
			until = p.Until
		}
		if most < calls*8/10 || most > calls*3/2 {
			t.Errorf("%d calls follow, %d environments were asked for", calls, most)
		}
		if d := until.Sub(began); d < 10*time.Second || d > 30*time.Second {
			t.Errorf("what is not used is released after %v", d)
		}
	})
}

func TestShortCallsShareEnvironments(t *testing.T) {
	predict(t, func(w *world) {
		w.policy.PreTrigger.WindowSeconds = 10
		w.busy = 100 * time.Millisecond
		w.trigger("page_open", "")
		random := rand.New(rand.NewPCG(3, 4))
		w.opens(100, 2*time.Second, random, func() { w.fire("page_open") })
		time.Sleep(time.Minute)
		w.take(manager.LevelContainer)
		w.opens(100, 50*time.Millisecond, random, func() { w.fire("page_open") })
		most := 0
		for _, p := range w.take(manager.LevelContainer) {
			most = max(most, p.Count)
		}
		if most < 2 || most > 20 {
			t.Errorf("for some 300 calls of 100 ms in 10 s %d environments were asked for", most)
		}
	})
}

func TestARunOfAnotherFunctionIsATrigger(t *testing.T) {
	predict(t, func(w *world) {
		w.policy.PreTrigger.WindowSeconds = 10
		w.trigger("opens", "x")
		random := rand.New(rand.NewPCG(5, 6))
		run := func() { w.call("x", nil) }
		w.opens(40, 15*time.Second, random, run)
		w.take(manager.LevelContainer)
		began := time.Now()
		w.call("x", nil)
		time.Sleep(15 * time.Second)
		asked := w.take(manager.LevelContainer)
		if len(asked) == 0 || asked[0].Function.Name != "y" {
			t.Fatalf("%v", asked)
		}
		// The first come after 3 s, and a start takes 100 ms.
		if at := asked[0].at.Sub(began); at < 2*time.Second || at > 3*time.Second {
			t.Errorf("it was asked for after %v", at)
		}
	})
}

func TestATriggerThatNothingFollowsLosesItsWeight(t *testing.T) {
	predict(t, func(w *world) {
		w.policy.PreTrigger.WindowSeconds = 10
		w.trigger("page_open", "")
		random := rand.New(rand.NewPCG(7, 8))
		fire := func() { w.fire("page_open") }
		w.opens(50, 12*time.Second, random, fire)
		w.take(manager.LevelContainer)
		for range 200 {
			fire()
			time.Sleep(12 * time.Second)
		}
		w.take(manager.LevelContainer)
		for range 50 {
			fire()
			time.Sleep(12 * time.Second)
		}
		if n := len(w.take(manager.LevelContainer)); n != 0 {
			t.Errorf("after 200 triggers in vain %d more had something made ready", n)
		}
	})
}

func TestATriggerIsHeededOnlySoOftenAndOnlyWithItsToken(t *testing.T) {
	predict(t, func(w *world) {
		w.policy.PreTrigger.PerMinute = 10
		token := w.trigger("page_open", "")
		refused := 0
		for range 25 {
			if err := w.p.FireWith(account, "page_open", token); hearth.KindOf(err) == hearth.TooManyRequests {
				refused++
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if refused != 15 {
			t.Errorf("%d of 25 at once were refused, with 10 a minute", refused)
		}
		time.Sleep(time.Minute)
		if err := w.p.FireWith(account, "page_open", token); err != nil {
			t.Errorf("a minute later: %v", err)
		}
		for _, bad := range []struct {
			account     hearth.Account
			name, token string
		}{{account, "page_open", "x"}, {account, "page_open", ""}, {account, "other", token}, {other, "page_open", token}} {
			if err := w.p.FireWith(bad.account, bad.name, bad.token); hearth.KindOf(err) != hearth.AccessDenied {
				t.Errorf("%+v: %v", bad, err)
			}
		}
		w.trigger("runs", "x")
		if err := w.p.FireWith(account, "runs", ""); hearth.KindOf(err) != hearth.AccessDenied {
			t.Errorf("a trigger that has no token: %v", err)
		}
	})
}

func TestAHintIsHeededAtItsTimeAlsoAfterARestart(t *testing.T) {
	predict(t, func(w *world) {
		at := time.Now().Add(time.Hour)
		h, err := w.p.Hint(context.Background(), prediction.Hint{Account: account, Function: "y", Count: 7, At: at, Until: at.Add(time.Minute)})
		if err != nil || h.ID == "" {
			t.Fatal(h, err)
		}
		w.close()
		w.open()
		time.Sleep(time.Hour)
		asked := w.take(manager.LevelContainer)
		if len(asked) != 1 || asked[0].Count != 7 || !asked[0].Until.Equal(at.Add(time.Minute)) {
			t.Fatalf("%+v", asked)
		}
		if early := at.Sub(asked[0].at); early < 100*time.Millisecond || early > 5*time.Second {
			t.Errorf("it was heeded %v before its time", early)
		}
		time.Sleep(2 * time.Minute)
		if left := w.p.Hints(account); len(left) != 0 {
			t.Errorf("it is over, and still there: %v", left)
		}
		for _, bad := range []prediction.Hint{
			{Account: account, Function: "y", Count: 0, At: time.Now(), Until: time.Now().Add(time.Minute)},
			{Account: account, Function: "y", Count: 1, At: time.Now().Add(-time.Hour), Until: time.Now().Add(-time.Minute)},
			{Account: account, Function: "y", Count: 1, At: time.Now(), Until: time.Now().Add(24 * time.Hour)},
			{Account: account, Function: "y", Count: 1, At: time.Now().Add(1000 * time.Hour), Until: time.Now().Add(1001 * time.Hour)},
		} {
			if _, err := w.p.Hint(context.Background(), bad); hearth.KindOf(err) != hearth.InvalidParameter {
				t.Errorf("%+v: %v", bad, err)
			}
		}
	})
}

func TestRemovedTriggersAreForgotten(t *testing.T) {
	predict(t, func(w *world) {
		w.trigger("page_open", "")
		w.fire("page_open")
		if err := w.p.RemoveTrigger(context.Background(), account, "page_open"); err != nil {
			t.Fatal(err)
		}
		if err := w.p.Fire(account, "page_open"); hearth.KindOf(err) != hearth.NotFound {
			t.Errorf("%v", err)
		}
		if list := w.p.Triggers(account); len(list) != 0 {
			t.Errorf("%v", list)
		}
	})
}
