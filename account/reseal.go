package account

import "context"

// Reseal gives visit each secret as it is sealed, and puts what that returns in
// its place, unless it is nil. No key is made meanwhile whose secret was sealed
// before.
func (k *Keys) Reseal(ctx context.Context, visit func(sealed, associated []byte) ([]byte, error), rest func(context.Context) error) error {
	k.changing.Lock() // whoever sealed before has it on disk
	//lint:ignore SA2001 it is waited for
	k.changing.Unlock()
	for record := range k.table.Scan("", "") {
		_, err := k.table.Change(ctx, record, func(old *Key) (*Key, error) {
			if old == nil {
				return nil, nil
			}
			again, err := visit(old.Sealed, sealedAs(old.ID))
			if again == nil || err != nil {
				return old, err
			}
			key := *old
			key.Sealed = again
			return &key, nil
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
