package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hearth-faas/hearth/server"
)

// proxyRunner is what hearth proxy serve needs of its server.
type proxyRunner interface {
	Addr() net.Addr
	Ready() <-chan struct{}
	Serve(ctx context.Context) error
}

// proxySettings are the settings of hearth up that proxy endpoints alone have as
// well.
var proxySettings = []string{
	"database", "database-password", "master-key-file", "region", "account", "execution-endpoint", "execution-region", "execution-credentials", "http-backends",
	"trusted-proxies", "forwarded-header", "max-connections", "source-connections", "source-rate", "decisions", "decision-log", "shutdown-grace", "metrics", "log-level", "log-format",
}

// executionFlags bind who runs the functions of proxy APIs.
func executionFlags(f *pflag.FlagSet, e *server.ExecutionConfig) {
	f.StringVar(&e.Endpoint, "execution-endpoint", e.Endpoint, "`URL` of the Lambda API that runs the functions of proxy APIs (default: this server's own)")
	f.StringVar(&e.Region, "execution-region", e.Region, "AWS `region` that requests to it are signed for (default: the server's)")
	f.StringVar(&e.Credentials, "execution-credentials", e.Credentials, "`file` of AWS credentials for it: the profile called as an account signs its calls, default the server's own account's")
}

func (a *app) proxyServeCmd() *cobra.Command {
	cfg := server.DefaultProxyConfig()
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve proxy APIs alone, whose functions run elsewhere, until told to stop",
		Long: `Serve proxy APIs alone, whose functions are run by a code execution service
elsewhere: another Hearth, or anything else that speaks the Lambda API. hearth
up serves proxy APIs as well; this is for where no code is to run.

It needs a data folder of its own, which the other hearth proxy commands find
by --data. SIGTERM or SIGINT lets running calls end, and exits.`,
		Example: `  hearth proxy serve --data /var/lib/hearth-proxy --execution-endpoint http://10.0.0.7:9070 --execution-credentials /etc/hearth/execution`,
		Args:    exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.DataDir, cfg.Version = a.dataDir(), ownVersion()
			cfg.MasterKeyFile = a.masterKey(cfg.MasterKeyFile)
			if err := noPassword(os.Args, cfg.Database); err != nil {
				return err
			}
			if err := cfg.Validate(); err != nil {
				return usage(strings.ReplaceAll(err.Error(), "\n", "; "), "See hearth proxy serve --help.")
			}
			return a.serveProxies(cmd.Context(), cfg)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&cfg.Listen, "listen", cfg.Listen, "`HOST:PORT` of the endpoints; port 0 takes a free one")
	f.StringSliceVar(&cfg.CallbackHosts, "callback-hosts", nil, "`IP:PORT`s that may be sent results of asynchronous calls though they are not public")
	for _, name := range []string{"listen", "callback-hosts"} {
		markSetting(f.Lookup(name), "")
	}
	all := pflag.NewFlagSet("", pflag.ContinueOnError)
	upFlags(all, &cfg.Config)
	for _, name := range proxySettings {
		f.AddFlag(all.Lookup(name))
	}
	cfg.Listen = server.DefaultProxyConfig().Listen // upFlags has a default of its own
	return cmd
}

func (a *app) serveProxies(ctx context.Context, cfg server.ProxyConfig) error {
	s, err := a.newProxy(ctx, cfg)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return startFailure(cfg.Config, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	var unsaid error // who can't say that it is ready serves all the same
	select {
	case <-s.Ready():
		unsaid = a.printProxyReady(cfg, s)
		err = <-ended
	case err = <-ended:
	}
	if err != nil {
		return failed("the proxy endpoints ended", err, "")
	}
	return unsaid
}

// printProxyReady says where it is. It is the first line on standard output, for
// whoever waits for it.
func (a *app) printProxyReady(cfg server.ProxyConfig, s proxyRunner) error {
	endpoint := "http://" + s.Addr().String()
	if a.json {
		return json.NewEncoder(a.out).Encode(struct {
			Endpoint  string `json:"endpoint"`
			Execution string `json:"execution"`
			PID       int    `json:"pid"`
		}{endpoint, cfg.Execution.Endpoint, os.Getpid()})
	}
	_, err := fmt.Fprintf(a.out, "Proxy endpoints are ready at %s; functions run at %s.\n", a.bold(endpoint), cfg.Execution.Endpoint)
	return err
}
