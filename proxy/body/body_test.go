package body_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth/proxy/body"
	"github.com/hearth-faas/hearth/proxy/expression"
)

func TestXMLIsReadByTheConvention(t *testing.T) {
	for doc, want := range map[string]string{
		`<a>x</a>`:                              `"x"`,
		`<a/>`:                                  `""`,
		`<a><b>1</b><c>  y </c></a>`:            `{"b":"1","c":"  y "}`,
		`<a><b>1</b><b>2</b><c/></a>`:           `{"b":["1","2"],"c":""}`,
		`<a id="7">x</a>`:                       `{"@id":"7","#text":"x"}`,
		`<a id="7"><b/>  x  </a>`:               `{"@id":"7","b":"","#text":"x"}`,
		`<a type="number">3</a>`:                `3`,
		`<a type="number"> 2.5 </a>`:            `2.5`,
		`<a type="boolean">true</a>`:            `true`,
		`<a type="null"/>`:                      `null`,
		`<a type="list"><item>1</item><x/></a>`: `["1",""]`,
		`<a type="list"/>`:                      `[]`,
		`<a type="map"/>`:                       `{}`,
		`<a type="base64">AGE=</a>`:             `"\u0000a"`,
		`<a type="lamp">x</a>`:                  `{"@type":"lamp","#text":"x"}`,
		`<a><field name="x y">1</field></a>`:    `{"x y":"1"}`,
		`<a xmlns="urn:x" xmlns:y="urn:y"><y:b y:c="1">2</y:b></a>`:             `{"b":{"@c":"1","#text":"2"}}`,
		`<?xml version="1.0" encoding="UTF-8"?><!-- c --><a><![CDATA[<&]]></a>`: `"<&"`,
		`<a>&lt;&#65;&amp;</a>`: `"<A&"`,
	} {
		v, err := body.Decode(body.XML, []byte(doc))
		if err != nil {
			t.Errorf("%s: %v", doc, err)
			continue
		}
		got, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var a, b any
		if json.Unmarshal(got, &a) != nil || json.Unmarshal([]byte(want), &b) != nil || !reflect.DeepEqual(a, b) {
			t.Errorf("%s: %s, want %s", doc, got, want)
		}
	}
}

func TestHostileXMLIsRefused(t *testing.T) {
	bomb := `<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><l>&b;</l>`
	for name, doc := range map[string]string{
		"entities that grow":     bomb,
		"a file as an entity":    `<!DOCTYPE l [<!ENTITY f SYSTEM "file:///etc/passwd">]><l>&f;</l>`,
		"a document type":        `<!DOCTYPE html><l/>`,
		"an unknown entity":      `<l>&f;</l>`,
		"a declaration":          `<l><!ELEMENT x></l>`,
		"too deep":               strings.Repeat("<a>", 70) + strings.Repeat("</a>", 70),
		"too many elements":      "<a>" + strings.Repeat("<b/>", 100_001) + "</a>",
		"too many attributes":    "<a " + manyAttributes(100) + "/>",
		"two outermost elements": "<a/><b/>",
		"text outside":           "<a/>x",
		"no element":             "  <!-- c -->",
		"not closed":             "<a><b></a>",
		"another character set":  `<?xml version="1.0" encoding="ISO-8859-1"?><a>x</a>`,
		"no UTF-8":               "<a>\xff</a>",
		"no number":              `<a type="number">0x10</a>`,
		"no boolean":             `<a type="boolean">yes</a>`,
		"elements in a number":   `<a type="number"><b/></a>`,
		"no base64":              `<a type="base64">!</a>`,
	} {
		if v, err := body.Decode(body.XML, []byte(doc)); err == nil {
			t.Errorf("%s is read as %.60v", name, v)
		}
	}
}

func manyAttributes(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `a%d="" `, i)
	}
	return b.String()
}

// Whoever speaks XML gets what whoever speaks JSON gets, and can send it back.
func TestXMLAndJSONHaveEqualContent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := value(4).Draw(t, "v")
		asJSON, err := body.Encode(body.JSON, v, "")
		if err != nil {
			t.Fatal(err)
		}
		fromJSON, err := body.Decode(body.JSON, asJSON)
		if err != nil {
			t.Fatal(err)
		}
		asXML, err := body.Encode(body.XML, v, "response")
		if err != nil {
			t.Fatal(err)
		}
		fromXML, err := body.Decode(body.XML, asXML)
		if err != nil || !reflect.DeepEqual(fromXML, fromJSON) {
			t.Fatalf("%s\n%s\n%#v\n%#v: %v", asJSON, asXML, fromJSON, fromXML, err)
		}
	})
}

func value(depth int) *rapid.Generator[any] {
	texts := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", " ", " x\r\n\ty ", "<&>\"'", "]]>", "\x00\x1f", "\uFFFE"}))
	scalars := rapid.OneOf(rapid.Just[any](nil), rapid.Bool().AsAny(), rapid.Int64().AsAny(), texts.AsAny(), rapid.Float64Range(-1e9, 1e9).Filter(func(f float64) bool { return f != float64(int64(f)) }).AsAny())
	if depth == 0 {
		return scalars
	}
	keys := rapid.OneOf(rapid.StringMatching(`[ -~]{0,8}`), rapid.SampledFrom([]string{"", "a", "field", "item", "xmlns", "type", "name", "@a", "#text", "a:b", "é", "list"}))
	inner := rapid.Deferred(func() *rapid.Generator[any] { return value(depth - 1) })
	return rapid.OneOf(scalars, rapid.SliceOfN(inner, 0, 3).AsAny(), rapid.MapOfN(keys, inner, 0, 4).AsAny())
}

