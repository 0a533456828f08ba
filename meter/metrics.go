package meter

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hearth-faas/hearth"
)

// maxLabels bounds how many accounts have numbers of their own; the others are
// one, called other.
const maxLabels = 200

// metrics are what accounts have used since the start, for Prometheus.
type metrics struct {
	mu   sync.Mutex
	sums map[string]*hearth.Metered
}

func newMetrics() *metrics { return &metrics{sums: map[string]*hearth.Metered{}} }

func (m *metrics) add(a hearth.Account, u *hearth.Metered) {
	m.mu.Lock()
	defer m.mu.Unlock()
	label := string(a)
	if m.sums[label] == nil {
		if len(m.sums) >= maxLabels {
			label = "other"
		}
		if m.sums[label] == nil {
			m.sums[label] = &hearth.Metered{}
		}
	}
	m.sums[label].Add(u)
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("hearth_account_"+name, help+" By the account that pays; \"nobody\" is the warming pool's own, and \"other\" the accounts beyond the first 200.", append([]string{"account"}, labels...), nil)
}

var (
	callsDesc    = desc("calls_total", "Invocations that ran.")
	errorsDesc   = desc("errors_total", "Invocations that ran and did not end well.")
	startsDesc   = desc("starts_total", "Init phases.")
	cpuDesc      = desc("cpu_seconds_total", "Processor time, as the kernel has counted it.")
	allottedDesc = desc("memory_allotted_mebibyte_seconds_total", "The memory that containers had, times the run time.")
	heldDesc     = desc("memory_held_mebibyte_seconds_total", "The memory that the kernel has counted for containers, times the time that they were there.")
	networkDesc  = desc("network_bytes_total", "Bytes of IP packets.", "direction")
)

// Describe implements prometheus.Collector.
func (m *Meter) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{callsDesc, errorsDesc, startsDesc, cpuDesc, allottedDesc, heldDesc, networkDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *Meter) Collect(ch chan<- prometheus.Metric) {
	m.metrics.mu.Lock()
	defer m.metrics.mu.Unlock()
	for account, u := range m.metrics.sums {
		count := func(d *prometheus.Desc, v float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, append([]string{account}, labels...)...)
		}
		count(callsDesc, float64(u.Calls))
		count(errorsDesc, float64(u.Errors))
		count(startsDesc, float64(u.Starts))
		count(cpuDesc, u.CPU.Seconds())
		count(allottedDesc, u.Allotted)
		count(heldDesc, u.Held)
		count(networkDesc, float64(u.NetworkIn), "in")
		count(networkDesc, float64(u.NetworkOut), "out")
	}
}
