package server

import (
	"github.com/prometheus/client_golang/prometheus"

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
	endedDesc      = desc("containers_ended_total", "Containers ended while idle, by reason.", "reason")
	failuresDesc   = desc("worker_failures_total", "Calls of the worker that failed, by call.", "call")
	recordedDesc   = desc("decisions_total", "Decisions recorded.")
)

// Describe implements prometheus.Collector.
func (p poolMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{placedDesc, committedDesc, capacityDesc, instancesDesc, containersDesc,
		waitingDesc, poolDesc, poolReadyDesc, endedDesc, failuresDesc, recordedDesc} {
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
	}
	for reason, n := range map[string]uint64{"lost": s.Lost, "evicted": s.Evicted, "expired": s.Expired, "retired": s.Retired} {
		count(endedDesc, n, reason)
	}
	for call, n := range map[string]uint64{"boot": s.Failures.Boot, "make": s.Failures.Make, "destroy": s.Failures.Destroy} {
		count(failuresDesc, n, call)
	}
	count(recordedDesc, p.decisions.Last())
}
