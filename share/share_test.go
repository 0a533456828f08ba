package share

import (
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
)

func TestWhatIsDerivedIsTheOwnersCodeUnderTheCallersTerms(t *testing.T) {
	w := newWorld(t)
	o := w.offer(func(o *hearth.Offer) { o.Markup = 0.25 })
	w.accept(a1, o, "k1")
	w.accept(a2, o, "k2")
	f, g := w.resolve(a1), w.resolve(a2)
	if f.Account != a1 || f.Name != "mine" || f.Package.SHA256 != "feed" || f.Handler != "index.handler" || f.MemoryMiB != 256 || f.Timeout != 10*time.Second {
		t.Errorf("%+v", f)
	}
	if f.Role != "" || f.DeadLetterTarget != "" || f.Logging.Group != "" || f.Logging.Format != "Text" || f.LogGroup() != "/aws/lambda/mine" {
		t.Errorf("it has something of the owner's account: %+v", f)
	}
	if want := (map[string]string{"KEY": "k1", "N": "1", "OWNED": "b", "PREFIX": "own/"}); !reflect.DeepEqual(f.Env, want) {
		t.Errorf("the environment is %v, want %v", f.Env, want)
	}
	want := hearth.Shared{Owner: owner, OwnerFunction: "archive", OwnerVersion: hearth.Latest, OwnerGeneration: f.Shared.OwnerGeneration, Offer: o.ID, Markup: 0.25,
		Network: hearth.NetworkPolicy{Allow: []string{"db.example.com:443"}}}
	if !reflect.DeepEqual(*f.Shared, want) {
		t.Errorf("%+v", f.Shared)
	}
	if f.Key() == g.Key() || f.Key().Tenant() == g.Key().Tenant() || f.Key().Tenant() == a1 || f.Key().Tenant() == owner {
		t.Errorf("the tenants are %s and %s", f.Key().Tenant(), g.Key().Tenant())
	}
	if account, by := f.Key().Tenant().Pair(); account != a1 || by != owner {
		t.Errorf("%s, %s", account, by)
	}
	if again := w.resolve(a1); again != f {
		t.Error("it is derived anew without a reason, so that no container is used twice")
	}
	v, err := w.View(t.Context(), a1, "mine", "")
	if err != nil || v.Env != nil || v.Handler != "" || v.Runtime != "" || v.Package != (hearth.Package{}) || v.Layers != nil || v.Shared.OwnerFunction != "" {
		t.Errorf("A1 sees %+v, %v", v, err)
	}
	if _, err := w.Resolve(t.Context(), a1, "mine", "3"); hearth.KindOf(err) != hearth.NotFound {
		t.Errorf("a version of an alias: %v", err)
	}
}

