package capacity_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/capacity"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/store/sqlite"
)

const account = hearth.Account("000000000000")

var ctx = context.Background()

type world struct {
	*capacity.Providers
	t     *testing.T
	dir   string
	mu    sync.Mutex
	used  map[string]bool
	vcpus map[string]int // what was told last
	close func()
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, dir: t.TempDir(), used: map[string]bool{}}
	w.open()
	t.Cleanup(func() { w.close() })
	return w
}

func (w *world) open() {
	w.t.Helper()
	w.vcpus = map[string]int{}
	records, err := sqlite.Open(ctx, w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	w.Providers, err = capacity.Open(ctx, capacity.Config{
		Store: records, Clock: clock.System(), Region: "us-east-1", Limit: 3,
		Users: func(_ hearth.Account, arn string) bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.used[arn]
		},
		Changed: func(arn string, vcpus int) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.vcpus[arn] = vcpus
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.close = func() {
		if err := w.Close(); err != nil {
			w.t.Error(err)
		}
		if err := records.Close(); err != nil {
			w.t.Error(err)
		}
	}
}

func (w *world) told(name string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.vcpus["arn:aws:lambda:us-east-1:000000000000:capacity-provider:"+name]
}

func (w *world) create(name string) *capacity.Provider {
	w.t.Helper()
	p, err := w.Create(ctx, capacity.Provider{Account: account, Name: name, OperatorRole: "arn:aws:iam::000000000000:role/r", SubnetIDs: []string{"subnet-1"}})
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// await waits for a state; "" is that there is none.
func (w *world) await(name string, want capacity.State) {
	w.t.Helper()
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		p, err := w.Get(account, name)
		if want == "" && hearth.KindOf(err) == hearth.NotFound || err == nil && p.State == want {
			return
		}
	}
	w.t.Fatalf("%s does not become %q", name, want)
}

func kind(t *testing.T, err error, want hearth.Kind) {
	t.Helper()
	if hearth.KindOf(err) != want {
		t.Errorf("refused with %v, want %s", err, want)
	}
}

func TestProviderLivesFromPendingToGone(t *testing.T) {
	w := newWorld(t)
	p := w.create("a")
	if p.State != capacity.Pending || p.Scaling.MaxVCPUs != capacity.DefaultMaxVCPUs || p.Scaling.Mode != "Auto" {
		t.Errorf("made as %+v", p)
	}
	w.await("a", capacity.Active)
	if _, err := w.Get(account, p.ARN()); err != nil {
		t.Errorf("by its ARN: %v", err)
	}
	_, err := w.Create(ctx, capacity.Provider{Account: account, Name: "a"})
	kind(t, err, hearth.Conflict)
	if _, err := w.Update(ctx, account, "a", func(p *capacity.Provider) error { p.Scaling.MaxVCPUs = 8; return nil }); err != nil {
		t.Fatal(err)
	}
	if w.told("a") != 8 {
		t.Errorf("told of %d vCPUs", w.told("a"))
	}
	w.mu.Lock()
	w.used[p.ARN()] = true
	w.mu.Unlock()
	_, err = w.Delete(ctx, account, "a")
	kind(t, err, hearth.Conflict)

	w.close()
	w.open()
	if got, err := w.Get(account, "a"); err != nil || got.State != capacity.Active || got.Scaling.MaxVCPUs != 8 || !slices.Equal(got.SubnetIDs, []string{"subnet-1"}) || w.told("a") != 8 {
		t.Errorf("opened again it is %+v, %v; told of %d vCPUs", got, err, w.told("a"))
	}
	w.mu.Lock()
	clear(w.used)
	w.mu.Unlock()
	gone, err := w.Delete(ctx, account, "a")
	if err != nil || gone.State != capacity.Deleting {
		t.Errorf("deleted as %+v, %v", gone, err)
	}
	w.await("a", "")
	if w.told("a") != 0 {
		t.Errorf("gone, and told of %d vCPUs", w.told("a"))
	}
	_, err = w.Delete(ctx, account, "a")
	kind(t, err, hearth.NotFound)
	_, err = w.Update(ctx, account, "a", func(*capacity.Provider) error { return nil })
	kind(t, err, hearth.NotFound)
}

func TestProvidersAreListedByNameAndNoMoreThanAllowed(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"c", "a", "b"} {
		w.create(name)
	}
	_, err := w.Create(ctx, capacity.Provider{Account: account, Name: "d"})
	kind(t, err, hearth.CapacityProviderLimit)
	var names []string
	for p := range w.List(account, "a") {
		names = append(names, p.Name)
	}
	if fmt.Sprint(names) != "[b c]" {
		t.Errorf("after a come %v", names)
	}
}

func TestWhatDoesNotGoTogetherIsRefused(t *testing.T) {
	w := newWorld(t)
	for name, p := range map[string]capacity.Provider{
		"policies without Manual": {Scaling: capacity.Scaling{Policies: []capacity.Policy{{Metric: "m", Target: 1}}}},
		"Manual without policies": {Scaling: capacity.Scaling{Mode: "Manual"}},
		"allowed and excluded":    {Requirements: &capacity.Requirements{Allowed: []string{"a"}, Excluded: []string{"b"}}},
	} {
		p.Account, p.Name = account, "x"
		_, err := w.Create(ctx, p)
		if hearth.KindOf(err) != hearth.InvalidParameter {
			t.Errorf("%s: %v", name, err)
		}
	}
}
