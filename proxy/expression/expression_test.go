package expression_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth/proxy/expression"
)

var env = expression.NewEnv("body", "resource")

func variables(t testing.TB) map[string]any {
	t.Helper()
	list := make([]any, 1000)
	for i := range list {
		list[i] = fmt.Sprint(i)
	}
	return map[string]any{
		"resource": map[string]any{"state": map[string]any{"level": int64(3)}},
		"body":     map[string]any{"n": int64(2), "f": 1.5, "s": "aXb", "list": list, "big": strings.Repeat("x", 1<<20), "none": nil},
	}
}

func TestAnExpressionComesToPlainValues(t *testing.T) {
	for text, want := range map[string]any{
		"resource.state.level + body.n":                            int64(5),
		"double(body.n) + body.f":                                  3.5,
		"body.n < body.f":                                          false,
		"{'a': [body.n, null], 'b': {'c': true}}":                  map[string]any{"a": []any{int64(2), nil}, "b": map[string]any{"c": true}},
		"body.?nope.orValue('x')":                                  "x",
		"body.?nope":                                               nil,
		"has(body.nope) ? 1 : 2":                                   int64(2),
		"body.s.lowerAscii() + body.s.upperAscii() + ' y '.trim()": "axbAXBy",
		"'a,b'.split(',').map(x, x + x).join('-')":                 "aa-bb",
		"'aab'.replace('a', 'xy')":                                 "xyxyb",
		"b'hi'":                                                    "aGk=",
		"timestamp('2026-01-02T03:04:05Z')":                        "2026-01-02T03:04:05Z",
		"duration('90s')":                                          "90s",
		"18446744073709551615u":                                    18446744073709551615.0,
		"size(body.list.filter(x, x.startsWith('99')))":            int64(11),
	} {
		x, err := env.Compile(text, expression.Any)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got, err := x.Eval(t.Context(), variables(t))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %#v %v, want %#v", text, got, err, want)
		}
	}
}

func TestWhatCannotBeCompiledIsRefusedWithItsPosition(t *testing.T) {
	for _, c := range []struct {
		text         string
		kind         expression.Kind
		line, column int
		says         string
	}{
		{"1 +", expression.Any, 1, 4, "mismatched input"},
		{"body.n +\n  foo", expression.Any, 2, 3, "undeclared reference to 'foo'"},
		{"'a' + 1", expression.Any, 1, 5, "no matching overload"},
		{"'a'", expression.Int, 1, 1, "where a whole number is wanted"},
		{"[1]", expression.Map, 1, 1, "where a map, or null is wanted"},
		{" ", expression.Any, 0, 0, "empty"},
		{strings.Repeat("a", expression.MaxText+1), expression.Any, 0, 0, "bytes"},
		{strings.Repeat("(", 200) + "1" + strings.Repeat(")", 200), expression.Any, 1, 1, "recursion"},
		{"getenv('PATH')", expression.Any, 1, 7, "undeclared reference"},
	} {
		_, err := env.Compile(c.text, c.kind)
		e, ok := errors.AsType[*expression.Error](err)
		if !ok || c.line > 0 && e.Line != c.line || c.line > 0 && c.column > 1 && e.Column != c.column || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%.40q: %v, want line %d, column %d, %s", c.text, err, c.line, c.column, c.says)
		}
	}
}

func TestWhatAValueIsNotIsSaid(t *testing.T) {
	for _, c := range []struct {
		text string
		kind expression.Kind
		says string
	}{
		{"body.nope", expression.Any, "no such key: nope"},
		{"body.s", expression.Int, "it comes to a text, where a whole number is wanted"},
		{"body.n", expression.Map, "it comes to a whole number"},
		{"{1: 2}", expression.Any, "a key that is no text"},
		{"type(1)", expression.Any, "JSON does not have"},
		{"0.0/0.0", expression.Any, "JSON does not have"},
		{"['a', body.n].join('')", expression.Any, "join takes a list of texts"},
	} {
		x, err := env.Compile(c.text, c.kind)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if _, err := x.Eval(t.Context(), variables(t)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %s", c.text, err, c.says)
		}
	}
}

// Each of these would take the machine's memory, or its time until tomorrow.
// Whatever may be sent can be handed on, and looked into.
func TestExpressionsTakeWhatADocumentMayBe(t *testing.T) {
	var wide strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&wide, `,{"k%d":1}`, i)
	}
	for name, document := range map[string]string{
		"lists in lists": strings.Repeat("[", 60) + strings.Repeat("]", 60),
		"maps in maps":   strings.Repeat(`{"a":`, 60) + "1" + strings.Repeat("}", 60),
		"many values":    "[" + wide.String()[1:] + "]",
		"a long text":    `"` + strings.Repeat("x", 1<<20-10) + `"`,
	} {
		v, err := expression.FromJSON([]byte(document))
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{"body", "{'event': body, 'was': resource.state}", "has(body.nope) || true", "[1, 2, 3].exists(n, size(body) == n) || true"} {
			x, err := env.Compile(text, expression.Any)
			if err != nil {
				t.Fatal(err)
			}
			out, err := x.Eval(t.Context(), map[string]any{"body": v, "resource": map[string]any{"state": nil}})
			if err != nil {
				t.Errorf("%s of %s: %v", text, name, err)
			}
			if text == "body" && !reflect.DeepEqual(out, v) {
				t.Errorf("%s comes to something else", name)
			}
		}
	}
}

