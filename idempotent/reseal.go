package idempotent

import "context"

// Reseal gives visit each declaration's secrets as they are sealed, and puts what
// that returns in their place, unless it is nil.
func (a *Avoider) Reseal(ctx context.Context, visit func(sealed, associated []byte) ([]byte, error), rest func(context.Context) error) error {
	a.setting.Lock() // whoever sealed before has it on disk
	//lint:ignore SA2001 it is waited for
	a.setting.Unlock()
	for key := range a.own.Scan("", "") {
		_, err := a.own.Change(ctx, key, func(old *declared) (*declared, error) {
			if old == nil || len(old.Sealed) == 0 {
				return old, nil
			}
			again, err := visit(old.Sealed, []byte("idempotent "+key))
			if again == nil || err != nil {
				return old, err
			}
			return &declared{Said: old.Said, Sealed: again}, nil
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
