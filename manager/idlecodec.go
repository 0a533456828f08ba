package manager

import (
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// On disk an IdleHistory is JSON. What follows from the rest is left out, and
// bins that nothing was counted in.
type historyJSON struct {
	Seen    float64        `json:"seen"`
	Decayed time.Duration  `json:"decayed"`
	Last    time.Duration  `json:"last"`
	Levels  []levelJSON    `json:"levels"`
	Gaps    map[int]gapsIO `json:"gaps"`
}

type levelJSON struct {
	Since   *time.Duration `json:"since,omitempty"` // nil is occupied
	Minutes []uint64       `json:"minutes"`
	Head    int32          `json:"head"`
	Mean    float32        `json:"mean"`
	Dev     float32        `json:"dev"`
	N       float32        `json:"n"`
}

type gapsIO struct {
	N       float32         `json:"n"`
	Seconds float32         `json:"seconds"`
	Ended   map[int]float32 `json:"ended"`
	Cut     map[int]float32 `json:"cut,omitempty"`
}

// MarshalJSON writes h as UnmarshalJSON reads it.
func (h IdleHistory) MarshalJSON() ([]byte, error) {
	j := historyJSON{Seen: h.seen, Decayed: h.decayed, Last: h.last, Gaps: map[int]gapsIO{}}
	for i := range h.levels {
		l := &h.levels[i]
		o := levelJSON{Minutes: l.clock.minutes[:], Head: l.clock.head, Mean: l.clock.mean, Dev: l.clock.dev, N: l.clock.n}
		if l.since != occupied {
			o.Since = &l.since
		}
		j.Levels = append(j.Levels, o)
	}
	for c, g := range h.classes {
		if g != nil {
			j.Gaps[c] = gapsIO{g.n, g.seconds, sparse(&g.ended), sparse(&g.cut)}
		}
	}
	return json.Marshal(j)
}

func sparse(bins *[gapBins]float32) map[int]float32 {
	m := map[int]float32{}
	for b, n := range bins {
		if n != 0 {
			m[b] = n
		}
	}
	return m
}

// UnmarshalJSON reads what MarshalJSON wrote. It refuses what cannot have come
// from there, and then leaves h as it was.
func (h *IdleHistory) UnmarshalJSON(data []byte) error {
	var j historyJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	if len(j.Levels) > levelsWatched {
		return fmt.Errorf("a history of idle times has %d levels, %d are possible", len(j.Levels), levelsWatched)
	}
	if j.Seen < 0 || j.Decayed < 0 || j.Last < 0 {
		return fmt.Errorf("a history of idle times has a negative count or time")
	}
	r := IdleHistory{seen: j.Seen, decayed: j.Decayed, last: j.Last}
	for i, o := range j.Levels {
		l := level{since: occupied}
		if o.Since != nil {
			l.since = *o.Since
		}
		if len(o.Minutes) != len(l.clock.minutes) || o.Head < 0 || l.since < 0 && l.since != occupied ||
			o.Mean < 0 || o.Mean > 60 || o.Dev < 0 || o.Dev > 60 || o.N < 0 || o.N > lastPlaces {
			return fmt.Errorf("level %d of a history of idle times is none", i)
		}
		copy(l.clock.minutes[:], o.Minutes)
		l.clock.head, l.clock.mean, l.clock.dev, l.clock.n, l.clock.stale = o.Head, o.Mean, o.Dev, o.N, true
		r.levels = append(r.levels, l)
	}
	for c, o := range j.Gaps {
		if c < 0 || c >= levelClasses || !count(o.N) || o.Seconds < 0 {
			return fmt.Errorf("class %d of a history of idle times is none", c)
		}
		g := &gaps{n: o.N, seconds: o.Seconds}
		for _, f := range []struct {
			from map[int]float32
			to   *[gapBins]float32
		}{{o.Ended, &g.ended}, {o.Cut, &g.cut}} {
			for b, n := range f.from {
				if b < 0 || b >= gapBins || !count(n) {
					return fmt.Errorf("bin %d of class %d of a history of idle times is none", b, c)
				}
				f.to[b] = n
			}
		}
		r.classes[c] = g
	}
	*h = r
	return nil
}

func count(n float32) bool { return n >= 0 && n <= maxGaps && !math.IsNaN(float64(n)) }
