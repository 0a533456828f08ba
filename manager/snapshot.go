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
	packed          atomic.Uint64
	retired         atomic.Uint64
	boots           atomic.Uint64
	bootFailures    atomic.Uint64
	makeFailures    atomic.Uint64
	destroyFailures atomic.Uint64
	updates         struct{ begun, switched, declined, late, made, failed atomic.Uint64 }
	kills           atomic.Uint64
	suggested       atomic.Uint64
	sized           atomic.Uint64
	declined        atomic.Uint64
	enlarged        atomic.Uint64
	withdrawn       atomic.Uint64 // containers
	spilled         atomic.Uint64
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
	Groups                    int // of what shares containers: functions' versions, and tenants of each
	PoolBudgetMiB, PoolMiB    float64
	PoolReady, PoolMaking     map[hearth.Boot]int
	PoolComing                map[hearth.Boot]float64   // how many are expected to be taken soon
	PoolTrend                 map[hearth.Boot]Direction // where the demand goes
	Spares                    int                       // ready slots in instances of accounts

	Gone    uint64 // containers that were found dead by an invocation
	Full    uint64 // invocations refused because there was no room
	Lost    uint64 // idle containers and ready slots that died
	Evicted uint64 // idle containers ended for their memory
	Expired uint64 // idle containers ended by age
	Retired uint64 // idle containers ended because their code changed
	Spilled uint64 // invocations that found no room in their own capacity, and took fixed
	// Withdrawn are containers of variable capacity that ended since it went.
	Withdrawn uint64
	Packed    uint64 // instances given up because the load needed one less
	Boots     uint64 // ready slots made
	Failures  Failures
	Updates   Updates
	Sizing    Sizing
	Prepared  PreparedStats // of all accounts
}

// Sizing counts what came of functions' use of memory.
type Sizing struct {
	Kills                                  uint64 // invocations that failed for want of memory
	Suggested, Applied, Declined, Enlarged uint64
	Known                                  int // versions of functions of which something is known
}

// Updates count new code that took over from old: Begun are the updates for
// which containers were made ahead, Declined those for which none could be,
// Late those whose time was over; Switched are instances; Made and Failed are
// containers.
type Updates struct{ Begun, Declined, Late, Switched, Made, Failed uint64 }

// Failures count calls of the worker that failed.
type Failures struct{ Boot, Make, Destroy uint64 }

// Stats returns the present numbers.
func (m *Manager) Stats() Stats {
	c := &m.count
	s := Stats{
		ByPath: map[hearth.Path]uint64{}, InFlight: int(m.inflight.Load()), Waiting: int(c.waiting.Load()),
		Gone: c.gone.Load(), Full: c.full.Load(), Lost: c.lost.Load(), Evicted: c.evicted.Load(), Expired: c.expired.Load(),
		Retired: c.retired.Load(), Boots: c.boots.Load(), Packed: c.packed.Load(), Spilled: c.spilled.Load(), Withdrawn: c.withdrawn.Load(),
		Failures: Failures{c.bootFailures.Load(), c.makeFailures.Load(), c.destroyFailures.Load()},
		Updates: Updates{c.updates.begun.Load(), c.updates.declined.Load(), c.updates.late.Load(),
			c.updates.switched.Load(), c.updates.made.Load(), c.updates.failed.Load()},
		Sizing:    Sizing{c.kills.Load(), c.suggested.Load(), c.sized.Load(), c.declined.Load(), c.enlarged.Load(), m.sizes.Len()},
		PoolReady: map[hearth.Boot]int{}, PoolMaking: map[hearth.Boot]int{},
		PoolComing: map[hearth.Boot]float64{}, PoolTrend: map[hearth.Boot]Direction{}, PoolBudgetMiB: m.cfg.PoolBudgetMiB,
	}
	for i, p := range paths {
		s.ByPath[p] = c.path[i].Load()
	}
	s.Groups = len(m.groups.all(func(hearth.Key) bool { return true }))
	m.mu.Lock()
	defer m.mu.Unlock()
	s.Containers = len(m.containers)
	for _, sub := range m.stocked() { // what is dedicated is a part of the fixed
		s.CommittedMiB += sub.ledger.committed
		s.Queued += len(sub.ledger.queue)
		s.CapacityMiB += sub.ledger.capacity
		s.PoolMiB += sub.pool.usedMiB
		for b, sh := range sub.pool.shelves {
			s.PoolReady[b] += len(sh.ready)
			s.PoolMaking[b] += sh.making
		}
	}
	for _, own := range m.tenants {
		s.Instances += len(own)
		for _, inst := range own {
			s.Spares += len(inst.ready)
		}
	}
	now := m.clock.Now()
	for _, p := range m.ahead.sums {
		s.Prepared.add(*p)
	}
	for b, sh := range m.fixed.pool.shelves {
		s.PoolComing[b], s.PoolTrend[b] = m.trend.Coming(&sh.takes, now, sh.lead()), m.trend.Direction(&sh.takes, now)
	}
	return s
}

// InstanceInfo describes an instance, for people.
type InstanceInfo struct {
	ID         string              `json:"id"`
	Account    hearth.Account      `json:"account,omitempty"` // "" in the warming pool
	Owner      hearth.Account      `json:"owner,omitempty"`   // of the code that is shared with Account; "" is only its own
	Capacity   hearth.CapacityKind `json:"capacity"`
	Age        time.Duration       `json:"age"`
	CapMiB     int                 `json:"capMiB,omitempty"`
	UsedMiB    int                 `json:"usedMiB"`
	Containers []ContainerInfo     `json:"containers"`
}

// ContainerInfo describes a container, or a slot that is ready for one.
type ContainerInfo struct {
	ID          string        `json:"id"`
	State       string        `json:"state"` // ready, loading, busy, idle, frozen or ending
	Boot        hearth.Boot   `json:"boot,omitempty"`
	Function    string        `json:"function,omitempty"`
	Version     string        `json:"version,omitempty"`
	Generation  uint64        `json:"generation,omitempty"`
	Tenant      string        `json:"tenant,omitempty"`
	Provisioned bool          `json:"provisioned,omitempty"`
	Prepared    bool          `json:"prepared,omitempty"` // made on a prediction, and not used yet
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
			account, owner := inst.owner.Pair()
			e = &entry{inst: inst, info: InstanceInfo{Account: account, Owner: owner, Capacity: inst.sub.kind, Age: now.Sub(inst.made), CapMiB: inst.capMiB, UsedMiB: inst.usedMiB}}
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
	for _, sub := range m.stocked() {
		for _, sh := range sub.pool.shelves {
			for _, s := range sh.ready {
				e := add(s.inst)
				e.slots = append(e.slots, s)
			}
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
	i.Tenant, i.Provisioned, i.Prepared = k.tenant, c.pledge != nil, c.foretold.Load() != nil
	i.MemoryMiB, i.Invocations = c.mib(), c.invocations.Load()
	if st == idle {
		i.IdleFor = c.idleFor(m, now)
		if f, ok := s.env.(frozen); ok && f.Frozen() {
			i.State = "frozen"
		}
	}
	return i
}
