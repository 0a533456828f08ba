package manager

import (
	"math"
	"math/bits"
	"time"
)

// clockwork finds out whether something happens by the clock, every so many
// minutes. It remembers in which of the last 256 minutes it happened.
// Schedules fire at whole minutes of the wall clock, so that a bit for each
// minute tells them from chance, where the times between events blur: those
// vary with what else happened in the minute.
type clockwork struct {
	minutes [clockMinutes / 64]uint64 // bit i: in the minute i before head
	head    int32                     // minutes since the epoch
	stale   bool                      // lag and sure are to be found anew
	lag     uint8                     // minutes; 0 is that it does not
	sure    float32                   // the share of the announced minutes in which it happened
	// When in its minute it happens, in seconds: the mean of the last few,
	// the mean absolute deviation, and how many they are.
	mean, dev, n float32
}

const (
	clockMinutes = 256
	// maxLag is the longest period that is found: two of it must have passed.
	maxLag = 120
	// lastPlaces is of how many the place within the minute is the mean.
	lastPlaces = 16
	// dense is the share of minutes from which on no period is looked for.
	dense = 0.75
	// usual is the share of what happens that does so at its usual place.
	usual = 0.95
)

// advance makes m the head; what is before it is forgotten after 256 minutes.
func (c *clockwork) advance(m int32) {
	d := int(m - c.head)
	if d <= 0 {
		return
	}
	c.head = m
	if d >= clockMinutes {
		c.minutes = [len(c.minutes)]uint64{}
		return
	}
	for i := len(c.minutes) - 1; i >= 0; i-- {
		c.minutes[i] = c.word(i, -d)
	}
}

// word is word i of the minutes moved by lag: bit j tells whether it happened
// lag minutes before the minute of bit j.
func (c *clockwork) word(i, lag int) uint64 {
	at := i*64 + lag
	w, b := at>>6, uint(at&63)
	var x uint64
	if w >= 0 && w < len(c.minutes) {
		x = c.minutes[w] >> b
	}
	if b > 0 && w+1 >= 0 && w+1 < len(c.minutes) {
		x |= c.minutes[w+1] << (64 - b)
	}
	return x
}

// happened reports whether it happened so many minutes before head.
func (c *clockwork) happened(ago int) bool {
	return ago >= 0 && ago < clockMinutes && c.minutes[ago>>6]>>(ago&63)&1 == 1
}

// rise tells that it happens, and reports whether that was announced: only the
// first of a minute ever is.
func (c *clockwork) rise(at time.Duration) bool {
	c.advance(int32(at / time.Minute))
	if c.minutes[0]&1 == 1 {
		return false
	}
	c.minutes[0] |= 1
	c.stale = true
	if c.minutes[0]&2 == 0 { // not in the midst of it
		x := float32((at % time.Minute).Seconds())
		c.n = min(c.n+1, lastPlaces)
		c.mean += (x - c.mean) / c.n
		c.dev += (float32(math.Abs(float64(x-c.mean))) - c.dev) / c.n
	}
	return c.lag > 0 && c.happened(int(c.lag))
}

// learn finds the lag by which what happened announces most of what happens,
// and most surely.
func (c *clockwork) learn() {
	c.stale = false
	c.lag, c.sure = 0, 0
	total, span := 0, 0
	for i, w := range c.minutes {
		total += bits.OnesCount64(w)
		if w != 0 {
			span = i*64 + bits.Len64(w)
		}
	}
	if total < 3 {
		return
	}
	base := float64(total) / float64(span)
	if base > dense {
		return // it happens nearly all the time, which idle times tell as well
	}
	best := 0.0
	for lag := 2; lag <= min(maxLag, span-1); lag++ {
		hits, trials := 0, 0
		for i, w := range c.minutes {
			before := c.word(i, lag)
			trials += bits.OnesCount64(before)
			hits += bits.OnesCount64(before & w)
		}
		if hits < 2 {
			continue
		}
		// One trial more than there was, that failed: two hits are no
		// certainty. A lag must do better than chance beyond doubt, since of
		// so many some will do better by chance.
		p := float64(hits) / float64(trials+1)
		if p < base+2.5*math.Sqrt(base*(1-base)/float64(trials)) {
			continue
		}
		if score := p * float64(hits) / float64(total); score > best {
			best, c.lag, c.sure = score, uint8(lag), float32(p)
		}
	}
}

// window is when something is expected to happen by the clock.
type window struct {
	from, to time.Duration
	sure     float64 // the chance that it happens
	wait     float64 // seconds that who waits from from on is expected to wait
}

// window is the next time in which it is expected; ok is false if it is not. A
// window that at lies in counts as long as it has not happened. worth is for
// how many seconds it is worth to wait for what is sure.
func (c *clockwork) window(at time.Duration, worth float64) (w window, ok bool) {
	c.advance(int32(at / time.Minute))
	if c.stale {
		c.learn()
	}
	if c.lag == 0 {
		return window{}, false
	}
	// Wide enough for nineteen of twenty even if they are spread evenly.
	first, last := max(0, c.mean-3*c.dev-1), min(60, c.mean+3*c.dev+2)
	// If it has not happened until then it may be late, or not happen at all.
	late := (1 - usual) * float64(c.sure)
	if late/(late+1-float64(c.sure))*worth > float64(60-last) {
		last = 60
	}
	for d := range int(c.lag) + 1 {
		if !c.happened(int(c.lag)-d) || d == 0 && c.minutes[0]&1 == 1 {
			continue
		}
		minute := time.Duration(c.head+int32(d)) * time.Minute
		w.from, w.to = minute+time.Duration(first*float32(time.Second)), minute+time.Duration(last*float32(time.Second))
		if w.to > at {
			w.sure = float64(c.sure)
			w.wait = w.sure*float64(c.mean-first) + (1-w.sure)*float64(last-first)
			return w, true
		}
	}
	return window{}, false
}
