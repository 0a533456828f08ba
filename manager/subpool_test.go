package manager_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/manager"
	"github.com/hearth-faas/hearth/market"
)

// capacities are execution policies that say something of capacity only, by
// account or account/function.
type capacities struct {
	mu   sync.Mutex
	said map[string]*hearth.CapacityPolicy
}

func (c *capacities) set(of string, p *hearth.CapacityPolicy) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.said == nil {
		c.said = map[string]*hearth.CapacityPolicy{}
	}
	c.said[of] = p
}

// policy is what package execution does: a function's own, else its account's.
func (c *capacities) policy(account hearth.Account, function string) *hearth.ExecutionPolicy {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := &hearth.ExecutionPolicy{Update: &hearth.UpdatePolicy{}, Sizing: &hearth.SizingPolicy{}, Prediction: &hearth.PredictionPolicy{}, PreTrigger: &hearth.PreTriggerPolicy{},
		Capacity: c.said[string(account)+"/"+function]}
	if p.Capacity == nil {
		p.Capacity = c.said[string(account)]
	}
	return p
}

// kinds is a manager with capacity of several kinds.
type kinds struct {
	*manager.Manager
	w   *fakeWorker
	c   *capacities
	rec *recorder
}

func newKinds(t *testing.T, change func(*manager.Config)) *kinds {
	t.Helper()
	k := &kinds{w: newFakeWorker(), c: &capacities{}, rec: &recorder{}}
	k.w.cutting = true
	k.Manager = newManager(t, k.w, func(c *manager.Config) {
		c.MachineMiB, c.VariableMiB, c.InstanceMiB = 2048, 1024, 256
		c.FixedPrice, c.WithdrawGrace = 3600, 5*time.Second
		c.Policy, c.Recorder = k.c.policy, k.rec
		if change != nil {
			change(c)
		}
	})
	return k
}

func (k *kinds) say(account hearth.Account, function string, p *hearth.CapacityPolicy) {
	of := string(account)
	if function != "" {
		of += "/" + function
	}
	k.c.set(of, p)
	k.PolicyChanged(account, function)
}

func quote(price float64, mib int) market.State {
	return market.State{Quote: market.Quote{Price: price, AvailableMiB: mib}, Known: true, Fresh: true}
}

// A run costs what its capacity did while it ran, also if that changed
// meanwhile.
func TestARunAcrossPricesCostsTheirSum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKinds(t, nil)
		defer drain(t, k.Manager, k.w)
		k.w.invokeTime = 10 * time.Second
		k.say(acct, "", &hearth.CapacityPolicy{Kind: "variable", MaxPrice: 5})
		k.Market(quote(2, 1024))
		done := make(chan *hearth.Invocation, 1)
		go func() { done <- invoke(t, k.Manager, function(acct, "f", 256)) }()
		time.Sleep(4 * time.Second)
		k.Market(quote(4, 1024))
		time.Sleep(3 * time.Second)
		k.Market(quote(1, 1024))
		inv := <-done
		// 4 s less the making at 2, 3 s at 4, the rest of 10 s at 1.
		first := 4*time.Second - inv.Timeline.Spent[hearth.StagePlace] - inv.Timeline.Spent[hearth.StageAttach] - inv.Timeline.Spent[hearth.StageBoot] - inv.Timeline.Spent[hearth.StageInit]
		want := 0.25 * (2*first.Hours() + 4*(3*time.Second).Hours() + (7*time.Second - first).Hours())
		if got := inv.Placement.Cost; got < want*0.999 || got > want*1.001 {
			t.Errorf("it cost %v, want %v", got, want)
		}
	})
}

func (r *recorder) find(kind hearth.DecisionKind, chosen string) (found []hearth.Decision) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.all {
		if d.Kind == kind && d.Chosen == chosen {
			found = append(found, d)
		}
	}
	return found
}

// answer is what came of an invocation.
type answer struct {
	inv *hearth.Invocation
	r   *hearth.Result
	err error
	at  time.Time
}

// start runs f once beside the test.
func (k *kinds) start(f *hearth.Function) chan answer {
	done := make(chan answer, 1)
	go func() {
		inv := invocation(f)
		r, err := k.Invoke(context.Background(), inv)
		done <- answer{inv, r, err, time.Now()}
	}()
	return done
}

var variable = hearth.CapacityPolicy{Kind: "variable", MaxPrice: 2}

