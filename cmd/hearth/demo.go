package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/cmd/hearth/internal/bundle"
	"github.com/hearth-faas/hearth/control"
)

func (a *app) demoCmd() *cobra.Command {
	var examples string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show it all in a minute: start, deploy the examples, run them cold and warm, end clean",
		Long: `Show it all in a minute: start a server on a free port with a temporary data
folder, deploy the examples, run each cold and warm through the public API, show
which way each took, stop the server and see that nothing is left of it.`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := os.Stat(filepath.Join(examples, "bootstrap", "bootstrap")); err != nil {
				return failed("the examples are not in "+examples, err, "Run it where Hearth's sources are, or name their folder with --examples.")
			}
			d := &demo{a: a, examples: examples, began: time.Now()}
			if err := d.run(cmd.Context()); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(d.shown)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&examples, "examples", "examples", "`folder` of the examples")
	return cmd
}

// demo is one run of it.
type demo struct {
	a        *app
	examples string
	began    time.Time
	server   *demoServer
	remote   *remote
	shown    demonstrated
}

// demonstrated is what was shown, and what --json prints.
type demonstrated struct {
	Functions []demoFunction        `json:"functions"`
	Missing   map[string]string     `json:"missing"`  // example → why it could not be shown
	Together  map[hearth.Path]int   `json:"together"` // ways of the invocations at once
	Left      []string              `json:"left"`     // what the server left behind
	Seconds   float64               `json:"seconds"`
	stories   map[string]demoResult // by function
}

type demoFunction struct {
	Function   string      `json:"function"`
	Runtime    string      `json:"runtime"`
	ColdMillis float64     `json:"coldMillis"`
	ColdPath   hearth.Path `json:"coldPath"`
	WarmMillis float64     `json:"warmMillis"` // median
	WarmPath   hearth.Path `json:"warmPath"`
	Hello      string      `json:"hello"`
	Runs       int         `json:"invocations"` // as the function itself counts them
}

// demoResult is one invocation as the demo shows it.
type demoResult struct {
	out      *invoked
	decision hearth.Decision
}

const (
	demoWarm     = 20 // warm invocations of each function
	demoTogether = 12 // invocations at once
)

func (d *demo) run(ctx context.Context) (err error) {
	d.shown.Missing, d.shown.Together, d.shown.stories = map[string]string{}, map[hearth.Path]int{}, map[string]demoResult{}
	if d.server, err = startDemoServer(ctx); err != nil {
		return err
	}
	defer func() { // whatever happened, nothing stays
		if left, stopErr := d.server.stop(); err == nil && stopErr != nil {
			err = stopErr
		} else {
			d.shown.Left = left
		}
	}()
	quiet := *d.a
	quiet.json, quiet.data, quiet.endpoint = true, d.server.dir, ""
	if d.remote, err = quiet.connect(); err != nil {
		return err
	}
	d.line("Hearth %s is up at %s after %.1f s, on a temporary data folder.\n", ownVersion(), d.remote.endpoint, time.Since(d.began).Seconds())
	if err := d.missing(ctx); err != nil {
		return err
	}
	for _, example := range []string{"go", "node", "python", "bootstrap"} {
		if why := d.shown.Missing[example]; why != "" {
			d.line("%-15s not shown: %s", "hello-"+example, why)
			continue
		}
		if err := d.show(ctx, &quiet, example); err != nil {
			return err
		}
	}
	if len(d.shown.Functions) == 0 {
		return refused("none of the examples can run here", "hearth doctor tells what to install.")
	}
	if err := d.together(ctx); err != nil {
		return err
	}
	first := d.shown.Functions[0].Function
	d.line("\nThe first invocation of %s, as hearth explain tells it:\n", first)
	if !d.a.json {
		d.a.printStory(d.a.out, d.shown.stories[first].decision)
	}
	return d.end()
}

func (d *demo) line(format string, args ...any) {
	if !d.a.json {
		fmt.Fprintf(d.a.out, format+"\n", args...)
	}
}

// missing finds out which examples can't be shown here, and why.
func (d *demo) missing(ctx context.Context) error {
	list, err := d.remote.control.Runtimes(ctx)
	if err != nil {
		return d.remote.failure("can't ask for the runtimes", err)
	}
	for example, f := range map[string]bundle.Family{"node": bundle.Node, "python": bundle.Python} {
		if !slices.ContainsFunc(list, func(r control.Runtime) bool { return bundle.Of(r.Name) == f && r.Usable }) {
			d.shown.Missing[example] = "there is no interpreter for it (on Debian: apt install " + map[string]string{"node": "nodejs", "python": "python3"}[example] + ")"
		}
	}
	if _, err := exec.LookPath("go"); err != nil {
		d.shown.Missing["go"] = "there is no Go to build it with"
	}
	if _, err := exec.LookPath("curl"); err != nil {
		d.shown.Missing["bootstrap"] = "it is a shell script that needs curl (on Debian: apt install curl)"
	}
	return nil
}

