package manager_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/manager"
)

// provisions asks for n environments of each function under the qualifier q;
// all are versions of one function.
func provisions(fn *hearth.Function, n int, more ...*hearth.Function) *hearth.Concurrency {
	c := &hearth.Concurrency{Account: fn.Account, Function: fn.Name}
	for _, f := range append([]*hearth.Function{fn}, more...) {
		if n > 0 {
			c.Provisions = append(c.Provisions, hearth.Provision{Qualifier: "q", Version: f.Version, Function: f, Count: n})
		}
	}
	return c
}

func versionOf(name, version string, mib int) *hearth.Function {
	f := function("000000000001", name, mib)
	f.Version = version
	return f
}

// loaded counts the living containers of f.
func (w *fakeWorker) loaded(f *hearth.Function) (all, provisioned int) {
	for _, c := range w.containers() {
		w.mu.Lock()
		if c.fn.Key() == f.Key() && !c.destroyed {
			all++
			if c.provisioned {
				provisioned++
			}
		}
		w.mu.Unlock()
	}
	return all, provisioned
}

func expectProvisioned(t *testing.T, m *manager.Manager, f *hearth.Function, state hearth.ProvisionState, allocated, available int) hearth.Provisioned {
	t.Helper()
	s := m.Provisioned(f.Account, f.Name, "q")
	if s.State != state || s.Allocated != allocated || s.Available != available {
		t.Errorf("%+v, expected %s with %d allocated, %d available", s, state, allocated, available)
	}
	return s
}

func TestProvisionedContainersServeFirstAndWithoutAnInit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, rec := newFakeWorker(), &recorder{}
		w.bootTime, w.loadTime, w.invokeTime = time.Second, time.Second, time.Second
		m := newManager(t, w, func(c *manager.Config) { c.Recorder = rec })
		f := versionOf("f", "1", 128)
		onDemand := invoke(t, m, f) // an idle container of the ordinary kind
		m.Provide(provisions(f, 2))
		synctest.Wait()
		expectProvisioned(t, m, f, hearth.ProvisionInProgress, 2, 0)
		time.Sleep(time.Minute)
		expectProvisioned(t, m, f, hearth.ProvisionReady, 2, 2)

		served, failed := together(m, f, 4)
		if len(failed) > 0 {
			t.Fatal(failed)
		}
		var provisioned, reused, other int
		for _, inv := range served {
			switch p := inv.Placement; {
			case p.Path == hearth.PathReuse && p.Why == "a provisioned container was idle":
				provisioned++
				if inv.Timeline.Spent[hearth.StageInit] != 0 || inv.Timeline.Spent[hearth.StagePlace] != 0 {
					t.Errorf("served by a provisioned container after %v", inv.Timeline.Spent)
				}
			case p.Path == hearth.PathReuse:
				reused++
				if p.Container != onDemand.Placement.Container && !strings.Contains(p.Why, "come free") {
					t.Errorf("reused: %+v", p)
				}
			default:
				other++
			}
		}
		if provisioned != 2 || reused+other != 2 {
			t.Errorf("%d by provisioned containers, %d by others that were idle, %d by new ones", provisioned, reused, other)
		}
		if one := invoke(t, m, f); one.Placement.Why != "a provisioned container was idle" {
			t.Errorf("an ordinary one went first: %+v", one.Placement)
		}
		if n := rec.kinds()[hearth.DecisionProvision]; n != 2 {
			t.Errorf("%d decisions tell of two containers provisioned", n)
		}
		drain(t, m, w)
	})
}

func TestProvisionedContainersAreNeitherAgedNorEvicted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		m := newManager(t, w, func(c *manager.Config) { c.MachineMiB = 1024 })
		f, g := versionOf("f", "1", 256), versionOf("g", "1", 256)
		m.Provide(provisions(f, 2))
		synctest.Wait()
		if _, failed := together(m, f, 3); len(failed) > 0 {
			t.Fatal(failed)
		}
		time.Sleep(24 * time.Hour)
		if all, provisioned := w.loaded(f); all != 2 || provisioned != 2 {
			t.Errorf("a day later there are %d containers, %d of them provisioned", all, provisioned)
		}
		_, failed := together(m, g, 3) // there is room for two
		if len(failed) > 0 {
			t.Errorf("%v: two have room, and the third waits", failed)
		}
		expectProvisioned(t, m, f, hearth.ProvisionReady, 2, 2)
		// Ordinary ones make room for those to be provisioned.
		m.Provide(provisions(f, 4))
		time.Sleep(time.Minute)
		expectProvisioned(t, m, f, hearth.ProvisionReady, 4, 4)
		drain(t, m, w)
	})
}

func TestProvisionedContainerThatEndsIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		w.bootTime, w.loadTime = time.Second, time.Second
		m := newManager(t, w, nil)
		f := versionOf("f", "1", 128)
		m.Provide(provisions(f, 3))
		time.Sleep(time.Minute)
		for _, c := range w.containers() {
			c.die()
		}
		synctest.Wait()
		expectProvisioned(t, m, f, hearth.ProvisionInProgress, 2, 0) // two are made at once
		time.Sleep(time.Minute)
		expectProvisioned(t, m, f, hearth.ProvisionReady, 3, 3)
		// So is one that an invocation has used up.
		w.onInvoke = func(c *fakeContainer, _ *hearth.Invocation) (*hearth.Result, bool, error) {
			c.die()
			return &hearth.Result{FunctionError: "Unhandled"}, false, nil
		}
		invoke(t, m, f)
		time.Sleep(time.Minute)
		expectProvisioned(t, m, f, hearth.ProvisionReady, 3, 3)
		drain(t, m, w)
	})
}

func TestOldVersionsContainersStayUntilTheNewOnesAreReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		w.bootTime, w.loadTime = time.Second, 10*time.Second
		m := newManager(t, w, nil)
		v1, v2 := versionOf("f", "1", 128), versionOf("f", "2", 128)
		m.Provide(provisions(v1, 3))
		time.Sleep(time.Minute)
		m.Provide(provisions(v2, 3))
		for range 60 {
			synctest.Wait()
			old, _ := w.loaded(v1)
			fresh := m.Provisioned(v2.Account, "f", "q")
			if fresh.State != hearth.ProvisionReady && old != 3 {
				t.Fatalf("%d of the old version were left when of the new there were %+v", old, fresh)
			}
			time.Sleep(time.Second)
		}
		if old, _ := w.loaded(v1); old != 0 {
			t.Errorf("%d of the old version are left", old)
		}
		expectProvisioned(t, m, v2, hearth.ProvisionReady, 3, 3)
		drain(t, m, w)
	})
}

func TestWhatCannotBeProvisionedFailsAndIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, rec := newFakeWorker(), &recorder{}
		var broken atomic.Bool
		broken.Store(true)
		w.onProvision = func(*hearth.Function) error {
			if broken.Load() {
				return hearth.Errorf(hearth.InitFailed, "no such module")
			}
			return nil
		}
		m := newManager(t, w, func(c *manager.Config) { c.MachineMiB, c.Recorder = 1024, rec })
		old, f := versionOf("f", "1", 256), versionOf("f", "2", 256)
		m.Provide(provisions(f, 2))
		time.Sleep(time.Second)
		if s := expectProvisioned(t, m, f, hearth.ProvisionFailed, 0, 0); s.Reason != "FUNCTION_ERROR_INIT_FAILURE" {
			t.Errorf("the reason is %q", s.Reason)
		}
		tries := rec.kinds()[hearth.DecisionProvision]
		time.Sleep(time.Hour)
		if n := rec.kinds()[hearth.DecisionProvision] - tries; n < 10 || n > 80 {
			t.Errorf("tried %d times within an hour", n)
		}
		broken.Store(false)
		time.Sleep(10 * time.Minute)
		expectProvisioned(t, m, f, hearth.ProvisionReady, 2, 2)
		// For the fifth there is no memory.
		m.Provide(provisions(f, 5))
		time.Sleep(time.Minute)
		if s := expectProvisioned(t, m, f, hearth.ProvisionFailed, 4, 4); !strings.Contains(s.Reason, "no memory") {
			t.Errorf("the reason is %q", s.Reason)
		}
		// What an alias has left makes room for what it points to now.
		m.Provide(provisions(old, 4))
		time.Sleep(10 * time.Minute)
		expectProvisioned(t, m, old, hearth.ProvisionReady, 4, 4)
		drain(t, m, w)
	})
}

