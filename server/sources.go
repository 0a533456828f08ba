package server

import (
	"context"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/decision"
	"github.com/hearth-faas/hearth/manager"
	"github.com/hearth-faas/hearth/runtimes"
	"github.com/hearth-faas/hearth/sandbox"
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
	var out []control.Runtime
	for _, i := range r.set.List() {
		out = append(out, control.Runtime{
			Name: i.Runtime, Usable: i.Usable, Exact: i.Exact, Interpreter: i.Interpreter, Version: i.Version, Note: i.Note,
		})
	}
	return out, nil
}

type doctor struct{ s *Server }

func (d doctor) Report(context.Context) (control.Report, error) {
	return report(d.s.cfg, d.s.driver.Report(), d.s.runtimes), nil
}

// report joins what a driver and the interpreters say about this machine.
func report(cfg Config, r sandbox.Report, set *runtimes.Set) control.Report {
	out := control.Report{Version: cfg.Version, Driver: r.Driver, Root: r.Root}
	for _, c := range r.Checks {
		out.Checks = append(out.Checks, control.Check{Name: c.Name, OK: c.OK, Detail: c.Detail, Fix: c.Fix})
	}
	program := control.Check{Name: "sandbox program", OK: true, Detail: "a small program of its own, from this release"}
	if len(cfg.SandboxProgram) == 0 {
		program = control.Check{
			Name: "sandbox program", Detail: "this executable itself, which makes each sandbox slower to start and larger",
			Fix: "build with make build, which embeds it",
		}
	}
	out.Checks = append(out.Checks, program)
	for _, bad := range set.Rejected() {
		out.Checks = append(out.Checks, control.Check{
			Name: "interpreter " + bad.Path, Detail: bad.Reason, Fix: "install one that works, or ignore this",
		})
	}
	return out
}
