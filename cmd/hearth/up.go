package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/identity"
	"github.com/hearth-faas/hearth/server"
)

// runner is what hearth up needs of a server.
type runner interface {
	Addr() net.Addr
	Public() string // the endpoint for other machines; "" is none
	Ready() <-chan struct{}
	Serve(ctx context.Context) error
}

// upGroups are the parts of hearth up's help, in their order.
var upGroups = []string{"Where it is", "How much it may use", "Which nodes run what", "What it runs code with", "Where code comes from", "What it keeps", "How it runs"}

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
			// No flags: those show in every list of processes.
			cfg.S3Keys = aws.Credentials{
				AccessKeyID:     a.getenv("HEARTH_S3_ACCESS_KEY_ID"),
				SecretAccessKey: a.getenv("HEARTH_S3_SECRET_ACCESS_KEY"),
				SessionToken:    a.getenv("HEARTH_S3_SESSION_TOKEN"),
			}
			cfg.MasterKeyFile = a.masterKey(cfg.MasterKeyFile)
			if err := noPassword(os.Args, cfg.Database); err != nil {
				return err
			}
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
	f.StringVar(&cfg.TLSListen, "tls-listen", cfg.TLSListen, "`HOST:PORT` of the API under TLS, for other machines")
	f.StringSliceVar(&cfg.TLSCert, "tls-cert", nil, "`file` of its certificate, PEM, with those between it and its root; read again when it changes; several are for different host names")
	f.StringSliceVar(&cfg.TLSKey, "tls-key", nil, "`file` of the certificate's key, PEM; of several one for each, in the same order")
	f.StringSliceVar(&cfg.ACMEDomains, "acme-domains", nil, "`names` that certificates are had for by ACME instead, under the authority's terms of service")
	f.BoolVar(&cfg.ACMEHostNames, "acme-host-names", cfg.ACMEHostNames, "have certificates by ACME for the host names of HTTP APIs too")
	f.StringVar(&cfg.ACMEDirectory, "acme-directory", cfg.ACMEDirectory, "`URL` of the ACME authority (default: Let's Encrypt's)")
	f.StringVar(&cfg.ACMERoots, "acme-roots", cfg.ACMERoots, "`file` of the authority's own roots, PEM (default: the system's)")
	f.StringVar(&cfg.ACMEEmail, "acme-email", cfg.ACMEEmail, "`address` that the authority may write to")
	f.BoolVar(&cfg.InsecureListen, "insecure-listen", cfg.InsecureListen, "let --listen be reached by other machines, in plain text")
	f.StringSliceVar(&cfg.TrustedProxies, "trusted-proxies", nil, "`addresses` and networks, 10.0.0.7 or 10.0.0.0/24, of reverse proxies that are believed whom they ask for")
	f.StringVar(&cfg.ForwardedHeader, "forwarded-header", cfg.ForwardedHeader, "`header` by which they say it: x-forwarded-for (with x-forwarded-proto) or forwarded (RFC 7239)")
	f.StringVar(&cfg.Database, "database", cfg.Database, "`URL` of a PostgreSQL that keeps the records, postgres://USER@HOST/NAME (default: a file in the data folder)")
	f.StringVar(&cfg.DatabasePassword, "database-password", cfg.DatabasePassword, "`file` with its password; it may also be in HEARTH_DATABASE's URL")
	f.StringVar(&cfg.MasterKeyFile, "master-key-file", cfg.MasterKeyFile, "`file` of the key that seals secrets (default: systemd's credential "+identity.CredentialName+", or "+identity.MasterKeyFile+" in the data folder)")
	f.BoolVar(&cfg.Standby, "standby", cfg.Standby, "if another server works on the data folder or the database, wait until it has ended, and take over")
	f.StringVar(&cfg.Region, "region", cfg.Region, "AWS `region` that a first start makes (default "+hearth.DefaultRegion+")")
	f.StringVar((*string)(&cfg.Account), "account", string(cfg.Account), "`account` that a first start makes, twelve digits (default "+string(hearth.DefaultAccount)+")")
	named("listen", "tls-listen", "tls-cert", "tls-key", "acme-domains", "acme-host-names", "acme-directory", "acme-roots", "acme-email", "insecure-listen", "trusted-proxies", "forwarded-header", "database", "database-password", "master-key-file", "standby", "region", "account")

	f.IntVar(&cfg.MemoryMiB, "memory", cfg.MemoryMiB, "`MiB` of memory promised to functions at most (default: three quarters of the machine's)")
	f.Float64Var(&cfg.Overcommit, "overcommit", cfg.Overcommit, "`factor` by which more memory may be promised than that")
	f.IntVar(&cfg.InstanceMiB, "instance-memory", cfg.InstanceMiB, "`MiB` that an instance offers to the containers of its account")
	f.Float64Var(&cfg.CPUMiB, "cpu-memory", cfg.CPUMiB, "`MiB` of memory that come with one whole processor")
	f.IntVar(&cfg.NetworkMbit, "network-mbit", cfg.NetworkMbit, "`Mbit/s` of this machine's link, shared like its memory; 0 is no limit")
	f.IntVar(&cfg.PoolMiB, "pool", cfg.PoolMiB, "`MiB` of the warming pool, never exceeded; 0 is no pool")
	f.IntVar(&cfg.VariableMiB, "variable-memory", cfg.VariableMiB, "`MiB` of --memory that are variable capacity: there as --capacity-feed says, at its price")
	f.StringVar(&cfg.CapacityFeed, "capacity-feed", cfg.CapacityFeed, "`file` or URL that tells the price of variable capacity, and how much there is")
	f.Var((*duration)(&cfg.CapacityPoll), "capacity-poll", "`duration` between two readings of it (default 250ms, of a URL 5s)")
	f.Var((*duration)(&cfg.CapacityStale), "capacity-stale", "`duration` after which what it said last starts nothing new any more")
	f.Var((*duration)(&cfg.CapacityGrace), "capacity-grace", "`duration` that running invocations get to end in when their variable capacity goes")
	f.Float64Var(&cfg.FixedPrice, "fixed-price", cfg.FixedPrice, "`price` of a GiB of fixed capacity for an hour, in the feed's currency")
	f.IntVar(&cfg.Concurrency, "concurrency", cfg.Concurrency, "`number` of invocations of an account that run at once")
	f.IntVar(&cfg.APIRate, "api-rate", cfg.APIRate, "`number` of requests of an account, beside invocations, in a second; 0 is no limit")
	f.BoolVar(&cfg.Fair, "fair", cfg.Fair, "have accounts take turns while the machine is saturated")
	f.IntVar(&cfg.MaxConnections, "max-connections", cfg.MaxConnections, "`number` of connections from outside at once")
	f.IntVar(&cfg.SourceConnections, "source-connections", cfg.SourceConnections, "`number` of them from one address (default: a quarter)")
	f.IntVar(&cfg.SourceRate, "source-rate", cfg.SourceRate, "`number` of requests of one address in a second; 0 is no limit")
	f.IntVar(&cfg.Rate, "rate", cfg.Rate, "`number` of invocations that may begin in a second for each of --concurrency; -1 is no limit")
	f.Var((*duration)(&cfg.IdleMin), "idle-min", "`duration` that a container without work lives at least")
	f.Var((*duration)(&cfg.IdleMax), "idle-max", "`duration` that a container without work lives at most")
	f.BoolVar(&cfg.IdleAhead, "idle-ahead", cfg.IdleAhead, "make containers anew before they are expected to be called, instead of keeping them until then")
	f.IntVar(&cfg.IdleWorth, "idle-worth", cfg.IdleWorth, "`MiB·s` of waiting that it is worth to spare one cold start")
	named("memory", "overcommit", "instance-memory", "cpu-memory", "network-mbit", "pool", "concurrency", "rate", "api-rate", "fair", "max-connections", "source-connections", "source-rate", "idle-min", "idle-max", "idle-worth", "idle-ahead",
		"variable-memory", "capacity-feed", "capacity-poll", "capacity-stale", "capacity-grace", "fixed-price")

	f.StringVar(&cfg.Nodes, "nodes", cfg.Nodes, "`HOST:PORT` at which other machines join as nodes; none may unless it is given")
	f.StringVar(&cfg.Fleet, "fleet", cfg.Fleet, "`fleet` of this machine: "+strings.Join(server.Fleets, ", ")+" (low is for code that is called seldom)")
	f.Var((*duration)(&cfg.FleetWindow), "fleet-window", "`duration` over which it is counted how often code is called")
	f.IntVar(&cfg.FleetHigh, "fleet-high", cfg.FleetHigh, "`number` of invocations in it from which that is often; below half of it, it is seldom again")
	named("nodes", "fleet", "fleet-window", "fleet-high")

	f.StringSliceVar(&cfg.Interpreters, "interpreters", nil, "`folders` searched for node and python before PATH")
	f.BoolVar(&cfg.StrictRuntimes, "strict-runtimes", cfg.StrictRuntimes, "refuse a runtime whose very version is not here, instead of taking the nearest")
	f.BoolVar(&cfg.StrictRoles, "strict-roles", cfg.StrictRoles, "refuse a function whose role was not made here, instead of taking any")
	named("interpreters", "strict-runtimes", "strict-roles")

	f.StringVar(&cfg.S3Endpoint, "s3-endpoint", cfg.S3Endpoint, "`URL` of the S3 that code may be taken from; file:///FOLDER takes its folders as buckets")
	f.StringVar(&cfg.S3Region, "s3-region", cfg.S3Region, "AWS `region` that requests to it are signed for (default: the server's)")
	f.BoolVar(&cfg.S3PathStyle, "s3-path-style", cfg.S3PathStyle, "put the bucket into the path, not before the host's name")
	f.StringVar(&cfg.S3Credentials, "s3-credentials", cfg.S3Credentials, "`file` of AWS credentials for it (default: HEARTH_S3_ACCESS_KEY_ID and its like; else unsigned)")
	f.StringSliceVar(&cfg.ImagePaths, "image-paths", nil, "`folders` whose OCI layouts and archives functions may come from")
	f.StringSliceVar(&cfg.Registries, "image-registries", nil, "`registries`, HOST, HOST:PORT or *.DOMAIN, that images may come from (default: any)")
	f.StringSliceVar(&cfg.InsecureRegistries, "image-insecure", nil, "`registries`, HOST or HOST:PORT, that may be asked without TLS, beside those on loopback")
	f.StringVar(&cfg.RegistryCredentials, "image-credentials", cfg.RegistryCredentials, "`file` of registries' credentials, as docker login writes it")
	f.IntVar(&cfg.FetchMbit, "fetch-mbit", cfg.FetchMbit, "`megabits` a second at which code packages come from the store at most; 0 is no limit")
	f.StringSliceVar(&cfg.DependencyPaths, "dependency-paths", nil, "`folders` in which idempotent functions may depend on files, SQLite's databases and Unix sockets")
	f.StringSliceVar(&cfg.DependencyHosts, "dependency-hosts", nil, "`IP:PORT`s that may be asked about their dependencies though functions can't reach them")
	f.StringSliceVar(&cfg.HTTPBackends, "http-backends", nil, "`IP:PORT`s that HTTP APIs, and checks of tokens, may call though they are of this machine, or link-local")
	f.StringSliceVar(&cfg.OwnNames, "own-names", nil, "host `names` by which clients reach this server, beside the machine's: no account's HTTP API can take them")
	named("s3-endpoint", "s3-region", "s3-path-style", "s3-credentials", "image-paths", "image-registries", "image-insecure", "image-credentials", "fetch-mbit", "dependency-paths", "dependency-hosts", "http-backends", "own-names")

	f.IntVar(&cfg.LogMiB, "logs", cfg.LogMiB, "`MiB` of the functions' logs on disk")
	f.Var((*duration)(&cfg.LogRetention), "log-retention", "`duration` that they are kept")
	f.IntVar(&cfg.Decisions, "decisions", cfg.Decisions, "`number` of decisions kept in memory")
	f.IntVar(&cfg.DecisionLogMiB, "decision-log", cfg.DecisionLogMiB, "`MiB` of the decision log on disk")
	f.IntVar(&cfg.AuditMiB, "audit-log", cfg.AuditMiB, "`MiB` of the audit log on disk")
	f.Var((*duration)(&cfg.AuditRetention), "audit-retention", "`duration` that its records are kept")
	named("logs", "log-retention", "decisions", "decision-log", "audit-log", "audit-retention")

	f.Var((*duration)(&cfg.EventRetry), "event-retry", "`duration` that an asynchronous invocation that failed waits for its first retry")
	f.StringVar((*string)(&cfg.CatchUp), "schedule-catch-up", string(cfg.CatchUp), "`what` becomes of the times of schedules that pass while no server runs: skip, last, all (of each the last 100)")
	executionFlags(f, &cfg.Execution)
	f.Var((*duration)(&cfg.ShutdownGrace), "shutdown-grace", "`duration` that running invocations get to end in")
	f.BoolVar(&cfg.Metrics, "metrics", cfg.Metrics, "serve Prometheus metrics at /metrics")
	f.StringVar(&cfg.LogLevel, "log-level", cfg.LogLevel, "`level` of the server's own log: "+strings.Join(server.LogLevels, ", "))
	f.StringVar(&cfg.LogFormat, "log-format", cfg.LogFormat, "`format` of it: "+strings.Join(server.LogFormats, ", "))
	named("event-retry", "schedule-catch-up", "execution-endpoint", "execution-region", "execution-credentials", "shutdown-grace", "metrics", "log-level", "log-format")
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
		unsaid = a.printReady(cfg, s.Addr(), s.Public())
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
func (a *app) printReady(cfg server.Config, addr net.Addr, public string) error {
	endpoint := "http://" + addr.String()
	if a.json {
		if public != "" {
			public = fmt.Sprintf(`"public":%q,`, public)
		}
		_, err := fmt.Fprintf(a.out, `{"endpoint":%q,%s"pid":%d,"version":%q}`+"\n", endpoint, public, os.Getpid(), cfg.Version)
		return err
	}
	next := "hearth env"
	if a.data != "" {
		next += " --data " + shellQuote(a.data)
	}
	if public != "" {
		public = ", for other machines at " + a.bold(public)
	}
	_, err := fmt.Fprintf(a.out, "Hearth %s is ready at %s%s. Next, in another shell: eval \"$(%s)\" && hearth deploy DIR\n", cfg.Version, a.bold(endpoint), public, next)
	return err
}

