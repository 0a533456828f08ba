package manager

import (
	"math"
	"math/bits"
	"slices"
	"time"
)

// IdleHistory is what one function has shown of its demand: how long its
// containers idle, and whether it is called by the clock.
//
// Demand is how many invocations run or wait for a container. Its n-th level,
// from 1, is occupied while demand is n or more. Since the container that was
// used last is used first, the n-th container idles exactly while the n-th
// level is not occupied, so that for each level there is a distribution of
// idle times of its own: the first is asked for with every burst, the tenth
// with few.
//
// Times are since an epoch of the caller's, which is at a whole minute of the
// wall clock. The zero value has seen nothing. It needs up to 10 KiB, by the
// highest demand there was; for a function whose invocations do not overlap
// 0.7 KiB. Not safe for concurrent use.
type IdleHistory struct {
	levels  []level
	classes [levelClasses]*gaps
	// seen counts invocations; it decays to 1/e in a day.
	seen    float64
	decayed time.Duration // until when it has
	last    time.Duration // the last Rise
}

// level is what is known of one level of demand.
type level struct {
	since time.Duration // when it was left; occupied while it is not
	clock clockwork
}

const occupied time.Duration = math.MinInt64

// Levels up to 16 are watched one by one, and of higher ones eight for each
// doubling: what is known of one holds for those up to the next.
const (
	fineLevels    = 16
	levelsWatched = fineLevels + 8*10
)

// rank is the place in IdleHistory.levels of the level n; -1 if it is not
// watched.
func rank(n int) int {
	if n <= fineLevels {
		return n - 1
	}
	l := bits.Len(uint(n - 1))
	step := 1 << (l - 4)
	r := fineLevels - 1 + (l-5)*8 + (n-1<<(l-1))/step
	if n%step != 0 || r >= levelsWatched {
		return -1
	}
	return r
}

// levelAt is the level whose rank is r.
func levelAt(r int) int {
	if r < fineLevels {
		return r + 1
	}
	r -= fineLevels
	return (fineLevels + (r%8+1)*2) << (r / 8)
}

// levelClasses is in how many classes idle times are counted: those of the
// levels 1, 2, 3 to 4, 5 to 8 and so on.
const levelClasses = 12

func classOf(n int) int { return min(bits.Len(uint(n-1)), levelClasses-1) }

// gapBins is in how many bins idle times are counted: the first is for less
// than half a second; then come four for each octave up to 4.9 hours; the last
// is for all that is longer.
const gapBins = 62

// gapBin is the bin of an idle time.
func gapBin(d time.Duration) int {
	u := uint64(max(d, 0)) >> 20 // in units of about a millisecond
	if u < 512 {
		return 0
	}
	n := bits.Len64(u)
	return min(1+(n-10)*4+int(u>>(n-3)&3), gapBins-1)
}

// gapBinStarts is where each bin begins, in seconds.
var gapBinStarts = func() (s [gapBins]float64) {
	for b := range s {
		s[b] = gapBinStart(b).Seconds()
	}
	return s
}()

func gapBinStart(b int) time.Duration {
	if b == 0 {
		return 0
	}
	b--
	return time.Duration(uint64(512)<<(b/4)*uint64(4+b%4)/4) << 20
}

// gaps counts the idle times of a class of levels.
type gaps struct {
	// ended counts those that ended unannounced, cut those that an invocation
	// ended that the clock had announced: it says nothing about how soon one
	// comes that is not.
	ended, cut [gapBins]float32
	n          float32 // of both
	seconds    float32 // of both

	// Bits of bins, as IdleLife found: it pays to wait, and it pays to make a
	// container where there is none.
	keep, make uint64
	worth      float32 // for which it did
	fresh      int32   // how many more may be added until it must again
}

// maxGaps is at how many the counts are halved: what was long ago counts less.
const maxGaps = 512

func (g *gaps) add(d time.Duration, announced bool) {
	b := gapBin(d)
	if announced {
		g.cut[b]++
	} else {
		g.ended[b]++
	}
	g.n++
	g.seconds += float32(max(d, 0).Seconds())
	g.fresh--
	if g.n < maxGaps {
		return
	}
	for i := range g.ended {
		g.ended[i] /= 2
		g.cut[i] /= 2
	}
	g.n /= 2
	g.seconds /= 2
}

// Rise tells that demand became n. It allocates only when demand has never
// been as high, and when the first idle time of a class of levels ends.
func (h *IdleHistory) Rise(at time.Duration, n int) {
	if h.seen == 0 {
		h.decayed = at
	}
	h.seen++
	h.last = at
	r := rank(n)
	if r < 0 {
		return
	}
	for len(h.levels) <= r {
		h.levels = append(h.levels, level{since: occupied})
	}
	l := &h.levels[r]
	announced := l.clock.rise(at)
	if l.since == occupied {
		return
	}
	c := classOf(n)
	if h.classes[c] == nil {
		h.classes[c] = &gaps{}
	}
	h.classes[c].add(at-l.since, announced)
	l.since = occupied
}

// Fall tells that demand was n and is one less.
func (h *IdleHistory) Fall(at time.Duration, n int) {
	if r := rank(n); r >= 0 && r < len(h.levels) {
		h.levels[r].since = at
	}
}

// Last is when demand last rose; zero if it never did.
func (h *IdleHistory) Last() time.Duration { return h.last }

// Clone is a copy that shares nothing with h.
func (h *IdleHistory) Clone() IdleHistory {
	c := *h
	c.levels = slices.Clone(h.levels)
	for i, g := range h.classes {
		if g != nil {
			g := *g
			c.classes[i] = &g
		}
	}
	return c
}

// Still tells that nothing runs or waits, as after the instances of another
// generation have gone.
func (h *IdleHistory) Still(at time.Duration) {
	for i := range h.levels {
		if h.levels[i].since == occupied {
			h.levels[i].since = at
		}
	}
}

// decay has what was seen count less as time goes on.
func (h *IdleHistory) decay(at time.Duration) {
	if d := at - h.decayed; d > time.Minute {
		h.seen *= math.Exp(-float64(d) / float64(24*time.Hour))
		h.decayed = at
	}
}
