package source

import "context"

// Reseal gives visit each secret as it is sealed, and puts what that returns in
// its place, unless it is nil.
func (s *Sources) Reseal(ctx context.Context, visit func(sealed, associated []byte) ([]byte, error), rest func(context.Context) error) error {
	s.table.Settled() // what was sealed before is on disk
	for record := range s.table.Scan("", "") {
		_, err := s.table.Change(ctx, record, func(old *Source) (*Source, error) {
			if old == nil || old.Sealed == nil {
				return old, nil
			}
			again, err := visit(old.Sealed, sealedTo(old.Account, old.Name))
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
