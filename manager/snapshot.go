package manager

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
)

// counters count what happened since the start.
type counters struct {
	path            [4]atomic.Uint64 // by pathIndex
	waiting         atomic.Int64     // invocations that wait now
	gone            atomic.Uint64
	full            atomic.Uint64
	lost            atomic.Uint64
	evicted         atomic.Uint64
	expired         atomic.Uint64
	retired         atomic.Uint64
	boots           atomic.Uint64
	bootFailures    atomic.Uint64
	makeFailures    atomic.Uint64
	destroyFailures atomic.Uint64
}

var paths = [4]hearth.Path{hearth.PathReuse, hearth.PathContainer, hearth.PathWarm, hearth.PathCold}

const reused = 0 // the index of PathReuse in paths

func pathIndex(p hearth.Path) int { return slices.Index(paths[:], p) }

// Stats is what a Manager has done and has.
type Stats struct {
	ByPath map[hearth.Path]uint64 // invocations placed

	InFlight int // invocations being served or waiting
	Waiting  int // of them, those without a container yet
	Queued   int // makers that wait for memory

	CapacityMiB, CommittedMiB int
	Instances, Containers     int
	PoolBudgetMiB, PoolMiB    float64
	PoolReady, PoolMaking     map[hearth.Boot]int
	Spares                    int // ready slots in instances of accounts

	Gone     uint64 // containers that were found dead by an invocation
	Full     uint64 // invocations refused because there was no room
	Lost     uint64 // idle containers and ready slots that died
	Evicted  uint64 // idle containers ended for their memory
	Expired  uint64 // idle containers ended by age
	Retired  uint64 // idle containers ended because their code changed
	Boots    uint64 // ready slots made
	Failures Failures
}

// Failures count calls of the worker that failed.
type Failures struct{ Boot, Make, Destroy uint64 }

// Stats returns the present numbers.
func (m *Manager) Stats() Stats {
	c := &m.count
	s := Stats{
		ByPath: map[hearth.Path]uint64{}, InFlight: int(m.inflight.Load()), Waiting: int(c.waiting.Load()),
		Gone: c.gone.Load(), Full: c.full.Load(), Lost: c.lost.Load(), Evicted: c.evicted.Load(), Expired: c.expired.Load(),
		Retired: c.retired.Load(), Boots: c.boots.Load(),
		Failures:  Failures{c.bootFailures.Load(), c.makeFailures.Load(), c.destroyFailures.Load()},
		PoolReady: map[hearth.Boot]int{}, PoolMaking: map[hearth.Boot]int{}, PoolBudgetMiB: m.cfg.PoolBudgetMiB,
	}
	for i, p := range paths {
		s.ByPath[p] = c.path[i].Load()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s.CapacityMiB, s.CommittedMiB, s.Queued = m.ledger.capacity, m.ledger.committed, len(m.ledger.queue)
	s.Containers, s.PoolMiB = len(m.containers), m.pool.usedMiB
	for _, own := range m.tenants {
		s.Instances += len(own)
		for _, inst := range own {
			s.Spares += len(inst.ready)
		}
	}
	for b, sh := range m.pool.shelves {
		s.PoolReady[b], s.PoolMaking[b] = len(sh.ready), sh.making
	}
	return s
}

// InstanceInfo describes an instance, for people.
type InstanceInfo struct {
	ID         string          `json:"id"`
	Account    hearth.Account  `json:"account,omitempty"` // "" in the warming pool
	Age        time.Duration   `json:"age"`
	CapMiB     int             `json:"capMiB,omitempty"`
	UsedMiB    int             `json:"usedMiB"`
	Containers []ContainerInfo `json:"containers"`
}

// ContainerInfo describes a container, or a slot that is ready for one.
type ContainerInfo struct {
	ID          string        `json:"id"`
	State       string        `json:"state"` // ready, loading, busy, idle, frozen or ending
	Boot        hearth.Boot   `json:"boot,omitempty"`
	Function    string        `json:"function,omitempty"`
	Version     string        `json:"version,omitempty"`
	Generation  uint64        `json:"generation,omitempty"`
	MemoryMiB   int           `json:"memoryMiB,omitempty"`
	Age         time.Duration `json:"age"`
	IdleFor     time.Duration `json:"idleFor,omitempty"`
	Invocations uint64        `json:"invocations,omitempty"`
	Usage       hearth.Usage  `json:"usage"`
}

// frozen is what a container may tell beyond hearth.Container.
type frozen interface{ Frozen() bool }

// Snapshot describes every instance and container, ordered by id. It asks
// each container for its usage, so that it takes a moment where there are
// many; nothing waits for it.
func (m *Manager) Snapshot() []InstanceInfo {
	now := m.clock.Now()
	type entry struct {
		inst  *instance
		info  InstanceInfo
		slots []*slot
	}
	m.mu.Lock()
	at := map[*instance]*entry{}
	add := func(inst *instance) *entry {
		e := at[inst]
		if e == nil {
			e = &entry{inst: inst, info: InstanceInfo{Account: inst.owner, Age: now.Sub(inst.made), CapMiB: inst.capMiB, UsedMiB: inst.usedMiB}}
			at[inst] = e
		}
		e.slots = append(e.slots, inst.ready...)
		return e
	}
	for _, own := range m.tenants {
		for _, inst := range own {
			add(inst)
		}
	}
	for _, sh := range m.pool.shelves {
		for _, s := range sh.ready {
			e := add(s.inst)
			e.slots = append(e.slots, s)
		}
	}
	for c := range m.containers {
		e := at[c.inst]
		if e == nil {
			e = add(c.inst)
		}
		e.slots = append(e.slots, c.slot)
	}
	m.mu.Unlock()
	infos := make([]InstanceInfo, 0, len(at))
	for _, e := range at {
		e.info.ID = e.inst.env.ID()
		for _, s := range e.slots {
			e.info.Containers = append(e.info.Containers, m.describe(s, now))
		}
		slices.SortFunc(e.info.Containers, func(a, b ContainerInfo) int { return cmp.Compare(a.ID, b.ID) })
		infos = append(infos, e.info)
	}
	slices.SortFunc(infos, func(a, b InstanceInfo) int { return cmp.Compare(a.ID, b.ID) })
	return infos
}

func (m *Manager) describe(s *slot, now time.Time) ContainerInfo {
	i := ContainerInfo{ID: s.env.ID(), State: "ready", Boot: s.boot, Age: now.Sub(s.made), Usage: s.env.Usage()}
	c := s.container.Load()
	if c == nil {
		return i
	}
	k, st := c.group.key, c.now()
	i.State, i.Function, i.Version, i.Generation = st.String(), k.Name, k.Version, k.Generation
	i.MemoryMiB, i.Invocations = c.mib, c.invocations.Load()
	if st == idle {
		i.IdleFor = c.idleFor(m, now)
		if f, ok := s.env.(frozen); ok && f.Frozen() {
			i.State = "frozen"
		}
	}
	return i
}