func TestWhatIsVariableWaitsUntilThePriceSuitsAndNeverRunsAboveIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKinds(t, nil)
		defer drain(t, k.Manager, k.w)
		k.w.invokeTime = time.Second
		k.say(acct, "v", &variable)
		f := function(acct, "v", 128)
		began := time.Now()
		first := k.start(f) // before anything is known
		time.Sleep(10 * time.Second)
		k.Market(quote(3, -1)) // too dear
		time.Sleep(10 * time.Second)
		k.Market(quote(2, -1))
		a := <-first
		if a.err != nil || a.at.Sub(began) != 21*time.Second || a.inv.Placement.Capacity != hearth.CapacityVariable || a.inv.Placement.Price != 2 {
			t.Fatalf("%+v %v after %v", a.inv.Placement, a.err, a.at.Sub(began))
		}
		// An eighth of a GiB for a second at 2 an hour.
		if want := 2.0 / 3600 / 8; a.inv.Placement.Cost < want*0.999 || a.inv.Placement.Cost > want*1.001 {
			t.Errorf("it cost %v, want %v", a.inv.Placement.Cost, want)
		}
		k.Market(quote(2.5, -1)) // what is idle goes at once
		synctest.Wait()
		if n := len(k.w.containers()); n != 0 {
			t.Errorf("%d containers are kept at a price that does not suit", n)
		}
		second := k.start(f)
		time.Sleep(10 * time.Second)
		more := variable // the constraint moves by the policy, too
		more.MaxPrice = 3
		k.say(acct, "v", &more)
		if a := <-second; a.err != nil || a.inv.Placement.Price != 2.5 {
			t.Errorf("%+v %v", a.inv.Placement, a.err)
		}
		if s := k.Spent(acct, "v")[hearth.CapacityVariable]; s.Invocations != 2 || s.GiBSeconds != 0.25 {
			t.Errorf("spent %+v", s)
		}
	})
}

func TestAWaitThatIsInVainEndsWithTheReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKinds(t, nil)
		defer drain(t, k.Manager, k.w)
		p := variable
		p.WaitSeconds = 20
		k.say(acct, "v", &p)
		k.Market(quote(5, -1))
		began := time.Now()
		a := <-k.start(function(acct, "v", 128))
		if hearth.KindOf(a.err) != hearth.TooManyRequests || a.at.Sub(began) != 20*time.Second || !strings.Contains(a.inv.Placement.Why, "price") {
			t.Errorf("%v after %v, %q", a.err, a.at.Sub(began), a.inv.Placement.Why)
		}
	})
}

func TestWhenItsCapacityIsShortThePolicyDecides(t *testing.T) {
	for do, want := range map[string]struct {
		kind hearth.CapacityKind
		err  hearth.Kind
		took time.Duration
	}{
		"spill":  {kind: hearth.CapacityFixed, took: 4 * time.Second},
		"refuse": {err: hearth.TooManyRequests},
		"wait":   {kind: hearth.CapacityVariable, took: 8 * time.Second},
	} {
		t.Run(do, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKinds(t, nil)
				defer drain(t, k.Manager, k.w)
				k.w.invokeTime = 4 * time.Second
				p := variable
				p.WhenShort = do
				k.say(acct, "v", &p)
				k.Market(quote(1, 256)) // room for two
				f := function(acct, "v", 128)
				var running []chan answer
				for range 2 {
					running = append(running, k.start(f))
				}
				synctest.Wait()
				began := time.Now()
				a := <-k.start(f)
				if hearth.KindOf(a.err) != want.err || a.at.Sub(began) != want.took || a.err == nil && a.inv.Placement.Capacity != want.kind {
					t.Errorf("%v after %v, %+v", a.err, a.at.Sub(began), a.inv.Placement)
				}
				if do == "spill" && !strings.Contains(a.inv.Placement.Why, "spills onto fixed") || do == "refuse" && !strings.Contains(a.inv.Placement.Why, "no room") {
					t.Errorf("why: %q", a.inv.Placement.Why)
				}
				for _, r := range running {
					if a := <-r; a.err != nil || a.inv.Placement.Capacity != hearth.CapacityVariable {
						t.Errorf("%v %+v", a.err, a.inv.Placement)
					}
				}
				// One whose gate is shut does the same, also while it waits.
				k.Market(quote(9, 256))
				if do != "wait" {
					if a := <-k.start(f); hearth.KindOf(a.err) != want.err {
						t.Errorf("with the gate shut: %v", a.err)
					}
				}
			})
		})
	}
}

