package server

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/manager"
)

// sizes tells what is known of functions' memory.
type sizes struct{ manager *manager.Manager }

func (s sizes) Advice(_ context.Context, account hearth.Account, function string) ([]control.Advice, error) {
	var all []control.Advice
	for _, a := range s.manager.Advice(account, function) {
		one := control.Advice{
			Function: a.Function, Version: a.Version, Since: a.Since, Mode: a.Mode, ConfiguredMiB: a.ConfiguredMiB, CurrentMiB: a.SizeMiB,
			CPUs: a.CPUs, Suggestion: string(a.Suggestion.Kind), SuggestedMiB: a.Suggestion.MiB, Why: a.Why, Notes: a.Notes, Evidence: a.Evidence,
		}
		if one.SuggestedMiB > 0 {
			one.SavedGBSeconds = float64(a.SizeMiB-a.Suggestion.MiB) / 1024 * a.Evidence.MeanSeconds * 1000
		}
		all = append(all, one)
	}
	return all, nil
}

// sizingMetrics tells Prometheus what came of functions' use of memory.
type sizingMetrics struct{ manager *manager.Manager }

var (
	killsDesc  = desc("memory_kills_total", "Invocations that failed for want of memory.")
	sizingDesc = desc("sizing_total", "What was made of functions' use of memory, by what was done.", "action")
	sizedDesc  = desc("sizing_versions", "Versions of functions of which it is known what they use.")
)

// Describe implements prometheus.Collector.
func (s sizingMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{killsDesc, sizingDesc, sizedDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (s sizingMetrics) Collect(ch chan<- prometheus.Metric) {
	n := s.manager.Stats().Sizing
	ch <- prometheus.MustNewConstMetric(killsDesc, prometheus.CounterValue, float64(n.Kills))
	for action, n := range map[string]uint64{"suggest": n.Suggested, "apply": n.Applied, "decline": n.Declined, "enlarge": n.Enlarged} {
		ch <- prometheus.MustNewConstMetric(sizingDesc, prometheus.CounterValue, float64(n), action)
	}
	ch <- prometheus.MustNewConstMetric(sizedDesc, prometheus.GaugeValue, float64(n.Known))
}
