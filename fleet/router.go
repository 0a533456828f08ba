// Package fleet chooses the node on which an invocation runs, where there are
// several, by how often its code is called (S02).
//
// Code that is called seldom goes to the same node each time, of a fleet for
// such code, so that it finds there the container that it left; code that is
// called often is spread over the nodes of another. How often, is counted by
// each router and kept in the store, which the routers of several servers may
// share. What decides is pure and over a clock: Window, Criteria, the order of
// rendezvous hashing and its bounds.
package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
)

// Config is what a Router is made of. Local, LocalInfo and Clock are needed.
type Config struct {
	// Local is the server's own node, and LocalInfo what it is; its ID is
	// LocalID.
	Local     hearth.Node
	LocalInfo Info
	Clock     hearth.Clock
	Recorder  hearth.Recorder // nil: decisions are not recorded
	Log       *slog.Logger
	// Store keeps what was counted, and shares it among routers; Router is the
	// name of this one, which no other has that uses the same Store or nodes;
	// "" is DefaultRouter.
	Store  store.Store
	Router string
	// Criteria are those of functions of whom nobody said anything; zero is
	// DefaultCriteria.
	Criteria Criteria
	// Policy tells how a function wants to be decided for. Nil is that nobody
	// said anything.
	Policy func(hearth.Account, string) *hearth.ExecutionPolicy
	// Used hears of each invocation that another node served. Nil is nobody.
	Used func(*hearth.Invocation)
	// QueueWait bounds how long an invocation waits for a node with room; 0 is
	// 10 s. LostAfter is how long after its last heartbeat a node is lost; 0
	// is 6 s.
	QueueWait, LostAfter time.Duration
	Seed                 uint64
}

// DefaultRouter is the name of the router of a server that is the only one.
const DefaultRouter = "1"

// Router is the hearth.Invoker over the server's own node and those that have
// joined it. Safe for concurrent use.
type Router struct {
	*Members
	cfg     Config
	History *History
	queues  [2]queue // by Class
	pinned  sync.Map // of struct{} by string: versions with something of their own on the local node
	random  atomic.Uint64
	count   struct {
		class           [2]atomic.Uint64 // invocations by class
		home, spread    atomic.Uint64
		fallback, waits atomic.Uint64
		refused, gone   atomic.Uint64
		changes         [2]atomic.Uint64 // to the class
	}
}

