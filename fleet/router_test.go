package fleet

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
)

func TestWithoutOtherNodesEverythingRunsHere(t *testing.T) {
	w := newWorld(t, nil)
	for range 100 {
		if inv := w.invoke("f"); inv.Placement.Node != "" || inv.Placement.Fleet != "" || inv.Placement.Why != "it was idle" {
			t.Fatalf("placed as %+v", inv.Placement)
		}
	}
	if w.nodes["local"].count() != 100 {
		t.Errorf("%d ran here", w.nodes["local"].count())
	}
	if got := w.router.History.Of("111111111111", "f").Seen(w.clock.Now()).Count; got != 100 {
		t.Errorf("counted %v", got)
	}
}

func TestSeldomCalledCodeFindsTheSameNode(t *testing.T) {
	w := newWorld(t, nil, append(lowNodes(4), Info{Name: "high0", Fleet: "high"})...)
	first := map[string]string{}
	for range 5 {
		for _, f := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
			inv := w.invoke(f)
			if !strings.HasPrefix(inv.Placement.Node, "low") && inv.Placement.Node != "local" || inv.Placement.Fleet != "low" {
				t.Errorf("%s ran on %s of %s", f, inv.Placement.Node, inv.Placement.Fleet)
			}
			if n := first[f]; n != "" && n != inv.Placement.Node {
				t.Errorf("%s ran on %s, and on %s before", f, inv.Placement.Node, n)
			}
			first[f] = inv.Placement.Node
		}
		w.clock.Advance(10 * time.Second)
	}
	used := map[string]bool{}
	for _, n := range first {
		used[n] = true
	}
	if len(used) < 3 {
		t.Errorf("eight functions are on %d nodes", len(used))
	}
}

func TestOftenCalledCodeIsSpreadAndItsChangesAreRecordedOnce(t *testing.T) {
	w := newWorld(t, nil, Info{Name: "low0", Fleet: "low"}, Info{Name: "high0", Fleet: "high"}, Info{Name: "high1", Fleet: "high"}, Info{Name: "high2", Fleet: "high"})
	hot := func() {
		for range 240 {
			w.invoke("f")
			w.clock.Advance(250 * time.Millisecond)
		}
	}
	hot()
	hot()
	for _, n := range []string{"high0", "high1", "high2"} {
		if got := w.nodes[n].count(); got < 80 || got > 220 {
			t.Errorf("%s ran %d of 480", n, got)
		}
	}
	if got := w.decisions.of(hearth.DecisionRoute); !slices.Equal(got, []string{"high"}) {
		t.Errorf("class changes: %v", got)
	}
	w.clock.Advance(3 * time.Minute) // not called at all: the clock alone finds that out
	if got := w.decisions.of(hearth.DecisionRoute); !slices.Equal(got, []string{"high", "low"}) {
		t.Errorf("class changes: %v", got)
	}
	if inv := w.invoke("f"); inv.Placement.Fleet != "low" {
		t.Errorf("it ran in the fleet %s", inv.Placement.Fleet)
	}
}

func TestAFullNodeGivesToTheNextAndAFullFleetToTheOther(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.LocalInfo.Fleet = "high" }, append(lowNodes(2), Info{Name: "high0", Fleet: "high"})...)
	release := make(chan struct{})
	var running sync.WaitGroup
	for _, n := range w.nodes {
		n.invoke = func(context.Context, *hearth.Invocation) error { <-release; return nil }
	}
	placed := make(chan *hearth.Invocation, 40)
	for i := range 30 { // ten fit on each node
		running.Go(func() { placed <- w.invoke("f") })
		await(t, "it to be placed", func() bool {
			n := 0
			for _, s := range w.router.List() {
				n += s.InFlight
			}
			return n == i+1
		})
	}
	close(release)
	running.Wait()
	close(placed)
	by := map[string]int{}
	for inv := range placed {
		by[inv.Placement.Node]++
	}
	if by["low0"] != 10 || by["low1"] != 10 || by["local"]+by["high0"] != 10 {
		t.Errorf("ran on %v", by)
	}
}

