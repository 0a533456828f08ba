package execution

import (
	"strings"
	"testing"

	"github.com/hearth-faas/hearth"
)

func TestBoundsOfSizingAreChecked(t *testing.T) {
	for want, p := range map[string]hearth.SizingPolicy{
		"":                      {Mode: "auto", FailShare: 0.5, Runs: 1, ShrinkRuns: 500, MinMiB: 256, MaxMiB: 256},
		"mode \"on\" is none":   {Mode: "on"},
		"failShare 1.5":         {FailShare: 1.5},
		"failShare -0.1":        {FailShare: -0.1},
		"failShare 1e-05":       {FailShare: 0.00001},
		"runs -1":               {Runs: -1},
		"shrinkRuns 501":        {ShrinkRuns: 501},
		"minMiB 64 and maxMiB":  {MinMiB: 64},
		"maxMiB 20480":          {MaxMiB: 20480},
		"minMiB 512 and maxMiB": {MinMiB: 512, MaxMiB: 256},
	} {
		err := Check(&hearth.ExecutionPolicy{Sizing: &p})
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), "sizing: ") || !strings.Contains(err.Error(), want)) {
			t.Errorf("%+v: %v, want %q", p, err, want)
		}
	}
}
