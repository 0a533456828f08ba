package idempotent

import (
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
)

// A container's first run takes longer than the next would: it is not what a
// request that is answered from its record has spared.
func TestAFirstRunDoesNotCountInFullAsSpared(t *testing.T) {
	c := new(counts)
	slow, usual := 10*time.Second, time.Second
	if got := c.spares(slow, true); got != int64(slow) {
		t.Errorf("with nothing else known %v is spared", time.Duration(got))
	}
	c.observe(slow, true)
	c.observe(usual, false)
	for first, want := range map[bool]time.Duration{true: usual, false: slow} {
		if got := c.spares(slow, first); got != int64(want) {
			t.Errorf("first %v: %v is spared, should be %v", first, time.Duration(got), want)
		}
	}
	ahead := &hearth.Invocation{Placement: hearth.Placement{Path: hearth.PathReuse, First: true}}
	again := &hearth.Invocation{Placement: hearth.Placement{Path: hearth.PathReuse}}
	if !firstRun(ahead) || firstRun(again) || !firstRun(&hearth.Invocation{Placement: hearth.Placement{Path: hearth.PathWarm}}) {
		t.Error("which runs are a container's first is not told apart")
	}
}