// await waits for a condition that another goroutine brings about.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestWhenAllAreFullNodesTakeWhatTheyCanServeTheOldestFirst(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.LocalInfo.MemoryMiB = 128 }, Info{Name: "high0", Fleet: "high", MemoryMiB: 128})
	turn := make(chan struct{})
	for _, n := range w.nodes {
		n.invoke = func(context.Context, *hearth.Invocation) error { <-turn; return nil }
	}
	var mu sync.Mutex
	var order []string
	var all sync.WaitGroup
	names := []string{"a", "b", "c", "d", "e"}
	for i, name := range names {
		all.Go(func() {
			w.invoke(name)
			mu.Lock()
			order = append(order, name)
			mu.Unlock()
		})
		await(t, "it to wait", func() bool {
			in := 0
			for _, s := range w.router.List() {
				in += s.InFlight
			}
			return in == min(i+1, 2) && w.router.Counts().Waiting[Low] == max(i-1, 0)
		})
	}
	for range names {
		mu.Lock()
		n := len(order)
		mu.Unlock()
		turn <- struct{}{}
		await(t, "its turn to end", func() bool { mu.Lock(); defer mu.Unlock(); return len(order) > n })
	}
	all.Wait()
	if got := w.router.Counts(); got.Waited != 3 || got.Waiting != [2]int{} {
		t.Errorf("counts %+v", got)
	}
	if first := slices.Sorted(slices.Values(order[:2])); !slices.Equal(first, []string{"a", "b"}) && order[0] != "a" && order[0] != "b" {
		t.Errorf("served in the order %v", order)
	}
}

func TestAnInvocationThatNoNodeHasRoomForIsRefusedInTime(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.LocalInfo.MemoryMiB = 128 }, Info{Name: "n", Fleet: "auto", MemoryMiB: 128})
	release := make(chan struct{})
	var running sync.WaitGroup
	for i, n := range []string{"local", "n"} {
		w.nodes[n].invoke = func(context.Context, *hearth.Invocation) error { <-release; return nil }
		running.Go(func() { w.invoke("busy" + string(rune('0'+i))) })
	}
	await(t, "both to be full", func() bool { l := w.router.List(); return l[0].InFlight+l[1].InFlight == 2 })
	failed := make(chan error, 1)
	go func() {
		_, err := w.router.Invoke(context.Background(), invocation("f"))
		failed <- err
	}()
	await(t, "it to wait", func() bool { return w.router.Counts().Waiting[Low] == 1 })
	ctx, cancel := context.WithCancel(context.Background())
	left := make(chan error, 1)
	go func() {
		_, err := w.router.Invoke(ctx, invocation("g"))
		left <- err
	}()
	await(t, "that to wait", func() bool { return w.router.Counts().Waiting[Low] == 2 })
	cancel()
	if err := <-left; hearth.KindOf(err) != hearth.Canceled {
		t.Errorf("whose caller left: %v", err)
	}
	w.router.Heartbeat("n-n", Load{})
	w.clock.Advance(5 * time.Second)
	w.router.Heartbeat("n-n", Load{})
	w.clock.Advance(5 * time.Second)
	if err := <-failed; hearth.KindOf(err) != hearth.TooManyRequests {
		t.Errorf("refused with %v", err)
	}
	close(release)
	running.Wait()
}

func TestAnInvocationThatANodeDiedBeforeGoesToAnother(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.LocalInfo.Fleet = "high" }, lowNodes(2)...)
	dead := w.invoke("f").Placement.Node
	w.nodes[dead].invoke = func(context.Context, *hearth.Invocation) error {
		return &hearth.Error{Kind: hearth.NodeGone, Err: errors.New("connection refused")}
	}
	if inv := w.invoke("f"); inv.Placement.Node == dead || inv.Placement.Fleet != "low" {
		t.Errorf("it ran on %s of %s", inv.Placement.Node, inv.Placement.Fleet)
	}
	if got := w.decisions.of(hearth.DecisionNode); got[len(got)-1] != "suspect" {
		t.Errorf("of nodes: %v", got)
	}
	// It comes back, and gets its code again.
	w.nodes[dead].invoke = nil
	if !w.router.Heartbeat("n-"+dead, Load{}) {
		t.Error("its heartbeat was refused")
	}
	if inv := w.invoke("f"); inv.Placement.Node != dead {
		t.Errorf("back again it ran on %s", inv.Placement.Node)
	}
	w.nodes[dead].invoke = func(context.Context, *hearth.Invocation) error {
		return &hearth.Error{Kind: hearth.Service, Message: "it was lost"}
	}
	if _, err := w.router.Invoke(context.Background(), invocation("f")); hearth.KindOf(err) != hearth.Service {
		t.Errorf("one that the function had seen ended with %v", err)
	}
}

