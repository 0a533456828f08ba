package registry_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hearth-faas/hearth/identity"
	"github.com/hearth-faas/hearth/registry"
)

func noRest(context.Context) error { return nil }

// While functions are made, changed, published and deleted, keys are rotated and
// those of before removed, again and again: each environment opens.
func TestEnvironmentsAreSealedAnewWhileFunctionsChange(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil)
	defer func() { w.close() }()
	w.must(w.keys.Join(ctx, nil))
	for n := range 4 {
		w.create(fmt.Sprintf("kept%d", n))
	}
	stop := make(chan struct{})
	var busy sync.WaitGroup
	for n := range 3 {
		busy.Go(func() {
			name := fmt.Sprintf("kept%d", n)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				env := map[string]string{"MODE": fmt.Sprint(i)}
				// One that is being prepared is not changed; that is as well.
				_, _ = w.UpdateConfiguration(ctx, account, name, registry.UpdateConfiguration{Env: env})
				if i%3 == 0 {
					_, _ = w.Publish(ctx, account, name, registry.Publish{})
				}
				fresh := fmt.Sprintf("new%d-%d", n, i)
				if _, err := w.Create(ctx, registry.Create{Function: function(fresh), Zip: code(fresh)}); err != nil {
					t.Error(err)
					return
				}
				if i%8 != 0 {
					if err := w.Delete(ctx, account, fresh, ""); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	for range 8 {
		_, err := w.keys.Rotate(ctx, "", 0)
		w.must(err)
		current := w.keys.Current()
		w.must(w.Reseal(ctx, w.keys.Key().Again, noRest))
		removed, err := w.keys.Forget(ctx, current)
		if w.must(err); !removed {
			t.Error("no key was removed")
		}
	}
	close(stop)
	busy.Wait()
	last := w.keys.Current()
	w.must(w.Reseal(ctx, func(sealed, associated []byte) ([]byte, error) {
		if g := identity.Generation(sealed); g != last {
			return nil, fmt.Errorf("%s is sealed by the data key %d, the current is %d", associated, g, last)
		}
		_, err := w.keys.Key().Open(sealed, associated)
		return nil, err
	}, noRest))
	w.reopen() // which opens all of them
	if got := w.got(w.Get(ctx, account, "kept3", "")); got.Env["MODE"] != "test" {
		t.Errorf("%v", got.Env)
	}
}

// Between two functions it can be stopped.
func TestResealingStopsWhenItIsTold(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil)
	defer func() { w.close() }()
	for n := range 3 {
		w.create(fmt.Sprintf("f%d", n))
	}
	ended, cancel := context.WithTimeout(ctx, time.Minute)
	cancel()
	seen := 0
	err := w.Reseal(ctx, func([]byte, []byte) ([]byte, error) { seen++; return nil, nil }, func(context.Context) error { return ended.Err() })
	if err == nil || seen != 1 {
		t.Errorf("%v, after %d", err, seen)
	}
}
