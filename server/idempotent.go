package server

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/idempotent"
	"github.com/hearth-faas/hearth/idempotent/resource"
	"github.com/hearth-faas/hearth/s3"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/files"
)

// openIdempotent opens what keeps functions that are declared idempotent from
// being run in vain.
func (s *Server) openIdempotent(ctx context.Context) error {
	blobs, err := files.Open(s.dir("results"))
	if err != nil {
		return store.Explain(s.cfg.DataDir, err)
	}
	states := resource.New(resource.Config{
		Clock: s.clock, Paths: s.cfg.DependencyPaths, Refuses: s.refusesDependency,
		S3: s3.Config{Endpoint: s.cfg.S3Endpoint, Region: s.cfg.s3Region(s.cfg.Region), PathStyle: s.cfg.S3PathStyle},
	})
	s.opened("dependencies", states.Close)
	s.avoider, err = idempotent.Open(ctx, idempotent.Config{
		Store: s.records, Blobs: blobs, Functions: s.registry, States: states, Seal: s.authority.Key(),
		Clock: s.clock, Recorder: s.decisions, Log: s.log,
		Orphaned: func(inv *hearth.Invocation, r *hearth.Result, err error) { s.frontend.Orphaned(inv, r, err) },
	})
	if err != nil {
		return store.Explain(s.cfg.DataDir, err)
	}
	s.opened("recorded results", s.avoider.Close)
	s.metrics.MustRegister(idempotentMetrics{s.avoider})
	return nil
}

// refusesDependency tells why the server does not ask an address about what a
// function depends on: what functions may not reach themselves would be told
// to them by whether it changes.
func (s *Server) refusesDependency(address string) string {
	if slices.Contains(s.cfg.DependencyHosts, address) {
		return ""
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return "no address"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return "no address"
	}
	return s.network.Refuses(ip)
}

// idempotence is what is declared, in the words of the control API.
type idempotence struct{ s *Server }

func (i idempotence) Idempotent(_ context.Context, account hearth.Account, function string) (list []control.Idempotent, _ error) {
	for _, name := range i.s.avoider.Functions(account) {
		if function != "" && name != function {
			continue
		}
		if d := i.s.avoider.Get(account, name); d != nil {
			list = append(list, control.Idempotent{Function: name, Declared: d, Counts: control.IdempotentCounts(i.s.avoider.Counts(account, name))})
		}
	}
	return list, nil
}

func (i idempotence) Declare(ctx context.Context, account hearth.Account, function string, d *hearth.Idempotence) error {
	if d != nil {
		if i.s.claimed(account, function) {
			return hearth.Errorf(hearth.InvalidParameter, "%s runs another account's function, with whose environment it would be asked what it depends on. Declare a function of your own that calls it.", function)
		}
		f, err := i.s.registry.Resolve(ctx, account, function, "")
		if err != nil {
			return err
		}
		for _, dep := range d.Dependencies {
			switch {
			case dep.File != "":
				err = i.s.mayReadHost(account, dep.File)
			case strings.HasPrefix(dep.Database, "sqlite:"):
				err = i.s.mayReadHost(account, dep.Database)
			}
			if err != nil {
				return err
			}
		}
		if f.Durable != nil {
			return hearth.Errorf(hearth.InvalidParameter, "%s is durable: its executions have an identity of their own, by their names.", function)
		}
	}
	return i.s.avoider.Set(ctx, account, function, d)
}

func (i idempotence) Forget(ctx context.Context, account hearth.Account, function string) (int, error) {
	return i.s.avoider.Forget(ctx, account, function)
}

// avoided tells what was spared of a function.
func (l learned) avoided(account hearth.Account, function string) []control.Section {
	d := l.s.avoider.Get(account, function)
	if d == nil {
		return nil
	}
	c := l.s.avoider.Counts(account, function)
	says := []string{
		fmt.Sprintf("it is declared idempotent, with %d dependencies; %d results are recorded, of %d bytes", len(d.Dependencies), c.Records, c.Bytes),
		fmt.Sprintf("since the server's start %d requests were answered from a record and %d by an equal one's run, which spared %v of work; %d were run, %d of them because the caller insisted, and %d because a state was not to be had",
			c.Recorded, c.Joined, time.Duration(c.SavedSeconds*float64(time.Second)).Round(time.Millisecond), c.Ran+c.Unknown, c.Forced, c.Unknown),
	}
	if c.Discarded > 0 {
		says = append(says, fmt.Sprintf("%d results were not recorded: hearth decisions --kind avoid tells why", c.Discarded))
	}
	return []control.Section{{System: "idempotent", Says: says}}
}

// idempotentMetrics tells Prometheus what was spared.
type idempotentMetrics struct{ avoider *idempotent.Avoider }

var (
	idempotentDesc = desc("idempotent_requests_total", "Requests of functions that are declared idempotent: recorded (answered from a record), joined (by an equal one's run), ran (something had changed), forced (the caller insisted; also among ran), unknown (run because a state was not to be had).", "outcome")
	discardedDesc  = desc("idempotent_discarded_total", "Results that were not recorded, because something changed during the run or was not to be known.")
	savedDesc      = desc("idempotent_saved_seconds_total", "How long environments would have worked on what was answered without a run.")
	resultsDesc    = desc("idempotent_records", "Recorded results.")
	resultsBytes   = desc("idempotent_record_bytes", "What recorded results take, in memory and on disk.")
)

// Describe implements prometheus.Collector.
func (m idempotentMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{idempotentDesc, discardedDesc, savedDesc, resultsDesc, resultsBytes} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m idempotentMetrics) Collect(ch chan<- prometheus.Metric) {
	c := m.avoider.Counts("", "")
	for outcome, n := range map[string]int64{"recorded": c.Recorded, "joined": c.Joined, "ran": c.Ran, "forced": c.Forced, "unknown": c.Unknown} {
		ch <- prometheus.MustNewConstMetric(idempotentDesc, prometheus.CounterValue, float64(n), outcome)
	}
	ch <- prometheus.MustNewConstMetric(discardedDesc, prometheus.CounterValue, float64(c.Discarded))
	ch <- prometheus.MustNewConstMetric(savedDesc, prometheus.CounterValue, c.SavedSeconds)
	ch <- prometheus.MustNewConstMetric(resultsDesc, prometheus.GaugeValue, float64(c.Records))
	ch <- prometheus.MustNewConstMetric(resultsBytes, prometheus.GaugeValue, float64(c.Bytes))
}
