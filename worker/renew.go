package worker

import (
	"math/rand/v2"
	"time"
)

// renewSpread is within which time the provisioned containers of before end, so
// that not all of them are made anew at once.
const renewSpread = 3 * time.Minute

// Renew has no container serve that was given its credentials before: what they
// were made with is replaced. One that is busy ends after its invocation, one
// that is provisioned soon, and others when they are asked next.
func (w *Worker) Renew() {
	w.renewed.Store(w.cfg.Clock.Now().UnixNano())
	w.metered.Range(func(k, _ any) bool {
		c := k.(*container)
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.expiry != nil && c.phase != phaseDead && c.old(w.cfg.Clock.Now()) {
			c.expiry.Reset(rand.N(w.renewSpread))
		}
		return true
	})
}
