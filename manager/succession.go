package manager

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
)

// New code takes over from old instance by instance, without a caller who
// waits for it (S01):
//
//  1. containers of the new code are made beside those of the old, in the same
//     instances, of memory that nobody else has or wants;
//  2. when those of an instance are ready, it switches: its idle containers of
//     the old code end, and its busy ones after their last execution. What
//     is asked of the old code is given to the new (group.heir);
//  3. when all instances have switched, or their time is over, the registry
//     says so, and Changed ends what is left of the old code.
//
// Whatever fails on the way leaves it to 3, which is all there would be
// without 1 and 2.

// recentUse is how long ago a container was used at most to count as needed:
// about the time that it takes a burst to come again, if it does.
const recentUse = 10 * time.Second

// aheadWait bounds how long the change of an alias waits for the containers of
// the version that it is going to point to: its caller waits, too.
const aheadWait = 10 * time.Second

// update is new code on its way in place of old.
type update struct {
	m        *Manager
	old, now *hearth.Function
	share    float64 // of the old code's load that the new is to have
	takes    bool    // it takes over; else it is only made ready
	began    time.Time
	places   chan struct{} // one for each container being made

	made, failed atomic.Int64
}

// Overtake has now, which is about to replace old, ready beside it, and take
// over instance by instance. It returns when that is done, the policy's time
// is over, or ctx has ended; then Changed is to be called. If nothing can be
// done ahead it returns at once. Safe for concurrent use.
func (m *Manager) Overtake(ctx context.Context, old, now *hearth.Function) {
	m.prepare(ctx, &update{m: m, old: old, now: now, share: 1, takes: true}, math.MaxInt64)
}

// Ahead has containers of now ready, beside those of old, before an alias has
// now serve that share of its invocations. Old stays as it is: whoever names
// it gets it. It returns as Overtake does, and after ten seconds at most.
func (m *Manager) Ahead(ctx context.Context, old, now *hearth.Function, share float64) {
	m.prepare(ctx, &update{m: m, old: old, now: now, share: share}, aheadWait)
}

func (m *Manager) prepare(ctx context.Context, u *update, most time.Duration) {
	if u.old == nil || u.now == nil || !m.track() {
		return
	}
	defer m.bg.Done()
	policy := m.cfg.Policy(u.now.Account, u.now.Name).Update
	if policy.Waits() {
		u.decline("its execution policy has invocations wait for new code")
		return
	}
	u.began = m.clock.Now()
	u.places = make(chan struct{}, max(m.cfg.BootConcurrency, 1))
	room := policy.MaxMiB
	if room == 0 {
		room = m.fixed.ledger.size() / 4
	}
	var all []*takeover
	for _, g := range m.groups.all(func(k hearth.Key) bool { return k == u.old.Key() }) {
		more := u.plan(g, room)
		for _, t := range more {
			room -= t.want * t.heir.newMiB()
		}
		all = append(all, more...)
	}
	if len(all) == 0 {
		u.decline("no container of the old code is warm, or there may be none beside it")
		return
	}
	limit := min(policy.Wait(), most)
	m.count.updates.begun.Add(1)
	want := 0
	for _, t := range all {
		want += t.want
	}
	u.record("began", nil, nil, fmt.Sprintf("%d containers of the new code (%s) are made beside those of the old (%s), in %d instances, within %v",
		want, codeOf(u.now), codeOf(u.old), len(all), limit))

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := m.clock.AfterFunc(limit, func() { cancel(errSlow) })
	defer timer.Stop()
	done := make(chan struct{})
	var running sync.WaitGroup
	for _, t := range all {
		running.Add(1)
		m.background(func() {
			defer running.Done()
			t.run(ctx)
		})
	}
	go func() {
		running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return
	case <-ctx.Done():
	case <-m.ctx.Done():
	}
	m.count.updates.late.Add(1)
	u.record("late", nil, nil, fmt.Sprintf("after %v %d of %d containers are ready: the new code takes over all the same", m.clock.Now().Sub(u.began).Round(time.Millisecond), u.made.Load(), want))
}

// plan finds where containers are to be made beside those of g, with room MiB
// at most.
func (u *update) plan(g *group, room int) (all []*takeover) {
	m := u.m
	if u.old.TenantIsolation != u.now.TenantIsolation {
		return nil // its containers serve others
	}
	now := m.clock.Now()
	at := map[*instance]*Holder{}
	var order []*instance
	m.mu.Lock()
	own := slices.Clone(m.tenants[u.old.Key().Tenant()]) // in the order in which they were made
	for c := range m.containers {
		if c.group != g || c.now() == ending {
			continue
		}
		h := at[c.inst]
		if h == nil {
			h = &Holder{}
			at[c.inst] = h
		}
		switch {
		case c.now() == busy:
			h.Busy++
		case c.idleFor(m, now) <= recentUse:
			h.Recent++
		default:
			h.Idle++
		}
	}
	m.mu.Unlock()
	var holders []Holder
	for _, inst := range own {
		if h := at[inst]; h != nil {
			order, holders = append(order, inst), append(holders, *h)
		}
	}
	if len(holders) == 0 {
		return nil
	}
	heir := m.locked(g.sub, u.now, g.key.tenant, g.key.memory)
	defer heir.mu.Unlock()
	have := heir.all()
	most := room / max(heir.newMiB(), 1)
	if bound := heir.most.Load(); bound != unbounded {
		most = min(most, int(bound)-have)
	}
	for i, want := range m.overlap.Choose(holders, u.share, have, most) {
		if want > 0 {
			heir.providing += want
			all = append(all, &takeover{u: u, old: g, heir: heir, inst: order[i], want: want, need: holders[i].Busy + holders[i].Recent})
		}
	}
	return all
}

func (u *update) decline(why string) {
	u.m.count.updates.declined.Add(1)
	u.record("declined", nil, nil, why)
}

// record leaves a decision about the update, of a container if it is one's.
func (u *update) record(chosen string, c *container, knew *hearth.Knowledge, why string) {
	if c == nil {
		u.recordAt(chosen, "", "", knew, why)
		return
	}
	u.recordAt(chosen, c.inst.env.ID(), c.env.ID(), knew, why)
}

func (u *update) recordAt(chosen, instance, container string, knew *hearth.Knowledge, why string) {
	d := hearth.Decision{Kind: hearth.DecisionUpdate, Account: u.now.Account, Function: u.now.Name, Version: u.now.Version, Generation: u.now.Generation,
		Chosen: chosen, Why: why, Instance: instance, Container: container}
	if knew != nil {
		d.Knew = *knew
	} else {
		u.m.fixed.ledger.tell(&d.Knew)
	}
	u.m.record(&d)
}
