package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/spf13/cobra"

	"github.com/hearth-faas/hearth/cmd/hearth/internal/bundle"
)

// deployment is what a user asks of hearth deploy; zero fields are found out,
// or left as they are.
type deployment struct {
	dir                          string
	name, runtime, handler, role string
	description, arch            string
	memory, timeout, tmp         int32
	env                          []string // KEY=VALUE
}

// deployed is what came of it, and what --json prints.
type deployed struct {
	Function   string `json:"function"`
	ARN        string `json:"arn"`
	Runtime    string `json:"runtime"`
	Handler    string `json:"handler"`
	Action     string `json:"action"` // created, updated or unchanged
	CodeSHA256 string `json:"codeSha256"`
	CodeSize   int64  `json:"codeSize"`
}

func (a *app) deployCmd() *cobra.Command {
	var d deployment
	cmd := &cobra.Command{
		Use:   "deploy DIR",
		Short: "Make a function of a folder, or update it",
		Long: `Make a function of a folder, or update the one of that name.

What the folder holds is found out:
  a Go main package       built as a static binary, runtime provided.al2023
  package.json, index.js  Node, the function that is exported as handler
  lambda_function.py, app.py, main.py, handler.py, index.py
                          Python, the function lambda_handler or handler
  bootstrap               an executable, runtime provided.al2023
--runtime and --handler say it instead. A Go program's package is its binary
alone; of every other folder it is all files, without .git and the like and
without what the folder's .hearthignore names (in .gitignore's syntax).`,
		Example: `  hearth deploy .
  hearth deploy examples/python --name hello --memory 256 --env STAGE=dev`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d.dir = args[0]
			r, err := a.connect()
			if err != nil {
				return err
			}
			out, err := a.deploy(cmd.Context(), r, d)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(out)
			}
			fmt.Fprintf(a.out, "%s %s  %s, %s, %s\n", a.bold(out.Function), out.Action, out.Runtime, out.Handler, size(out.CodeSize))
			fmt.Fprintf(a.out, "Next: hearth invoke %s '{}'%s\n", out.Function, r.dataFlag())
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&d.name, "name", "", "the function's `name` (default: the folder's)")
	f.StringVar(&d.runtime, "runtime", "", "`runtime`, such as python3.12 (default: found out)")
	f.StringVar(&d.handler, "handler", "", "`handler`, such as app.handler (default: found out)")
	f.Int32Var(&d.memory, "memory", 0, "`MiB` of memory")
	f.Int32Var(&d.timeout, "timeout", 0, "`seconds` that an invocation may take")
	f.Int32Var(&d.tmp, "tmp", 0, "`MiB` of /tmp")
	f.StringArrayVar(&d.env, "env", nil, "environment variable `KEY=VALUE`; may be repeated, and replaces those that the function has")
	f.StringVar(&d.role, "role", "", "`ARN` of the function's role (default: one called hearth)")
	f.StringVar(&d.description, "description", "", "a `text` to keep with it")
	f.StringVar(&d.arch, "arch", "", "`x86_64` or arm64 (default: this machine's)")
	return cmd
}

var badInName = regexp.MustCompile(`[^a-zA-Z0-9_-]+`)

func (a *app) deploy(ctx context.Context, r *remote, d deployment) (*deployed, error) {
	if err := d.complete(); err != nil {
		return nil, err
	}
	thing := "can't deploy " + d.dir
	found, err := bundle.Detect(d.dir, bundle.Want{Family: bundle.Of(d.runtime), Handler: d.handler})
	if err != nil {
		return nil, detectFailure(thing, err)
	}
	d.handler = found.Handler
	if found.Note != "" {
		a.say("note: %s", found.Note)
	}
	if d.runtime == "" {
		if d.runtime, err = r.newest(ctx, found.Family); err != nil {
			return nil, r.failure(thing, err)
		}
	}
	pkg, err := a.pack(ctx, d, found)
	if err != nil {
		return nil, packFailure(thing, err)
	}
	done := a.progress("deploying " + d.name + " (" + size(int64(len(pkg.Zip))) + ")")
	defer done()
	out, err := r.put(ctx, d, pkg)
	if err != nil {
		if _, ok := errors.AsType[*failure](err); ok {
			return nil, err
		}
		return nil, r.failure("can't deploy "+d.name, err)
	}
	return out, nil
}

