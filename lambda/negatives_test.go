package lambda

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/aws/smithy-go/transport/http/protocol/restjson1"
	"pgregory.net/rapid"
)

// For each constrained member of each operation, requests are made that break
// one constraint each, from the table of constraints alone: too little, too
// much, of the wrong pattern, none of the enumeration, missing. They go the
// whole way over HTTP, and each must come back with the one violation that was
// put in, in the service's words.

// broken is one way to break a request.
type broken struct {
	what string
	want string // the violation
	set  func(in reflect.Value)
}

// examples makes values that satisfy the constraints.
type examples struct{ t *testing.T }

// text is a string that satisfies the constraint of schema.
func (x examples) text(schema *smithy.Schema) string {
	if pick, ok := wanted[schema.TargetID().Name]; ok {
		return pick
	}
	k := constraintOf(schema)
	if k == nil {
		return "x"
	}
	if k.enum != nil {
		return k.enum[0]
	}
	if k.regex == "" {
		return strings.Repeat("x", max(1, int(least(k))))
	}
	p := k.match()
	gen := rapid.StringMatching(p.whole.String())
	for seed := range 200 {
		s := gen.Example(seed)
		if n := float64(utf8.RuneCountInString(s)); n > 0 && p.match(s) && n >= least(k) && (k.max == nil || n <= *k.max) && printable(s) {
			return s
		}
	}
	x.t.Fatalf("no example of %s: %s", schema.TargetID().Name, k.regex)
	return ""
}

// wanted are examples of shapes whose patterns allow what has a meaning of its
// own on the way, such as another account.
var wanted = map[string]string{
	"FunctionName": "hello", "NamespacedFunctionName": "hello", "UnqualifiedFunctionName": "hello", "NamespacedUnqualifiedFunctionName": "hello",
	"Runtime": "python3.12",
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

func least(k *constraint) float64 {
	if k.min == nil {
		return 0
	}
	return *k.min
}

// value is a value of type t that satisfies schema and has no more in it than
// it must.
func (x examples) value(t reflect.Type, schema *smithy.Schema) reflect.Value {
	v := reflect.New(t).Elem()
	k := constraintOf(schema)
	switch t.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(t.Elem()))
		v.Elem().Set(x.value(t.Elem(), schema))
	case reflect.Struct:
		if t == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(testNow))
			break
		}
		for _, m := range planOf(t, schema).members {
			if slices.Contains(required()[t.Name()], m.name) {
				v.Field(m.field).Set(x.value(v.Field(m.field).Type(), m.schema))
			}
		}
	case reflect.String:
		v.SetString(x.text(schema))
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte("{}"))
			break
		}
		x.fill(v, schema, 1)
	case reflect.Map:
		v.Set(reflect.MakeMap(t))
		v.SetMapIndex(x.value(t.Key(), schema.MapKey()), x.value(t.Elem(), schema.MapValue()))
	case reflect.Int32, reflect.Int64:
		v.SetInt(1)
		if k != nil {
			v.SetInt(int64(math.Max(1, least(k))))
		}
	case reflect.Float64:
		if k != nil {
			v.SetFloat(least(k))
		}
	case reflect.Bool:
	case reflect.Interface: // the body as a stream
		v.Set(reflect.ValueOf(strings.NewReader("{}")))
	default:
		x.t.Fatalf("no example of %s", t)
	}
	return v
}

// fill gives a list n items.
func (x examples) fill(v reflect.Value, schema *smithy.Schema, n int) {
	v.Set(reflect.MakeSlice(v.Type(), n, n))
	for i := range n {
		v.Index(i).Set(x.value(v.Type().Elem(), schema.ListMember()))
	}
}

// members yields the ways to break the members of the structure that at leads
// to.
func (x examples) members(t reflect.Type, schema *smithy.Schema, path string, at func(in reflect.Value) reflect.Value, depth int) (all []broken) {
	for _, m := range planOf(t, schema).members {
		name := lowerFirst(m.name)
		if path != "" {
			name = path + "." + name
		}
		field := func(in reflect.Value) reflect.Value { return at(in).Field(m.field) }
		ft := t.Field(m.field).Type
		// A part of the path that is missing is another path.
		if slices.Contains(required()[t.Name()], m.name) && m.place != inLabel {
			all = append(all, broken{"without " + name, "Value null at '" + name + "' failed to satisfy constraint: Member must not be null",
				func(in reflect.Value) { field(in).SetZero() }})
		}
		all = append(all, x.breaks(ft, m, name, field, depth)...)
	}
	return all
}

