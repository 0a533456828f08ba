package manager

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/history"
	"github.com/hearth-faas/hearth/sizing"
)

// How much memory containers get (S03): what executions have used is learned
// here, and what package sizing makes of it is told and, if the function's
// policy wants that, done.

// evidenceKey is where what is known of a version is kept.
func evidenceKey(k hearth.Key) string {
	return string(k.Account) + "/" + k.Name + ":" + k.Version
}

// newMiB is what a new container of the group gets.
func (g *group) newMiB() int { return int(g.size.Load()) }

// sized is f with so much memory. 0 is as it is.
func sized(f *hearth.Function, mib int) *hearth.Function {
	if mib == 0 || mib == f.MemoryMiB {
		return f
	}
	other := *f
	other.MemoryMiB = mib
	return &other
}

// ruleOf is what a policy asks of the evidence.
func ruleOf(p *hearth.SizingPolicy) sizing.Rule {
	return sizing.Rule{Share: p.FailShare, Runs: p.Runs, ShrinkRuns: p.ShrinkRuns, MinMiB: p.MinMiB, MaxMiB: p.MaxMiB}
}

// machine is what comes with memory here.
func (m *Manager) machine() sizing.Machine {
	return sizing.Machine{MaxMiB: m.fixed.ledger.size(), FullCPUMiB: m.cfg.FullCPUMiB, CPUs: runtime.NumCPU(), LinkBytesPerMiB: m.cfg.LinkBytesPerMiB}
}

// policyOf is the sizing policy in force.
func (m *Manager) policyOf(account hearth.Account, function string) *hearth.SizingPolicy {
	return m.cfg.Policy(account, function).Sizing
}

// refresh has the group go by the policy in force and by what is known of its
// function.
func (m *Manager) refresh(g *group) {
	p := m.policyOf(g.key.Account, g.key.Name)
	g.sizing.Store(p)
	size := g.mib
	if g.key.memory == 0 && !p.Off() {
		g.evidence.Update(func(e *sizing.Evidence) {
			if m.begin(e, g, p) && e.AppliedMiB > 0 {
				size = min(e.AppliedMiB, max(m.fixed.ledger.size(), g.mib))
			}
		})
	}
	g.size.Store(int32(size))
}

// begin has the evidence be of what the group runs, which need not be what its
// invocation named; false if it is of what came after. What was applied counts
// only as long as the policy wants it.
func (m *Manager) begin(e *sizing.Evidence, g *group, p *hearth.SizingPolicy) bool {
	if e.Generation != g.key.Generation {
		// A group of those that ask for memory does not know what is
		// configured; the one of those that do not is there before it.
		if g.key.memory != 0 || !e.Begin(g.key.Generation, g.mib, m.clock.Now()) {
			return false
		}
	}
	if e.AppliedMiB > 0 && !p.Auto() {
		e.Apply(e.ConfiguredMiB)
	}
	return true
}

// PolicyChanged is told that another execution policy is in force for a
// function, or with "" for all of the account's.
func (m *Manager) PolicyChanged(account hearth.Account, function string) {
	m.reroute(account, function)
	for _, g := range m.groups.all(func(k hearth.Key) bool {
		return k.Account == account && (function == "" || k.Name == function)
	}) {
		m.refresh(g)
		m.regate(g)
	}
}

// learn takes what an invocation has used into account. It is on the warm path:
// the lock that it takes is the function's own, and it allocates nothing.
func (m *Manager) learn(g *group, inv *hearth.Invocation) {
	u := &inv.Use
	p := g.sizing.Load()
	if u.End == hearth.EndUnknown || p.Off() {
		return
	}
	ask := false
	g.evidence.Change(func(e *sizing.Evidence) {
		if m.begin(e, g, p) {
			ask = e.Add(u, ruleOf(p).Recent())
		}
	})
	if u.End == hearth.EndMemory {
		m.count.kills.Add(1)
	}
	if ask {
		m.consider(g, inv)
	}
}

// refreshAll is refresh for all groups of a key.
func (m *Manager) refreshAll(k hearth.Key) {
	for _, g := range m.groups.all(func(o hearth.Key) bool { return o == k }) {
		m.refresh(g)
	}
}

