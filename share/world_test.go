package share

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/sqlite"
	"github.com/hearth-faas/hearth/store/storetest"
)

const (
	owner hearth.Account = "111122223333"
	a1    hearth.Account = "444455556666"
	a2    hearth.Account = "777788889999"
)

// code is what accounts have of functions.
type code struct {
	mu   sync.Mutex
	m    map[string]*hearth.Function // account/name/version
	next uint64
}

func (c *code) put(f hearth.Function) *hearth.Function {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next++
	f.Generation, f.State, f.Region = c.next, hearth.Active, "us-east-1"
	c.m[string(f.Account)+"/"+f.Name+"/"+f.Version] = &f
	return &f
}

func (c *code) remove(account hearth.Account, name, version string) *hearth.Function {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := string(account) + "/" + name + "/" + version
	f := c.m[k]
	delete(c.m, k)
	return f
}

func (c *code) Resolve(_ context.Context, account hearth.Account, name, qualifier string) (*hearth.Function, error) {
	if qualifier == "" {
		qualifier = hearth.Latest
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.m[string(account)+"/"+name+"/"+qualifier]
	if f == nil {
		return nil, hearth.Errorf(hearth.NotFound, "Function not found: %s of %s with its secret path", name, account)
	}
	return f, nil
}

func (c *code) Unclaimed(account hearth.Account, name string, f func() error) error {
	c.mu.Lock()
	taken := c.m[string(account)+"/"+name+"/"+hearth.Latest] != nil
	c.mu.Unlock()
	if taken {
		return hearth.Errorf(hearth.Conflict, "Function already exist: %s", name)
	}
	return f()
}

func (c *code) GiveUp(_ context.Context, _ hearth.Account, _ string, f func() error) error {
	return f()
}

func (c *code) Generation(context.Context) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next++
	return c.next, nil
}

// world is a Shares with what it stands on. floors are what a manager has: the
// generation below which nothing of a version stays.
type world struct {
	t testing.TB
	*Shares
	code   *code
	clk    *clock.Fake
	store  store.Store
	mu     sync.Mutex
	floors map[string]uint64 // by account, name and version
}

func newWorld(t testing.TB) *world {
	t.Helper()
	s, err := sqlite.Open(context.Background(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	w := &world{t: t, code: &code{m: map[string]*hearth.Function{}, next: 1}, clk: clock.NewFake(time.Unix(1e9, 0)), store: s, floors: map[string]uint64{}}
	w.open()
	w.code.put(hearth.Function{
		Account: owner, Name: "archive", Version: hearth.Latest, Runtime: "python3.12", Handler: "index.handler", MemoryMiB: 256, Timeout: 10 * time.Second,
		Env: map[string]string{"OWNED": "b", "PREFIX": "own/"}, Package: hearth.Package{SHA256: "feed"}, DeadLetterTarget: "arn:b", Role: "arn:aws:iam::111122223333:role/b",
		Logging: hearth.Logging{Format: "JSON", Group: "/b"},
	})
	return w
}

func (w *world) open() {
	w.t.Helper()
	s, err := Open(context.Background(), Config{
		Store: w.store, Functions: w.code, Seal: storetest.Sealer{}, Clock: w.clk, Region: "us-east-1", Log: slog.New(slog.DiscardHandler),
		Changed: func(_, now *hearth.Function) {
			w.mu.Lock()
			defer w.mu.Unlock()
			k := string(now.Account) + "/" + now.Name + "/" + now.Version
			w.floors[k] = max(w.floors[k], now.Generation)
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.Shares = s
}

// kept reports whether a container of f would be kept for another run.
func (w *world) kept(f *hearth.Function) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return f.Generation >= w.floors[string(f.Account)+"/"+f.Name+"/"+f.Version]
}

func (w *world) offer(change func(*hearth.Offer)) *hearth.Offer {
	w.t.Helper()
	o := hearth.Offer{
		Function: "archive", Accounts: []hearth.Account{a1, a2}, MaxMemoryMiB: 512, MaxTimeoutSeconds: 20, Versions: []string{hearth.Latest, "*"},
		Parameters: []hearth.Parameter{{Name: "KEY", Secret: true, Required: true}, {Name: "PREFIX"}, {Name: "N", Default: "1"}}, Reaches: []string{"db.example.com:443"},
	}
	if change != nil {
		change(&o)
	}
	made, err := w.Offer(w.t.Context(), owner, o)
	if err != nil {
		w.t.Fatal(err)
	}
	return made
}

func (w *world) accept(account hearth.Account, o *hearth.Offer, key string) *hearth.SharedAlias {
	w.t.Helper()
	a, err := w.Accept(w.t.Context(), account, Acceptance{Name: "mine", Offer: o.ID, Parameters: map[string]*string{"KEY": &key}})
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

func (w *world) resolve(account hearth.Account) *hearth.Function {
	w.t.Helper()
	f, err := w.Resolve(w.t.Context(), account, "mine", "")
	if err != nil {
		w.t.Fatal(err)
	}
	return f
}
