package prediction

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/history"
	"github.com/hearth-faas/hearth/manager"
)

// Settings of the policies where they say nothing.
const (
	defaultThreshold  = 0.5
	defaultBranches   = 4
	defaultConfidence = 0.8
	defaultWindow     = 60 * time.Second
	defaultPerMinute  = 1200
)

// codeAt and machineAt are what part of the threshold a call must be likely for
// its code, or a machine, to be made ready (S11.9).
const (
	codeAt    = 0.75
	machineAt = 0.25
)

// unknownStart is how long the start of a container is taken to last as long as
// none was made.
const unknownStart = time.Second

// order is something to be made ready.
type order struct {
	account             hearth.Account
	function, qualifier string
	begin, until        time.Time
	count               int
	level               manager.Level
	key, why            string
	budget              int
	fate                func(manager.Fate)
	// still tells at begin whether it is wanted still; nil is always. Called
	// with Predictor.mu held.
	still func() bool
}

// calls learns what the runs of functions are followed by, and decides what to
// make ready when one begins. Not safe for concurrent use.
type calls struct {
	learned  *history.Table[Profile]
	policy   func(hearth.Account, string) *hearth.ExecutionPolicy
	start    func(a hearth.Account, function, qualifier string) time.Duration // of a container
	subjects map[owner]*subject
	runs     *runs
	fates    func(o owner, function, qualifier string) func(manager.Fate)
}

// maxSubjects bounds the functions whose runs are followed at a time.
const maxSubjects = 10_000

func (c *calls) subject(o owner, now time.Time) *subject {
	s := c.subjects[o]
	if s == nil {
		if len(c.subjects) >= maxSubjects {
			for k, old := range c.subjects { // any that rests
				if len(old.pending) == 0 {
					delete(c.subjects, k)
					break
				}
			}
		}
		s = &subject{owner: o, entry: c.learned.Of(o.key()), done: map[*Link]uint64{}, tokens: burst, filled: now}
		c.subjects[o] = s
	}
	return s
}

// with alters what is known of s, which may have been forgotten meanwhile.
func (s *subject) with(change func(p *Profile)) {
	s.entry.Update(func(p *Profile) {
		s.profile = p
		change(p)
	})
}

// forget forgets a function that was deleted.
func (c *calls) forget(o owner) {
	delete(c.subjects, o)
	c.learned.Forget(o.key())
}

// arrived takes in that an invocation has come, and returns what is to be made
// ready because of it.
func (c *calls) arrived(o observation) []order {
	f := o.function
	if f.TenantIsolation != "" {
		return nil // which tenant would be next is not learned
	}
	me := owner{f.Account, f.Name}
	var s *subject
	if !o.accepted {
		if r := c.runs.byRequest[o.request]; r != nil && r.of.owner == me {
			return nil // another attempt at the same
		}
		if s = c.subject(me, o.at); !s.sample(o.at) {
			return nil
		}
	}
	self, caller, tagged := tagsOf(o.trace)
	parent := c.runs.byRequest[o.caller]
	if parent == nil {
		parent = c.runs.accepted[o.request]
	}
	if parent == nil && tagged && !o.accepted && caller != (tag{}) {
		parent = c.runs.byTag[caller]
	}
	if parent != nil && parent.of.account != f.Account {
		parent = nil // never across accounts
	}
	if o.accepted {
		if parent != nil {
			c.runs.store(o.request, parent)
			if early := c.runs.byRequest[o.request]; early != nil && early.parent == nil { // its attempt was quicker
				early.parent = parent
				c.credit(early, o.qualifier)
			}
		}
		return nil
	}
	r := &run{of: s, parent: parent, seq: s.next, at: o.at, request: o.request}
	if tagged {
		r.tag = self
	}
	s.next++
	c.runs.add(r)
	c.credit(r, o.qualifier)
	var orders []order
	s.with(func(p *Profile) {
		s.settle(o.at)
		p.Runs = decay*p.Runs + 1
		s.pending = append(s.pending, r)
		orders = c.foretell(r, p)
	})
	return orders
}

