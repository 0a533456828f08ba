package frontend

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hearth-faas/hearth"
)

// metrics are the frontend's numbers for Prometheus. What the warm path
// counts is looked up once, here, and is an atomic addition later. Nothing is
// labelled by function or account, of which there may be any number.
type metrics struct {
	invocations *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	stages      *prometheus.CounterVec
	refused     *prometheus.CounterVec

	ok, failed map[hearth.Path]prometheus.Counter
	took       map[hearth.Path]prometheus.Observer
	stage      [hearth.Stages]prometheus.Counter
}

func newMetrics() *metrics {
	m := &metrics{
		invocations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hearth_invocations_total",
			Help: "Invocations that got a container, by the way they took (S00.3) and whether the function failed.",
		}, []string{"path", "outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "hearth_invocation_duration_seconds",
			Help:    "From the first byte of the request to the last of the answer, by the way taken.",
			Buckets: prometheus.ExponentialBuckets(50e-6, 2, 22), // 50 µs to 105 s
		}, []string{"path"}),
		stages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hearth_invocation_stage_seconds_total",
			Help: "The time of all invocations, by stage.",
		}, []string{"stage"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hearth_refusals_total",
			Help: "Invocations that got no container, by the error that the caller was given.",
		}, []string{"error"}),
		ok:     map[hearth.Path]prometheus.Counter{},
		failed: map[hearth.Path]prometheus.Counter{},
		took:   map[hearth.Path]prometheus.Observer{},
	}
	for _, p := range []hearth.Path{hearth.PathReuse, hearth.PathContainer, hearth.PathWarm, hearth.PathCold} {
		m.ok[p] = m.invocations.WithLabelValues(string(p), "ok")
		m.failed[p] = m.invocations.WithLabelValues(string(p), "failed")
		m.took[p] = m.duration.WithLabelValues(string(p))
	}
	for s := range hearth.Stages {
		m.stage[s] = m.stages.WithLabelValues(s.String())
	}
	return m
}

func (m *metrics) register(r prometheus.Registerer, inflight *atomic.Int64) error {
	for _, c := range []prometheus.Collector{m.invocations, m.duration, m.stages, m.refused,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "hearth_invocations_in_flight",
			Help: "Invocations between the frontend's call and its return.",
		}, func() float64 { return float64(inflight.Load()) })} {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}

func (m *metrics) count(inv *hearth.Invocation) {
	took, placed := m.took[inv.Placement.Path]
	if !placed {
		if inv.Outcome != "ok" && inv.Recorded == "" {
			m.refused.WithLabelValues(inv.Outcome).Inc()
		}
		return
	}
	for s, spent := range inv.Timeline.Spent {
		if spent > 0 {
			m.stage[s].Add(spent.Seconds())
		}
	}
	took.Observe(inv.Timeline.Total().Seconds())
	if inv.Outcome == "ok" {
		m.ok[inv.Placement.Path].Inc()
	} else {
		m.failed[inv.Placement.Path].Inc()
	}
}
