package server

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/deadline"
	"github.com/hearth-faas/hearth/store"
)

// openDeadline opens what runs calls in time for when they are needed.
func (s *Server) openDeadline(ctx context.Context) (err error) {
	s.calls, err = deadline.Open(ctx, deadline.Config{
		Functions: s.tasks, Run: s.frontend, Done: s.frontend.Done, Spare: s.spare, Policy: s.policies.Of,
		Store: s.records, Clock: s.clock, Log: s.log,
	})
	if err != nil {
		return store.Explain(s.cfg.DataDir, err)
	}
	s.opened("calls", s.calls.Close)
	s.metrics.MustRegister(callMetrics{s.calls})
	return nil
}

// spareShare is which share of the memory that a function runs on may be at work
// for calls that nobody waits for to be run: the rest is for those that somebody
// does.
const spareShare = 0.7

// spare reports whether a call of f that nobody waits for yet may run.
func (s *Server) spare(f *hearth.Function) bool {
	busy, capacity := s.manager.BusyMiB(f)
	return float64(busy+f.MemoryMiB) <= spareShare*float64(capacity)
}

// deferred tells how what a function calls without needing the answer yet is
// run, if somebody has said it.
func (l learned) deferred(account hearth.Account, function string) []control.Section {
	said := func(p *hearth.ExecutionPolicy) bool {
		return p != nil && p.Deadline != nil && p.Deadline.Mode != ""
	}
	if !said(l.s.policies.Own(account, function)) && !said(l.s.policies.Own(account, "")) {
		return nil
	}
	says := "what it calls without needing the answer yet runs in spare capacity, and in time: its execution policy says deadline.mode=on"
	if l.s.policies.Of(account, function).Deadline.Mode == "off" {
		says = "what it calls without needing the answer yet runs at once: its execution policy says deadline.mode=off"
	}
	return []control.Section{{System: "deadlines", Says: []string{says}}}
}

// callMetrics tells Prometheus about calls whose answers are not needed at once.
type callMetrics struct{ calls *deadline.Calls }

var (
	callsDesc    = desc("deferred_calls_total", "Calls whose callers did not wait: now (run at once), spare (in spare capacity), due (because it was time), promoted (because the caller asked).", "outcome")
	neededDesc   = desc("deferred_calls_needed_total", "Calls that had waited, when their callers asked for the answer: in_time (it was there) or missed.", "outcome")
	callsWaiting = desc("deferred_calls_waiting", "Calls that wait for spare capacity, or until it is time.")
)

// Describe implements prometheus.Collector.
func (m callMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- callsDesc
	ch <- neededDesc
	ch <- callsWaiting
}

// Collect implements prometheus.Collector.
func (m callMetrics) Collect(ch chan<- prometheus.Metric) {
	c := m.calls.Counts()
	for outcome, n := range map[string]uint64{"now": c.Now, "spare": c.Spare, "due": c.Due, "promoted": c.Promoted} {
		ch <- prometheus.MustNewConstMetric(callsDesc, prometheus.CounterValue, float64(n), outcome)
	}
	for outcome, n := range map[string]uint64{"in_time": c.InTime, "missed": c.Missed} {
		ch <- prometheus.MustNewConstMetric(neededDesc, prometheus.CounterValue, float64(n), outcome)
	}
	ch <- prometheus.MustNewConstMetric(callsWaiting, prometheus.GaugeValue, float64(c.Waiting))
}
