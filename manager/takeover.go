package manager

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
)

// takeover is an update in one instance.
type takeover struct {
	u         *update
	old, heir *group
	inst      *instance
	want      int // containers to be made
	need      int // containers of the old code there that are in use
}

// run makes the instance's containers of the new code and then has it switch.
func (t *takeover) run(ctx context.Context) {
	var ready atomic.Int64
	var making sync.WaitGroup
	for range t.want {
		making.Add(1)
		t.u.m.background(func() {
			defer making.Done()
			if t.makeOne(ctx) {
				ready.Add(1)
			}
		})
	}
	making.Wait()
	if n := int(ready.Load()); n > 0 && t.u.takes {
		t.u.m.switchOver(t, n)
	}
}

// makeOne makes one container, which the heir counts as provided, and puts it
// where invocations find it. False if there is none.
func (t *takeover) makeOne(ctx context.Context) bool {
	m, u := t.u.m, t.u
	c, p, why := t.build(ctx)
	if c != nil {
		u.made.Add(1)
		m.count.updates.made.Add(1)
		u.record("ready", c, &p.knew, p.Why)
		m.settle(c, loading)
		return true
	}
	t.heir.mu.Lock()
	t.heir.providing--
	n := t.heir.demand() // where there may be no more, others wait for this one's end
	t.heir.mu.Unlock()
	m.startMakers(t.heir, n)
	u.failed.Add(1)
	m.count.updates.failed.Add(1)
	u.recordAt("skipped", t.inst.env.ID(), "", nil, why)
	return false
}

// build tries to make a container, and tells why it could not.
func (t *takeover) build(ctx context.Context) (c *container, p *plan, why string) {
	m := t.u.m
	select {
	case t.u.places <- struct{}{}:
		defer func() { <-t.u.places }()
	case <-ctx.Done():
		return nil, nil, "its time was over before it was begun"
	case <-m.ctx.Done():
		return nil, nil, "the server stops"
	}
	for failures := 0; ; {
		if p, why = t.place(); p == nil {
			return nil, nil, why
		}
		c, _, err, late := m.buildInTime(t.heir, p, func() {})
		if late {
			err = errSlow
		}
		if err == nil {
			return c, p, ""
		}
		failures++
		m.count.makeFailures.Add(1)
		m.cfg.Log.Warn("a container of new code could not be made ahead", "function", t.heir.fn.QualifiedARN(), "instance", t.inst.env.ID(), "failures", failures, "error", err)
		if failures >= m.cfg.Attempts || !transient(err) || late {
			return nil, nil, "it could not be made: " + err.Error()
		}
		over := make(chan struct{})
		timer := m.clock.AfterFunc(m.retry.After(failures), func() { close(over) })
		select {
		case <-over:
		case <-ctx.Done():
		case <-m.ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil || m.ctx.Err() != nil {
			return nil, nil, "its time was over: " + err.Error()
		}
	}
}

// place finds room for one container of the heir beside those of the old code,
// of memory and vCPUs that are free: nothing is ended for it, and nobody who
// waits for some is overtaken. Beside, an instance may have more than its
// measure for as long as it takes the old code to leave.
func (t *takeover) place() (p *plan, why string) {
	m := t.u.m
	t.heir.mu.Lock()
	knew, over := t.heir.knows(), t.heir.retired || t.heir.shut
	t.heir.mu.Unlock()
	if over {
		return nil, "the function was changed or deleted meanwhile"
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.allotFree(t.heir) {
		return nil, "its capacity provider has no vCPUs free"
	}
	mib, ok := m.takeFor(t.heir)
	if !ok {
		m.unallot(t.heir)
		return nil, "no memory is free for it, and none is taken from others"
	}
	defer func() { p.ahead = true }()
	if t.inst.ending || t.inst.vacant.Load() {
		return m.choose(t.heir, mib, knew), ""
	}
	m.live++
	knew.Room = 1
	t.heir.sub.ledger.tell(&knew)
	p = &plan{inst: t.inst, mib: mib, knew: knew, Choice: Choice{Path: hearth.PathContainer, Room: -1, Exact: true,
		Why: "it is beside the old code, in the same instance"}}
	if exact, _ := t.inst.readySlots(t.heir.boot); exact > 0 {
		p.Ready, p.slot = true, t.inst.takeSlot(t.heir.boot)
		t.heir.sub.pool.usedMiB -= p.slot.mib
	}
	t.inst.containers++
	t.inst.usedMiB += mib
	return p, ""
}

// switchOver has the new code, of which n containers are ready in the
// instance, serve what was the old code's there. Where these are fewer than
// are needed, as many of the old code's stay until the update ends.
func (m *Manager) switchOver(t *takeover, n int) {
	g := t.old
	m.mu.Lock()
	var leaving []*container
	for c := range m.containers {
		// Those that are provisioned are replaced as they were made.
		if c.group == g && c.inst == t.inst && c.pledge == nil {
			leaving = append(leaving, c)
		}
	}
	m.mu.Unlock()
	keep := min(max(t.need-n, 0), len(leaving))
	slices.SortFunc(leaving, func(a, b *container) int { // busy ones last
		return cmp.Or(-cmp.Compare(a.now(), b.now()), cmp.Compare(a.lastUsed.Load(), b.lastUsed.Load()), cmp.Compare(a.env.ID(), b.env.ID()))
	})
	leaving = leaving[:len(leaving)-keep]
	g.mu.Lock()
	learned := g.idles.Clone()
	g.heir = t.heir
	if keep == 0 { // also for those being made now
		if g.left == nil {
			g.left = map[*instance]struct{}{}
		}
		g.left[t.inst] = struct{}{}
	}
	g.mu.Unlock()
	t.heir.mu.Lock()
	if t.heir.idles.Last() < learned.Last() {
		t.heir.idles = learned // it is asked for as the old code was
	}
	t.heir.mu.Unlock()
	m.ask(g)
	m.count.updates.switched.Add(1)
	ended, draining := 0, 0
	for _, c := range leaving {
		if c.now() == ending {
			continue
		}
		c.unwanted.Store(true)
		if c.move(idle, ending) {
			ended++
			m.count.retired.Add(1)
			m.evicted(c, hearth.DecisionEvict, whyReplaced)
		} else {
			draining++
		}
	}
	chosen := "switched"
	if keep > 0 {
		chosen = "partly"
	}
	t.u.recordAt(chosen, t.inst.env.ID(), "", nil, fmt.Sprintf("%d of %d containers of the new code are ready after %v; of the old code's %d have ended, %d end after their execution and %d stay until the update ends",
		n, t.want, m.clock.Now().Sub(t.u.began).Round(time.Millisecond), ended, draining, keep))
}
