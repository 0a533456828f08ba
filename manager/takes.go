package manager

import (
	"math"
	"time"
)

// Trend decides from when instances were taken from a shelf of the warming
// pool how many the next ones will want before the pool has made up for them:
// the trend-driven part of S04. It tells three things apart from noise:
//
//	rise, fall   the rate of a short window against that of a long one
//	bursts       the most that were taken within one lead, lately
//	time of day  the most that were taken within one lead at this time of the
//	             week, in the weeks before
//
// The lead is what the pool needs to make up for what was taken.
type Trend struct {
	// Short and Long are the windows of the rate. 0 are 10 s and 2 min.
	Short, Long time.Duration
	// Sigma is how far a rate must be off to be no chance, in standard
	// deviations of takes that come independently of each other. 0 is 2.5.
	Sigma float64
	// Burst is how long a burst counts: to 1/e after so long. 0 is 10 min.
	Burst time.Duration
	// Rising is how many are added for each that is taken while the rate
	// rises. 0 is 2. While it is steady one is, while it falls none.
	Rising int
	// Slot and Slots divide the time of day: a slot's season is what was taken
	// in the same slot before. 0 are 15 min and those of a week.
	Slot  time.Duration
	Slots int
	// Ahead is how long before a slot begins the pool prepares for it. 0 is a
	// minute.
	Ahead time.Duration
}

// Complete fills in what zero values mean.
func (t Trend) Complete() Trend {
	t.Short = or(t.Short, 10*time.Second)
	t.Long = or(t.Long, 2*time.Minute)
	t.Sigma = or(t.Sigma, 2.5)
	t.Burst = or(t.Burst, 10*time.Minute)
	t.Rising = or(t.Rising, 2)
	t.Slot = or(t.Slot, 15*time.Minute)
	t.Slots = or(t.Slots, int(7*24*time.Hour/t.Slot))
	t.Ahead = or(t.Ahead, time.Minute)
	return t
}

// Direction is where a rate goes.
type Direction int8

// The directions.
const (
	Steady Direction = iota
	Rising
	Falling
)

func (d Direction) String() string { return [...]string{"steady", "rising", "falling"}[d] }

// Takes is what a Trend remembers of one shelf. Its zero value has seen
// nothing. It is a value and knows no clock.
type Takes struct {
	short, long Volume
	lead        Volume // within a lead: its period is the lead at the last take
	burst       float64
	burstAt     time.Time
	boost       Volume // what was added beyond one for one

	Season Season
	slot   int64   // since 1970, of the last take
	most   float64 // the most within a lead in that slot
}

// Season is what was taken at each time of the week, in the weeks before: the
// most within one lead, as a mean that forgets. Its JSON is what is on disk.
type Season struct {
	Slot time.Duration `json:"slot"` // that it was learned with
	Most []float32     `json:"most,omitempty"`
	// Seen is the first slot since 1970 that was learned from.
	Seen int64 `json:"seen,omitempty"`
	// Last is the slot since 1970 that was learned from last.
	Last int64 `json:"last,omitempty"`
}

// seasonWeight is what a week weighs against all before it.
const seasonWeight = 0.5

// Take notes that one was taken at that time, when the pool needed lead to
// make up for one, and how many are to be added for it.
func (t Trend) Take(k *Takes, at time.Time, lead time.Duration) (add int) {
	t.roll(k, at)
	k.short.Add(1, at, t.Short)
	k.long.Add(1, at, t.Long)
	k.lead.Add(1, at, lead)
	n := k.lead.Count(at, lead)
	if n > t.bursting(k, at) {
		k.burst, k.burstAt = n, at
	}
	k.most = max(k.most, n)
	switch t.Direction(k, at) {
	case Rising:
		k.boost.Add(t.Rising-1, at, t.Short)
		return t.Rising
	case Falling:
		return 0
	}
	return 1
}

// bursting is what the burst still counts for.
func (t Trend) bursting(k *Takes, at time.Time) float64 {
	if k.burst == 0 {
		return 0
	}
	return k.burst * math.Exp(-max(0, float64(at.Sub(k.burstAt)))/float64(t.Burst))
}

// Direction tells where the rate goes, unless it may be chance.
func (t Trend) Direction(k *Takes, at time.Time) Direction {
	// A count that decays over a period p has at the rate r the mean rp and,
	// of takes that come independently, the variance rp/2.
	n, long := k.short.Count(at, t.Short), k.long.Count(at, t.Long)
	share := float64(t.Short) / float64(t.Long)
	mean := long * share
	deviation := math.Sqrt(mean/2*(1+share) + 0.5)
	switch off := (n - mean) / deviation; {
	case off > t.Sigma:
		return Rising
	case off < -t.Sigma:
		return Falling
	}
	return Steady
}

// Rate is how many are taken in a second.
func (t Trend) Rate(k *Takes, at time.Time) float64 {
	if t.Direction(k, at) == Steady {
		return k.long.Count(at, t.Long) / t.Long.Seconds()
	}
	return k.short.Count(at, t.Short) / t.Short.Seconds()
}

// Coming is how many will be wanted before the pool, which needs lead for
// that, has made up for them.
func (t Trend) Coming(k *Takes, at time.Time, lead time.Duration) float64 {
	t.roll(k, at)
	direction := t.Direction(k, at)
	mean := t.Rate(k, at) * lead.Seconds()
	if direction == Rising {
		// What rises goes on rising while the pool is being filled.
		before := k.long.Count(at, t.Long) / t.Long.Seconds()
		now := k.short.Count(at, t.Short) / t.Short.Seconds()
		mean = (now + (now-before)*lead.Seconds()/t.Short.Seconds()) * lead.Seconds()
	}
	// By chance twice as many deviations more come in one case of forty.
	coming := mean
	if mean > 0.25 {
		coming += 2 * math.Sqrt(mean)
	}
	coming = max(coming, k.boost.Count(at, t.Short))
	if direction != Falling {
		coming = max(coming, t.bursting(k, at))
	}
	return max(coming, t.inSeason(k, at), t.inSeason(k, at.Add(t.Ahead)))
}

func (t Trend) slotAt(at time.Time) int64 { return at.UnixNano() / int64(t.Slot) }

// inSeason is what was taken at that time of the week before.
func (t Trend) inSeason(k *Takes, at time.Time) float64 {
	s := &k.Season
	if len(s.Most) != t.Slots || s.Slot != t.Slot {
		return 0
	}
	return float64(s.Most[t.slotAt(at)%int64(t.Slots)])
}

// roll learns from the slots that have ended, and reports whether there were
// any.
func (t Trend) roll(k *Takes, at time.Time) bool {
	now := t.slotAt(at)
	s := &k.Season
	if len(s.Most) != t.Slots || s.Slot != t.Slot {
		*s = Season{Slot: t.Slot, Most: make([]float32, t.Slots), Seen: now, Last: now - 1}
	}
	if k.slot == 0 {
		k.slot = now
	}
	if now <= k.slot {
		return false
	}
	// Those in between, while nobody was here to see, are not learned from
	// beyond one round: nothing was taken then.
	for slot := max(k.slot, now-int64(t.Slots)); slot < now; slot++ {
		most := 0.0
		if slot == k.slot {
			most = k.most
		}
		i := slot % int64(t.Slots)
		if slot-s.Seen < int64(t.Slots) {
			s.Most[i] = float32(max(most, float64(s.Most[i]))) // the first time
		} else {
			s.Most[i] += float32(seasonWeight * (most - float64(s.Most[i])))
		}
		s.Last = slot
	}
	k.slot, k.most = now, 0
	return true
}
