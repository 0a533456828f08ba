package e2e

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
)

// figures are what the acceptance scenarios measured in all their runs of this
// process (-count): the median and the worst of each are printed at the end.
var figures struct {
	sync.Mutex
	names  []string
	values map[string][]float64
	least  map[string]bool // the least is the worst
	unit   map[string]string
}

// figure notes what a scenario measured; of what is better the more there is
// of it, the worst is the least.
func figure(t testing.TB, what string, value float64, unit string, more bool) {
	t.Helper()
	name := t.Name() + ": " + what
	t.Logf("%s: %.4g %s", what, value, unit)
	figures.Lock()
	defer figures.Unlock()
	if figures.values == nil {
		figures.values, figures.least, figures.unit = map[string][]float64{}, map[string]bool{}, map[string]string{}
	}
	if figures.values[name] == nil {
		figures.names = append(figures.names, name)
	}
	figures.values[name] = append(figures.values[name], value)
	figures.least[name], figures.unit[name] = more, unit
}

// printFigures prints what was measured more than once.
func printFigures(w io.Writer) {
	figures.Lock()
	defer figures.Unlock()
	for _, name := range figures.names {
		v := slices.Sorted(slices.Values(figures.values[name]))
		if len(v) < 2 {
			continue
		}
		worst := v[len(v)-1]
		if figures.least[name] {
			worst = v[0]
		}
		fmt.Fprintf(w, "%-90s median %8.4g   worst %8.4g %s (%d runs)\n", name, v[len(v)/2], worst, figures.unit[name], len(v))
	}
}
