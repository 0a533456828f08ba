package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
)

func (a *app) topCmd() *cobra.Command {
	var every time.Duration
	var once bool
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch pools, functions and rates, live",
		Long: `Watch what Hearth holds and does: the warming pool with what it expects, each
function's containers, rate and memory, and by which path invocations found
their container. Rates are of the last interval.`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if every < 100*time.Millisecond {
				return usage(fmt.Sprintf("--every %v is less than 100ms", every), "See hearth top --help.")
			}
			r, err := a.connect()
			if err != nil {
				return err
			}
			return a.top(cmd.Context(), r, every, once || !a.outTTY && !a.json)
		},
	}
	cmd.Flags().DurationVar(&every, "every", time.Second, "`interval`")
	cmd.Flags().BoolVar(&once, "once", false, "show it once, after one interval")
	return cmd
}

// top prints views until it is interrupted, which is how it ends well.
func (a *app) top(ctx context.Context, r *remote, every time.Duration, once bool) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	var before *control.Snapshot
	for {
		now, err := r.control.PS(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return r.failure("can't find out what it does", err)
		}
		if before != nil {
			v := newView(*before, now)
			if a.json {
				if err := a.printJSON(v); err != nil {
					return err
				}
			} else {
				var b strings.Builder
				if !once {
					b.WriteString("\x1b[H\x1b[2J")
				}
				v.print(&b, a)
				if _, err := io.WriteString(a.out, b.String()); err != nil {
					return err
				}
			}
			if once {
				return nil
			}
		}
		before = &now
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// view is what hearth top shows: a snapshot, and what happened since the one
// before.
type view struct {
	At           time.Time               `json:"at"`
	MemoryMiB    int                     `json:"memoryMiB"`
	CommittedMiB int                     `json:"committedMiB"`
	UsedMiB      float64                 `json:"usedMiB"` // by containers, as measured
	InFlight     int                     `json:"inFlight"`
	Waiting      int                     `json:"waiting"`
	PerSecond    float64                 `json:"perSecond"` // invocations that got a container
	Paths        map[hearth.Path]float64 `json:"paths"`     // the same by path
	PoolMiB      float64                 `json:"poolMiB"`
	PoolBudget   int                     `json:"poolBudgetMiB"`
	Pool         []control.Shelf         `json:"pool"`
	Subpools     []control.Subpool       `json:"subpools,omitempty"`
	Instances    int                     `json:"instances"`
	Functions    []functionView          `json:"functions"`
}

// functionView is one function version's containers.
type functionView struct {
	Function  string  `json:"function"`
	Version   string  `json:"version"`
	Busy      int     `json:"busy"`
	Idle      int     `json:"idle"`     // frozen ones too
	Prepared  int     `json:"prepared"` // of those, made on a prediction and not used yet
	PerSecond float64 `json:"perSecond"`
	CPUs      float64 `json:"cpus"` // processors used
	UsedMiB   float64 `json:"usedMiB"`
	LimitMiB  int     `json:"limitMiB"` // of all its containers
	PeakMiB   float64 `json:"peakMiB"`  // of the one that used most
}

func newView(before, now control.Snapshot) view {
	seconds := max(now.At.Sub(before.At).Seconds(), 1e-3)
	v := view{
		At: now.At, MemoryMiB: now.MemoryMiB, CommittedMiB: now.CommittedMiB, InFlight: now.InFlight, Waiting: now.Waiting,
		Paths: map[hearth.Path]float64{}, PoolMiB: now.PoolMiB, PoolBudget: now.PoolBudgetMiB, Pool: now.Pool, Subpools: now.Subpools, Functions: []functionView{},
	}
	for path, n := range now.Placed {
		if was := before.Placed[path]; n >= was { // less after a restart
			v.Paths[path] = float64(n-was) / seconds
			v.PerSecond += v.Paths[path]
		}
	}
	old := map[string]control.Container{}
	for _, i := range before.Instances {
		for _, c := range i.Containers {
			old[c.ID] = c
		}
	}
	functions := map[string]*functionView{}
	for _, i := range now.Instances {
		if i.Account != "" {
			v.Instances++
		}
		for _, c := range i.Containers {
			if c.Function == "" {
				continue
			}
			name := c.Function + ":" + c.Version
			f := functions[name]
			if f == nil {
				f = &functionView{Function: c.Function, Version: c.Version}
				functions[name] = f
			}
			switch c.State {
			case control.StateBusy, control.StateLoading:
				f.Busy++
			case control.StateIdle, control.StateFrozen:
				f.Idle++
				if c.Prepared {
					f.Prepared++
				}
			}
			was := old[c.ID]
			f.PerSecond += float64(c.Invocations-was.Invocations) / seconds
			f.CPUs += float64(c.CPUMillis-was.CPUMillis) / 1000 / seconds
			f.UsedMiB += c.UsedMiB
			f.LimitMiB += c.LimitMiB
			f.PeakMiB = max(f.PeakMiB, c.PeakMiB)
			v.UsedMiB += c.UsedMiB
		}
	}
	for _, name := range slices.Sorted(maps.Keys(functions)) {
		v.Functions = append(v.Functions, *functions[name])
	}
	slices.SortStableFunc(v.Functions, func(a, b functionView) int {
		return cmp.Or(cmp.Compare(b.PerSecond, a.PerSecond), cmp.Compare(b.LimitMiB, a.LimitMiB))
	})
	return v
}

func (v view) print(w io.Writer, a *app) {
	fmt.Fprintf(w, "%s  %s invocations/s, %d at work, %s   memory: %d of %d MiB promised, %.0f used, in %d instances\n",
		v.At.Format(time.TimeOnly), a.bold(fmt.Sprintf("%.1f", v.PerSecond)), v.InFlight-v.Waiting, waiting(a, v.Waiting),
		v.CommittedMiB, v.MemoryMiB, v.UsedMiB, v.Instances)
	for i, path := range []hearth.Path{hearth.PathReuse, hearth.PathContainer, hearth.PathWarm, hearth.PathCold} {
		if i > 0 {
			fmt.Fprint(w, "   ")
		}
		fmt.Fprintf(w, "%s %.1f/s", path, v.Paths[path])
	}
	fmt.Fprintf(w, "\n\nwarming pool: %.1f of %d MiB\n", v.PoolMiB, v.PoolBudget)
	pool := table{header: []string{"BOOT", "READY", "MAKING", "EXPECTED", "DEMAND"}}
	for _, s := range v.Pool {
		trend := s.Trend
		switch trend {
		case "rising":
			trend = a.amber(trend)
		case "falling":
			trend = a.faint(trend)
		}
		pool.add(cmp.Or(string(s.Boot), "blank"), fmt.Sprint(s.Ready), fmt.Sprint(s.Making), fmt.Sprintf("%.1f", s.Expected), trend)
	}
	pool.print(w, a)
	if len(v.Subpools) > 0 {
		fmt.Fprintln(w)
		pools := a.subpoolTable(v.Subpools)
		pools.print(w, a)
	}
	if len(v.Functions) == 0 {
		fmt.Fprintln(w, "\nNo function has a container now.")
		return
	}
	fmt.Fprintln(w)
	t := table{header: []string{"FUNCTION", "RATE/S", "BUSY", "IDLE", "PREPARED", "CPUS", "USED MIB", "LIMIT MIB", "PEAK MIB"}}
	for _, f := range v.Functions {
		t.add(a.bold(f.Function)+":"+f.Version, fmt.Sprintf("%.1f", f.PerSecond), fmt.Sprint(f.Busy), fmt.Sprint(f.Idle), fmt.Sprint(f.Prepared),
			fmt.Sprintf("%.2f", f.CPUs), fmt.Sprintf("%.0f", f.UsedMiB), fmt.Sprint(f.LimitMiB), fmt.Sprintf("%.0f", f.PeakMiB))
	}
	t.print(w, a)
}

func waiting(a *app, n int) string {
	s := fmt.Sprintf("%d waiting", n)
	if n > 0 {
		return a.amber(s)
	}
	return s
}