func TestWithdrawnWorkHasItsGraceAndThenTheRuleOfItsPolicy(t *testing.T) {
	for rule, want := range map[string]struct {
		kind hearth.CapacityKind
		err  hearth.Kind
		took time.Duration
	}{
		"":      {kind: hearth.CapacityVariable, took: 30 * time.Second}, // the price suits again after 20 s
		"retry": {kind: hearth.CapacityVariable, took: 30 * time.Second},
		"move":  {kind: hearth.CapacityFixed, took: 5*time.Second + 10*time.Second},
		"fail":  {err: hearth.Service, took: 5 * time.Second},
	} {
		t.Run("rule "+rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKinds(t, nil)
				defer drain(t, k.Manager, k.w)
				k.w.onInvoke = func(c *fakeContainer, inv *hearth.Invocation) (*hearth.Result, bool, error) {
					select {
					case <-time.After(10 * time.Second):
						return &hearth.Result{}, true, nil
					case <-c.Done():
						inv.Use.End = hearth.EndCrash
						return &hearth.Result{FunctionError: "Unhandled"}, false, nil
					}
				}
				p := variable
				p.OnWithdraw = rule
				k.say(acct, "v", &p)
				k.Market(quote(1, -1))
				f := function(acct, "v", 128)
				quick := k.start(f)
				time.Sleep(7 * time.Second) // its last 3 s are within the grace
				slow := k.start(f)
				synctest.Wait()
				began := time.Now()
				k.Market(quote(3, -1))
				if a := <-quick; a.err != nil || a.r.FunctionError != "" || a.at.Sub(began) != 3*time.Second {
					t.Errorf("what ends in its time of grace: %v, %+v after %v", a.err, a.r, a.at.Sub(began))
				}
				go func() {
					time.Sleep(17 * time.Second)
					k.Market(quote(1, -1))
				}()
				a := <-slow
				if hearth.KindOf(a.err) != want.err || a.at.Sub(began) != want.took || a.err == nil && a.inv.Placement.Capacity != want.kind {
					t.Errorf("%v after %v on %q", a.err, a.at.Sub(began), a.inv.Placement.Capacity)
				}
				if rule == "" {
					rule = "retry"
				}
				if ds := k.rec.find(hearth.DecisionWithdraw, rule); len(ds) != 1 || ds[0].RequestID != a.inv.RequestID {
					t.Errorf("decisions %+v", ds)
				}
				if s := k.Spent(acct, "v")[hearth.CapacityVariable]; s.Withdrawn != 1 {
					t.Errorf("spent %+v", s)
				}
				time.Sleep(20 * time.Second)
			})
		})
	}
}

func TestLessVariableCapacityTakesTheInstancesWhoseEndCostsLeast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKinds(t, func(c *manager.Config) { c.PackLevel = -1 })
		defer drain(t, k.Manager, k.w)
		k.w.onInvoke = func(c *fakeContainer, inv *hearth.Invocation) (*hearth.Result, bool, error) {
			select {
			case <-time.After(60 * time.Second):
				return &hearth.Result{}, true, nil
			case <-c.Done():
				inv.Use.End = hearth.EndCrash
				return &hearth.Result{FunctionError: "Unhandled"}, false, nil
			}
		}
		k.say(acct, "v", &variable)
		k.Market(quote(1, 1024))
		f := function(acct, "v", 256) // one an instance
		var all []chan answer
		for range 4 {
			all = append(all, k.start(f))
			time.Sleep(time.Second)
		}
		k.Market(quote(1, 300)) // one is left, that which has run longest
		if ds := k.rec.find(hearth.DecisionWithdraw, "instance"); len(ds) != 3 {
			t.Fatalf("%d instances are withdrawn", len(ds))
		}
		time.Sleep(10 * time.Second)
		if ds := k.rec.find(hearth.DecisionWithdraw, "cut"); len(ds) != 3 {
			t.Errorf("%d were cut", len(ds))
		}
		k.Market(quote(1, 1024))
		for i, done := range all {
			a := <-done
			if a.err != nil || a.r.FunctionError != "" {
				t.Errorf("%d: %v %+v", i, a.err, a.r)
			}
			if i == 0 && k.Stats().CommittedMiB > 1024 {
				t.Error("more is promised than there is")
			}
		}
		if n := k.Spent(acct, "v")[hearth.CapacityVariable]; n.Withdrawn != 3 || n.Invocations != 7 {
			t.Errorf("%+v", n)
		}
	})
}

