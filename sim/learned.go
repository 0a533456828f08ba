package sim

import (
	"time"

	"github.com/hearth-faas/hearth/manager"
)

// Learned is Hearth's own policy: the decider that runs live, fed as the
// manager feeds it.
//
// One Learned is for one Run.
type Learned struct {
	manager.IdleLife
	// KeepOnly makes nothing ahead of invocations.
	KeepOnly bool
	// Lead is how long the making of a container takes.
	Lead time.Duration

	all   []*learnedKeeper
	prior *manager.Prior
	next  time.Duration // when the prior is gathered again
}

// sweep is how often the manager looks whether something has to be done: see
// manager.Config.SweepEvery.
func sweep(least time.Duration) time.Duration {
	return min(max(least/6, time.Millisecond), 10*time.Second)
}

// Name says what it is.
func (p *Learned) Name() string {
	if p.KeepOnly {
		return "learned, nothing made ahead"
	}
	return "learned (Hearth)"
}

// Keeper returns the decider of one function.
func (p *Learned) Keeper(f *Function) Keeper {
	k := &learnedKeeper{policy: p, mib: f.MiB}
	p.all = append(p.all, k)
	return k
}

type learnedKeeper struct {
	policy  *Learned
	history manager.IdleHistory
	mib     float64
}

func (k *learnedKeeper) Rise(at time.Duration, n int) { k.history.Rise(at, n) }
func (k *learnedKeeper) Fall(at time.Duration, n int) { k.history.Fall(at, n) }
func (k *learnedKeeper) Patience() time.Duration      { return max(k.policy.Min, sweep(k.policy.Min)) }

// Want is what the sweep of the manager does.
func (k *learnedKeeper) Want(at time.Duration, demand, containers int) (keep, create int, again time.Duration) {
	p := k.policy
	if at >= p.next {
		var pool manager.Pool
		for _, k := range p.all {
			pool.Add(&k.history)
		}
		p.prior, p.next = pool.Prior(), at+manager.PriorPeriod
	}
	plan := p.Plan(&k.history, manager.Need{At: at, Demand: demand, MiB: k.mib, Lead: p.Lead + sweep(p.Min), Prior: p.prior, Ahead: !p.KeepOnly})
	if plan.Again != Never {
		plan.Again = max(plan.Again, at+sweep(p.Min))
	}
	return plan.Keep, plan.Make, plan.Again
}
