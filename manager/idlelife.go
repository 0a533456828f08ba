package manager

import (
	"math"
	"math/bits"
	"time"
)

// IdleLife decides how many containers of a function wait for invocations and
// until when (S00.6), and when, after none did, one should be made again ahead
// of the next invocation.
//
// A container is worth having for a time if the cold starts that it is
// expected to spare in it are worth more than its waiting: for each level of
// demand, (the chance that the level is occupied in that time) × Worth against
// (memory) × (how long it is expected to wait until then). All functions are
// measured with the one price, so that no memory waits for one of them that
// would spare more cold starts in another.
//
// The chance comes from the function's own idle times (IdleHistory), where
// those are few from those of all functions (Prior) and from how often it was
// called at all; and from the clock, if the function is called by it. The last
// container is no special case: it is the first level, whose idle times are
// counted apart.
//
// It is pure over the history and what it is shown. Safe for concurrent use.
type IdleLife struct {
	// Min is how long an idle container is kept in any case, Max how long at
	// most. 0 are 10 s and 4 h.
	Min, Max time.Duration
	// Worth is the price: how many MiB·s of waiting it is worth to spare one
	// cold start. 0 is 300,000, about five minutes of a GiB; negative keeps
	// nothing beyond Min.
	Worth float64
	// Rare is the number of invocations a day at which a cold start counts
	// twice: each of few is a larger share of what a function does. 0 is 100,
	// negative has all count the same.
	Rare float64
	// Remake is for how long a container may wait rather than be let go and
	// made again: what the making costs in processor time, and the risk. 0 is
	// a minute.
	Remake time.Duration
}

// Complete fills in what zero values mean.
func (l IdleLife) Complete() IdleLife {
	l.Min = or(l.Min, 10*time.Second)
	l.Max = max(or(l.Max, 4*time.Hour), l.Min)
	l.Worth = or(l.Worth, 300_000)
	l.Rare = or(l.Rare, 100)
	l.Remake = or(l.Remake, time.Minute)
	return l
}

// Need is what IdleLife is shown of a function at a moment.
type Need struct {
	At     time.Duration // on the history's scale
	Demand int           // invocations that run or wait
	MiB    float64       // of one container
	// Lead is how long before it is needed the making of one has to begin.
	Lead time.Duration
	// Scarce multiplies what waiting costs when memory is short; 0 is 1.
	Scarce float64
	Prior  *Prior
	// Ahead says that containers can be made ahead of invocations. If not, one
	// is kept through a time in which it would else be let go and made again.
	Ahead bool
}

// Plan is what IdleLife decides. Counts are of containers, those that work
// included.
type Plan struct {
	// Keep is how many may stay, Make how many should be made if there are
	// fewer; never more than Keep.
	Keep, Make int
	// Until is when what was made is needed no more if nothing happens.
	Until time.Duration
	// Again is when the plan has to be made again if nothing happens before.
	Again time.Duration
}

// Never is later than any other time.
const Never time.Duration = math.MaxInt64

// What is believed of a function that nothing is known of: idle times are
// exponential at a rate that is gamma-distributed, which gives a mean of one
// in 200 s with hardly any certainty. The function's own idle times add to it.
const (
	rateShape = 0.3
	rateScale = 60 // seconds
	// rateWeight is for how many idle times of its own that counts.
	rateWeight = 1
)

// Plan decides for the function whose history is h. h is only changed in that
// what follows from it is remembered.
func (l IdleLife) Plan(h *IdleHistory, n Need) Plan {
	h.decay(n.At)
	p := Plan{Keep: n.Demand, Make: n.Demand, Until: Never, Again: Never}
	worth := l.worth(h, n)
	for r := len(h.levels) - 1; r >= 0 && levelAt(r) > n.Demand; r-- {
		lv := &h.levels[r]
		if lv.since == occupied {
			continue
		}
		keep, create, again, end := l.level(h, lv, r, n, worth)
		p.Again = min(p.Again, again)
		if create && p.Make == n.Demand {
			p.Make, p.Until = levelAt(r), end
		}
		if keep {
			p.Keep = max(p.Keep, levelAt(r+1)-1)
		}
		if keep && (create || !n.Ahead) {
			break
		}
	}
	return p
}

// For is how long the container at a level of demand, which must not be
// occupied, is kept idle in all as things stand.
func (l IdleLife) For(h *IdleHistory, n Need, level int) time.Duration {
	r := rank(level)
	for r < 0 && level > fineLevels {
		level--
		r = rank(level)
	}
	if r < 0 || r >= len(h.levels) || h.levels[r].since == occupied {
		return l.Min
	}
	lv := &h.levels[r]
	keep, _, again, _ := l.level(h, lv, r, n, l.worth(h, n))
	if !keep || again == Never {
		return l.Min
	}
	return again - lv.since
}

