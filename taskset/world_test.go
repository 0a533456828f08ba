package taskset

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/storetest"
)

const owner, alice, bob, carol hearth.Account = "000000000000", "111122223333", "444455556666", "777788889999"

var noon = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// registry is Functions that has every published version of every function of
// the owner, and counts generations.
type registry struct {
	mu   sync.Mutex
	last uint64
	gone map[string]bool
	told []string // what was changed, as ALIAS--TASK old generation
}

func (r *registry) Resolve(_ context.Context, a hearth.Account, name, qualifier string) (*hearth.Function, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a != owner || r.gone[name] {
		return nil, hearth.Errorf(hearth.NotFound, "Function not found: %s", name)
	}
	if qualifier == "" {
		qualifier = hearth.Latest
	}
	n, _ := strconv.Atoi(qualifier)
	f := &hearth.Function{Account: a, Name: name, Version: qualifier, Generation: uint64(n), MemoryMiB: 128, Timeout: time.Second, State: hearth.Active,
		Handler: "secret.handler", Env: map[string]string{"A": "b"}, Package: hearth.Package{SHA256: name + qualifier}}
	if name == "durable" {
		f.Durable = &hearth.Durable{}
	}
	return f, nil
}

func (r *registry) Generation(context.Context) (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last++
	return 1000 + r.last, nil
}

func (r *registry) changed(old, now *hearth.Function) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Generation <= old.Generation {
		panic("what takes a Function's place is older")
	}
	r.told = append(r.told, old.Name)
}

// harness is Sets over all that.
type harness struct {
	*Sets
	t     testing.TB
	store *storetest.Memory
	clock *clock.Fake
	fns   *registry
	cpu   func() time.Duration
	// stopped are accounts that are suspended.
	stopped map[hearth.Account]bool
}

func newHarness(t testing.TB) *harness {
	h := &harness{t: t, store: &storetest.Memory{}, clock: clock.NewFake(noon), fns: &registry{gone: map[string]bool{}}}
	h.reopen()
	return h
}

// reopen is as if the process had been killed.
func (h *harness) reopen() {
	s, err := Open(context.Background(), Config{
		Store: h.store, Functions: h.fns, Seal: storetest.Sealer{}, Clock: h.clock, Region: "us-east-1", Changed: h.fns.changed,
		Publish: func(context.Context, hearth.Account, string) (string, error) { return "7", nil },
		Taken: func(a hearth.Account, prefix string) string {
			if a == carol && prefix == "taken--" {
				return "taken--x"
			}
			return ""
		},
		Usable: func(a hearth.Account) error {
			if h.stopped[a] {
				return hearth.Errorf(hearth.TooManyRequests, "The account is stopped.")
			}
			return nil
		},
		CPU: func(context.Context, hearth.Account, hearth.Account, string) (time.Duration, error) {
			return h.cpu(), nil
		},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.Sets = s
}

// img publishes the API of the scenario, at version 1 of all functions.
func (h *harness) img(s Settings) {
	h.t.Helper()
	if _, err := h.Create(context.Background(), owner, "img", "", s); err != nil {
		h.t.Fatal(err)
	}
	h.put(1)
}

func (h *harness) put(version int) {
	h.t.Helper()
	var set []Task
	for _, name := range []string{"resize", "thumb", "exif"} {
		set = append(set, Task{name, name + "er", strconv.Itoa(version)})
	}
	if _, err := h.Put(context.Background(), owner, "img", "", TaskChange{Set: set}); err != nil {
		h.t.Fatal(err)
	}
}

func (h *harness) subscribe(a hearth.Account) *Subscription {
	h.t.Helper()
	r, err := h.Subscribe(context.Background(), a, owner, "img", "", TaskWish{})
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

// call lets a call in and tells what it runs; the caller calls Leave.
func (h *harness) call(ctx context.Context, a hearth.Account, name, stage string) (*hearth.Invocation, error) {
	f, err := h.Resolve(ctx, a, name, stage)
	if err != nil {
		return nil, err
	}
	inv := &hearth.Invocation{Account: a, Name: name, Function: f}
	return inv, h.Enter(ctx, inv)
}

// want calls and demands an error of the kind, "" for none.
func (h *harness) want(kind hearth.Kind, a hearth.Account, name string) *hearth.Function {
	h.t.Helper()
	inv, err := h.call(context.Background(), a, name, "")
	if hearth.KindOf(err) != kind {
		h.t.Fatalf("%s calls %s: %v, want %q", a, name, err, kind)
	}
	if err != nil {
		if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "thumber") {
			h.t.Errorf("the error tells of the code: %v", err)
		}
		return nil
	}
	h.Leave(inv)
	return inv.Function
}

func scan(t testing.TB, s store.Store, bucket string) map[string]bool {
	all := map[string]bool{}
	if err := s.View(t.Context(), func(r store.Reader) error {
		for rec, err := range r.Scan(bucket, "", "") {
			if err != nil {
				return err
			}
			all[string(rec.Value)] = true
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func errorOf[T any](_ T, err error) error { return err }
