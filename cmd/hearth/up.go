package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/server"
)

// runner is what hearth up needs of a server.
type runner interface {
	Addr() net.Addr
	Ready() <-chan struct{}
	Serve(ctx context.Context) error
}

// upGroups are the parts of hearth up's help, in their order.
var upGroups = []string{"Where it is", "How much it may use", "What it runs code with", "What it keeps", "How it runs"}

func (a *app) upCmd() *cobra.Command {
	cfg := server.DefaultConfig()
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start a server and run until told to stop",
		Long: `Start a server and run until told to stop.

SIGTERM or SIGINT stops taking requests, lets running invocations end, removes
every sandbox and exits; a second one exits at once, and the next start cleans
up. Each setting below is, in this order, the flag, the variable HEARTH_ with
the flag's name in capitals (HEARTH_LOG_LEVEL), the flag's name as a key of the
TOML configuration file (log-level = "debug"), or its default.`,
		Example: `  hearth up
  hearth up --listen 127.0.0.1:0 --data /tmp/hearth
  HEARTH_POOL=64 hearth up`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.DataDir, cfg.Version = a.dataDir(), ownVersion()
			if err := cfg.Validate(); err != nil {
				return usage(strings.ReplaceAll(err.Error(), "\n", "; "), "See hearth up --help.")
			}
			return a.up(cmd.Context(), cfg)
		},
	}
	cmd.Flags().SortFlags = false
	upFlags(cmd.Flags(), &cfg)
	cmd.SetUsageFunc(groupedUsage)
	return cmd
}

// upFlags binds each setting to its place in cfg.
func upFlags(f *pflag.FlagSet, cfg *server.Config) {
	group := 0
	named := func(names ...string) {
		for _, name := range names {
			markSetting(f.Lookup(name), upGroups[group])
		}
		group++
	}
	f.StringVar(&cfg.Listen, "listen", cfg.Listen, "`HOST:PORT` of the API; port 0 takes a free one")
	f.StringVar(&cfg.Region, "region", cfg.Region, "AWS `region` that a first start makes (default "+hearth.DefaultRegion+")")
	f.StringVar((*string)(&cfg.Account), "account", string(cfg.Account), "`account` that a first start makes, twelve digits (default "+string(hearth.DefaultAccount)+")")
	named("listen", "region", "account")

	f.IntVar(&cfg.MemoryMiB, "memory", cfg.MemoryMiB, "`MiB` of memory promised to functions at most (default: three quarters of the machine's)")
	f.Float64Var(&cfg.Overcommit, "overcommit", cfg.Overcommit, "`factor` by which more memory may be promised than that")
	f.IntVar(&cfg.InstanceMiB, "instance-memory", cfg.InstanceMiB, "`MiB` that an instance offers to the containers of its account")
	f.IntVar(&cfg.PoolMiB, "pool", cfg.PoolMiB, "`MiB` of the warming pool, never exceeded; 0 is no pool")
	f.IntVar(&cfg.Concurrency, "concurrency", cfg.Concurrency, "`number` of invocations of an account that run at once")
	f.Var((*duration)(&cfg.IdleMin), "idle-min", "`duration` that a container without work lives at least")
	f.Var((*duration)(&cfg.IdleMax), "idle-max", "`duration` that a container without work lives at most")
	named("memory", "overcommit", "instance-memory", "pool", "concurrency", "idle-min", "idle-max")

	f.StringSliceVar(&cfg.Interpreters, "interpreters", nil, "`folders` searched for node and python before PATH")
	f.BoolVar(&cfg.StrictRuntimes, "strict-runtimes", cfg.StrictRuntimes, "refuse a runtime whose very version is not here, instead of taking the nearest")
	named("interpreters", "strict-runtimes")

	f.IntVar(&cfg.LogMiB, "logs", cfg.LogMiB, "`MiB` of the functions' logs on disk")
	f.Var((*duration)(&cfg.LogRetention), "log-retention", "`duration` that they are kept")
	f.IntVar(&cfg.Decisions, "decisions", cfg.Decisions, "`number` of decisions kept in memory")
	f.IntVar(&cfg.DecisionLogMiB, "decision-log", cfg.DecisionLogMiB, "`MiB` of the decision log on disk")
	named("logs", "log-retention", "decisions", "decision-log")

	f.Var((*duration)(&cfg.ShutdownGrace), "shutdown-grace", "`duration` that running invocations get to end in")
	f.BoolVar(&cfg.Metrics, "metrics", cfg.Metrics, "serve Prometheus metrics at /metrics")
	f.StringVar(&cfg.LogLevel, "log-level", cfg.LogLevel, "`level` of the server's own log: "+strings.Join(server.LogLevels, ", "))
	f.StringVar(&cfg.LogFormat, "log-format", cfg.LogFormat, "`format` of it: "+strings.Join(server.LogFormats, ", "))
	named("shutdown-grace", "metrics", "log-level", "log-format")
}

