package worker

import (
	"context"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
)

// used invokes the container once and tells what that has used.
func (h *harness) used(c *container) hearth.Use {
	h.Helper()
	inv := h.invocation(c, `{}`)
	if _, _, err := c.Invoke(context.Background(), inv); err != nil {
		h.Fatal(err)
	}
	return inv.Use
}

func TestWhatAnInvocationFailedForIsTold(t *testing.T) {
	for name, test := range map[string]struct {
		end    program
		peak   int64 // MiB
		before int   // kills by the memory limit in earlier invocations
		want   hearth.End
	}{
		"it works":                          {end: func(p *process) { p.respond(p.next(), `1`); echo(p) }, want: hearth.EndOK},
		"it throws":                         {end: func(p *process) { p.report(p.next(), "Oops", `{}`); echo(p) }, want: hearth.EndError},
		"the kernel ends it":                {end: func(p *process) { p.next(); p.bomb() }, want: hearth.EndMemory},
		"somebody ends it":                  {end: func(p *process) { p.next(); p.signal("killed") }, want: hearth.EndCrash},
		"it crashes":                        {end: func(p *process) { p.next(); p.signal("segmentation fault") }, peak: 127, want: hearth.EndCrash},
		"it exits":                          {end: func(p *process) { p.next(); p.exitWith(137) }, want: hearth.EndCrash},
		"it gives up with its heap full":    {end: func(p *process) { p.next(); p.signal("aborted") }, peak: 116, want: hearth.EndMemory},
		"it gives up with much memory left": {end: func(p *process) { p.next(); p.signal("aborted") }, peak: 60, want: hearth.EndCrash},
		"it takes too long":                 {end: func(p *process) { p.next(); p.hang() }, want: hearth.EndTimeout},
		"a child of it is ended, and it reports an error": {end: func(p *process) {
			e := p.next()
			p.c.mu.Lock()
			p.c.oom++
			p.c.mu.Unlock()
			p.report(e, "Oops", `{}`)
			echo(p)
		}, want: hearth.EndMemory},
		"it throws, and a child of an earlier one was ended": {end: func(p *process) {
			e := p.next()
			p.c.mu.Lock()
			p.c.oom++
			p.c.mu.Unlock()
			p.respond(e, `1`)
			p.report(p.next(), "Oops", `{}`)
			echo(p)
		}, peak: 128, before: 1, want: hearth.EndError},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			c, sb := h.started(test.end, func(f *hearth.Function) {
				if test.want == hearth.EndTimeout {
					f.Timeout = 50 * time.Millisecond
				}
			})
			sb.mu.Lock()
			sb.peakBytes = test.peak << 20
			sb.mu.Unlock()
			for range test.before {
				if u := h.used(c); u.End != hearth.EndOK {
					t.Fatalf("the one before ended as %v", u.End)
				}
			}
			if u := h.used(c); u.End != test.want {
				t.Errorf("it ended as %v, want %v", u.End, test.want)
			}
		})
	}
}

func TestUseIsMeasuredForEachInvocation(t *testing.T) {
	h := newHarness(t)
	add := make(chan func(*fakeContainer), 1)
	c, sb := h.started(func(p *process) {
		p.serve(func(event) string {
			p.c.mu.Lock()
			(<-add)(p.c)
			p.c.mu.Unlock()
			return `1`
		})
	})
	sb.in, sb.out = 1000, 2000 // before any invocation
	add <- func(s *fakeContainer) { s.in += 10; s.out += 20; s.cpu = time.Second; s.peakBytes = 90 << 20 }
	u := h.used(c)
	if u.NetworkIn != 10 || u.NetworkOut != 20 || u.PeakMiB != 90 || u.MemoryMiB != 128 || u.Duration <= 0 {
		t.Errorf("the first: %+v", u)
	}
	if u.Busy != 0 {
		t.Errorf("the processor time of the first is the init's, too, and not told: %+v", u)
	}
	// One that is over before it is looked again, and one that is not.
	add <- func(s *fakeContainer) { s.out += 5; s.cpu += time.Millisecond }
	second := h.used(c)
	h.clock.advance(lookEvery)
	add <- func(s *fakeContainer) { s.cpu += 2 * time.Millisecond; s.peakBytes = 100 << 20 }
	third := h.used(c)
	if second.Busy == 0 && third.CPU != 3*time.Millisecond || third.Busy < third.Duration || third.PeakMiB != 100 {
		t.Errorf("the second: %+v, the third: %+v", second, third)
	}
	if second.NetworkOut != 5 || third.NetworkOut != 0 {
		t.Errorf("the second sent %d bytes, the third %d", second.NetworkOut, third.NetworkOut)
	}
}

func TestShareOfTheMachineFollowsMemory(t *testing.T) {
	// A machine of 8 GiB, four processors and 1 Gbit/s.
	h := newHarness(t, func(c *Config) { c.FullCPUMiB, c.LinkBytesPerMiB = 2048, 1e9/8/8192 })
	for _, mib := range []int{128, 333, 1024, 1769, 8192, 10240} {
		c, sb := h.started(echo, func(f *hearth.Function) { f.MemoryMiB = mib })
		h.serves(c)
		sb.mu.Lock()
		l := sb.limits
		sb.mu.Unlock()
		share := float64(mib) / 8192
		if l.MemoryBytes != int64(mib)<<20 || l.CPUs != 4*share || l.NetworkBytes != int64(125e6*share) {
			t.Errorf("%d MiB: %+v", mib, l)
		}
	}
}

func TestAContainerThatIsResizedHasTheWholeOfItsNewShare(t *testing.T) {
	h := newHarness(t, freezesSoon)
	c, sb := h.started(echo)
	h.serves(c)
	c.Idle()
	eventually(t, "the container is frozen", sb.isFrozen)
	if err := c.Resize(1769); err != nil {
		t.Fatal(err)
	}
	if sb.mu.Lock(); sb.limits.MemoryBytes != 1769<<20 || sb.limits.CPUs != 1 || sb.limits.TmpBytes != 512<<20 {
		t.Errorf("%+v", sb.limits)
	}
	sb.mu.Unlock()
	if u := h.used(c); u.MemoryMiB != 1769 {
		t.Errorf("%+v", u)
	}
}
