package manager_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth/manager"
)

func TestOverlapMakesWhatTheLoadNeeds(t *testing.T) {
	for name, c := range map[string]struct {
		holders    []manager.Holder
		share      float64
		have, most int
		want       []int
	}{
		"busy and recent ones are matched, idle ones are not": {[]manager.Holder{{Busy: 2, Recent: 1, Idle: 5}}, 1, 0, 99, []int{3}},
		"each beside its own":                        {[]manager.Holder{{Busy: 1}, {Recent: 2}, {Idle: 3}}, 1, 0, 99, []int{1, 2, 0}},
		"one for a function that is warm and idle":   {[]manager.Holder{{Idle: 4}, {Idle: 1}}, 1, 0, 99, []int{1, 0}},
		"none where there is nothing":                {nil, 1, 0, 99, []int{}},
		"none beyond the bound, and some everywhere": {[]manager.Holder{{Busy: 5}, {Busy: 1}}, 1, 0, 3, []int{2, 1}},
		"none where there may be none":               {[]manager.Holder{{Busy: 5}}, 1, 0, 0, []int{0}},
		"what there is counts":                       {[]manager.Holder{{Busy: 3}}, 1, 2, 99, []int{1}},
		"a tenth of ten":                             {[]manager.Holder{{Busy: 10}}, 0.1, 0, 99, []int{1}},
		"a share is rounded up":                      {[]manager.Holder{{Busy: 3}}, 0.4, 0, 99, []int{2}},
		"nothing of nothing":                         {[]manager.Holder{{Busy: 3, Idle: 1}}, 0, 0, 99, []int{0}},
	} {
		if got := (manager.Overlap{}).Choose(c.holders, c.share, c.have, c.most); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestOverlapNeverMakesMoreThanTheOldCodeHasNorThanItMay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		holders := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) manager.Holder {
			n := rapid.IntRange(0, 9)
			return manager.Holder{Busy: n.Draw(t, "busy"), Recent: n.Draw(t, "recent"), Idle: n.Draw(t, "idle")}
		}), 0, 6).Draw(t, "holders")
		most, share := rapid.IntRange(-3, 30).Draw(t, "most"), rapid.Float64Range(0, 1).Draw(t, "share")
		sum := 0
		for i, n := range (manager.Overlap{}).Choose(holders, share, rapid.IntRange(0, 5).Draw(t, "have"), most) {
			h := holders[i]
			if n < 0 || n > h.Busy+h.Recent+h.Idle {
				t.Fatalf("%d beside %+v", n, h)
			}
			sum += n
		}
		if sum > max(most, 0) {
			t.Fatalf("%d of at most %d", sum, most)
		}
	})
}
