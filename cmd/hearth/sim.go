package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hearth-faas/hearth/decision"
	"github.com/hearth-faas/hearth/manager"
	"github.com/hearth-faas/hearth/server"
	"github.com/hearth-faas/hearth/sim"
)

func (a *app) simCmd() *cobra.Command {
	var (
		files    sim.Files
		log      string
		mib      float64
		plot     string
		spread   = string(sim.Uniform)
		settings = sim.Settings{Seed: 1, Cold: 400 * time.Millisecond}
		cfg      = server.DefaultConfig()
	)
	cmd := &cobra.Command{
		Use:   "sim (--invocations FILE... | --decisions DIR) [flags]",
		Short: "Replay recorded traffic: what would keeping containers warm cost?",
		Long: `Replay recorded traffic in simulated time, and show what keeping containers
warm costs and spares: under the policy that decides in this server, under fixed
times, under the histogram policy of "Serverless in the Wild" (ATC'20), and what
one that knows the future could do.

The files are in the format of the Azure Functions 2019 dataset: invocations a
minute, percentiles of run times, memory. Without run times or memory functions
have those of the dataset's median. Or it is what a server recorded: the folder
"decisions" in its data folder has every invocation, each with its time. No
server is needed, and one may be running.`,
		Example: `  hearth sim --invocations 100_inv.csv --durations 100_run.csv --memory 100_mem.csv
  hearth sim --invocations d01.csv,d02.csv --spread start --plot frontier.svg --json
  hearth sim --decisions .hearth/decisions --memory-mib 128`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			settings.Spread = sim.Spread(spread)
			if err := validSim(cmd, files, log, mib, settings, cfg, plot); err != nil {
				return err
			}
			done := a.progress("replaying")
			defer done()
			read := func() (*sim.Trace, error) { return sim.Read(files) }
			if log != "" {
				read = func() (*sim.Trace, error) { return sim.FromDecisions(decision.Read(log), mib) }
			}
			t, err := read()
			if err != nil {
				return failed("can't read the trace", err, "docs/sim.md describes what it may be.")
			}
			life := manager.IdleLife{Min: cfg.IdleMin, Max: cfg.IdleMax, Worth: float64(cfg.IdleWorth)}
			c, err := sim.Compare(cmd.Context(), t, life, settings)
			if err != nil {
				return failed("can't replay the trace", err, "")
			}
			done()
			if plot != "" {
				if err := writeSVG(plot, c); err != nil {
					return failed("can't write the plot", err, "")
				}
			}
			if a.json {
				return a.printJSON(c.Report())
			}
			return c.WriteTable(a.out)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&files.Invocations, "invocations", nil, "`files` of invocations a minute, a day each")
	f.StringSliceVar(&files.RunTimes, "durations", nil, "`files` of percentiles of run times")
	f.StringSliceVar(&files.Memory, "memory", nil, "`files` of memory by application")
	f.StringVar(&log, "decisions", "", "`folder` of the decisions that a server recorded, in place of files")
	f.Float64Var(&mib, "memory-mib", 0, "`MiB` that each function of --decisions has, which those do not tell")
	f.Uint64Var(&settings.Seed, "seed", settings.Seed, "`number` that all chance comes from")
	f.StringVar(&spread, "spread", spread, "`where` in their minute invocations come: uniform, even, or start (its first second)")
	f.DurationVar(&settings.Cold, "cold-start", settings.Cold, "`duration` of the making of a container")
	f.BoolVar(&settings.Shared, "shared", false, "let a container serve any number of invocations at once, as the histogram policy's authors do")
	f.Var((*duration)(&cfg.IdleMin), "idle-min", "`duration` that a container without work lives at least")
	f.Var((*duration)(&cfg.IdleMax), "idle-max", "`duration` that a container without work lives at most")
	f.IntVar(&cfg.IdleWorth, "idle-worth", cfg.IdleWorth, "`MiB·s` of waiting that it is worth to spare one cold start")
	f.StringVar(&plot, "plot", "", "SVG `file` for a plot of waiting memory against cold starts")
	return cmd
}

func validSim(cmd *cobra.Command, files sim.Files, log string, mib float64, s sim.Settings, cfg server.Config, plot string) error {
	for _, c := range []struct {
		ok    bool
		thing string
	}{
		{len(files.Invocations) > 0 || log != "", "no trace is given: --invocations FILE or --decisions DIR is wanted"},
		{log == "" || len(files.Invocations)+len(files.RunTimes)+len(files.Memory) == 0, "--decisions goes with no files: it has all but the memory (--memory-mib)"},
		{mib >= 0 && mib <= 1<<20 && (mib == 0 || log != ""), fmt.Sprintf("--memory-mib %g is no memory of functions of --decisions", mib)},
		{s.Spread == sim.Uniform || s.Spread == sim.Even || s.Spread == sim.Start, fmt.Sprintf("--spread %q is none of uniform, even and start", s.Spread)},
		{s.Cold >= 0 && s.Cold <= time.Hour, fmt.Sprintf("--cold-start %v is not between 0 and an hour", s.Cold)},
		{cfg.IdleMin > 0 && cfg.IdleMax >= cfg.IdleMin, fmt.Sprintf("--idle-min %v to --idle-max %v is no range", cfg.IdleMin, cfg.IdleMax)},
		{cfg.IdleWorth >= 1, fmt.Sprintf("--idle-worth %d is less than 1", cfg.IdleWorth)},
		{plot == "" || strings.EqualFold(filepath.Ext(plot), ".svg"), fmt.Sprintf("--plot %q does not end in .svg", plot)},
	} {
		if err := valid(cmd, c.ok, c.thing); err != nil {
			return err
		}
	}
	return nil
}

func writeSVG(name string, c *sim.Comparison) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := c.WriteSVG(f); err != nil {
		f.Close() // the first error is told
		return err
	}
	return f.Close()
}
