package worker

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/contest"
)

// contestEvery is after how long the processors' time is looked at again while
// accounts compete for it; maxContestPart, which part of that looking may take.
const (
	contestEvery   = 100 * time.Millisecond
	maxContestPart = 0.02
)

// contested is what a Worker knows while accounts compete for the processors.
type contested struct {
	yielding atomic.Int64 // accounts

	mu     sync.Mutex
	next   hearth.Timer // of the next look; nil if there is no contest
	at     time.Time    // of the last look
	judge  contest.Judge
	seen   map[*instance]time.Duration // the processors' time of each, then
	slow   map[*instance]struct{}      // whose code leaves the processors to others
	told   map[hearth.Account]struct{} // that yielded once in this contest: some come and go with each look
	warned bool                        // that something of it can't be had
}

// Contest tells the worker that accounts compete for the processors from now on,
// or do no longer. While they do, the instances of those that have used more than
// their share leave the processors to the others. weight is an account's;
// less than 1 is 1.
func (w *Worker) Contest(yes bool, weight func(hearth.Account) int) {
	c := &w.contested
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case yes == (c.next != nil):
	case yes:
		c.judge, c.seen, c.warned, c.at = contest.Judge{}, nil, false, w.cfg.Clock.Now()
		c.slow, c.told = map[*instance]struct{}{}, map[hearth.Account]struct{}{}
		w.measure(w.tenants()) // where they begin
		c.next = w.cfg.Clock.AfterFunc(contestEvery, func() { w.look(weight) })
	default:
		c.next.Stop()
		c.next = nil
		w.let(nil, nil)
		for account := range c.told {
			w.note(account, "beside", "nobody competes for the processors any more: its code runs beside that of others")
		}
		c.seen = nil
	}
}

// Yielding is how many accounts' instances leave the processors to others now.
func (w *Worker) Yielding() int { return int(w.contested.yielding.Load()) }

// tenants are the instances that run something, and whose they are.
func (w *Worker) tenants() map[*instance]hearth.Account {
	of := map[*instance]hearth.Account{}
	w.metered.Range(func(k, _ any) bool {
		c := k.(*container)
		if _, known := of[c.in]; !known {
			c.tally.mu.Lock()
			of[c.in] = c.tally.f.Account
			c.tally.mu.Unlock()
		}
		return true
	})
	return of
}

// look has those yield that are to from now on.
func (w *Worker) look(weight func(hearth.Account) int) {
	c := &w.contested
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next == nil {
		return
	}
	now := w.cfg.Clock.Now()
	of := w.tenants()
	used := w.measure(of)
	w.let(of, c.judge.Look(now.Sub(c.at), used, weight))
	c.at = now
	took := w.cfg.Clock.Now().Sub(now)
	c.next.Reset(max(contestEvery, time.Duration(float64(took)/maxContestPart)))
}

// measure tells what accounts have used since it was asked before. Called with
// contested.mu held.
func (w *Worker) measure(of map[*instance]hearth.Account) map[hearth.Account]time.Duration {
	c := &w.contested
	used := map[hearth.Account]time.Duration{}
	seen := make(map[*instance]time.Duration, len(of))
	for in, account := range of {
		cpu, err := in.sb.CPU()
		if err != nil {
			w.whyNot(in, "the processors' time of an instance is not known", err)
			continue
		}
		seen[in] = cpu
		if before, known := c.seen[in]; known {
			used[account] += cpu - before
		}
	}
	c.seen = seen
	return used
}

// let has the instances of those accounts yield, and no others. Called with
// contested.mu held.
func (w *Worker) let(of map[*instance]hearth.Account, yields map[hearth.Account]contest.Share) {
	c := &w.contested
	for in := range c.slow {
		if _, still := yields[of[in]]; !still { // nor if nothing runs in it
			if err := in.sb.Yield(false); err != nil {
				w.whyNot(in, "the code of an instance still leaves the processors to others", err)
			}
			delete(c.slow, in)
		}
	}
	for in, account := range of {
		_, yes := yields[account]
		if _, already := c.slow[in]; !yes || already {
			continue
		}
		if err := in.sb.Yield(true); err != nil {
			w.whyNot(in, "the code of an instance does not leave the processors to others", err)
			continue
		}
		c.slow[in] = struct{}{}
	}
	for account, share := range yields {
		if _, known := c.told[account]; !known {
			c.told[account] = struct{}{}
			w.note(account, "yields", "accounts compete for the processors: as long as it has used more of them than its share, its code runs on what the others leave")
			// The share would tell the account how many others there are.
			w.cfg.Log.Debug("accounts compete for the processors, and one yields", "account", account, "used", share.Used, "share", share.Own)
		}
	}
	c.yielding.Store(int64(len(yields)))
}

func (w *Worker) note(account hearth.Account, chosen, why string) {
	if w.cfg.Recorder != nil {
		w.cfg.Recorder.Record(&hearth.Decision{Kind: hearth.DecisionYield, Account: account, Chosen: chosen, Why: why})
	}
}

// whyNot logs what could not be had, once a contest. Of an instance that is gone,
// and where the machine has nothing for it, that is no fault. Called with
// contested.mu held.
func (w *Worker) whyNot(in *instance, what string, err error) {
	in.mu.Lock()
	destroyed := in.destroyed
	in.mu.Unlock()
	switch {
	case destroyed, errors.Is(err, errors.ErrUnsupported):
		w.cfg.Log.Debug(what, "instance", in.id, "error", err)
	case !w.contested.warned:
		w.contested.warned = true
		w.cfg.Log.Warn(what, "instance", in.id, "error", err)
	}
}
