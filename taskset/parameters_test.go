package taskset

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hearth-faas/hearth"
)

func value(s string) *string { return &s }

func (h *harness) parameters(stage string, ps ...hearth.Parameter) {
	h.t.Helper()
	if _, err := h.Put(context.Background(), owner, "img", stage, TaskChange{Parameters: &ps}); err != nil {
		h.t.Fatal(err)
	}
}

func TestParametersComeToEveryTaskAndAreShownToNobody(t *testing.T) {
	h := newHarness(t)
	ctx := t.Context()
	h.img(Settings{Open: true, Reaches: []string{"db.example:443"}})
	h.parameters("", hearth.Parameter{Name: "KEY", Secret: true, Required: true}, hearth.Parameter{Name: "A", Default: "d"}, hearth.Parameter{Name: "B"})
	ask := func(a hearth.Account, set map[string]*string) (*Subscription, error) {
		return h.Subscribe(ctx, a, owner, "img", "", TaskWish{Parameters: set})
	}
	for what, set := range map[string]map[string]*string{
		"one is missing": nil, "one is unknown": {"KEY": value("k"), "PATH": value("/")}, "one is not declared": {"KEY": value("k"), "C": value("c")},
		"a NUL": {"KEY": value("a\x00")}, "too long": {"KEY": value(strings.Repeat("x", 5000))},
	} {
		if _, err := ask(alice, set); hearth.KindOf(err) != hearth.InvalidParameter {
			t.Errorf("%s: %v", what, err)
		}
	}
	for a, key := range map[hearth.Account]string{alice: "alice's", bob: "bob's"} {
		r, err := ask(a, map[string]*string{"KEY": value(key)})
		if err != nil || r.Sealed != nil || r.Values != "" || !slices.Equal(r.Set, []string{"KEY"}) {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	for range 2 {
		for _, task := range []string{"resize", "thumb", "exif"} {
			for a, key := range map[hearth.Account]string{alice: "alice's", bob: "bob's"} {
				if f := h.want("", a, "img--"+task); f.Env["KEY"] != key || f.Env["A"] != "d" {
					t.Errorf("%s's %s has %v", a, task, f.Env)
				}
			}
		}
		h.reopen()
	}
	for rec := range scan(t, h.store, subsBucket) {
		if strings.Contains(rec, "alice's") || strings.Contains(rec, "bob's") {
			t.Error("a secret is on disk")
		}
	}
	for _, s := range h.Subscribers(owner, "img") {
		if s.Set != nil || s.Sealed != nil || s.Values != "" {
			t.Errorf("the owner sees %+v", s)
		}
	}

	// A new value: what has the old one is let go at once.
	was := h.want("", alice, "img--thumb")
	h.fns.told = nil
	if _, err := ask(alice, map[string]*string{"KEY": value("new"), "B": value("b")}); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(h.fns.told, "img--thumb") {
		t.Errorf("told of %v", h.fns.told)
	}
	if f := h.want("", alice, "img--thumb"); f.Env["KEY"] != "new" || f.Env["B"] != "b" || f.Generation <= was.Generation {
		t.Errorf("%+v", f)
	}
	if _, err := ask(alice, map[string]*string{"B": nil}); err != nil {
		t.Fatal(err)
	}
	if f := h.want("", alice, "img--thumb"); f.Env["KEY"] != "new" || f.Env["B"] != "" {
		t.Errorf("%+v", f)
	}
	if _, err := ask(alice, map[string]*string{"KEY": nil}); hearth.KindOf(err) != hearth.InvalidParameter {
		t.Errorf("a required one is taken away: %v", err)
	}

	// What the owner says later of the network lets nothing out.
	if _, err := h.Configure(ctx, owner, "img", Settings{Open: true, Reaches: []string{"thief.example:443"}}); err != nil {
		t.Fatal(err)
	}
	if f := h.want("", alice, "img--thumb"); !slices.Equal(f.Shared.Network.Allow, []string{"db.example:443"}) {
		t.Errorf("it may reach %+v", f.Shared.Network)
	}
	if _, err := h.Subscribe(ctx, alice, owner, "img", "", TaskWish{AsOffered: true}); err != nil {
		t.Fatal(err)
	}
	if f := h.want("", alice, "img--thumb"); !slices.Equal(f.Shared.Network.Allow, []string{"thief.example:443"}) {
		t.Errorf("it may reach %+v", f.Shared.Network)
	}
}

func TestWhoWaitsForApprovalMaySetParametersAndLearnsOfNone(t *testing.T) {
	h := newHarness(t)
	h.img(Settings{})
	h.parameters("", hearth.Parameter{Name: "KEY", Required: true})
	r, err := h.Subscribe(t.Context(), alice, owner, "img", "", TaskWish{Parameters: map[string]*string{"KEY": value("k"), "GUESS": value("g")}})
	if err != nil || r.Status != Pending || h.Parameters(alice, "img") != nil {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, err := h.Subscribe(t.Context(), bob, owner, "img", "", TaskWish{}); err != nil {
		t.Fatal(err)
	}
	for _, a := range []hearth.Account{alice, bob} {
		if _, err := h.Approve(t.Context(), owner, "img", a, nil); err != nil {
			t.Fatal(err)
		}
	}
	if f := h.want("", alice, "img--thumb"); f.Env["KEY"] != "k" || f.Env["GUESS"] != "" {
		t.Errorf("%v", f.Env)
	}
	h.want(hearth.AccessDenied, bob, "img--thumb")
	if ps := h.Parameters(bob, "img")["prod"]; len(ps) != 1 || ps[0].Name != "KEY" {
		t.Errorf("%v", ps)
	}
}

// A stage that wants more refuses those who have not set it, and the others go on;
// what was set ahead holds from the change on.
func TestANewRequiredParameterIsSetAheadOfTheStageThatWantsIt(t *testing.T) {
	h := newHarness(t)
	ctx := t.Context()
	h.img(Settings{Open: true})
	h.subscribe(alice)
	h.subscribe(bob)
	was := h.want("", alice, "img--thumb")
	if _, err := h.Put(ctx, owner, "img", "beta", TaskChange{Set: []Task{{"thumb", "thumber", "2"}}, Parameters: &[]hearth.Parameter{{Name: "KEY", Required: true}}}); err != nil {
		t.Fatal(err)
	}
	if f := h.want("", alice, "img--thumb"); f != was {
		t.Error("a change of beta made prod anew")
	}
	if _, err := h.call(ctx, alice, "img--thumb", "beta"); hearth.KindOf(err) != hearth.AccessDenied || !strings.Contains(err.Error(), "KEY") {
		t.Errorf("%v", err)
	}
	if _, err := h.Subscribe(ctx, alice, owner, "img", "", TaskWish{Parameters: map[string]*string{"KEY": value("k")}}); err != nil {
		t.Fatal(err)
	}
	if f := h.want("", alice, "img--thumb"); f != was {
		t.Error("a parameter that prod has not made it anew")
	}
	if _, err := h.Point(ctx, owner, "img", "prod", 2); err != nil {
		t.Fatal(err)
	}
	if f := h.want("", alice, "img--thumb"); f.Env["KEY"] != "k" || f.Version != "2" {
		t.Errorf("%+v", f)
	}
	h.want(hearth.AccessDenied, bob, "img--thumb")
	for _, bad := range [][]hearth.Parameter{{{Name: "PYTHONPATH"}}, {{Name: "K"}, {Name: "K"}}, {{Name: "K", Secret: true, Default: "x"}}} {
		if _, err := h.Put(ctx, owner, "img", "", TaskChange{Parameters: &bad}); hearth.KindOf(err) != hearth.InvalidParameter {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

// While the set and its parameters change together again and again, and the
// subscriber's values too, every call has code and parameters of one set, and
// never values that are older than those it has seen.
func TestNobodySeesASetWithAnotherSetsParameters(t *testing.T) {
	h := newHarness(t)
	h.img(Settings{Open: true})
	names := []string{"ONE", "TWO"}
	change := func(v int) {
		var set []Task
		for _, name := range []string{"resize", "thumb", "exif"} {
			set = append(set, Task{name, name + "er", string(rune('0' + v%2))})
		}
		if _, err := h.Put(context.Background(), owner, "img", "", TaskChange{Set: set, Parameters: &[]hearth.Parameter{{Name: names[v%2], Required: true}}}); err != nil {
			t.Error(err)
		}
	}
	change(0)
	wish := func(n string) {
		if _, err := h.Subscribe(context.Background(), alice, owner, "img", "", TaskWish{Parameters: map[string]*string{"ONE": value(n)}}); err != nil && hearth.KindOf(err) != hearth.InvalidParameter {
			t.Error(err)
		}
	}
	// Both are declared, so that both can be set ahead.
	if _, err := h.Put(context.Background(), owner, "img", "beta", TaskChange{Parameters: &[]hearth.Parameter{{Name: "ONE"}, {Name: "TWO"}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Subscribe(context.Background(), alice, owner, "img", "", TaskWish{Parameters: map[string]*string{"ONE": value("a"), "TWO": value("2")}}); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			last := ""
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				inv, err := h.call(context.Background(), alice, "img--"+[]string{"resize", "thumb", "exif"}[(n+i)%3], "")
				if hearth.KindOf(err) == hearth.TooManyRequests {
					continue // it was changed again and again
				}
				if err != nil {
					t.Error(err)
					return
				}
				f := inv.Function
				h.Leave(inv)
				has, other := f.Env[names[0]], f.Env[names[1]]
				if f.Version == "1" {
					has, other = other, has
				}
				if has == "" || other != "" {
					t.Errorf("version %s has %v", f.Version, f.Env)
				}
				if one := f.Env["ONE"]; one != "" {
					if one < last {
						t.Errorf("the value %s after %s", one, last)
					}
					last = one
				}
			}
		})
	}
	for v := 1; v <= 40; v++ {
		change(v)
		wish("a" + string(rune('a'+v/26)) + string(rune('a'+v%26)))
	}
	close(done)
	all.Wait()
}
