package manager

import (
	"slices"
	"time"

	"github.com/hearth-faas/hearth"
)

// want is what is left of a Preparation: the invocations that were foretold and
// have not come.
type want struct {
	Preparation
	left int
}

// foretold is what a container that was made on a prediction has until it is
// used or ended: whose it is, and since when it is ready.
type foretold struct {
	*want
	since time.Time
	mib   int // counted of the account's budget
}

// want remembers a Preparation.
func (g *group) want(p Preparation, now time.Time) {
	g.forgetWants(now)
	if p.Key != "" {
		i := slices.IndexFunc(g.wants, func(w *want) bool { return w.Key == p.Key })
		if i >= 0 {
			g.wants = slices.Delete(g.wants, i, i+1)
		}
		if p.Count <= 0 {
			return
		}
	}
	if n := len(g.wants); n >= maxWants {
		last := *g.wants[n-1] // what was made for it refers to it as it was
		last.left += p.Count
		if p.Until.After(last.Until) {
			last.Until = p.Until
		}
		g.wants[n-1] = &last
		return
	}
	g.wants = append(g.wants, &want{p, p.Count})
}

// forgetWants forgets what will not be needed any more.
func (g *group) forgetWants(now time.Time) {
	g.wants = slices.DeleteFunc(g.wants, func(w *want) bool { return w.left <= 0 || !now.Before(w.Until) })
}

// met says that an invocation has come: what was foretold first came first.
func (g *group) met(now time.Time) {
	g.forgetWants(now)
	if len(g.wants) > 0 {
		g.wants[0].left--
	}
}

// wanted is how many invocations are foretold and have not come.
func (g *group) wanted(now time.Time) int {
	n := 0
	for _, w := range g.wants {
		if now.Before(w.Until) {
			n += w.left
		}
	}
	return n
}

// lacking is the first of the wants for which there is no container and none
// being made; nil if there is none, or there may be no more containers. One that
// is made for a caller who took another meanwhile is there for the wants.
func (g *group) lacking(now time.Time) (w *want, most bool) {
	have := len(g.ready) + len(g.idle) + len(g.prepared) + g.preparing + max(g.making-len(g.waiters), 0)
	for _, w := range g.wants {
		if !now.Before(w.Until) {
			continue
		}
		if have -= w.left; have < 0 {
			n := g.most.Load()
			return w, n != unbounded && g.all() >= int(n)
		}
	}
	return nil, false
}

// all counts the group's containers, and those being made.
func (g *group) all() int {
	return len(g.ready) + len(g.idle) + len(g.prepared) + g.busy + g.making + g.providing + g.preparing
}

// adopt has n waiters served by containers that are being made on a
// prediction, and returns how many are left. These makers then count as theirs.
func (g *group) adopt(n int) int {
	k := min(n, g.preparing)
	if k <= 0 {
		return n
	}
	g.preparing -= k
	g.making += k
	g.adopted.Add(int32(k))
	return n - k
}

// wasPrepared says that a container that was being made on a prediction is made.
func (g *group) wasPrepared() {
	if g.adopted.Load() > 0 {
		g.adopted.Add(-1)
		g.making--
		return
	}
	g.preparing--
}

// unprepared says that one could not be made, or not be begun. If it is true
// somebody waits for it, and its maker must go on as one of theirs.
func (g *group) unprepared() (awaited bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.adopted.Load() == 0 {
		g.preparing--
		return false
	}
	g.adopted.Add(-1)
	if g.making > len(g.waiters) {
		g.making--
		return false
	}
	return true
}

// ran counts how long c was busy, if it was with an invocation: whoever it was
// given to may have gone before.
func (g *group) ran(c *container) {
	if !c.served {
		return
	}
	c.served = false
	d := time.Duration(c.lastUsed.Load() - c.began.Load())
	if g.runTime == 0 {
		g.runTime = d
		return
	}
	g.runTime += (d - g.runTime) / 8
}

// expireAt has expire called then, if it would not be before. Called with g.mu
// held.
func (m *Manager) expireAt(g *group, at time.Time) {
	switch d := at.Sub(m.clock.Now()); {
	case !g.due.IsZero() && !at.Before(g.due):
		return
	case g.expiry == nil:
		g.expiry = m.clock.AfterFunc(d, m.onTimer(func() { m.expire(g) }))
	default:
		g.expiry.Reset(d)
	}
	g.due = at
}

// expiresNext is when something more of what was made, or is foretold, will not
// be needed; zero if there is nothing.
func (g *group) expiresNext(now time.Time) (next time.Time) {
	note := func(w *want) {
		if w.Until.After(now) && (next.IsZero() || w.Until.Before(next)) {
			next = w.Until
		}
	}
	for _, w := range g.wants {
		note(w)
	}
	for _, c := range g.prepared {
		if f := c.foretold.Load(); f != nil {
			note(f.want)
		}
	}
	return next
}

// expire ends what was made on predictions that did not come true in time.
func (m *Manager) expire(g *group) {
	now := m.clock.Now()
	var out []*container
	var kept *foretold
	var last *container
	g.mu.Lock()
	g.forgetWants(now)
	surplus := len(g.prepared) - max(0, g.wanted(now)-len(g.ready)-len(g.idle))
	for _, c := range slices.Clone(g.prepared) {
		f := c.foretold.Load()
		if surplus <= 0 {
			break
		}
		if f == nil || now.Before(f.Until) {
			continue
		}
		surplus--
		// One that takes the place of what the function's last invocation would
		// have left behind costs no more than that.
		if len(g.ready)+len(g.idle)+g.busy == 0 && g.idles.Last() != 0 && m.epoch(now)-g.idles.Last() < m.life.For(&g.idles, m.need(g, now), 1) {
			g.remove(c)
			last, kept = c, c.foretold.Swap(nil)
			g.push(c)
			continue
		}
		if c.move(idle, ending) {
			out = append(out, c)
		}
	}
	g.due = time.Time{}
	if next := g.expiresNext(now); !next.IsZero() {
		m.expireAt(g, next)
	}
	g.mu.Unlock()
	if kept != nil {
		m.wasted(last, kept, "it is kept, as the last of its code, for as long as one that was used")
	}
	for _, c := range out {
		m.count.expired.Add(1)
		m.evicted(c, hearth.DecisionEvict, "it was made ready for an invocation that did not come in time")
	}
}
