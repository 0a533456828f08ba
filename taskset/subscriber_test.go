package taskset

import (
	"slices"
	"strings"
	"testing"

	"github.com/hearth-faas/hearth"
)

func TestASubscriptionNamesEveryTaskAtOnceAndWhatRunsIsTheOwnersForTheCaller(t *testing.T) {
	h := newHarness(t)
	h.img(Settings{Open: true, Markup: 0.25, Reaches: []string{"img.example:443"}})
	h.want(hearth.NotFound, alice, "img--thumb")
	if r := h.subscribe(alice); r.Status != Active {
		t.Errorf("%+v", r)
	}
	for _, task := range []string{"resize", "thumb", "exif"} {
		f := h.want("", alice, "img--"+task)
		x := f.Shared
		if f.Account != alice || f.Name != "img--"+task || f.Version != "1" || x == nil || x.Owner != owner || x.OwnerFunction != task+"er" || x.Markup != 0.25 ||
			x.API != "img" || x.Stage != "prod" || x.Task != task || !slices.Equal(x.Network.Allow, []string{"img.example:443"}) || f.Key().Tenant() != alice+"+"+owner {
			t.Errorf("%+v, %+v", f, x)
		}
		if again := h.want("", alice, "img--"+task); again != f {
			t.Error("a second call runs another Function")
		}
	}
	h.want(hearth.NotFound, alice, "img--nope")
	h.want(hearth.NotFound, bob, "img--thumb")
	if _, err := h.call(t.Context(), alice, "img--thumb", "beta"); hearth.KindOf(err) != hearth.NotFound {
		t.Errorf("a stage that there is not: %v", err)
	}
	if !h.Claimed(alice, "img--anything") || h.Claimed(bob, "img--thumb") || h.Claimed(alice, "img") {
		t.Error("the names that are claimed")
	}
	if _, err := h.Subscribe(t.Context(), alice, owner, "img", "pics", TaskWish{}); hearth.KindOf(err) != hearth.Conflict {
		t.Errorf("twice: %v", err)
	}
	if _, err := h.Subscribe(t.Context(), owner, owner, "img", "", TaskWish{}); hearth.KindOf(err) != hearth.InvalidParameter {
		t.Errorf("one's own: %v", err)
	}
	if _, err := h.Subscribe(t.Context(), carol, owner, "img", "taken", TaskWish{}); hearth.KindOf(err) != hearth.Conflict {
		t.Errorf("a name that is in use: %v", err)
	}
}

