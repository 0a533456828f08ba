package worker

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"syscall"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/runtimeapi"
	"github.com/hearth-faas/hearth/runtimeapi/extension"
	"github.com/hearth-faas/hearth/runtimeapi/telemetry"
	"github.com/hearth-faas/hearth/runtimes"
)

// What a container's caller and its log are told.

// typeSandbox is the error type of the REPORT of an invocation for which no
// environment could be made.
const typeSandbox = "Sandbox.Failure"

// killGrace bounds how long a killed process may take to end.
const killGrace = 2 * time.Second

// explain turns the failure of an invocation into what its caller is told,
// and logs why; nil if nobody is to be told, because the error is not the
// function's.
func (c *container) explain(ctx context.Context, requestID string, err error) *runtimeapi.FunctionError {
	var fe *runtimeapi.FunctionError
	var bad *entrypointError
	var failed *extensionError
	c.because(reasonFailure)
	switch {
	case errors.As(err, &bad):
		fe = bad.told(requestID)
		c.fault(requestID, bad.reason, fe.Type)
	case errors.As(err, &failed):
		fe = failed.told(requestID)
		c.fault(requestID, failed.reason, fe.Type)
	case errors.As(err, &fe):
		switch fe.Type {
		case runtimeapi.TypeExit, runtimeapi.TypeOutOfMemory, extension.TypeCrash, extension.TypeInitError, extension.TypeExitError:
			// Who saw it end may not have known of this request yet.
			fe = c.env.failure(requestID)
			c.fault(requestID, c.env.reason(), fe.Type)
		}
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		c.because(reasonTimeout)
		c.env.stop(c.w.cfg.Log)
		fe = runtimeapi.TimedOut(requestID, c.f.Timeout)
		c.sink.TimedOut(requestID, c.f.Timeout)
	}
	return fe
}

// fault tells why an invocation's environment failed.
func (c *container) fault(requestID, reason, errorType string) {
	c.sink.Fault(requestID, c.reasonOf(reason), c.typeOf(errorType))
	c.env.ext.hub.Fault(requestID, reason, errorType)
}

// stop kills what works on an invocation that took too long: everything, unless
// there are extensions, which are to hear of it.
func (e *environment) stop(log *slog.Logger) {
	kill := e.sb.Kill
	if e.main.Load() && e.ext.set.External() {
		kill = func() error { return e.sb.Signal(syscall.SIGKILL) }
	}
	if err := kill(); err != nil {
		log.Error("kill after timeout", "container", e.sb.ID(), "err", err)
	}
	select { // its last words are in the pipe once it has ended
	case <-e.sb.Exited():
	case <-time.After(killGrace):
		log.Error("killed, and still there", "container", e.sb.ID())
	}
}

// initStatus words how an init phase ended; errorType is "" unless status is
// telemetry.Error.
func initStatus(err error) (status, errorType string) {
	var fe *runtimeapi.FunctionError
	var bad *entrypointError
	var failed *extensionError
	switch {
	case err == nil:
		return telemetry.Success, ""
	case errors.Is(err, errInitTimeout):
		return telemetry.Timeout, ""
	case errors.As(err, &fe):
		errorType = fe.Type
	case errors.As(err, &bad):
		errorType = bad.told("").Type
	case errors.As(err, &failed):
		errorType = failed.errorType
	}
	return telemetry.Error, errorType
}

// Usage implements hearth.Container.
func (c *container) Usage() hearth.Usage {
	if c.tally.over.Load() {
		return hearth.Usage{} // it has gone
	}
	c.mu.Lock()
	env := c.env
	c.mu.Unlock()
	u, err := env.sb.Usage()
	if err != nil {
		return hearth.Usage{} // it has gone
	}
	in, out := env.sb.Traffic()
	return hearth.Usage{
		NetworkIn: in, NetworkOut: out,
		CPU:       u.CPU,
		MemoryMiB: float64(u.MemoryBytes) / (1 << 20),
		PeakMiB:   float64(u.PeakBytes) / (1 << 20),
	}
}

// streamName names the log stream of one container, as the service does.
func streamName(f *hearth.Function, at time.Time) string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand crashes the program instead
	return at.UTC().Format("2006/01/02") + "/[" + f.Version + "]" + hex.EncodeToString(b[:])
}

// runtimeVersion says what really runs f, in the form in which the service
// names its runtimes' versions.
func runtimeVersion(set *runtimes.Set, f *hearth.Function) (version, arn string) {
	version = f.Runtime
	if choice, err := set.For(f.Runtime); err == nil {
		if in := choice.Interpreter(); in != nil {
			version = string(in.Language) + ":" + in.Version.String()
		}
	}
	sum := sha256.Sum256([]byte(version))
	return version, "arn:aws:lambda:" + f.Region + "::runtime:" + hex.EncodeToString(sum[:])
}
