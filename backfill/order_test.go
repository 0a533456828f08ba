package backfill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
)

// shuffled lists items in an order of its own.
type shuffled []Item

func (s shuffled) Steady() bool { return true }
func (s shuffled) Close() error { return nil }

func (s shuffled) Page(_ context.Context, position string, most int) ([]Item, string, error) {
	at, err := offset(position)
	if err != nil {
		return nil, "", err
	}
	end := min(int(at)+most, len(s))
	if end == len(s) {
		return s[at:], "", nil
	}
	return s[at:end], strconv.Itoa(end), nil
}

// TestNoItemIsCalledBeforeThoseThatItWaitsFor goes by what the function saw, and
// by the chains that the test made, through kills and failures.
func TestNoItemIsCalledBeforeThoseThatItWaitsFor(t *testing.T) {
	const chains, long = 300, 10
	var items shuffled
	for c := range chains {
		for n := range long {
			after := ""
			if n > 0 {
				after = fmt.Sprintf("%d/%d", c, n-1)
			}
			items = append(items, Item{ID: fmt.Sprintf("%d/%d", c, n), Value: json.RawMessage(fmt.Sprintf(`{"after":[%q]}`, after))})
			if after == "" {
				items[len(items)-1].Value = json.RawMessage(`{}`)
			}
		}
	}
	rand.Shuffle(len(items), func(i, j int) { items[i], items[j] = items[j], items[i] })
	for name, spec := range map[string]*Order{"by a field": {Field: "after"}, "as chains": {Chain: `^(\d+)/`}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.source = items
			var mu sync.Mutex
			done := map[string]bool{}
			mended := false
			poison := func(id string) bool { return id == "7/4" || id == "8/0" }
			w.call = func(ev callEvent) ([]byte, error) {
				mu.Lock()
				defer mu.Unlock()
				id := ev.Items[0].ID
				chain, at, _ := strings.Cut(id, "/")
				if n, _ := strconv.Atoi(at); n > 0 && !done[chain+"/"+strconv.Itoa(n-1)] {
					t.Errorf("%s is called before the one before it is done", id)
				}
				if poison(id) && !mended || rand.IntN(50) == 0 {
					return nil, errors.New("no")
				}
				done[id] = true
				return nil, nil
			}
			w.open()
			id := w.start(Spec{Parallel: 20, Attempts: 8, Order: spec})
			for k := range 3 {
				w.until(id, func(s Status) bool { return s.Succeeded > k*600 })
				if err := w.Jobs.Close(); err != nil {
					t.Fatal(err)
				}
				w.open()
			}
			s := w.until(id, func(s Status) bool { return s.Status == Finished })
			if s.Found != chains*long || s.Failed != 6+10 || s.Succeeded != chains*long-16 || len(done) != s.Succeeded {
				t.Errorf("%+v, and the function did %d", s, len(done))
			}
			report := w.report(id)
			if f := report["7/5"]; f.Error != "it waits for an item that was given up" || string(f.Value) == "" || report["7/4"].Error != "no" {
				t.Errorf("the report: %v", report)
			}
			mu.Lock()
			mended = true
			mu.Unlock()
			if err := w.Resume(context.Background(), account, id); err != nil {
				t.Fatal(err)
			}
			if s = w.until(id, func(s Status) bool { return s.Status == Finished }); s.Succeeded != chains*long || s.Failed != 0 {
				t.Errorf("resumed: %+v", s)
			}
		})
	}
}

