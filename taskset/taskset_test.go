package taskset

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/storetest"
)

// A model of who may call what, beside the Sets, which are killed now and then.
func TestSetsAreAsWasSaidWhateverTheOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := newHarness(t)
		ctx := context.Background()
		version, out, active := 0, map[hearth.Account]bool{}, map[hearth.Account]bool{}
		tasks := map[string]int{}
		if _, err := h.Create(ctx, owner, "img", "", Settings{Open: true}); err != nil {
			rt.Fatal(err)
		}
		who := func(t *rapid.T) hearth.Account {
			return rapid.SampledFrom([]hearth.Account{alice, bob, carol}).Draw(t, "account")
		}
		rt.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				version++
				var set []Task
				for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), 1, 3, rapid.ID).Draw(t, "tasks") {
					set = append(set, Task{name, "f", strconv.Itoa(version)})
					tasks[name] = version
				}
				var remove []string
				for name := range tasks {
					if !slices.ContainsFunc(set, func(o Task) bool { return o.Name == name }) && rapid.Bool().Draw(t, "remove "+name) {
						remove = append(remove, name)
						delete(tasks, name)
					}
				}
				if _, err := h.Put(ctx, owner, "img", "", TaskChange{Set: set, Remove: remove}); err != nil {
					t.Fatal(err)
				}
			},
			"subscribe": func(t *rapid.T) {
				a := who(t)
				_, err := h.Subscribe(ctx, a, owner, "img", "", TaskWish{})
				if out[a] != (hearth.KindOf(err) == hearth.AccessDenied) || !out[a] && err != nil {
					t.Fatalf("%v", err)
				}
				if err == nil {
					active[a] = true
				}
			},
			"leave": func(t *rapid.T) {
				a := who(t)
				if err := h.Unsubscribe(ctx, a, "img"); (err == nil) != active[a] {
					t.Fatalf("%v", err)
				}
				delete(active, a)
			},
			"withdraw": func(t *rapid.T) {
				a := who(t)
				if _, err := h.Withdraw(ctx, owner, "img", a); err != nil {
					t.Fatal(err)
				}
				out[a] = true
			},
			"approve": func(t *rapid.T) {
				a := who(t)
				if _, err := h.Approve(ctx, owner, "img", a, nil); (err == nil) != active[a] {
					t.Fatalf("%v", err)
				} else if err == nil {
					delete(out, a)
				}
			},
			"kill": func(*rapid.T) { h.reopen() },
			"": func(t *rapid.T) {
				for _, a := range []hearth.Account{alice, bob, carol} {
					for _, task := range []string{"a", "b", "c"} {
						inv, err := h.call(ctx, a, "img--"+task, "")
						v, there := tasks[task]
						want := hearth.Kind("")
						switch {
						case !active[a]:
							want = hearth.NotFound
						case out[a]:
							want = hearth.AccessDenied
						case !there:
							want = hearth.NotFound
						}
						if hearth.KindOf(err) != want || err == nil && inv.Function.Version != fmt.Sprint(v) {
							t.Fatalf("%s calls %s: %v, want %q of version %d", a, task, err, want, v)
						}
						if err == nil {
							h.Leave(inv)
						}
					}
				}
			},
		})
	})
}

func TestARecordOfANewerHearthIsNotTaken(t *testing.T) {
	for bucket, value := range map[string]string{apisBucket: `{"v":2}`, subsBucket: `{"v":2}`} {
		s := &storetest.Memory{}
		if err := s.Update(t.Context(), func(tx store.Tx) error { return tx.Put(bucket, "a/b", []byte(value)) }); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), Config{Store: s, Functions: &registry{}, Clock: clock.NewFake(noon)}); err == nil || !strings.Contains(err.Error(), "newer") {
			t.Errorf("%s: %v", bucket, err)
		}
	}
}
