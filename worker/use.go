package worker

import (
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/runtimeapi"
)

// meter is what Invoke knows of what a container uses. Looking takes longer
// than all else on the way of a warm invocation, so that it is done now and
// then.
type meter struct {
	env     *environment // that was looked at
	at      time.Time
	peakMiB float64
	cpu     time.Duration
	busy    time.Duration // that invocations have taken since
	ooms    int           // kills that have been accounted for
}

// lookEvery is how often a container's use is looked at.
const lookEvery = 100 * time.Millisecond

// traffic is what had passed through an environment's network at a moment.
type traffic struct {
	env     *environment
	in, out int64
}

func (c *container) traffic() traffic {
	in, out := c.env.sb.Traffic()
	return traffic{c.env, in, out}
}

// measure tells what an invocation has used that took so long and ended now;
// before is from when it began.
func (c *container) measure(took time.Duration, now time.Time, before traffic) hearth.Use {
	m := &c.meter
	u := hearth.Use{MemoryMiB: c.f.MemoryMiB, Duration: took}
	after := c.traffic()
	if after.env != before.env { // the init was run again, in an environment that began at nothing
		before = traffic{}
	}
	u.NetworkIn, u.NetworkOut = after.in-before.in, after.out-before.out
	known := m.env == c.env
	if !known {
		*m = meter{env: c.env, peakMiB: m.peakMiB}
	}
	m.busy += took
	if !known || now.Sub(m.at) >= lookEvery {
		seen := c.Usage()
		m.peakMiB = max(m.peakMiB, seen.PeakMiB)
		if known && seen.CPU >= m.cpu { // else it is the init's, too
			u.CPU, u.Busy = seen.CPU-m.cpu, m.busy
		}
		m.at, m.cpu, m.busy = now, seen.CPU, 0
	}
	u.PeakMiB = m.peakMiB
	return u
}

// nearLimit is the share of its memory beyond which a process that gives up is
// taken to have lacked some: Node's heap is bounded to nine tenths of it, and
// its process ends by itself when that is full, before the kernel ends it.
const nearLimit = 0.85

// howItEnded tells how an invocation ended. err is of its environment,
// errorType what its caller is told.
func (c *container) howItEnded(err error, errorType string, peakMiB float64) hearth.End {
	if errorType == "" {
		// What was killed of a container that works on was not needed.
		if peakMiB >= nearLimit*float64(c.f.MemoryMiB) {
			c.meter.ooms = c.env.sb.OOMKills()
		}
		return hearth.EndOK
	}
	kills := c.env.sb.OOMKills()
	killed := kills > c.meter.ooms
	c.meter.ooms = kills
	switch {
	case killed:
		return hearth.EndMemory
	case err == nil:
		return hearth.EndError
	case errorType == runtimeapi.TypeTimedOut:
		return hearth.EndTimeout
	}
	select {
	case <-c.env.sb.Exited():
		if c.env.sb.Exit().Signal == "aborted" && c.Usage().PeakMiB >= nearLimit*float64(c.f.MemoryMiB) {
			return hearth.EndMemory
		}
	default: // an extension has
	}
	return hearth.EndCrash
}

// Resize changes the memory of a loaded container, and all that follows from it
// in proportion. Not beside Invoke. What is already in its environment, such as
// AWS_LAMBDA_FUNCTION_MEMORY_SIZE and the bound of an interpreter's heap, stays.
func (c *container) Resize(memoryMiB int) error {
	f := *c.f
	f.MemoryMiB = memoryMiB
	if c.initErr == nil { // else the next environment gets it
		if err := c.env.sb.SetLimits(c.w.limits(&f, true)); err != nil {
			return c.env.broken("set limits", err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.f = &f
	return nil
}
