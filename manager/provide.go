package manager

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hearth-faas/hearth"
)

// provisions are what is to be ready before anybody calls. Guarded by
// Manager.mu.
type provisions struct {
	all    []*provision // ordered by what they are of
	making int          // containers, of all of them
}

// asked is what environments were asked for under.
type asked struct {
	account             hearth.Account
	function, qualifier string
}

func (a asked) compare(b asked) int {
	return cmp.Or(cmp.Compare(a.account, b.account), cmp.Compare(a.function, b.function), cmp.Compare(a.qualifier, b.qualifier))
}

// provision is what was asked for under one qualifier.
type provision struct {
	asked
	pledges []*pledge

	failures  int // in a row
	reason    string
	heldUntil time.Time
}

// pledge is what of a provision is of one version.
type pledge struct {
	of      *provision
	version string
	fn      *hearth.Function // nil as long as it is not Active
	want    int
	making  int
	// containers are those that have been made and are neither ending nor
	// unwanted.
	containers map[*container]struct{}
}

// making is a container to be made for a pledge, of what its function is now.
type making struct {
	*pledge
	fn *hearth.Function
}

// Provide takes what is to be ready of a function in place of what was. It
// returns at once; Provisioned tells how far it is. The containers are used
// before all others of their code, are neither aged nor evicted, and are
// replaced when they end.
func (m *Manager) Provide(c *hearth.Concurrency) {
	m.mu.Lock()
	ps := &m.provisions
	for _, p := range ps.all {
		if p.account == c.Account && p.function == c.Function {
			for _, pl := range p.pledges {
				pl.want = 0
			}
		}
	}
	for _, want := range c.Provisions {
		ps.at(asked{c.Account, c.Function, want.Qualifier}).take(want)
	}
	for _, s := range c.Scaling {
		if s.Min > 0 {
			ps.at(asked{c.Account, c.Function, s.Version}).take(hearth.Provision{Qualifier: s.Version, Version: s.Version, Function: s.Function, Count: s.Min})
		}
	}
	bounded := m.bound(c)
	m.mu.Unlock()
	if bounded {
		m.rebound(c)
	}
	m.provide()
}

// bound takes how many containers c's versions may have, and tells whether any
// may have another number. Called with mu held.
func (m *Manager) bound(c *hearth.Concurrency) (changed bool) {
	for v := range m.maxima {
		if v.account == c.Account && v.name == c.Function {
			delete(m.maxima, v)
			changed = true
		}
	}
	for _, s := range c.Scaling {
		if s.Max >= 0 {
			m.maxima[version{c.Account, c.Function, s.Version}] = s.Max
			changed = true
		}
	}
	return changed
}

// rebound tells the function's groups how many containers they may have, and
// makes more where more are wanted than there could be before.
func (m *Manager) rebound(c *hearth.Concurrency) {
	for _, g := range m.groups.all(func(k hearth.Key) bool { return k.Account == c.Account && k.Name == c.Function }) {
		m.mu.Lock()
		most, ok := m.maxima[versionOf(g.key.Key)]
		if !ok {
			most = unbounded
		}
		g.most.Store(int32(most))
		m.mu.Unlock()
		g.mu.Lock()
		n := g.demand()
		g.mu.Unlock()
		m.startMakers(g, n)
	}
}

// at returns the provision, made if there is none.
func (ps *provisions) at(a asked) *provision {
	i, found := slices.BinarySearchFunc(ps.all, a, func(p *provision, a asked) int { return p.compare(a) })
	if !found {
		ps.all = slices.Insert(ps.all, i, &provision{asked: a})
	}
	return ps.all[i]
}

// take makes want part of the provision. What failed before is tried anew.
func (p *provision) take(want hearth.Provision) {
	p.failures, p.reason, p.heldUntil = 0, "", time.Time{}
	for _, pl := range p.pledges {
		if pl.version == want.Version {
			pl.want, pl.fn = want.Count, want.Function
			return
		}
	}
	p.pledges = append(p.pledges, &pledge{of: p, version: want.Version, fn: want.Function, want: want.Count, containers: map[*container]struct{}{}})
}

// sees is what Provider is shown.
func (p *provision) sees() []Pledge {
	seen := make([]Pledge, len(p.pledges))
	for i, pl := range p.pledges {
		seen[i] = Pledge{Want: pl.want, Have: len(pl.containers), Making: pl.making}
	}
	return seen
}

// tidy forgets what nothing is wanted of and nothing is left of.
func (ps *provisions) tidy() {
	ps.all = slices.DeleteFunc(ps.all, func(p *provision) bool {
		p.pledges = slices.DeleteFunc(p.pledges, func(pl *pledge) bool {
			return pl.want == 0 && pl.making == 0 && len(pl.containers) == 0
		})
		return len(p.pledges) == 0
	})
}

