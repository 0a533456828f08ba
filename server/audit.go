package server

import (
	"context"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/audit"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/store"
)

// auditDir is the audit log's folder in the data folder.
const auditDir = "audit"

func (s *Server) openAudit(context.Context) (err error) {
	s.audit, err = audit.Open(audit.Config{
		Dir: s.dir(auditDir), Clock: s.clock, Key: s.authority.Key(), Log: s.log,
		MaxBytes: int64(s.cfg.AuditMiB) << 20, Retention: s.cfg.AuditRetention,
	})
	if err != nil {
		return store.Explain(s.cfg.DataDir, err)
	}
	s.opened("audit log", s.audit.Close)
	return nil
}

// watchDoor has it be told what comes to the door.
func (s *Server) watchDoor(context.Context) error {
	s.guard.Recorder, s.guard.Account = s.decisions, s.cfg.Account
	s.metrics.MustRegister(doorMetrics{s})
	return nil
}

// audits is the audit log as the control API shows it.
type audits struct{ s *Server }

// Find implements control.Audits. An account may be named by its name; by its
// number also one that is deleted.
func (a audits) Find(f audit.Filter) ([]audit.Event, error) {
	if f.Account != "" && a.s.accounts != nil {
		one, err := a.s.accounts.Find(string(f.Account))
		switch {
		case err == nil && (f.Sees == "" || f.Sees == one.ID): // others' names are not to be found out
			f.Account = one.ID
		case err != nil && f.Sees == "" && strings.ContainsFunc(string(f.Account), func(c rune) bool { return c < '0' || c > '9' }):
			return nil, err
		}
	}
	return a.s.audit.Find(f)
}

func (a audits) Verify(since string) (audit.Verdict, error) {
	if err := audit.CheckMark(since); err != nil {
		return audit.Verdict{}, hearth.Errorf(hearth.InvalidParameter, "The mark %v: give what hearth audit --verify has printed as such.", err)
	}
	return audit.Verify(a.s.dir(auditDir), a.s.authority.Key(), since)
}

// doorMetrics tells Prometheus what came to the door.
type doorMetrics struct{ s *Server }

var (
	auditRecordsDesc = desc("audit_records_total", "Records written to the audit log since the start.")
	auditLostDesc    = desc("audit_lost_total", "Reads and refusals that could not be recorded.")
	auditFoldedDesc  = desc("audit_folded_total", "Reads and refusals that were recorded together with others.")
	auditRefusedDesc = desc("audit_refused_changes_total", "Changes that were refused because they could not be recorded.")
	auditBytesDesc   = desc("audit_bytes", "The audit log on disk.")
	auditFailingDesc = desc("audit_failing", "1 while the audit log can't be written, and changes are refused.")
	connectionsDesc  = desc("connections", "Connections from outside.")
	evictedDesc      = desc("connections_evicted_total", "Connections that did nothing, and were ended to make room for others.")
	turnedAwayDesc   = desc("connections_refused_total", "Connections for which there was no room.")
	slowDesc         = desc("requests_slow_total", "Requests that were ended because their bodies came too slowly.")
	fastDesc         = desc("requests_source_refused_total", "Requests beyond what an address may make.")
	fairShutDesc     = desc("fair_shut", "1 while the machine is saturated, and accounts take turns.")
	fairWaitingDesc  = desc("fair_waiting", "Invocations that wait for their account's turn.")
	fairWaitsDesc    = desc("fair_waits_total", "Invocations that have waited for their account's turn.")
	fairWaitedDesc   = desc("fair_waited_seconds_total", "How long they have.")
	fairYieldingDesc = desc("fair_yielding", "Accounts whose code runs on what others leave of the processors.")
	wrongDesc        = desc("signatures_wrong_total", "Requests with a wrong signature, or of a key that is not known.")
	heldOffDesc      = desc("signatures_held_off_total", "Requests that were not looked at, since too many wrong ones came from there.")
	replayedDesc     = desc("signatures_replayed_total", "Changes that were refused because they were made before with the same signature.")
)

// Describe implements prometheus.Collector.
func (m doorMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{auditRecordsDesc, auditLostDesc, auditFoldedDesc, auditRefusedDesc, auditBytesDesc, auditFailingDesc, connectionsDesc, evictedDesc, turnedAwayDesc, slowDesc, fastDesc, fairShutDesc, fairWaitingDesc, fairWaitsDesc, fairWaitedDesc, fairYieldingDesc, wrongDesc, heldOffDesc, replayedDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m doorMetrics) Collect(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, n uint64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n))
	}
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	a := m.s.audit.Stats()
	count(auditRecordsDesc, a.Records)
	count(auditLostDesc, a.Lost)
	count(auditFoldedDesc, a.Folded)
	count(auditRefusedDesc, a.Refused)
	gauge(auditBytesDesc, float64(a.Bytes))
	failing := 0.0
	if a.Failing != "" {
		failing = 1
	}
	gauge(auditFailingDesc, failing)
	c := m.s.conns.Stats()
	gauge(connectionsDesc, float64(c.Open))
	count(evictedDesc, c.Evicted)
	count(turnedAwayDesc, c.Refused)
	if m.s.door != nil {
		count(slowDesc, m.s.door.Slow())
		count(fastDesc, m.s.door.Fast())
	}
	if m.s.gate != nil {
		f := m.s.gate.Stats()
		shut := 0.0
		if f.Shut {
			shut = 1
		}
		gauge(fairShutDesc, shut)
		gauge(fairWaitingDesc, float64(f.Waiting))
		count(fairWaitsDesc, f.Waits)
		ch <- prometheus.MustNewConstMetric(fairWaitedDesc, prometheus.CounterValue, f.Waited.Seconds())
		gauge(fairYieldingDesc, float64(m.s.worker.Yielding()))
	}
	g := m.s.guard.Stats()
	count(wrongDesc, g.Wrong)
	count(heldOffDesc, g.HeldOff)
	count(replayedDesc, m.s.seen.Refused())
}

// doorChecks are what hearth doctor says of keys and of the audit log.
func (s *Server) doorChecks() []control.Check {
	key := control.Check{Name: "master key", OK: true}
	switch m := s.authority.Master(); {
	case m.Inside:
		key.Detail = "in the data folder, " + m.File + ": a copy of the folder opens its secrets; hearth key rotate --to FILE moves it out"
	default:
		key.Detail = m.File + ", outside the data folder"
	}
	log := control.Check{Name: "audit log", OK: true, Detail: "every change is recorded before it is answered"}
	if st := s.audit.Stats(); st.Failing != "" {
		log.OK, log.Detail, log.Fix = false, "it can't be written, and changes are refused: "+st.Failing, "make room on the disk of "+s.dir(auditDir)
	} else if st.Damage != "" {
		log.OK, log.Detail, log.Fix = false, st.Damage, "hearth audit --verify"
	}
	return []control.Check{key, log}
}
