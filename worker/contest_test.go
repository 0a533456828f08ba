package worker

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
)

// chosen keeps what was decided about who yields.
type chosen struct {
	mu  sync.Mutex
	all []string
}

func (c *chosen) Record(d *hearth.Decision) {
	if d.Kind == hearth.DecisionYield {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.all = append(c.all, string(d.Account)+" "+d.Chosen)
	}
}

func equally(hearth.Account) int { return 1 }

func TestInstancesOfAnAccountThatUsesTooMuchYieldWhileAccountsCompete(t *testing.T) {
	var decisions chosen
	h := newHarness(t, func(c *Config) { c.Recorder = &decisions })
	start := func(a hearth.Account) (*container, *fakeInstance) {
		c, _ := h.started(echo, func(f *hearth.Function) { f.Account = a })
		return c, c.in.sb.(*fakeInstance)
	}
	// looked is the next look, before which an instance has used so much.
	looked := func(used map[*fakeInstance]time.Duration) {
		for in, d := range used {
			in.cpu.Add(int64(d))
		}
		h.clock.advance(contestEvery)
		h.w.look(equally)
	}
	last, flooder := start("flood")
	_, polite := start("polite")
	flooder.cpu.Store(int64(time.Hour)) // before the contest
	much := map[*fakeInstance]time.Duration{flooder: 150 * time.Millisecond, polite: time.Millisecond}

	looked(much)
	if flooder.yields.Load() {
		t.Fatal("an instance yields, and nobody competes")
	}
	h.w.Contest(true, equally)
	h.w.Contest(true, equally)
	looked(map[*fakeInstance]time.Duration{flooder: time.Millisecond, polite: time.Millisecond})
	if flooder.yields.Load() {
		t.Error("what was used before counts")
	}
	looked(much)
	_, another := start("flood")
	looked(much)
	if !flooder.yields.Load() || !another.yields.Load() || polite.yields.Load() || h.w.Yielding() != 1 {
		t.Errorf("the flooder's instances yield: %v, %v; the other's: %v; %d accounts", flooder.yields.Load(), another.yields.Load(), polite.yields.Load(), h.w.Yielding())
	}
	// One in which nothing runs any more goes on as it began.
	if err := last.Destroy(); err != nil {
		t.Fatal(err)
	}
	looked(map[*fakeInstance]time.Duration{another: 150 * time.Millisecond, polite: time.Millisecond})
	if flooder.yields.Load() || !another.yields.Load() {
		t.Errorf("one without containers yields: %v; the other: %v", flooder.yields.Load(), another.yields.Load())
	}
	h.w.Contest(false, equally)
	if another.yields.Load() || h.w.Yielding() != 0 {
		t.Error("an instance yields after the contest")
	}
	looked(much) // one that was under way
	if another.yields.Load() {
		t.Error("a look after the contest counts")
	}
	if want := []string{"flood yields", "flood beside"}; !slices.Equal(decisions.all, want) {
		t.Errorf("decided: %q", decisions.all)
	}
}

func TestAMachineOnWhichNothingYieldsServesOn(t *testing.T) {
	for _, c := range []struct {
		method string
		err    error
		told   int
	}{
		{"Yield", errors.New("the disk is on fire"), 1},
		{"CPU", errors.New("the disk is on fire"), 1},
		{"Yield", errors.ErrUnsupported, 0},
	} {
		h := newHarness(t)
		a, _ := h.started(echo, func(f *hearth.Function) { f.Account = "flood" })
		b, _ := h.started(echo, func(f *hearth.Function) { f.Account = "polite" })
		h.d.hook(c.method, func(*fakeContainer) error { return c.err })
		h.w.Contest(true, equally)
		for range 3 {
			a.in.sb.(*fakeInstance).cpu.Add(int64(time.Second))
			b.in.sb.(*fakeInstance).cpu.Add(int64(time.Millisecond))
			h.clock.advance(contestEvery)
			h.w.look(equally)
		}
		h.w.Contest(false, equally)
		if got := strings.Count(h.told(), c.err.Error()); got != c.told {
			t.Errorf("%s: %v was logged %d times", c.method, c.err, got)
		}
	}
}
