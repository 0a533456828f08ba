package poll

import (
	"time"
)

// pace follows the rate of a source: it decides how many batches of a mapping
// may be at work, between one and a ceiling. It is told of each batch that
// ended, and goes by what that gave:
//
//   - While records are waiting and more batches at once get more done, the
//     limit grows by half a round. A round is as many batches as the limit, and
//     what gets done is the limit over the mean time that a batch ran: what it
//     took to make new containers for them does not count.
//   - When more at once did not get more done (the function is bound by this
//     machine, or by what it calls), the growth is taken back, and tried again
//     in smaller steps and more seldom.
//   - While the machine's processors are all at work it grows in small steps:
//     the containers that are made for more at once would take them from those
//     that run.
//   - When the function was throttled, or its batches waited long for a
//     container, the limit falls.
//   - When nothing comes for a while it falls back slowly, since containers
//     stay warm for a while too.
//
// Pure over what it is told; not safe for concurrent use.
type pace struct {
	ceiling int
	least   float64
	limit   float64

	skip      int           // batches that began before the limit grew, or with it and wait for new containers: they tell nothing
	round     int           // batches ended in this round
	full      bool          // there was more to do than the limit allowed, all through the round
	began     time.Time     // of the round
	sum       time.Duration // that its batches ran
	mean      time.Duration // that a batch ran in the last full round; 0 is not known
	before    float64       // the limit before it last grew; 0: it did not grow
	cautious  bool          // growth has once not paid
	rest      int           // rounds until growth is tried again
	cut, calm time.Time     // when it was last lowered, or fell while idle
}

// How the pace moves.
const (
	firstLimit   = 4                     // of a mapping that has not run yet
	leastRound   = 8                     // batches, so that a mean can be told
	leastTime    = 20 * time.Millisecond // of a round
	growth       = 1.5
	careful      = 1.1                    // growth after it once did not pay
	paid         = 0.4                    // of the growth must be seen in what gets done
	restRounds   = 10                     // after growth did not pay
	slowStart    = 50 * time.Millisecond  // a batch that waited longer for a container waited too long
	betweenCuts  = 200 * time.Millisecond // so that what began before a cut does not cut again
	betweenCalms = 15 * time.Second
)

func newPace(least, ceiling int) *pace {
	ceiling = max(ceiling, 1)
	least = min(max(least, 1), ceiling)
	return &pace{ceiling: ceiling, least: float64(least), limit: float64(min(max(firstLimit, least), ceiling)), full: true}
}

// allowed is how many batches may be at work now.
func (p *pace) allowed() int { return max(int(p.limit), 1) }

// ending is what pace is told of a batch that ended.
type ending struct {
	throttled bool          // it was refused a container
	waited    time.Duration // for a container that exists already
	took      time.Duration // that its function ran
	full      bool          // as many were at work as allowed, and more was there
	pressed   bool          // the machine's processors are all at work
}

// ended takes in the end of a batch, and reports whether the limit is another
// now, and why.
func (p *pace) ended(e ending, now time.Time) (why string) {
	if e.throttled || e.waited > slowStart && p.skip == 0 {
		why = "its batches waited " + e.waited.Round(time.Millisecond).String() + " for a container"
		factor := 0.8
		if e.throttled {
			why, factor = "the function was throttled", 0.5
		}
		if now.Sub(p.cut) < betweenCuts || p.limit <= 1 {
			return ""
		}
		p.cut, p.cautious, p.rest = now, true, restRounds
		p.limit = max(p.limit*factor, 1)
		p.restart(now)
		p.mean = 0
		return why
	}
	if p.skip > 0 {
		p.skip--
		p.began = now
		return ""
	}
	if p.began.IsZero() {
		p.began = now
	}
	p.round++
	p.sum += e.took
	p.full = p.full && e.full
	took := now.Sub(p.began)
	if p.round < max(leastRound, p.allowed()) || took < leastTime {
		return ""
	}
	mean := p.sum / time.Duration(p.round)
	full, last, before := p.full, p.mean, p.before
	p.restart(now)
	if !full {
		p.mean = 0
		return ""
	}
	p.mean = mean
	if before > 0 && last > 0 {
		grown := p.limit / before
		if float64(mean) > float64(last)*grown/(1+paid*(grown-1)) {
			p.limit, p.cautious, p.rest, p.mean = before, true, restRounds, 0
			return "more at once got no more done"
		}
	}
	if p.rest > 0 {
		p.rest--
		return ""
	}
	if p.limit >= float64(p.ceiling) {
		return ""
	}
	p.before, p.skip = p.limit, 2*p.allowed()
	step := growth
	if p.cautious || e.pressed {
		step = careful
	}
	p.limit = min(max(p.limit*step, p.limit+1), float64(p.ceiling))
	return "records are waiting"
}

func (p *pace) restart(now time.Time) {
	p.round, p.sum, p.full, p.began, p.before = 0, 0, true, now, 0
}

// idle is told that there was nothing to take.
func (p *pace) idle(now time.Time) {
	p.restart(time.Time{})
	p.mean = 0
	floor := max(p.least, min(firstLimit, float64(p.ceiling)))
	switch {
	case p.calm.IsZero():
		p.calm = now
	case now.Sub(p.calm) >= betweenCalms:
		p.calm, p.cautious, p.rest = now, false, 0
		if p.limit > floor {
			p.limit = max(p.limit/2, floor)
		}
	}
}

// stallTime is how long it takes, with all that are allowed at work and more
// there, until the pace does not wait for one of them to end.
const stallTime = 250 * time.Millisecond

// stalled is told that nothing has ended for stallTime and that there is more to
// do: long functions would otherwise hold up the growth by their own time. Where
// the machine's processors are all at work, which may be why, it grows by one.
func (p *pace) stalled(now time.Time, pressed bool) (why string) {
	if p.rest > 0 || p.limit >= float64(p.ceiling) || now.Sub(p.cut) < betweenCuts {
		return ""
	}
	step := growth
	if pressed {
		step = 1
	}
	p.limit = min(max(p.limit*step, p.limit+1), float64(p.ceiling))
	p.restart(now)
	p.mean = 0
	return "records are waiting, and nothing has ended for " + stallTime.String()
}