// groupedUsage prints a command's flags by their groups.
func groupedUsage(cmd *cobra.Command) error {
	w := cmd.OutOrStderr()
	fmt.Fprintf(w, "Usage:\n  %s\n\nExamples:\n%s\n", cmd.UseLine(), cmd.Example)
	for _, group := range upGroups {
		set := pflag.NewFlagSet("", pflag.ContinueOnError)
		set.SortFlags = false
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if g := f.Annotations[settingGroup]; len(g) == 1 && g[0] == group {
				set.AddFlag(f)
			}
		})
		fmt.Fprintf(w, "\n%s:\n%s", group, set.FlagUsages())
	}
	_, err := fmt.Fprintf(w, "\nEvery command has:\n%s", cmd.InheritedFlags().FlagUsages())
	return err
}

// up runs a server until ctx ends.
func (a *app) up(ctx context.Context, cfg server.Config) error {
	program, err := sandboxProgram()
	if err != nil {
		return err
	}
	cfg.SandboxProgram = program
	s, err := a.newServer(ctx, cfg)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return startFailure(cfg, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	var unsaid error // a server that can't say that it is ready serves all the same
	select {
	case <-s.Ready():
		unsaid = a.printReady(cfg, s.Addr())
		err = <-ended
	case err = <-ended:
	}
	if err != nil {
		return failed("the server ended", err, "")
	}
	return unsaid
}

// printReady says where the server is and what to type next. It is the first
// line on standard output, for whoever waits for it.
func (a *app) printReady(cfg server.Config, addr net.Addr) error {
	endpoint := "http://" + addr.String()
	if a.json {
		_, err := fmt.Fprintf(a.out, `{"endpoint":%q,"pid":%d,"version":%q}`+"\n", endpoint, os.Getpid(), cfg.Version)
		return err
	}
	next := "hearth env"
	if a.data != "" {
		next += " --data " + shellQuote(a.data)
	}
	_, err := fmt.Fprintf(a.out, "Hearth %s is ready at %s. Next, in another shell: eval \"$(%s)\" && hearth deploy DIR\n", cfg.Version, a.bold(endpoint), next)
	return err
}

// startFailure words what keeps a server from starting. What concerns the data
// folder comes as a sentence with the way out in it.
func startFailure(cfg server.Config, err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "listen" {
		thing := "the server can't listen on " + cfg.Listen
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			return failed(thing, errors.New("the port is in use"), "Stop what uses it, or choose another with --listen; port 0 takes a free one.")
		case errors.Is(err, syscall.EADDRNOTAVAIL):
			return failed(thing, errors.New("the address is not of this machine"), "127.0.0.1 is always there, 0.0.0.0 is all of them.")
		case errors.Is(err, syscall.EACCES):
			return failed(thing, errors.New("ports below 1024 are for root"), "Choose another with --listen.")
		}
		return failed(thing, op.Err, "")
	}
	return failed("the server can't start", err, "")
}
