package worker

import (
	"sync"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
)

// ledger is a hearth.Meter that adds up.
type ledger struct {
	mu   sync.Mutex
	sums map[string]*hearth.Metered // by function; "" is nobody's
}

func (l *ledger) Used(f *hearth.Function, u *hearth.Metered) {
	l.mu.Lock()
	defer l.mu.Unlock()
	name := ""
	if f != nil {
		name = f.Name
	}
	if l.sums == nil {
		l.sums = map[string]*hearth.Metered{}
	}
	if l.sums[name] == nil {
		l.sums[name] = &hearth.Metered{}
	}
	l.sums[name].Add(u)
}

func (l *ledger) of(name string) hearth.Metered {
	l.mu.Lock()
	defer l.mu.Unlock()
	if u := l.sums[name]; u != nil {
		return *u
	}
	return hearth.Metered{}
}

func metered(l *ledger) func(*Config) { return func(c *Config) { c.Meter = l } }

// spend has the sandbox's counters rise.
func (c *fakeContainer) spend(cpu time.Duration, in, out int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cpu += cpu
	c.in += in
	c.out += out
}

func TestEveryNanosecondOfAContainerIsToldOnceWheneverItIsLookedAt(t *testing.T) {
	var l ledger
	h := newHarness(t, metered(&l))
	c, sb := h.started(func(p *process) {
		p.serve(func(event) string { p.c.spend(7*time.Millisecond, 3, 4); return `1` })
	})
	name := c.f.Name
	if u := l.of(""); u.CPU != time.Millisecond {
		t.Errorf("what its sandbox's making has taken is nobody's: %+v", u)
	}
	for i := range 20 {
		h.used(c)
		if i%3 == 0 {
			h.w.Settle()
		}
		if i%5 == 0 {
			sb.spend(time.Microsecond, 0, 1) // between invocations
		}
	}
	sb.spend(time.Second, 0, 0) // after the last look, and before its end
	if err := c.Destroy(); err != nil {
		t.Fatal(err)
	}
	u := l.of(name)
	if want := 20*7*time.Millisecond + 4*time.Microsecond + time.Second; u.CPU != want || u.Calls != 20 || u.Errors != 0 || u.Starts != 1 {
		t.Errorf("%+v, want %v of CPU", u, want)
	}
	if u.NetworkIn != 60 || u.NetworkOut != 84 {
		t.Errorf("network: %+v", u)
	}
	if want := u.Busy.Seconds() * 128; u.Allotted < want*0.999 || u.Allotted > want*1.001 {
		t.Errorf("%v MiB·s of 128 MiB for %v", u.Allotted, u.Busy)
	}
	h.w.Settle() // there is nothing left to look at
	if again := l.of(name); again != u {
		t.Errorf("told after its end: %+v", again)
	}
}

func TestASlotThatNobodyUsedIsNobodysExpense(t *testing.T) {
	var l ledger
	h := newHarness(t, metered(&l))
	c, sb := h.slot("")
	sb.spend(5*time.Millisecond, 0, 0)
	if err := c.Destroy(); err != nil {
		t.Fatal(err)
	}
	if u := l.of(""); u.CPU != 6*time.Millisecond || len(l.sums) != 1 {
		t.Errorf("%+v", l.sums)
	}
}

func TestWhatAFrozenContainerHasIsToldWithoutALook(t *testing.T) {
	var l ledger
	h := newHarness(t, metered(&l), freezesSoon)
	c, sb := h.started(echo)
	h.serves(c)
	c.Idle()
	eventually(t, "the container is frozen", sb.isFrozen)
	h.w.Settle() // the last of its work
	before, looks := l.of(c.f.Name), h.d.count("Usage")
	h.clock.advance(time.Hour)
	h.w.Settle()
	after := l.of(c.f.Name)
	if n := h.d.count("Usage"); n != looks {
		t.Errorf("%d looks at what is frozen", n-looks)
	}
	if held := after.Held - before.Held; held < 3*3600 || held > 3*3700 {
		t.Errorf("%v MiB·s held in an hour of 3 MiB", held)
	}
	if after.CPU != before.CPU {
		t.Errorf("%+v, %+v", before, after)
	}
}

func TestLooksBesideInvocationsLoseAndDoubleNothing(t *testing.T) {
	var l ledger
	h := newHarness(t, metered(&l))
	c, _ := h.started(func(p *process) {
		p.serve(func(event) string { p.c.spend(time.Millisecond, 1, 1); return `1` })
	})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 200 {
				h.w.Settle()
			}
		})
	}
	for range 100 {
		h.used(c)
	}
	if err := c.Destroy(); err != nil {
		t.Error(err)
	}
	all.Wait()
	if u := l.of(c.f.Name); u.CPU != 100*time.Millisecond || u.Calls != 100 || u.NetworkIn != 100 {
		t.Errorf("%+v", u)
	}
}
