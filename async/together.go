package async

import (
	"context"

	"github.com/hearth-faas/hearth/store"
)

type togetherKey struct{}

// Together returns a context for Invoke, also through the frontend: the
// transaction that accepts the event does also what do does, or neither. So
// what is handed on to a function from the same store is handed on once. do may
// be run again, as the Store says; its error is that of Invoke, wrapped.
func Together(ctx context.Context, do func(store.Tx) error) context.Context {
	return context.WithValue(ctx, togetherKey{}, do)
}

func alsoOf(ctx context.Context) func(store.Tx) error {
	do, _ := ctx.Value(togetherKey{}).(func(store.Tx) error)
	return do
}