// credit links a run to those that caused it.
func (c *calls) credit(r *run, qualifier string) {
	up := r.parent
	for depth := 1; up != nil; depth++ {
		if depth == maxDepth {
			up.parent = nil // no further back, and nothing is held that is forgotten
		}
		after := r.at.Sub(up.at)
		if up.of != r.of && after >= 0 && after < maxHorizon {
			up.of.with(func(p *Profile) { followed(up, p, r.of.function, qualifier, after) })
		}
		up = up.parent
	}
}

// followed says that a run was followed by a call.
func followed(r *run, p *Profile, function, qualifier string, after time.Duration) {
	known := len(p.Links)
	l := p.link(function, qualifier)
	if r.hasCalled(l) {
		return
	}
	s := r.of
	if _, counted := s.done[l]; !counted && (len(p.Links) > known || l.Called == 0) {
		s.done[l] = r.seq
		if len(s.pending) == 0 || s.pending[0].seq > r.seq {
			s.done[l] = s.next
		}
	}
	r.called = append(r.called, l)
	l.Came(after)
	if r.seq < s.done[l] { // it was counted as one without the call
		l.Late()
		if r.hasForetold(l) {
			l.True++
		} else {
			l.Missed++
		}
	}
}

// foretell decides what is made ready for a run that begins.
func (c *calls) foretell(r *run, p *Profile) (orders []order) {
	policy := c.policy(r.of.account, r.of.function).Prediction
	if policy.Mode == "off" {
		return nil
	}
	threshold, branches := cmp.Or(policy.Threshold, defaultThreshold), cmp.Or(policy.Branches, defaultBranches)
	for _, l := range p.likely() {
		likelihood := l.Likelihood()
		level := manager.LevelContainer
		switch {
		case likelihood >= threshold:
		case likelihood >= codeAt*threshold:
			level = manager.LevelCode
		case likelihood >= machineAt*threshold:
			level = manager.LevelMachine
		default:
			return orders
		}
		if l.Called < 1 {
			continue
		}
		o := order{
			account: r.of.account, function: l.Function, qualifier: l.Qualifier, count: 1, level: level, budget: policy.BudgetMiB,
			why: fmt.Sprintf("a call that %.0f %% of the runs of %s are followed by", 100*likelihood, r.of.function),
		}
		soonest, latest := l.Delay(0.1), l.Delay(1)
		lead := c.start(o.account, l.Function, l.Qualifier)
		o.begin = r.at.Add(soonest - lead - lead/4 - 20*time.Millisecond)
		o.until = r.at.Add(min(latest+max(latest/2, time.Second)+lead, maxHorizon))
		if level == manager.LevelContainer {
			if branches == 0 || c.promised(r, l) {
				continue
			}
			branches--
			r.foretold = append(r.foretold, promise{l, o.until})
			if l.vain() {
				continue
			}
			o.fate = c.fates(r.of.owner, l.Function, l.Qualifier)
			o.still = func() bool { return !r.hasCalled(l) }
		}
		orders = append(orders, o)
	}
	return orders
}

// promised reports whether what l leads to was foretold already by a run that
// caused r, and has not come.
func (c *calls) promised(r *run, l *Link) bool {
	for up := r.parent; up != nil; up = up.parent {
		for _, p := range up.foretold {
			if p.link.Function == l.Function && p.link.Qualifier == l.Qualifier && r.at.Before(p.until) && !up.hasCalled(p.link) {
				return true
			}
		}
	}
	return false
}

// fated notes what became of a container that was made for a link.
func (c *calls) fated(o owner, function, qualifier string, f manager.Fate) {
	e := c.learned.Find(o.key())
	if e == nil {
		return
	}
	e.Update(func(p *Profile) {
		i := slices.IndexFunc(p.Links, func(l *Link) bool { return l.Function == function && l.Qualifier == qualifier })
		if i >= 0 {
			p.Links[i].fated(f.Hit, f.MiBSeconds())
		}
	})
}
