package worker

import (
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/runtimeapi/extension"
	"github.com/hearth-faas/hearth/runtimeapi/telemetry"
	"github.com/hearth-faas/hearth/worker/logs"
)

// An invocation of a function with extensions is not over with its response:
// the runtime and the extensions have until its deadline to ask for what comes
// next. Its caller does not wait for that.

// deed is an invocation that was answered.
type deed struct {
	report        logs.Report
	traceID       string
	functionError string // the type of the error that the function reported, "" if none
	bytes         int    // of the response

	began, answered, deadline time.Time
	runtimeDone               time.Time // zero until the runtime has asked
}

// announce tells the extensions that an invocation begins.
func (c *container) announce(inv *hearth.Invocation, deadline time.Time) {
	x := c.env.ext
	x.hub.Start(telemetry.Invocation{RequestID: inv.RequestID, Version: c.f.Version, TraceID: inv.TraceID})
	x.set.Begin(extension.Invocation{RequestID: inv.RequestID, ARN: inv.InvokedARN, TraceID: inv.TraceID, Deadline: deadline})
}

// settle ends an answered invocation when it is over: at once, or later in the
// background. It reports whether the container can serve again, as far as is
// known.
func (c *container) settle(d *deed) (reusable bool) {
	asked, settled := c.env.ext.set.Runtime(), c.env.ext.set.Settled()
	select {
	case <-settled:
		return c.settleNow(d)
	default:
	}
	c.sink.Drain() // what the function wrote, for the tail that its caller may have asked for
	done := make(chan struct{})
	c.settled = done
	c.settling.Add(1)
	go func() {
		defer c.settling.Done()
		defer close(done)
		c.awaitSettled(d, asked, settled)
	}()
	return true
}

// settleNow ends an invocation that is over.
func (c *container) settleNow(d *deed) (reusable bool) {
	now := c.w.cfg.Clock.Now()
	c.runtimeDone(d, now)
	d.report.Duration = now.Sub(d.began)
	c.endDeed(d, now)
	return c.rest(now) && !c.old(now)
}

// awaitSettled waits for the end of an answered invocation.
func (c *container) awaitSettled(d *deed, asked, settled <-chan struct{}) {
	env, now := c.env, c.w.cfg.Clock.Now
	late := make(chan struct{})
	timer := c.w.cfg.Clock.AfterFunc(d.deadline.Sub(now()), func() { close(late) })
	defer timer.Stop()
	for {
		select {
		case <-asked:
			c.runtimeDone(d, now())
			asked = nil
			continue
		case <-settled:
			if !c.settleNow(d) {
				c.die()
			}
			return
		case <-env.sb.Exited():
		case <-env.ext.crashed:
		case <-late:
			c.because(reasonTimeout)
			c.sink.TimedOut(d.report.RequestID, c.f.Timeout)
			d.report.Status = telemetry.Timeout
		case <-c.done: // destroyed
		}
		break
	}
	if d.report.Status == "" && env.ended() {
		c.because(reasonFailure)
		fe := env.failure(d.report.RequestID)
		c.fault(d.report.RequestID, env.reason(), fe.Type)
		d.report.Status, d.report.ErrorType = telemetry.Error, fe.Type
	}
	at := now()
	d.report.Duration = at.Sub(d.began)
	c.runtimeDone(d, time.Time{})
	c.endDeed(d, at)
	c.die()
}

// runtimeDone tells, once, that the runtime has done with an invocation: at a
// time, or never.
func (c *container) runtimeDone(d *deed, at time.Time) {
	if !d.runtimeDone.IsZero() {
		return
	}
	i := d.invocation()
	if d.runtimeDone = at; !at.IsZero() {
		i.RuntimeDone, i.Duration = at, at.Sub(d.began)
		// What it wrote comes before.
		c.sink.Drain()
	}
	c.env.ext.hub.RuntimeDone(i)
}

// endDeed writes the report of an invocation that is over.
func (c *container) endDeed(d *deed, at time.Time) {
	c.sink.End(&d.report)
	i := d.invocation()
	if i.RuntimeDone = d.runtimeDone; !i.RuntimeDone.IsZero() {
		i.Extensions = at.Sub(i.RuntimeDone)
	}
	c.env.ext.hub.Report(i)
}

// invocation is the deed as telemetry tells of it.
func (d *deed) invocation() telemetry.Invocation {
	i := telemetry.Invocation{
		RequestID: d.report.RequestID, TraceID: d.traceID, Status: telemetry.Success,
		Began: d.began, Answered: d.answered, Duration: d.report.Duration, Billed: d.report.Billed(), Bytes: d.bytes,
		MemoryMiB: d.report.MemoryMiB, PeakMiB: d.report.PeakMiB, Init: d.report.InitDuration,
	}
	switch {
	case d.report.Status != "":
		i.Status, i.ErrorType = d.report.Status, d.report.ErrorType
	case d.functionError != "":
		i.Status, i.ErrorType = telemetry.Failure, d.functionError
	}
	return i
}

// end writes the report of an invocation that is over with its answer: it has
// failed, or there are no extensions.
func (c *container) end(report *logs.Report) {
	c.sink.End(report)
	if !c.attended {
		return
	}
	i := (&deed{report: *report, began: c.w.cfg.Clock.Now().Add(-report.Duration)}).invocation()
	c.env.ext.hub.RuntimeDone(i)
	c.env.ext.hub.Report(i)
}
