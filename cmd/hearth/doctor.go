package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/runtimes"
	"github.com/hearth-faas/hearth/sandbox/egress"
	"github.com/hearth-faas/hearth/sandbox/namespace"
)

// diagnosis is what hearth doctor prints.
type diagnosis struct {
	control.Report
	Server   string            `json:"server,omitempty"` // the endpoint of the one that was asked
	Runtimes []control.Runtime `json:"runtimes"`
	Tools    []control.Check   `json:"tools"` // what the command line itself uses
}

func (a *app) doctorCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Tell what isolation, limits and runtimes this machine gives, and what to do for more",
		Long: `Tell what isolation, limits and runtimes this machine gives, and what to do for
more. If a server runs on the data folder, it is asked: it may have privileges
that you have not. If none does, this program looks for itself.`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := a.diagnose(cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(d)
			}
			a.printDiagnosis(a.out, d)
			return nil
		},
	}
}

func (a *app) diagnose(ctx context.Context) (*diagnosis, error) {
	d := &diagnosis{Tools: []control.Check{checkGo()}}
	r, err := a.connect()
	// A server that was killed leaves the file that tells of it.
	gone := err == nil && r.running.Endpoint != "" && !r.running.Alive(ctx)
	if err != nil || gone {
		done := a.progress("looking at this machine")
		defer done()
		return d, lookAround(ctx, d)
	}
	d.Server = r.endpoint
	if d.Report, err = r.control.Doctor(ctx); err != nil {
		return nil, r.failure("can't ask the server about its machine", err)
	}
	if d.Runtimes, err = r.control.Runtimes(ctx); err != nil {
		return nil, r.failure("can't ask the server about its runtimes", err)
	}
	return d, nil
}

// lookAround finds out what a server started by this user would have: it
// makes a driver in a folder of its own and takes it down again.
func lookAround(ctx context.Context, d *diagnosis) (err error) {
	dir, err := os.MkdirTemp("", "hearth-doctor-")
	if err != nil {
		return failed("can't look at this machine", err, "")
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	program := "/proc/self/exe"
	if code, err := sandboxProgram(); err != nil {
		return err
	} else if code != nil {
		program = filepath.Join(dir, "hearth-sandbox")
		if err := os.WriteFile(program, code, 0o755); err != nil {
			return failed("can't look at this machine", err, "")
		}
	}
	set, err := runtimes.Discover(ctx, runtimes.Options{
		Files: filepath.Join(dir, "runtimes"), Path: os.Getenv("PATH"), Home: os.Getenv("HOME"),
	})
	if err != nil {
		return err
	}
	d.Runtimes = control.RuntimesOf(set.List())
	network, err := egress.New(egress.Config{Clock: clock.System(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return failed("the sandboxes' network can't be made on this machine", err, "")
	}
	defer func() { err = errors.Join(err, network.Close()) }()
	driver, err := namespace.New(ctx, namespace.Config{Program: program, DataDir: dir, Network: network})
	if err != nil {
		return failed("sandboxes can't be made on this machine", err, "Unprivileged user namespaces or the privileges of root are needed: see docs/security.md.")
	}
	d.Report = control.ReportOf(driver.Report(), ownVersion())
	d.Checks = append(d.Checks, checkProgram())
	return driver.Close()
}

func checkProgram() control.Check {
	c := control.Check{Name: "sandbox program", OK: true, Detail: "inside this binary"}
	if code, err := sandboxProgram(); err != nil || code == nil {
		c.OK, c.Detail = false, "this binary was built without it and serves as it itself, which costs each sandbox some milliseconds and megabytes"
		c.Fix = "build with make build, or take a release"
	}
	return c
}

// checkGo is about what hearth deploy uses on this machine.
func checkGo() control.Check {
	path, err := exec.LookPath("go")
	if err != nil {
		return control.Check{
			Name: "go", Detail: "not on the PATH: Go programs are deployed as a built bootstrap only", Fix: "install Go from go.dev/dl",
		}
	}
	return control.Check{Name: "go", OK: true, Detail: path + " builds Go programs for hearth deploy"}
}

func (a *app) printDiagnosis(w io.Writer, d *diagnosis) {
	who := "an ordinary user"
	if d.Root {
		who = "root"
	}
	where := "what a server would have"
	if d.Server != "" {
		where = "the server at " + d.Server
	}
	fmt.Fprintf(w, "%s: Hearth %s, driver %s, as %s\n\n", a.bold(where), d.Version, d.Driver, who)
	for _, c := range append(d.Checks, d.Tools...) {
		mark := a.green("ok  ")
		if !c.OK {
			mark = a.amber("no  ")
		}
		fmt.Fprintf(w, "%s %-22s %s\n", mark, c.Name, oneLine(c.Detail))
		if !c.OK && c.Fix != "" {
			fmt.Fprintf(w, "     %-22s %s\n", "", a.bold("→ "+c.Fix))
		}
	}
	fmt.Fprintln(w)
	a.printRuntimes(w, d.Runtimes)
}

// oneLine is s without line breaks: a detail may be what another program said.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