// show deploys an example and runs it cold and then warm.
func (d *demo) show(ctx context.Context, quiet *app, example string) error {
	f := demoFunction{Function: "hello-" + example}
	done := d.a.progress("deploying " + f.Function)
	put, err := quiet.deploy(ctx, d.remote, deployment{dir: filepath.Join(d.examples, example), name: f.Function, memory: demoMemory(example), timeout: 10})
	done()
	if err != nil {
		return err
	}
	f.Runtime = put.Runtime
	d.awaitPool(ctx)
	cold, err := d.invoke(ctx, f.Function, `{"name":"demo"}`)
	if err != nil {
		return err
	}
	var took []time.Duration
	warm := cold
	for range demoWarm {
		if warm, err = d.invoke(ctx, f.Function, `{"name":"demo"}`); err != nil {
			return err
		}
		took = append(took, warm.out.took)
	}
	slices.Sort(took)
	var said struct {
		Hello       string
		Invocations int
	}
	if err := json.Unmarshal(warm.out.raw, &said); err != nil {
		return failed(f.Function+" answered something else than expected", err, "")
	}
	f.Hello, f.Runs = said.Hello, said.Invocations
	f.ColdMillis, f.ColdPath = cold.out.Millis, hearth.Path(cold.decision.Chosen)
	f.WarmMillis, f.WarmPath = float64(took[len(took)/2].Microseconds())/1000, hearth.Path(warm.decision.Chosen)
	d.shown.Functions = append(d.shown.Functions, f)
	d.shown.stories[f.Function] = cold
	d.line("%s %s, %d MiB, says hello %s; invocation %d of its process", d.a.bold(fmt.Sprintf("%-15s", f.Function)), f.Runtime, demoMemory(example), f.Hello, f.Runs)
	d.line("  cold %10s  %s", ms(cold.out.took), way(f.ColdPath))
	d.line("  warm %10s  %s (median of %d)", ms(took[len(took)/2]), way(f.WarmPath), demoWarm)
	return nil
}

// demoMemory is what an example gets, in MiB. The share of a processor goes
// with it, and a shell script that starts several programs for each event
// needs a whole one: 1,769 MiB.
func demoMemory(example string) int32 {
	if example == "bootstrap" {
		return 1769
	}
	return 256
}

func way(p hearth.Path) string { return cmp.Or(pathWords[string(p)], string(p)) }

// awaitPool gives the warming pool a moment to fill, as it has between the
// requests of a day. A demo on a machine without room for one goes on without.
func (d *demo) awaitPool(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		s, err := d.remote.control.PS(ctx)
		if err != nil || s.PoolBudgetMiB == 0 {
			return
		}
		boots := map[hearth.Boot]bool{}
		for _, i := range s.Instances {
			for _, c := range i.Containers {
				if i.Account == "" && c.State == control.StateReady {
					boots[c.Boot] = true
				}
			}
		}
		if len(boots) >= 3 { // nothing, node and python
			return
		}
		pause(ctx, 20*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// invoke runs a function and looks its decision up.
func (d *demo) invoke(ctx context.Context, name, event string) (demoResult, error) {
	out, err := d.remote.invoke(ctx, name, "", []byte(event), "", false)
	if err != nil {
		return demoResult{}, d.remote.failure("can't run "+name, err)
	}
	if out.FunctionError != "" {
		return demoResult{}, refused(name+" failed: "+functionError(out), "")
	}
	// A decision is recorded once the answer is written, so that it may come
	// a little later than the answer.
	for deadline := time.Now().Add(2 * time.Second); ; {
		decision, err := d.remote.decision(ctx, out.RequestID, "")
		if decision != nil {
			return demoResult{out, *decision}, nil
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return demoResult{}, cmp.Or(err, noInvocation(out.RequestID))
		}
		pause(ctx, time.Millisecond)
	}
}

// together runs one function several times at once.
func (d *demo) together(ctx context.Context) error {
	name := d.shown.Functions[0].Function
	const waitMs = 200
	began := time.Now()
	results := make([]demoResult, demoTogether)
	errs := make([]error, demoTogether)
	var wg sync.WaitGroup
	for i := range demoTogether {
		wg.Go(func() { results[i], errs[i] = d.invoke(ctx, name, fmt.Sprintf(`{"waitMs":%d}`, waitMs)) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	d.line("\n%d invocations of %s at once, %d ms each, took %s together:", demoTogether, name, waitMs, ms(time.Since(began)))
	fastest, slowest := map[hearth.Path]time.Duration{}, map[hearth.Path]time.Duration{}
	for _, r := range results {
		p := hearth.Path(r.decision.Chosen)
		if d.shown.Together[p]++; d.shown.Together[p] == 1 {
			fastest[p] = r.out.took
		}
		fastest[p], slowest[p] = min(fastest[p], r.out.took), max(slowest[p], r.out.took)
	}
	for _, p := range []hearth.Path{hearth.PathReuse, hearth.PathContainer, hearth.PathWarm, hearth.PathCold} {
		if n := d.shown.Together[p]; n > 0 {
			d.line("  %2d × %s, %s to %s", n, way(p), ms(fastest[p]), ms(slowest[p]))
		}
	}
	return nil
}

// end stops the server and demands that nothing is left.
func (d *demo) end() error {
	began := time.Now()
	left, err := d.server.stop()
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return refused("the server left something behind: "+strings.Join(left, ", "), "")
	}
	d.shown.Seconds = time.Since(d.began).Seconds()
	d.line("\nStopped in %s: no process, mount, cgroup or file is left. All of it took %.1f s.", ms(time.Since(began)), d.shown.Seconds)
	return nil
}
