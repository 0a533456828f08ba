package server

import (
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/prediction"
	"github.com/hearth-faas/hearth/store"
)

// openPrediction opens what foretells invocations.
func (s *Server) openPrediction(ctx context.Context) (err error) {
	s.predictor, err = prediction.Open(ctx, prediction.Config{
		Functions: s.registry, Manager: hereOnly{s}, Policy: s.policies.Of, Store: s.records, Clock: s.clock, Log: s.log,
	})
	if err != nil {
		return store.Explain(s.cfg.DataDir, err)
	}
	s.opened("predictions", s.predictor.Close)
	s.metrics.MustRegister(predictionMetrics{s})
	return nil
}

// predictions are what is foretold, in the words of the control API.
type predictions struct{ p *prediction.Predictor }

func (p predictions) Hint(ctx context.Context, h control.Hint) (string, error) {
	got, err := p.p.Hint(ctx, prediction.Hint{Account: h.Account, Function: h.Function, Qualifier: h.Qualifier, Count: h.Count, At: h.At, Until: h.Until})
	return got.ID, err
}

func (p predictions) Triggers(_ context.Context, account hearth.Account) (list []control.Trigger, err error) {
	for _, t := range p.p.Triggers(account) {
		c := control.Trigger{Name: t.Name, Run: t.Run, Functions: t.Functions, Created: t.Created}
		for _, f := range t.Functions {
			if r, ok := p.p.Response(&t, f); ok {
				c.Learned = append(c.Learned, fmt.Sprintf("%.1f invocations of %s, as seen after %.0f lately", r.Mean(), f, r.Events))
			}
		}
		list = append(list, c)
	}
	return list, nil
}

func (p predictions) SetTrigger(ctx context.Context, account hearth.Account, t control.Trigger) (string, error) {
	return p.p.SetTrigger(ctx, prediction.Trigger{Account: account, Name: t.Name, Run: t.Run, Functions: t.Functions})
}

func (p predictions) RemoveTrigger(ctx context.Context, account hearth.Account, name string) error {
	return p.p.RemoveTrigger(ctx, account, name)
}

func (p predictions) Fire(account hearth.Account, name string) error { return p.p.Fire(account, name) }

func (p predictions) FireWith(account hearth.Account, name, token string) error {
	return p.p.FireWith(account, name, token)
}

// predictionMetrics tells Prometheus what came of predictions.
type predictionMetrics struct{ s *Server }

var (
	preparedDesc = desc("prepared_total", "Containers made on predictions, by what became of them: hit, waste, or made, which includes those that are ready still.", "outcome")
	declinedDesc = desc("predictions_declined_total", "Predictions of which nothing came for want of room.")
	idleDesc     = desc("prepared_mebibyte_seconds_total", "Memory-time of containers made on predictions until they were used, or ended unused.", "outcome")
	missedDesc   = desc("observations_dropped_total", "Invocations that were not learned from, because there were too many.")
)

// Describe implements prometheus.Collector.
func (p predictionMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{preparedDesc, declinedDesc, idleDesc, missedDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (p predictionMetrics) Collect(ch chan<- prometheus.Metric) {
	s := p.s.manager.Stats().Prepared
	count := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	count(preparedDesc, float64(s.Made), "made")
	count(preparedDesc, float64(s.Hit), "hit")
	count(preparedDesc, float64(s.Wasted), "waste")
	count(declinedDesc, float64(s.Declined))
	count(idleDesc, s.IdleMiBSeconds, "hit")
	count(idleDesc, s.WastedMiBSeconds, "waste")
	count(missedDesc, float64(p.s.predictor.Dropped()))
}
