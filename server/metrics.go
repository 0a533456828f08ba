package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hearth-faas/hearth/async"
	"github.com/hearth-faas/hearth/decision"
	"github.com/hearth-faas/hearth/manager"
)

// poolMetrics tells Prometheus what the manager holds and has done. It asks
// when it is asked, so that nothing is counted twice.
type poolMetrics struct {
	manager   *manager.Manager
	decisions *decision.Recorder
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("hearth_"+name, help, labels, nil)
}

var (
	placedDesc     = desc("placements_total", "Invocations placed, by the path to their container.", "path")
	committedDesc  = desc("memory_committed_mebibytes", "Memory promised to containers.")
	capacityDesc   = desc("memory_capacity_mebibytes", "Memory that may be promised to containers.")
	instancesDesc  = desc("instances", "Instances that belong to an account.")
	containersDesc = desc("containers", "Containers that hold a function.")
	waitingDesc    = desc("invocations_waiting", "Invocations that wait for a container.")
	poolDesc       = desc("pool_mebibytes", "What the ready slots cost.")
	poolReadyDesc  = desc("pool_ready", "Ready instances in the warming pool, by boot.", "boot")
	poolComingDesc = desc("pool_expected", "How many are expected to be taken from the warming pool before it has made up for them, by boot.", "boot")
	poolTrendDesc  = desc("pool_trend", "Where the demand for the warming pool goes: 1 rising, -1 falling, 0 steady; by boot.", "boot")
	packedDesc     = desc("instances_packed_total", "Instances given up because their account's load needed one less.")
	endedDesc      = desc("containers_ended_total", "Containers ended while idle, by reason.", "reason")
	failuresDesc   = desc("worker_failures_total", "Calls of the worker that failed, by call.", "call")
	recordedDesc   = desc("decisions_total", "Decisions recorded.")
)

// Describe implements prometheus.Collector.
func (p poolMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{placedDesc, committedDesc, capacityDesc, instancesDesc, containersDesc,
		waitingDesc, poolDesc, poolReadyDesc, poolComingDesc, poolTrendDesc, packedDesc, endedDesc, failuresDesc, recordedDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (p poolMetrics) Collect(ch chan<- prometheus.Metric) {
	s := p.manager.Stats()
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for path, n := range s.ByPath {
		count(placedDesc, n, string(path))
	}
	gauge(committedDesc, float64(s.CommittedMiB))
	gauge(capacityDesc, float64(s.CapacityMiB))
	gauge(instancesDesc, float64(s.Instances))
	gauge(containersDesc, float64(s.Containers))
	gauge(waitingDesc, float64(s.Waiting))
	gauge(poolDesc, s.PoolMiB)
	for boot, n := range s.PoolReady {
		gauge(poolReadyDesc, float64(n), string(boot))
		gauge(poolComingDesc, s.PoolComing[boot], string(boot))
		gauge(poolTrendDesc, map[manager.Direction]float64{manager.Rising: 1, manager.Falling: -1}[s.PoolTrend[boot]], string(boot))
	}
	count(packedDesc, s.Packed)
	for reason, n := range map[string]uint64{"lost": s.Lost, "evicted": s.Evicted, "expired": s.Expired, "retired": s.Retired} {
		count(endedDesc, n, reason)
	}
	for call, n := range map[string]uint64{"boot": s.Failures.Boot, "make": s.Failures.Make, "destroy": s.Failures.Destroy} {
		count(failuresDesc, n, call)
	}
	count(recordedDesc, p.decisions.Last())
}

// eventMetrics tells Prometheus about asynchronous invocations.
type eventMetrics struct{ queue *async.Queue }

var (
	eventsDesc        = desc("events_total", "Asynchronous invocations since the start, by what became of them.", "outcome")
	eventsWaitingDesc = desc("events_waiting", "Asynchronous invocations that wait, due or not.")
	eventsHeldDesc    = desc("events_held", "Of those that wait, those that wait for capacity to be cheap, idle or there.")
	eventsRunningDesc = desc("events_running", "Asynchronous invocations at work.")
)

// Describe implements prometheus.Collector.
func (e eventMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{eventsDesc, eventsWaitingDesc, eventsHeldDesc, eventsRunningDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (e eventMetrics) Collect(ch chan<- prometheus.Metric) {
	c := e.queue.Counts()
	for outcome, n := range map[string]uint64{
		"accepted": c.Accepted, "succeeded": c.Succeeded, "failed": c.Failed, "retried": c.Retried, "parked": c.Parked,
	} {
		ch <- prometheus.MustNewConstMetric(eventsDesc, prometheus.CounterValue, float64(n), outcome)
	}
	ch <- prometheus.MustNewConstMetric(eventsWaitingDesc, prometheus.GaugeValue, float64(c.Waiting))
	ch <- prometheus.MustNewConstMetric(eventsHeldDesc, prometheus.GaugeValue, float64(c.Held))
	ch <- prometheus.MustNewConstMetric(eventsRunningDesc, prometheus.GaugeValue, float64(c.Running))
}
