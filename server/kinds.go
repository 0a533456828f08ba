package server

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/async"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/manager"
	"github.com/hearth-faas/hearth/market"
)

// Capacity of several kinds: the feed of variable capacity, and what is told of
// all of it.

// openFeed begins to read the feed, which tells the manager and the queue of
// what can wait.
func (s *Server) openFeed(context.Context) (err error) {
	s.metrics.MustRegister(capacityMetrics{s})
	if s.cfg.CapacityFeed == "" {
		return nil
	}
	s.feed, err = market.NewFeed(market.FeedConfig{
		Source: s.cfg.CapacityFeed, Every: s.cfg.CapacityPoll, Stale: s.cfg.CapacityStale, Clock: s.clock, Log: s.log, Changed: s.marketChanged,
	})
	if err != nil {
		return fmt.Errorf("capacity-feed: %w", err)
	}
	s.opened("capacity feed", s.feed.Close)
	return nil
}

func (s *Server) marketChanged(m market.State) {
	s.timing.Note(s.clock.Now(), m)
	s.manager.Market(m)
	s.async.Reconsider()
}

// eventHolds tells whether a function's asynchronous invocations may have to
// wait for a better time.
func (s *Server) eventHolds(account hearth.Account, function string) bool {
	return s.timing.Holds(s.policies.Of(account, function).Capacity)
}

// eventStart decides whether the first of those that wait may begin.
func (s *Server) eventStart(h async.Held) async.Start {
	f, err := s.registry.Resolve(context.Background(), h.Account, h.Function, "")
	if err != nil { // the attempt finds out why
		return async.Start{Now: true, Why: "its function can't be looked at"}
	}
	st := s.timing.Start(s.policies.Of(h.Account, h.Function).Capacity, f.MemoryMiB, h.Running, h.Accepted, s.eventPolicy(h.Account, h.Function, "").MaxAge, s.clock.Now())
	return async.StartOf(st)
}

// functionsOf lists an account's functions as an unqualified invocation finds
// them; none before the registry is there.
func (s *Server) functionsOf(account hearth.Account) (all []*hearth.Function) {
	select {
	case <-s.registered:
	default:
		return nil
	}
	const page = 50
	for marker := ""; ; {
		fs, next, err := s.registry.List(context.Background(), account, marker, page, false)
		if err != nil {
			s.log.Warn("an account's functions can't be listed", "account", account, "error", err)
			return all
		}
		all = append(all, fs...)
		if marker = next; marker == "" {
			return all
		}
	}
}

// kinds tells of the kinds of capacity, in the words of the control API.
type kinds struct{ s *Server }

// Capacity implements control.Capacities.
func (k kinds) Capacity(_ context.Context, account hearth.Account) (control.Capacity, error) {
	c := control.Capacity{Subpools: k.subpools(account)}
	if f := k.s.feed; f != nil {
		st := f.State()
		c.Feed = &control.Feed{Source: f.Source(), Known: st.Known, Fresh: st.Fresh, Price: st.Price, AvailableMiB: st.AvailableMiB, Error: st.Why}
		if !st.At.IsZero() {
			c.Feed.At = &st.At
		}
	}
	for _, f := range k.s.functionsOf(account) {
		c.Functions = append(c.Functions, k.spent(account, f.Name)...)
	}
	return c, nil
}

// spent is what a function has cost, by kind.
func (k kinds) spent(account hearth.Account, function string) (all []control.Spending) {
	by := k.s.manager.Spent(account, function)
	for _, kind := range []hearth.CapacityKind{hearth.CapacityFixed, hearth.CapacityVariable, hearth.CapacityDedicated} {
		if one, ok := by[kind]; ok {
			all = append(all, control.Spending{Function: function, Kind: kind, Invocations: one.Invocations, GiBSeconds: one.GiBSeconds, Cost: one.Cost, Withdrawn: one.Withdrawn})
		}
	}
	return all
}

// subpools are those that an account may know of: all but others' own.
func (k kinds) subpools(account hearth.Account) []control.Subpool {
	return slices.DeleteFunc(k.every(), func(p control.Subpool) bool { return p.Account != "" && p.Account != account })
}

// every are all that there are.
func (k kinds) every() (all []control.Subpool) {
	for _, p := range k.s.manager.Subpools() {
		if p.Kind == hearth.CapacityVariable && p.MostMiB == 0 {
			continue
		}
		all = append(all, control.Subpool{
			Kind: p.Kind, Account: p.Account, CapacityMiB: p.CapacityMiB, CommittedMiB: p.CommittedMiB, MostMiB: p.MostMiB,
			Instances: p.Instances, Warming: p.Warming, Waiting: p.Waiting, Price: p.Price,
			Invocations: p.Used.Invocations, GiBSeconds: p.Used.GiBSeconds, Cost: p.Used.Cost, Withdrawn: p.Used.Withdrawn,
		})
	}
	return all
}

// several tells whether there is more than one kind, or capacity has a price.
func (k kinds) several(all []control.Subpool) bool {
	return len(all) > 1 || k.s.cfg.FixedPrice > 0
}

