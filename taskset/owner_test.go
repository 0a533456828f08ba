package taskset

import (
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/hearth-faas/hearth"
)

func TestAChangeOfATaskLeavesTheOthersAsTheyAre(t *testing.T) {
	h := newHarness(t)
	h.img(Settings{Open: true})
	h.subscribe(alice)
	thumb, exif := h.want("", alice, "img--thumb"), h.want("", alice, "img--exif")
	if _, err := h.Put(t.Context(), owner, "img", "", TaskChange{Set: []Task{{Name: "thumb", Function: "thumber"}}, Remove: []string{"resize"}}); err != nil {
		t.Fatal(err)
	}
	h.want(hearth.NotFound, alice, "img--resize")
	if f := h.want("", alice, "img--exif"); f != exif {
		t.Error("what has not changed is made anew")
	}
	if f := h.want("", alice, "img--thumb"); f.Version != "7" || f.Generation <= thumb.Generation || !slices.Equal(h.fns.told, []string{"img--thumb"}) {
		t.Errorf("%+v; told %v", f, h.fns.told)
	}
	if _, err := h.Point(t.Context(), owner, "img", "prod", 1); err != nil {
		t.Fatal(err)
	}
	h.want("", alice, "img--resize")
	if f := h.want("", alice, "img--thumb"); f.Version != "1" {
		t.Errorf("after going back: %+v", f)
	}
	a, err := h.API(owner, "img")
	if err != nil || len(a.Versions) != 2 || a.Stages["prod"] != 1 {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := h.Put(t.Context(), owner, "img", "", TaskChange{Set: []Task{{"thumb", "thumber", "1"}}}); err != nil {
		t.Fatal(err)
	}
	if a, _ := h.API(owner, "img"); a.Last != 2 {
		t.Error("what changes nothing is a version")
	}
}

func TestStagesAreOfTheirOwn(t *testing.T) {
	h := newHarness(t)
	h.img(Settings{Open: true})
	h.subscribe(alice)
	if _, err := h.Put(t.Context(), owner, "img", "beta", TaskChange{Set: []Task{{"thumb", "thumber", "2"}}}); err != nil {
		t.Fatal(err)
	}
	inv, err := h.call(t.Context(), alice, "img--thumb", "beta")
	if err != nil || inv.Function.Version != "2" || inv.Function.Shared.Stage != "beta" {
		t.Errorf("%+v, %v", inv, err)
	}
	if f := h.want("", alice, "img--thumb"); f.Version != "1" {
		t.Errorf("%+v", f)
	}
	for _, bad := range []func() error{
		func() error { _, err := h.Point(t.Context(), owner, "img", "prod", 9); return err },
		func() error { _, err := h.Point(t.Context(), owner, "img", "9", 1); return err },
		func() error { _, err := h.Point(t.Context(), owner, "img", "prod", 0); return err },
		func() error { _, err := h.Configure(t.Context(), owner, "img", Settings{Stage: "nope"}); return err },
	} {
		if err := bad(); hearth.KindOf(err) != hearth.InvalidParameter && hearth.KindOf(err) != hearth.NotFound {
			t.Error(err)
		}
	}
	if _, err := h.Configure(t.Context(), owner, "img", Settings{Open: true, Stage: "beta"}); err != nil {
		t.Fatal(err)
	}
	if f := h.want("", alice, "img--thumb"); f.Version != "2" {
		t.Errorf("%+v", f)
	}
	if _, err := h.Point(t.Context(), owner, "img", "prod", 0); err != nil {
		t.Error(err)
	}
}

// Whoever has seen the new set in one task never sees the old in another,
// whatever is called while the owner changes all of it again and again.
func TestNobodySeesAHalfUpdatedSet(t *testing.T) {
	h := newHarness(t)
	h.img(Settings{Open: true})
	h.subscribe(alice)
	h.subscribe(bob)
	const versions = 60
	ctx := t.Context()
	var all sync.WaitGroup
	for i, a := range []hearth.Account{alice, alice, bob, bob} {
		all.Go(func() {
			tasks := []string{"resize", "thumb", "exif"}
			last := 0
			for n := 0; last < versions; n++ {
				inv, err := h.call(ctx, a, "img--"+tasks[(n+i)%3], "")
				if hearth.KindOf(err) == hearth.TooManyRequests {
					continue // it was changed again and again
				}
				if err != nil {
					t.Error(err)
					return
				}
				v, _ := strconv.Atoi(inv.Function.Version)
				h.Leave(inv)
				if v < last {
					t.Errorf("version %d of %s after %d of another task", v, inv.Function.Name, last)
					return
				}
				last = v
			}
		})
	}
	for v := 2; v <= versions; v++ {
		h.put(v)
	}
	all.Wait()
}

func TestWhatCannotBeIsRefusedWithTheReason(t *testing.T) {
	h := newHarness(t)
	ctx := t.Context()
	h.img(Settings{Open: true})
	put := func(tasks ...Task) error {
		_, err := h.Put(ctx, owner, "img", "", TaskChange{Set: tasks})
		return err
	}
	for what, err := range map[string]error{
		"a name":             errorOf(h.Create(ctx, owner, "Img", "", Settings{})),
		"two dashes":         errorOf(h.Create(ctx, owner, "a--b", "", Settings{})),
		"the same again":     errorOf(h.Create(ctx, owner, "img", "", Settings{})),
		"an account":         errorOf(h.Create(ctx, owner, "x", "", Settings{Accounts: []hearth.Account{"me"}})),
		"a markup":           errorOf(h.Create(ctx, owner, "x", "", Settings{Markup: -1})),
		"a quota":            errorOf(h.Create(ctx, owner, "x", "", Settings{Quota: Quota{Rate: -1}})),
		"a burst of nothing": errorOf(h.Create(ctx, owner, "x", "", Settings{Quota: Quota{Burst: 1}})),
		"a key's time":       errorOf(h.Create(ctx, owner, "x", "", Settings{KeyQuota: Quota{CPUSeconds: 1}})),
		"a destination":      errorOf(h.Create(ctx, owner, "x", "", Settings{Reaches: []string{"not a host"}})),
		"no API":             errorOf(h.Put(ctx, owner, "none", "", TaskChange{})),
		"another's API":      errorOf(h.Put(ctx, alice, "img", "", TaskChange{})),
		"a task's name":      put(Task{Name: "a--b", Function: "f", Version: "1"}),
		"a task twice":       put(Task{Name: "a", Function: "f", Version: "1"}, Task{Name: "a", Function: "g", Version: "1"}),
		"a durable function": put(Task{Name: "a", Function: "durable", Version: "1"}),
		"an unknown task":    errorOf(h.Put(ctx, owner, "img", "", TaskChange{Remove: []string{"nope"}})),
		"an unknown API":     errorOf(h.Subscribe(ctx, alice, owner, "nope", "", TaskWish{})),
		"an alias":           errorOf(h.Subscribe(ctx, alice, owner, "img", "A", TaskWish{})),
		"a network":          errorOf(h.Subscribe(ctx, alice, owner, "img", "", TaskWish{Network: &hearth.NetworkPolicy{Open: true, Allow: []string{"a"}}})),
		"no subscription":    h.Unsubscribe(ctx, alice, "img"),
		"a key of none":      func() error { _, _, err := h.MakeKey(ctx, alice, "img", ""); return err }(),
	} {
		switch hearth.KindOf(err) {
		case hearth.InvalidParameter, hearth.NotFound, hearth.Conflict:
		default:
			t.Errorf("%s: %v", what, err)
		}
	}
	h.fns.gone["thumber"] = true
	h.subscribe(alice)
	h.want(hearth.AccessDenied, alice, "img--thumb")
}