func (x examples) breaks(ft reflect.Type, m member, name string, field func(reflect.Value) reflect.Value, depth int) (all []broken) {
	base := ft
	for base.Kind() == reflect.Pointer {
		base = base.Elem()
	}
	put := func(in reflect.Value, v reflect.Value) {
		f := field(in)
		if f.Kind() == reflect.Pointer {
			f.Set(reflect.New(base))
			f = f.Elem()
		}
		f.Set(v)
	}
	k := constraintOf(m.schema)
	add := func(what, shown, text string, v reflect.Value) {
		all = append(all, broken{name + " " + what, "Value '" + shown + "' at '" + name + "' failed to satisfy constraint: " + text,
			func(in reflect.Value) { put(in, v) }})
	}
	switch base.Kind() {
	case reflect.Struct:
		if base == reflect.TypeFor[time.Time]() || depth > 4 {
			return nil
		}
		inside := func(in reflect.Value) reflect.Value {
			f := field(in)
			if f.Kind() != reflect.Pointer {
				return f
			}
			if f.IsNil() {
				f.Set(x.value(ft, m.schema))
			}
			return f.Elem()
		}
		return x.members(base, m.schema, name, inside, depth+1)
	case reflect.String:
		for what, s := range x.badTexts(k, m) {
			all = append(all, broken{name + " " + what, textViolations(k, s, name), func(in reflect.Value) { put(in, reflect.ValueOf(s).Convert(base)) }})
		}
	case reflect.Int32, reflect.Int64:
		if k == nil {
			return nil
		}
		if k.max != nil {
			n := int64(*k.max) + 1
			add("too large", strconv.FormatInt(n, 10), "Member must have value less than or equal to "+k.maxText, reflect.ValueOf(n).Convert(base))
		}
		if k.min != nil {
			n := int64(*k.min) - 1
			add("too small", strconv.FormatInt(n, 10), "Member must have value greater than or equal to "+k.minText, reflect.ValueOf(n).Convert(base))
		}
	case reflect.Float64:
		if k == nil {
			return nil
		}
		add("too large", fmt.Sprintf("%.1f", *k.max+1), "Member must have value less than or equal to "+k.maxText, reflect.ValueOf(*k.max+1))
		add("too small", fmt.Sprintf("%.1f", *k.min-1), "Member must have value greater than or equal to "+k.minText, reflect.ValueOf(*k.min-1))
	case reflect.Map:
		all = append(all, x.badMaps(base, m, name, put)...)
	case reflect.Slice:
		if base.Elem().Kind() == reflect.Uint8 {
			if k != nil && k.max != nil && *k.max < 1<<20 {
				add("too long", "java.nio.HeapByteBuffer", "Member must have length less than or equal to "+k.maxText, reflect.ValueOf(make([]byte, int(*k.max)+1)))
			}
			return all
		}
		all = append(all, x.badLists(base, m, k, name, put, field, depth)...)
	}
	return all
}

// badTexts are strings that break a constraint, by what is wrong with them.
// What is empty in a header, a path or an enumeration was not sent.
func (x examples) badTexts(k *constraint, m member) map[string]string {
	bad := map[string]string{}
	if k == nil {
		return bad
	}
	if k.enum != nil {
		bad["none of the enumeration"] = "no-such-value"
		return bad
	}
	if k.max != nil && *k.max < 1<<16 {
		bad["too long"] = strings.Repeat("a", int(*k.max)+1)
	}
	if k.min != nil && *k.min >= 1 && m.place == inBody {
		bad["too short"] = strings.Repeat("a", int(*k.min)-1)
	}
	if k.regex != "" {
		for _, s := range []string{"!", "é", "a b", "a"} {
			if !k.match().match(s) && (m.place == inBody || s != "é") && float64(utf8.RuneCountInString(s)) >= least(k) {
				bad["of the wrong pattern"] = s
				break
			}
		}
	}
	return bad
}

