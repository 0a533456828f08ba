package share

import (
	"testing"

	"github.com/hearth-faas/hearth"
)

// What a run of a shared function costs more than one of one's own, before it is
// placed: looked up, let in and let go.
func BenchmarkResolveEnterLeave(b *testing.B) {
	w := newWorld(b)
	o := w.offer(nil)
	w.accept(a1, o, "k1")
	inv := &hearth.Invocation{}
	b.ReportAllocs()
	for b.Loop() {
		f, err := w.Resolve(b.Context(), a1, "mine", "")
		if err != nil {
			b.Fatal(err)
		}
		inv.Function = f
		if err := w.Enter(b.Context(), inv); err != nil {
			b.Fatal(err)
		}
		w.Leave(inv)
	}
}