// consider asks what the evidence means, tells what is new, and has the next
// containers be of the amount that is suggested if the policy wants that.
func (m *Manager) consider(g *group, inv *hearth.Invocation) {
	p := g.sizing.Load()
	// The vCPUs of a capacity provider are counted by what is configured.
	auto := p.Auto() && g.milliCPUs == 0
	room := 0
	if auto {
		m.mu.Lock()
		room = m.reclaimable(g.sub)
		m.mu.Unlock()
	}
	rule, machine := ruleOf(p), m.machine()
	var chosen, why string
	g.evidence.Update(func(e *sizing.Evidence) {
		if e.Generation != g.key.Generation {
			return
		}
		s := rule.Suggest(e, machine)
		now := e.SizeMiB()
		switch {
		case s.Kind == sizing.Keep:
			return
		case s.MiB == 0:
			chosen = "decline"
			if e.Told == -1 {
				return
			}
			why, e.Told = s.Why(e), -1
			return
		case !auto:
			chosen = "suggest"
		case s.Kind == sizing.Grow && !s.Revert && room < s.MiB:
			chosen = "decline"
		default:
			why = instead(s, e)
			chosen = "apply"
			e.Apply(s.MiB)
			return
		}
		if e.Told > 0 && near(e.Told, s.MiB) {
			return
		}
		why, e.Told = instead(s, e), s.MiB
		if chosen == "decline" {
			why += fmt.Sprintf("; but this machine has room for no more than %d MiB now", max(room, now))
		}
	})
	if why == "" {
		return
	}
	if chosen == "apply" {
		m.refreshAll(g.key.Key)
	}
	switch chosen {
	case "apply":
		m.count.sized.Add(1)
	case "suggest":
		m.count.suggested.Add(1)
	case "decline":
		m.count.declined.Add(1)
	}
	d := &hearth.Decision{Kind: hearth.DecisionSize, RequestID: inv.RequestID, Account: g.key.Account, Function: g.key.Name, Version: g.key.Version,
		Chosen: chosen, Why: why}
	g.sub.ledger.tell(&d.Knew)
	m.background(func() {
		// First on disk, so that what was told is not forgotten.
		if err := m.sizes.Flush(context.Background()); err != nil {
			m.cfg.Log.Warn("what was learned about functions' memory can't be kept", "error", err)
		}
		m.record(d)
	})
}

// instead words a suggestion for a decision.
func instead(s sizing.Suggestion, e *sizing.Evidence) string {
	return fmt.Sprintf("%d MiB instead of %d: %s", s.MiB, e.SizeMiB(), s.Why(e))
}

// near tells whether two suggestions say the same.
func near(a, b int) bool { return 4*max(a, b) <= 5*min(a, b) }

// reclaimable is the memory of a sub-pool that is promised to nobody, or to what can be ended
// for another's sake. Called with mu held.
func (m *Manager) reclaimable(s *subpool) int {
	free := s.ledger.capacity - s.ledger.committed + s.ledger.ending
	for c := range m.containers {
		if c.group.sub == s && c.now() == idle && c.pledge == nil {
			free += c.mib()
		}
	}
	return free
}

// takeFor promises memory to a new container of the group, or tells how much to
// wait for. More than is configured is not waited for unless it is there to be
// had: a container that may be too small serves better than none. Called with
// mu held.
func (m *Manager) takeFor(g *group) (mib int, ok bool) {
	mib = g.newMiB()
	if g.sub.ledger.take(mib) {
		return mib, true
	}
	if g.mib < mib && m.reclaimable(g.sub) < mib {
		mib = g.mib
		return mib, g.sub.ledger.take(mib)
	}
	return mib, false
}

// resizer is a container whose memory, and with it all else, can be changed
// while nothing runs in it.
type resizer interface{ Resize(memoryMiB int) error }

// enlarge gives a busy container, whose invocation has not begun or has ended,
// what new ones of its function get: from what its instance and the machine
// have to spare. It reports whether the container is to serve on. If it can't
// grow, and there is room for a new one of the right size, it is not; if there
// is none, it serves as it is.
func (m *Manager) enlarge(c *container) bool {
	g := c.group
	want, had := g.newMiB(), c.mib()
	more := want - had
	env, can := c.env.(resizer)
	if more <= 0 || c.died() || c.unwanted.Load() {
		return true
	}
	m.mu.Lock()
	if !can || c.inst.room() < more || !g.sub.ledger.take(more) {
		room := g.sub.ledger.capacity - g.sub.ledger.committed
		m.mu.Unlock()
		return room < want
	}
	c.inst.usedMiB += more
	c.size.Store(int32(want))
	m.mu.Unlock()
	if err := env.Resize(want); err != nil {
		m.mu.Lock()
		c.inst.usedMiB -= more
		c.size.Store(int32(had))
		g.sub.ledger.give(more)
		m.mu.Unlock()
		m.cfg.Log.Warn("a container could not be given more memory", "container", c.env.ID(), "mib", want, "error", err)
		return false
	}
	m.count.enlarged.Add(1)
	m.record(&hearth.Decision{Kind: hearth.DecisionSize, Account: g.key.Account, Function: g.key.Name, Version: g.key.Version, Chosen: "enlarge",
		Instance: c.inst.env.ID(), Container: c.env.ID(), Why: fmt.Sprintf("its function's containers get %d MiB now, and its instance had them to spare", want)})
	return true
}