func TestCapacityThatComesBackInTheTimeOfGraceCutsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKinds(t, nil)
		defer drain(t, k.Manager, k.w)
		k.w.invokeTime = 10 * time.Second
		k.say(acct, "v", &variable)
		k.Market(quote(1, -1))
		a := k.start(function(acct, "v", 128))
		time.Sleep(time.Second)
		k.Market(quote(1, 0))
		time.Sleep(3 * time.Second)
		k.Market(quote(1, 512))
		if a := <-a; a.err != nil {
			t.Error(a.err)
		}
		if ds := k.rec.find(hearth.DecisionWithdraw, "cut"); len(ds) != 0 {
			t.Errorf("%+v", ds)
		}
	})
}

func TestASilentFeedEndsNothingAndStartsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKinds(t, nil)
		defer drain(t, k.Manager, k.w)
		k.w.invokeTime = 30 * time.Second
		k.say(acct, "v", &variable)
		k.Market(quote(1, 512))
		f := function(acct, "v", 128)
		running := k.start(f)
		time.Sleep(time.Second)
		stale := quote(1, 512)
		stale.Fresh = false
		k.Market(stale)
		began := time.Now()
		waiting := k.start(f)
		if a := <-running; a.err != nil {
			t.Error(a.err)
		}
		time.Sleep(10 * time.Second)
		k.Market(quote(1, 512))
		if a := <-waiting; a.err != nil || a.at.Sub(began) != 29*time.Second+10*time.Second+30*time.Second {
			t.Errorf("%v after %v", a.err, a.at.Sub(began))
		}
	})
}

func TestAnAccountsOwnInstancesAreThereWithItsFunctionsAndServeNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own, other := function(acct, "f", 128), function("222222222222", "g", 128)
		k := newKinds(t, func(c *manager.Config) {
			c.VariableMiB = 0
			c.Functions = func(a hearth.Account) []*hearth.Function {
				if a == acct {
					return []*hearth.Function{own}
				}
				return nil
			}
		})
		defer drain(t, k.Manager, k.w)
		k.w.invokeTime = time.Second
		k.say(acct, "", &hearth.CapacityPolicy{Dedicated: 2})
		time.Sleep(time.Minute)
		loaded := map[string]int{}
		for _, i := range k.Snapshot() {
			if i.Account == acct && i.Capacity == hearth.CapacityDedicated {
				for _, c := range i.Containers {
					if c.Function == "f" {
						loaded[i.ID]++
					}
				}
			}
		}
		if len(loaded) != 2 {
			t.Fatalf("loaded before anybody called: %v", loaded)
		}
		a := <-k.start(own)
		if a.err != nil || a.inv.Placement.Path != hearth.PathReuse || a.inv.Placement.Capacity != hearth.CapacityDedicated {
			t.Errorf("%v %+v", a.err, a.inv.Placement)
		}
		b := <-k.start(other)
		if b.err != nil || b.inv.Placement.Capacity != hearth.CapacityFixed || loaded[b.inv.Placement.Instance] > 0 {
			t.Errorf("%v %+v", b.err, b.inv.Placement)
		}
		// Four run there, and more spill onto what is everybody's.
		ok, failed := together(k.Manager, own, 6)
		n := map[hearth.CapacityKind]int{}
		for _, inv := range ok {
			n[inv.Placement.Capacity]++
		}
		if len(failed) > 0 || n[hearth.CapacityDedicated] != 4 || n[hearth.CapacityFixed] != 2 {
			t.Errorf("%v %v", failed, n)
		}
		if c := k.Stats().CommittedMiB; c < 512 {
			t.Errorf("only %d MiB are taken", c)
		}
		k.say(acct, "", nil)
		time.Sleep(time.Second)
		for _, i := range k.Snapshot() {
			if i.Capacity == hearth.CapacityDedicated {
				t.Errorf("it still has %+v", i)
			}
		}
		if a := <-k.start(own); a.err != nil {
			t.Error(a.err)
		}
	})
}

// What is at work in one part of the capacity takes no room of another.
func TestWhatIsBusyIsToldOfTheCapacityThatAFunctionRunsOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKinds(t, nil)
		defer drain(t, k.Manager, k.w)
		k.w.invokeTime = time.Minute
		const own = hearth.Account("222222222222")
		fixed, variable, dedicated := function("333333333333", "f", 128), function(acct, "g", 256), function(own, "h", 64)
		k.say(acct, "", &hearth.CapacityPolicy{Kind: "variable", MaxPrice: 5})
		k.say(own, "", &hearth.CapacityPolicy{Dedicated: 1})
		k.Market(quote(1, 1024))
		time.Sleep(time.Second)
		var running []<-chan answer
		for f, n := range map[*hearth.Function]int{fixed: 1, variable: 3, dedicated: 2} {
			for range n {
				running = append(running, k.start(f))
			}
		}
		time.Sleep(10 * time.Second)
		for f, want := range map[*hearth.Function][2]int{fixed: {128, 1024 - 256}, variable: {768, 1024}, dedicated: {128, 256}} {
			if busy, capacity := k.BusyMiB(f); busy != want[0] || capacity != want[1] {
				t.Errorf("for %s %d of %d MiB are busy, want %d of %d", f.Name, busy, capacity, want[0], want[1])
			}
		}
		for _, r := range running {
			if a := <-r; a.err != nil {
				t.Error(a.err)
			}
		}
	})
}