// worth is for how many seconds it is worth to wait for one cold start spared.
func (l IdleLife) worth(h *IdleHistory, n Need) float64 {
	w := max(l.Worth, 0) / n.MiB / max(n.Scarce, 1)
	if l.Rare > 0 {
		w *= 1 + l.Rare/max(h.seen, 1)
	}
	return w
}

// level decides whether a container may wait for a level that is not occupied,
// whether one should be made if there is none, when that is to be asked again,
// and until when one that is made is needed.
func (l IdleLife) level(h *IdleHistory, lv *level, r int, n Need, worth float64) (keep, create bool, again, end time.Duration) {
	age := n.At - lv.since
	if age < l.Min {
		return true, false, lv.since + l.Min, 0
	}
	again = Never
	remake := l.Remake.Seconds()
	if w, ok := lv.clock.window(n.At, worth); ok && n.Ahead {
		to := min(w.to, w.from+l.Max)
		switch from := w.from - n.Lead; {
		case w.sure*worth < w.wait+remake:
			again = to // not that one; perhaps the next
		case from <= n.At && n.At < to:
			return true, true, to, to
		case from-l.Remake <= n.At:
			keep, again = true, from // not worth to let go
		default:
			again = from - l.Remake
		}
	}
	class := classOf(levelAt(r))
	g := h.classes[class]
	if g == nil {
		g = &gaps{}
	}
	l.weigh(g, class, n.Prior, worth, n.Ahead)
	b := gapBin(age)
	if g.keep>>b&1 == 1 {
		// The bins around b in which it pays to wait. Who waits at the first
		// of them has waited since then.
		first := b + 1 - bits.LeadingZeros64(^(g.keep << (63 - b)))
		end = lv.since + min(binsEnd(g.keep, b), gapBinStart(first)+l.Max)
		if n.At < end {
			// The first time it is only kept: who was ended for want of memory
			// is not made again at once.
			return true, first > 0 && g.make>>b&1 == 1, min(again, end), end
		}
	}
	if next := g.make >> b >> 1; next != 0 {
		first := b + 1 + bits.TrailingZeros64(next)
		from := lv.since + gapBinStart(first)
		end = min(lv.since+binsEnd(g.keep, first), from+l.Max)
		if from-n.Lead <= n.At {
			return true, true, min(again, from), end
		}
		again = min(again, from-n.Lead)
	}
	return keep, false, again, end
}

// binsEnd is where the run of ones that bin b is in ends.
func binsEnd(mask uint64, b int) time.Duration {
	return gapBinStart(b + bits.TrailingZeros64(^(mask >> b)))
}

// weigh finds the bins of idle time in which waiting pays, and those in which
// making a container pays where there is none, by going back from the last:
// what is won from a bin on is the chance that the idle time ends in it, given
// that it has lasted until then, times what that is worth, less the time that
// the container is then expected to wait; and, if it does not end, what is won
// from the next bin on, either with a container or without.
func (l IdleLife) weigh(g *gaps, class int, prior *Prior, worth float64, ahead bool) {
	if g.fresh > 0 && math.Abs(float64(g.worth)-worth) < 0.2*worth {
		return
	}
	g.fresh, g.worth, g.keep, g.make = 1+int32(g.n/8), float32(worth), 0, 0
	pool, weight := prior.of(class)
	shape, scale := rateShape+float64(g.n), rateScale+float64(g.seconds)
	// beyond is the chance, by the rate, that an idle time reaches a bin.
	beyond := func(seconds float64) float64 {
		return rateWeight * math.Exp(-shape*math.Log1p(seconds/scale))
	}
	remake := l.Remake.Seconds()
	with, without := 0.0, 0.0 // what is won from the end of the bin on
	end := gapBinStarts[gapBins-1]
	later := beyond(end)
	reach := float64(g.ended[gapBins-1] + g.cut[gapBins-1])
	for b := gapBins - 2; b >= 0; b-- {
		start := gapBinStarts[b]
		ended := float64(g.ended[b])
		reach += ended + float64(g.cut[b])
		if !ahead {
			ended += float64(g.cut[b]) // nothing is made for what was announced
		}
		here := beyond(start)
		p := (ended + here - later + weight*(pool[b]-pool[b+1])) / (reach + here + weight*pool[b] + 1e-12)
		with, without = p*worth-(end-start)*(1-p/2)+(1-p)*with, (1-p)*without
		if with > without {
			g.keep |= 1 << b
		} else {
			with = without
		}
		if ahead && with-remake > without {
			g.make |= 1 << b
			without = with - remake
		}
		end, later = start, here
	}
}