// complete fills in what needs nobody else, and refuses what can't be.
func (d *deployment) complete() error {
	if d.runtime != "" && bundle.Of(d.runtime) == "" {
		return usage(fmt.Sprintf("--runtime %q is none that is deployed from a folder", d.runtime), "hearth runtimes lists them.")
	}
	for _, kv := range d.env {
		if key, _, ok := strings.Cut(kv, "="); !ok || key == "" {
			return usage(fmt.Sprintf("--env %q is no KEY=VALUE", kv), "")
		}
	}
	if d.arch == "" {
		d.arch = map[string]string{"amd64": "x86_64", "arm64": "arm64"}[runtime.GOARCH]
	}
	if d.arch != "x86_64" && d.arch != "arm64" {
		return usage(fmt.Sprintf("--arch %q is neither x86_64 nor arm64", d.arch), "")
	}
	if d.name == "" {
		abs, err := filepath.Abs(d.dir)
		if err != nil {
			return err
		}
		d.name = strings.Trim(badInName.ReplaceAllString(filepath.Base(abs), "-"), "-")
		if d.name == "" {
			return usage("the folder's name gives the function none", "Give it one with --name.")
		}
	}
	return nil
}

func detectFailure(thing string, err error) error {
	if e, ok := errors.AsType[*bundle.Ambiguous](err); ok {
		var ways []string
		for _, c := range e.Candidates {
			way := "--handler " + c.Handler
			switch c.Family {
			case bundle.Custom, bundle.Go:
				way = "--runtime provided.al2023"
			case bundle.Node:
				way = "--runtime nodejs22.x " + way
			case bundle.Python:
				way = "--runtime python3.12 " + way
			}
			ways = append(ways, way)
		}
		slices.Sort(ways)
		way := "Choose with " + strings.Join(slices.Compact(ways), ", or ") + "."
		return failed(thing, fmt.Errorf("it can be understood in several ways: %w", err), way)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return refused(thing+": there is no such folder", "")
	}
	return failed(thing, err, "")
}

func packFailure(thing string, err error) error {
	if errors.Is(err, bundle.ErrNoGo) {
		return failed(thing, err, "Install Go, or put a built bootstrap into the folder.")
	}
	if _, ok := errors.AsType[*bundle.TooLarge](err); ok {
		return failed(thing, err, "Leave out what it does not need with a "+bundle.IgnoreFile+" file.")
	}
	return failed(thing, err, "")
}

func (a *app) pack(ctx context.Context, d deployment, found bundle.Candidate) (*bundle.Package, error) {
	if found.Family == bundle.Go {
		goarch := map[string]string{"x86_64": "amd64", "arm64": "arm64"}[d.arch]
		a.say("building the Go program in %s as a static linux/%s binary", d.dir, goarch)
		defer a.progress("go build")()
		return bundle.BuildGo(ctx, d.dir, goarch)
	}
	defer a.progress("zipping " + d.dir)()
	return bundle.Zip(ctx, d.dir)
}

// newest is the newest runtime of a family that the server has an interpreter
// of the very version for; if it has none, a recent one that is served by
// another.
func (r *remote) newest(ctx context.Context, f bundle.Family) (string, error) {
	if f == bundle.Custom || f == bundle.Go {
		return "provided.al2023", nil
	}
	list, err := r.control.Runtimes(ctx)
	if err != nil {
		return "", err
	}
	best, exact := "", false
	for _, rt := range list {
		if bundle.Of(rt.Name) != f || !rt.Usable || exact && !rt.Exact {
			continue
		}
		if rt.Exact && !exact || best == "" || newer(rt.Name, best) {
			best, exact = rt.Name, rt.Exact
		}
	}
	if best == "" {
		return "", refused("the server has no interpreter for "+string(f), "hearth doctor tells what to install.")
	}
	return best, nil
}

var numbers = regexp.MustCompile(`[0-9]+`)

// newer compares the numbers in two runtimes' names, as in python3.9 and
// python3.12.
func newer(a, b string) bool {
	as, bs := numbers.FindAllString(a, -1), numbers.FindAllString(b, -1)
	return slices.CompareFunc(as, bs, func(x, y string) int {
		if len(x) != len(y) {
			return len(x) - len(y)
		}
		return strings.Compare(x, y)
	}) > 0
}

// put creates the function, or changes what differs, and returns when the
// change is in effect.
func (r *remote) put(ctx context.Context, d deployment, pkg *bundle.Package) (*deployed, error) {
	out := &deployed{Function: d.name, Runtime: d.runtime, Handler: d.handler, CodeSHA256: pkg.CodeSHA256(), CodeSize: int64(len(pkg.Zip))}
	now, err := r.lambda.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &d.name})
	if _, missing := errors.AsType[*types.ResourceNotFoundException](err); missing {
		out.Action = "created"
		if err := r.create(ctx, d, pkg); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	} else if out.Action, err = r.update(ctx, d, pkg, now); err != nil {
		return nil, err
	}
	settled, err := r.wait(ctx, d.name)
	if err != nil {
		return nil, err
	}
	out.ARN = aws.ToString(settled.FunctionArn)
	return out, nil
}

