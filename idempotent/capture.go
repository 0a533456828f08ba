package idempotent

import (
	"context"
	"sync"
)

// captures asks for states so that whoever asks gets what was the case after it
// had asked, and yet a crowd that asks for the same at once costs two rounds of
// questions and not one for each: who comes while one is on its way waits for
// the next, with all the others. Safe for concurrent use.
type captures struct {
	mu sync.Mutex
	of map[sum]*asked
}

type asked struct{ now, next *capture }

type capture struct {
	done   chan struct{}
	states []State
	err    error
}

// get has ask called, or shares in a call that begins from now on. ask is given
// a context that outlives the caller's.
func (c *captures) get(ctx context.Context, id sum, ask func(context.Context) ([]State, error)) ([]State, error) {
	c.mu.Lock()
	if c.of == nil {
		c.of = map[sum]*asked{}
	}
	a := c.of[id]
	mine := &capture{done: make(chan struct{})}
	switch {
	case a == nil:
		c.of[id] = &asked{now: mine}
		go c.run(context.WithoutCancel(ctx), id, mine, ask)
	case a.next == nil:
		a.next = mine
	default:
		mine = a.next
	}
	c.mu.Unlock()
	select {
	case <-mine.done:
		return mine.states, mine.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// run asks, and again as long as somebody has come meanwhile.
func (c *captures) run(ctx context.Context, id sum, now *capture, ask func(context.Context) ([]State, error)) {
	for now != nil {
		now.states, now.err = ask(ctx)
		close(now.done)
		c.mu.Lock()
		a := c.of[id]
		if a.now, a.next = a.next, nil; a.now == nil {
			delete(c.of, id)
		}
		now = a.now
		c.mu.Unlock()
	}
}
