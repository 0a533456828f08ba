package worker

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/sandbox"
)

// tally is what of a container's use the meter has not been told yet.
//
// The kernel counts exactly and for ever, so that nothing has to be looked at
// when an invocation ends: whoever looks later finds the difference to the look
// before, and the last look comes after the last process has ended. A container
// is of one function, so that the sum is that function's to the last
// nanosecond, whichever of its invocations the time was spent for. On the warm
// way are only additions.
type tally struct {
	calls, errors, starts atomic.Int64
	busy                  atomic.Int64 // ns
	allotted              atomic.Int64 // MiB·ns
	// worked: its counters may have moved since the last look.
	worked atomic.Bool

	mu   sync.Mutex       // held over a look
	f    *hearth.Function // whose it is; nil is nobody's
	env  *environment     // that is counted
	at   time.Time        // of the last look
	seen counters         // in env, then
	held float64          // MiB, then
	over atomic.Bool      // nothing comes any more
}

// counters are those of an environment. They only rise.
type counters struct {
	cpu     time.Duration
	in, out int64
}

// meterFrom begins with an environment, whose use so far is told as nobody's.
func (c *container) meterFrom(env *environment) {
	t := &c.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	t.env, t.at = env, c.w.cfg.Clock.Now()
	c.tellLocked(env.atFirst, nil)
}

// meterFor says whose everything is from now on.
func (c *container) meterFor(f *hearth.Function) {
	c.lookAt(nil)
	t := &c.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over.Load() {
		t.f = f
		t.worked.Store(true)
		c.w.metered.Store(c, struct{}{})
	}
}

// started counts an init phase.
func (c *container) started() { c.tally.starts.Add(1) }

// served counts an invocation that ran.
func (c *container) served(u *hearth.Use) {
	t := &c.tally
	t.calls.Add(1)
	if u.End != hearth.EndOK {
		t.errors.Add(1)
	}
	t.busy.Add(int64(u.Duration))
	t.allotted.Add(int64(u.MemoryMiB) * int64(u.Duration))
	t.worked.Store(true)
}

// glance is lookAt of a container that goes on. One that has been frozen since
// the last look has used nothing but its memory.
func (c *container) glance() {
	frozen := c.Frozen()
	t := &c.tally
	if !t.worked.Swap(!frozen) && frozen {
		t.mu.Lock()
		defer t.mu.Unlock()
		if !t.over.Load() {
			c.tellLocked(sandbox.Usage{CPU: t.seen.cpu, MemoryBytes: int64(t.held * (1 << 20))}, nil)
		}
		return
	}
	c.lookAt(nil)
}

// lookAt tells the meter what was used since the last look. With next it is the
// last one at the environment that is counted, which has been destroyed, and
// next is counted from here on.
func (c *container) lookAt(next *environment) {
	t := &c.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over.Load() {
		return
	}
	c.lookLocked()
	if next != nil {
		t.env, t.seen, t.held = next, counters{}, 0
	}
}

func (c *container) lookLocked() {
	t := &c.tally
	u, err := t.env.sb.Usage()
	if err != nil { // it is being removed, and keeps its last numbers
		u = sandbox.Usage{CPU: t.seen.cpu, MemoryBytes: int64(t.held * (1 << 20))}
	}
	c.tellLocked(u, t.env)
}

// tellLocked tells the difference of u, and of env's network if it is given, to
// what was told before.
func (c *container) tellLocked(u sandbox.Usage, env *environment) {
	t := &c.tally
	now, mib := c.w.cfg.Clock.Now(), float64(u.MemoryBytes)/(1<<20)
	m := hearth.Metered{
		Calls: t.calls.Swap(0), Errors: t.errors.Swap(0), Starts: t.starts.Swap(0), Busy: time.Duration(t.busy.Swap(0)),
		Allotted: float64(t.allotted.Swap(0)) / float64(time.Second),
		Held:     (t.held + mib) / 2 * max(now.Sub(t.at), 0).Seconds(),
	}
	// A counter that is behind is one of processes that have ended, where only
	// those that live can be looked at.
	if m.CPU = u.CPU - t.seen.cpu; m.CPU < 0 {
		m.CPU = 0
	}
	t.seen.cpu = u.CPU
	if env != nil {
		in, out := env.sb.Traffic()
		m.NetworkIn, m.NetworkOut = in-t.seen.in, out-t.seen.out
		t.seen.in, t.seen.out = in, out
	}
	t.at, t.held = now, mib
	if c.w.cfg.Meter != nil && m != (hearth.Metered{}) {
		c.w.cfg.Meter.Used(t.f, &m)
	}
}

// meterEnd is the last look, once everything of the container has ended.
func (c *container) meterEnd() {
	t := &c.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over.Load() || t.env == nil {
		return
	}
	c.lookLocked()
	t.over.Store(true)
	c.w.metered.Delete(c)
}

// Settle tells the meter what everything that has a function has used so far.
func (w *Worker) Settle() {
	w.metered.Range(func(c, _ any) bool {
		c.(*container).glance()
		return true
	})
}
