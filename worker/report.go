package worker

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/runtimeapi"
	"github.com/hearth-faas/hearth/runtimes"
	"github.com/hearth-faas/hearth/worker/logs"
)

// What a container's caller and its log are told.

// Error types of the REPORT of an invocation that failed by no fault of the
// function.
const (
	typeDisconnected = "Client.Disconnected" // the receiver of the stream has gone
	typeSandbox      = "Sandbox.Failure"     // no environment could be made
)

// killGrace bounds how long a killed process may take to end.
const killGrace = 2 * time.Second

// explain turns the failure of an invocation into what its caller is told,
// and logs why; nil if nobody is to be told, because the error is not the
// function's.
func (c *container) explain(ctx context.Context, requestID string, err error) *runtimeapi.FunctionError {
	var fe *runtimeapi.FunctionError
	var bad *entrypointError
	switch {
	case errors.As(err, &bad):
		fe = runtimeapi.InvalidEntrypoint(requestID, bad.reason)
		c.sink.Fault(requestID, bad.reason, fe.Type)
	case errors.As(err, &fe):
		if fe.Type == runtimeapi.TypeExit || fe.Type == runtimeapi.TypeOutOfMemory {
			// Who saw it end may not have known of this request yet.
			fe = c.env.failure(requestID)
			exit := c.env.sb.Exit()
			c.sink.Fault(requestID, runtimeapi.ExitReason(exit.Code, exit.Signal), fe.Type)
		}
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		if err := c.env.sb.Kill(); err != nil {
			c.w.cfg.Log.Error("kill after timeout", "container", c.id, "err", err)
		}
		select { // its last words are in the pipe once it has ended
		case <-c.env.sb.Exited():
		case <-time.After(killGrace):
			c.w.cfg.Log.Error("killed, and still there", "container", c.id)
		}
		fe = runtimeapi.TimedOut(requestID, c.f.Timeout)
		c.sink.TimedOut(requestID, c.f.Timeout)
	}
	return fe
}

func initReport(d time.Duration, phase string, err error) logs.InitReport {
	r := logs.InitReport{Duration: d, Phase: phase, Status: "error"}
	var fe *runtimeapi.FunctionError
	var bad *entrypointError
	switch {
	case errors.Is(err, errInitTimeout):
		r.Status = "timeout"
	case errors.As(err, &fe):
		r.ErrorType = fe.Type
	case errors.As(err, &bad):
		r.ErrorType = runtimeapi.TypeEntrypoint
	}
	return r
}

// Usage implements hearth.Container.
func (c *container) Usage() hearth.Usage {
	c.mu.Lock()
	env := c.env
	c.mu.Unlock()
	u, err := env.sb.Usage()
	if err != nil {
		return hearth.Usage{} // it has gone
	}
	return hearth.Usage{
		CPU:       u.CPU,
		MemoryMiB: float64(u.MemoryBytes) / (1 << 20),
		PeakMiB:   float64(u.PeakBytes) / (1 << 20),
	}
}

// peakEvery is how often the peak of a container's memory is read: it takes
// longer than all else on the way of a warm invocation, and it only grows.
const peakEvery = 100 * time.Millisecond

// peak is the most memory that the container has used, in MiB, as it was at
// most peakEvery ago. Only Invoke calls it.
func (c *container) peak(now time.Time) float64 {
	if c.peakAt.IsZero() || now.Sub(c.peakAt) >= peakEvery {
		c.peakMiB, c.peakAt = max(c.peakMiB, c.Usage().PeakMiB), now
	}
	return c.peakMiB
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
