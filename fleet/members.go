package fleet

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

// Info is what a node says of itself when it joins.
type Info struct {
	// ID is the node's own, for as long as its data folder is; Name is what
	// people call it.
	ID, Name  string
	Address   string // where it is reached, for people
	Fleet     string // "low", "high", or "auto"
	MemoryMiB int    // for functions
	Version   string // of Hearth
	// Runtimes are those that it can run, beside provided ones; nil is all.
	Runtimes []string
}

// Load is what a node says of itself with each heartbeat.
type Load struct {
	// InFlightMiB is what the functions have whose invocations are under way,
	// by the router that sent them.
	InFlightMiB map[string]int
	Committed   int // MiB promised to containers, idle ones included
	Containers  int
}

// State is where a member is in its life.
type State string

// The states. A lost member is forgotten; a node that comes back joins anew.
const (
	Up       State = "up"
	Draining State = "draining" // nothing new comes to it
	Suspect  State = "suspect"  // it could not be reached, and was not heard of since
)

// Member is a node that takes part. Its fields but info are safe for
// concurrent use.
type Member struct {
	info Info
	node hearth.Node
	cut  func() // ends what is asked of it, if it is lost
	hash uint64

	used      atomic.Int64 // MiB of what this router has under way there
	running   atomic.Int64 // invocations of this router
	elsewhere atomic.Int64 // MiB of what others have
	homes     atomic.Int64 // MiB of the low-volume code that it keeps warm
	served    atomic.Uint64
	suspect   atomic.Bool

	// Guarded by Members.mu.
	state State
	fleet []Class // that it is of
	heard time.Time
	since time.Time
	load  Load
	local bool
}

// Name is what people call it.
func (m *Member) Name() string { return m.info.Name }

// serves tells whether it can run f at all.
func (m *Member) serves(f *hearth.Function, mib int) bool {
	if mib > m.info.MemoryMiB && !m.local {
		return false
	}
	return m.info.Runtimes == nil || f.Runtime == "" || slices.Contains(m.info.Runtimes, f.Runtime)
}

// enter takes room for an invocation; false if there is none.
func (m *Member) enter(mib int) bool {
	if m.suspect.Load() {
		return false
	}
	for {
		used := m.used.Load()
		// One alone always fits, as the node itself has it.
		if used > 0 && used+m.elsewhere.Load()+int64(mib) > int64(m.info.MemoryMiB) {
			return false
		}
		if m.used.CompareAndSwap(used, used+int64(mib)) {
			m.running.Add(1)
			return true
		}
	}
}

// share is how much of its memory is at work.
func (m *Member) share() float64 {
	return float64(m.used.Load()+m.elsewhere.Load()) / float64(max(m.info.MemoryMiB, 1))
}

// view is who takes part, at a moment. It is not altered.
type view struct {
	version        uint64
	all, low, high []*Member // those that take new invocations
	local          *Member
	alone          bool // there is nobody but the local one
}

// Members are the nodes of a server: its own, and those that joined. Safe for
// concurrent use.
type Members struct {
	router string // the name of this server's
	clock  hearth.Clock
	tell   func(m *Member, what, why string) // leaves a decision
	lost   time.Duration
	room   func(*Member) // hears of a member that may have room

	now atomic.Pointer[view]

	mu      sync.Mutex
	version uint64
	by      map[string]*Member
	timer   hearth.Timer
	closed  bool
}

// HeartbeatEvery is how often a node is to be heard of, and lostAfter how long
// after the last time it is lost.
const (
	HeartbeatEvery = time.Second
	lostAfter      = 6 * time.Second
)

func newMembers(router string, clock hearth.Clock, lost time.Duration, tell func(*Member, string, string), room func(*Member)) *Members {
	m := &Members{router: router, clock: clock, tell: tell, room: room, lost: cmp.Or(lost, lostAfter), by: map[string]*Member{}}
	m.now.Store(&view{alone: true})
	m.mu.Lock()
	m.timer = clock.AfterFunc(m.lost/6, m.sweep)
	m.mu.Unlock()
	return m
}

