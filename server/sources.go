package server

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/decision"
	"github.com/hearth-faas/hearth/runtimes"
)

// The control API's sources, each a part of the server seen through its words.

type instances struct{ s *Server }

func (i instances) Snapshot(context.Context) (control.Snapshot, error) {
	stats := i.s.manager.Stats()
	now := time.Now()
	snap := control.Snapshot{
		At: now, MemoryMiB: stats.CapacityMiB, CommittedMiB: stats.CommittedMiB,
		PoolBudgetMiB: i.s.cfg.PoolMiB, PoolMiB: stats.PoolMiB,
		InFlight: stats.InFlight, Waiting: stats.Waiting, Placed: stats.ByPath,
	}
	for _, boot := range slices.Sorted(maps.Keys(stats.PoolReady)) {
		snap.Pool = append(snap.Pool, control.Shelf{Boot: boot, Ready: stats.PoolReady[boot], Making: stats.PoolMaking[boot],
			Expected: stats.PoolComing[boot], Trend: stats.PoolTrend[boot].String()})
	}
	// Whose they are is looked at by who answers.
	if all := kinds(i).every(); kinds(i).several(all) {
		snap.Subpools = all
	}
	for _, in := range i.s.manager.Snapshot() {
		one := control.Instance{ID: in.ID, Account: in.Account, Owner: in.Owner, Since: now.Add(-in.Age), MemoryMiB: in.CapMiB}
		if in.Account == "" {
			one.MemoryMiB = 0
		}
		if in.Capacity != hearth.CapacityFixed {
			one.Capacity = in.Capacity
		}
		for _, c := range in.Containers {
			one.Containers = append(one.Containers, control.Container{
				ID: c.ID, State: control.ContainerState(c.State), Boot: c.Boot, Since: now.Add(-c.Age),
				Function: c.Function, Version: c.Version, Generation: c.Generation, Tenant: c.Tenant, Provisioned: c.Provisioned, Prepared: c.Prepared, IdleMillis: c.IdleFor.Milliseconds(), Invocations: int64(c.Invocations), LimitMiB: c.MemoryMiB,
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
		RequestID: q.RequestID, Account: q.Account, Owner: q.Owner, Function: q.Function, Kind: q.Kind, Limit: q.Limit,
	})
}

type runtimeList struct{ set *runtimes.Set }

func (r runtimeList) List(context.Context) ([]control.Runtime, error) {
	return control.RuntimesOf(r.set.List()), nil
}

type doctor struct{ s *Server }

func (d doctor) Report(context.Context) (control.Report, error) {
	r := control.ReportOf(d.s.driver.Report(), d.s.cfg.Version)
	r.Checks = append(r.Checks, d.s.doorChecks()...)
	return r, nil
}
