package table

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/hearth-faas/hearth/clock"
)

func TestWhatChangesOftenIsSavedOnceASecondAndAtTheEnd(t *testing.T) {
	now := clock.NewFake(time.Unix(0, 0))
	var mu sync.Mutex
	saved, failures := 0, 0
	var result error
	count := func(n *int) int { mu.Lock(); defer mu.Unlock(); return *n }
	s := NewSaver(now, func(context.Context) error { mu.Lock(); defer mu.Unlock(); saved++; return result },
		func(error) { mu.Lock(); defer mu.Unlock(); failures++ })
	for range 100 {
		s.Soon()
	}
	if count(&saved) != 0 {
		t.Error("it is saved at once")
	}
	now.Advance(SaveEvery)
	if n := count(&saved); n != 1 {
		t.Errorf("saved %d times", n)
	}
	now.Advance(10 * SaveEvery)
	if n := count(&saved); n != 1 {
		t.Errorf("with nothing to save it is saved %d times", n)
	}
	mu.Lock()
	result = errors.New("the disk is full")
	mu.Unlock()
	s.Soon()
	now.Advance(SaveEvery)
	mu.Lock()
	result = nil
	mu.Unlock()
	now.Advance(SaveEvery)
	if n, f := count(&saved), count(&failures); n != 3 || f != 1 {
		t.Errorf("after a failure it is saved %d times, and told %d", n, f)
	}
	s.Soon()
	if err := s.Close(); err != nil || count(&saved) != 4 {
		t.Errorf("at the end: %v, saved %d times", err, count(&saved))
	}
	s.Soon()
	now.Advance(SaveEvery)
	if n := count(&saved); n != 4 {
		t.Errorf("after the end it is saved: %d times", n)
	}
}