func TestAccessIsAskedForApprovedDeniedAndWithdrawn(t *testing.T) {
	h := newHarness(t)
	ctx := t.Context()
	h.img(Settings{Accounts: []hearth.Account{bob}})
	if r := h.subscribe(alice); r.Status != Pending {
		t.Errorf("%+v", r)
	}
	if r := h.subscribe(bob); r.Status != Active {
		t.Errorf("%+v", r)
	}
	h.want(hearth.AccessDenied, alice, "img--thumb")
	h.want("", bob, "img--thumb")
	if err := h.Deny(ctx, owner, "img", alice); err != nil {
		t.Fatal(err)
	}
	h.want(hearth.AccessDenied, alice, "img--thumb")
	if _, err := h.Approve(ctx, owner, "img", alice, nil); err != nil {
		t.Fatal(err)
	}
	was := h.want("", alice, "img--thumb")
	inv, err := h.call(ctx, alice, "img--thumb", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Withdraw(ctx, owner, "img", alice); err != nil {
		t.Fatal(err)
	}
	h.Leave(inv) // which was let in before
	h.want(hearth.AccessDenied, alice, "img--thumb")
	if err := h.Enter(ctx, &hearth.Invocation{Function: was}); hearth.KindOf(err) != hearth.AccessDenied {
		t.Errorf("one that was resolved before: %v", err)
	}
	h.want("", bob, "img--thumb")
	if !slices.Contains(h.fns.told, "img--thumb") {
		t.Error("the containers of the withdrawn are kept")
	}
	if r, _ := h.Subscription(alice, "img"); r.Status != Withdrawn {
		t.Errorf("%+v", r)
	}
	if err := h.Unsubscribe(ctx, alice, "img"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Subscribe(ctx, alice, owner, "img", "other", TaskWish{}); hearth.KindOf(err) != hearth.AccessDenied {
		t.Errorf("asking again: %v", err)
	}
	h.reopen()
	h.want("", bob, "img--thumb")
	if _, err := h.Approve(ctx, owner, "img", carol, nil); hearth.KindOf(err) != hearth.NotFound {
		t.Errorf("who has not asked: %v", err)
	}
	if err := h.Delete(ctx, owner, "img"); err != nil {
		t.Fatal(err)
	}
	h.want(hearth.AccessDenied, bob, "img--thumb")
	h.img(Settings{Open: true}) // another one of the name
	h.want(hearth.AccessDenied, bob, "img--thumb")
	for _, s := range h.Subscribers(owner, "img") {
		if s.Alias != "" || s.Keys != nil || s.Network != nil {
			t.Errorf("the owner sees %+v", s)
		}
	}
}

// An owner who asks for more than was agreed to is not paid more, nor is its code
// run, until the subscriber says so.
func TestAnOwnerCannotRaiseWhatASubscriberPays(t *testing.T) {
	h := newHarness(t)
	ctx := t.Context()
	h.img(Settings{Open: true, Markup: 0.2})
	if r := h.subscribe(alice); r.Markup == nil || *r.Markup != 0.2 {
		t.Fatalf("%+v", r)
	}
	was := h.want("", alice, "img--thumb")
	ask := func(markup float64) {
		t.Helper()
		if _, err := h.Configure(ctx, owner, "img", Settings{Open: true, Markup: markup}); err != nil {
			t.Fatal(err)
		}
	}
	ask(50)
	_, err := h.Resolve(ctx, alice, "img--thumb", "")
	if hearth.KindOf(err) != hearth.AccessDenied || !strings.Contains(err.Error(), "hearth tasks subscribe 000000000000/img --as img --markup 50") {
		t.Errorf("a call: %v", err)
	}
	if err := h.Enter(ctx, &hearth.Invocation{Function: was}); hearth.KindOf(err) != hearth.AccessDenied {
		t.Errorf("one that was resolved before: %v", err)
	}
	if r, _ := h.Subscription(alice, "img"); r.Status != Raised {
		t.Errorf("%+v", r)
	}
	agree := func(a hearth.Account, markup float64) error {
		return errorOf(h.Subscribe(ctx, a, owner, "img", "", TaskWish{Markup: &markup}))
	}
	for _, m := range []float64{0.3, -1, 101} { // 0.3 was what it asked when the subscriber looked
		if err := agree(bob, m); hearth.KindOf(err) != hearth.InvalidParameter {
			t.Errorf("%v: %v", m, err)
		}
	}
	if err := agree(alice, 60); err != nil {
		t.Fatal(err)
	}
	if f := h.want("", alice, "img--thumb"); f.Shared.Markup != 50 {
		t.Errorf("once it is agreed to: %+v", f.Shared)
	}
	ask(0.1)
	h.reopen()
	if f := h.want("", alice, "img--thumb"); f.Shared.Markup != 0.1 {
		t.Errorf("less is asked: %+v", f.Shared)
	}
	if r, _ := h.Subscription(alice, "img"); r.Status != Active || *r.Markup != 60 {
		t.Errorf("%+v", r)
	}
	// One of before markups were agreed to agrees to what is asked at the next start.
	if _, err := h.subs.Change(ctx, key{alice, "img"}.String(), func(r *Subscription) (*Subscription, error) { old := *r; old.Markup = nil; return &old, nil }); err != nil {
		t.Fatal(err)
	}
	h.reopen()
	ask(0.2)
	if r, _ := h.Subscription(alice, "img"); r.Status != Raised || *r.Markup != 0.1 {
		t.Errorf("an older one: %+v", r)
	}
}

func TestASubscriptionWhoseOwnerIsSuspendedSaysSo(t *testing.T) {
	h := newHarness(t)
	h.img(Settings{Open: true})
	h.subscribe(alice)
	h.stopped = map[hearth.Account]bool{owner: true}
	h.want(hearth.AccessDenied, alice, "img--thumb")
	if r, _ := h.Subscription(alice, "img"); r.Status != Suspended || h.Subscriptions(alice)[0].Status != Suspended {
		t.Errorf("%+v", r)
	}
	h.stopped = nil
	h.want("", alice, "img--thumb")
	if r, _ := h.Subscription(alice, "img"); r.Status != Active {
		t.Errorf("%+v", r)
	}
}
