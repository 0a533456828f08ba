package taskset

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/storetest"
	"github.com/hearth-faas/hearth/store/table"
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
}

func newHarness(t testing.TB) *harness {
	h := &harness{t: t, store: &storetest.Memory{}, clock: clock.NewFake(noon), fns: &registry{gone: map[string]bool{}}}
	h.reopen()
	return h
}

// reopen is as if the process had been killed.
func (h *harness) reopen() {
	s, err := Open(context.Background(), Config{
		Store: h.store, Functions: h.fns, Seal: seal{}, Clock: h.clock, Region: "us-east-1", Changed: h.fns.changed,
		Publish: func(context.Context, hearth.Account, string) (string, error) { return "7", nil },
		Taken: func(a hearth.Account, prefix string) string {
			if a == carol && prefix == "taken--" {
				return "taken--x"
			}
			return ""
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

func TestQuotasOfSubscriptionsAndKeys(t *testing.T) {
	h := newHarness(t)
	ctx := t.Context()
	h.img(Settings{Open: true})
	h.subscribe(alice)
	h.subscribe(bob)
	set := func(s Settings) {
		t.Helper()
		s.Open = true
		if _, err := h.Configure(ctx, owner, "img", s); err != nil {
			t.Fatal(err)
		}
	}
	set(Settings{Quota: Quota{Rate: 2, Burst: 3}})
	for range 3 {
		h.want("", alice, "img--thumb")
	}
	h.want(hearth.TooManyRequests, alice, "img--resize")
	h.want("", bob, "img--thumb")
	h.clock.Advance(500 * time.Millisecond)
	h.want("", alice, "img--thumb")
	h.want(hearth.TooManyRequests, alice, "img--thumb")

	set(Settings{Quota: Quota{Concurrency: 1}})
	inv, err := h.call(ctx, alice, "img--thumb", "")
	if err != nil {
		t.Fatal(err)
	}
	h.want(hearth.TooManyRequests, alice, "img--exif")
	h.Leave(inv)
	h.want("", alice, "img--exif")

	set(Settings{Quota: Quota{Day: 7}}) // alice has had 6
	h.want("", alice, "img--thumb")
	_, err = h.call(ctx, alice, "img--thumb", "")
	if e, ok := errors.AsType[*hearth.Error](err); !ok || e.Kind != hearth.TooManyRequests || e.RetryAfter > 12*time.Hour || e.RetryAfter < 11*time.Hour {
		t.Errorf("%v", err)
	}
	h.clock.Advance(table.SaveEvery)
	h.reopen() // a kill: the counts are there
	h.want(hearth.TooManyRequests, alice, "img--thumb")
	if err := h.Unsubscribe(ctx, alice, "img"); err != nil {
		t.Fatal(err)
	}
	h.subscribe(alice) // which does not help
	h.want(hearth.TooManyRequests, alice, "img--thumb")
	h.clock.Advance(12 * time.Hour)
	h.want("", alice, "img--thumb")
	set(Settings{Quota: Quota{Month: 8}})
	h.want(hearth.TooManyRequests, alice, "img--thumb")
	if _, err := h.Approve(ctx, owner, "img", alice, &Quota{Month: 9}); err != nil {
		t.Fatal(err)
	}
	h.want("", alice, "img--thumb")
	h.want(hearth.TooManyRequests, alice, "img--thumb")
	h.clock.Advance(4 * 24 * time.Hour) // December
	h.want("", alice, "img--thumb")

	set(Settings{Key: true, KeyQuota: Quota{Day: 1}})
	h.want(hearth.AccessDenied, bob, "img--thumb")
	k, secret, err := h.MakeKey(ctx, bob, "img", "one")
	if err != nil || k.Hash != nil {
		t.Fatal(k, err)
	}
	_, other, _ := h.MakeKey(ctx, bob, "img", "two")
	with := func(secret string) error {
		inv, err := h.call(WithKey(ctx, secret), bob, "img--thumb", "")
		if err == nil {
			h.Leave(inv)
		}
		return err
	}
	if err := with(secret); err != nil {
		t.Error(err)
	}
	if err := with(secret); hearth.KindOf(err) != hearth.TooManyRequests {
		t.Errorf("beyond the key's: %v", err)
	}
	if err := with(other); err != nil {
		t.Errorf("another key: %v", err)
	}
	if err := with("hk-guess"); hearth.KindOf(err) != hearth.AccessDenied {
		t.Errorf("a guess: %v", err)
	}
	f, err := h.Resolve(ctx, bob, "img--thumb", "")
	if err != nil {
		t.Fatal(err)
	}
	inContext := &hearth.Invocation{Function: f, ClientContext: `{"custom":{"x-api-key":"` + other + `"}}`}
	if err := h.Enter(ctx, inContext); hearth.KindOf(err) != hearth.TooManyRequests {
		t.Errorf("the key in the client context: %v", err)
	}
	if err := h.DeleteKey(ctx, bob, "img", k.ID); err != nil {
		t.Fatal(err)
	}
	if err := with(secret); hearth.KindOf(err) != hearth.AccessDenied {
		t.Errorf("a key that was ended: %v", err)
	}
	for rec := range scan(t, h.store, subsBucket) {
		if strings.Contains(rec, secret) || strings.Contains(rec, other) {
			t.Error("a key's secret is on disk")
		}
	}
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

func TestABudgetOfProcessorTimeEndsCalls(t *testing.T) {
	h := newHarness(t)
	var mu sync.Mutex
	used := time.Duration(0)
	h.cpu = func() time.Duration { mu.Lock(); defer mu.Unlock(); return used }
	h.img(Settings{Open: true, Quota: Quota{CPUSeconds: 10}})
	h.subscribe(alice)
	h.want("", alice, "img--thumb")
	mu.Lock()
	used = 11 * time.Second
	mu.Unlock()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		h.clock.Advance(budgetEvery)
		inv, err := h.call(t.Context(), alice, "img--thumb", "")
		if hearth.KindOf(err) == hearth.TooManyRequests {
			break
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("beyond the budget: %v", err)
		}
		h.Leave(inv)
		h.looks.Wait()
	}
	h.clock.Advance(4 * 24 * time.Hour)
	mu.Lock()
	used = 0
	mu.Unlock()
	h.want("", alice, "img--thumb") // another month
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

func errorOf[T any](_ T, err error) error { return err }

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

// seal seals by turning bits over, and opens only what belongs where it is.
type seal struct{}

func (seal) Seal(plain, associated []byte) ([]byte, error) {
	out := append([]byte{byte(len(associated))}, associated...)
	for _, b := range plain {
		out = append(out, ^b)
	}
	return out, nil
}

func (seal) Open(sealed, associated []byte) ([]byte, error) {
	n := int(sealed[0])
	if len(sealed) <= n || string(sealed[1:1+n]) != string(associated) {
		return nil, errors.New("sealed for another")
	}
	var out []byte
	for _, b := range sealed[1+n:] {
		out = append(out, ^b)
	}
	return out, nil
}
