package manager

import (
	"errors"
	"slices"

	"github.com/hearth-faas/hearth"
)

// A container is made for one who waits, and a making that nobody waits for is
// called off as long as it has not begun: while it waits for its turn, for
// memory, or to be tried again. So there is one thing to do about whatever makes
// it pointless, which is to have nobody wait: who waited is served by what came
// free, or has gone, or is told to ask again, since something else serves it
// now, or nothing does.

// errAgain tells one who waits to ask again.
var errAgain = errors.New("what serves it has changed")

// whyRefused is what the decision says of an invocation whose function went
// before there was a container for it.
const whyRefused = "its function was deleted, or may not run any more, before there was a container for it"

// parked is a maker that waits. quit is closed when it is called off. One that
// waits for its turn will be at work in a moment.
type parked struct {
	quit chan struct{}
	turn bool
}

// park registers a maker that is going to wait; nil if nobody waits for it
// any more, in which case it is no longer counted.
func (g *group) park(turn bool) *parked {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.making > len(g.waiters) {
		g.making--
		return nil
	}
	p := &parked{quit: make(chan struct{}), turn: turn}
	g.parked = append(g.parked, p)
	return p
}

// unpark is the maker's return to work; false if it was called off meanwhile.
func (g *group) unpark(p *parked) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.parked, p)
	if i < 0 {
		return false
	}
	g.parked = slices.Delete(g.parked, i, i+1)
	return true
}

// callOff stops parked makers that nobody waits for any more.
func (g *group) callOff() {
	for g.making > len(g.waiters) && len(g.parked) > 0 {
		n := len(g.parked) - 1
		close(g.parked[n].quit)
		g.parked = g.parked[:n]
		g.making--
	}
}

// callOffAll stops all parked makers.
func (g *group) callOffAll() {
	for _, p := range g.parked {
		close(p.quit)
	}
	g.making -= len(g.parked)
	g.parked = nil
}

// over reports whether nothing more is made of the group: something else serves
// what is asked of it, or nothing does.
func (g *group) over() bool { return g.successor() != nil || g.refusal != nil }

// successor is what serves what is asked of the group; nil is itself.
func (g *group) successor() *hearth.Function {
	switch {
	case g.instead != nil:
		return g.instead
	case g.heir != nil:
		return g.heir.fn
	}
	return nil
}

// ask has all ask again who wait for a container that no maker is at work on.
func (m *Manager) ask(g *group) {
	g.mu.Lock()
	begun := max(g.making-len(g.parked), 0)
	var asking []*waiter
	if begun < len(g.waiters) {
		asking = slices.Clone(g.waiters[begun:]) // who came first waits for those
		g.waiters = slices.Delete(g.waiters, begun, len(g.waiters))
	}
	for range asking {
		g.fell(m.epoch(m.clock.Now()))
	}
	g.callOff()
	g.mu.Unlock()
	for _, w := range asking {
		w.ch <- grant{err: errAgain}
	}
}

// begins tells a maker whether it may begin. If it may not, it is no longer
// counted, and whoever waited for it asks again.
func (m *Manager) begins(g *group) bool {
	g.mu.Lock()
	over := g.over()
	if over || g.shut {
		g.making--
	}
	shut := g.shut
	g.mu.Unlock()
	if over {
		m.ask(g)
	}
	return !over && !shut
}

// Reconsider has the invocations of an account ask again for which no container
// is being made yet: whether they may run is another question now
// (Config.Refusal).
func (m *Manager) Reconsider(account hearth.Account) {
	for _, g := range m.groups.all(func(k hearth.Key) bool { return k.Account == account }) {
		m.ask(g)
	}
}
