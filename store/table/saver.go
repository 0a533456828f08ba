package table

import (
	"context"
	"sync"
	"time"

	"github.com/hearth-faas/hearth"
)

// SaveEvery is how often a Saver saves: what a process that is killed loses of
// counts that are stored by one.
const SaveEvery = time.Second

// Saver stores now and then what changes far too often to be stored each time,
// such as counts of calls. Safe for concurrent use.
type Saver struct {
	clock  hearth.Clock
	save   func(ctx context.Context) error
	failed func(err error)

	mu     sync.Mutex
	timer  hearth.Timer // nil: nothing is to be saved
	closed bool
}

// NewSaver has save store what has changed, SaveEvery after it was asked for. An
// error is told to failed, and save is called again.
func NewSaver(clock hearth.Clock, save func(ctx context.Context) error, failed func(err error)) *Saver {
	return &Saver{clock: clock, save: save, failed: failed}
}

// Soon says that there is something to save.
func (s *Saver) Soon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil || s.closed {
		return
	}
	s.timer = s.clock.AfterFunc(SaveEvery, func() {
		s.mu.Lock()
		s.timer = nil
		s.mu.Unlock()
		if err := s.save(context.Background()); err != nil {
			s.failed(err)
			s.Soon()
		}
	})
}

// Close saves for the last time, and returns that one's error.
func (s *Saver) Close() error {
	s.mu.Lock()
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
	}
	s.mu.Unlock()
	return s.save(context.Background())
}
