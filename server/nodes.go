package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/fleet"
	"github.com/hearth-faas/hearth/manager"
	"github.com/hearth-faas/hearth/node"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/worker"
)

// NodeTokenName is the file in the data folder that has the secret of a server
// and its nodes.
const NodeTokenName = "node.token"

// ownNode is a manager with its worker in this process, as a hearth.Node.
type ownNode struct {
	*manager.Manager
	worker *worker.Worker
}

// Prepare implements hearth.Node.
func (n ownNode) Prepare(ctx context.Context, f *hearth.Function) error {
	return n.worker.Prepare(ctx, f)
}

// Renew implements hearth.Node.
func (n ownNode) Renew() { n.worker.Renew() }

// nodes is the server's part in having nodes: the router, and where they join.
// A server that takes none has neither, and its invocations pass by neither.
type nodes struct {
	router   *fleet.Router
	token    node.Token
	listener net.Listener
	home     *node.HomeHandler
}

// openFleets opens the router, if nodes may join.
func (s *Server) openFleets(ctx context.Context) (err error) {
	if s.cfg.Nodes == "" {
		return nil
	}
	if s.nodes.token, err = node.CreateToken(s.dir(NodeTokenName)); err != nil {
		return store.Explain(s.cfg.DataDir, err)
	}
	var lc net.ListenConfig
	if s.nodes.listener, err = lc.Listen(ctx, "tcp", s.cfg.Nodes); err != nil {
		return fmt.Errorf("nodes: %w", err)
	}
	s.opened("listener of nodes", s.nodes.listener.Close)
	mib, err := s.cfg.FunctionMiB()
	if err != nil {
		return err
	}
	s.nodes.router, err = fleet.Open(ctx, fleet.Config{
		Local: ownNode{s.manager, s.worker}, LocalInfo: fleet.Info{Name: "local", Fleet: s.cfg.Fleet, MemoryMiB: mib, Version: s.cfg.Version},
		Clock: s.clock, Recorder: s.decisions, Log: s.log, Store: s.records, Policy: s.policies.Of,
		Used: s.manager.Used, Criteria: s.cfg.criteria(),
	})
	if err != nil {
		return store.Explain(s.cfg.DataDir, err)
	}
	s.opened("fleets", s.nodes.router.Close)
	s.metrics.MustRegister(fleetMetrics{s.nodes.router})
	return nil
}

// criteria are the server's own for how often code runs.
func (c Config) criteria() fleet.Criteria {
	f := fleet.DefaultCriteria
	f.Window, f.High, f.Low = c.FleetWindow, float64(c.FleetHigh), float64(c.FleetHigh)/2
	return f
}

// placer is who the frontend hands invocations to.
func (s *Server) placer() hearth.Invoker {
	if s.nodes.router != nil {
		return s.nodes.router
	}
	return s.manager
}

// openNodes makes what nodes join. It is served once the server is ready.
func (s *Server) openNodes(context.Context) error {
	if s.nodes.router == nil {
		return nil
	}
	r := s.nodes.router
	s.nodes.home = &node.HomeHandler{
		Join: s.join, Heartbeat: r.Heartbeat, Leave: r.Leave,
		Drain:    func(id string) error { return r.Drain(id, true) },
		Packages: s.registry, Session: s.session, Logs: s.logs, Recorder: s.decisions, Meter: s.meter, API: s.inside.Handler, Log: s.log,
	}
	return nil
}

// serveNodes serves them until the listener is closed.
func (s *Server) serveNodes(failed chan<- error) {
	if s.nodes.home == nil {
		return
	}
	if err := s.nodes.home.Serve(s.nodes.listener, s.nodes.token); !errors.Is(err, net.ErrClosed) {
		failed <- fmt.Errorf("nodes: %w", err)
	}
}

// joinWait bounds how long a node may take to answer its server's first
// question.
const joinWait = 10 * time.Second

