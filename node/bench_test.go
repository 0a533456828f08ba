package node

import (
	"bytes"
	"context"
	"testing"

	"github.com/hearth-faas/hearth"
)

// What a node elsewhere adds to a warm invocation: the way there and back over
// loopback, encrypted.
func BenchmarkInvokeThroughANode(b *testing.B) {
	n := &fakeNode{invoke: func(_ context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
		inv.Handing()
		return &hearth.Result{Payload: inv.Payload}, nil
	}}
	c, _ := pair(b, n)
	inv := invocation("f")
	inv.Payload = bytes.Repeat([]byte("1"), 1024)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Invoke(context.Background(), inv); err != nil {
			b.Fatal(err)
		}
	}
}