func TestHostileExpressionsAreEnded(t *testing.T) {
	twice := func(s string, n int) string { return strings.Repeat(s, n) }
	ten := "[1,2,3,4,5,6,7,8,9,10]"
	nest := "body.big + 'x'"
	for i := range 9 {
		nest = fmt.Sprintf("%s.map(v%d, %s)", ten, i, nest)
	}
	for name, text := range map[string]string{
		"a list that doubles":          "[[1]]" + twice(".map(a, a + a)", 40),
		"equal lists that double":      "[[1]]" + twice(".map(a, a + a)", 40) + " == [[1]]" + twice(".map(a, a + a)", 40),
		"lists of one list":            "[[1]]" + twice(".map(a, [a, a])", 40),
		"equal lists of one list":      "dyn([1])" + twice(".map(a, [a, a])", 40) + " == dyn([1])" + twice(".map(a, [a, a])", 40),
		"a text that doubles":          "['xxxxxxxx']" + twice(".map(a, a + a)", 40),
		"a text of any that doubles":   "[body.s]" + twice(".map(a, dyn(a) + dyn(a))", 40),
		"loops in loops":               nest,
		"long texts of one":            "body.list.map(a, body.big)",
		"long texts of one in lists":   "body.list.map(a, body.list.map(b, body.big))",
		"a long text in each of many":  "body.list.map(a, body.list.map(b, body.big + b))",
		"a text that is replaced":      "body.big.replace('x', '" + twice("y", 4000) + "')",
		"a text that is joined":        "body.list.join(body.big)",
		"a text that is often handled": "body.list.map(a, body.list.map(b, body.big.upperAscii()))",
	} {
		x, err := env.Compile(text, expression.Any)
		if err != nil {
			t.Errorf("%s: %.200v", name, err)
			continue
		}
		if v, err := x.Eval(t.Context(), variables(t)); err == nil {
			t.Errorf("%s comes to %.40q", name, fmt.Sprint(v))
		} else if !errors.Is(err, expression.ErrBounds) && !strings.Contains(err.Error(), "would be made") && !strings.Contains(err.Error(), "comes to more than") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a document has is looked at again and again, and not measured each time.
func TestALoopOverMuchEndsByItsCost(t *testing.T) {
	v, err := expression.FromJSON([]byte("[" + strings.Repeat("1,", 60_000) + "1]"))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]any{"body.exists(a, size(body) < 0)": false, "body.map(a, body)": nil} {
		x, err := env.Compile(text, expression.Any)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := x.Eval(t.Context(), map[string]any{"body": v}); got != want || (want == nil) != errors.Is(err, expression.ErrBounds) {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

func TestAnEvaluationEndsWithItsContext(t *testing.T) {
	x, err := env.Compile("body.list.exists(a, body.list.exists(b, a + b == 'x'))", expression.Any)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the caller left")
	cancel(why)
	if _, err := x.Eval(ctx, variables(t)); !errors.Is(err, why) {
		t.Error(err)
	}
}

func TestJSONThatNestsTooDeeplyIsRefused(t *testing.T) {
	for doc, ok := range map[string]bool{
		strings.Repeat("[", 64) + strings.Repeat("]", 64):           true,
		strings.Repeat("[", 65) + strings.Repeat("]", 65):           false,
		`{"a":"` + strings.Repeat("[", 100) + `"}`:                  true,
		`{"a":"\"` + strings.Repeat("[", 100) + `"}`:                true,
		strings.Repeat(`{"a":`, 65) + "1" + strings.Repeat("}", 65): false,
		"1 2": false, "": false, "{": false, "nul": false, "1e999": false,
	} {
		if _, err := expression.FromJSON([]byte(doc)); (err == nil) != ok {
			t.Errorf("%.40q: %v", doc, err)
		}
	}
}

// What goes through an expression unchanged is what it was.
func TestValuesGoThroughUnchanged(t *testing.T) {
	x, err := env.Compile("body", expression.Any)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		v := Value(3).Draw(t, "v")
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		in, err := expression.FromJSON(data)
		if err != nil {
			t.Fatal(err)
		}
		out, err := x.Eval(context.Background(), map[string]any{"body": in, "resource": nil})
		if err != nil || !reflect.DeepEqual(in, out) {
			t.Fatalf("%#v became %#v: %v", in, out, err)
		}
	})
}

// Value draws JSON values, at most so deep.
func Value(depth int) *rapid.Generator[any] {
	scalars := rapid.OneOf(
		rapid.Just[any](nil), rapid.Bool().AsAny(), rapid.Int64().AsAny(), rapid.String().AsAny(),
		rapid.Float64Range(-1e12, 1e12).AsAny(),
	)
	if depth == 0 {
		return scalars
	}
	return rapid.OneOf(scalars,
		rapid.SliceOfN(rapid.Deferred(func() *rapid.Generator[any] { return Value(depth - 1) }), 0, 4).AsAny(),
		rapid.MapOfN(rapid.String(), rapid.Deferred(func() *rapid.Generator[any] { return Value(depth - 1) }), 0, 4).AsAny(),
	)
}

func FuzzCompile(f *testing.F) {
	for _, s := range []string{"1", "body.a ? 1 : 2", "[1].map(x, x + 1)", "body.?a.orValue('x').matches('a+')", "{'a': \"b\"}", "body.s.split(',')[0]"} {
		f.Add(s)
	}
	vars := map[string]any{"body": map[string]any{"s": "a,b", "a": true, "list": []any{int64(1), int64(2)}}, "resource": nil}
	f.Fuzz(func(t *testing.T, text string) {
		x, err := env.Compile(text, expression.Any)
		if err != nil {
			if _, ok := errors.AsType[*expression.Error](err); !ok {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		v, err := x.Eval(context.Background(), vars)
		if err != nil {
			return
		}
		if _, err := json.Marshal(v); err != nil {
			t.Fatalf("%q comes to %#v, which has no JSON: %v", text, v, err)
		}
	})
}
