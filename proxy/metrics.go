package proxy

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/internal/traffic"
)

// metrics count the calls of all accounts. No label has what users choose, but
// for those of apis, which are bounded.
type metrics struct {
	apis      *traffic.Counts        // by account and API
	calls     *prometheus.CounterVec // by outcome: ok, cached, accepted, or a fault
	seconds   prometheus.Histogram
	retries   prometheus.Counter
	conflicts prometheus.Counter
	callbacks *prometheus.CounterVec // by outcome: delivered, failed
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		apis:      traffic.New(r, "proxy_api", "proxy APIs", "execution", "account", "api"),
		calls:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hearth_proxy_calls_total", Help: "Calls of proxy APIs by outcome: ok, cached, accepted (asynchronous), or the fault."}, []string{"outcome"}),
		seconds:   prometheus.NewHistogram(prometheus.HistogramOpts{Name: "hearth_proxy_call_seconds", Help: "How long calls of proxy APIs took.", Buckets: prometheus.ExponentialBuckets(0.001, 2.5, 12)}),
		retries:   prometheus.NewCounter(prometheus.CounterOpts{Name: "hearth_proxy_execution_retries_total", Help: "Requests to the execution service that were sent again."}),
		conflicts: prometheus.NewCounter(prometheus.CounterOpts{Name: "hearth_proxy_state_conflicts_total", Help: "Changes of states that were refused since the state had changed meanwhile."}),
		callbacks: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hearth_proxy_callbacks_total", Help: "Results of asynchronous calls that were sent, or given up, by outcome."}, []string{"outcome"}),
	}
	if r != nil {
		r.MustRegister(m.calls, m.seconds, m.retries, m.conflicts, m.callbacks)
	}
	return m
}

// call counts a call that ended with a status and an outcome. api is "" for one
// of none.
func (m *metrics) call(account hearth.Account, api string, status int, outcome string, took, running time.Duration) {
	m.calls.WithLabelValues(outcome).Inc()
	m.seconds.Observe(took.Seconds())
	if api != "" {
		m.apis.Add(string(account), traffic.Key{string(account), api}, status, took, running)
	}
}
