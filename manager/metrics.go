package manager

import (
	"github.com/prometheus/client_golang/prometheus"
)

// Manager is a prometheus.Collector: it tells its Stats when it is asked, and
// costs nothing in between.
var _ prometheus.Collector = (*Manager)(nil)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("hearth_"+name, help, labels, nil)
}

var (
	descPlaced    = desc("placements_total", "Invocations that were given a container, by the way (S00.3); an invocation whose container was dead counts again.", "path")
	descWaiting   = desc("invocations_waiting", "Invocations that wait for a container.")
	descMemory    = desc("memory_mib", "Memory for functions: what may be promised and what is.", "of")
	descInstances = desc("instances", "Instances that belong to an account.")
	descLive      = desc("containers", "Containers that are bound to a function.")
	descPool      = desc("pool_ready", "Ready instances in the warming pool, by what is booted in them.", "boot")
	descSpare     = desc("spare_slots", "Ready slots in instances of accounts.")
	descPoolMiB   = desc("pool_mib", "The warming pool's memory: its budget and what of it is in use.", "of")
	descEnded     = desc("containers_ended_total", "Idle containers that were ended, and those that ended by themselves, by reason.", "reason")
	descBoots     = desc("boots_total", "Ready slots made for the warming pool.")
	descFull      = desc("full_total", "Invocations refused because no memory came free in time.")
	descFailures  = desc("worker_failures_total", "Calls of the worker that failed.", "call")
)

// Describe implements prometheus.Collector.
func (m *Manager) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descPlaced, descWaiting, descMemory, descInstances, descLive, descPool, descSpare,
		descPoolMiB, descEnded, descBoots, descFull, descFailures} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *Manager) Collect(ch chan<- prometheus.Metric) {
	s := m.Stats()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	for p, n := range s.ByPath {
		counter(descPlaced, n, string(p))
	}
	gauge(descWaiting, float64(s.Waiting))
	gauge(descMemory, float64(s.CapacityMiB), "capacity")
	gauge(descMemory, float64(s.CommittedMiB), "committed")
	gauge(descInstances, float64(s.Instances))
	gauge(descLive, float64(s.Containers))
	for b, n := range s.PoolReady {
		gauge(descPool, float64(n), bootName(b))
	}
	gauge(descSpare, float64(s.Spares))
	gauge(descPoolMiB, s.PoolBudgetMiB, "budget")
	gauge(descPoolMiB, s.PoolMiB, "used")
	for reason, n := range map[string]uint64{"gone": s.Gone, "lost": s.Lost, "evicted": s.Evicted, "expired": s.Expired, "retired": s.Retired} {
		counter(descEnded, n, reason)
	}
	counter(descBoots, s.Boots)
	counter(descFull, s.Full)
	counter(descFailures, s.Failures.Boot, "boot")
	counter(descFailures, s.Failures.Make, "make")
	counter(descFailures, s.Failures.Destroy, "destroy")
}
