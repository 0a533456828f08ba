package poll

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/event"
)

// Metrics are the pollers' numbers for Prometheus, by kind of source: there may
// be any number of mappings. It is a prometheus.Collector.
type Metrics struct {
	records *prometheus.CounterVec
	start   *prometheus.HistogramVec
	batches *prometheus.GaugeVec
	lag     *prometheus.GaugeVec
}

// NewMetrics makes them.
func NewMetrics() *Metrics {
	return &Metrics{
		records: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hearth_source_records_total",
			Help: "Records of event sources, by kind and what became of them: taken, filtered, processed, failed (given back), retried, parked.",
		}, []string{"kind", "outcome"}),
		start: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "hearth_source_start_seconds",
			Help:    "From the taking of a batch's first record (with a batching window: from its end) to the function's start, by kind and the way to its container.",
			Buckets: prometheus.ExponentialBuckets(100e-6, 2, 18), // 0.1 ms to 13 s
		}, []string{"kind", "path"}),
		batches: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "hearth_source_batches_running",
			Help: "Batches of event sources at work, by kind.",
		}, []string{"kind"}),
		lag: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "hearth_source_lag_records",
			Help: "Records that wait in event sources and were not processed, by kind, of kinds that can tell.",
		}, []string{"kind"}),
	}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	m.records.Describe(ch)
	m.start.Describe(ch)
	m.batches.Describe(ch)
	m.lag.Describe(ch)
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.records.Collect(ch)
	m.start.Collect(ch)
	m.batches.Collect(ch)
	m.lag.Collect(ch)
}

func (m *Metrics) taken(kind event.Kind, n int) { m.count(kind, "taken", n) }

func (m *Metrics) count(kind event.Kind, outcome string, n int) {
	if n > 0 {
		m.records.WithLabelValues(string(kind), outcome).Add(float64(n))
	}
}

func (m *Metrics) running(kind event.Kind, by float64) {
	m.batches.WithLabelValues(string(kind)).Add(by)
}

// began observes how long the batch took from being ready to its start.
func (m *Metrics) began(kind event.Kind, b *batch, inv *hearth.Invocation) {
	m.start.WithLabelValues(string(kind), string(inv.Placement.Path)).Observe(max(began(inv).Sub(b.ready), 0).Seconds())
}
