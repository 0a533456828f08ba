package bus

import (
	"sync"
	"sync/atomic"

	"github.com/hearth-faas/hearth"
)

// A Watcher sees the events that come to a bus of this server from when it
// began to watch. Who reads too slowly misses some, and holds up nobody.
type Watcher struct {
	// Events are they, as targets see them, which must not be changed.
	Events <-chan []byte

	events chan []byte
	missed atomic.Uint64
	stop   func()
}

// Missed tells how many events came that could not be kept for the reader, and
// forgets it.
func (w *Watcher) Missed() uint64 { return w.missed.Swap(0) }

// Stop ends it. Events is not closed.
func (w *Watcher) Stop() { w.stop() }

// watchers are those who watch, by bus.
type watchers struct {
	n  atomic.Int64 // how many; most times none, and then nothing else is looked at
	mu sync.Mutex
	by map[string]map[*Watcher]struct{}
}

// watchAhead is how many events are kept for a reader.
const watchAhead = 256

// Watch begins to watch a bus, which need not exist yet.
func (b *Buses) Watch(account hearth.Account, bus string) *Watcher {
	w := &Watcher{events: make(chan []byte, watchAhead)}
	w.Events = w.events
	k, ws := busKey(account, bus), &b.watchers
	var once sync.Once
	w.stop = func() {
		once.Do(func() {
			ws.mu.Lock()
			defer ws.mu.Unlock()
			ws.n.Add(-1)
			if delete(ws.by[k], w); len(ws.by[k]) == 0 {
				delete(ws.by, k)
			}
		})
	}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.by == nil {
		ws.by = map[string]map[*Watcher]struct{}{}
	}
	if ws.by[k] == nil {
		ws.by[k] = map[*Watcher]struct{}{}
	}
	ws.by[k][w] = struct{}{}
	ws.n.Add(1)
	return w
}

// show tells those who watch of an event that was accepted.
func (b *Buses) show(account hearth.Account, bus string, event []byte) {
	ws := &b.watchers
	if ws.n.Load() == 0 {
		return
	}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for w := range ws.by[busKey(account, bus)] {
		select {
		case w.events <- event:
		default:
			w.missed.Add(1)
		}
	}
}
