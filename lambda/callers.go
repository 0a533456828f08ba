package lambda

import (
	"fmt"
	"sync"
	"time"

	hearth "github.com/hearth-faas/hearth"

	"golang.org/x/time/rate"
)

// callers bounds how many requests of the control plane each account makes. Only
// accounts whose signature was good are in it.
type callers struct {
	mu sync.Mutex
	m  map[hearth.Account]*caller
}

// caller is what is known of one account's requests.
type caller struct {
	limit *rate.Limiter

	mu      sync.Mutex
	refused int       // since told
	told    time.Time // when a refusal left a decision last
}

// tellEvery is how often the refusals of an account leave a decision: one for
// each would push out all others.
const tellEvery = time.Second

// of is what is known of an account, made if there is nothing.
func (cs *callers) of(account hearth.Account, perSecond int) *caller {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c := cs.m[account]
	if c == nil {
		if cs.m == nil {
			cs.m = map[hearth.Account]*caller{}
		}
		c = &caller{limit: rate.NewLimiter(rate.Limit(perSecond), 2*perSecond)}
		cs.m[account] = c
	}
	if c.limit.Limit() != rate.Limit(perSecond) { // its quota has changed
		c.limit.SetLimit(rate.Limit(perSecond))
		c.limit.SetBurst(2 * perSecond)
	}
	return c
}

// admit lets the caller's account make as many requests as its quota in a second of the
// API and its neighbours, and twice as many at once. What is refused leaves a
// decision now and then.
func (h *Handler) admit(c *call, operation string) error {
	rate := h.quota(c.account()).Requests
	if rate <= 0 {
		return nil
	}
	from, now := h.callers.of(c.account(), rate), h.Clock.Now()
	if from.limit.AllowN(now, 1) {
		return nil
	}
	if n := from.due(now); n > 0 && h.Recorder != nil {
		h.Recorder.Record(&hearth.Decision{
			Kind: hearth.DecisionRefuse, RequestID: c.requestID, Account: c.account(), Chosen: "refuse", Outcome: string(hearth.TooManyRequests),
			Why: fmt.Sprintf("the account made more than %d requests of the API in a second, beside invocations: %d refused since this was told last, at last %s", rate, n, operation),
		})
	}
	return &hearth.Error{Op: "lambda.admit", Kind: hearth.TooManyRequests, Message: "Rate exceeded", Reason: hearth.ReasonCaller, RetryAfter: time.Second}
}

// due counts a refusal, and returns how many there were since it last did, once
// in tellEvery; otherwise 0.
func (c *caller) due(now time.Time) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused++
	if now.Sub(c.told) < tellEvery {
		return 0
	}
	n, c.refused, c.told = c.refused, 0, now
	return n
}
