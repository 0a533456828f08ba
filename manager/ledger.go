package manager

import (
	"slices"
	"sync/atomic"

	"github.com/hearth-faas/hearth"
)

// ledger keeps what memory of the machine is promised to functions, and who
// waits for some, first come, first served: a small request does not overtake
// a big one, which might else wait for ever. Guarded by Manager.mu, except
// the atomic fields, which repeat some of it for the warm path.
type ledger struct {
	capacity, committed int
	// ending is the part of committed that comes free by itself, because its
	// containers are being destroyed.
	ending int
	queue  []*claim

	published struct{ capacity, committed atomic.Int64 }
	waiting   atomic.Int32
}

// claim is a maker's wait for memory.
type claim struct {
	mib int
	ok  chan struct{} // closed when the memory is the claimant's
	got bool
}

// take promises mib MiB, unless there are too few or others wait for some.
func (l *ledger) take(mib int) bool {
	if len(l.queue) > 0 || l.committed+mib > l.capacity {
		return false
	}
	l.committed += mib
	l.publish()
	return true
}

// give takes back a promise and lets those who wait have it.
func (l *ledger) give(mib int) {
	l.committed -= mib
	if l.committed < 0 {
		panic("manager: more memory was given back than was promised")
	}
	l.serve()
}

// wait queues a claim, which may be granted at once.
func (l *ledger) wait(mib int) *claim {
	c := &claim{mib: mib, ok: make(chan struct{})}
	l.queue = append(l.queue, c)
	l.serve()
	return c
}

// withdraw ends a claim: what it got is given back.
func (l *ledger) withdraw(c *claim) {
	if c.got {
		l.give(c.mib)
		return
	}
	if i := slices.Index(l.queue, c); i >= 0 {
		l.queue = slices.Delete(l.queue, i, i+1)
	}
	l.serve()
}

func (l *ledger) serve() {
	for len(l.queue) > 0 && l.committed+l.queue[0].mib <= l.capacity {
		c := l.queue[0]
		l.queue = slices.Delete(l.queue, 0, 1)
		l.committed += c.mib
		c.got = true
		close(c.ok)
	}
	l.publish()
}

// wanting returns, for each claim in the queue, how much must come free until
// it can be served, beyond what comes free by itself.
func (l *ledger) wanting() []int {
	short := make([]int, len(l.queue))
	sum := l.committed - l.ending - l.capacity
	for i, c := range l.queue {
		sum += c.mib
		short[i] = sum
	}
	return short
}

// resize changes how much may be promised. What is promised already stays so,
// and those who wait get what has come.
func (l *ledger) resize(mib int) {
	l.capacity = mib
	l.serve()
}

// queued is how much is waited for.
func (l *ledger) queued() (mib int) {
	for _, c := range l.queue {
		mib += c.mib
	}
	return mib
}

// size is how much may be promised. It takes no lock.
func (l *ledger) size() int { return int(l.published.capacity.Load()) }

func (l *ledger) publish() {
	l.published.capacity.Store(int64(l.capacity))
	l.published.committed.Store(int64(l.committed))
	l.waiting.Store(int32(len(l.queue)))
}

// tell fills in what the ledger knows. It takes no lock.
func (l *ledger) tell(k *hearth.Knowledge) {
	k.Committed = int(l.published.committed.Load())
	k.FreeMiB = l.size() - k.Committed
}
