package account_test

import (
	"context"
	"sync"
	"testing"

	"github.com/hearth-faas/hearth/identity"
)

// While access keys are made and deleted, the keys that seal them are rotated and
// those of before removed: each secret opens.
func TestAccessKeysAreSealedAnewWhileTheyAreMade(t *testing.T) {
	w := newWorld(t)
	if err := w.auth.Join(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	d := w.open(t)
	stop := make(chan struct{})
	var busy sync.WaitGroup
	busy.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			made, err := d.Keys().Create(t.Context(), operator, "AIDAX")
			if err == nil {
				err = d.Keys().Delete(t.Context(), operator, "AIDAX", made.Key.ID)
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	rest := func(context.Context) error { return nil }
	for range 30 {
		if _, err := d.Keys().Create(t.Context(), operator, ""); err != nil && len(d.Keys().List(operator, "")) < 2 {
			t.Fatal(err)
		}
		if _, err := w.auth.Rotate(t.Context(), "", 0); err != nil {
			t.Fatal(err)
		}
		current := w.auth.Current()
		if err := d.Keys().Reseal(t.Context(), w.auth.Key().Again, rest); err != nil {
			t.Fatal(err)
		}
		if removed, err := w.auth.Forget(t.Context(), current); err != nil || !removed {
			t.Fatal(removed, err)
		}
	}
	close(stop)
	busy.Wait()
	n := 0
	err := d.Keys().Reseal(t.Context(), func(sealed, associated []byte) ([]byte, error) {
		n++
		if identity.Generation(sealed) != w.auth.Current() {
			t.Errorf("one is sealed by the data key %d", identity.Generation(sealed))
		}
		_, err := w.auth.Key().Open(sealed, associated)
		return nil, err
	}, rest)
	if err != nil || n == 0 {
		t.Errorf("%d, %v", n, err)
	}
	w.open(t) // which opens them
}