// A pooled slot that has died may be taken for an account's own instance before its
// death is noticed: what it cost comes back to the pool's budget once.
func TestAPooledSlotThatDiesAsItIsTakenCostsNothingTwice(t *testing.T) {
	for range 20 { // who is first to notice is not ours to say
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			var dying []*fakeContainer
			k := newKinds(t, func(c *manager.Config) {
				c.PoolMin, c.PoolBudgetMiB = map[hearth.Boot]int{"": 2}, 8
				c.Functions = func(hearth.Account) []*hearth.Function {
					mu.Lock()
					defer mu.Unlock()
					for _, slot := range dying {
						slot.die()
					}
					dying = nil
					return nil
				}
			})
			defer drain(t, k.Manager, k.w)
			time.Sleep(time.Second)
			mu.Lock()
			if dying = k.w.pooled(); len(dying) != 2 {
				t.Fatalf("%d slots are ready", len(dying))
			}
			mu.Unlock()
			before := k.Stats().PoolMiB
			k.say(acct, "", &hearth.CapacityPolicy{Dedicated: 1})
			time.Sleep(time.Minute)
			if after := k.Stats().PoolMiB; after != before {
				t.Errorf("the pool uses %v MiB, and used %v", after, before)
			}
		})
	}
}

func TestAFunctionsOwnPolicyGoesBeforeItsAccounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKinds(t, nil)
		defer drain(t, k.Manager, k.w)
		k.Market(quote(1, -1))
		k.say(acct, "", &variable)
		k.say(acct, "f", &hearth.CapacityPolicy{})
		for name, want := range map[string]hearth.CapacityKind{"f": hearth.CapacityFixed, "v": hearth.CapacityVariable} {
			if a := <-k.start(function(acct, name, 128)); a.err != nil || a.inv.Placement.Capacity != want {
				t.Errorf("%s: %v %+v", name, a.err, a.inv.Placement)
			}
		}
		inv := invocation(function(acct, "v", 128))
		inv.Capacity = hearth.CapacityFixed
		if _, err := k.Invoke(context.Background(), inv); err != nil || inv.Placement.Capacity != hearth.CapacityFixed {
			t.Errorf("%v %+v", err, inv.Placement)
		}
	})
}

func TestTheWarmingPoolIsSplit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKinds(t, func(c *manager.Config) {
			c.MachineMiB, c.PoolBudgetMiB, c.PoolMin = 2048+8, 8, map[hearth.Boot]int{"": 4}
		})
		defer drain(t, k.Manager, k.w)
		warming := func() (n [2]int) {
			for i, s := range k.Subpools()[:2] {
				n[i] = s.Warming
			}
			return n
		}
		time.Sleep(time.Minute)
		if n := warming(); n != [2]int{4, 0} {
			t.Errorf("without variable capacity %v", n)
		}
		k.Market(quote(1, -1))
		time.Sleep(time.Minute)
		if n := warming(); n != [2]int{4, 1} {
			t.Errorf("with it %v", n)
		}
		k.say(acct, "v", &variable)
		if a := <-k.start(function(acct, "v", 128)); a.inv.Placement.Path != hearth.PathWarm {
			t.Errorf("%v %+v", a.err, a.inv.Placement)
		}
		k.Market(quote(1, 0))
		time.Sleep(time.Minute)
		if n := warming(); n != [2]int{4, 0} {
			t.Errorf("after it was withdrawn %v", n)
		}
	})
}

func TestWithdrawTakesTheLeastLoss(t *testing.T) {
	all := []manager.Holding{{MiB: 100, Lost: time.Hour}, {MiB: 100}, {MiB: 200}, {MiB: 100, Lost: time.Minute}}
	for mib, want := range map[int]string{0: "[]", 1: "[2]", 200: "[2]", 201: "[2 1]", 301: "[2 1 3]", 1000: "[2 1 3 0]"} {
		if got := fmt.Sprint(manager.Withdraw{}.Choose(mib, all)); got != want {
			t.Errorf("for %d MiB %v, want %v", mib, got, want)
		}
	}
}
