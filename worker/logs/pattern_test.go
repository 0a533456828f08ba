package logs

import (
	"testing"

	"github.com/hearth-faas/hearth"
)

func TestPatternsSelectAsCloudWatchDoes(t *testing.T) {
	const record = `{"level":"ERROR","n":5,"ok":true,"none":null,"a":[{"b":"x.y"}],"m":{"k":"v w"}}`
	for _, c := range []struct {
		pattern, message string
		want             bool
	}{
		{"ERROR", "an ERROR occurred", true},
		{"ERROR", "an error occurred", false},
		{"ERROR occurred", "occurred ERROR", true},
		{`"an ERROR"`, "ERROR an", false},
		{`"say \"hi\""`, `they say "hi"`, true},
		{"?ERROR ?WARN", "a WARN", true},
		{"?ERROR ?WARN", "an INFO", false},
		{"ERROR -4", "ERROR 5", true},
		{`ERROR -"4 0"`, "ERROR 4 0", false},
		{`{ $.level = "ERROR" }`, record, true},
		{`{ $.level = ERROR }`, record, true},
		{`{ $.level = E*R }`, record, true},
		{`{ $.level = E*X }`, record, false},
		{`{ $.level != "ERROR" }`, record, false},
		{`{ $.missing != "ERROR" }`, record, false},
		{`{ $.missing NOT EXISTS }`, record, true},
		{`{ $.n >= 5 && $.n < 6 }`, record, true},
		{`{ $.n = 4 || $.ok IS TRUE }`, record, true},
		{`{ ($.n = 4 || $.n = 5) && $.ok = false }`, record, false},
		{`{ $.none IS NULL }`, record, true},
		{`{ $.a[0].b = "x.y" && $.m["k"] = "v w" }`, record, true},
		{`{ $.n = 5 }`, "no JSON", false},
	} {
		match, err := ParsePattern(c.pattern)
		if err != nil {
			t.Errorf("%s: %v", c.pattern, err)
			continue
		}
		if got := match(c.message); got != c.want {
			t.Errorf("%s on %s: %v", c.pattern, c.message, got)
		}
	}
	if match, err := ParsePattern(" "); match != nil || err != nil {
		t.Error("an empty pattern selects all")
	}
	for _, bad := range []string{`"open`, "{ $.a = 1", "{ a = 1 }", "{ $.a }", "{ $.a < x }", "[a, b]", "{ ($.a = 1 }", "{ $.a = 1 } x }"} {
		if _, err := ParsePattern(bad); hearth.KindOf(err) != hearth.InvalidParameter {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func FuzzPattern(f *testing.F) {
	f.Add(`{ ($.a[0].b = "x*" || $.n >= 5) && $.c NOT EXISTS }`, `{"a":[{"b":"xy"}]}`)
	f.Add(`?a -"b c" "d\""`, "a")
	f.Fuzz(func(t *testing.T, pattern, message string) {
		if match, err := ParsePattern(pattern); err == nil && match != nil {
			match(message)
		}
	})
}
