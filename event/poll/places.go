package poll

import (
	"context"
	"sync"

	"github.com/hearth-faas/hearth"
)

// places bound how many batches are at work in this process, and decide whose
// is next when all are taken: the account with the fewest at work, of its
// mappings the one with the fewest, and of those with as many the one that has
// waited longest. The last quarter is kept for mappings with nothing at work,
// so that a newcomer finds a place however many floods there are. Safe for
// concurrent use.
type places struct {
	mu      sync.Mutex
	total   int
	running int
	account map[hearth.Account]int // batches at work
	mapping map[string]int         // by mapping
	waiting []*waiter              // in the order of their coming
}

type waiter struct {
	account hearth.Account
	mapping string
	given   chan struct{} // closed when it has its place
}

func newPlaces(total int) *places {
	return &places{total: max(total, 1), account: map[hearth.Account]int{}, mapping: map[string]int{}}
}

// acquire waits for a place for a batch of the mapping; it returns ctx's error
// if that ends first.
func (p *places) acquire(ctx context.Context, account hearth.Account, mapping string) error {
	p.mu.Lock()
	w := &waiter{account, mapping, make(chan struct{})}
	p.waiting = append(p.waiting, w)
	p.give()
	p.mu.Unlock()
	select {
	case <-w.given:
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, other := range p.waiting {
		if other == w {
			p.waiting = append(p.waiting[:i], p.waiting[i+1:]...)
			return ctx.Err()
		}
	}
	return nil // it was given at the last moment
}

// release gives back a place.
func (p *places) release(account hearth.Account, mapping string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running--
	if p.account[account]--; p.account[account] == 0 {
		delete(p.account, account)
	}
	if p.mapping[mapping]--; p.mapping[mapping] == 0 {
		delete(p.mapping, mapping)
	}
	p.give()
}

// give gives out what places there are. p.mu is held.
func (p *places) give() {
	for p.running < p.total {
		best := -1
		for i, w := range p.waiting {
			if p.mapping[w.mapping] > 0 && p.running >= p.total-p.total/4 {
				continue
			}
			if best < 0 || p.before(w, p.waiting[best]) {
				best = i
			}
		}
		if best < 0 {
			return
		}
		w := p.waiting[best]
		p.waiting = append(p.waiting[:best], p.waiting[best+1:]...)
		p.running++
		p.account[w.account]++
		p.mapping[w.mapping]++
		close(w.given)
	}
}

func (p *places) before(a, b *waiter) bool {
	if x, y := p.account[a.account], p.account[b.account]; x != y {
		return x < y
	}
	return p.mapping[a.mapping] < p.mapping[b.mapping]
}
