package manager

import (
	"github.com/hearth-faas/hearth"
)

// What becomes of a container whose invocation has ended.

// release ends c's invocation. A container that can serve on goes to the next
// waiter, or becomes idle; one that cannot is destroyed in the background. One
// whose extensions are still at work stays busy until they are not.
func (m *Manager) release(c *container, reusable bool) {
	c.serving.Store(nil)
	c.served = true
	if reusable {
		if settled := c.env.Settled(); settled != nil && m.track() {
			go func() {
				defer m.bg.Done()
				select {
				case <-settled:
				case <-m.ctx.Done(): // then it is destroyed
				}
				m.released(c, true)
			}()
			return
		}
	}
	m.released(c, reusable)
}

// released is release of a container that is not busy any more.
func (m *Manager) released(c *container, reusable bool) {
	c.lastUsed.Store(int64(m.clock.Now().Sub(m.start)))
	reusable = reusable && (c.mib() >= c.group.newMiB() || m.enlarge(c))
	over := !reusable || c.died()
	if !over && c.unwanted.Load() {
		if c.pledge == nil && !c.inst.vacant.Load() && !c.withdrawn.Load() && m.hand(c) {
			return // to one of those who were there before the new code was
		}
		over = true
		m.drainedOne(c)
	}
	if over {
		g := c.group
		g.mu.Lock()
		g.busy--
		g.fell(m.lastUse(c))
		c.mustMove(busy, ending)
		n := g.demand()
		g.mu.Unlock()
		m.startMakers(g, n)
		m.end(c)
		return
	}
	if !m.hand(c) {
		m.settle(c, busy)
	}
}

// hand gives a busy container to the first waiter; false if there is none.
func (m *Manager) hand(c *container) bool {
	g := c.group
	g.mu.Lock()
	w := g.next()
	if w == nil {
		g.mu.Unlock()
		return false
	}
	g.fell(m.lastUse(c))
	gr := g.handed(c)
	g.ran(c)
	g.callOff()
	g.mu.Unlock()
	w.ch <- gr
	return true
}

// handed is the grant of a container that came free.
func (g *group) handed(c *container) grant {
	gr := grant{c: c, path: hearth.PathReuse, why: "waited until a container with this code had come free", knew: g.knows()}
	if c.pledge != nil {
		gr.why = "waited until a provisioned container had come free"
	}
	return gr
}

// settle puts a container for which there was no waiter on its group's stack,
// or gives it to a waiter who has come meanwhile. from is its present state:
// busy, or loading for one whose maker has outlived its waiter or never had one.
func (m *Manager) settle(c *container, from state) {
	// Before it can be found on the stack, since Idle must not run beside
	// Invoke; and before it stops to count, since a waiter who comes now must
	// not have another one made.
	c.env.Idle()
	g := c.group
	g.mu.Lock()
	if from == busy {
		g.ran(c)
	}
	if w := g.next(); w != nil {
		if from == loading {
			g.made(c)
			g.busy++
			c.mustMove(loading, busy)
		} else {
			g.fell(m.lastUse(c))
		}
		gr := g.handed(c)
		g.callOff()
		g.mu.Unlock()
		w.ch <- gr
		return
	}
	if from == loading {
		g.made(c)
		g.goAfter(c)
	} else {
		g.busy--
		g.fell(m.lastUse(c))
	}
	if g.retired || m.closed.Load() || c.died() || c.unwanted.Load() || g.shut || c.inst.vacant.Load() {
		c.mustMove(from, ending)
		g.mu.Unlock()
		m.drainedOne(c)
		m.end(c)
		return
	}
	c.mustMove(from, idle)
	g.push(c)
	g.mu.Unlock()
	if c.died() {
		// Its watcher may have found it busy and left it to us.
		m.lose(c)
		return
	}
	if c.unwanted.Load() {
		m.letGo(c) // it may have been found busy
		return
	}
	if g.sub.ledger.waiting.Load() > 0 {
		m.background(m.evictForRoom)
	}
}
