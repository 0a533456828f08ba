package worker

import (
	"syscall"
	"time"
)

// The shutdown phase: what an environment with extensions gets before it is
// destroyed. One without is destroyed at once.

// What the service gives to it, by the extensions that there are.
const (
	internalShutdown = 500 * time.Millisecond
	externalShutdown = 2000 * time.Millisecond
	// runtimeShutdown is the runtime's part where there are external ones.
	runtimeShutdown = 300 * time.Millisecond
)

// Reasons of a shutdown, as extensions are told.
const (
	reasonSpindown = "spindown" // nobody needs it any more
	reasonTimeout  = "timeout"  // the function took too long
	reasonFailure  = "failure"  // it, or an extension, failed
)

// because notes why the container is about to end.
func (c *container) because(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ending = reason
}

// shutdown has the processes of the environment end by themselves: first the
// runtime, by SIGTERM, then the extensions, by an event, each within its time.
// What is left then is killed by whoever called. It is done once.
func (e *environment) shutdown(reason string) {
	if !e.ext.set.Any() || !e.ext.stopping.CompareAndSwap(false, true) {
		return
	}
	if err := e.thaw(); err != nil {
		return // nobody in there can hear
	}
	e.ext.hub.Flush(true)
	external := e.ext.set.External()
	began := time.Now()
	budget, share := e.patience.internal, e.patience.internal
	if external {
		budget, share = e.patience.external, e.patience.runtime
	}
	if e.main.Load() {
		e.endMain(share, external)
	}
	if !external {
		return
	}
	deadline := began.Add(budget)
	over := time.NewTimer(time.Until(deadline))
	defer over.Stop()
	for _, name := range e.ext.set.Shutdown(reason, deadline) {
		e.ext.mu.Lock()
		p := e.ext.running[name]
		e.ext.mu.Unlock()
		if p == nil {
			continue
		}
		select {
		case <-p.Exited():
		case <-over.C:
			return
		}
	}
}

// endMain has the main process end, and kills it if it does not in time and
// others are to go on.
func (e *environment) endMain(within time.Duration, kill bool) {
	if e.sb.Signal(syscall.SIGTERM) != nil {
		return // the sandbox is gone
	}
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-e.sb.Exited():
	case <-timer.C:
		if kill {
			_ = e.sb.Signal(syscall.SIGKILL) // an error says that the sandbox is gone, and it with that
		}
	}
}
