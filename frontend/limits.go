package frontend

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
)

// Limits counts the invocations that run and admits no more than may: of an
// account, of a function that has some of its account's concurrency for
// itself, and of each in a second. It can be told of functions before there is
// a Frontend. Safe for concurrent use; admitting takes no lock.
type Limits struct {
	concurrency int64
	rate        int64

	// accounts is never changed: a new account makes a new map, so that the
	// warm path looks one up without a lock. So is account.own.
	accounts atomic.Pointer[map[hearth.Account]*account]
	changing sync.Mutex
}

// NewLimits makes Limits by which an account may run that many invocations at
// once, 0 being 1,000, and begin rate times as many in a second, 0 being 10,
// negative any number. A function that has some of the concurrency for itself
// may begin as many times that.
func NewLimits(concurrency, rate int) *Limits {
	if concurrency == 0 {
		concurrency = 1000
	}
	if rate == 0 {
		rate = 10
	}
	return &Limits{concurrency: int64(concurrency), rate: int64(rate)}
}

// account is one account's count.
type account struct {
	shared places // what no function has for itself
	// own is by the functions' names; nil as long as none has anything.
	own atomic.Pointer[map[string]*own]
	// concurrency is all that the account may have.
	concurrency atomic.Int64
	_           [32]byte // keeps the counts of two accounts off one cache line
}

// own is what one function has for itself. It is never changed, except by its
// counts.
type own struct {
	// reserved is all that the function may use; nil is no reservation.
	reserved *places
	// provisioned are by version. Beyond them a version uses what is shared.
	provisioned map[string]*places
	claimed     int64
}

// places are for invocations to run in.
type places struct {
	limit   atomic.Int64
	running atomic.Int64
	pace    pace
}

// throttle is why an invocation was refused.
type throttle struct {
	reason string
	why    string        // a sentence without the final period, for the decision
	after  time.Duration // when to come again; 0 is not known
}

var (
	accountFull  = &throttle{reason: hearth.ReasonConcurrency, why: "the account had as many invocations at once as it may have"}
	reservedFull = &throttle{reason: hearth.ReasonReservedConcurrency, why: "the function had as many invocations at once as are reserved for it"}
	accountFast  = &throttle{reason: hearth.ReasonRate, why: "the account began as many invocations within a second as it may", after: time.Second}
	reservedFast = &throttle{reason: hearth.ReasonReservedRate, why: "the function began as many invocations within a second as its reserved concurrency allows", after: time.Second}
)

// enter admits an invocation of f, whose place is given back by leave, or
// tells why not.
func (l *Limits) enter(f *hearth.Function, now time.Time) (*places, *throttle) {
	acc := l.account(f.Account)
	if all := acc.own.Load(); all != nil {
		if o := (*all)[f.Name]; o != nil {
			if o.reserved != nil {
				return l.take(o.reserved, now, reservedFull, reservedFast)
			}
			if p := o.provisioned[f.Version]; p != nil && p.take() {
				if l.rate > 0 && !acc.shared.pace.take(now, l.rate*acc.concurrency.Load()) {
					p.leave()
					return nil, accountFast
				}
				return p, nil
			}
		}
	}
	p := &acc.shared
	if !p.take() {
		return nil, accountFull
	}
	if l.rate > 0 && !p.pace.take(now, l.rate*acc.concurrency.Load()) {
		p.leave()
		return nil, accountFast
	}
	return p, nil
}

func (l *Limits) take(p *places, now time.Time, full, fast *throttle) (*places, *throttle) {
	if !p.take() {
		return nil, full
	}
	if l.rate > 0 && !p.pace.take(now, l.rate*p.limit.Load()) {
		p.leave()
		return nil, fast
	}
	return p, nil
}

func (p *places) take() bool {
	if p.running.Add(1) > p.limit.Load() {
		p.running.Add(-1)
		return false
	}
	return true
}

func (p *places) leave() { p.running.Add(-1) }

// pace lets so many begin in a second: a bucket of one second's worth, as a
// single number, the time at which it will be full again.
type pace struct{ full atomic.Int64 } // nanoseconds since 1970

func (p *pace) take(at time.Time, perSecond int64) bool {
	now := at.UnixNano()
	for {
		full := p.full.Load()
		next := max(full, now) + int64(time.Second)/max(perSecond, 1)
		if next-now > int64(time.Second) {
			return false
		}
		if p.full.CompareAndSwap(full, next) {
			return true
		}
	}
}

func (l *Limits) account(a hearth.Account) *account {
	if m := l.accounts.Load(); m != nil {
		if acc := (*m)[a]; acc != nil {
			return acc
		}
	}
	l.changing.Lock()
	defer l.changing.Unlock()
	return l.add(a)
}

// add returns the account's count, made if there is none. Called with changing
// held.
func (l *Limits) add(a hearth.Account) *account {
	var old map[hearth.Account]*account
	if m := l.accounts.Load(); m != nil {
		old = *m
	}
	if acc := old[a]; acc != nil {
		return acc
	}
	grown := maps.Clone(old)
	if grown == nil {
		grown = map[hearth.Account]*account{}
	}
	acc := &account{}
	acc.concurrency.Store(l.concurrency)
	acc.shared.limit.Store(l.concurrency)
	grown[a] = acc
	l.accounts.Store(&grown)
	return acc
}

// Set takes what a function has for itself in place of what it had. What runs
// meanwhile keeps the places that it has.
func (l *Limits) Set(c *hearth.Concurrency) {
	l.changing.Lock()
	defer l.changing.Unlock()
	acc := l.add(c.Account)
	all := map[string]*own{}
	if m := acc.own.Load(); m != nil {
		all = maps.Clone(*m)
	}
	if o := newOwn(c, all[c.Function]); o != nil {
		all[c.Function] = o
	} else {
		delete(all, c.Function)
	}
	acc.share(all)
	if len(all) == 0 {
		acc.own.Store(nil)
		return
	}
	acc.own.Store(&all)
}

// SetAccount says how many invocations an account may run at once; 0 is as many
// as every account.
func (l *Limits) SetAccount(a hearth.Account, concurrency int) {
	l.changing.Lock()
	defer l.changing.Unlock()
	acc := l.add(a)
	if concurrency == 0 {
		concurrency = int(l.concurrency)
	}
	acc.concurrency.Store(int64(concurrency))
	all := map[string]*own{}
	if m := acc.own.Load(); m != nil {
		all = *m
	}
	acc.share(all)
}

// share leaves to all what no function has for itself.
func (acc *account) share(all map[string]*own) {
	left := acc.concurrency.Load()
	for _, o := range all {
		left -= o.claimed
	}
	acc.shared.limit.Store(max(left, 0))
}

// newOwn is what c gives the function, with the counts of what it had; nil if
// that is nothing.
func newOwn(c *hearth.Concurrency, had *own) *own {
	if had == nil {
		had = &own{}
	}
	if c.Reserved != nil {
		return &own{reserved: resized(had.reserved, int64(*c.Reserved)), claimed: int64(*c.Reserved)}
	}
	o := &own{provisioned: map[string]*places{}}
	count := map[string]int64{}
	for _, p := range c.Provisions {
		count[p.Version] += int64(p.Count)
		o.claimed += int64(p.Count)
	}
	for version, n := range count {
		o.provisioned[version] = resized(had.provisioned[version], n)
	}
	if o.claimed == 0 {
		return nil
	}
	return o
}

// resized are the places that there were, or new ones, with another limit.
func resized(had *places, limit int64) *places {
	if had == nil {
		had = &places{}
	}
	had.limit.Store(limit)
	return had
}
