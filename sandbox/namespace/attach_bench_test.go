package namespace

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hearth-faas/hearth/sandbox"
)

// BenchmarkAttach measures putting code into a ready sandbox: that of a zip,
// and images of few and of many layers, each with many files.
func BenchmarkAttach(b *testing.B) {
	layers := make([]string, 127)
	for i := range layers {
		layers[i] = b.TempDir()
		if err := os.Chmod(layers[i], 0o755); err != nil {
			b.Fatal(err)
		}
		for j := range 100 {
			if err := os.WriteFile(filepath.Join(layers[i], fmt.Sprintf("file-%d-%d", i, j)), []byte("x"), 0o644); err != nil {
				b.Fatal(err)
			}
		}
	}
	d := newDriver(b, nil)
	for _, kind := range []struct {
		name string
		at   sandbox.Attachment
	}{
		{"zip", sandbox.Attachment{Task: probeDir}},
		{"zip with two layers", sandbox.Attachment{Task: probeDir, Layers: layers[:2]}},
		{"image of 2 layers", sandbox.Attachment{Root: layers[:2]}},
		{"image of 10 layers", sandbox.Attachment{Root: layers[:10]}},
		{"image of 127 layers", sandbox.Attachment{Root: layers}},
	} {
		b.Run(kind.name, func(b *testing.B) {
			in := newInstance(b, d)
			m := medians{}
			for b.Loop() {
				c := newBox(b, in, sandbox.ContainerSpec{Limits: sandbox.Limits{TmpBytes: usualTmp}})
				start := time.Now()
				if err := c.Attach(b.Context(), kind.at); err != nil {
					b.Fatal(err)
				}
				m.since("attach", start)
				if err := c.Destroy(); err != nil {
					b.Fatal(err)
				}
			}
			m.report(b)
			// On a machine that does other things, too, the fastest is what it costs.
			b.ReportMetric(float64(slices.Min(m["attach"]).Microseconds()), "fastest-µs")
		})
	}
}
