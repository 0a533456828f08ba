package fleet

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
)

// fakeNode runs invocations by a function of the test's.
type fakeNode struct {
	mu     sync.Mutex
	ran    []string // functions
	invoke func(ctx context.Context, inv *hearth.Invocation) error
}

func (n *fakeNode) Invoke(ctx context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
	if n.invoke != nil {
		if err := n.invoke(ctx, inv); err != nil {
			return nil, err
		}
	}
	n.mu.Lock()
	n.ran = append(n.ran, inv.Function.Name)
	n.mu.Unlock()
	inv.Placement.Path, inv.Placement.Why = hearth.PathReuse, "it was idle"
	return &hearth.Result{}, nil
}

func (n *fakeNode) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.ran)
}

func (n *fakeNode) Prepare(context.Context, *hearth.Function) error              { return nil }
func (n *fakeNode) Overtake(context.Context, *hearth.Function, *hearth.Function) {}
func (n *fakeNode) Ahead(context.Context, *hearth.Function, *hearth.Function, float64) {
}
func (n *fakeNode) Changed(_, _ *hearth.Function)        {}
func (n *fakeNode) Renew()                               {}
func (n *fakeNode) PolicyChanged(hearth.Account, string) {}

type decisions struct {
	mu  sync.Mutex
	all []hearth.Decision
}

func (d *decisions) Record(one *hearth.Decision) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = append(d.all, *one)
}

func (d *decisions) of(kind hearth.DecisionKind) (chosen []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, one := range d.all {
		if one.Kind == kind {
			chosen = append(chosen, one.Chosen)
		}
	}
	return chosen
}

// world is a router with nodes, by their names; the local one is "local".
type world struct {
	t         *testing.T
	clock     *clock.Fake
	router    *Router
	decisions *decisions
	nodes     map[string]*fakeNode
}

func newWorld(t *testing.T, change func(*Config), nodes ...Info) *world {
	t.Helper()
	w := &world{t: t, clock: clock.NewFake(start), decisions: &decisions{}, nodes: map[string]*fakeNode{"local": {}}}
	cfg := Config{Local: w.nodes["local"], LocalInfo: Info{Name: "local", Fleet: "auto", MemoryMiB: 1280}, Clock: w.clock, Recorder: w.decisions, Criteria: criteria, Seed: 1, LostAfter: 1000 * time.Hour}
	if change != nil {
		change(&cfg)
	}
	var err error
	if w.router, err = Open(context.Background(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.router.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, n := range nodes {
		w.join(n)
	}
	return w
}

func (w *world) join(n Info) {
	w.t.Helper()
	if n.ID == "" {
		n.ID = "n-" + n.Name
	}
	if n.MemoryMiB == 0 {
		n.MemoryMiB = 1280
	}
	w.nodes[n.Name] = &fakeNode{}
	if err := w.router.Join(n, w.nodes[n.Name], nil); err != nil {
		w.t.Fatal(err)
	}
}

func lowNodes(n int) (all []Info) {
	for i := range n {
		all = append(all, Info{Name: fmt.Sprintf("low%d", i), Fleet: "low"})
	}
	return all
}

func invocation(name string) *hearth.Invocation {
	return &hearth.Invocation{Function: &hearth.Function{Account: "111111111111", Name: name, Version: hearth.Latest, MemoryMiB: 128, Runtime: "provided.al2023"}}
}

func (w *world) invoke(name string) *hearth.Invocation {
	w.t.Helper()
	inv := invocation(name)
	if _, err := w.router.Invoke(context.Background(), inv); err != nil {
		w.t.Fatalf("invoke %s: %v", name, err)
	}
	return inv
}
