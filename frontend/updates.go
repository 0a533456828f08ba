package frontend

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hearth-faas/hearth"
)

// Updates are the updates of functions in progress. The registry is one. Safe
// for concurrent use.
type Updates interface {
	// Updating reports whether there are any. It is asked by every invocation.
	Updating() bool
	// Settled waits until none of what the qualifier names is in progress. It
	// tells whether there was one, and if so why it failed, or that ctx ended.
	Settled(ctx context.Context, account hearth.Account, name, qualifier string) (waited bool, err error)
}

// What waiting for updates is bounded by: how long an invocation does, and how
// many of an account do at once, whose payloads are in memory.
const (
	maxUpdateWait    = 5 * time.Minute
	maxUpdateWaiters = 1000
)

var errUpdateWait = errors.New("the update takes too long")

// waiters counts the invocations that wait for updates. Safe for concurrent
// use.
type waiters struct {
	mu sync.Mutex
	of map[hearth.Account]int
}

// enter takes a place; false if there is none.
func (w *waiters) enter(a hearth.Account) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.of[a] >= maxUpdateWaiters {
		return false
	}
	if w.of == nil {
		w.of = map[hearth.Account]int{}
	}
	w.of[a]++
	return true
}

func (w *waiters) leave(a hearth.Account) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.of[a]--; w.of[a] == 0 {
		delete(w.of, a)
	}
}

// newest is what inv runs where an update may be in progress: fn, or if its
// caller or its function's policy insists on it, what fn is after the update.
// The caller is told why there is no such thing; for a function whose policy it
// is, a failed update leaves what was there before.
func (f *Frontend) newest(ctx context.Context, inv *hearth.Invocation, fn *hearth.Function) (*hearth.Function, error) {
	insists := inv.RequireCode != ""
	if inv.RequireCode == fn.Package.SHA256 {
		return fn, nil
	}
	if !insists && (f.policy == nil || !f.policy(inv.Account, inv.Name).Update.Waits()) {
		return fn, nil
	}
	if !f.waiting.enter(inv.Account) {
		inv.Placement.Why = "as many of its account's invocations as may wait for updates already"
		return nil, refusal(inv, hearth.TooManyRequests, "Rate Exceeded.")
	}
	defer f.waiting.leave(inv.Account)
	limited, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := f.clock.AfterFunc(maxUpdateWait, func() { cancel(errUpdateWait) })
	defer timer.Stop()
	waited, err := f.updates.Settled(limited, inv.Account, inv.Name, inv.Qualifier)
	switch {
	case ctx.Err() != nil:
		e := refusal(inv, hearth.Canceled, "The caller went away.")
		e.Err = context.Cause(ctx)
		return nil, e
	case err != nil && (insists || limited.Err() != nil):
		inv.Placement.Why = "it waited for an update in vain"
		return nil, err
	}
	if waited {
		if fn, err = f.functions.Resolve(ctx, inv.Account, inv.Name, inv.Qualifier); err != nil {
			return nil, err
		}
	}
	if insists && inv.RequireCode != hearth.NewestCode && inv.RequireCode != fn.Package.SHA256 {
		inv.Placement.Why = "its caller insists on other code"
		return nil, refusal(inv, hearth.PreconditionFailed, "The function's code is not the one that the invocation requires: its SHA-256 is "+fn.Package.SHA256+".")
	}
	return fn, nil
}