// provide makes what is lacking of what is to be ready, as many at once as
// instances are booted for the pool, and lets go what is too much. Whatever
// changes either calls it.
func (m *Manager) provide() {
	var begin []making
	var release []*container
	m.mu.Lock()
	ps, now := &m.provisions, m.clock.Now()
	if len(ps.all) == 0 || m.closed.Load() {
		m.mu.Unlock()
		return
	}
	for _, p := range ps.all {
		steps := m.provider.Choose(p.sees(), max(m.cfg.BootConcurrency-ps.making, 0), p.reason != "", now.Before(p.heldUntil))
		for i, pl := range p.pledges {
			// Of what has been replaced no more is made: Provide is about to tell
			// of what is there instead.
			if pl.fn != nil && !m.newest[versionOf(pl.fn.Key())].replaces(pl.fn.Key()) {
				for range steps[i].Make {
					ps.making++
					pl.making++
					begin = append(begin, making{pl, pl.fn})
				}
			}
			for _, c := range pl.spare(steps[i].LetGo) {
				delete(pl.containers, c)
				c.unwanted.Store(true)
				release = append(release, c)
			}
		}
	}
	ps.tidy()
	m.mu.Unlock()
	for _, mk := range begin {
		m.background(func() { m.makePledged(mk.pledge, mk.fn) })
	}
	for _, c := range release {
		m.letGo(c)
	}
}

// spare chooses n of the pledge's containers to be let go: idle ones first.
func (pl *pledge) spare(n int) []*container {
	if n == 0 {
		return nil
	}
	all := make([]*container, 0, len(pl.containers))
	for c := range pl.containers {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *container) int {
		return cmp.Or(-cmp.Compare(a.now(), b.now()), cmp.Compare(a.lastUsed.Load(), b.lastUsed.Load()), cmp.Compare(a.env.ID(), b.env.ID()))
	})
	return all[:min(n, len(all))]
}

// letGo ends an unwanted container if it is idle. Else whoever has it does.
func (m *Manager) letGo(c *container) {
	if c.move(idle, ending) {
		why := "it was provisioned, and is not asked for any more"
		if c.pledge == nil {
			why = m.whyUnwanted(c)
		}
		m.evicted(c, hearth.DecisionEvict, why)
	}
}

// makePledged makes one container of the pledge, which counts it as being
// made, and puts it where invocations find it.
func (m *Manager) makePledged(pl *pledge, fn *hearth.Function) {
	g := m.locked(m.home(fn), fn, "", 0)
	g.providing++
	g.mu.Unlock()
	over := func(err error) {
		g.mu.Lock()
		g.providing--
		n := g.demand()
		g.mu.Unlock()
		m.startMakers(g, n)
		m.unmade(pl, err)
	}
	var p *plan
	err := errNoVCPUs
	if m.allot(g) {
		if p, err = m.placePledged(g, pl); err != nil {
			m.mu.Lock()
			m.unallot(g)
			m.mu.Unlock()
		}
	}
	if err != nil {
		over(err)
		return
	}
	c, _, err, late := m.buildInTime(g, p, func() { over(errSlow) })
	switch {
	case late:
	case err != nil:
		over(err)
	default:
		m.made(pl, c, p)
		m.settle(c, loading)
		m.provide()
	}
}

// made counts a container that has been made.
func (m *Manager) made(pl *pledge, c *container, p *plan) {
	m.mu.Lock()
	m.provisions.making--
	pl.making--
	if len(pl.containers) < pl.want {
		pl.containers[c] = struct{}{}
	} else {
		c.unwanted.Store(true)
	}
	pl.of.failures, pl.of.reason = 0, ""
	why := fmt.Sprintf("%d of %d provisioned for %s:%s", len(pl.containers), pl.want, pl.of.function, pl.of.qualifier)
	m.mu.Unlock()
	m.record(&hearth.Decision{Kind: hearth.DecisionProvision, Account: pl.of.account, Function: pl.of.function, Version: pl.version,
		Chosen: string(p.Path), Instance: c.inst.env.ID(), Container: c.env.ID(), Why: why, Knew: p.knew})
}