func TestAnOrderThatCannotBeIsRefusedBeforeAnythingIsCalled(t *testing.T) {
	object := func(after string) json.RawMessage { return json.RawMessage(`{"after":` + after + `}`) }
	for want, c := range map[string]struct {
		items shuffled
		order Order
	}{
		"a waits for c waits for b waits for a": {shuffled{{ID: "a", Value: object(`"c"`)}, {ID: "b", Value: object(`["a"]`)}, {ID: "c", Value: object(`"b"`)}, {ID: "d", Value: object(`"c"`)}}, Order{Field: "after"}},
		"waits for 7, which is not in the data": {shuffled{{ID: "a", Value: object("7")}}, Order{Field: "after"}},
		"neither an id nor a list of ids":       {shuffled{{ID: "a", Value: object("{}")}}, Order{Field: "after"}},
		"its value is no object":                {shuffled{{ID: "a", Value: json.RawMessage("1")}}, Order{Field: "after"}},
		"a.x waits for a.y waits for a.x":       {shuffled{{ID: "a.x", Value: object("1")}, {ID: "a.y", Value: object("1")}}, Order{Rules: []Rule{{`(.*)\.x`, "$1.y"}, {`(.*)\.y`, "$1.x"}}}},
		"a waits for a":                         {shuffled{{ID: "a", Value: object(`"a"`)}}, Order{Field: "after"}},
	} {
		w := newWorld(t)
		w.source = c.items
		w.call = func(ev callEvent) ([]byte, error) {
			t.Errorf("called with %v", ev)
			return nil, nil
		}
		w.open()
		id := w.start(Spec{Order: &c.order})
		for {
			s, err := w.Status(account, id)
			if err != nil {
				t.Fatal(err)
			}
			if s.Status == Running {
				continue
			}
			// A circle may be told from any of its items on.
			if s.Status != Failed || !strings.Contains(s.Why, want) && !strings.Contains(s.Why, "wait for each other") {
				t.Errorf("%+v, want %s", s, want)
			}
			break
		}
	}
	for _, bad := range []Order{{}, {Chain: "("}, {Rules: []Rule{{Match: "a"}}}, {Rules: []Rule{{Match: "(", After: "b"}}}} {
		s := Spec{Function: "f", Order: &bad}
		if err := s.check(); hearth.KindOf(err) != hearth.InvalidParameter {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// TestAnyPlanIsAnOrder plays random graphs through.
func TestAnyPlanIsAnOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 30).Draw(rt, "items")
		deps := make([][]string, n)
		var items []*item
		for i := range n {
			for j := range n {
				if j != i && rapid.IntRange(0, n).Draw(rt, "edge") == 0 {
					deps[i] = append(deps[i], strconv.Itoa(j))
				}
			}
			b, _ := json.Marshal(map[string]any{"after": deps[i]})
			id := strconv.Itoa(i)
			items = append(items, &item{stored: stored{ID: id, Value: b}, hash: hashOf(id)})
		}
		circular := func() bool {
			done := map[string]bool{}
			for again := true; again; {
				again = false
			next:
				for i := range n {
					if done[strconv.Itoa(i)] {
						continue
					}
					for _, d := range deps[i] {
						if !done[d] {
							continue next
						}
					}
					done[strconv.Itoa(i)], again = true, true
				}
			}
			return len(done) < n
		}()
		o, err := openOrder(&Order{Field: "after"})
		if err != nil {
			rt.Fatal(err)
		}
		if err := o.add(items); err != nil {
			rt.Fatal(err)
		}
		_, err = o.plan(func(hash) (bool, error) { return false, nil })
		if (err != nil) != circular {
			rt.Fatalf("circular is %v: %v", circular, err)
		}
		if circular {
			return
		}
		done := map[hash]bool{}
		at := map[hash]int{}
		for i, it := range items {
			at[it.hash] = i
		}
		for {
			taken := o.take(rapid.IntRange(1, 5).Draw(rt, "take"))
			if len(taken) == 0 {
				break
			}
			for _, h := range taken {
				for _, d := range deps[at[h]] {
					if !done[hashOf(d)] {
						rt.Fatalf("%d comes before %s", at[h], d)
					}
				}
			}
			for _, h := range taken {
				done[h] = true
				o.settled([]*item{items[at[h]]}, nil, nil)
			}
		}
		if _, left := o.state(); len(done) != n || left != 0 {
			rt.Fatalf("%d of %d are done, %d left", len(done), n, left)
		}
	})
}

func TestNumbersInIDsCountByTheirValue(t *testing.T) {
	rising := []string{"", "a", "a1", "a2", "a002x", "a10", "a10b", "a11", "b"}
	for i, a := range rising {
		for j, b := range rising {
			if c := natural(a, b); (c < 0) != (i < j) || (c > 0) != (i > j) {
				t.Errorf("%q and %q: %d", a, b, c)
			}
		}
	}
}