// cost tells, for hearth explain, what a function has cost.
func (l learned) cost(account hearth.Account, function string) []control.Section {
	var says []string
	for _, one := range kinds(l).spent(account, function) {
		said := fmt.Sprintf("on %s capacity %d invocations used %.3g GiB·s and cost %.6g", one.Kind, one.Invocations, one.GiBSeconds, one.Cost)
		if one.Withdrawn > 0 {
			said += fmt.Sprintf("; %d were cut since their capacity was withdrawn", one.Withdrawn)
		}
		says = append(says, said)
	}
	p := l.s.policies.Of(account, function).Capacity
	if p.Variable() {
		st := l.market()
		if ok, why := st.Suits(p.MaxPrice); ok {
			says = append(says, fmt.Sprintf("called now it would run on variable capacity, at a price of %v", st.Price))
		} else {
			then := map[string]string{"wait": "wait for up to " + p.Wait().String(), "spill": "run on fixed capacity", "refuse": "be refused"}[p.Short(hearth.CapacityVariable)]
			says = append(says, fmt.Sprintf("called now it would %s: %s", then, why))
		}
	}
	if p.Delay() > 0 {
		says = append(says, fmt.Sprintf("asynchronous invocations are started in cheap or idle periods, %v after they were accepted at the latest", p.Delay().Round(time.Second)))
	}
	if says == nil {
		return nil
	}
	return []control.Section{{System: "capacity", Says: says}}
}

// market is what is known of variable capacity.
func (l learned) market() market.State {
	if l.s.feed == nil {
		return market.State{}
	}
	return l.s.feed.State()
}

// capacityMetrics tells Prometheus of the kinds of capacity.
type capacityMetrics struct{ s *Server }

var (
	kindCapacityDesc  = desc("capacity_mebibytes", "Memory that may be promised, by kind of capacity.", "kind")
	kindCommittedDesc = desc("capacity_committed_mebibytes", "Memory promised, by kind of capacity.", "kind")
	kindPriceDesc     = desc("capacity_price", "What a GiB costs an hour, by kind of capacity.", "kind")
	kindWaitingDesc   = desc("capacity_waiting", "Invocations that wait for a container, by kind of capacity.", "kind")
	kindRunsDesc      = desc("capacity_invocations_total", "Invocations, by kind of the capacity that they ran on.", "kind")
	kindUseDesc       = desc("capacity_gibibyte_seconds_total", "Memory-time of invocations, by kind of capacity.", "kind")
	kindCostDesc      = desc("capacity_cost_total", "What invocations have cost, by kind of capacity.", "kind")
	kindCutDesc       = desc("capacity_cut_total", "Invocations that were cut since their capacity was withdrawn, by its kind.", "kind")
	withdrawnDesc     = desc("capacity_withdrawn_containers_total", "Containers of variable capacity that ended since it went.")
	spilledDesc       = desc("capacity_spilled_total", "Invocations that found no room in their own capacity, and took fixed.")
	feedFreshDesc     = desc("capacity_feed_fresh", "1 if what the feed of variable capacity said last is not too old.")
)

// Describe implements prometheus.Collector.
func (c capacityMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{kindCapacityDesc, kindCommittedDesc, kindPriceDesc, kindWaitingDesc, kindRunsDesc, kindUseDesc, kindCostDesc,
		kindCutDesc, withdrawnDesc, spilledDesc, feedFreshDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c capacityMetrics) Collect(ch chan<- prometheus.Metric) {
	sums := map[hearth.CapacityKind]*manager.SubpoolStats{}
	for _, p := range c.s.manager.Subpools() {
		sum := sums[p.Kind]
		if sum == nil {
			sum = &manager.SubpoolStats{Kind: p.Kind, Price: p.Price}
			sums[p.Kind] = sum
		}
		sum.CapacityMiB += p.CapacityMiB
		sum.CommittedMiB += p.CommittedMiB
		sum.Waiting += p.Waiting
		sum.Used.Invocations += p.Used.Invocations
		sum.Used.GiBSeconds += p.Used.GiBSeconds
		sum.Used.Cost += p.Used.Cost
		sum.Used.Withdrawn += p.Used.Withdrawn
	}
	send := func(d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, t, v, labels...)
	}
	for kind, p := range sums {
		k := string(kind)
		send(kindCapacityDesc, prometheus.GaugeValue, float64(p.CapacityMiB), k)
		send(kindCommittedDesc, prometheus.GaugeValue, float64(p.CommittedMiB), k)
		send(kindPriceDesc, prometheus.GaugeValue, p.Price, k)
		send(kindWaitingDesc, prometheus.GaugeValue, float64(p.Waiting), k)
		send(kindRunsDesc, prometheus.CounterValue, float64(p.Used.Invocations), k)
		send(kindUseDesc, prometheus.CounterValue, p.Used.GiBSeconds, k)
		send(kindCostDesc, prometheus.CounterValue, p.Used.Cost, k)
		send(kindCutDesc, prometheus.CounterValue, float64(p.Used.Withdrawn), k)
	}
	st := c.s.manager.Stats()
	send(withdrawnDesc, prometheus.CounterValue, float64(st.Withdrawn))
	send(spilledDesc, prometheus.CounterValue, float64(st.Spilled))
	fresh := 0.0
	if learned(c).market().Fresh {
		fresh = 1
	}
	send(feedFreshDesc, prometheus.GaugeValue, fresh)
}
