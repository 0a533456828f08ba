package account_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/account"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/identity"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/storetest"
)

const operator hearth.Account = "000000000000"

var start = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

// world is a store and what opens it again and again, as restarts do.
type world struct {
	store   store.Store
	clock   *clock.Fake
	auth    *identity.Authority
	holders []account.Holder
}

func newWorld(t testing.TB) *world {
	t.Helper()
	c := clock.NewFake(start)
	auth, err := identity.LoadOrCreate(identity.Config{Dir: t.TempDir(), Clock: c})
	if err != nil {
		t.Fatal(err)
	}
	return &world{store: &storetest.Memory{}, clock: c, auth: auth}
}

func (w *world) open(t interface{ Fatal(...any) }) *account.Directory {
	d, err := account.Open(context.Background(), account.Config{
		Store: w.store, Clock: w.clock, Secrets: w.auth.Key(), Operator: operator, Since: start, Holders: w.holders,
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func kindIs(t testing.TB, err error, want hearth.Kind) {
	t.Helper()
	if hearth.KindOf(err) != want {
		t.Errorf("the error is %v, want %s", err, want)
	}
}

func TestAnAccountIsMadeWithAKeyThatIsItsRoots(t *testing.T) {
	w := newWorld(t)
	d := w.open(t)
	a, key, err := d.Create(t.Context(), account.Spec{Name: "team-a"})
	if err != nil {
		t.Fatal(err)
	}
	if !account.IsID(string(a.ID)) || a.State != account.Active || !a.Created.Equal(start) {
		t.Errorf("made %+v", a)
	}
	for range 2 { // as it was made, and opened again
		secret, who, ok := d.FindKey(key.Key.ID)
		if !ok || secret != key.Secret.Reveal() || who != (hearth.Identity{Account: a.ID, ARN: "arn:aws:iam::" + string(a.ID) + ":root", UserID: string(a.ID)}) {
			t.Errorf("the key is of %+v, %v", who, ok)
		}
		if err := d.Usable(a.ID); err != nil {
			t.Error(err)
		}
		d = w.open(t)
	}
	for _, c := range []struct {
		spec account.Spec
		want hearth.Kind
	}{
		{account.Spec{Name: "TEAM-A"}, hearth.Conflict},
		{account.Spec{Name: "b", ID: a.ID}, hearth.Conflict},
		{account.Spec{Name: "operator"}, hearth.Conflict},
		{account.Spec{Name: ""}, hearth.InvalidParameter},
		{account.Spec{Name: "111122223333"}, hearth.InvalidParameter},
		{account.Spec{Name: "two words"}, hearth.InvalidParameter},
		{account.Spec{Name: "c", ID: "12"}, hearth.InvalidParameter},
		{account.Spec{Name: "c", Quotas: account.Quotas{Functions: -1}}, hearth.InvalidParameter},
	} {
		_, _, err := d.Create(t.Context(), c.spec)
		kindIs(t, err, c.want)
	}
	if got := len(d.List()); got != 2 {
		t.Errorf("%d accounts", got)
	}
}

func TestASuspendedAccountIsRefusedWithTheReasonAndGoesOn(t *testing.T) {
	d := newWorld(t).open(t)
	a, key, err := d.Create(t.Context(), account.Spec{Name: "a", ID: "111122223333"})
	if err != nil {
		t.Fatal(err)
	}
	must[*account.Account](t)(d.Suspend(t.Context(), a.ID, "the bill"))
	err = d.Usable(a.ID)
	kindIs(t, err, hearth.AccessDenied)
	if !strings.Contains(err.Error(), "111122223333 is suspended (the bill)") || !d.Stopped(a.ID) || d.Stopped(operator) {
		t.Errorf("%v, stopped %v", err, d.Stopped(a.ID))
	}
	if _, _, ok := d.FindKey(key.Key.ID); !ok {
		t.Error("its key is forgotten")
	}
	must[*account.Account](t)(d.Resume(t.Context(), a.ID))
	if err := d.Usable(a.ID); err != nil || d.Stopped(a.ID) {
		t.Error(err)
	}
	_, err = d.Suspend(t.Context(), operator, "")
	kindIs(t, err, hearth.InvalidParameter)
	kindIs(t, d.Delete(t.Context(), operator, true), hearth.InvalidParameter)
	_, err = d.Suspend(t.Context(), "999999999999", "")
	kindIs(t, err, hearth.NotFound)
	_, err = d.Suspend(t.Context(), a.ID, "two\nlines")
	kindIs(t, err, hearth.InvalidParameter)
	kindIs(t, d.Usable("999999999999"), hearth.UnrecognizedClient)
}

// shelf is a Holder with things in memory.
type shelf struct {
	mu    sync.Mutex
	names map[hearth.Account][]string
	fail  error
	wait  chan struct{} // Clear waits for it
}

func (s *shelf) holder(what string) account.Holder {
	return account.Holder{What: what,
		Names: func(_ context.Context, a hearth.Account) ([]string, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return slices.Clone(s.names[a]), nil
		},
		Clear: func(ctx context.Context, a hearth.Account) error {
			if s.wait != nil {
				select {
				case <-s.wait:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.fail != nil {
				return s.fail
			}
			delete(s.names, a)
			return nil
		}}
}

func TestAnAccountThatHasSomethingIsNotDeletedUnlessItIsSaid(t *testing.T) {
	w := newWorld(t)
	s := &shelf{names: map[hearth.Account][]string{"111122223333": {"f", "g", "h", "i", "j", "k"}, "444455556666": {"x"}}}
	w.holders = []account.Holder{s.holder("functions")}
	d := w.open(t)
	_, key, err := d.Create(t.Context(), account.Spec{Name: "a", ID: "111122223333"})
	if err != nil {
		t.Fatal(err)
	}
	err = d.Delete(t.Context(), "111122223333", false)
	kindIs(t, err, hearth.InUse)
	if !strings.Contains(fmt.Sprint(err), "6 functions (f, g, h, i, j, …)") || d.Stopped("111122223333") {
		t.Errorf("%v", err)
	}
	if err := d.Delete(t.Context(), "111122223333", true); err != nil {
		t.Fatal(err)
	}
	if d.Get("111122223333") != nil || len(s.names["111122223333"]) != 0 || len(s.names["444455556666"]) != 1 {
		t.Errorf("left: %v", s.names)
	}
	if _, _, ok := d.FindKey(key.Key.ID); ok {
		t.Error("its key is known still")
	}
	kindIs(t, d.Delete(t.Context(), "111122223333", true), hearth.NotFound)
	if _, _, err := d.Create(t.Context(), account.Spec{Name: "a", ID: "111122223333"}); err != nil {
		t.Errorf("its id and name are not free: %v", err)
	}
}

func TestADeletionGoesOnAfterAKill(t *testing.T) {
	w := newWorld(t)
	stuck := &shelf{names: map[hearth.Account][]string{}, wait: make(chan struct{})}
	w.holders = []account.Holder{stuck.holder("functions")}
	d := w.open(t)
	_, key, err := d.Create(t.Context(), account.Spec{Name: "a", ID: "111122223333"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // the caller leaves
	kindIs(t, d.Delete(ctx, "111122223333", true), hearth.Canceled)
	if err := d.Close(); err != nil { // and the process ends before it is through
		t.Fatal(err)
	}
	s := &shelf{names: map[hearth.Account][]string{"111122223333": {"f"}}}
	w.holders = []account.Holder{s.holder("functions")}
	d = w.open(t)
	if a := d.Get("111122223333"); a == nil || a.State != account.Deleting {
		t.Fatalf("it is %+v", a)
	}
	kindIs(t, d.Usable("111122223333"), hearth.AccessDenied)
	_, err = d.Resume(t.Context(), "111122223333")
	kindIs(t, err, hearth.Conflict)
	d.Continue()
	// Whoever asks for it again waits for it.
	if err := d.Delete(t.Context(), "111122223333", true); err != nil && hearth.KindOf(err) != hearth.NotFound {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = w.open(t)
	if _, _, ok := d.FindKey(key.Key.ID); ok || d.Get("111122223333") != nil || len(s.names) != 0 {
		t.Error("something of it is left")
	}
}

func TestADeletionThatFailsIsTriedAgain(t *testing.T) {
	w := newWorld(t)
	s := &shelf{names: map[hearth.Account][]string{}, fail: errors.New("busy")}
	w.holders = []account.Holder{s.holder("functions")}
	d := w.open(t)
	if _, _, err := d.Create(t.Context(), account.Spec{Name: "a", ID: "111122223333"}); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- d.Delete(t.Context(), "111122223333", true) }()
	for w.clock.Pending() == 0 {
		time.Sleep(time.Millisecond) // for the first attempt to have failed
	}
	s.mu.Lock()
	s.fail = nil
	s.mu.Unlock()
	w.clock.Advance(time.Second)
	if err := <-done; err != nil || d.Get("111122223333") != nil {
		t.Errorf("%v", err)
	}
}

func TestKeysAreRotated(t *testing.T) {
	w := newWorld(t)
	d := w.open(t)
	const team hearth.Account = "111122223333"
	if _, _, err := d.Create(t.Context(), account.Spec{Name: "a", ID: team}); err != nil {
		t.Fatal(err)
	}
	k := d.Keys()
	first := must[account.Made](t)(k.Create(t.Context(), team, "AIDA1"))
	second := must[account.Made](t)(k.Create(t.Context(), team, "AIDA1"))
	_, err := k.Create(t.Context(), team, "AIDA1")
	kindIs(t, err, hearth.LimitExceeded)
	if err := k.Update(t.Context(), team, "AIDA1", first.Key.ID, false); err != nil {
		t.Fatal(err)
	}
	arn := "arn:aws:iam::111122223333:user/Ann"
	users := func(a hearth.Account, id string) (string, bool) { return arn, arn != "" && a == team && id == "AIDA1" }
	for range 2 {
		if _, _, ok := d.FindKey(second.Key.ID); ok {
			t.Error("the key of a user whom nobody knows is let in")
		}
		if err := k.Users(users); err != nil {
			t.Fatal(err)
		}
		if _, _, ok := d.FindKey(first.Key.ID); ok {
			t.Error("an inactive key is let in")
		}
		if _, who, ok := d.FindKey(second.Key.ID); !ok || who != (hearth.Identity{Account: team, ARN: arn, UserID: "AIDA1"}) {
			t.Errorf("the other one is of %+v", who)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		d = w.open(t)
		k = d.Keys()
	}
	kindIs(t, k.Delete(t.Context(), team, "AIDA2", second.Key.ID), hearth.NoSuchEntity)
	kindIs(t, k.Delete(t.Context(), "444455556666", "AIDA1", second.Key.ID), hearth.NoSuchEntity)
	if err := k.Users(users); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"arn:aws:iam::111122223333:user/Eve", ""} { // renamed, and deleted
		arn = name
		if err := k.Refresh(); err != nil {
			t.Fatal(err)
		}
		if _, who, ok := d.FindKey(second.Key.ID); ok != (name != "") || who.ARN != name {
			t.Errorf("the key is of %+v, %v", who, ok)
		}
	}
	if err := k.Delete(t.Context(), team, "AIDA1", second.Key.ID); err != nil {
		t.Fatal(err)
	}
	if len(k.List(team, "AIDA1")) != 1 {
		t.Error("it is there still")
	}
}

func TestTheLastUseIsKeptNowAndThen(t *testing.T) {
	w := newWorld(t)
	d := w.open(t)
	_, key, err := d.Create(t.Context(), account.Spec{Name: "a", ID: "111122223333"})
	if err != nil {
		t.Fatal(err)
	}
	use := func() time.Time {
		d.FindKey(key.Key.ID)
		if err := d.Close(); err != nil { // waits for what is written
			t.Fatal(err)
		}
		d = w.open(t)
		return d.Keys().Get(key.Key.ID).Used
	}
	if got := use(); !got.Equal(start) {
		t.Errorf("used %v", got)
	}
	w.clock.Advance(time.Minute)
	if got := use(); !got.Equal(start) {
		t.Errorf("written again after a minute: %v", got)
	}
	w.clock.Advance(time.Hour)
	if got := use(); !got.Equal(start.Add(time.Hour + time.Minute)) {
		t.Errorf("used %v", got)
	}
}

func TestFindingAKeyAllocatesNothing(t *testing.T) {
	d := newWorld(t).open(t)
	_, key, err := d.Create(t.Context(), account.Spec{Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	d.FindKey(key.Key.ID)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	id := key.Key.Account
	if n := testing.AllocsPerRun(100, func() {
		_, _, _ = d.FindKey(key.Key.ID)
		_ = d.Usable(id)
		_ = d.Stopped(id)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// No record has a secret in plain text.
func TestSecretsAreSealed(t *testing.T) {
	w := newWorld(t)
	d := w.open(t)
	_, key, err := d.Create(t.Context(), account.Spec{Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	err = w.store.View(t.Context(), func(r store.Reader) error {
		n := 0
		for rec, err := range r.Scan("access-keys", "", "") {
			if err != nil {
				return err
			}
			n++
			if strings.Contains(string(rec.Value), key.Secret.Reveal()) {
				t.Error("the secret is in the store")
			}
		}
		if n != 1 {
			t.Errorf("%d records", n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprintf("%v %+v %#v", key, key, key); strings.Contains(text, key.Secret.Reveal()) {
		t.Error("the secret is printed")
	}
}

// Whatever is done, in whatever order, restarts included, a directory is what a
// simple model says.
func TestADirectoryIsWhatWasDoneToIt(t *testing.T) {
	base := newWorld(t)
	rapid.Check(t, func(t *rapid.T) {
		w := &world{store: &storetest.Memory{}, clock: base.clock, auth: base.auth}
		d := w.open(t)
		type model struct {
			state account.State
			keys  map[string]bool
		}
		all := map[hearth.Account]*model{}
		ids := rapid.SampledFrom([]hearth.Account{"111122223333", "444455556666"})
		ctx := context.Background()
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			id := ids.Draw(t, "id")
			m := all[id]
			var err error
			want := hearth.Kind("")
			switch rapid.IntRange(0, 6).Draw(t, "what") {
			case 0:
				var made account.Made
				_, made, err = d.Create(ctx, account.Spec{ID: id, Name: "n" + string(id)})
				if m != nil {
					want = hearth.Conflict
				} else if err == nil {
					all[id] = &model{account.Active, map[string]bool{made.Key.ID: true}}
				}
			case 1:
				if _, err = d.Suspend(ctx, id, ""); m == nil {
					want = hearth.NotFound
				} else {
					m.state = account.Suspended
				}
			case 2:
				if _, err = d.Resume(ctx, id); m == nil {
					want = hearth.NotFound
				} else {
					m.state = account.Active
				}
			case 3:
				if err = d.Delete(ctx, id, true); m == nil {
					want = hearth.NotFound
				}
				delete(all, id)
			case 4:
				if m == nil {
					continue
				}
				var made account.Made
				made, err = d.Keys().Create(ctx, id, "")
				if len(m.keys) >= account.MaxKeys {
					want = hearth.LimitExceeded
				} else if err == nil {
					m.keys[made.Key.ID] = true
				}
			case 5:
				if m == nil || len(m.keys) == 0 {
					continue
				}
				for k := range m.keys {
					err = d.Keys().Delete(ctx, id, "", k)
					delete(m.keys, k)
					break
				}
			case 6:
				if err := d.Close(); err != nil { // what is written late is written
					t.Fatal(err)
				}
				d = w.open(t)
			}
			if hearth.KindOf(err) != want {
				t.Fatalf("%v, want %q", err, want)
			}
			for _, id := range []hearth.Account{"111122223333", "444455556666"} {
				m, a := all[id], d.Get(id)
				if (m == nil) != (a == nil) || m != nil && (a.State != m.state || d.Stopped(id) != (m.state != account.Active)) {
					t.Fatalf("%s is %+v, the model says %+v", id, a, m)
				}
				if m == nil {
					continue
				}
				if got := d.Keys().List(id, ""); len(got) != len(m.keys) {
					t.Fatalf("%d keys, the model says %d", len(got), len(m.keys))
				}
				for k := range m.keys {
					if _, who, ok := d.FindKey(k); !ok || who.Account != id {
						t.Fatalf("%s is of %v", k, who)
					}
				}
			}
		}
	})
}