// textViolations are all that is wrong with a string, of which the service
// lists each.
func textViolations(k *constraint, s, name string) string {
	var texts []string
	n := float64(utf8.RuneCountInString(s))
	if k.max != nil && n > *k.max {
		texts = append(texts, "Member must have length less than or equal to "+k.maxText)
	}
	if k.min != nil && n < *k.min {
		texts = append(texts, "Member must have length greater than or equal to "+k.minText)
	}
	if k.regex != "" && !k.match().match(s) {
		texts = append(texts, "Member must satisfy regular expression pattern: "+k.regex)
	}
	if k.enum != nil && !slices.Contains(k.enum, s) {
		texts = append(texts, "Member must satisfy enum value set: ["+strings.Join(k.enum, ", ")+"]")
	}
	for i, text := range texts {
		texts[i] = "Value '" + s + "' at '" + name + "' failed to satisfy constraint: " + text
	}
	return strings.Join(texts, "; ")
}

func (x examples) badLists(base reflect.Type, m member, k *constraint, name string, put func(reflect.Value, reflect.Value), field func(reflect.Value) reflect.Value, depth int) (all []broken) {
	list := func(n int) reflect.Value {
		v := reflect.New(base).Elem()
		x.fill(v, m.schema, n)
		return v
	}
	add := func(what, text string, v reflect.Value) {
		if v.Len() > 0 && v.Type().Elem().Kind() == reflect.Struct {
			return // how the service shows a list of structures, no recording tells
		}
		var shown []string
		for i := range v.Len() {
			shown = append(shown, v.Index(i).String())
		}
		all = append(all, broken{name + " " + what, "Value '[" + strings.Join(shown, ", ") + "]' at '" + name + "' failed to satisfy constraint: " + text,
			func(in reflect.Value) { put(in, v) }})
	}
	if k != nil && k.max != nil && *k.max < 2000 {
		add("too long", "Member must have length less than or equal to "+k.maxText, list(int(*k.max)+1))
	}
	if k != nil && k.min != nil && *k.min > 0 && m.place == inBody {
		add("too short", "Member must have length greater than or equal to "+k.minText, list(int(*k.min)-1))
	}
	item := m.schema.ListMember()
	if base.Elem().Kind() == reflect.Struct {
		if depth > 4 {
			return all
		}
		first := func(in reflect.Value) reflect.Value {
			f := field(in)
			if f.Len() == 0 {
				f.Set(list(1))
			}
			return f.Index(0)
		}
		return append(all, x.members(base.Elem(), item, name+".1.member", first, depth+1)...)
	}
	for what, s := range x.badTexts(constraintOf(item), member{schema: item}) {
		v := list(1)
		v.Index(0).Set(reflect.ValueOf(s).Convert(base.Elem()))
		add("with an item "+what, "Member must satisfy constraint: "+everyConstraint(constraintOf(item)), v)
	}
	return all
}

func (x examples) badMaps(base reflect.Type, m member, name string, put func(reflect.Value, reflect.Value)) (all []broken) {
	good := x.value(base, m.schema)
	key := good.MapKeys()[0]
	add := func(what, text string, key, value reflect.Value) {
		v := reflect.MakeMap(base)
		v.SetMapIndex(key, value)
		all = append(all, broken{name + " with " + what, fmt.Sprintf("Value '{%v=%v}' at '%s' failed to satisfy constraint: %s", key, value, name, text),
			func(in reflect.Value) { put(in, v) }})
	}
	k := constraintOf(m.schema.MapKey())
	for what, s := range x.badTexts(k, member{schema: m.schema.MapKey()}) {
		if s != "" && base.Elem().Kind() == reflect.String {
			add("a key "+what, "Map keys must satisfy constraint: "+everyConstraint(k), reflect.ValueOf(s).Convert(base.Key()), good.MapIndex(key))
		}
	}
	if base.Elem().Kind() == reflect.String {
		k := constraintOf(m.schema.MapValue())
		for what, s := range x.badTexts(k, member{schema: m.schema.MapValue()}) {
			add("a value "+what, "Map value must satisfy constraint: "+everyConstraint(k), key, reflect.ValueOf(s).Convert(base.Elem()))
		}
	}
	return all
}

