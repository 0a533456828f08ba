package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/runtimeapi"
	"github.com/hearth-faas/hearth/runtimeapi/extension"
	"github.com/hearth-faas/hearth/runtimes"
	"github.com/hearth-faas/hearth/sandbox"
	"github.com/hearth-faas/hearth/worker/logs"
)

// environment is one sandbox container with what the host holds for it: its
// runtime API, and the pipe that takes its output. A container has one at a
// time; when an init has to be run again it gets a new one.
type environment struct {
	sb       sandbox.Container
	api      *runtimeapi.Environment
	output   *os.File // what the processes wrote, to be read
	input    *os.File // its other end, which each process gets when it starts
	ext      *extensions
	patience *patience
	main     atomic.Bool // there is, or was, a main process
	// atFirst is what was used until it was ready.
	atFirst sandbox.Usage

	freezing sync.Mutex // held while frozen changes
	frozen   bool

	destroyOnce sync.Once
	destroyErr  error
}

// bootTimeout bounds how long an interpreter may take to boot.
const bootTimeout = 20 * time.Second

// newEnvironment makes a sandbox container, with its interpreter booted and
// waiting if boot names one.
func (in *instance) newEnvironment(ctx context.Context, boot hearth.Boot) (_ *environment, err error) {
	fail := func(err error) (*environment, error) {
		return nil, hearth.Errorf(hearth.Service, "make a container in %s: %w", in.id, err)
	}
	r, w, err := logs.Pipe()
	if err != nil {
		return fail(err)
	}
	spec := sandbox.ContainerSpec{
		ID:     newID("s-"),
		Output: w,
		// The usual size, so that most functions need no change of it.
		Limits: sandbox.Limits{Processes: maxProcesses, OpenFiles: maxOpenFiles, TmpBytes: 512 << 20},
	}
	if boot == "" {
		spec.Mounts = in.w.allMounts()
	} else {
		choice, err := in.w.cfg.Runtimes.ForBoot(boot)
		if err != nil {
			return nil, errors.Join(err, r.Close(), w.Close())
		}
		p := choice.BootProcess()
		spec.Boot, spec.Mounts = &p, choice.Mounts()
	}
	sb, err := in.sb.NewContainer(ctx, spec)
	if err != nil {
		return fail(errors.Join(err, r.Close(), w.Close()))
	}
	env := &environment{sb: sb, output: r, input: w, patience: &in.w.patience, ext: newExtensions(in.w.cfg.Clock, sb.Dial)}
	env.api = runtimeapi.Serve(sb.Listener(), runtimeapi.Options{OnNext: env.ext.set.RuntimeReady, Handlers: env.ext.mounts()})
	env.main.Store(boot != "")
	if boot != "" {
		if err := env.awaitBoot(ctx); err != nil {
			return fail(errors.Join(fmt.Errorf("boot %s: %w", boot, err), env.destroy(nil)))
		}
	}
	if u, err := sb.Usage(); err == nil {
		in.w.measured(boot, u.MemoryBytes)
		env.atFirst = u
	}
	return env, nil
}

// awaitBoot waits until the booted process has said that it waits for its
// function, or until ctx ends.
func (e *environment) awaitBoot(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	control := e.sb.Control()
	defer context.AfterFunc(ctx, func() {
		_ = control.SetReadDeadline(time.Unix(1, 0)) // an error says that it was closed, which ends the read as well
	})()
	var b [1]byte
	if _, err := io.ReadFull(control, b[:]); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	if b[0] != runtimes.Ready {
		return fmt.Errorf("it said %q", b[0])
	}
	return nil
}

// allMounts are what any interpreter of this machine needs: a slot without a
// boot may be given to a function that has to be started by its environment.
func (w *Worker) allMounts() []sandbox.Mount {
	var all []sandbox.Mount
	for _, boot := range w.cfg.Runtimes.Boots() {
		choice, err := w.cfg.Runtimes.ForBoot(boot)
		if err != nil {
			continue // it is in Boots: it has a choice
		}
		for _, m := range choice.Mounts() {
			under := strings.HasPrefix(m.Guest, sandbox.TaskDir) || strings.HasPrefix(m.Guest, sandbox.LayerDir)
			if !under && !slices.Contains(all, m) {
				all = append(all, m)
			}
		}
	}
	return all
}

