package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hearth-faas/hearth/manager"
	"github.com/hearth-faas/hearth/worker"
)

// updateMetrics tells Prometheus how new code takes over, and what was fetched.
type updateMetrics struct {
	manager *manager.Manager
	worker  *worker.Worker
}

var (
	updatesDesc      = desc("updates_total", "Updates of functions' code or configuration, by what was made ready ahead of them: begun, declined (nothing) or late (not all).", "outcome")
	updateMadeDesc   = desc("update_containers_total", "Containers of new code made before it took over, by outcome.", "outcome")
	switchedDesc     = desc("update_switches_total", "Instances in which new code took over before its update ended.")
	fetchedBytesDesc = desc("fetched_bytes_total", "Bytes of code packages that came from the store.")
	fetchRetriesDesc = desc("fetch_failures_total", "Transfers of code packages that failed, by what followed.", "then")
)

// Describe implements prometheus.Collector.
func (u updateMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{updatesDesc, updateMadeDesc, switchedDesc, fetchedBytesDesc, fetchRetriesDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (u updateMetrics) Collect(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	up := u.manager.Stats().Updates
	for outcome, n := range map[string]uint64{"begun": up.Begun, "declined": up.Declined, "late": up.Late} {
		count(updatesDesc, n, outcome)
	}
	count(updateMadeDesc, up.Made, "made")
	count(updateMadeDesc, up.Failed, "skipped")
	count(switchedDesc, up.Switched)
	f := u.worker.Fetching()
	count(fetchedBytesDesc, f.Bytes)
	count(fetchRetriesDesc, f.Retries, "retried")
	count(fetchRetriesDesc, f.Failures, "given up")
}
