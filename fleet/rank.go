package fleet

import (
	"cmp"
	"math"
	"slices"
)

// rank orders the members for a key by weighted rendezvous hashing: each member
// has a number that follows from the key and its own name alone, so that every
// router finds the same order, a member that leaves moves only what it had, and
// one that joins takes its share from all. Members are preferred in proportion
// to their memory.
func rank(key uint64, members []*Member) []*Member {
	type scored struct {
		m     *Member
		score float64
	}
	all := make([]scored, len(members))
	for i, m := range members {
		// 53 bits of the mixed hash, in (0, 1).
		u := (float64(mix(key^m.hash)>>11) + 0.5) / (1 << 53)
		all[i] = scored{m, -float64(max(m.info.MemoryMiB, 1)) / math.Log(u)}
	}
	slices.SortFunc(all, func(a, b scored) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.m.info.ID, b.m.info.ID))
	})
	out := make([]*Member, len(all))
	for i, s := range all {
		out[i] = s.m
	}
	return out
}

// mix is the finalizer of SplitMix64.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// excess is by how much a member may have more of the low-volume code than its
// share of the memory: so much more, beside one function, and then the next in
// the order takes it ("consistent hashing with bounded loads", 2016).
const excess = 1.25

// home is where code is kept warm. What it counts for is given back once.
type home struct {
	m       *Member
	mib     int64
	version uint64 // of the view that it was chosen in
	order   []*Member
}

// settle finds the home of low-volume code among members, whose order for it
// begins with the one that is preferred. total is what all of them have, load
// what one has, in MiB.
func settle(order []*Member, mib int64) *Member {
	var total, memory int64
	for _, m := range order {
		total += m.homes.Load()
		memory += int64(m.info.MemoryMiB)
	}
	for _, m := range order {
		share := float64(m.info.MemoryMiB) / float64(max(memory, 1))
		if float64(m.homes.Load()) <= excess*share*float64(total+mib) {
			return m
		}
	}
	return order[0] // one is always at or below its share; rounding may hide it
}

// homeOf is the member that keeps c warm, and the order of those that come
// after it.
func (c *Code) homeOf(v *view, mib int64) *home {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := c.home; h != nil && h.version == v.version {
		return h
	}
	if c.home != nil {
		c.home.m.homes.Add(-c.home.mib)
	}
	order := rank(c.owner.hash(), v.low)
	m := settle(order, mib)
	m.homes.Add(mib)
	c.home = &home{m: m, mib: mib, version: v.version, order: order}
	return c.home
}

func (c *Code) leaveHome() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.home != nil {
		c.home.m.homes.Add(-c.home.mib)
		c.home = nil
	}
}

// Home names the node that keeps it warm; "" if it has none.
func (c *Code) Home() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.home == nil {
		return ""
	}
	return c.home.m.info.Name
}