// everyConstraint lists every constraint of an item, as the service does.
func everyConstraint(k *constraint) string {
	var texts []string
	if k.max != nil {
		texts = append(texts, "Member must have length less than or equal to "+k.maxText)
	}
	if k.min != nil {
		texts = append(texts, "Member must have length greater than or equal to "+k.minText)
	}
	if k.regex != "" {
		texts = append(texts, "Member must satisfy regular expression pattern: "+k.regex)
	}
	if k.enum != nil {
		texts = append(texts, "Member must satisfy enum value set: ["+strings.Join(k.enum, ", ")+"]")
	}
	return "[" + strings.Join(append(texts, "Member must not be null"), ", ") + "]"
}

// answered sends an input over HTTP, as the SDK writes and signs it, and
// returns the exception and its message.
func (w *world) answered(op *operation, in reflect.Value) (exception, message string, err error) {
	request := smithyhttp.NewStackRequest().(*smithyhttp.Request)
	base, err := url.Parse(w.url + "/")
	if err != nil {
		return "", "", err
	}
	request.URL = base
	schema := smithy.NewOperationSchema(httpSchema(op), op.input(), nil)
	if err := restjson1.New(nil).SerializeRequest(w.t.Context(), schema, in.Interface().(smithy.Serializable), request); err != nil {
		return "", "", err
	}
	r := request.Build(w.t.Context())
	var body []byte
	if r.Body != nil {
		if body, err = io.ReadAll(r.Body); err != nil {
			return "", "", err
		}
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength = int64(len(body))
	creds := aws.Credentials{AccessKeyID: "AKIDROOT", SecretAccessKey: "secret"}
	if err := v4.NewSigner().SignHTTP(w.t.Context(), creds, r, sha256Hex(body), "lambda", "us-east-1", testNow); err != nil {
		return "", "", err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode < 300 {
		return "", "", errTaken
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", "", err
	}
	var said struct{ Message string }
	if err := json.Unmarshal(text, &said); err != nil {
		return "", "", fmt.Errorf("%s: %w", text, err)
	}
	return resp.Header.Get("X-Amzn-Errortype"), said.Message, nil
}

var errTaken = errors.New("it was taken")

func TestEachBrokenConstraintIsToldInTheServicesWords(t *testing.T) {
	w := newWorld(t)
	x := examples{t}
	count := 0
	for _, op := range operations {
		if built[op.name] == nil && op != invokeOperation {
			continue
		}
		for _, b := range x.members(op.inputType, op.input(), "", func(in reflect.Value) reflect.Value { return in.Elem() }, 0) {
			in := reflect.New(op.inputType)
			in.Elem().Set(x.value(op.inputType, op.input()))
			b.set(in)
			n := strings.Count(b.want, " failed to satisfy constraint: ")
			want := fmt.Sprintf("%d validation error%s detected: %s", n, map[bool]string{true: "s"}[n > 1], b.want)
			exception, message, err := w.answered(op, in)
			if err != nil || exception != "ValidationException" || message != want {
				t.Errorf("%s, %s: %s: %s (%v)\nwant %s", op.name, b.what, exception, message, err, want)
			}
			count++
		}
	}
	t.Logf("%d broken requests", count)
	if count < 200 {
		t.Errorf("only %d broken requests were made", count)
	}
}

// What the catalogue says is what the API does: an operation is built if and
// only if it does not answer that it is not.
func TestTheCatalogueIsTrue(t *testing.T) {
	w := newWorld(t)
	x := examples{t}
	if len(Operations()) != len(operations) {
		t.Errorf("the catalogue has %d operations of %d", len(Operations()), len(operations))
	}
	for i, o := range Operations() {
		op := operations[i]
		in := reflect.New(op.inputType)
		in.Elem().Set(x.value(op.inputType, op.input()))
		exception, message, err := w.answered(op, in)
		if taken := errors.Is(err, errTaken); err != nil && !taken {
			t.Errorf("%s: %v", o.Name, err)
		}
		if o.Name != op.name || o.Built == (exception == "NotImplementedException") {
			t.Errorf("%s is said to be built: %v; it answers %s %s", o.Name, o.Built, exception, message)
		}
		if exception == "ServiceException" {
			t.Errorf("%s: %s", o.Name, message)
		}
	}
	for name := range notes {
		operationNamed(t, name)
	}
}
