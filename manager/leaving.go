package manager

import (
	"fmt"

	"github.com/hearth-faas/hearth"
)

// How old code leaves: what is asked of it goes to the new, its containers end
// one by one, and its end is told.

// Why containers of old code end; their decisions say so.
const (
	whyReplaced = "the new code has taken over in its instance"
	whyDrained  = "the new code has taken over, and its last execution has ended"
)

// toHeir gives an invocation that is asked of g, whose lock is held, to the
// code that takes over from it, unless only g has a container that is idle. It
// returns the group that is to serve, with its lock held.
func (m *Manager) toHeir(g *group, inv *hearth.Invocation) *group {
	for {
		now := g.successor()
		if now == nil {
			return g
		}
		if h := g.heir; !g.retired && g.free() {
			g.mu.Unlock()
			h.mu.Lock()
			ready := h.free()
			h.mu.Unlock()
			g.mu.Lock()
			if !ready && !g.retired && g.free() {
				return g
			}
			now = g.successor()
		}
		g.mu.Unlock()
		inv.Function = now
		g = m.locked(g.sub, now, g.key.tenant, g.key.memory)
	}
}

// drainedOne records the end of a container of old code, if it is one, after
// its last execution.
func (m *Manager) drainedOne(c *container) {
	g := c.group
	if c.pledge != nil || !c.unwanted.Load() {
		return
	}
	m.record(&hearth.Decision{Kind: hearth.DecisionEvict, Account: g.key.Account, Function: g.key.Name, Version: g.key.Version, Generation: g.key.Generation,
		Chosen: c.env.ID(), Instance: c.inst.env.ID(), Container: c.env.ID(), Why: whyDrained})
}

// noteDrained records, once, that nothing is left of the old code.
func (m *Manager) noteDrained(g *group) {
	g.mu.Lock()
	over := g.heir != nil && g.retired && !g.drained && g.empty()
	g.mu.Unlock()
	if !over {
		return
	}
	m.mu.Lock()
	for c := range m.containers {
		over = over && c.group != g
	}
	m.mu.Unlock()
	if !over {
		return // one is being destroyed, and will be asked again
	}
	g.mu.Lock()
	over, g.drained = !g.drained, true
	g.mu.Unlock()
	if over {
		m.record(&hearth.Decision{Kind: hearth.DecisionUpdate, Account: g.key.Account, Function: g.key.Name, Version: g.key.Version, Generation: g.key.Generation,
			Chosen: "drained", Why: "no container of the old code is left, and no execution of it was cut"})
	}
}

// completed records that nobody is given the old code any more.
func (m *Manager) completed(old, now *hearth.Function) {
	m.record(&hearth.Decision{Kind: hearth.DecisionUpdate, Account: now.Account, Function: now.Name, Version: now.Version, Generation: now.Generation,
		Chosen: "complete", Why: fmt.Sprintf("the new code (%s) is what everybody gets, in place of the old (%s)", codeOf(now), codeOf(old))})
}

// codeOf names a function's code and configuration.
func codeOf(f *hearth.Function) string {
	if f.Shared != nil { // whose account is not to learn of the code
		return fmt.Sprintf("generation %d", f.Generation)
	}
	if f.Version != hearth.Latest {
		return "version " + f.Version
	}
	return fmt.Sprintf("generation %d, package %.12s", f.Generation, f.Package.SHA256)
}