func (r *remote) create(ctx context.Context, d deployment, pkg *bundle.Package) error {
	if d.role == "" {
		account, err := r.account(ctx)
		if err != nil {
			return err
		}
		d.role = "arn:aws:iam::" + string(account) + ":role/hearth"
	}
	in := &lambda.CreateFunctionInput{
		FunctionName: &d.name, Role: &d.role, Handler: &d.handler,
		Runtime: types.Runtime(d.runtime), Architectures: []types.Architecture{types.Architecture(d.arch)},
		Code:       &types.FunctionCode{ZipFile: pkg.Zip},
		MemorySize: unlessZero(d.memory), Timeout: unlessZero(d.timeout), Description: unlessZero(d.description),
	}
	if d.tmp != 0 {
		in.EphemeralStorage = &types.EphemeralStorage{Size: &d.tmp}
	}
	if d.env != nil {
		in.Environment = &types.Environment{Variables: variables(d.env)}
	}
	_, err := r.lambda.CreateFunction(ctx, in)
	return err
}

// update changes code and configuration where they differ, the configuration
// first: new code is more often at odds with an old handler than old code
// with a new one.
func (r *remote) update(ctx context.Context, d deployment, pkg *bundle.Package, now *lambda.GetFunctionConfigurationOutput) (string, error) {
	action := "unchanged"
	if _, err := r.settled(ctx, d.name); err != nil { // an update of somebody else's may be under way
		return "", err
	}
	if in := d.changes(now); in != nil {
		action = "updated"
		if _, err := r.lambda.UpdateFunctionConfiguration(ctx, in); err != nil {
			return "", err
		}
		if _, err := r.wait(ctx, d.name); err != nil {
			return "", err
		}
	}
	if aws.ToString(now.CodeSha256) != pkg.CodeSHA256() || !slices.Contains(now.Architectures, types.Architecture(d.arch)) {
		action = "updated"
		_, err := r.lambda.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{
			FunctionName: &d.name, ZipFile: pkg.Zip, Architectures: []types.Architecture{types.Architecture(d.arch)},
		})
		if err != nil {
			return "", err
		}
	}
	return action, nil
}

// changes is the update that makes the configuration what d asks for; nil if
// it is.
func (d *deployment) changes(now *lambda.GetFunctionConfigurationOutput) *lambda.UpdateFunctionConfigurationInput {
	in := &lambda.UpdateFunctionConfigurationInput{FunctionName: &d.name}
	changed := false
	text := func(want string, have *string) *string {
		if want == "" || want == aws.ToString(have) {
			return nil
		}
		changed = true
		return &want
	}
	number := func(want int32, have *int32) *int32 {
		if want == 0 || want == aws.ToInt32(have) {
			return nil
		}
		changed = true
		return &want
	}
	in.Handler = text(d.handler, now.Handler)
	in.Role = text(d.role, now.Role)
	in.Description = text(d.description, now.Description)
	in.MemorySize = number(d.memory, now.MemorySize)
	in.Timeout = number(d.timeout, now.Timeout)
	if types.Runtime(d.runtime) != now.Runtime {
		in.Runtime, changed = types.Runtime(d.runtime), true
	}
	var tmp *int32
	if now.EphemeralStorage != nil {
		tmp = now.EphemeralStorage.Size
	}
	if n := number(d.tmp, tmp); n != nil {
		in.EphemeralStorage = &types.EphemeralStorage{Size: n}
	}
	if d.env != nil {
		want, have := variables(d.env), map[string]string(nil)
		if now.Environment != nil {
			have = now.Environment.Variables
		}
		if !maps.Equal(want, have) {
			in.Environment, changed = &types.Environment{Variables: want}, true
		}
	}
	if !changed {
		return nil
	}
	return in
}

// wait returns when the function is active and its last update is done, and
// fails if either went wrong.
func (r *remote) wait(ctx context.Context, name string) (*lambda.GetFunctionConfigurationOutput, error) {
	c, err := r.settled(ctx, name)
	switch {
	case err != nil:
		return nil, err
	case c.State == types.StateFailed:
		return nil, refused(name+" can't be made active: "+aws.ToString(c.StateReason), "")
	case c.LastUpdateStatus == types.LastUpdateStatusFailed:
		return nil, refused(name+" can't be updated: "+aws.ToString(c.LastUpdateStatusReason), "")
	}
	return c, nil
}

// settled returns when nothing is under way with the function, however it
// went. The SDK's own waiters look once a second, which is longer than it
// takes.
func (r *remote) settled(ctx context.Context, name string) (*lambda.GetFunctionConfigurationOutput, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		c, err := r.lambda.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &name})
		if err != nil {
			return nil, err
		}
		if c.State != types.StatePending && c.LastUpdateStatus != types.LastUpdateStatusInProgress {
			return c, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
	}
}

func variables(env []string) map[string]string {
	m := map[string]string{}
	for _, kv := range env {
		k, v, _ := strings.Cut(kv, "=")
		m[k] = v
	}
	return m
}

func unlessZero[T comparable](v T) *T {
	if v == *new(T) {
		return nil
	}
	return &v
}
