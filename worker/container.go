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
	init    hearth.InitType
	name    string        // of the log stream
	initErr error         // the init phase failed and must be run again
	initDur time.Duration // of the init phase, until an invocation has reported it
	keyed   time.Time     // when the credentials in its environment were made

	meter meter // of Invoke alone
	tally tally

	// attended says that the environment has extensions. settled is of the last
	// invocation: see Settled. Both are of Load and Invoke.
	attended bool
	settled  chan struct{}
	settling sync.WaitGroup

	mu      sync.Mutex
	phase   phase
	sink    *logs.Sink   // set by Load, which with Invoke reads it without mu
	code    *held        // the same
	env     *environment // replaced under mu when the init is run again
	request string       // of the running invocation
	freeze  *time.Timer
	expiry  hearth.Timer // of a provisioned one
	rested  time.Time    // when the last invocation ended

	ending string // the reason that extensions are told; "" is reasonSpindown
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

// reportGrace is how long a process may take to end after an extension in it
// has reported an error, as it is expected to.
const reportGrace = 500 * time.Millisecond

// watch ends the container when its environment can serve no more.
func (c *container) watch(env *environment) {
	c.w.sandboxes.Store(env.sb.ID(), c.id)
	defer c.w.sandboxes.Delete(env.sb.ID())
	select {
	case <-env.sb.Exited():
	case <-env.ext.crashed:
	case <-env.ext.set.Reported():
		c.awaitEnd(env)
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

// awaitEnd waits for the end of the process whose extension has reported an
// error. If it does not end the report alone fails the environment.
func (c *container) awaitEnd(env *environment) {
	timer := time.NewTimer(c.w.patience.report)
	defer timer.Stop()
	select {
	case <-env.sb.Exited():
	case <-env.ext.crashed:
	case <-timer.C:
		fault, own := env.ext.set.Fault()
		env.ext.fail(&extensionError{fault, own})
	}
}

// noticeLocked ends the container if its environment can serve no more and
// nobody is in a call who sees to that. It is asked whenever one of the two
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
	if c.env.ended() {
		c.dieLocked()
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
		if c.expiry != nil {
			c.expiry.Stop()
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

// telemetryGrace bounds how long a container stays thawed for telemetry alone.
const telemetryGrace = 2 * time.Second

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
	idle := c.w.cfg.Clock.Now().Sub(c.rested)
	if !c.env.api.NextWaiting() && idle < c.f.Timeout {
		c.freeze.Reset(c.w.cfg.FreezeAfter)
		return
	}
	// So may a subscriber to telemetry, with what it has not got yet.
	if !c.env.ext.hub.Idle() && idle < telemetryGrace {
		c.env.ext.hub.Flush(false)
		c.freeze.Reset(c.w.cfg.FreezeAfter)
		return
	}
	if err := c.env.freeze(); err != nil {
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
		if err := c.env.thaw(); err != nil {
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
	if c.settled != nil { // its caller did not wait
		select {
		case <-c.settled:
		case <-ctx.Done():
		}
		c.settled = nil
	}
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

	before := c.traffic()
	c.sink.Begin(inv.RequestID, c.f.Version)
	var resp runtimeapi.Response
	var err error
	if c.initErr != nil {
		err = c.initAgain(ctx)
	}
	if err == nil && c.attended {
		c.announce(inv, deadline)
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
	var left error // the stream's receiver has gone; the function ran to its end
	if hearth.KindOf(err) == hearth.Canceled && ctx.Err() == nil {
		left, err = err, nil
	}
	ended := now()
	inv.Timeline.End(hearth.StageRun, ended)
	inv.Use = c.measure(ended.Sub(began), ended, before)
	report := logs.Report{
		RequestID: inv.RequestID, Duration: inv.Use.Duration, InitDuration: c.initDur,
		MemoryMiB: c.f.MemoryMiB, PeakMiB: inv.Use.PeakMiB,
	}
	c.initDur = 0

	if err != nil {
		fe := c.explain(ctx, inv.RequestID, err)
		if fe == nil {
			report.Status, report.ErrorType = "error", typeSandbox
			c.end(&report)
			c.die()
			return nil, false, err
		}
		resp.ErrorType, resp.Payload = fe.Type, fe.Body
		report.Status, report.ErrorType = "error", c.typeOf(fe.Type)
		if fe.Type == runtimeapi.TypeTimedOut {
			report.Status, report.ErrorType = "timeout", ""
		}
	}
	inv.Use.End = c.howItEnded(err, resp.ErrorType, inv.Use.PeakMiB)
	c.served(&inv.Use)
	if c.f.Shared != nil && resp.ErrorType != "" {
		resp.Payload, resp.ContentType = c.withhold(inv.RequestID, resp.ErrorType, resp.Payload, err != nil), ""
	}
	r := &hearth.Result{Payload: resp.Payload, ContentType: resp.ContentType, Version: c.f.Version}
	if resp.ErrorType != "" {
		r.FunctionError = "Unhandled"
	}
	reusable := err == nil
	if reusable && c.attended {
		reusable = c.settle(&deed{
			report: report, traceID: inv.TraceID, functionError: resp.ErrorType, bytes: len(resp.Payload),
			began: began, answered: ended, deadline: deadline,
		})
	} else {
		c.end(&report)
		reusable = reusable && c.rest(ended) && !c.old(ended)
	}
	if inv.Tail {
		r.LogTail = c.sink.Tail()
	}
	if !reusable {
		c.die()
	}
	if left != nil {
		return nil, reusable, left
	}
	return r, reusable, nil
}

// Settled implements hearth.Container.
func (c *container) Settled() <-chan struct{} { return c.settled }

// old says that the credentials in the container's environment will not do
// for much longer.
func (c *container) old(now time.Time) bool {
	return now.Sub(c.keyed) > containerLife || c.keyed.UnixNano() <= c.w.renewed.Load()
}

var errOld = errors.New("its credentials are about to expire")

// Destroy implements hearth.Container.
func (c *container) Destroy() error {
	c.die()
	c.in.forget(c)
	c.settling.Wait()
	c.mu.Lock()
	env, sink, code, reason := c.env, c.sink, c.code, c.ending
	c.mu.Unlock()
	if reason == "" {
		reason = reasonSpindown
	}
	env.shutdown(reason)
	c.lookAt(nil) // for where the kernel tells of those only that live
	defer c.meterEnd()
	defer code.letGo()
	if sink == nil {
		return env.destroy(nil)
	}
	return env.destroy(sink.Close)
}
