package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hearth-faas/hearth/server"
)

// app is one run of the command line: its streams, its environment, and the
// flags that every command has.
type app struct {
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string
	// outTTY and errTTY tell whether a person looks at out and err.
	outTTY, errTTY bool

	// newServer makes the server of hearth up.
	newServer func(context.Context, server.Config) (runner, error)
	// newNode makes the node of hearth node.
	newNode func(context.Context, server.NodeConfig) (nodeRunner, error)
	// newProxy makes the server of hearth proxy serve.
	newProxy func(context.Context, server.ProxyConfig) (proxyRunner, error)

	json     bool
	data     string // "" is the default folder
	config   string // "" is the default file, if there is one
	endpoint string // "" is the one that is found
	profile  string // of the AWS command line's files; "" is none
}

// newApp is an app on the process's own streams.
func newApp() *app {
	return &app{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv,
		outTTY: isTerminal(os.Stdout), errTTY: isTerminal(os.Stderr),
	}
}

// run executes a command line and returns the exit code. Whatever went wrong
// has been printed by then.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	f := asFailure(err, cmd.CommandPath())
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return exitInterrupted // and the user knows why
	}
	if f.missing && f.way == "" {
		f.way = whereToLook(f, cmd.CommandPath())
	}
	f.print(a)
	return f.code
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "hearth",
		Short: "On-demand code execution that you run yourself, through the AWS Lambda API",
		Long: `Hearth runs code on demand on your own machine, and speaks the AWS Lambda API.

  hearth up                   start a server
  eval "$(hearth env)"        point aws, boto3 and the SDKs at it
  hearth deploy DIR           make a function of a folder
  hearth invoke NAME '{}'     run it

Exit codes: 0 done; 1 it could not be done; 2 the command line is wrong;
3 the function ran and failed; 130 interrupted.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage(err.Error(), "See "+cmd.CommandPath()+" --help.")
	})
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return a.settle(cmd) }
	flags := root.PersistentFlags()
	flags.BoolVar(&a.json, "json", false, "print JSON")
	flags.StringVar(&a.data, "data", "", "data `folder` (default "+defaultDataDir(a.getenv, os.Geteuid())+")")
	flags.StringVar(&a.config, "config", "", "configuration `file` (default "+defaultConfigFile(a.getenv, os.Geteuid())+")")
	flags.StringVar(&a.endpoint, "endpoint", "", "`URL` of the server (default: that of the data folder)")
	flags.StringVar(&a.profile, "profile", "", "`profile` of ~/.aws/config that names the server and its credentials")
	for _, name := range []string{"json", "data", "endpoint", "profile"} {
		markSetting(flags.Lookup(name), "")
	}
	root.AddGroup(
		&cobra.Group{ID: "server", Title: "The server"},
		&cobra.Group{ID: "functions", Title: "Functions"},
		&cobra.Group{ID: "insight", Title: "What happens inside"},
	)
	group := func(id string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = id
			root.AddCommand(c)
		}
	}
	group("server", a.keyCmd(), a.envCmd(), a.accountCmd())
	if a.newServer != nil {
		group("server", a.upCmd(), a.moveRecordsCmd())
	}
	if a.newNode != nil {
		group("server", a.nodeCmd())
	}
	group("functions", a.deployCmd(), a.invokeCmd(), a.logsCmd(), a.urlCmd(), a.lsCmd(), a.rmCmd(), a.parkedCmd(), a.scheduleCmd(), a.sourceCmd(), a.durableCmd(), a.idempotentCmd(), a.backfillCmd(), a.proxyCmd(), a.hintCmd(), a.triggerCmd(), a.offerCmd(), a.sharedAliasCmd(), a.tasksCmd(), a.signCmd(), a.signingCmd(), a.keysCmd())
	group("insight", a.psCmd(), a.topCmd(), a.capacityCmd(), a.billCmd(), a.nodesCmd(), a.explainCmd(), a.decisionsCmd(), a.adviseCmd(), a.simCmd(), a.policyCmd(), a.canCmd(), a.runtimesCmd(), a.auditCmd(), a.apiCmd(), a.doctorCmd())
	root.AddCommand(a.demoCmd(), a.versionCmd())
	group("functions", a.eventsCmd())
	return root
}

// dataDir is the folder in use.
func (a *app) dataDir() string {
	if a.data == "" {
		return defaultDataDir(a.getenv, os.Geteuid())
	}
	if dir, err := filepath.Abs(a.data); err == nil {
		return dir
	}
	return a.data // of a folder that is gone, and the error of using it says that
}

// printJSON writes v to standard output as one indented document.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// say tells a person, on standard error, what is going on; --json silences it.
func (a *app) say(format string, args ...any) {
	if !a.json {
		fmt.Fprintf(a.err, format+"\n", args...)
	}
}

// exactly demands n arguments, named in the usage line.
func exactly(n int) cobra.PositionalArgs { return between(n, n) }

func between(low, high int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= low && (len(args) <= high || high < 0) {
			return nil
		}
		if high == 0 && cmd.HasAvailableSubCommands() {
			var names []string
			for _, c := range cmd.Commands() {
				if c.IsAvailableCommand() {
					names = append(names, c.Name())
				}
			}
			return usage(fmt.Sprintf("there is no %s %s", cmd.CommandPath(), args[0]), "There are: "+strings.Join(names, ", ")+"; see "+cmd.CommandPath()+" --help.")
		}
		plural := "s"
		if len(args) == 1 {
			plural = ""
		}
		return usage(fmt.Sprintf("%s got %d argument%s", cmd.CommandPath(), len(args), plural), "It is used as: "+cmd.UseLine())
	}
}
