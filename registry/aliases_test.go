package registry_test

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/registry"
)

// published makes a function with that many different versions.
func (w *world) published(name string, n int) {
	w.t.Helper()
	w.create(name)
	for i := range n {
		memory := 128 + i
		w.got(w.UpdateConfiguration(ctx, account, name, registry.UpdateConfiguration{MemoryMiB: &memory}))
		w.settled(name)
		w.got(w.Publish(ctx, account, name, registry.Publish{}))
		w.settled(name)
	}
}

func TestAnAliasSharesItsInvocationsByWeight(t *testing.T) {
	picks := []float64{0, 0.24, 0.25, 0.99}
	n := 0
	w := newWorld(t, t.TempDir(), func(c *registry.Config) {
		c.Pick = func() float64 { n++; return picks[(n-1)%len(picks)] }
	})
	defer func() { w.close() }()
	w.published("f", 2)
	_, err := w.CreateAlias(ctx, account, "f", "live", registry.Alias{Version: new("1"), Weights: map[string]float64{"2": 0.25}})
	w.must(err)
	var ran []string
	for range picks {
		ran = append(ran, w.got(w.Resolve(ctx, account, "f", "live")).Version)
	}
	if got := strings.Join(ran, " "); got != "2 2 1 1" {
		t.Errorf("with a quarter for version 2 it ran %s", got)
	}
	if f := w.got(w.Get(ctx, account, "f", "live")); f.Version != "1" {
		t.Errorf("the alias is shown as version %s", f.Version)
	}
}

func TestAVersionInUseByAnAliasIsNotDeleted(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil)
	defer func() { w.close() }()
	w.published("f", 2)
	_, err := w.CreateAlias(ctx, account, "f", "live", registry.Alias{Version: new("1"), Weights: map[string]float64{"2": 0.1}})
	w.must(err)
	for _, version := range []string{"1", "2"} {
		wantError(t, w.Delete(ctx, account, "f", version), hearth.Conflict, "Unable to delete version because the following aliases reference it: [live]")
	}
	w.must(w.DeleteAlias(ctx, account, "f", "live"))
	w.must(w.Delete(ctx, account, "f", "1"))
}

// What is configured ends with what it is of, and is told to the listener.
func TestSettingsEndWithTheirAliasVersionAndFunction(t *testing.T) {
	var mu sync.Mutex
	told := map[string]bool{} // what the listener believes to be configured
	w := newWorld(t, t.TempDir(), func(c *registry.Config) {
		c.Configured = func(c registry.Configured) {
			mu.Lock()
			defer mu.Unlock()
			if at := c.Function + ":" + c.Qualifier; *c.Settings == (registry.Settings{}) {
				delete(told, at)
			} else {
				told[at] = true
			}
		}
	})
	defer func() { w.close() }()
	w.published("f", 1)
	_, err := w.CreateAlias(ctx, account, "f", "live", registry.Alias{Version: new("1")})
	w.must(err)
	for _, qualifier := range []string{"", "1", "live"} {
		_, err := w.Configure(ctx, account, "f", qualifier, func(s *registry.Settings) error {
			s.EventInvoke = &registry.EventInvoke{MaxRetries: new(1)}
			return nil
		})
		w.must(err)
	}
	_, err = w.Configure(ctx, account, "f", "none", func(*registry.Settings) error { return nil })
	wantError(t, err, hearth.NotFound, "Function not found: "+arn+"f:none")
	w.reopen()
	have := func() string {
		var all []string
		for c := range w.EverySettings() {
			all = append(all, c.Function+":"+c.Qualifier)
		}
		slices.Sort(all)
		if known := slices.Sorted(maps.Keys(told)); !slices.Equal(all, known) {
			t.Errorf("there is %v, the listener knows of %v", all, known)
		}
		return strings.Join(all, " ")
	}
	if got := have(); got != "f: f:1 f:live" {
		t.Errorf("after a restart there is %q", got)
	}
	w.must(w.DeleteAlias(ctx, account, "f", "live"))
	if got := have(); got != "f: f:1" {
		t.Errorf("without the alias there is %q", got)
	}
	w.must(w.Delete(ctx, account, "f", "1"))
	if got := have(); got != "f:" {
		t.Errorf("without the version there is %q", got)
	}
	w.must(w.Delete(ctx, account, "f", ""))
	w.reopen()
	if got := have(); got != "" {
		t.Errorf("without the function there is %q", got)
	}
}