func TestBusyContainerThatIsNotAskedForAnyMoreServesToTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		w.invokeTime = time.Minute
		m := newManager(t, w, nil)
		f := versionOf("f", "1", 128)
		m.Provide(provisions(f, 2))
		synctest.Wait()
		done := make(chan error, 1)
		go func() {
			_, err := m.Invoke(context.Background(), invocation(f))
			done <- err
		}()
		time.Sleep(time.Second)
		m.Provide(provisions(f, 0))
		synctest.Wait()
		if all, _ := w.loaded(f); all != 1 {
			t.Errorf("%d are left while one serves", all)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if all, _ := w.loaded(f); all != 0 {
			t.Errorf("%d are left", all)
		}
		drain(t, m, w)
	})
}

// Provider never asks for more than is wanted, makes what is lacking, and lets
// go of what was left behind only when the rest is there or cannot be.
func TestProviderLacksNothingAndKeepsNothingInTheEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pledges := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) manager.Pledge {
			return manager.Pledge{Want: rapid.IntRange(0, 5).Draw(t, "want"), Have: rapid.IntRange(0, 7).Draw(t, "have"), Making: rapid.IntRange(0, 3).Draw(t, "making")}
		}), 1, 3).Draw(t, "pledges")
		room, failing, held := rapid.IntRange(0, 4).Draw(t, "room"), rapid.Bool().Draw(t, "failing"), rapid.Bool().Draw(t, "held")
		complete := true
		for _, p := range pledges {
			complete = complete && p.Have >= p.Want
		}
		made := 0
		for i, s := range (manager.Provider{}).Choose(pledges, room, failing, held) {
			p := pledges[i]
			made += s.Make
			switch {
			case s.Make < 0 || s.LetGo < 0 || s.Make > 0 && s.LetGo > 0:
				t.Fatalf("%+v of %+v", s, p)
			case held && s.Make > 0:
				t.Fatal("made although it is held")
			case s.Make > 0 && p.Have+p.Making+s.Make > p.Want:
				t.Fatalf("%+v: too many of %+v", s, p)
			case p.Have-s.LetGo < min(p.Have, p.Want):
				t.Fatalf("%+v: too few are left of %+v", s, p)
			case s.LetGo > 0 && p.Want == 0 && !complete && !failing:
				t.Fatalf("%+v: let go while the others are not there", s)
			case (complete || failing) && p.Have-s.LetGo > p.Want && p.Have+p.Making >= p.Want:
				t.Fatalf("%+v: kept of %+v", s, p)
			}
		}
		if made > room {
			t.Fatalf("%d made, room for %d", made, room)
		}
	})
}

func TestTenantsShareNoContainerAndLeaveNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorker()
		m := newManager(t, w, nil)
		f := versionOf("f", "1", 128)
		f.TenantIsolation = "PER_TENANT"
		of := func(tenant string) *hearth.Invocation {
			inv := invocation(f)
			inv.TenantID = tenant
			if _, err := m.Invoke(context.Background(), inv); err != nil {
				t.Error(err)
			}
			return inv
		}
		blue, green, again := of("blue"), of("green"), of("blue")
		if blue.Placement.Container == green.Placement.Container || again.Placement.Container != blue.Placement.Container || again.Placement.Path != hearth.PathReuse {
			t.Errorf("blue was in %s and %s, green in %s", blue.Placement.Container, again.Placement.Container, green.Placement.Container)
		}
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() { of(fmt.Sprint("tenant", i%10)) })
		}
		wg.Wait()
		if n := m.Stats().Groups; n != 12 {
			t.Errorf("%d groups of twelve tenants", n)
		}
		time.Sleep(5 * time.Hour)
		if n := m.Stats().Groups; n != 0 {
			t.Errorf("%d groups are left of tenants who have long gone", n)
		}
		drain(t, m, w) // the worker complains about each container with two tenants
	})
}
