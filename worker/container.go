package worker

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/runtimeapi"
	"github.com/hearth-faas/hearth/worker/logs"
)

// phase is where a container is in its life. Only move changes it.
type phase uint8

const (
	phaseSlot    phase = iota // no function yet
	phaseLoading              // init is running
	phaseIdle                 // waits for an invocation
	phaseFrozen               // the same, with its processes stopped
	phaseRunning              // serves an invocation
	phaseDead
)

// allowed are the moves that a container can make, besides dying, which it
// can do at any time.
var allowed = map[[2]phase]bool{
	{phaseSlot, phaseLoading}: true,
	{phaseLoading, phaseIdle}: true,
	{phaseIdle, phaseFrozen}:  true,
	{phaseFrozen, phaseIdle}:  true,
	{phaseIdle, phaseRunning}: true,
	{phaseRunning, phaseIdle}: true,
}

// container implements hearth.Container.
type container struct {
	w    *Worker
	in   *instance
	id   string
	boot hearth.Boot
	done chan struct{} // closed when phase becomes phaseDead

	// Load sets these, and comes before any Invoke.
	f       *hearth.Function
	name    string        // of the log stream
	initErr error         // the init phase failed and must be run again
	initDur time.Duration // of the init phase, until an invocation has reported it
	keyed   time.Time     // when the credentials in its environment were made

	peakMiB float64 // of Invoke alone
	peakAt  time.Time

	mu      sync.Mutex
	phase   phase
	sink    *logs.Sink   // set by Load, which with Invoke reads it without mu
	env     *environment // replaced under mu when the init is run again
	request string       // of the running invocation
	freeze  *time.Timer
	rested  time.Time // when the last invocation ended
}

func (c *container) ID() string            { return c.id }
func (c *container) Done() <-chan struct{} { return c.done }

// move changes the phase, or says that the container is gone.
func (c *container) move(to phase) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.moveLocked(to)
}

func (c *container) moveLocked(to phase) error {
	if c.phase == phaseDead || !allowed[[2]phase{c.phase, to}] {
		return c.gone(nil)
	}
	c.phase = to
	return nil
}

func (c *container) gone(cause error) error {
	return &hearth.Error{Op: "worker.Container", Subject: c.id, Kind: hearth.ContainerGone, Message: "the container has ended", Err: cause}
}

// watch ends the container when its environment's main process has ended.
func (c *container) watch(env *environment) {
	select {
	case <-env.sb.Exited():
	case <-c.done:
		return
	}
	c.mu.Lock()
	if c.env != env { // it was replaced on purpose
		c.mu.Unlock()
		return
	}
	request := c.request
	c.mu.Unlock()
	env.api.Fail(env.failure(request))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noticeLocked()
}

// noticeLocked ends the container if its environment's main process has ended
// and nobody is in a call who sees to that. It is asked whenever one of the two
// has come true: by watch, and at the end of Load and of Invoke. A container
// whose init has failed needs no process: its next invocation begins with
// another environment.
func (c *container) noticeLocked() {
	switch c.phase {
	case phaseLoading, phaseRunning, phaseDead:
		return
	}
	if c.initErr != nil {
		return
	}
	select {
	case <-c.env.sb.Exited():
		c.dieLocked()
	default:
	}
}

// die marks the container dead.
func (c *container) die() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dieLocked()
}

func (c *container) dieLocked() {
	if c.phase != phaseDead {
		c.phase = phaseDead
		if c.freeze != nil {
			c.freeze.Stop()
		}
		close(c.done)
	}
}

// Idle implements hearth.Container.
func (c *container) Idle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != phaseIdle {
		return
	}
	if c.freeze == nil {
		c.freeze = time.AfterFunc(c.w.cfg.FreezeAfter, c.freezeNow)
		return
	}
	c.freeze.Reset(c.w.cfg.FreezeAfter)
}

func (c *container) freezeNow() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != phaseIdle {
		return
	}
	if c.initErr != nil { // what is left of that init is of no use to anybody
		if err := c.env.sb.Kill(); err != nil {
			c.w.cfg.Log.Warn("kill after a failed init", "container", c.id, "err", err)
		}
		return
	}
	// The response comes before the runtime has asked for the next event. It
	// may work for that long, but not for ever on nobody's bill.
	if !c.env.api.NextWaiting() && c.w.cfg.Clock.Now().Sub(c.rested) < c.f.Timeout {
		c.freeze.Reset(c.w.cfg.FreezeAfter)
		return
	}
	if err := c.env.sb.Freeze(); err != nil {
		c.w.cfg.Log.Warn("freeze", "container", c.id, "err", err)
		return
	}
	c.phase = phaseFrozen
}

