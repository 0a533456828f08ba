package table_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/sqlite"
	"github.com/hearth-faas/hearth/store/table"
)

type thing struct {
	N int `json:"n"`
}

func open(t interface{ Fatal(...any) }, s store.Store) *table.Table[thing] {
	tb, err := table.Open[thing](context.Background(), s, "things")
	if err != nil {
		t.Fatal(err)
	}
	return tb
}

func contents(tb *table.Table[thing], prefix, after string) (all []string) {
	for k, v := range tb.Scan(prefix, after) {
		all = append(all, fmt.Sprint(k, "=", v.N))
	}
	return all
}

// What a table shows is what a map would, also after it was opened again.
func TestATableIsAMapThatSurvives(t *testing.T) {
	s, err := sqlite.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	rapid.Check(t, func(t *rapid.T) {
		tb := open(t, s)
		for _, key := range slices.Collect(maps.Keys(maps.Collect(tb.Scan("", "")))) {
			if _, err := tb.Change(context.Background(), key, func(*thing) (*thing, error) { return nil, nil }); err != nil {
				t.Fatal(err)
			}
		}
		model := map[string]int{}
		expect := func(prefix, after string) (all []string) {
			for _, k := range slices.Sorted(maps.Keys(model)) {
				if len(k) >= len(prefix) && k[:len(prefix)] == prefix && k > after {
					all = append(all, fmt.Sprint(k, "=", model[k]))
				}
			}
			return all
		}
		keys := rapid.StringMatching(`[ab]{1,2}/[ab]{0,2}`)
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			key, n := keys.Draw(t, "key"), rapid.IntRange(-1, 5).Draw(t, "n")
			_, err := tb.Change(context.Background(), key, func(old *thing) (*thing, error) {
				if was, ok := model[key]; ok != (old != nil) || ok && old.N != was {
					t.Fatalf("%s was %v, the model says %d %v", key, old, was, ok)
				}
				switch n {
				case -1:
					return nil, nil
				case 5:
					return nil, errRefused
				}
				return &thing{n}, nil
			})
			if (n == 5) != errors.Is(err, errRefused) {
				t.Fatal(err)
			}
			switch n {
			case -1:
				delete(model, key)
			case 5:
			default:
				model[key] = n
			}
			prefix, after := rapid.SampledFrom([]string{"", "a", "b/", "ab"}).Draw(t, "prefix"), keys.Draw(t, "after")
			if got, want := contents(tb, prefix, after), expect(prefix, after); !slices.Equal(got, want) {
				t.Fatalf("scan %q after %q: %v, expected %v", prefix, after, got, want)
			}
		}
		if got, want := contents(open(t, s), "", ""), expect("", ""); !slices.Equal(got, want) {
			t.Fatalf("opened again: %v, expected %v", got, want)
		}
	})
}

var errRefused = errors.New("refused")

func TestAPageTellsWhetherOthersFollow(t *testing.T) {
	s, err := sqlite.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	tb := open(t, s)
	for n := range 6 {
		if _, err := tb.Change(t.Context(), fmt.Sprint("a/", n), func(*thing) (*thing, error) { return &thing{n}, nil }); err != nil {
			t.Fatal(err)
		}
	}
	even := func(v *thing) bool { return v.N%2 == 0 }
	for _, c := range []struct {
		after string
		max   int
		fits  func(*thing) bool
		want  string
	}{
		{"", 6, nil, "[0 1 2 3 4 5] false"},
		{"", 5, nil, "[0 1 2 3 4] true"},
		{"a/3", 5, nil, "[4 5] false"},
		{"", 2, even, "[0 2] true"},
		{"a/2", 2, even, "[4] false"}, // 5 follows, and does not fit
		{"", 0, nil, "[] true"},
		{"a/5", 1, nil, "[] false"},
	} {
		page, more := tb.Page("a/", c.after, c.max, c.fits)
		ns := []int{}
		for _, v := range page {
			ns = append(ns, v.N)
		}
		if got := fmt.Sprint(ns, " ", more); got != c.want {
			t.Errorf("%d after %q: %s, want %s", c.max, c.after, got, c.want)
		}
	}
}
