package pattern

import (
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// values are JSON's, small enough to meet each other.
func values() *rapid.Generator[any] {
	leaf := rapid.OneOf(
		rapid.Map(rapid.StringMatching(`[abAſ*]{0,3}`), func(s string) any { return s }),
		rapid.Map(rapid.IntRange(-2, 2), func(i int) any { return i }),
		rapid.SampledFrom([]any{nil, true, false, 0.5, 1e10}),
	)
	return rapid.Custom(func(t *rapid.T) any { return value(t, leaf, 3) })
}

func value(t *rapid.T, leaf *rapid.Generator[any], depth int) any {
	if depth > 0 {
		switch rapid.IntRange(0, 4).Draw(t, "kind") {
		case 0, 1:
			return members(t, leaf, depth-1)
		case 2:
			list := []any{}
			for range rapid.IntRange(0, 3).Draw(t, "items") {
				list = append(list, value(t, leaf, depth-1))
			}
			return list
		}
	}
	return leaf.Draw(t, "leaf")
}

func members(t *rapid.T, leaf *rapid.Generator[any], depth int) map[string]any {
	m := map[string]any{}
	for range rapid.IntRange(0, 3).Draw(t, "members") {
		m[rapid.SampledFrom([]string{"a", "b", "c", "é\n"}).Draw(t, "name")] = value(t, leaf, depth)
	}
	return m
}

func events() *rapid.Generator[string] {
	leaf := values()
	return rapid.Custom(func(t *rapid.T) string { return encode(members(t, rapid.Map(leaf, flat), 3)) })
}

// flat replaces what is no leaf.
func flat(v any) any {
	switch v.(type) {
	case map[string]any, []any:
		return "x"
	}
	return v
}

func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func compile(t *rapid.T, text string) *Pattern {
	p, err := Compile(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return p
}

var matchers = []string{`"a"`, `1`, `null`, `true`, `{"prefix":"a"}`, `{"suffix":"b"}`, `{"prefix":{"equals-ignore-case":"A"}}`, `{"equals-ignore-case":"AB"}`,
	`{"wildcard":"a*"}`, `{"anything-but":"a"}`, `{"anything-but":[1,2]}`, `{"anything-but":{"prefix":"a"}}`, `{"numeric":[">",0,"<=",2]}`, `{"exists":true}`, `{"exists":false}`}

// drawn is a pattern.
func drawn(t *rapid.T, depth int) string {
	var fields []string
	for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", `é\n`}), 1, 3, rapid.ID[string]).Draw(t, "fields") {
		of := `[` + strings.Join(rapid.SliceOfN(rapid.SampledFrom(matchers), 1, 2).Draw(t, "list"), ",") + `]`
		if depth > 0 && rapid.Bool().Draw(t, "object") {
			of = drawn(t, depth-1)
		}
		fields = append(fields, `"`+name+`":`+of)
	}
	if depth > 0 && rapid.IntRange(0, 3).Draw(t, "or") == 0 {
		fields = append(fields, `"$or":[`+drawn(t, depth-1)+`,`+drawn(t, depth-1)+`]`)
	}
	return `{` + strings.Join(fields, ",") + `}`
}

// The fast way through the text and the plain one through decoded values are
// two programs that must agree.
func TestTextAndValueMatchAlike(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		match(t, compile(t, drawn(t, 3)), events().Draw(t, "event"))
	})
}

// A field with a list matches as one of its items would, alternatives as one
// of theirs, and all fields as each.
func TestListsAndAlternativesAreOrFieldsAreAnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		event := events().Draw(t, "event")
		one, two := rapid.SampledFrom(matchers).Draw(t, "one"), rapid.SampledFrom(matchers).Draw(t, "two")
		is := func(text string) bool { return match(t, compile(t, text), event) }
		first, second := is(`{"a":[`+one+`]}`), is(`{"a":[`+two+`]}`)
		if got := is(`{"a":[` + one + `,` + two + `]}`); got != (first || second) {
			t.Fatalf("%v, %v: %v of a list on %s", first, second, got, event)
		}
		if got := is(`{"$or":[{"a":[` + one + `]},{"a":[` + two + `]}]}`); got != (first || second) {
			t.Fatalf("%v, %v: %v of $or on %s", first, second, got, event)
		}
		other := is(`{"b":[` + two + `]}`)
		if got := is(`{"a":[` + one + `],"b":[` + two + `]}`); got != (first && other) {
			t.Fatalf("%v, %v: %v of both on %s", first, other, got, event)
		}
	})
}

