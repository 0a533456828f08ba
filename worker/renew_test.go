package worker

import (
	"context"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
)

// After a Renew no container of before serves: one that is idle refuses, one that
// is busy ends, and one that is provisioned ends by itself.
func TestRenewedCredentialsAreNewContainers(t *testing.T) {
	h := newHarness(t)
	idle, _ := h.started(echo)
	h.serves(idle)
	busy, _ := h.started(func(p *process) {
		p.serve(func(e event) string {
			h.w.Renew()
			return string(e.payload)
		})
	})
	if r, reusable := h.invoke(busy, `{}`); r.FunctionError != "" || reusable {
		t.Errorf("%+v, reusable %v", r, reusable)
	}
	if r, reusable, err := idle.Invoke(context.Background(), h.invocation(idle, `{}`)); hearth.KindOf(err) != hearth.ContainerGone || reusable {
		t.Errorf("an invocation was given old credentials: %+v, reusable %v, %v", r, reusable, err)
	}
	h.clock.advance(time.Second)
	fresh, _ := h.started(echo)
	h.serves(fresh)
	h.serves(fresh)

	provisioned, _ := h.slot("")
	if err := provisioned.Provision(context.Background(), h.function(echo), &hearth.Timeline{}); err != nil {
		t.Fatal(err)
	}
	h.clock.advance(time.Second)
	h.w.renewSpread = time.Millisecond
	h.w.Renew()
	select {
	case <-provisioned.Done():
	case <-time.After(soon):
		t.Error("a provisioned container of before goes on")
	}
}