// freeze stops every process; thaw lets them go on.
func (e *environment) freeze() error {
	e.freezing.Lock()
	defer e.freezing.Unlock()
	e.ext.hub.Pause()
	if err := e.sb.Freeze(); err != nil {
		e.ext.hub.Resume()
		return err
	}
	e.frozen = true
	return nil
}

func (e *environment) thaw() error {
	e.freezing.Lock()
	defer e.freezing.Unlock()
	if !e.frozen {
		return nil
	}
	if err := e.sb.Thaw(); err != nil {
		return err
	}
	e.frozen = false
	e.ext.hub.Resume()
	return nil
}

// destroy ends everything of the environment. lastWords, if set, is called when
// all that its processes have written is in the pipe. destroy may be called
// again, and returns when the first call does.
func (e *environment) destroy(lastWords func() error) error {
	e.destroyOnce.Do(func() {
		e.ext.stopping.Store(true)
		err := e.sb.Destroy()
		if lastWords != nil {
			err = errors.Join(err, lastWords())
		}
		e.destroyErr = errors.Join(err, e.api.Close(), e.output.Close(), e.input.Close(), e.ext.close())
	})
	return e.destroyErr
}

// ended reports whether the environment can serve no more: its main process has
// ended, or an extension has failed it.
func (e *environment) ended() bool {
	select {
	case <-e.sb.Exited():
	case <-e.ext.crashed:
	default:
		return false
	}
	return true
}

// failure says why the environment can serve no more, in the words of the
// service, to the caller of the given request.
func (e *environment) failure(requestID string) *runtimeapi.FunctionError {
	if crash := e.ext.failure(); crash != nil {
		return crash.told(requestID)
	}
	exit := e.sb.Exit()
	if fault, _ := e.ext.set.Fault(); fault != "" { // of an internal extension
		return (&extensionError{fault, runtimeapi.ExitReason(exit.Code, exit.Signal)}).told(requestID)
	}
	if exit.Signal == "killed" && e.sb.OOMKills() > 0 {
		return runtimeapi.OutOfMemory(requestID)
	}
	return runtimeapi.Exited(requestID, exit.Code, exit.Signal)
}

// reason is that of failure without the request.
func (e *environment) reason() string {
	if crash := e.ext.failure(); crash != nil {
		return crash.reason
	}
	exit := e.sb.Exit()
	return runtimeapi.ExitReason(exit.Code, exit.Signal)
}

// limits are what f asks for, and what follows from its memory in proportion:
// the share of the processors and of the network. While it initialises a
// function has the whole processor, as in the service; cpu says whether its
// share applies.
func (w *Worker) limits(f *hearth.Function, cpu bool) sandbox.Limits {
	l := sandbox.Limits{
		MemoryBytes:  int64(f.MemoryMiB) << 20,
		NetworkBytes: int64(float64(f.MemoryMiB) * w.cfg.LinkBytesPerMiB),
		TmpBytes:     int64(f.TmpMiB) << 20,
		Processes:    maxProcesses,
		OpenFiles:    maxOpenFiles,
	}
	if cpu {
		l.CPUs = float64(f.MemoryMiB) / w.cfg.FullCPUMiB
	}
	return l
}

