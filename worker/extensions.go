package worker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/runtimeapi"
	"github.com/hearth-faas/hearth/runtimeapi/extension"
	"github.com/hearth-faas/hearth/runtimeapi/telemetry"
	"github.com/hearth-faas/hearth/sandbox"
	"github.com/hearth-faas/hearth/worker/logs"
)

// extensionsDir is where the external extensions are, in the container.
const extensionsDir = sandbox.LayerDir + "/extensions"

// extensions is what an environment has for its extensions: where they
// register and subscribe, and the processes of the external ones.
type extensions struct {
	set *extension.Set
	hub *telemetry.Hub

	crashed  chan struct{} // closed when an extension has failed the environment
	stopping atomic.Bool   // the environment is ending: they end, too
	watching sync.WaitGroup

	mu            sync.Mutex
	crash         *extensionError
	running       map[string]sandbox.Companion
	output, input *os.File // of all their processes; nil if there are none
}

func newExtensions(clock hearth.Clock, dial telemetry.Dial) *extensions {
	return &extensions{set: extension.NewSet(), hub: telemetry.NewHub(clock, dial), crashed: make(chan struct{})}
}

// mounts are the places of the APIs that extensions use.
func (x *extensions) mounts() []runtimeapi.Mount {
	subscribe := func(r *runtimeapi.Request) runtimeapi.Reply {
		if r.Path != telemetry.Path && r.Path != telemetry.LogsPath {
			return runtimeapi.Reply{Status: 404, ContentType: "text/plain; charset=utf-8", Body: []byte("404 page not found\n")}
		}
		name, refused := x.set.Identify(r)
		if refused != nil {
			return *refused
		}
		return x.hub.Serve(r, name)
	}
	return []runtimeapi.Mount{
		{Prefix: extension.Prefix, Handler: x.set.Serve},
		{Prefix: telemetry.Path, Handler: subscribe},
		{Prefix: telemetry.LogsPath, Handler: subscribe},
	}
}

// extensionError: an extension has failed the environment.
type extensionError struct {
	errorType string // such as extension.TypeCrash
	reason    string // such as "exit status 1"
}

func (e *extensionError) Error() string { return e.errorType + ": " + e.reason }

// told is what the caller of a request is told of it.
func (e *extensionError) told(requestID string) *runtimeapi.FunctionError {
	return runtimeapi.NewFunctionError(e.errorType, "RequestId: "+requestID+" Error: "+e.reason)
}

// fail says that an extension has failed the environment; the first to say so
// counts.
func (x *extensions) fail(err *extensionError) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.crash == nil {
		x.crash = err
		close(x.crashed)
	}
}

// failure is what fail was told, nil if it was not called.
func (x *extensions) failure() *extensionError {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.crash
}

// ofRuntime are the variables that only the runtime gets.
var ofRuntime = []string{
	"AWS_EXECUTION_ENV", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_XRAY_CONTEXT_MISSING",
	"LAMBDA_RUNTIME_DIR", "LAMBDA_TASK_ROOT",
}

// environOf is the environment of an extension, made from the runtime's.
func environOf(runtime []string) []string {
	return slices.DeleteFunc(slices.Clone(runtime), func(kv string) bool {
		key, _, _ := strings.Cut(kv, "=")
		return strings.HasPrefix(key, "_") || slices.Contains(ofRuntime, key)
	})
}

// startExtensions starts f's external extensions and waits until each has
// registered. Its error is an *extensionError, errInitTimeout if ctx was first
// to end, or one of the sandbox.
func (e *environment) startExtensions(ctx context.Context, sink *logs.Sink, names []string, env []string) error {
	if len(names) == 0 {
		return nil
	}
	if len(names) > extension.Limit {
		for _, name := range names[extension.Limit:] {
			e.ext.set.LaunchFailed(name, "TooManyExtensions")
		}
		return &extensionError{extension.TypeLaunchError, fmt.Sprintf("Extension limit (%d) reached", extension.Limit)}
	}
	if err := e.ext.listen(sink); err != nil {
		return e.broken("read the output of extensions", err)
	}
	env = environOf(env)
	for _, name := range names {
		path := extensionsDir + "/" + name
		p, err := e.sb.Run(ctx, sandbox.Process{Argv: []string{path}, Env: env, Dir: "/"}, e.ext.input)
		var errno syscall.Errno
		switch {
		case err == nil:
			e.ext.watch(name, p)
		case errors.As(err, &errno):
			why := "UnknownError"
			if errors.Is(err, fs.ErrPermission) {
				why = "PermissionDenied"
			}
			e.ext.set.LaunchFailed(name, why)
			return &extensionError{extension.TypeLaunchError, "fork/exec " + path + ": " + errno.Error()}
		default:
			return e.broken("start an extension", err)
		}
	}
	select {
	case <-e.ext.set.Registration():
		return nil
	case <-e.ext.crashed:
		return e.ext.failure()
	case <-e.sb.Exited():
		return e.broken("start extensions", errors.New("the container has ended"))
	case <-ctx.Done():
		return errInitTimeout
	}
}

// listen takes what external extensions will write into the log.
func (x *extensions) listen(sink *logs.Sink) (err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.running = map[string]sandbox.Companion{}
	if x.output, x.input, err = logs.Pipe(); err != nil {
		return err
	}
	return sink.ReadExtensions(x.output)
}

// watch waits for the end of an extension's process, which fails the
// environment unless that is ending itself.
func (x *extensions) watch(name string, p sandbox.Companion) {
	x.mu.Lock()
	x.running[name] = p
	x.mu.Unlock()
	x.watching.Go(func() {
		<-p.Exited()
		errorType := x.set.Exit(name)
		if x.stopping.Load() {
			return
		}
		exit := p.Exit()
		reason := "exit code 0"
		switch {
		case exit.Signal != "":
			reason = "signal: " + exit.Signal
		case exit.Code != 0:
			reason = "exit status " + strconv.Itoa(exit.Code)
		}
		x.fail(&extensionError{errorType, reason})
	})
}

// close gives back what extensions had of the host. Their processes have
// ended.
func (x *extensions) close() error {
	x.watching.Wait()
	x.hub.Stop()
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.output == nil {
		return nil
	}
	return errors.Join(x.output.Close(), x.input.Close())
}