// join takes a node in that can be reached.
func (s *Server) join(ctx context.Context, info fleet.Info) (node.Welcome, error) {
	c, err := node.NewClient(node.ClientConfig{Address: info.Address, Router: fleet.DefaultRouter, Token: s.nodes.token, Clock: s.clock, Policy: s.policies.Of, Weight: s.weight, Log: s.log})
	if err != nil {
		return node.Welcome{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, joinWait)
	defer cancel()
	if err := c.Ping(ctx); err != nil {
		c.Close()
		return node.Welcome{}, hearth.Errorf(hearth.InvalidParameter, "The server does not reach the node at %s, where it says it is: have it --listen at an address that the server reaches. %w", info.Address, err)
	}
	if err := s.nodes.router.Join(info, c, c.Close); err != nil {
		c.Close()
		return node.Welcome{}, err
	}
	if s.rotatedSince(s.clock.Now().Add(-sessionLongest)) {
		c.Renew() // it may have containers of before, and not have been told
	}
	return node.Welcome{Region: s.cfg.Region, HeartbeatEvery: fleet.HeartbeatEvery, Version: s.cfg.Version}, nil
}

// overtake has new code ready everywhere where old is.
func (s *Server) overtake(ctx context.Context, old, now *hearth.Function) {
	s.everywhere(ctx, func(ctx context.Context, n hearth.Node) { n.Overtake(ctx, old, now) })
}

// ahead has the version that an alias is about to point to ready everywhere.
func (s *Server) ahead(ctx context.Context, old, now *hearth.Function, share float64) {
	s.everywhere(ctx, func(ctx context.Context, n hearth.Node) { n.Ahead(ctx, old, now, share) })
}

func (s *Server) everywhere(ctx context.Context, do func(context.Context, hearth.Node)) {
	others := make(chan struct{})
	go func() {
		defer close(others)
		if s.nodes.router != nil {
			s.nodes.router.Others(ctx, do)
		}
	}()
	do(ctx, ownNode{s.manager, s.worker})
	<-others
}

// tellNodes tells those that have joined what the server's own node is told.
func (s *Server) tellNodes(do func(hearth.Node)) {
	if s.nodes.router != nil {
		s.nodes.router.Others(context.Background(), func(_ context.Context, n hearth.Node) { do(n) })
	}
}

// hereOnly has predictions make ready what runs on the server's own node: what
// is elsewhere would be made here in vain.
type hereOnly struct{ s *Server }

func (h hereOnly) Prepare(p manager.Preparation) manager.Prepared {
	if r := h.s.nodes.router; r != nil && p.Function != nil && !r.Here(p.Function) {
		return manager.Prepared{Why: "its code runs on other nodes, where nothing is made ready ahead of invocations"}
	}
	return h.s.manager.Prepare(p)
}

func (h hereOnly) ColdStart(f *hearth.Function) time.Duration { return h.s.manager.ColdStart(f) }
func (h hereOnly) RunTime(f *hearth.Function) time.Duration   { return h.s.manager.RunTime(f) }
func (h hereOnly) Serving(container string) (*hearth.Invocation, bool) {
	return h.s.manager.Serving(container)
}

// nodeList tells the control API of nodes.
type nodeList struct{ s *Server }

// List implements control.Nodes.
func (n nodeList) List(context.Context) (list control.NodeList, err error) {
	r := n.s.nodes.router
	if r == nil {
		stats := n.s.manager.Stats()
		return control.NodeList{Nodes: []control.Node{{
			Name: "local", ID: fleet.LocalID, Local: true, State: "up", Fleet: "auto", Fleets: []string{"low", "high"}, MemoryMiB: stats.CapacityMiB,
			CommittedMiB: stats.CommittedMiB, Containers: stats.Containers, InFlight: stats.InFlight, Version: n.s.cfg.Version,
		}}}, nil
	}
	list.Listening = n.s.nodes.listener.Addr().String()
	counts := r.Counts()
	list.WaitingLow, list.WaitingHigh = counts.Waiting[fleet.Low], counts.Waiting[fleet.High]
	for _, m := range r.List() {
		one := control.Node{
			Name: m.Name, ID: m.ID, Address: m.Address, Local: m.Local, State: string(m.State), Fleet: m.Fleet, MemoryMiB: m.MemoryMiB, CommittedMiB: m.Load.Committed,
			Containers: m.Load.Containers, InFlight: m.InFlight, WarmMiB: m.HomesMiB, Served: m.Served, Version: m.Version, Since: m.Since, Heard: m.Heard,
		}
		for _, c := range m.Fleets {
			one.Fleets = append(one.Fleets, c.String())
		}
		if m.Local {
			stats := n.s.manager.Stats()
			one.CommittedMiB, one.Containers = stats.CommittedMiB, stats.Containers
		}
		list.Nodes = append(list.Nodes, one)
	}
	return list, nil
}

// Drain implements control.Nodes.
func (n nodeList) Drain(_ context.Context, id string, on bool) error {
	if n.s.nodes.router == nil {
		return hearth.Errorf(hearth.NotFound, "This server takes no nodes, and so has none to drain: hearth up --nodes HOST:PORT has it take some.")
	}
	return n.s.nodes.router.Drain(id, on)
}

// routed tells which fleet a function's code is of, and why.
func (l learned) routed(account hearth.Account, function string) []control.Section {
	r := l.s.nodes.router
	if r == nil {
		return nil
	}
	if f := l.latest(account, function); f != nil {
		if why := r.Local(f); why != "" {
			return []control.Section{{System: "routing", Says: []string{"it runs on the server's own node: " + why}}}
		}
	}
	c := r.History.Find(account, function)
	if c == nil {
		return []control.Section{{System: "routing", Says: []string{"nothing is known of how often it is called: it is low-volume code until that is"}}}
	}
	now := l.s.clock.Now()
	v, seen, crit := c.Class(now), c.Seen(now), r.Criteria(account, function)
	says := []string{fmt.Sprintf("%s-volume code: %s", v.Class, v.Why)}
	if !v.Since.IsZero() {
		says[0] += fmt.Sprintf("; it became that %v ago", now.Sub(v.Since).Round(time.Second))
	}
	next := fmt.Sprintf("it becomes high-volume code at %.0f invocations in %v; there were %.0f", crit.High, crit.Window, seen.Count)
	if v.Class == fleet.High {
		next = fmt.Sprintf("it becomes low-volume code below %.0f invocations in %v; there were %.0f", crit.Low, crit.Window, seen.Count)
	}
	says = append(says, next)
	if home := c.Home(); home != "" && v.Class == fleet.Low {
		says = append(says, "it is kept warm on the node "+home)
	}
	return []control.Section{{System: "routing", Says: says}}
}

// fleetMetrics tells Prometheus of nodes and how they were chosen.
type fleetMetrics struct{ router *fleet.Router }

var (
	nodesDesc       = desc("nodes", "Nodes, by state.", "state")
	nodeMemoryDesc  = desc("node_memory_mebibytes", "Memory that a node may promise to functions.", "node")
	nodeFlightDesc  = desc("node_invocations_in_flight", "Invocations that this server has under way on a node.", "node")
	nodeServedDesc  = desc("node_invocations_total", "Invocations that a node served, since it joined.", "node")
	nodeWarmDesc    = desc("node_low_volume_mebibytes", "Memory of the low-volume code that a node keeps warm.", "node")
	routedDesc      = desc("routed_total", "Invocations, by the class of their code.", "class")
	chosenDesc      = desc("node_choices_total", "Choices of a node, by how it was made: home, spread, fallback, waited, refused or gone.", "how")
	classChangeDesc = desc("fleet_changes_total", "Functions whose class has changed, by what it became.", "class")
	fleetWaitDesc   = desc("fleet_waiting", "Invocations for which no node has room, by the class of their code.", "class")
	countedDesc     = desc("routing_functions", "Functions of which it is known how often they are called.")
)

// Describe implements prometheus.Collector.
func (f fleetMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{nodesDesc, nodeMemoryDesc, nodeFlightDesc, nodeServedDesc, nodeWarmDesc, routedDesc, chosenDesc, classChangeDesc, fleetWaitDesc, countedDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (f fleetMetrics) Collect(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	states := map[fleet.State]int{fleet.Up: 0, fleet.Draining: 0, fleet.Suspect: 0}
	for _, m := range f.router.List() {
		states[m.State]++
		gauge(nodeMemoryDesc, m.MemoryMiB, m.Name)
		gauge(nodeFlightDesc, m.InFlight, m.Name)
		gauge(nodeWarmDesc, m.HomesMiB, m.Name)
		count(nodeServedDesc, m.Served, m.Name)
	}
	for state, n := range states {
		gauge(nodesDesc, n, string(state))
	}
	c := f.router.Counts()
	for how, n := range map[string]uint64{"home": c.Home, "spread": c.Spread, "fallback": c.Fallback, "waited": c.Waited, "refused": c.Refused, "gone": c.Gone} {
		count(chosenDesc, n, how)
	}
	for class, n := range map[fleet.Class][3]uint64{fleet.Low: {c.Low, c.ToLow, uint64(c.Waiting[fleet.Low])}, fleet.High: {c.High, c.ToHigh, uint64(c.Waiting[fleet.High])}} {
		count(routedDesc, n[0], class.String())
		count(classChangeDesc, n[1], class.String())
		gauge(fleetWaitDesc, int(n[2]), class.String())
	}
	gauge(countedDesc, c.Functions)
}