// start attaches the code that c holds and starts its runtime, or tells the
// booted one to load it; before that, its extensions. limited bounds how long
// those may take to register.
func (e *environment) start(ctx context.Context, c *container, boot hearth.Boot) (attached func(limited context.Context) error, err error) {
	f, at, choice := c.f, c.code.at, c.code.choice
	if err := e.sb.SetLimits(c.w.limits(f, false)); err != nil {
		return nil, e.broken("set limits", err)
	}
	if err := e.sb.Attach(ctx, at); err != nil {
		return nil, e.broken("attach code", err)
	}
	own, err := c.w.environ(f, c.name)
	if err != nil {
		return nil, hearth.Errorf(hearth.Service, "make the function's credentials: %w", err)
	}
	env := choice.Environ(f, append(own, "AWS_LAMBDA_INITIALIZATION_TYPE="+string(c.init)))
	external, err := externalOf(at)
	if err != nil {
		return nil, hearth.Errorf(hearth.Service, "look for extensions: %w", err)
	}
	e.ext.set.Expect(extension.Function{Account: string(f.Account), Name: f.Name, Version: f.Version, Handler: f.Handler}, external)
	return func(limited context.Context) error {
		if err := e.startExtensions(limited, c.sink, external, env); err != nil {
			return err
		}
		if boot == "" {
			p, err := choice.StartProcess(f, env, at)
			if err != nil {
				return entrypoint(err)
			}
			var errno syscall.Errno
			switch err := e.sb.Start(ctx, p); {
			case err == nil:
				e.main.Store(true)
				return nil
			case errors.Is(err, sandbox.ErrWorkingDir):
				return &entrypointError{reason: "chdir " + p.Dir + ": no such file or directory", dir: true}
			case errors.As(err, &errno):
				return entrypoint(fmt.Errorf("fork/exec %s: %w", p.Argv[0], errno))
			default:
				return e.broken("start the runtime", err)
			}
		}
		if _, err := e.sb.Control().Write(choice.LoadMessage(f, env)); err != nil {
			return e.broken("hand over to the booted runtime", err)
		}
		return nil
	}, nil
}

// entrypointError: the function's program can't be started.
type entrypointError struct {
	reason string
	dir    bool // for want of its working directory
}

func (e *entrypointError) Error() string { return e.reason }

// told is what the caller of a request is told.
func (e *entrypointError) told(requestID string) *runtimeapi.FunctionError {
	if e.dir {
		return runtimeapi.InvalidWorkingDir(requestID, e.reason)
	}
	return runtimeapi.InvalidEntrypoint(requestID, e.reason)
}

func entrypoint(err error) error {
	var known *hearth.Error
	if errors.As(err, &known) {
		return &entrypointError{reason: known.Message}
	}
	return &entrypointError{reason: err.Error()}
}

// exitGrace is how long the news that a process has ended may take, which are
// behind the first sign of it: that nothing answers.
const exitGrace = 100 * time.Millisecond

// broken is the error of an environment that did not do as told: gone, if its
// processes have ended, so that the manager tries another.
func (e *environment) broken(what string, err error) error {
	kind := hearth.Service
	select {
	case <-e.sb.Exited():
		kind = hearth.ContainerGone
	case <-time.After(e.patience.exit):
	}
	return &hearth.Error{Op: "worker.Load", Subject: e.sb.ID(), Kind: kind, Message: fmt.Sprintf("%s: %v", what, err), Err: err}
}

// environ are the variables that depend on this server rather than on the
// runtime.
func (w *Worker) environ(f *hearth.Function, stream string) ([]string, error) {
	// The runtime clients write events of several lines as frames, between
	// the lines that everything else writes.
	env := []string{"AWS_LAMBDA_LOG_STREAM_NAME=" + stream, "_LAMBDA_TELEMETRY_LOG_FD=1"}
	if f.Shared != nil {
		// It acts for nobody: the owner's code has no rights in the caller's
		// account but by what the caller gives it, nor in its owner's, whose
		// resources would be a way out for what the caller gives it.
		return env, nil
	}
	if w.cfg.Endpoint != "" {
		env = append(env, "AWS_ENDPOINT_URL="+w.cfg.Endpoint)
	}
	s, err := w.cfg.Session(f.Account, f.Name, f.Role, sessionTTL)
	if err != nil {
		return nil, err
	}
	return append(env,
		"AWS_ACCESS_KEY_ID="+s.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY="+s.SecretAccessKey.Reveal(),
		"AWS_SESSION_TOKEN="+s.SessionToken.Reveal()), nil
}