// startFailure words what keeps a server from starting. What concerns the data
// folder comes as a sentence with the way out in it.
func startFailure(cfg server.Config, err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "listen" {
		at, flag := cfg.Listen, "--listen" // by name, as it was given
		for other, address := range map[string]string{"--tls-listen": cfg.TLSListen, "--nodes": cfg.Nodes} {
			if address != "" && address != cfg.Listen && op.Addr != nil && sameAddress(address, op.Addr.String()) {
				at, flag = address, other
			}
		}
		thing := "the server can't listen on " + at
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			return failed(thing, errors.New("the port is in use"), "Stop what uses it, or choose another with "+flag+"; port 0 takes a free one.")
		case errors.Is(err, syscall.EADDRNOTAVAIL):
			return failed(thing, errors.New("the address is not of this machine"), "127.0.0.1 is always there, 0.0.0.0 is all of them.")
		case errors.Is(err, syscall.EACCES):
			return failed(thing, errors.New("ports below 1024 are for root"), "Choose another with "+flag+".")
		}
		return failed(thing, op.Err, "")
	}
	return failed("the server can't start", err, "")
}

// sameAddress tells whether an address that was given is the one that was tried.
func sameAddress(given, tried string) bool {
	resolved, err := net.ResolveTCPAddr("tcp", given)
	return err == nil && resolved.String() == tried
}