func TestANodeThatIsNotHeardOfIsLostAndWhatItRanIsCut(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.LostAfter = lostAfter })
	cut := make(chan struct{})
	if err := w.router.Join(Info{ID: "n-1", Name: "n1", Fleet: "low", MemoryMiB: 1024}, &fakeNode{}, func() { close(cut) }); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		w.clock.Advance(time.Second)
		if !w.router.Heartbeat("n-1", Load{}) {
			t.Fatal("lost while it was heard of")
		}
	}
	w.clock.Advance(lostAfter + time.Second)
	<-cut
	if w.router.Heartbeat("n-1", Load{}) {
		t.Error("a lost node is known still")
	}
	if got := w.decisions.of(hearth.DecisionNode); !slices.Equal(got, []string{"joined", "lost"}) {
		t.Errorf("of nodes: %v", got)
	}
}

func TestWhatOtherRoutersHaveUnderWayIsLeftToThem(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.LocalInfo.Fleet = "high" }, Info{Name: "low0", Fleet: "low", MemoryMiB: 256})
	release := make(chan struct{})
	var running sync.WaitGroup
	w.nodes["low0"].invoke = func(context.Context, *hearth.Invocation) error { <-release; return nil }
	running.Go(func() { w.invoke("f") })
	await(t, "it to be there", func() bool { return w.router.List()[1].InFlight == 1 })
	// Its own is not counted twice, however late the message is.
	w.router.Heartbeat("n-low0", Load{InFlightMiB: map[string]int{DefaultRouter: 256}})
	running.Go(func() { w.invoke("f") })
	await(t, "the second to be there", func() bool { return w.router.List()[1].InFlight == 2 })
	close(release)
	running.Wait()
	w.router.Heartbeat("n-low0", Load{InFlightMiB: map[string]int{"another": 256}})
	release = make(chan struct{})
	running.Go(func() { w.invoke("f") }) // one alone always fits
	await(t, "the third to be there", func() bool { return w.router.List()[1].InFlight == 1 })
	if inv := w.invoke("f"); inv.Placement.Node != "local" {
		t.Errorf("it ran on %s, which another router has filled", inv.Placement.Node)
	}
	close(release)
	running.Wait()
}

func TestADrainingNodeGetsNothingNewAndTheLastIsNotDrained(t *testing.T) {
	w := newWorld(t, nil, lowNodes(1)...)
	if err := w.router.Drain("low0", true); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if inv := w.invoke("f"); inv.Placement.Node != "" {
			t.Fatalf("ran on %s", inv.Placement.Node)
		}
	}
	if err := w.router.Drain("local", true); hearth.KindOf(err) != hearth.InvalidParameter {
		t.Errorf("the last node was drained: %v", err)
	}
	if err := w.router.Drain("nobody", true); hearth.KindOf(err) != hearth.NotFound {
		t.Errorf("nobody was drained: %v", err)
	}
	if err := w.router.Drain("low0", false); err != nil {
		t.Fatal(err)
	}
	if inv := w.invoke("f"); inv.Placement.Node != "low0" {
		t.Errorf("undrained, it ran on %s", inv.Placement.Node)
	}
}

