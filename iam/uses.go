package iam

import (
	"context"
	"sync"
	"time"
)

// useEvery is how exactly it is kept when a role was last taken on.
const useEvery = 5 * time.Minute

// uses writes down when roles are taken on, beside whoever takes them on:
// nobody waits for it, and most times there is nothing to write.
type uses struct {
	pending sync.WaitGroup
	mu      sync.Mutex
	writing map[string]bool // by id
}

func (u *uses) note(d *Directory, r *Role) {
	now := d.now()
	if now.Sub(r.Used) < useEvery {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.writing[r.ID] {
		return
	}
	if u.writing == nil {
		u.writing = map[string]bool{}
	}
	u.writing[r.ID] = true
	u.pending.Go(func() {
		_, err := d.changeRole(context.Background(), r.Account, r.Name, func(current *Role) error {
			if current.ID == r.ID { // or else it is another of the same name
				current.Used = now
			}
			return nil
		})
		if err != nil {
			d.cfg.Log.Debug("the last use of a role was not written down", "role", r.ARN(), "err", err)
		}
		u.mu.Lock()
		defer u.mu.Unlock()
		delete(u.writing, r.ID)
	})
}
