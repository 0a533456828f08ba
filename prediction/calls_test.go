package prediction_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hearth-faas/hearth/manager"
)

// chain runs a, which calls b after 50 ms, which calls c after 300 ms.
func (w *world) chain() {
	a := w.call("a", nil)
	time.Sleep(50 * time.Millisecond)
	b := w.call("b", a)
	time.Sleep(300 * time.Millisecond)
	w.call("c", b)
	time.Sleep(2 * time.Second)
}

func TestAChainIsLearnedAndForetoldInTime(t *testing.T) {
	predict(t, func(w *world) {
		for range 20 {
			w.chain()
		}
		w.take(manager.LevelContainer)
		began := time.Now()
		w.chain()
		asked := w.take(manager.LevelContainer)
		if n := count(asked); n["b"] != 1 || n["c"] != 1 || len(n) != 2 {
			t.Fatalf("for one run were foretold %v", n)
		}
		for _, p := range asked {
			at, until := p.at.Sub(began), p.Until.Sub(began)
			switch p.Function.Name {
			case "b": // it comes 50 ms later, and takes 100 ms to start
				if at > 10*time.Millisecond || until < 50*time.Millisecond || until > 5*time.Second {
					t.Errorf("b was asked for at %v until %v", at, until)
				}
			case "c": // 350 ms later
				if at < 150*time.Millisecond || at > 250*time.Millisecond || until < 350*time.Millisecond {
					t.Errorf("c was asked for at %v until %v", at, until)
				}
			}
			if !strings.Contains(p.Why, "runs of a are followed by") {
				t.Errorf("why: %s", p.Why)
			}
		}
		l := w.p.Calls(account, "a")[0]
		if l.Function != "b" || l.Likelihood() < 0.85 || l.True < 15 || l.True != l.Predicted {
			t.Errorf("learned of b: %+v", l)
		}
	})
}

func TestTheThresholdDecidesInBothDirections(t *testing.T) {
	predict(t, func(w *world) {
		random := rand.New(rand.NewPCG(1, 1))
		run := func(n int) {
			for range n {
				a := w.call("a", nil)
				time.Sleep(20 * time.Millisecond)
				if random.Float64() < 0.3 {
					w.call("d", a)
				}
				time.Sleep(time.Second)
			}
		}
		run(200)
		w.take(manager.LevelContainer)
		run(100)
		if n := count(w.take(manager.LevelContainer)); n["d"] > 3 {
			t.Errorf("d, three times of ten, was foretold %d times of 100 at 0.5", n["d"])
		}
		w.mu.Lock()
		w.policy.Prediction.Threshold = 0.2
		w.mu.Unlock()
		run(100)
		if n := count(w.take(manager.LevelContainer)); n["d"] < 75 {
			t.Errorf("d was foretold %d times of 100 at 0.2", n["d"])
		}
		w.mu.Lock()
		w.policy.Prediction.Mode = "off"
		w.mu.Unlock()
		run(20)
		if n := len(w.take(manager.LevelContainer)); n != 0 {
			t.Errorf("%d were foretold though that is off", n)
		}
	})
}

func TestLessLikelyCallsHaveLessMadeReady(t *testing.T) {
	predict(t, func(w *world) {
		for i := range 100 {
			a := w.call("a", nil)
			if i%10 < 3 {
				w.call("d", a)
			}
			time.Sleep(time.Second)
		}
		w.mu.Lock()
		half := len(w.asked) / 2
		w.asked = w.asked[half:]
		w.mu.Unlock()
		if n := len(w.take(manager.LevelMachine)); n == 0 {
			t.Error("no machine is ready for a call three times of ten")
		}
	})
}

// TestAChangedFlowIsForgotten has the number of runs that SPEC.md states.
func TestAChangedFlowIsForgotten(t *testing.T) {
	predict(t, func(w *world) {
		run := func(successor string, n int) {
			for range n {
				a := w.call("a", nil)
				time.Sleep(20 * time.Millisecond)
				w.call(successor, a)
				time.Sleep(time.Second)
			}
		}
		run("b", 200)
		run("g", 30)
		w.take(manager.LevelContainer)
		run("g", 50)
		if n := count(w.take(manager.LevelContainer)); n["b"] != 0 || n["g"] < 45 {
			t.Errorf("30 runs after the change b is foretold %d times of 50, g %d", n["b"], n["g"])
		}
	})
}

func TestATagThatWentThroughAServiceOutsideLinks(t *testing.T) {
	predict(t, func(w *world) {
		run := func() {
			e := w.call("e", nil)
			time.Sleep(4 * time.Second)
			w.call("f", e)
			time.Sleep(20 * time.Second)
		}
		for range 15 {
			run()
		}
		w.take(manager.LevelContainer)
		began := time.Now()
		run()
		asked := w.take(manager.LevelContainer)
		if len(asked) != 1 || asked[0].Function.Name != "f" {
			t.Fatalf("foretold: %v", count(asked))
		}
		if at := asked[0].at.Sub(began); at < 3500*time.Millisecond || at > 3900*time.Millisecond {
			t.Errorf("f, which comes after 4 s, was asked for after %v", at)
		}
	})
}

