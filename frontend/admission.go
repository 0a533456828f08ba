package frontend

import (
	"maps"
	"sync"
	"sync/atomic"

	"github.com/hearth-faas/hearth"
)

// admission counts the invocations of each account that run, and admits no
// more than the limit. A function's reserved concurrency, which is taken from
// its account's, will be a second count beside the account's.
type admission struct {
	limit int64

	// accounts is never changed: a new account makes a new map, so that the
	// warm path looks one up without a lock.
	accounts atomic.Pointer[map[hearth.Account]*account]
	adding   sync.Mutex
}

// account is one account's count.
type account struct {
	running atomic.Int64
	_       [56]byte // keeps the counts of two accounts off one cache line
}

// enter admits an invocation of a, whose place is given back by leave; false
// if all places are taken.
func (ad *admission) enter(a hearth.Account) (*account, bool) {
	acc := ad.account(a)
	if acc.running.Add(1) > ad.limit {
		acc.running.Add(-1)
		return nil, false
	}
	return acc, true
}

func (a *account) leave() { a.running.Add(-1) }

func (ad *admission) account(a hearth.Account) *account {
	if m := ad.accounts.Load(); m != nil {
		if acc := (*m)[a]; acc != nil {
			return acc
		}
	}
	ad.adding.Lock()
	defer ad.adding.Unlock()
	var old map[hearth.Account]*account
	if m := ad.accounts.Load(); m != nil {
		old = *m
	}
	if acc := old[a]; acc != nil {
		return acc
	}
	grown := maps.Clone(old)
	if grown == nil {
		grown = map[hearth.Account]*account{}
	}
	grown[a] = &account{}
	ad.accounts.Store(&grown)
	return grown[a]
}
