package server

import (
	"context"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/decision"
	"github.com/hearth-faas/hearth/manager"
	"github.com/hearth-faas/hearth/runtimes"
)

// The control API's sources, each a part of the server seen through its words.

type instances struct {
	manager *manager.Manager
	cfg     Config
}

func (i instances) Snapshot(context.Context) (control.Snapshot, error) {
	stats := i.manager.Stats()
	now := time.Now()
	snap := control.Snapshot{
		At: now, MemoryMiB: stats.CapacityMiB, CommittedMiB: stats.CommittedMiB,
		PoolBudgetMiB: i.cfg.PoolMiB, PoolMiB: stats.PoolMiB,
	}
	for _, in := range i.manager.Snapshot() {
		one := control.Instance{ID: in.ID, Account: in.Account, Since: now.Add(-in.Age), MemoryMiB: in.CapMiB}
		if in.Account == "" {
			one.MemoryMiB = 0
		}
		for _, c := range in.Containers {
			one.Containers = append(one.Containers, control.Container{
				ID: c.ID, State: control.ContainerState(c.State), Boot: c.Boot, Since: now.Add(-c.Age),
				Function: c.Function, Version: c.Version, Invocations: int64(c.Invocations), LimitMiB: c.MemoryMiB,
				UsedMiB: c.Usage.MemoryMiB, PeakMiB: c.Usage.PeakMiB, CPUMillis: c.Usage.CPU.Milliseconds(),
			})
		}
		snap.Instances = append(snap.Instances, one)
	}
	return snap, nil
}

type decisions struct{ recorder *decision.Recorder }

func (d decisions) Query(_ context.Context, q control.DecisionQuery) ([]hearth.Decision, error) {
	return d.recorder.Query(decision.Filter{
		RequestID: q.RequestID, Account: q.Account, Function: q.Function, Kind: q.Kind, Limit: q.Limit,
	})
}

type runtimeList struct{ set *runtimes.Set }

func (r runtimeList) List(context.Context) ([]control.Runtime, error) {
	return control.RuntimesOf(r.set.List()), nil
}

type doctor struct{ s *Server }

func (d doctor) Report(context.Context) (control.Report, error) {
	return control.ReportOf(d.s.driver.Report(), d.s.cfg.Version), nil
}
