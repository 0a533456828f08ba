package manager

import (
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
)

// pool is the warming pool: ready slots by boot, and what they cost. Guarded
// by Manager.mu, except where said.
type pool struct {
	stock Stock
	// shelves are never removed, and never made by anybody but shelf.
	shelves map[hearth.Boot]*shelf
	seasons map[hearth.Boot]Season // of those not made yet
	// usedMiB is what of the budget is in use: by slots that are ready, being
	// made or being destroyed, and by the spare slots of instances.
	usedMiB float64
}

// booting is the work of replenishing the warming pool, of all sub-pools.
// Guarded by Manager.mu.
type booting struct {
	now int // instances and spare slots being made
	// shortSince is when the pool began to lack something; zero while it
	// lacks nothing.
	shortSince time.Time
	kicked     bool // a replenishment is due, then
	due        time.Time
	timer      hearth.Timer
}

func newPool(s Stock) *pool { return &pool{stock: s, shelves: map[hearth.Boot]*shelf{}} }

// furnish makes the shelves of what the pool holds at least. Called before
// there is anybody else, or with mu held.
func (m *Manager) furnish(p *pool) {
	p.shelf("", m.worker.SlotMiB(""))
	for b := range p.stock.Min {
		p.shelf(b, m.worker.SlotMiB(b))
	}
}

// shelf is what the pool has of one boot.
type shelf struct {
	ready  []*slot
	count  atomic.Int32 // len(ready), for the warm path
	making int
	mib    float64 // what one costs
	takes  Takes
	// bootTime is what making one takes, as a mean that forgets.
	bootTime time.Duration
	learned  int64 // Season.Last that was kept

	failures  int
	failed    time.Time // the last time
	heldUntil time.Time
}

// shelf returns the shelf of the boot, made if there is none.
func (p *pool) shelf(b hearth.Boot, mib float64) *shelf {
	s := p.shelves[b]
	if s == nil {
		s = &shelf{takes: Takes{Season: p.seasons[b]}}
		p.shelves[b] = s
	}
	s.setCost(mib)
	return s
}

// setCost rounds up to whole KiB, so that sums of costs are exact.
func (sh *shelf) setCost(mib float64) { sh.mib = math.Ceil(mib*1024) / 1024 }

// put adds a ready slot. Its cost is counted already.
func (p *pool) put(s *slot) {
	sh := p.shelves[s.boot]
	sh.ready = append(sh.ready, s)
	sh.count.Store(int32(len(sh.ready)))
}

// take returns the newest ready slot of the boot, whose pages are the warmest.
// Its cost leaves the budget.
func (p *pool) take(b hearth.Boot) *slot {
	sh := p.shelves[b]
	s := sh.ready[len(sh.ready)-1]
	p.remove(s)
	p.usedMiB -= s.mib
	s.mib = 0 // whoever discards it gives nothing back
	sh.failures = 0
	return s
}

// remove takes a slot from its shelf; false if it was not there. Its cost
// stays counted.
func (p *pool) remove(s *slot) bool {
	sh := p.shelves[s.boot]
	i := slices.Index(sh.ready, s)
	if i < 0 {
		return false
	}
	sh.ready = slices.Delete(sh.ready, i, i+1)
	sh.count.Store(int32(len(sh.ready)))
	return true
}

// fail notes that a slot of the boot could not be made, or did not last.
func (sh *shelf) fail(now time.Time, b *Backoff) time.Duration {
	sh.failures++
	hold := b.After(sh.failures)
	sh.failed, sh.heldUntil = now, now.Add(hold)
	return hold
}

// lead is what the pool needs to make up for a few that were taken.
func (sh *shelf) lead() time.Duration { return leastLead + 8*sh.bootTime }

// leastLead is how long callers' own containers are thought to hold the pool
// up.
const leastLead = 250 * time.Millisecond

// booted notes how long it took to make one.
func (sh *shelf) booted(took time.Duration) {
	if sh.bootTime == 0 {
		sh.bootTime = took
	}
	sh.bootTime += (took - sh.bootTime) / 4
}

// view is what Stock is shown.
func (p *pool) view(now time.Time, t Trend) map[hearth.Boot]Shelf {
	v := make(map[hearth.Boot]Shelf, len(p.shelves))
	for b, sh := range p.shelves {
		v[b] = Shelf{Ready: len(sh.ready), Making: sh.making, Coming: t.Coming(&sh.takes, now, sh.lead()),
			SlotMiB: sh.mib, Held: now.Before(sh.heldUntil)}
	}
	return v
}

// takeSlot takes a ready spare slot with the boot, which there must be.
func (i *instance) takeSlot(b hearth.Boot) *slot {
	n := slices.IndexFunc(i.ready, func(s *slot) bool { return s.boot == b })
	s := i.ready[n]
	i.ready = slices.Delete(i.ready, n, n+1)
	return s
}
