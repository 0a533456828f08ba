package guard

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
)

const (
	// window is how long a signature is good, before and after its time: what
	// is seen is remembered for twice that.
	window = 10 * time.Minute
	// again is how long after the first time a client may send the same
	// signature once more: clients sign to the second, and their HTTP libraries
	// send a request again by themselves where a connection broke.
	again = 15 * time.Second
	// maxSeen bounds each of the two generations, 16 bytes and the map's own
	// for each.
	maxSeen = 1 << 17
)

// Seen remembers the signatures of changes while they are good, so that a call
// that somebody overheard can't be sent again: the same signature is refused
// from another address, and after a moment also from the same. Beyond maxSeen
// changes in a window the oldest are forgotten. Safe for concurrent use.
type Seen struct {
	once  sync.Once
	seed  maphash.Seed
	mu    sync.Mutex
	young map[uint64]sight
	old   map[uint64]sight
	since time.Time // when young was begun

	refused atomic.Uint64
}

type sight struct {
	at     int64 // Unix milliseconds
	source uint32
}

// Fresh is an error of kind InvalidSignature if the signature came before, from
// another address or more than a moment ago.
func (s *Seen) Fresh(signature, source string, now time.Time) error {
	s.once.Do(func() { s.seed = maphash.MakeSeed() })
	key := maphash.String(s.seed, signature)
	from := uint32(maphash.String(s.seed, source))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.young == nil || len(s.young) >= maxSeen || now.Sub(s.since) >= window {
		s.old, s.young, s.since = s.young, map[uint64]sight{}, now
	}
	was, ok := s.young[key]
	if !ok {
		was, ok = s.old[key]
	}
	if !ok {
		s.young[key] = sight{now.UnixMilli(), from}
		return nil
	}
	if was.source == from && now.UnixMilli()-was.at <= again.Milliseconds() {
		return nil
	}
	s.refused.Add(1)
	return hearth.Errorf(hearth.InvalidSignature, "A change with this very signature was made before. Sign the request anew to make it again.")
}

// Refused is how many calls were refused since the start.
func (s *Seen) Refused() uint64 { return s.refused.Load() }
