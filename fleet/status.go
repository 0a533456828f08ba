package fleet

import (
	"cmp"
	"slices"
	"time"
)

// Status is a member, for people.
type Status struct {
	Info
	State    State
	Fleets   []Class
	Since    time.Time // when it joined
	Heard    time.Time // the last heartbeat
	Load     Load
	InFlight int    // invocations of this router
	HomesMiB int    // of the low-volume code that it keeps warm
	Served   uint64 // invocations
	Local    bool
}

// List tells of all members, by name.
func (ms *Members) List() []Status {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	var all []Status
	for _, m := range ms.by {
		all = append(all, Status{Info: m.info, State: m.state, Fleets: slices.Clone(m.fleet), Since: m.since, Heard: m.heard, Load: m.load,
			InFlight: int(m.running.Load()), HomesMiB: int(m.homes.Load()), Served: m.served.Load(), Local: m.local})
	}
	slices.SortFunc(all, func(a, b Status) int { return cmp.Compare(a.Name, b.Name) })
	return all
}
