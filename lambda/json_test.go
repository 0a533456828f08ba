package lambda

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzJSON compares the reader with encoding/json: what is a document, and
// what its strings say.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{
		`{"a":[1,-2.5e+3,true,false,null,"x\u00e9\ud83d\ude00\n\/"],"b":{}}`, `"\ud800x"`, `"\\"`, `[]`, ` 0 `, `01`, `-`, `1.`, `{"a"}`, `{,}`, `[1,]`, `"a` + "\n" + `"`, `"\x"`, `nul`, `"\u12"`, `{"a":1}}`, `"\`,
		"\"\xff\"",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1000 {
			return // deeper nesting than is allowed is tested apart
		}
		err := validJSON(data)
		if valid := json.Valid(data); valid != (err == nil) {
			t.Fatalf("%q: %v, encoding/json says %v", data, err, valid)
		}
		if err != nil {
			return
		}
		var want string
		if json.Unmarshal(data, &want) != nil || bytes.HasPrefix(bytes.TrimSpace(data), []byte("null")) {
			return
		}
		r := &jsonReader{data: data}
		if _, err := r.peek(); err != nil {
			t.Fatal(err)
		}
		got, err := r.string()
		if err != nil || utf8.Valid(data) && got != want {
			t.Fatalf("%q reads as %q (%v), want %q", data, got, err, want)
		}
	})
}

func TestNestingIsBounded(t *testing.T) {
	if validJSON(bytes.Repeat([]byte("["), 1_000_000)) == nil {
		t.Error("a million brackets are accepted")
	}
}

func TestStringsAreWrittenAsEncodingJSONReadsThem(t *testing.T) {
	for _, s := range []string{"", "plain", "é😀", "a\"b\\c\n\r\t\x00\x1f", "\xff\xfe", "x\xe2\x80\xa8y"} {
		var got string
		if err := json.Unmarshal(appendString(nil, s), &got); err != nil {
			t.Errorf("%q: %v", s, err)
		}
		if want := string(bytes.ToValidUTF8([]byte(s), []byte("\uFFFD"))); utf8.ValidString(s) && got != want {
			t.Errorf("%q reads back as %q", s, got)
		}
	}
}

func TestBindingReadsBodiesInPlace(t *testing.T) {
	plan := operationNamed(t, "CreateFunction").plan()
	zip := bytes.Repeat([]byte("PK\x03\x04"), 1<<20)
	body, err := json.Marshal(map[string]any{"FunctionName": "f", "Code": map[string]any{"ZipFile": zip}, "Unknown": []any{1, map[string]any{"a": nil}}})
	if err != nil {
		t.Fatal(err)
	}
	v := reflect.New(operationNamed(t, "CreateFunction").inputType).Elem()
	n := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := bindBody(v, plan, body); err != nil {
				b.Fatal(err)
			}
		}
	})
	if per := n.AllocedBytesPerOp(); per > int64(len(zip))*11/10 {
		t.Errorf("reading a zip of %d bytes takes %d bytes", len(zip), per)
	}
}

// Eight bytes at a time find what one byte at a time finds: each byte at each
// place of texts of all lengths about one and two words.
func TestControlCharactersAreFoundWhereverTheyAre(t *testing.T) {
	for _, fill := range []byte{0x20, 'x', 0x7f, 0x80, 0x9f, 0xff} {
		for n := range 20 {
			text := bytes.Repeat([]byte{fill}, n)
			if hasControl(text) {
				t.Errorf("%d times %#x: one is found", n, fill)
			}
			for at := range text {
				for c := range 256 {
					text[at] = byte(c)
					if got := hasControl(text); got != (c < 0x20) {
						t.Fatalf("%#x at %d of %d times %#x: %v", c, at, n, fill, got)
					}
				}
				text[at] = fill
			}
		}
	}
}

// BenchmarkValidLongString checks an event that is one long string.
func BenchmarkValidLongString(b *testing.B) {
	event := []byte(`"` + strings.Repeat("x", 5<<20) + `"`)
	b.SetBytes(int64(len(event)))
	for b.Loop() {
		if err := validJSON(event); err != nil {
			b.Fatal(err)
		}
	}
}