// unmade counts a container that could not be made, and has it tried again
// after a while.
func (m *Manager) unmade(pl *pledge, err error) {
	m.mu.Lock()
	now, p := m.clock.Now(), pl.of
	m.provisions.making--
	pl.making--
	if err == errUnwanted {
		m.mu.Unlock()
		m.provide()
		return
	}
	var hold time.Duration
	if !now.Before(p.heldUntil) { // those made side by side fail as one
		p.failures++
		hold = m.again.After(p.failures)
		p.heldUntil = now.Add(hold)
	}
	if p.reason != "" || !transient(err) || p.failures >= m.cfg.Attempts {
		p.reason = reason(err)
	}
	closed := m.closed.Load()
	m.mu.Unlock()
	if closed {
		return
	}
	m.count.makeFailures.Add(1)
	m.cfg.Log.Warn("a provisioned container could not be made", "function", p.function, "version", pl.version, "for", p.qualifier, "error", err)
	m.record(&hearth.Decision{Kind: hearth.DecisionProvision, Account: p.account, Function: p.function, Version: pl.version,
		Chosen: "none", Why: reason(err), Outcome: string(hearth.KindOf(err))})
	if hold > 0 {
		m.clock.AfterFunc(hold, m.onTimer(m.provide))
	}
	m.provide() // what was kept until now may go
}

// errNoRoom: all memory is promised to what cannot be ended.
var errNoRoom = &hearth.Error{Op: "manager.provide", Kind: hearth.TooManyRequests, Message: "This machine has no memory left for another environment of the function."}

var errNoVCPUs error = &hearth.Error{Op: "manager.provide", Kind: hearth.TooManyRequests, Message: "The capacity provider has no vCPUs left for another environment of the function."}

// errUnwanted is no failure: nobody asks for it any more.
var errUnwanted = errors.New("what was to be provisioned is not asked for any more")

// reason is what the API tells of a provision that failed.
func reason(err error) string {
	switch e, ok := errors.AsType[*hearth.Error](err); {
	case ok && e.Kind == hearth.InitFailed:
		return "FUNCTION_ERROR_INIT_FAILURE" // as the service says it
	case ok && !transient(err):
		return e.Message
	}
	return "No execution environment could be made for the function."
}

// placePledged finds where to make a provisioned container. It waits for
// memory only as long as containers that nobody uses make room; all other
// memory is the invocations' that wait for it.
func (m *Manager) placePledged(g *group, pl *pledge) (*plan, error) {
	g.mu.Lock()
	knew, shut := g.knows(), g.shut
	g.mu.Unlock()
	if shut {
		return nil, errNoRoom
	}
	m.mu.Lock()
	mib, ok := m.takeFor(g)
	if !ok {
		if m.reclaimable(g.sub) < mib || len(g.sub.ledger.queue) > 0 {
			m.mu.Unlock()
			return nil, errNoRoom
		}
		claim := g.sub.ledger.wait(mib)
		m.mu.Unlock()
		m.evictForRoom()
		over := make(chan struct{})
		timer := m.clock.AfterFunc(m.cfg.QueueWait, func() { close(over) })
		defer timer.Stop()
		select {
		case <-claim.ok:
		case <-over:
		case <-m.ctx.Done():
		}
		m.mu.Lock()
		if err := m.unwanted(pl, g); err != nil || !claim.got || m.ctx.Err() != nil {
			g.sub.ledger.withdraw(claim)
			m.mu.Unlock()
			return nil, cmp.Or(err, error(errNoRoom))
		}
	}
	defer m.mu.Unlock()
	p := m.choose(g, mib, knew)
	p.pledge = pl
	return p, nil
}

// unwanted is errUnwanted if a container of the group that is to be made for the
// pledge is not wanted any more: less was asked for meanwhile, or its code was
// replaced. Called with mu held.
func (m *Manager) unwanted(pl *pledge, g *group) error {
	if len(pl.containers)+pl.making > pl.want || m.newest[versionOf(g.key.Key)].replaces(g.key.Key) {
		return errUnwanted
	}
	return nil
}

// Provisioned tells how far what was asked for under the qualifier of a
// function is.
func (m *Manager) Provisioned(account hearth.Account, function, qualifier string) hearth.Provisioned {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := hearth.Provisioned{State: hearth.ProvisionInProgress}
	a := asked{account, function, qualifier}
	i, found := slices.BinarySearchFunc(m.provisions.all, a, func(p *provision, a asked) int { return p.compare(a) })
	if !found {
		return s
	}
	p, ready := m.provisions.all[i], true
	for _, pl := range p.pledges {
		if pl.want == 0 {
			continue
		}
		s.Available += min(len(pl.containers), pl.want)
		s.Allocated += min(len(pl.containers)+pl.making, pl.want)
		ready = ready && len(pl.containers) >= pl.want
	}
	switch {
	case ready:
		s.State = hearth.ProvisionReady
	case p.reason != "":
		s.State, s.Reason = hearth.ProvisionFailed, p.reason
	}
	return s
}