func TestTheContainerTellsWhoCallsWhereNoTagIsHandedOn(t *testing.T) {
	predict(t, func(w *world) {
		for range 20 {
			a := w.call("a", nil)
			w.mu.Lock()
			w.serving["c-1"] = a
			w.mu.Unlock()
			w.callIn(account, "b", nil, "c-1")
			// And one that is stored, whose attempt comes with nothing but its id.
			stored := w.make(account, "q", nil, "c-1")
			w.p.Accepted(stored)
			stored.Within = ""
			time.Sleep(100 * time.Millisecond)
			w.p.Arrived(stored)
			time.Sleep(time.Second)
		}
		w.take(manager.LevelContainer)
		w.call("a", nil)
		time.Sleep(time.Second)
		if n := count(w.take(manager.LevelContainer)); n["b"] != 1 || n["q"] != 1 {
			t.Errorf("foretold: %v", n)
		}
	})
}

func TestNothingIsLinkedAcrossAccounts(t *testing.T) {
	predict(t, func(w *world) {
		for range 50 {
			a := w.call("a", nil)
			w.mu.Lock()
			w.serving["c-1"] = a
			w.mu.Unlock()
			w.callIn(other, "b", a, "c-1")
			time.Sleep(time.Second)
		}
		if l := w.p.Calls(account, "a"); len(l) != 0 {
			t.Errorf("learned: %+v", l)
		}
		if n := len(w.take(manager.LevelContainer)); n != 0 {
			t.Errorf("%d foretold", n)
		}
	})
}

func TestWhatIsForetoldOnceIsNotForetoldAgainOnItsWay(t *testing.T) {
	predict(t, func(w *world) {
		for range 50 {
			w.chain()
		}
		w.take(manager.LevelContainer)
		for range 10 {
			w.chain()
		}
		if n := count(w.take(manager.LevelContainer)); n["b"] != 10 || n["c"] != 10 {
			t.Errorf("in ten runs were foretold %v", n)
		}
	})
}

func TestWhatHasComeMeanwhileIsNotMadeReady(t *testing.T) {
	predict(t, func(w *world) {
		for range 30 {
			a := w.call("a", nil)
			time.Sleep(2 * time.Second)
			w.call("b", a)
			time.Sleep(4 * time.Second)
		}
		w.take(manager.LevelContainer)
		a := w.call("a", nil)
		time.Sleep(500 * time.Millisecond)
		w.call("b", a) // this time early
		time.Sleep(5 * time.Second)
		if asked := w.take(manager.LevelContainer); len(asked) != 0 {
			t.Errorf("%v", asked)
		}
	})
}

func TestWhatIsInVainEachTimeIsHardlyTriedAnyMore(t *testing.T) {
	predict(t, func(w *world) {
		n := 0
		for i := range 100 {
			a := w.call("a", nil)
			time.Sleep(20 * time.Millisecond)
			w.call("b", a)
			time.Sleep(time.Second)
			for _, p := range w.take(manager.LevelContainer) {
				p.Fate(manager.Fate{Idle: time.Second, MiB: 128})
				if i >= 50 {
					n++
				}
			}
		}
		if n > 15 {
			t.Errorf("50 runs later it was still tried %d times of 50", n)
		}
		if l := w.p.Calls(account, "a")[0]; l.WastedMiBSeconds == 0 || l.Hit != 0 {
			t.Errorf("%+v", l)
		}
	})
}

func TestABurstOfRunsIsForetoldThroughout(t *testing.T) {
	predict(t, func(w *world) {
		for range 30 {
			a := w.call("a", nil)
			time.Sleep(time.Second)
			w.call("b", a)
			time.Sleep(3 * time.Second)
		}
		w.take(manager.LevelContainer)
		for range 100 { // of which nothing follows before all have begun
			w.call("a", nil)
			time.Sleep(5 * time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		if n := count(w.take(manager.LevelContainer)); n["b"] != 100 {
			t.Errorf("for 100 runs at once %d were foretold", n["b"])
		}
	})
}

func TestWhatWasLearnedSurvivesAndItsLossCostsOnlyTheLearning(t *testing.T) {
	predict(t, func(w *world) {
		for range 30 {
			w.chain()
		}
		w.close()
		w.open()
		w.take(manager.LevelContainer)
		w.chain()
		if n := count(w.take(manager.LevelContainer)); n["b"] != 1 || n["c"] != 1 {
			t.Errorf("after a restart were foretold %v", n)
		}
		w.p.Deleted(account, "a") // as a lost record
		w.call("a", nil)
		synctest.Wait()
		if n := len(w.take(manager.LevelContainer)); n != 0 {
			t.Errorf("%d were foretold of what is not known", n)
		}
		for range 20 {
			w.chain()
		}
		if n := count(w.take(manager.LevelContainer)); n["b"] < 10 {
			t.Errorf("it is not learned again: %v", n)
		}
	})
}

func TestMemoryIsBoundedWhateverIsSeen(t *testing.T) {
	predict(t, func(w *world) {
		random := rand.New(rand.NewPCG(1, 2))
		names := make([]string, 60)
		for i := range names {
			names[i] = "f" + string(rune('A'+i))
		}
		for range 3000 {
			a := w.call(names[random.IntN(len(names))], nil)
			w.call(names[random.IntN(len(names))], a)
			time.Sleep(10 * time.Millisecond)
		}
		for _, name := range names {
			if n := len(w.p.Calls(account, name)); n > 8 {
				t.Errorf("%s has %d links", name, n)
			}
		}
	})
}

func TestAnObservationAllocatesNothing(t *testing.T) {
	predict(t, func(w *world) {
		inv := w.make(account, "a", nil, "")
		least := 1.0
		for range 20 { // what takes it in may run meanwhile, and allocate
			least = min(least, testing.AllocsPerRun(100, func() { w.p.Arrived(inv) }))
		}
		if least > 0 {
			t.Errorf("%v allocations", least)
		}
	})
}