func TestWhatCannotMoveStaysHere(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.LocalInfo.Fleet = "high"
		c.Policy = func(_ hearth.Account, f string) *hearth.ExecutionPolicy {
			switch f {
			case "local":
				return &hearth.ExecutionPolicy{Routing: &hearth.RoutingPolicy{Mode: "local"}}
			case "variable":
				return &hearth.ExecutionPolicy{Capacity: &hearth.CapacityPolicy{Kind: "variable"}}
			case "dedicated":
				return &hearth.ExecutionPolicy{Capacity: &hearth.CapacityPolicy{Dedicated: 2}}
			}
			return &hearth.ExecutionPolicy{}
		}
	}, lowNodes(1)...)
	w.router.Pin(&hearth.Concurrency{Account: "111111111111", Function: "provisioned", Provisions: []hearth.Provision{{Version: hearth.Latest, Count: 1}}})
	for name, f := range map[string]*hearth.Function{
		"image": {PackageType: "Image"}, "provider": {CapacityProvider: &hearth.CapacityProvider{}}, "provisioned": {}, "local": {}, "variable": {}, "dedicated": {}, "java": {Runtime: "java21"},
	} {
		f.Account, f.Name, f.Version, f.MemoryMiB = "111111111111", name, hearth.Latest, 128
		if name == "java" { // which the node does not have
			w.join(Info{Name: "low0", ID: "n-low0", Fleet: "low", Runtimes: []string{"python3.12"}})
		}
		inv := &hearth.Invocation{Function: f}
		if _, err := w.router.Invoke(context.Background(), inv); err != nil || inv.Placement.Node != "local" {
			t.Errorf("%s ran on %q: %v", name, inv.Placement.Node, err)
		}
	}
	w.join(Info{Name: "low0", ID: "n-low0", Fleet: "low"})
	w.router.Pin(&hearth.Concurrency{Account: "111111111111", Function: "provisioned"})
	if inv := w.invoke("provisioned"); inv.Placement.Node != "low0" {
		t.Errorf("no longer provisioned, it ran on %s", inv.Placement.Node)
	}
}

func TestTwoNodesOfOneNameAreRefused(t *testing.T) {
	w := newWorld(t, nil, lowNodes(1)...)
	if err := w.router.Join(Info{ID: "another", Name: "low0", Fleet: "low", MemoryMiB: 1}, &fakeNode{}, nil); hearth.KindOf(err) != hearth.Conflict {
		t.Errorf("joined: %v", err)
	}
	if err := w.router.Join(Info{ID: "x", Name: "x", Fleet: "middle", MemoryMiB: 1}, &fakeNode{}, nil); hearth.KindOf(err) != hearth.InvalidParameter {
		t.Errorf("joined: %v", err)
	}
}

func TestAutoNodesAreHalfOfEachFleetOrAllOfTheOneThatHasNone(t *testing.T) {
	fleets := func(w *world) (low, high int) {
		for _, s := range w.router.List() {
			if slices.Contains(s.Fleets, Low) {
				low++
			}
			if slices.Contains(s.Fleets, High) {
				high++
			}
		}
		return low, high
	}
	w := newWorld(t, nil)
	for i, want := range [][2]int{{1, 1}, {1, 1}, {2, 1}, {2, 2}, {3, 2}} {
		if i > 0 {
			w.join(Info{Name: string(rune('a' + i)), Fleet: "auto"})
		}
		if low, high := fleets(w); low != want[0] || high != want[1] {
			t.Errorf("%d nodes: %d and %d, want %v", i+1, low, high, want)
		}
	}
	w.join(Info{Name: "low0", Fleet: "low"})
	if low, high := fleets(w); low != 1 || high != 5 {
		t.Errorf("with one for low-volume code: %d and %d", low, high)
	}
}

// Many invoke, join, leave and drain at once; what was taken is given back.
func TestRoomIsGivenBackWhateverHappens(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.LocalInfo.MemoryMiB = 1024; c.Seed = 0 }, append(lowNodes(3), Info{Name: "high0", Fleet: "high", MemoryMiB: 512})...)
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 300 {
				if _, err := w.router.Invoke(context.Background(), invocation(string(rune('a'+(g*i)%20)))); err != nil {
					t.Errorf("%v", err)
					return
				}
			}
		})
	}
	all.Go(func() {
		for i := range 60 {
			id := "n-low" + string(rune('0'+i%3))
			switch i % 4 {
			case 0:
				w.router.Leave(id)
			case 1:
				if err := w.router.Drain("high0", i%8 == 1); err != nil {
					t.Error(err)
				}
			default:
				if err := w.router.Join(Info{ID: id, Name: id[2:], Fleet: "low", MemoryMiB: 640}, &fakeNode{}, nil); err != nil {
					t.Error(err)
				}
			}
		}
	})
	all.Wait()
	w.router.mu.Lock()
	defer w.router.mu.Unlock()
	for _, m := range w.router.by {
		if m.used.Load() != 0 || m.running.Load() != 0 {
			t.Errorf("%s has %d MiB of %d invocations under way", m.Name(), m.used.Load(), m.running.Load())
		}
	}
}