// wake takes the container for an invocation.
func (c *container) wake(requestID string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.freeze != nil {
		c.freeze.Stop()
	}
	if c.initErr == nil && c.old(c.w.cfg.Clock.Now()) { // otherwise it gets new ones
		return c.gone(errOld)
	}
	if c.phase == phaseFrozen {
		if err := c.env.sb.Thaw(); err != nil {
			return c.gone(err)
		}
		c.phase = phaseIdle
	}
	if err := c.moveLocked(phaseRunning); err != nil {
		return err
	}
	c.request = requestID
	return nil
}

// Frozen reports whether the container's processes are stopped.
func (c *container) Frozen() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.phase == phaseFrozen
}

// rest gives the container back after an invocation; false if it has died.
func (c *container) rest(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.request, c.rested = "", now
	if c.moveLocked(phaseIdle) != nil {
		return false
	}
	c.noticeLocked()
	return c.phase != phaseDead
}

// Invoke implements hearth.Container.
func (c *container) Invoke(ctx context.Context, inv *hearth.Invocation) (*hearth.Result, bool, error) {
	if err := c.wake(inv.RequestID); err != nil {
		c.die()
		return nil, false, err
	}
	now := c.w.cfg.Clock.Now
	began := now()
	deadline := began.Add(c.f.Timeout)
	// The caller may go away; the function runs to its end all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.f.Timeout)
	defer cancel()

	c.sink.Begin(inv.RequestID, c.f.Version)
	var resp runtimeapi.Response
	var err error
	if c.initErr != nil {
		err = c.initAgain(ctx)
	}
	if err == nil {
		resp, err = c.env.api.Invoke(ctx, &runtimeapi.Event{
			RequestID: inv.RequestID, Deadline: deadline, ARN: inv.InvokedARN,
			TraceID: inv.TraceID, ClientContext: inv.ClientContext, CognitoID: inv.CognitoID,
			TenantID: inv.TenantID, Payload: inv.Payload, Stream: inv.Stream,
		})
	}
	if hearth.KindOf(err) == hearth.ContainerGone {
		c.die()
		return nil, false, err
	}
	ended := now()
	inv.Timeline.End(hearth.StageRun, ended)
	report := logs.Report{
		RequestID: inv.RequestID, Duration: ended.Sub(began), InitDuration: c.initDur,
		MemoryMiB: c.f.MemoryMiB, PeakMiB: c.peak(ended),
	}
	c.initDur = 0

	reusable := err == nil
	if err != nil {
		fe := c.explain(ctx, inv.RequestID, err)
		if fe == nil {
			report.Status, report.ErrorType = "error", typeSandbox
			if hearth.KindOf(err) == hearth.Canceled {
				report.ErrorType = typeDisconnected
			}
			c.sink.End(&report)
			c.die()
			return nil, false, err
		}
		resp.ErrorType, resp.Payload = fe.Type, fe.Body
		report.Status, report.ErrorType = "error", fe.Type
		if fe.Type == runtimeapi.TypeTimedOut {
			report.Status, report.ErrorType = "timeout", ""
		}
	}
	c.sink.End(&report)
	r := &hearth.Result{Payload: resp.Payload, ContentType: resp.ContentType, Version: c.f.Version}
	if resp.ErrorType != "" {
		r.FunctionError = "Unhandled"
	}
	if inv.Tail {
		r.LogTail = c.sink.Tail()
	}
	reusable = reusable && c.rest(ended) && !c.old(ended)
	if !reusable {
		c.die()
	}
	return r, reusable, nil
}

// old says that the credentials in the container's environment will not do
// for much longer.
func (c *container) old(now time.Time) bool { return now.Sub(c.keyed) > containerLife }

var errOld = errors.New("its credentials are about to expire")

// Destroy implements hearth.Container.
func (c *container) Destroy() error {
	c.die()
	c.in.forget(c)
	c.mu.Lock()
	env, sink := c.env, c.sink
	c.mu.Unlock()
	if sink == nil {
		return env.destroy(nil)
	}
	return env.destroy(sink.Close)
}