// Else it would be changed into something else without a word.
func TestWhatIsNotUTF8IsRefused(t *testing.T) {
	for _, c := range []struct {
		format body.Format
		data   string
	}{
		{body.JSON, "{\"a\": \"\xfc\"}"}, {body.XML, "<a>\xfc</a>"}, {body.Form, "a=%fc"}, {body.Form, "\xfc=1"},
	} {
		if v, err := body.Decode(c.format, []byte(c.data)); err == nil || err.Error() != "it is not UTF-8" {
			t.Errorf("%q is %v, %v", c.data, v, err)
		}
	}
}

func TestFormsAreFieldsAndLists(t *testing.T) {
	v, err := body.Decode(body.Form, []byte("a=1&b=x+y&a=2&c="))
	if want := map[string]any{"a": []any{"1", "2"}, "b": "x y", "c": ""}; err != nil || !reflect.DeepEqual(v, want) {
		t.Errorf("%#v %v", v, err)
	}
	got, err := body.Encode(body.Form, map[string]any{"a": []any{int64(1), true}, "b": nil, "c": map[string]any{"d": 2.5}}, "")
	if want := "a=1&a=true&b=&c=%7B%22d%22%3A2.5%7D"; err != nil || string(got) != want {
		t.Errorf("%s %v", got, err)
	}
	if _, err := body.Encode(body.Form, []any{}, ""); err == nil {
		t.Error("a list is written as a form")
	}
	if _, err := body.Decode(body.Form, []byte("a=%zz")); err == nil {
		t.Error("a broken form is read")
	}
}

func TestTheFormatIsWhatIsAskedForMost(t *testing.T) {
	for _, c := range []struct {
		accept []string
		came   body.Format
		want   body.Format
	}{
		{nil, "", body.JSON},
		{nil, body.XML, body.XML},
		{[]string{"*/*"}, body.Form, body.JSON},
		{[]string{"application/x-www-form-urlencoded"}, body.JSON, body.Form},
		{[]string{"application/xml"}, body.JSON, body.XML},
		{[]string{"text/xml"}, body.JSON, body.XML},
		{[]string{"application/vnd.lamp+xml"}, "", body.XML},
		{[]string{"application/json;q=0.5, application/xml;q=0.9"}, "", body.XML},
		{[]string{"text/html, */*;q=0.1"}, body.XML, body.XML},
		{[]string{"application/*, application/json;q=0"}, "", body.XML},
		{[]string{"text/html", "application/json"}, body.XML, body.JSON},
		{[]string{"*/*;q=0.1, application/xml;q=0"}, body.XML, body.JSON},
		{[]string{"text/html"}, body.JSON, ""},
		{[]string{"application/json;q=0"}, body.JSON, ""},
	} {
		got, ok := body.Negotiate(c.accept, c.came)
		if got != c.want || ok != (c.want != "") {
			t.Errorf("%q of a request in %q: %q %v, want %q", c.accept, c.came, got, ok, c.want)
		}
	}
	for contentType, want := range map[string]body.Format{
		"": body.JSON, "application/json; charset=UTF-8": body.JSON, "text/xml": body.XML, "application/problem+json": body.JSON,
		"application/x-www-form-urlencoded": body.Form, "text/plain": "", "multipart/form-data; boundary=x": "", "application/json; charset=utf-16": "", ";": "",
	} {
		if got, ok := body.Of(contentType); got != want || ok != (want != "") {
			t.Errorf("%q is %q", contentType, got)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("xml", []byte(`<a id="1"><b type="number">2</b><b/><field name="x y">z</field></a>`))
	f.Add("xml", []byte(`<a type="list"><item type="base64">AA==</item></a>`))
	f.Add("json", []byte(`{"a":[1,2.5,null,"x"]}`))
	f.Add("form", []byte(`a=1&b=%20&a=2`))
	f.Fuzz(func(t *testing.T, format string, data []byte) {
		v, err := body.Decode(body.Format(format), data)
		if err != nil {
			return
		}
		asXML, err := body.Encode(body.XML, v, "r")
		if err != nil {
			return // a key that XML can't have, or a nesting at the bound
		}
		again, err := body.Decode(body.XML, asXML)
		if err != nil || !reflect.DeepEqual(v, again) && !tooDeep(v, expression.MaxDepth) {
			t.Fatalf("%q is %#v, and from XML %#v: %v", data, v, again, err)
		}
	})
}

func tooDeep(v any, left int) bool {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			if left == 0 || tooDeep(item, left-1) {
				return true
			}
		}
	case map[string]any:
		for _, item := range v {
			if left == 0 || tooDeep(item, left-1) {
				return true
			}
		}
	}
	return false
}
