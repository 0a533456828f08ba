package frontend

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
)

func named(name string) *hearth.Function {
	return &hearth.Function{Account: hearth.DefaultAccount, Name: name}
}

func TestAChainCountsHowOftenEachFunctionIsInIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c"}), 1, 60).Draw(t, "chain")
		began := rapid.SampledFrom([]string{"", "Root=1-2-3", "Root=1-2-3;Parent=4;Sampled=1", "Lineage=12345678:7;Root=1-2-3", "Self=x;Lineage="}).Draw(t, "header")
		header, seen := began, map[string]int{}
		for _, name := range names {
			longer, loops := lengthen(header, named(name))
			if want := min(seen[name], maxLoops+1); loops != want {
				t.Fatalf("%s in %q: %d loops, want %d", name, header, loops, want)
			}
			seen[name]++
			header = longer
		}
		for _, part := range strings.Split(began, ";") {
			if part != "" && !strings.HasPrefix(part, lineagePrefix) && !strings.Contains(header, part) {
				t.Fatalf("%q lost %q of %q", header, part, began)
			}
		}
		if strings.Contains(began, "12345678") != strings.Contains(header, "12345678:7|") {
			t.Fatalf("%q became %q", began, header)
		}
		if strings.Count(header, lineagePrefix) != 1 {
			t.Fatalf("more than one lineage: %q", header)
		}
	})
}

func TestALineageIsBounded(t *testing.T) {
	header := ""
	for i := range 100 {
		header, _ = lengthen(header, named(fmt.Sprint("f", i)))
	}
	if n := strings.Count(header, "|") + 1; n != maxLineage {
		t.Errorf("%d entries, want %d", n, maxLineage)
	}
	if _, loops := lengthen(header, named("f99")); loops != 1 {
		t.Error("the newest entry was dropped")
	}
}

func FuzzLengthen(f *testing.F) {
	f.Add("Root=1-2-3;Parent=4;Sampled=0;Lineage=a87bd80c:1|68fd508a:5")
	f.Add("Lineage=1:2:3|x|:|-1:-1;;=")
	f.Fuzz(func(t *testing.T, header string) {
		_, before := lengthen(header, named("f"))
		longer, _ := lengthen(header, named("f"))
		if _, again := lengthen(longer, named("f")); again != min(before+1, maxLoops+1) {
			t.Errorf("%q: %d loops, and %d after that", header, before, again)
		}
	})
}