// Join takes a node in. One that was there by the same id gives way to it. cut
// ends what is asked of the node; nil if that always ends by itself.
func (ms *Members) Join(info Info, node hearth.Node, cut func()) error {
	if info.ID == "" || info.Name == "" || info.MemoryMiB <= 0 {
		return hearth.Errorf(hearth.InvalidParameter, "A node needs an id, a name and memory; this one says %q, %q and %d MiB.", info.ID, info.Name, info.MemoryMiB)
	}
	if !slices.Contains([]string{"low", "high", "auto"}, info.Fleet) {
		return hearth.Errorf(hearth.InvalidParameter, "The node %s says that its fleet is %q, which is none of low, high, auto.", info.Name, info.Fleet)
	}
	ms.mu.Lock()
	if ms.closed {
		ms.mu.Unlock()
		return hearth.Errorf(hearth.Service, "The service is shutting down.")
	}
	for _, other := range ms.by {
		if other.info.Name == info.Name && other.info.ID != info.ID {
			ms.mu.Unlock()
			return hearth.Errorf(hearth.Conflict, "There is a node called %s already; give this one another name.", info.Name)
		}
	}
	old := ms.by[info.ID]
	now := ms.clock.Now()
	m := &Member{info: info, node: node, cut: cut, state: Up, heard: now, since: now, local: info.ID == LocalID}
	m.hash = mix(owner{hearth.Account(info.ID), ""}.hash())
	ms.by[info.ID] = m
	ms.rebuild()
	ms.mu.Unlock()
	if old != nil {
		ms.gone(old, "replaced", "a node with its id joined anew")
	}
	ms.tell(m, "joined", fmt.Sprintf("%d MiB at %s, for the fleet %s", info.MemoryMiB, cmp.Or(info.Address, "this process"), info.Fleet))
	ms.room(m)
	return nil
}

// LocalID is the id of the server's own node.
const LocalID = "local"

// rebuild makes the view anew. mu is held.
func (ms *Members) rebuild() {
	ms.version++
	v := &view{version: ms.version}
	var auto []*Member
	lows, highs := 0, 0
	for _, m := range ms.by {
		m.fleet = nil
		if m.local {
			v.local = m
		}
		if m.state != Up {
			continue
		}
		v.all = append(v.all, m)
		switch m.info.Fleet {
		case "low":
			m.fleet, lows = []Class{Low}, lows+1
		case "high":
			m.fleet, highs = []Class{High}, highs+1
		default:
			auto = append(auto, m)
		}
	}
	slices.SortFunc(auto, func(a, b *Member) int { return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.info.ID, b.info.ID)) })
	split(auto, lows, highs)
	slices.SortFunc(v.all, func(a, b *Member) int { return cmp.Compare(a.info.ID, b.info.ID) })
	for _, m := range v.all {
		if slices.Contains(m.fleet, Low) {
			v.low = append(v.low, m)
		}
		if slices.Contains(m.fleet, High) {
			v.high = append(v.high, m)
		}
	}
	v.alone = len(v.all) == 0 || len(v.all) == 1 && v.local != nil && v.all[0] == v.local
	ms.now.Store(v)
}

// split says of which fleets those nodes are that nobody has said it of: all
// of the one that has no node otherwise, or half of each. They come in an order
// that follows from their ids, so that one that joins or leaves moves at most
// one other.
func split(auto []*Member, lows, highs int) {
	half := (len(auto) + 1) / 2
	for i, m := range auto {
		switch {
		case len(auto) == 1 && lows == 0 && highs == 0:
			m.fleet = []Class{Low, High}
		case lows > 0 && highs == 0:
			m.fleet = []Class{High}
		case highs > 0 && lows == 0:
			m.fleet = []Class{Low}
		case i < half:
			m.fleet = []Class{Low}
		default:
			m.fleet = []Class{High}
		}
	}
}

// Heartbeat takes in that a node is there. False: it is not known, and has to
// join anew.
func (ms *Members) Heartbeat(id string, l Load) bool {
	ms.mu.Lock()
	m := ms.by[id]
	if m == nil {
		ms.mu.Unlock()
		return false
	}
	m.heard, m.load = ms.clock.Now(), l
	back := m.state == Suspect
	if back {
		m.state = Up
		ms.rebuild()
	}
	m.suspect.Store(false)
	ms.mu.Unlock()
	// What this router has there it knows better than a message on its way.
	elsewhere := 0
	for router, mib := range l.InFlightMiB {
		if router != ms.router {
			elsewhere += mib
		}
	}
	m.elsewhere.Store(int64(elsewhere))
	if back {
		ms.tell(m, "back", "it is heard of again")
	}
	ms.room(m)
	return true
}

