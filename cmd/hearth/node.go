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

// nodeRunner is what hearth node needs of a node.
type nodeRunner interface {
	Addr() net.Addr
	Name() string
	Serve(ctx context.Context) error
}

// nodeSettings are the settings of hearth up that a node has as well: those of
// its machine.
var nodeSettings = []string{
	"memory", "overcommit", "instance-memory", "cpu-memory", "network-mbit", "pool", "idle-min", "idle-max", "idle-worth", "idle-ahead", "fleet",
	"interpreters", "strict-runtimes", "fetch-mbit", "shutdown-grace", "log-level", "log-format",
}

func (a *app) nodeCmd() *cobra.Command {
	cfg := server.DefaultNodeConfig()
	cmd := &cobra.Command{
		Use:   "node",
		Short: "Give this machine's capacity to a server elsewhere, until told to stop",
		Long: `Give this machine's capacity to a server elsewhere, until told to stop.

The server takes nodes if it was started with --nodes HOST:PORT; the secret that
it shares with them is node.token in its data folder, and has to be copied to
the node (mode 0600). What the two say to each other is encrypted, and nothing
is sent to who does not have the secret. The node needs a data folder of its own.

SIGTERM or SIGINT asks the server for nothing new, lets running invocations end,
and exits.`,
		Example: `  hearth up --nodes 10.0.0.1:9071                     # on the server
  hearth node --join 10.0.0.1:9071 --listen 10.0.0.2:9072 --token-file node.token`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.DataDir, cfg.Version = a.dataDir(), ownVersion()
			cfg.Join = strings.TrimSuffix(strings.TrimPrefix(cfg.Join, "https://"), "/")
			if err := cfg.Validate(); err != nil {
				return usage(strings.ReplaceAll(err.Error(), "\n", "; "), "See hearth node --help.")
			}
			return a.node(cmd.Context(), cfg)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&cfg.Join, "join", cfg.Join, "`HOST:PORT` at which the server takes nodes")
	f.StringVar(&cfg.TokenFile, "token-file", cfg.TokenFile, "`file` with the secret of the server and its nodes")
	f.StringVar(&cfg.Name, "name", cfg.Name, "`name` of this node (default: the machine's)")
	f.StringVar(&cfg.Listen, "listen", cfg.Listen, "`HOST:PORT` at which the server reaches this node; port 0 takes a free one")
	for _, name := range []string{"join", "token-file"} {
		markSetting(f.Lookup(name), "")
	}
	all := pflag.NewFlagSet("", pflag.ContinueOnError)
	upFlags(all, &cfg.Config)
	for _, name := range nodeSettings {
		f.AddFlag(all.Lookup(name))
	}
	return cmd
}

// node runs a node until ctx ends.
func (a *app) node(ctx context.Context, cfg server.NodeConfig) error {
	program, err := sandboxProgram()
	if err != nil {
		return err
	}
	cfg.SandboxProgram = program
	n, err := a.newNode(ctx, cfg)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return failed("the node can't start", err, "")
	}
	unsaid := a.printJoined(cfg, n) // a node that can't say that it has joined serves all the same
	if err := n.Serve(ctx); err != nil {
		return failed("the node ended", err, "")
	}
	return unsaid
}

// printJoined says where the node is. It is the first line on standard output,
// for whoever waits for it.
func (a *app) printJoined(cfg server.NodeConfig, n nodeRunner) error {
	if a.json {
		return json.NewEncoder(a.out).Encode(struct {
			Name    string `json:"name"`
			Address string `json:"address"`
			Server  string `json:"server"`
			PID     int    `json:"pid"`
		}{n.Name(), n.Addr().String(), cfg.Join, os.Getpid()})
	}
	_, err := fmt.Fprintf(a.out, "The node %s has joined the server at %s, and listens at %s.\n", a.bold(n.Name()), cfg.Join, n.Addr())
	return err
}
