package server

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	gatewaywire "github.com/hearth-faas/hearth/apigateway/wire"
	"github.com/hearth-faas/hearth/awsjson"
	buswire "github.com/hearth-faas/hearth/bus/wire"
	schedulewire "github.com/hearth-faas/hearth/schedule/wire"
	"github.com/hearth-faas/hearth/sqs"
	sqswire "github.com/hearth-faas/hearth/sqs/wire"
	"github.com/hearth-faas/hearth/store"
)

// openQueues opens SQS's queues. Those who send to them are opened later, so
// that they stop first.
func (s *Server) openQueues(ctx context.Context) (err error) {
	s.queues, err = sqs.Open(ctx, sqs.Config{Store: s.records, Clock: s.clock, Region: s.cfg.Region, Judge: s.judge, Log: s.log})
	if err != nil {
		return store.Explain(s.cfg.DataDir, err)
	}
	s.opened("queues", s.queues.Close)
	s.metrics.MustRegister(queueMetrics{s.queues})
	return nil
}

// neighbours are the services beside Lambda that answer for themselves.
func (s *Server) neighbours() map[string]awsjson.Handler {
	return map[string]awsjson.Handler{"sqs": sqswire.New(s.queues), "events": buswire.New(s.buses), "scheduler": schedulewire.New(s.schedules), "apigateway": gatewaywire.New(gatewaywire.Config{APIs: s.apis, Authorize: s.authorize, Endpoint: s.httpAPI})}
}

// queueMetrics tells Prometheus about queues.
type queueMetrics struct{ queues *sqs.Service }

var (
	queuesDesc       = desc("queues", "Queues there are.")
	queuedDesc       = desc("queue_messages", "Messages in queues, by state.", "state")
	queueTotalDesc   = desc("queue_messages_total", "Messages since the start, by what became of them.", "outcome")
	queueWaitersDesc = desc("queue_receivers_waiting", "Receivers that wait for a message.")
	queueCacheDesc   = desc("queue_cache_bytes", "What is kept in memory of messages that were sent lately.")
)

// Describe implements prometheus.Collector.
func (q queueMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{queuesDesc, queuedDesc, queueTotalDesc, queueWaitersDesc, queueCacheDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (q queueMetrics) Collect(ch chan<- prometheus.Metric) {
	st := q.queues.Stats()
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	gauge(queuesDesc, st.Queues)
	for state, n := range map[string]int{"visible": st.Visible, "delayed": st.Delayed, "in_flight": st.InFlight} {
		gauge(queuedDesc, n, state)
	}
	for outcome, n := range map[string]uint64{
		"sent": st.Sent, "received": st.Received, "deleted": st.Deleted, "expired": st.Expired, "moved": st.Moved,
	} {
		ch <- prometheus.MustNewConstMetric(queueTotalDesc, prometheus.CounterValue, float64(n), outcome)
	}
	gauge(queueWaitersDesc, st.Waiting)
	gauge(queueCacheDesc, st.CachedBytes)
}