// doubt says that a member could not be reached: it gets nothing new until it
// is heard of.
func (ms *Members) doubt(m *Member, why error) {
	if m.suspect.Swap(true) {
		return
	}
	ms.mu.Lock()
	known := ms.by[m.info.ID] == m && m.state == Up && !m.local
	if known {
		m.state = Suspect
		ms.rebuild()
	}
	ms.mu.Unlock()
	if known {
		ms.tell(m, "suspect", "it could not be reached: "+why.Error())
	}
}

// Drain has nothing new come to a node, or ends that. Errors: ResourceNotFound,
// and InvalidParameterValue for the server's own node where it is the only one.
func (ms *Members) Drain(id string, on bool) error {
	ms.mu.Lock()
	m := ms.find(id)
	if m == nil {
		ms.mu.Unlock()
		return hearth.Errorf(hearth.NotFound, "There is no node %s; hearth nodes lists them.", id)
	}
	state, what, why := Up, "undrained", "somebody asked for it"
	if on {
		state, what = Draining, "draining"
		if others := len(ms.now.Load().all); others == 1 && ms.now.Load().all[0] == m {
			ms.mu.Unlock()
			return hearth.Errorf(hearth.InvalidParameter, "%s is the only node that takes invocations: have another join before it is drained.", m.info.Name)
		}
	}
	changed := m.state != state
	m.state = state
	ms.rebuild()
	ms.mu.Unlock()
	if changed {
		ms.tell(m, what, why)
		ms.room(m)
	}
	return nil
}

// find is the member with that id or name. mu is held.
func (ms *Members) find(id string) *Member {
	if m := ms.by[id]; m != nil {
		return m
	}
	for _, m := range ms.by {
		if m.info.Name == id {
			return m
		}
	}
	return nil
}

// Leave is told by a node that stops, when what it ran has ended.
func (ms *Members) Leave(id string) {
	ms.mu.Lock()
	m := ms.by[id]
	if m != nil {
		delete(ms.by, id)
		ms.rebuild()
	}
	ms.mu.Unlock()
	if m != nil {
		ms.gone(m, "left", "it was told to stop")
	}
}

func (ms *Members) gone(m *Member, what, why string) {
	m.suspect.Store(true)
	if m.cut != nil {
		m.cut()
	}
	ms.tell(m, what, why)
}

// sweep finds those that were not heard of for too long.
func (ms *Members) sweep() {
	now := ms.clock.Now()
	var lost []*Member
	ms.mu.Lock()
	for id, m := range ms.by {
		if !m.local && now.Sub(m.heard) >= ms.lost {
			delete(ms.by, id)
			lost = append(lost, m)
		}
	}
	if len(lost) > 0 {
		ms.rebuild()
	}
	if !ms.closed {
		ms.timer.Reset(ms.lost / 6)
	}
	ms.mu.Unlock()
	for _, m := range lost {
		ms.gone(m, "lost", fmt.Sprintf("it was not heard of for %v", ms.lost))
	}
}

// close lets go of all members. What is asked of them is cut.
func (ms *Members) close() {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	ms.closed = true
	ms.timer.Stop()
	for _, m := range ms.by {
		if m.cut != nil {
			m.cut()
		}
	}
}

// Others calls do with every joined node, all at once, and returns when each
// has returned.
func (ms *Members) Others(ctx context.Context, do func(ctx context.Context, n hearth.Node)) {
	var all sync.WaitGroup
	for _, m := range ms.joined() {
		all.Go(func() { do(ctx, m.node) })
	}
	all.Wait()
}

// joined are the members beside the local one, whatever they do.
func (ms *Members) joined() (all []*Member) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for _, m := range ms.by {
		if !m.local {
			all = append(all, m)
		}
	}
	return all
}
