package prediction_test

import (
	"context"
	"fmt"
	"hash/fnv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/execution"
	"github.com/hearth-faas/hearth/manager"
	"github.com/hearth-faas/hearth/prediction"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/sqlite"
)

const (
	account = hearth.Account("111111111111")
	other   = hearth.Account("222222222222")
)

// prepared is one thing that was asked to be made ready.
type prepared struct {
	at time.Time
	manager.Preparation
}

// world is a Predictor, and fakes of all that it talks to.
type world struct {
	t  *testing.T
	p  *prediction.Predictor
	db store.Store

	mu       sync.Mutex
	policy   hearth.ExecutionPolicy
	missing  map[string]bool // functions that were deleted
	cold     time.Duration
	busy     time.Duration
	asked    []prepared
	requests int
	serving  map[string]*hearth.Invocation
}

func (w *world) Resolve(_ context.Context, a hearth.Account, name, _ string) (*hearth.Function, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.missing[name] {
		return nil, hearth.Errorf(hearth.NotFound, "no %s", name)
	}
	return &hearth.Function{Account: a, Name: name, Version: hearth.Latest, State: hearth.Active, MemoryMiB: 128}, nil
}

func (w *world) Prepare(p manager.Preparation) manager.Prepared {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, prepared{time.Now(), p})
	return manager.Prepared{}
}

func (w *world) ColdStart(*hearth.Function) time.Duration { return w.cold }
func (w *world) RunTime(*hearth.Function) time.Duration   { return w.busy }

func (w *world) Serving(container string) (*hearth.Invocation, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	inv, ok := w.serving[container]
	return inv, ok
}

func (w *world) policyOf(hearth.Account, string) *hearth.ExecutionPolicy {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.policy
	return &p
}

// predict runs a test in its own time.
func predict(t *testing.T, test func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		db, err := sqlite.Open(t.Context(), t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		w := &world{t: t, db: db, policy: *execution.Default(), cold: 100 * time.Millisecond, missing: map[string]bool{}, serving: map[string]*hearth.Invocation{}}
		w.open()
		test(w)
		w.close()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
}

func (w *world) open() {
	w.t.Helper()
	p, err := prediction.Open(context.Background(), prediction.Config{
		Functions: w, Manager: w, Policy: w.policyOf, Store: w.db, Clock: clock.System(),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.p = p
}

func (w *world) close() {
	w.t.Helper()
	if err := w.p.Close(); err != nil {
		w.t.Error(err)
	}
}

// take returns what was asked for since the last time, of one level.
func (w *world) take(level manager.Level) (asked []prepared) {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.asked {
		if a.Level == level {
			asked = append(asked, a)
		}
	}
	w.asked = nil
	return asked
}

// count counts what was asked for, by function.
func count(asked []prepared) map[string]int {
	n := map[string]int{}
	for _, a := range asked {
		n[a.Function.Name] += a.Count
	}
	return n
}

func hash(a hearth.Account, name string) string {
	h := fnv.New32a()
	fmt.Fprintf(h, "%s/%s", a, name)
	return fmt.Sprintf("%08x:0", h.Sum32())
}

// call says that a function was invoked: with the tag of by, if that is given.
func (w *world) call(name string, by *hearth.Invocation) *hearth.Invocation {
	return w.callIn(account, name, by, "")
}

func (w *world) callIn(a hearth.Account, name string, by *hearth.Invocation, within string) *hearth.Invocation {
	inv := w.make(a, name, by, within)
	w.p.Arrived(inv)
	synctest.Wait()
	return inv
}

func (w *world) make(a hearth.Account, name string, by *hearth.Invocation, within string) *hearth.Invocation {
	f, err := w.Resolve(context.Background(), a, name, "")
	if err != nil {
		w.t.Fatal(err)
	}
	w.requests++
	inv := &hearth.Invocation{RequestID: fmt.Sprint("r", w.requests), Account: a, Name: name, Function: f, Within: within}
	inv.TraceID = fmt.Sprintf("Root=1-%d;Sampled=0;Lineage=%s", w.requests, hash(a, name))
	if by != nil {
		inv.TraceID = by.TraceID + "|" + hash(a, name)
	}
	inv.Timeline.Begin(time.Now())
	return inv
}
