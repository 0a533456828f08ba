package node

import (
	"crypto/rand"
	"sync"

	"github.com/hearth-faas/hearth"
)

// What functions use on a node goes to the server with its logs and decisions.
// It is added up while it waits, so that it needs little room and is never
// dropped; and it is numbered, so that what is sent again is not counted twice.

// used is what a function has used, in a record.
type used struct {
	Process  string // which of the node's lives numbers it
	N        int64
	Function *usedBy `json:",omitempty"` // nil is nobody
	Used     hearth.Metered
}

// usedBy is as much of a function as a meter goes by.
type usedBy struct {
	Account hearth.Account
	Name    string
	Shared  *hearth.Shared `json:",omitempty"`
}

// tally is what was used and is not in a record yet.
type tally struct {
	process string
	n       int64
	sums    map[usedKey]*used
}

// usedKey tells apart what a meter tells apart.
type usedKey struct {
	account, owner              hearth.Account
	function, api, stage, offer string
	ownerFunction               string
	markup                      float64
}

func newTally() tally { return tally{process: rand.Text(), sums: map[usedKey]*used{}} }

// Used implements hearth.Meter.
func (r *Records) Used(f *hearth.Function, u *hearth.Metered) {
	var k usedKey
	var by *usedBy
	if f != nil {
		k = usedKey{account: f.Account, function: f.Name}
		by = &usedBy{Account: f.Account, Name: f.Name, Shared: f.Shared}
		if s := f.Shared; s != nil {
			k.owner, k.ownerFunction, k.markup, k.api, k.stage, k.offer = s.Owner, s.OwnerFunction, s.Markup, s.API, s.Stage, s.Offer
		}
	}
	r.mu.Lock()
	sum := r.used.sums[k]
	if sum == nil {
		sum = &used{Function: by}
		r.used.sums[k] = sum
	}
	sum.Used.Add(u)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// tellUsed makes records of what was used. mu is held.
func (r *Records) tellUsed() {
	for k, sum := range r.used.sums {
		if r.bytes+recordBytes > maxWaiting {
			return // it waits here, where it needs no more room
		}
		r.used.n++
		sum.Process, sum.N = r.used.process, r.used.n
		r.waiting = append(r.waiting, record{Used: sum})
		r.bytes += recordBytes
		delete(r.used.sums, k)
	}
}

// usedSeen is the number of the last record of use that was taken, by process.
type usedSeen struct {
	mu   sync.Mutex
	last map[string]int64
}

// maxProcesses bounds how many lives of nodes are remembered.
const maxProcesses = 1000

// take reports whether a record is new. What a node sends again comes in the
// order of before.
func (s *usedSeen) take(u *used) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u.N <= s.last[u.Process] {
		return false
	}
	if s.last == nil || len(s.last) >= maxProcesses && s.last[u.Process] == 0 {
		s.last = map[string]int64{}
	}
	s.last[u.Process] = u.N
	return true
}

// meter tells the server's meter.
func (h *HomeHandler) meter(u *used) {
	if h.Meter == nil || !h.seen.take(u) {
		return
	}
	var f *hearth.Function
	if by := u.Function; by != nil {
		f = &hearth.Function{Account: by.Account, Name: by.Name, Shared: by.Shared}
	}
	h.Meter.Used(f, &u.Used)
}