// For an event with one value, anything-but is what the plain matcher is not.
func TestAnythingButIsTheContrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		event := `{"a":` + encode(flat(values().Draw(t, "value"))) + `}`
		text := encode(rapid.StringMatching(`[abAſ]{1,3}`).Draw(t, "text"))
		for _, name := range []string{"prefix", "suffix", "equals-ignore-case", "wildcard"} {
			is := match(t, compile(t, `{"a":[{"`+name+`":`+text+`}]}`), event)
			if match(t, compile(t, `{"a":[{"anything-but":{"`+name+`":`+text+`}}]}`), event) == is {
				t.Fatalf("%s %s and its contrary are both %v on %s", name, text, is, event)
			}
		}
		if match(t, compile(t, `{"a":[`+text+`]}`), event) == match(t, compile(t, `{"a":[{"anything-but":`+text+`}]}`), event) {
			t.Fatalf("%s and its contrary on %s", text, event)
		}
	})
}

// slow is a wildcard's meaning, written down.
func slow(g, s string) bool {
	switch {
	case g == "":
		return s == ""
	case g[0] == '*':
		return slow(g[1:], s) || s != "" && slow(g, s[1:])
	case g[0] == '\\':
		g = g[1:]
	}
	return s != "" && g[0] == s[0] && slow(g[1:], s[1:])
}

func TestWildcardsMeanWhatTheySay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`([ab*\\]|\*){0,8}`).Filter(func(text string) bool {
			_, err := compileGlob(text)
			return err == nil
		}).Draw(t, "wildcard")
		g, err := compileGlob(text)
		if err != nil {
			t.Fatal(err)
		}
		s := rapid.StringMatching(`[ab*\\]{0,10}`).Draw(t, "text")
		if got, want := g.match(s), slow(text, s); got != want {
			t.Fatalf("%q on %q: %v", text, s, got)
		}
	})
}

// What folds in front folds behind, and whole.
func TestIgnoringCaseIsOneThing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringOf(rapid.RuneFrom([]rune("aAkKKsSſß"))).Draw(t, "text")
		u := rapid.StringOf(rapid.RuneFrom([]rune("aAkKKsSſß"))).Draw(t, "other")
		want := strings.EqualFold(s, u)
		if same := len([]rune(s)) == len([]rune(u)); (foldPrefix(s, u) && same) != want || (foldSuffix(s, u) && same) != want {
			t.Fatalf("%q and %q", s, u)
		}
		if !foldPrefix(s+u, strings.ToUpper(strings.ReplaceAll(s, "ß", "ß"))) && !strings.Contains(s, "ſ") && !strings.Contains(s, "ß") {
			t.Fatalf("%q begins with %q", s+u, s)
		}
	})
}

func FuzzCompileAndMatch(f *testing.F) {
	f.Add(`{"detail":{"c":[{"numeric":[">",0,"<=",5]},{"anything-but":{"prefix":["x"]}}]},"$or":[{"a":[1]},{"b":[{"exists":false}]}]}`, sample)
	f.Add(`{"a":[{"prefix":{}}]}`, `{"a":[[],{"\u0061":1e999}],"\ud800":"\xff"}`)
	f.Add(`{"a":{"b":[{"wildcard":"*\\**"},""]}}`, `{"a":[{"b":"*"},{"b":["",{}]}]}`)
	f.Fuzz(func(t *testing.T, text, event string) {
		p, err := Compile(text)
		if err != nil {
			return
		}
		if !json.Valid([]byte(text)) {
			t.Fatalf("no JSON is taken: %q", text)
		}
		if !json.Valid([]byte(event)) || strings.TrimLeft(event, " \t\r\n")[0] != '{' {
			if _, err := p.Match([]byte(event)); err == nil {
				t.Fatalf("no event is taken: %q", event)
			}
			return
		}
		match(t, p, event)
	})
}
