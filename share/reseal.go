package share

import "context"

// Reseal gives visit each alias's parameters as they are sealed, and puts what
// that returns in their place, unless it is nil.
func (s *Shares) Reseal(ctx context.Context, visit func(sealed, associated []byte) ([]byte, error), rest func(context.Context) error) error {
	s.changing.Lock() // whoever sealed before has it on disk
	//lint:ignore SA2001 it is waited for
	s.changing.Unlock()
	for k := range s.records.Scan("", "") {
		_, err := s.records.Change(ctx, k, func(old *record) (*record, error) {
			if old == nil || len(old.Sealed) == 0 {
				return old, nil
			}
			again, err := visit(old.Sealed, old.belongs())
			if again == nil || err != nil {
				return old, err
			}
			now := *old
			now.Sealed = again
			return &now, nil
		})
		if err != nil {
			return err
		}
		if err := rest(ctx); err != nil {
			return err
		}
	}
	return nil
}

// newest is r as it is sealed now.
func (s *Shares) newest(r *record) *record {
	if now := s.records.Get(key{r.Account, r.Name}.String()); now != nil && now.Revision == r.Revision {
		return now
	}
	return r
}