// Aliases are what a map of them would be, also after restarts.
func TestAliasesAnswerAsAPlainModelDoes(t *testing.T) {
	dir := t.TempDir()
	base := newWorld(t, dir, nil)
	base.published("f", 3)
	base.close()
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, dir, nil)
		defer func() { w.close() }()
		model := map[string]string{}
		for _, name := range []string{"a", "b", "c"} {
			w.must(w.DeleteAlias(ctx, account, "f", name))
		}
		names, versions := rapid.SampledFrom([]string{"a", "b", "c"}), rapid.SampledFrom([]string{"1", "2", "3", "$LATEST", "4"})
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			name, version := names.Draw(t, "name"), versions.Draw(t, "version")
			_, is := model[name]
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				_, err := w.CreateAlias(ctx, account, "f", name, registry.Alias{Version: &version})
				switch {
				case is:
					isKind(t, err, hearth.Conflict)
				case version == "4":
					isKind(t, err, hearth.NotFound)
				default:
					w.must(err)
					model[name] = version
				}
			case 1:
				_, err := w.UpdateAlias(ctx, account, "f", name, registry.Alias{Version: &version})
				if !is || version == "4" {
					isKind(t, err, hearth.NotFound)
				} else {
					w.must(err)
					model[name] = version
				}
			case 2:
				w.must(w.DeleteAlias(ctx, account, "f", name))
				delete(model, name)
			case 3:
				w.reopen()
			}
			var want, got []string
			for _, name := range slices.Sorted(maps.Keys(model)) {
				want = append(want, name+"="+model[name])
			}
			for marker, first := "", true; first || marker != ""; first = false {
				page, next, err := w.Aliases(ctx, account, "f", "", marker, 2)
				w.must(err)
				for _, a := range page {
					got = append(got, a.Name+"="+a.Version)
					if f := w.got(w.Resolve(ctx, account, "f", a.Name)); f.Version != a.Version {
						t.Fatalf("%s runs %s", a.ARN(), f.Version)
					}
				}
				marker = next
			}
			if !slices.Equal(got, want) {
				t.Fatalf("there is %v, expected %v", got, want)
			}
		}
	})
}

func isKind(t tester, err error, kind hearth.Kind) {
	t.Helper()
	if hearth.KindOf(err) != kind {
		t.Fatalf("got %v, expected %s", err, kind)
	}
}

// Settings of one function that many change at once lose no change.
func TestChangesOfSettingsAtOnceLoseNothing(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil)
	defer func() { w.close() }()
	w.create("f")
	w.settled("f")
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 10 {
				_, err := w.Configure(ctx, account, "f", "", func(s *registry.Settings) error {
					n, _ := strconv.Atoi(s.Recursion)
					s.Recursion = fmt.Sprint(n + 1)
					return nil
				})
				if err != nil {
					t.Errorf("%d: %v", i, err)
				}
			}
		})
	}
	all.Wait()
	s, err := w.Settings(ctx, account, "f", "")
	w.must(err)
	if s.Recursion != "80" {
		t.Errorf("80 changes left %s", s.Recursion)
	}
}

func TestWeightsCanBeTakenAway(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil)
	defer func() { w.close() }()
	w.published("f", 2)
	_, err := w.CreateAlias(ctx, account, "f", "live", registry.Alias{Version: new("1"), Weights: map[string]float64{"2": 1}})
	w.must(err)
	a, err := w.UpdateAlias(ctx, account, "f", "live", registry.Alias{Weights: map[string]float64{}})
	w.must(err)
	if a.Weights != nil || w.got(w.Resolve(ctx, account, "f", "live")).Version != "1" {
		t.Errorf("without weights: %+v", a)
	}
}
