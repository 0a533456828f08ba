package registry_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/registry"
)

// overtaking is a world in which Overtake waits to be let through.
type overtaking struct {
	*world
	entered chan [2]*hearth.Function
	leave   chan struct{}
}

func newOvertaking(t *testing.T, edit func(*registry.Config)) *overtaking {
	o := &overtaking{entered: make(chan [2]*hearth.Function, 100), leave: make(chan struct{}, 100)}
	o.world = newWorld(t, t.TempDir(), func(c *registry.Config) {
		c.Overtake = func(ctx context.Context, old, now *hearth.Function) {
			o.entered <- [2]*hearth.Function{old, now}
			select {
			case <-o.leave:
			case <-ctx.Done():
			}
		}
		if edit != nil {
			edit(c)
		}
	})
	return o
}

func (o *overtaking) updateCode(name, text string) {
	o.t.Helper()
	o.got(o.UpdateCode(ctx, account, name, registry.UpdateCode{Zip: code(text)}))
}

func TestWhatWasActiveAnswersUntilTheNewCodeHasTakenOver(t *testing.T) {
	w := newOvertaking(t, nil)
	old := w.create("f")
	w.updateCode("f", "new")
	pair := <-w.entered
	if pair[0].Generation != old.Generation || pair[1].Generation <= old.Generation {
		t.Errorf("generation %d is told to take over from %d; %d was there", pair[1].Generation, pair[0].Generation, old.Generation)
	}
	if f := w.got(w.Resolve(ctx, account, "f", "")); f.Generation != old.Generation {
		t.Error("the new code is resolved before it has taken over")
	}
	if f := w.got(w.Get(ctx, account, "f", "")); f.UpdateStatus != hearth.UpdateInProgress || !w.Updating() {
		t.Errorf("its update is %s, and any in progress: %v", f.UpdateStatus, w.Updating())
	}
	w.leave <- struct{}{}
	if f := w.settled("f"); f.Generation != pair[1].Generation || w.Updating() {
		t.Errorf("it ended as %s; any in progress: %v", describe(f), w.Updating())
	}
	w.close()
}

func TestWhoeverWaitsForAnUpdateHearsHowItEnded(t *testing.T) {
	g := newGate()
	w := newWorld(t, t.TempDir(), func(c *registry.Config) { c.Prepare = g.prepare })
	g.leave <- nil
	w.create("f")
	wait := func(qualifier string) chan error {
		done := make(chan error, 1)
		go func() {
			waited, err := w.Settled(ctx, account, "f", qualifier)
			if err == nil && waited != (qualifier == "") {
				err = fmt.Errorf("waited: %v", waited)
			}
			done <- err
		}()
		return done
	}
	if err := <-wait("7"); err != nil {
		t.Error(err)
	}
	w.got(w.UpdateCode(ctx, account, "f", registry.UpdateCode{Zip: code("new")}))
	if err := <-wait("1"); err != nil { // not what is being changed
		t.Error(err)
	}
	for _, end := range []error{nil, hearth.Errorf(hearth.InvalidZip, "no zip")} {
		waiting := []chan error{wait(""), wait("")}
		time.Sleep(time.Millisecond)
		g.leave <- end
		for _, done := range waiting {
			err := <-done
			if end == nil && err != nil && err.Error() != "waited: false" {
				t.Error(err)
			}
			if end != nil && err != nil && err.Error() != "waited: false" {
				wantError(t, err, hearth.Conflict, "The update that the invocation waited for has failed: no zip")
			}
		}
		w.settled("f")
		if end == nil {
			w.got(w.UpdateCode(ctx, account, "f", registry.UpdateCode{Zip: code("newer")}))
		}
	}
	short, cancel := context.WithCancel(ctx)
	cancel()
	w.got(w.UpdateCode(ctx, account, "f", registry.UpdateCode{Zip: code("newest")}))
	_, err := w.Settled(short, account, "f", "")
	wantError(t, err, hearth.Conflict, "The operation cannot be performed at this time. An update is in progress for resource: "+arn+"f")
	w.close()
}

func TestAnAliasMovesWhenItsNewVersionIsReady(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	var w *world
	w = newWorld(t, t.TempDir(), func(c *registry.Config) {
		c.Ahead = func(_ context.Context, old, now *hearth.Function, share float64) {
			a, err := w.Alias(ctx, account, "f", "live")
			if err != nil || a.Version != old.Version {
				t.Errorf("the alias points to %+v while version %s is made ready: %v", a, now.Version, err)
			}
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, fmt.Sprintf("%s→%s %.1f", old.Version, now.Version, share))
		}
	})
	w.create("f")
	for i := range 3 {
		w.got(w.UpdateCode(ctx, account, "f", registry.UpdateCode{Zip: code(fmt.Sprint("v", i)), Publish: true}))
		w.settled("f")
	}
	move := func(version string, weights map[string]float64, revision string) error {
		_, err := w.UpdateAlias(ctx, account, "f", "live", registry.Alias{Version: &version, Weights: weights, RevisionID: revision})
		return err
	}
	one := "1"
	if _, err := w.CreateAlias(ctx, account, "f", "live", registry.Alias{Version: &one}); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		move("1", map[string]float64{"2": 0.1}, ""), move("2", map[string]float64{}, ""), move("2", nil, ""), move("3", nil, ""),
	} {
		w.must(err)
	}
	if err := errors.Join(move("9", nil, ""), move("1", nil, "other")); err == nil {
		t.Error("what is refused is not")
	}
	if want := []string{"1→2 0.1", "1→2 1.0", "2→3 1.0"}; !slices.Equal(asked, want) {
		t.Errorf("made ready: %q, want %q", asked, want)
	}
	w.close()
}