// Open makes a Router.
func Open(ctx context.Context, cfg Config) (*Router, error) {
	if cfg.Local == nil || cfg.Clock == nil {
		return nil, errors.New("fleet: Config needs a Local node and a Clock")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Criteria.Window == 0 {
		cfg.Criteria = DefaultCriteria
	}
	cfg.QueueWait = cmp.Or(cfg.QueueWait, 10*time.Second)
	cfg.LocalInfo.ID = LocalID
	cfg.Router = cmp.Or(cfg.Router, DefaultRouter)
	r := &Router{cfg: cfg}
	r.random.Store(cfg.Seed)
	var err error
	r.History, err = OpenHistory(ctx, HistoryConfig{
		Store: cfg.Store, Router: cfg.Router, Clock: cfg.Clock, Log: cfg.Log, Criteria: r.criteria, Changed: r.changed,
		Every: min(max(cfg.Criteria.Window/slots, 250*time.Millisecond), 15*time.Second),
	})
	if err != nil {
		return nil, err
	}
	r.Members = newMembers(cfg.Router, cfg.Clock, cfg.LostAfter, r.told, r.roomAt)
	if err := r.Join(cfg.LocalInfo, cfg.Local, nil); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// Close keeps what was counted. Nothing is lost track of that still runs.
func (r *Router) Close() error {
	r.Members.close()
	return r.History.Close()
}

func (r *Router) policy(account hearth.Account, function string) *hearth.RoutingPolicy {
	if r.cfg.Policy == nil {
		return nil
	}
	return r.cfg.Policy(account, function).Routing
}

func (r *Router) criteria(account hearth.Account, function string) Criteria {
	return r.cfg.Criteria.With(r.policy(account, function))
}

// Criteria are those that the function is judged by.
func (r *Router) Criteria(account hearth.Account, function string) Criteria {
	return r.criteria(account, function)
}

// changed records that code has another class.
func (r *Router) changed(account hearth.Account, function string, v Verdict) {
	r.count.changes[v.Class].Add(1)
	if c := r.History.Find(account, function); c != nil && v.Class == High {
		c.leaveHome()
	}
	r.record(&hearth.Decision{Kind: hearth.DecisionRoute, Account: account, Function: function, Fleet: v.Class.String(),
		Chosen: v.Class.String(), Why: v.Why})
}

// told records what became of a member.
func (r *Router) told(m *Member, what, why string) {
	if m.local && what == "joined" {
		return // it always has
	}
	r.cfg.Log.Info("a node: "+what, "node", m.info.Name, "address", m.info.Address, "because", why)
	r.record(&hearth.Decision{Kind: hearth.DecisionNode, Node: m.info.Name, Chosen: what, Why: why})
}

func (r *Router) record(d *hearth.Decision) {
	if r.cfg.Recorder != nil {
		r.cfg.Recorder.Record(d)
	}
}

// Pin keeps what a function has for itself on the server's own node: the
// versions that are provisioned there.
func (r *Router) Pin(c *hearth.Concurrency) {
	prefix := string(c.Account) + "/" + c.Function + ":"
	keep := map[string]bool{}
	for _, p := range c.Provisions {
		if p.Count > 0 {
			keep[prefix+p.Version] = true
		}
	}
	r.pinned.Range(func(k, _ any) bool {
		if s := k.(string); len(s) > len(prefix) && s[:len(prefix)] == prefix && !keep[s] {
			r.pinned.Delete(k)
		}
		return true
	})
	for k := range keep {
		r.pinned.Store(k, struct{}{})
	}
}

// Local tells why f runs on the server's own node only; "" if it may run on any.
func (r *Router) Local(f *hearth.Function) string {
	switch {
	case f.PackageType == "Image":
		return "it is an image, and images are on the server's own node"
	case f.CapacityProvider != nil:
		return "its capacity provider is of the server's own node"
	case r.policy(f.Account, f.Name).Local():
		return "its execution policy says so"
	case r.ofSubpool(f):
		return "its kind of capacity is of the server's own node"
	}
	if _, ok := r.pinned.Load(string(f.Account) + "/" + f.Name + ":" + f.Version); ok {
		return "its provisioned environments are on the server's own node"
	}
	return ""
}

// ofSubpool tells whether f's policy has it on another kind of capacity than the
// fixed one, which other nodes do not have.
func (r *Router) ofSubpool(f *hearth.Function) bool {
	if r.cfg.Policy == nil {
		return false
	}
	c := r.cfg.Policy(f.Account, f.Name).Capacity
	return c != nil && (c.Kind == string(hearth.CapacityVariable) || c.Dedicated > 0)
}

// Here tells whether f runs on the server's own node, as far as is known.
func (r *Router) Here(f *hearth.Function) bool {
	v := r.now.Load()
	if v.alone || r.Local(f) != "" {
		return true
	}
	c := r.History.Find(f.Account, f.Name)
	if c == nil || v.local == nil || r.policy(f.Account, f.Name).Random() {
		return false
	}
	if c.Class(r.cfg.Clock.Now()).Class == High {
		return slices.Contains(v.high, v.local)
	}
	return c.Home() == v.local.info.Name
}

// Invoke runs inv on a node. Where there is only the server's own, it runs
// there, and what is counted is counted.
//
// Errors: those of the nodes, but for NodeGone; TooManyRequests if no node had
// room in time; Service if the node was lost after the function had seen the
// event, or may have.
func (r *Router) Invoke(ctx context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
	f := inv.Function
	c := r.History.Of(f.Account, f.Name)
	verdict := c.Note(f, r.cfg.Clock.Now())
	v := r.now.Load()
	if v.alone {
		return r.cfg.Local.Invoke(ctx, inv)
	}
	r.count.class[verdict.Class].Add(1)
	mib := max(f.MemoryMiB, inv.MemoryMiB)
	if why := r.Local(f); why != "" {
		m := v.local
		m.used.Add(int64(mib))
		m.running.Add(1)
		return r.on(ctx, m, inv, mib, "", why)
	}
	var last error
	for try := 0; try <= len(v.all); try++ {
		m, how, err := r.find(ctx, c, verdict, inv, mib)
		if err != nil {
			return nil, err
		}
		res, err := r.on(ctx, m, inv, mib, verdict.Class.String(), how)
		if err == nil || hearth.KindOf(err) != hearth.NodeGone {
			return res, err
		}
		r.count.gone.Add(1)
		r.doubt(m, err)
		last = err
		if ctx.Err() != nil {
			break
		}
	}
	return nil, &hearth.Error{Op: "fleet.Invoke", Subject: f.QualifiedARN(), Kind: hearth.Service,
		Message: "The machines that could run the function ended unexpectedly.", Err: last}
}

// on runs inv on m, whose room was taken for it, and gives that back.
func (r *Router) on(ctx context.Context, m *Member, inv *hearth.Invocation, mib int, class, how string) (*hearth.Result, error) {
	defer func() {
		m.used.Add(-int64(mib))
		m.running.Add(-1)
		r.roomAt(m)
	}()
	res, err := m.node.Invoke(ctx, inv)
	inv.Placement.Node, inv.Placement.Fleet = m.info.Name, class
	if inv.Placement.Why != "" {
		inv.Placement.Why = how + "; there: " + inv.Placement.Why
	}
	if inv.Placement.Path != "" {
		m.served.Add(1)
		if !m.local && r.cfg.Used != nil {
			r.cfg.Used(inv)
		}
	}
	return res, err
}

// roomAt has a member take from the queues what it has room for: its own
// fleet's first.
func (r *Router) roomAt(m *Member) {
	if r.queues[Low].n.Load() == 0 && r.queues[High].n.Load() == 0 || r.now.Load() == nil {
		return
	}
	for _, other := range r.now.Load().all {
		if other != m {
			continue
		}
		first := Low
		for _, h := range r.now.Load().high {
			if h == m {
				first = High
			}
		}
		r.queues[first].takeFor(m)
		r.queues[1-first].takeFor(m)
	}
}

// find takes room for inv on a node, and tells why it is that.
func (r *Router) find(ctx context.Context, c *Code, verdict Verdict, inv *hearth.Invocation, mib int) (*Member, string, error) {
	v := r.now.Load()
	if m, how := r.choose(v, c, verdict, inv.Function, mib); m != nil {
		return m, how, nil
	}
	w := &waiter{f: inv.Function, mib: mib, took: make(chan *Member, 1)}
	q := &r.queues[verdict.Class]
	q.add(w)
	r.count.waits.Add(1)
	began := r.cfg.Clock.Now()
	for _, m := range r.now.Load().all { // room may have come between the two
		q.takeFor(m)
	}
	over := make(chan struct{})
	timer := r.cfg.Clock.AfterFunc(r.cfg.QueueWait, func() { close(over) })
	defer timer.Stop()
	var refuse *hearth.Error
	select {
	case m := <-w.took:
		return m, r.waited(m, verdict, began), nil
	case <-over:
		inv.Placement.Why = "no node had room for it in time"
		refuse = &hearth.Error{Kind: hearth.TooManyRequests, Message: "Rate Exceeded.", Reason: hearth.ReasonConcurrency, Err: errFull}
	case <-ctx.Done():
		refuse = &hearth.Error{Kind: hearth.Canceled, Message: "The caller went away.", Err: context.Cause(ctx)}
	}
	if !q.remove(w) { // a node took it at the last moment
		m := <-w.took
		return m, r.waited(m, verdict, began), nil
	}
	r.count.refused.Add(1)
	refuse.Op, refuse.Subject = "fleet.find", inv.Function.QualifiedARN()
	inv.Timeline.End(hearth.StagePlace, r.cfg.Clock.Now())
	return nil, "", refuse
}

var errFull = errors.New("no node had room in time")

func (r *Router) waited(m *Member, verdict Verdict, began time.Time) string {
	return fmt.Sprintf("%s-volume code (%s) waited %v until %s took it, since no node had room", verdict.Class, verdict.Why,
		r.cfg.Clock.Now().Sub(began).Round(time.Millisecond), m.info.Name)
}

// choose takes room on the node that the class asks for, else on one of the
// other fleet; nil if none has any.
func (r *Router) choose(v *view, c *Code, verdict Verdict, f *hearth.Function, mib int) (*Member, string) {
	if r.policy(f.Account, f.Name).Random() {
		if m := r.spread(v.all, f, mib, false); m != nil {
			return m, "a node at random"
		}
		return nil, ""
	}
	what := fmt.Sprintf("%s-volume code (%s)", verdict.Class, verdict.Why)
	own, other := v.low, v.high
	if verdict.Class == High {
		own, other = v.high, v.low
		if m := r.spread(own, f, mib, true); m != nil {
			r.count.spread.Add(1)
			return m, what + ", spread: the less loaded of two"
		}
	} else if len(own) > 0 {
		h := c.homeOf(v, int64(mib))
		if h.m.serves(f, mib) && h.m.enter(mib) {
			r.count.home.Add(1)
			return h.m, what + ", on the node that keeps it warm"
		}
		for _, m := range h.order {
			if m != h.m && m.serves(f, mib) && m.enter(mib) {
				r.count.fallback.Add(1)
				return m, what + ", on the next in its order, since " + h.m.info.Name + " is full"
			}
		}
	}
	if m := r.spread(other, f, mib, true); m != nil {
		r.count.fallback.Add(1)
		if len(own) == 0 {
			return m, what + ", on a node of the other fleet, since its own has none"
		}
		return m, what + ", on a node of the other fleet, since its own is full"
	}
	return nil, ""
}

// spread takes room on the less loaded of two nodes at random, or without
// loaded on one at random; where those are full, on the least loaded that is
// not.
func (r *Router) spread(members []*Member, f *hearth.Function, mib int, loaded bool) *Member {
	n := len(members)
	if n == 0 {
		return nil
	}
	a, b := members[r.draw(n)], members[r.draw(n)]
	if loaded && b.share() < a.share() {
		a = b
	}
	if a.serves(f, mib) && a.enter(mib) {
		return a
	}
	// Few are full at a time; those that are not are tried from anywhere on.
	for start, i := r.draw(n), 0; i < n; i++ {
		if m := members[(start+i)%n]; m.serves(f, mib) && m.enter(mib) {
			return m
		}
	}
	return nil
}

// draw is a number below n. A seed makes the row of them the same.
func (r *Router) draw(n int) int {
	if r.cfg.Seed == 0 {
		return rand.IntN(n)
	}
	return int(mix(r.random.Add(0x9e3779b97f4a7c15)) % uint64(n))
}