// askUnit is what amounts that invocations ask for are rounded up to, in MiB,
// so that those of about the same serve each other.
const askUnit = 64

// asked is the memory that inv asks for and its function does not have anyway;
// 0 is none. Only what asks makes containers that it alone may use. Alone is
// for an invocation to which the others' did not come up.
func (m *Manager) asked(inv *hearth.Invocation, alone bool) (int, error) {
	if inv.MemoryMiB == 0 {
		return 0, nil
	}
	g := m.group(m.home(inv.Function), inv.Function, tenant(inv), 0)
	if inv.MemoryMiB <= g.newMiB() && !alone {
		return 0, nil
	}
	most, whose := g.sub.ledger.size(), "this machine gives to a function"
	if allowed := cmp.Or(g.sizing.Load().MaxMiB, hearth.MaxMemoryMiB); allowed < most {
		most, whose = allowed, "the function's execution policy allows (sizing.maxMiB)"
	}
	if inv.MemoryMiB > most {
		inv.Placement.Why = fmt.Sprintf("it asked for %d MiB for itself, and %d are all that %s", inv.MemoryMiB, most, whose)
		return 0, &hearth.Error{Op: "manager.place", Subject: inv.Function.QualifiedARN(), Kind: hearth.InvalidParameter,
			Message: fmt.Sprintf("The invocation asks for %d MiB of memory; %d MiB is the most that %s.", inv.MemoryMiB, most, whose)}
	}
	return min((inv.MemoryMiB+askUnit-1)/askUnit*askUnit, most), nil
}

// Advice is what is known of what one version of a function needs, and what it
// means.
type Advice struct {
	Function, Version string
	Since             time.Time // the evidence began with this code and configuration
	Mode              string    // of the policy in force
	ConfiguredMiB     int
	SizeMiB           int     // what new containers get
	CPUs              float64 // that come with that; 0 is all
	Suggestion        sizing.Suggestion
	Why               string // of the suggestion; "" without one
	Notes             []string
	Evidence          sizing.Summary
}

// Advice tells what is known of a function, or with "" of all of the account
// that have run, ordered by name and version.
func (m *Manager) Advice(account hearth.Account, function string) []Advice {
	var all []Advice
	machine := m.machine()
	m.sizes.Each(func(key string, e *history.Entry[sizing.Evidence]) {
		owner, rest, _ := strings.Cut(key, "/")
		name, version, _ := strings.Cut(rest, ":")
		if hearth.Account(owner) != account || function != "" && name != function {
			return
		}
		p := m.policyOf(account, name)
		a := Advice{Function: name, Version: version, Mode: cmp.Or(p.Mode, "advise")}
		e.View(func(e *sizing.Evidence) {
			a.Since, a.ConfiguredMiB, a.SizeMiB, a.Evidence = e.Since, e.ConfiguredMiB, e.ConfiguredMiB, e.Summary()
			if p.Auto() {
				a.SizeMiB = e.SizeMiB()
			}
			if !p.Off() {
				a.Suggestion = ruleOf(p).Suggest(e, machine)
				a.Why = a.Suggestion.Why(e)
			}
			if e.Hungry(machine) {
				a.Notes = append(a.Notes, fmt.Sprintf("its executions use all of the processor time that comes with %d MiB (%.2f CPUs): with more memory they would be done sooner", e.SizeMiB(), machine.Share(e.SizeMiB())))
			}
			if s := a.Evidence; s.Timeouts > 0 && 20*s.Timeouts >= s.Runs {
				a.Notes = append(a.Notes, fmt.Sprintf("%d of %d executions timed out, which memory alone does not change", s.Timeouts, s.Runs))
			}
		})
		a.CPUs = machine.Share(a.SizeMiB)
		if a.Evidence.Runs > 0 {
			all = append(all, a)
		}
	})
	slices.SortFunc(all, func(a, b Advice) int {
		return cmp.Or(cmp.Compare(a.Function, b.Function), cmp.Compare(a.Version, b.Version))
	})
	return all
}
