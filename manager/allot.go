package manager

import (
	"math"
	"time"

	"github.com/hearth-faas/hearth"
)

// What new containers are bounded by beside memory: how fast a function may
// grow, how many a version may have, and what its capacity provider may use.

// ScaleRate bounds how fast a function gets new containers: Burst at once, and
// beyond that PerSecond.
type ScaleRate struct {
	Burst     int
	PerSecond float64
}

// owner names a function, whatever its version.
type owner struct {
	account  hearth.Account
	function string
}

// allotment is what the containers of one capacity provider use of its vCPUs,
// in thousandths. Guarded by Manager.mu.
type allotment struct{ limit, used int } // a limit of 0 is none

// Allot bounds what the containers of the functions on a capacity provider use
// at once; 0 is no bound. What exists stays.
func (m *Manager) Allot(provider string, vcpus int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.allotment(provider).limit = vcpus * 1000
	m.tidyAllotment(provider)
}

// allotment returns that of the provider, made if there is none. Called with
// mu held.
func (m *Manager) allotment(provider string) *allotment {
	a := m.allotments[provider]
	if a == nil {
		a = &allotment{}
		m.allotments[provider] = a
	}
	return a
}

func (m *Manager) tidyAllotment(provider string) {
	if a := m.allotments[provider]; a != nil && *a == (allotment{}) {
		delete(m.allotments, provider)
	}
}

// defaultGiBPerCPU is the service's, where a function does not say.
const defaultGiBPerCPU = 2

// milliCPUs is what a container of f uses of its capacity provider's vCPUs, in
// thousandths.
func milliCPUs(f *hearth.Function) int {
	if f.CapacityProvider == nil {
		return 0
	}
	per := f.CapacityProvider.MemoryGiBPerCPU
	if per <= 0 {
		per = defaultGiBPerCPU
	}
	return int(math.Ceil(float64(f.MemoryMiB) / 1024 / per * 1000))
}

// allot takes what a container of g uses of its capacity provider, and ends
// idle containers there if it must; false if those in use leave too little.
func (m *Manager) allot(g *group) bool {
	if g.milliCPUs == 0 {
		return true
	}
	for {
		var victim *container
		m.mu.Lock()
		a := m.allotment(g.fn.CapacityProvider.ARN)
		if a.limit == 0 || a.used+g.milliCPUs <= a.limit {
			a.used += g.milliCPUs
			m.mu.Unlock()
			return true
		}
		for c := range m.containers {
			if c.group.milliCPUs > 0 && c.group.fn.CapacityProvider.ARN == g.fn.CapacityProvider.ARN && c.now() == idle && c.pledge == nil &&
				(victim == nil || c.lastUsed.Load() < victim.lastUsed.Load()) {
				victim = c
			}
		}
		m.mu.Unlock()
		if victim == nil {
			return false
		}
		if victim.move(idle, ending) {
			m.count.evicted.Add(1)
			m.evicted(victim, hearth.DecisionEvict, "the vCPUs of its capacity provider were needed, and it was used least lately")
		}
	}
}

// allotFree is allot that ends nothing. Called with mu held.
func (m *Manager) allotFree(g *group) bool {
	if g.milliCPUs == 0 {
		return true
	}
	a := m.allotment(g.fn.CapacityProvider.ARN)
	if a.limit > 0 && a.used+g.milliCPUs > a.limit {
		m.tidyAllotment(g.fn.CapacityProvider.ARN)
		return false
	}
	a.used += g.milliCPUs
	return true
}

// unallot gives back what allot took. Called with mu held.
func (m *Manager) unallot(g *group) {
	if g.milliCPUs == 0 {
		return
	}
	m.allotment(g.fn.CapacityProvider.ARN).used -= g.milliCPUs
	m.tidyAllotment(g.fn.CapacityProvider.ARN)
}

// permit takes what a new container of g needs beside memory, or tells what it
// lacks.
func (m *Manager) permit(g *group) error {
	o := owner{g.key.Account, g.key.Name}
	m.mu.Lock()
	b, now := m.scales[o], m.clock.Now()
	if b == nil {
		b = &bucket{tokens: float64(m.cfg.Scale.Burst), at: now}
		m.scales[o] = b
	}
	b.fill(m.cfg.Scale, now)
	ok := b.tokens >= 1
	if ok {
		b.tokens--
	}
	m.mu.Unlock()
	if !ok {
		return g.throttled(errScale)
	}
	if !m.allot(g) {
		m.mu.Lock()
		m.refund(g)
		m.mu.Unlock()
		return g.throttled(errVCPUs)
	}
	return nil
}

// forgetScales forgets the buckets that are full. Called with mu held.
func (m *Manager) forgetScales(now time.Time) {
	for o, b := range m.scales {
		if b.fill(m.cfg.Scale, now); b.tokens >= float64(m.cfg.Scale.Burst) {
			delete(m.scales, o)
		}
	}
}

// unpermit gives back what permit took for a container that was not made: a
// maker that is called off, because another container came free, must not
// count. Called with mu held.
func (m *Manager) unpermit(g *group) {
	m.refund(g)
	m.unallot(g)
}

// refund has a container not count that was not made. Called with mu held.
func (m *Manager) refund(g *group) {
	if b := m.scales[owner{g.key.Account, g.key.Name}]; b != nil {
		b.tokens = min(b.tokens+1, float64(m.cfg.Scale.Burst))
	}
}

// bucket bounds how fast a function gets new containers.
type bucket struct {
	tokens float64
	at     time.Time
}

// fill adds what has come since the last time.
func (b *bucket) fill(r ScaleRate, now time.Time) {
	b.tokens = min(b.tokens+now.Sub(b.at).Seconds()*float64(r.PerSecond), float64(r.Burst))
	b.at = now
}
