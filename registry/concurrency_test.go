package registry_test

import (
	"fmt"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/registry"
)

// heard keeps the last that Concurrent was told of each function.
type heard struct {
	mu   sync.Mutex
	last map[string]*hearth.Concurrency
}

func (h *heard) hear(c *hearth.Concurrency) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.last == nil {
		h.last = map[string]*hearth.Concurrency{}
	}
	h.last[c.Function] = c
}

func (h *heard) of(function string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.last[function]
	if c == nil {
		return "nothing"
	}
	s := "-"
	if c.Reserved != nil {
		s = fmt.Sprint(*c.Reserved)
	}
	for _, p := range c.Provisions {
		s += fmt.Sprintf(" %s=%d×%s", p.Qualifier, p.Count, p.Version)
		if p.Function == nil {
			s += "?"
		} else if p.Function.Version != p.Version || p.Function.State != hearth.Active {
			s += "!"
		}
	}
	return s
}

// Two that reserve at once never both get what only one can have.
func TestReservationsAtOnceLeaveTheAccountItsFloor(t *testing.T) {
	h := &heard{}
	w := newWorld(t, t.TempDir(), func(c *registry.Config) { c.Concurrency, c.Concurrent = 1000, h.hear })
	defer func() { w.close() }()
	for i := range 8 {
		w.create(fmt.Sprint("f", i))
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	passed := 0
	for i := range 8 {
		wg.Go(func() {
			err := w.Reserve(ctx, account, fmt.Sprint("f", i), new(300))
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				passed++
				return
			}
			wantError(t, err, hearth.InvalidParameter, "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [100].")
		})
	}
	wg.Wait()
	if passed != 3 || w.Unreserved(account) != 100 {
		t.Errorf("%d reserved 300 each, and %d are left", passed, w.Unreserved(account))
	}
}

func TestProvisionsFollowTheirAlias(t *testing.T) {
	h := &heard{}
	w := newWorld(t, t.TempDir(), func(c *registry.Config) { c.Concurrent = h.hear })
	defer func() { w.close() }()
	w.published("f", 3)
	expect := func(want string) {
		t.Helper()
		if got := h.of("f"); got != want {
			t.Errorf("told %s, want %s", got, want)
		}
	}
	_, err := w.CreateAlias(ctx, account, "f", "live", registry.Alias{Version: new("1")})
	w.must(err)
	expect("nothing")
	_, err = w.Provision(ctx, account, "f", "live", 10)
	w.must(err)
	expect("- live=10×1")
	_, err = w.UpdateAlias(ctx, account, "f", "live", registry.Alias{Weights: map[string]float64{"2": 0.3}})
	w.must(err)
	expect("- live=7×1 live=3×2")
	_, err = w.UpdateAlias(ctx, account, "f", "live", registry.Alias{Version: new("2"), Weights: map[string]float64{}})
	w.must(err)
	expect("- live=10×2")
	_, err = w.Provision(ctx, account, "f", "3", 2)
	w.must(err)
	_, err = w.UpdateAlias(ctx, account, "f", "live", registry.Alias{Version: new("3")})
	wantError(t, err, hearth.Conflict, "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version")
	w.must(w.Reserve(ctx, account, "f", new(12)))
	expect("12 3=2×3 live=10×2")

	h.last = nil
	w.reopen()
	expect("12 3=2×3 live=10×2")
	w.must(w.Delete(ctx, account, "f", "3"))
	expect("12 live=10×2")
	w.must(w.DeleteAlias(ctx, account, "f", "live"))
	expect("12")
	w.must(w.Delete(ctx, account, "f", ""))
	expect("-")
	if n := w.Unreserved(account); n != 1000 {
		t.Errorf("%d are left of 1000", n)
	}
}

func TestWhatCannotBeProvisionedIsRefused(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil)
	defer func() { w.close() }()
	w.published("f", 2)
	_, err := w.CreateAlias(ctx, account, "f", "split", registry.Alias{Version: new("1"), Weights: map[string]float64{"2": 0.5}})
	w.must(err)
	refused := func(qualifier string, n int, words string) {
		t.Helper()
		_, err := w.Provision(ctx, account, "f", qualifier, n)
		wantError(t, err, hearth.InvalidParameter, words)
	}
	refused("split", 1, "Alias with weights can not be used with Provisioned Concurrency")
	refused("1", 1001, "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [1000].")
	refused("1", 901, "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [100].")
	w.must(w.Reserve(ctx, account, "f", new(5)))
	refused("1", 6, "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function")
	_, err = w.Provision(ctx, account, "f", "1", 3)
	w.must(err)
	refused("2", 3, "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function")
	wantError(t, w.Reserve(ctx, account, "f", new(2)), hearth.InvalidParameter,
		" ReservedConcurrentExecutions  2 should not be lower than function's total provisioned concurrency [3].")
}

// Whatever is reserved and provisioned in whatever order: what is left is the
// limit without what functions have, and never below the floor.
func TestUnreservedIsWhatNobodyHas(t *testing.T) {
	w := newWorld(t, t.TempDir(), func(c *registry.Config) { c.Concurrency = 300 })
	defer func() { w.close() }()
	names := []string{"f", "g"}
	for _, n := range names {
		w.published(n, 2)
	}
	rapid.Check(t, func(t *rapid.T) {
		type own struct {
			reserved int // -1: none
			versions [3]int
		}
		model := map[string]*own{}
		for _, n := range names {
			w.must(w.Reserve(ctx, account, n, nil))
			w.must(w.Unprovision(ctx, account, n, "1"))
			w.must(w.Unprovision(ctx, account, n, "2"))
			model[n] = &own{reserved: -1}
		}
		left := func() int {
			n := 300
			for _, o := range model {
				if o.reserved >= 0 {
					n -= o.reserved
				} else {
					n -= o.versions[1] + o.versions[2]
				}
			}
			return n
		}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			name, n := rapid.SampledFrom(names).Draw(t, "name"), rapid.IntRange(0, 220).Draw(t, "n")
			o := model[name]
			before := *o
			var err error
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				o.reserved = n
				err = w.Reserve(ctx, account, name, &n)
			case 1:
				// Taking a reservation back may leave less than the floor to
				// nobody's harm but the account's: what is provisioned counts.
				o.reserved = -1
				err = w.Reserve(ctx, account, name, nil)
			case 2:
				v := rapid.IntRange(1, 2).Draw(t, "version")
				o.versions[v] = n + 1
				_, err = w.Provision(ctx, account, name, fmt.Sprint(v), n+1)
			case 3:
				o.versions[1] = 0
				err = w.Unprovision(ctx, account, name, "1")
			}
			grew := left() < func() int { now := *o; *o = before; l := left(); *o = now; return l }()
			possible := (o.reserved < 0 || o.reserved >= o.versions[1]+o.versions[2]) && (!grew || left() >= 100)
			if (err == nil) != possible {
				t.Fatalf("%s from %+v to %+v, %d left: %v", name, before, *o, left(), err)
			}
			if err != nil {
				*o = before
			}
			if got := w.Unreserved(account); got != left() {
				t.Fatalf("%d are left, the model says %d", got, left())
			}
		}
	})
}