func TestAParameterThatIsReplacedComesWithNewContainersAndIsShownToNobody(t *testing.T) {
	w := newWorld(t)
	o := w.offer(nil)
	w.accept(a1, o, "first-secret")
	f := w.resolve(a1)
	second := "second-secret"
	if _, err := w.Accept(t.Context(), a1, Acceptance{Name: "mine", Parameters: map[string]*string{"KEY": &second}}); err != nil {
		t.Fatal(err)
	}
	g := w.resolve(a1)
	if g.Env["KEY"] != second || g.Generation <= f.Generation || w.kept(f) || !w.kept(g) {
		t.Errorf("%s; kept: %v, %v", g.Env["KEY"], w.kept(f), w.kept(g))
	}
	// Others that are not named stay.
	prefix := "p/"
	if _, err := w.Accept(t.Context(), a1, Acceptance{Name: "mine", Parameters: map[string]*string{"PREFIX": &prefix}}); err != nil {
		t.Fatal(err)
	}
	if g := w.resolve(a1); g.Env["KEY"] != second || g.Env["PREFIX"] != prefix {
		t.Errorf("%v", g.Env)
	}
	if _, err := w.Accept(t.Context(), a1, Acceptance{Name: "mine", Parameters: map[string]*string{"KEY": nil}}); err == nil {
		t.Error("a required parameter can be taken away")
	}
	if v, err := w.View(t.Context(), a1, "mine", ""); err != nil || v.Env != nil {
		t.Errorf("%+v, %v", v, err)
	}
	alias, err := w.Alias(a1, "mine")
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal([]any{alias, w.Aliases(a1), w.Offers(owner), w.Offered(a1), w.Uses(owner), w.Uses(a1)})
	if err != nil || strings.Contains(string(b), "secret\"") && strings.Contains(string(b), second) {
		t.Errorf("%s, %v", b, err)
	}
	err = w.store.View(t.Context(), func(r store.Reader) error {
		for _, bucket := range []string{offersBucket, aliasesBucket, usesBucket} {
			for rec, err := range r.Scan(bucket, "", "") {
				if err != nil || strings.Contains(string(rec.Value), second) {
					t.Errorf("%s: %s, %v", rec.Key, rec.Value, err)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// The owner can't widen what the caller let its code reach.
func TestWhatARunMayReachIsTheCallersChoice(t *testing.T) {
	w := newWorld(t)
	o := w.offer(nil)
	w.accept(a1, o, "k1")
	key := "k2"
	if _, err := w.Accept(t.Context(), a2, Acceptance{Name: "mine", Offer: o.ID, Network: &hearth.NetworkPolicy{}, Parameters: map[string]*string{"KEY": &key}}); err != nil {
		t.Fatal(err)
	}
	wider := *o
	wider.Reaches = []string{"thief.example:443"}
	if _, err := w.Offer(t.Context(), owner, wider); err != nil {
		t.Fatal(err)
	}
	for a, want := range map[hearth.Account][]string{a1: {"db.example.com:443"}, a2: nil} {
		if got := w.resolve(a).Shared.Network; got.Open || !slices.Equal(got.Allow, want) {
			t.Errorf("%s lets it reach %+v", a, got)
		}
	}
}

// What a run costs is agreed by both: an owner who asks for more is not paid more,
// nor is its code run, until the caller says so.
func TestAnOwnerCannotRaiseWhatACallerPays(t *testing.T) {
	w := newWorld(t)
	o := w.offer(func(o *hearth.Offer) { o.Markup = 0.2 })
	w.accept(a1, o, "k1")
	f := w.resolve(a1)
	if f.Shared.Markup != 0.2 {
		t.Fatalf("%+v", f.Shared)
	}
	ask := func(markup float64) {
		t.Helper()
		o := *o
		o.Markup = markup
		if _, err := w.Offer(t.Context(), owner, o); err != nil {
			t.Fatal(err)
		}
	}
	ask(99)
	refused := func(what string, err error) {
		t.Helper()
		if hearth.KindOf(err) != hearth.AccessDenied || !strings.Contains(err.Error(), "a markup of 99, and 0.2 is agreed to") {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := w.Resolve(t.Context(), a1, "mine", "")
	refused("a call", err)
	refused("a call that was on its way", w.Enter(t.Context(), &hearth.Invocation{Function: f}))
	if a, err := w.Alias(a1, "mine"); err != nil || *a.Markup != 0.2 || !strings.Contains(a.Status, "hearth shared-alias update mine --markup 99") {
		t.Errorf("%+v, %v", a, err)
	}
	// Whoever has seen another price than it is now does not accept that one.
	key, seen := "k2", 0.2
	if _, err := w.Accept(t.Context(), a2, Acceptance{Name: "mine", Offer: o.ID, Markup: &seen, Parameters: map[string]*string{"KEY": &key}}); hearth.KindOf(err) != hearth.InvalidParameter {
		t.Errorf("accepted: %v", err)
	}
	agreed := 99.5
	if _, err := w.Accept(t.Context(), a1, Acceptance{Name: "mine", Markup: &agreed}); err != nil {
		t.Fatal(err)
	}
	if f := w.resolve(a1); f.Shared.Markup != 99 {
		t.Errorf("once it is agreed to: %+v", f.Shared)
	}
	ask(0.1)
	if f := w.resolve(a1); f.Shared.Markup != 0.1 {
		t.Errorf("less is asked: %+v", f.Shared)
	}
	for _, m := range []float64{-1, 101, math.NaN()} {
		if _, err := w.Accept(t.Context(), a1, Acceptance{Name: "mine", Markup: &m}); hearth.KindOf(err) != hearth.InvalidParameter {
			t.Errorf("%v: %v", m, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w.open()
	if a, err := w.Alias(a1, "mine"); err != nil || *a.Markup != 99.5 {
		t.Errorf("after a start: %+v, %v", a, err)
	}
	// One of before markups were agreed to agrees to what is asked at the next start.
	if _, err := w.records.Change(t.Context(), string(a1)+"/mine", func(r *record) (*record, error) { old := *r; old.Markup = nil; return &old, nil }); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		w.open()
		if a, err := w.Alias(a1, "mine"); err != nil || a.Markup == nil || *a.Markup != 0.1 {
			t.Errorf("an older one: %+v, %v", a, err)
		}
	}
	ask(0.2)
	if _, err := w.Resolve(t.Context(), a1, "mine", ""); hearth.KindOf(err) != hearth.AccessDenied {
		t.Errorf("raised on an older one: %v", err)
	}
}

func TestAllOfItIsThereAfterAStart(t *testing.T) {
	w := newWorld(t)
	o := w.offer(func(o *hearth.Offer) { o.Calls = 2 })
	w.accept(a1, o, "k1")
	w.accept(a2, o, "k2")
	if err := w.Enter(t.Context(), &hearth.Invocation{Function: w.resolve(a1)}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Revoke(t.Context(), owner, o.ID, a2); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w.open()
	if f := w.resolve(a1); f.Env["KEY"] != "k1" {
		t.Errorf("%v", f.Env)
	}
	if _, err := w.Resolve(t.Context(), a2, "mine", ""); hearth.KindOf(err) != hearth.AccessDenied {
		t.Errorf("A2's, which was revoked: %v", err)
	}
	if u := w.Uses(owner); len(u) != 1 || u[0].Calls != 1 || u[0].Account != a1 {
		t.Errorf("%+v", u)
	}
}

func TestARevokedAliasIsRefusedAlsoWhereItWasResolvedBefore(t *testing.T) {
	w := newWorld(t)
	o := w.offer(nil)
	w.accept(a1, o, "k1")
	w.accept(a2, o, "k2")
	before, other := &hearth.Invocation{Function: w.resolve(a1)}, &hearth.Invocation{Function: w.resolve(a2)}
	in := &hearth.Invocation{Function: w.resolve(a1)}
	if err := w.Enter(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Revoke(t.Context(), owner, o.ID, a1); err != nil {
		t.Fatal(err)
	}
	if err := w.Enter(t.Context(), before); hearth.KindOf(err) != hearth.AccessDenied || !strings.Contains(err.Error(), "withdrawn") {
		t.Errorf("resolved before, it is let in: %v", err)
	}
	if w.kept(in.Function) {
		t.Error("the container of the one that was let in is kept")
	}
	w.Leave(in)
	if err := w.Enter(t.Context(), other); err != nil {
		t.Errorf("A2: %v", err)
	}
	if _, err := w.Grant(t.Context(), owner, o.ID, a1); err != nil {
		t.Fatal(err)
	}
	if f := w.resolve(a1); f.Env["KEY"] != "k1" || !w.kept(f) {
		t.Errorf("given back: %v, kept %v", f.Env, w.kept(f))
	}
	if err := w.Withdraw(t.Context(), owner, o.ID); err != nil {
		t.Fatal(err)
	}
	if a, err := w.Alias(a2, "mine"); err != nil || !strings.Contains(a.Status, "withdrawn") {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestRunsAreHeldToTheLimitsOfTheOffer(t *testing.T) {
	w := newWorld(t)
	o := w.offer(func(o *hearth.Offer) { o.Concurrency, o.Rate, o.Calls = 2, 4, 6 })
	w.accept(a1, o, "k1")
	w.accept(a2, o, "k2")
	enter := func(a hearth.Account) (*hearth.Invocation, error) {
		inv := &hearth.Invocation{Function: w.resolve(a)}
		return inv, w.Enter(t.Context(), inv)
	}
	let := func(a hearth.Account) *hearth.Invocation {
		t.Helper()
		inv, err := enter(a)
		if err != nil {
			t.Fatal(err)
		}
		return inv
	}
	refused := func(a hearth.Account, why string) {
		t.Helper()
		if _, err := enter(a); hearth.KindOf(err) != hearth.TooManyRequests || !strings.Contains(err.Error(), why) {
			t.Errorf("%v, want %s", err, why)
		}
	}
	one, two := let(a1), let(a1)
	refused(a1, "at a time")
	w.Leave(let(a2)) // the limits are of each caller
	two.Use.End = hearth.EndTimeout
	w.Leave(one)
	w.Leave(two)
	w.Leave(let(a1))
	w.Leave(let(a1))
	refused(a1, "a second")
	w.clk.Advance(250 * time.Millisecond)
	w.Leave(let(a1))
	refused(a1, "a second")
	w.clk.Advance(time.Second)
	w.Leave(let(a1))
	refused(a1, "used up")
	for _, u := range w.Uses(owner) {
		if u.Account == a1 && (u.Calls != 6 || u.Refused != 4 || u.Ends["timeout"] != 1 || u.Ends["unknown"] != 5) {
			t.Errorf("%+v", u)
		}
	}
	if us := w.Uses(a2); len(us) != 1 || us[0].Account != a2 {
		t.Errorf("A2 is told of %+v", us)
	}
}

func TestNewCodeIsFollowedAndOldCodeIsNotRunAgain(t *testing.T) {
	w := newWorld(t)
	o := w.offer(nil)
	w.accept(a1, o, "k1")
	f := w.resolve(a1)
	old := w.code.m[string(owner)+"/archive/"+hearth.Latest]
	next := *old
	next.Package.SHA256 = "beef"
	now := w.code.put(next)
	w.OwnerChanged(old, now)
	g := w.resolve(a1)
	if g.Package.SHA256 != "beef" || g.Generation <= f.Generation || w.kept(f) || !w.kept(g) {
		t.Errorf("%s; kept: %v, %v", g.Package.SHA256, w.kept(f), w.kept(g))
	}
	gone := w.code.remove(owner, "archive", hearth.Latest)
	w.OwnerChanged(gone, nil)
	if w.kept(g) {
		t.Error("deleted code has containers")
	}
	_, err := w.Resolve(t.Context(), a1, "mine", "")
	if hearth.KindOf(err) != hearth.AccessDenied || strings.Contains(err.Error(), "secret path") || !strings.Contains(err.Error(), "has deleted the function") {
		t.Errorf("%v", err)
	}
}

func TestAnAccountThatIsDeletedLeavesNothing(t *testing.T) {
	w := newWorld(t)
	o := w.offer(nil)
	w.accept(a1, o, "k1")
	if err := w.Forget(t.Context(), a1); err != nil {
		t.Fatal(err)
	}
	if w.Claimed(a1, "mine") || len(w.Aliases(a1)) != 0 || len(w.Uses(a1)) != 0 || w.Offers(owner)[0].Grants(a1) || !w.Offers(owner)[0].Grants(a2) {
		t.Errorf("%+v", w.Offers(owner))
	}
	w.accept(a2, o, "k2")
	if err := w.Forget(t.Context(), owner); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Resolve(t.Context(), a2, "mine", ""); hearth.KindOf(err) != hearth.AccessDenied {
		t.Errorf("%v", err)
	}
}

func TestWhatCantBeOfferedOrAcceptedIsRefusedWithTheReason(t *testing.T) {
	w := newWorld(t)
	w.code.put(hearth.Function{Account: owner, Name: "durable", Version: hearth.Latest, Durable: &hearth.Durable{}})
	w.code.put(hearth.Function{Account: owner, Name: "provided", Version: hearth.Latest, CapacityProvider: &hearth.CapacityProvider{}})
	w.code.put(hearth.Function{Account: a1, Name: "taken", Version: hearth.Latest})
	for why, change := range map[string]func(*hearth.Offer){
		"function:":    func(o *hearth.Offer) { o.Function = "" },
		"not found":    func(o *hearth.Offer) { o.Function = "none" },
		"durable":      func(o *hearth.Offer) { o.Function = "durable" },
		"provider":     func(o *hearth.Offer) { o.Function = "provided" },
		"twelve":       func(o *hearth.Offer) { o.Accounts = []hearth.Account{"x"} },
		"itself":       func(o *hearth.Offer) { o.Accounts = []hearth.Account{owner} },
		"from 128":     func(o *hearth.Offer) { o.MaxMemoryMiB = 64 },
		"more than":    func(o *hearth.Offer) { o.MinMemoryMiB, o.MaxMemoryMiB = 512, 256 },
		"900":          func(o *hearth.Offer) { o.MaxTimeoutSeconds = 901 },
		"below 0":      func(o *hearth.Offer) { o.Rate = -1 },
		"markup":       func(o *hearth.Offer) { o.Markup = -0.1 },
		"not a name":   func(o *hearth.Offer) { o.Parameters = []hearth.Parameter{{Name: "1x"}} },
		"loads code":   func(o *hearth.Offer) { o.Parameters = []hearth.Parameter{{Name: "ld_preload"}} },
		"twice":        func(o *hearth.Offer) { o.Parameters = []hearth.Parameter{{Name: "A"}, {Name: "A"}} },
		"known to all": func(o *hearth.Offer) { o.Parameters = []hearth.Parameter{{Name: "A", Secret: true, Default: "x"}} },
		"reaches":      func(o *hearth.Offer) { o.Reaches = []string{"*.com:443"} },
		"first":        func(o *hearth.Offer) { o.Versions = []string{"*"} },
	} {
		o := hearth.Offer{Function: "archive", Accounts: []hearth.Account{a1}}
		change(&o)
		if _, err := w.Offer(t.Context(), owner, o); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%v, want one about %q", err, why)
		}
	}
	o := w.offer(func(o *hearth.Offer) { o.Accounts = []hearth.Account{a1} })
	key := "k"
	for why, change := range map[string]func(*Acceptance){
		"name:":             func(a *Acceptance) { a.Name = "a b" },
		"no offer":          func(a *Acceptance) { a.Offer = "offer-x" },
		"already exist":     func(a *Acceptance) { a.Name = "taken" },
		"required":          func(a *Acceptance) { a.Parameters = nil },
		"has no PATH":       func(a *Acceptance) { a.Parameters["PATH"] = &key },
		"of 1024 MiB":       func(a *Acceptance) { a.MemoryMiB = 1024 },
		"of 21 seconds":     func(a *Acceptance) { a.TimeoutSeconds = 21 },
		"no version prod":   func(a *Acceptance) { a.Version = "prod" },
		"not both":          func(a *Acceptance) { a.Network = &hearth.NetworkPolicy{Open: true, Allow: []string{"a.b:1"}} },
		"network:":          func(a *Acceptance) { a.Network = &hearth.NetworkPolicy{Allow: []string{"a.b"}} },
		"more than 4096":    func(a *Acceptance) { long := strings.Repeat("x", 4097); a.Parameters["PREFIX"] = &long },
		"a NUL":             func(a *Acceptance) { nul := "a\x00"; a.Parameters["PREFIX"] = &nul },
		"description: it h": func(a *Acceptance) { a.Description = strings.Repeat("x", 4097) },
	} {
		a := Acceptance{Name: "mine", Offer: o.ID, Parameters: map[string]*string{"KEY": &key}}
		change(&a)
		if _, err := w.Accept(t.Context(), a1, a); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%v, want one about %q", err, why)
		}
	}
	if _, err := w.Accept(t.Context(), a2, Acceptance{Name: "mine", Offer: o.ID, Parameters: map[string]*string{"KEY": &key}}); hearth.KindOf(err) != hearth.NotFound {
		t.Errorf("to whom it is not granted: %v", err)
	}
	w.accept(a1, o, "k")
	f := w.resolve(a1)
	if err := offerable(f); err == nil {
		t.Error("what is shared can be offered on")
	}
}

// Whatever is changed in whatever order, a call is let in if and only if the
// owner grants it and the alias meets the terms, and what is let in runs by what
// was said last.
func TestACallIsLetInIfAndOnlyIfItIsGranted(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		w := newWorld(t)
		o := w.offer(nil)
		accounts := []hearth.Account{a1, a2}
		granted, keys := map[hearth.Account]bool{a1: true, a2: true}, map[hearth.Account]string{}
		offered, least := true, 0
		r.Repeat(map[string]func(*rapid.T){
			"accept": func(r *rapid.T) {
				a, key := rapid.SampledFrom(accounts).Draw(r, "account"), rapid.StringMatching("[a-z]{1,8}").Draw(r, "key")
				_, err := w.Accept(t.Context(), a, Acceptance{Name: "mine", Offer: o.ID, MemoryMiB: 256, Parameters: map[string]*string{"KEY": &key}})
				if ok := err == nil; ok != (offered && granted[a] && least <= 256) {
					r.Fatalf("accepted: %v", err)
				} else if ok {
					keys[a] = key
				}
			},
			"grant": func(r *rapid.T) {
				a := rapid.SampledFrom(accounts).Draw(r, "account")
				if _, err := w.Grant(t.Context(), owner, o.ID, a); (err == nil) != offered {
					r.Fatal(err)
				}
				granted[a] = granted[a] || offered
			},
			"revoke": func(r *rapid.T) {
				a := rapid.SampledFrom(accounts).Draw(r, "account")
				if _, err := w.Revoke(t.Context(), owner, o.ID, a); (err == nil) != (offered && granted[a]) {
					r.Fatal(err)
				}
				granted[a] = granted[a] && !offered
			},
			"bound": func(r *rapid.T) {
				least = rapid.SampledFrom([]int{128, 512}).Draw(r, "least")
				for _, one := range w.Offers(owner) {
					one.MinMemoryMiB = least
					if _, err := w.Offer(t.Context(), owner, one); err != nil {
						r.Fatal(err)
					}
				}
			},
			"withdraw": func(r *rapid.T) {
				if rapid.IntRange(0, 9).Draw(r, "seldom") == 0 && offered {
					if err := w.Withdraw(t.Context(), owner, o.ID); err != nil {
						r.Fatal(err)
					}
					offered = false
				}
			},
			"delete": func(r *rapid.T) {
				a := rapid.SampledFrom(accounts).Draw(r, "account")
				if err := w.Delete(t.Context(), a, "mine"); (err == nil) != (keys[a] != "") {
					r.Fatal(err)
				}
				delete(keys, a)
			},
			"start": func(*rapid.T) {
				if err := w.Close(); err != nil {
					r.Fatal(err)
				}
				w.open()
			},
			"": func(r *rapid.T) {
				for _, a := range accounts {
					f, err := w.Resolve(t.Context(), a, "mine", "")
					if want := keys[a] != "" && offered && granted[a] && least <= 256; (err == nil) != want {
						r.Fatalf("%s: %v, want it let in: %v", a, err, want)
					}
					if err != nil {
						continue
					}
					inv := &hearth.Invocation{Function: f}
					if err := w.Enter(t.Context(), inv); err != nil {
						r.Fatal(err)
					}
					if inv.Function.Env["KEY"] != keys[a] || !w.kept(inv.Function) {
						r.Fatalf("%s runs with %q, want %q; kept: %v", a, inv.Function.Env["KEY"], keys[a], w.kept(inv.Function))
					}
					w.Leave(inv)
				}
			},
		})
	})
}

// Many call while terms change: whatever runs is of its own caller, nothing that
// was let in is counted twice, and in the end nothing old is kept.
func TestHammer(t *testing.T) {
	w := newWorld(t)
	o := w.offer(nil)
	w.accept(a1, o, "k1")
	w.accept(a2, o, "k2")
	var let, refused atomic.Int64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for _, a := range []hearth.Account{a1, a2, a1, a2} {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				f, err := w.Resolve(t.Context(), a, "mine", "")
				inv := &hearth.Invocation{Function: f}
				if err == nil {
					err = w.Enter(t.Context(), inv)
				}
				switch {
				case err == nil:
					let.Add(1)
					if g := inv.Function; g.Account != a || g.Env["KEY"][:2] != map[hearth.Account]string{a1: "k1", a2: "k2"}[a] {
						t.Errorf("%s runs %s with %s", a, g.Account, g.Env["KEY"])
					}
					w.Leave(inv)
				case hearth.KindOf(err) == hearth.AccessDenied:
					refused.Add(1)
				default:
					t.Error(err)
				}
			}
		})
	}
	base := w.code.m[string(owner)+"/archive/"+hearth.Latest]
	for i := range 200 {
		switch i % 4 {
		case 0:
			if _, err := w.Revoke(t.Context(), owner, o.ID, a1); err != nil {
				t.Error(err)
			}
		case 1:
			w.code.put(*base)
		case 2:
			if _, err := w.Grant(t.Context(), owner, o.ID, a1); err != nil {
				t.Error(err)
			}
		case 3:
			w.accept(a2, o, "k2-"+string(rune('a'+i%26)))
		}
	}
	close(stop)
	wg.Wait()
	var calls int64
	for _, u := range w.Uses(owner) {
		calls += u.Calls
	}
	if calls != let.Load() || calls == 0 {
		t.Errorf("%d were let in, %d are counted", let.Load(), calls)
	}
	for _, a := range []hearth.Account{a1, a2} {
		if f := w.resolve(a); !w.kept(f) {
			t.Errorf("what %s runs now would not be kept", a)
		}
	}
	t.Logf("%d ran, %d were refused", let.Load(), refused.Load())
}
