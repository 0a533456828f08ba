package taskset

import (
	"context"
	"errors"
	"maps"
)

// save stores the counts that have changed, and removes those of what is gone.
func (s *Sets) save(ctx context.Context) error {
	s.mu.Lock()
	lives := maps.Clone(s.lives)
	s.mu.Unlock()
	var errs []error
	for id, l := range lives {
		l.mu.Lock()
		changed := map[string]*counts{}
		if l.counts.dirty {
			changed[id] = &l.counts
		}
		for key, k := range l.keys {
			if k.counts.dirty {
				changed[key] = &k.counts
			}
		}
		values := map[string]Counts{}
		for key, c := range changed {
			values[key], c.dirty = c.Counts, false
		}
		l.mu.Unlock()
		for key, v := range values {
			if _, err := s.counts.Change(ctx, key, func(*Counts) (*Counts, error) { return &v, nil }); err != nil {
				errs = append(errs, err)
				l.mu.Lock()
				changed[key].dirty = true
				l.mu.Unlock()
			}
		}
	}
	return errors.Join(errs...)
}

// forget removes counts that nobody will ask for.
func (s *Sets) forget(ctx context.Context, id string) {
	if _, err := s.counts.Change(ctx, id, func(*Counts) (*Counts, error) { return nil, nil }); err != nil {
		s.cfg.Log.Error("the counts of what is gone could not be removed", "id", id, "error", err)
	}
}

// Used are the calls that a subscription was let in for, and each of its keys
// by its id.
func (s *Sets) Used(r *Subscription) (Counts, map[string]Counts) {
	s.mu.Lock()
	l := s.lives[r.life()]
	s.mu.Unlock()
	keys := map[string]Counts{}
	if l == nil {
		return Counts{}, keys
	}
	at := s.cfg.Clock.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts.turn(at)
	for _, k := range r.Keys {
		c := countsOf(s.counts.Get(k.ID))
		if kl := l.keys[k.ID]; kl != nil {
			c = kl.counts
		}
		c.turn(at)
		keys[k.ID] = c.Counts
	}
	return l.counts.Counts, keys
}
