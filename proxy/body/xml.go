package body

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hearth-faas/hearth/proxy/expression"
)

// XML and JSON, the convention.
//
// The outermost element is the value, whatever it is called. An element that has
// elements is a map by their names, and one name that comes several times is a
// list. An element that has none is its text. An attribute is a member
// "@NAME", and text beside attributes or elements is "#text". Name spaces'
// prefixes and declarations are left out.
//
// So that every value can be written and read again, an attribute "type" says
// what is no text: number, boolean, null, map (one without members), list (whose
// elements are its items), and base64 (a text with characters that XML does not have).
// A key that is no name of an element is <field name="KEY">.

// The bounds of a document, beside its length.
const (
	maxElements   = 100_000
	maxAttributes = 64 // of one element
)

// errXML says that XML was refused for what it might do, not for its grammar.
var errDoctype = errors.New("a document type declaration (<!DOCTYPE>) is not taken: entities that are defined there can make a small document huge")

const fieldName = "field"

// element is an element while it is read.
type element struct {
	kind  string // its attribute "type", if it is one that is known
	attrs []xml.Attr
	text  strings.Builder
	keys  []string // of items, for those that are no list's
	items []any
}

// decodeXML reads a document into a value.
func decodeXML(data []byte) (any, error) {
	if !utf8.Valid(data) {
		return nil, errNotUTF8
	}
	d := xml.NewDecoder(bytes.NewReader(data))
	d.CharsetReader = func(charset string, in io.Reader) (io.Reader, error) {
		if strings.EqualFold(charset, "us-ascii") {
			return in, nil
		}
		return nil, fmt.Errorf("it is in the character set %.40q, and only UTF-8 is taken", charset)
	}
	var open []*element
	var names []string
	elements := 0
	var root any
	done := false
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		switch token := token.(type) {
		case xml.Directive:
			if bytes.HasPrefix(bytes.ToUpper(bytes.TrimSpace(token)), []byte("DOCTYPE")) {
				return nil, errDoctype
			}
			return nil, errors.New("it has a declaration (<!…>), which is not taken")
		case xml.StartElement:
			if elements++; elements > maxElements || len(open) >= expression.MaxDepth+1 || done {
				return nil, fmt.Errorf("it has more than one outermost element, more than %d in all, or nests deeper than %d", maxElements, expression.MaxDepth)
			}
			e, key, err := begin(token)
			if err != nil {
				return nil, err
			}
			open, names = append(open, e), append(names, key)
		case xml.EndElement:
			last := len(open) - 1
			v, err := open[last].value()
			if err != nil {
				return nil, fmt.Errorf("in the element %.80s: %w", names[last], err)
			}
			if last == 0 {
				root, done = v, true
			} else {
				parent := open[last-1]
				parent.keys, parent.items = append(parent.keys, names[last]), append(parent.items, v)
			}
			open, names = open[:last], names[:last]
		case xml.CharData:
			if len(open) > 0 {
				open[len(open)-1].text.Write(token)
			} else if len(bytes.TrimSpace(token)) > 0 {
				return nil, errors.New("it has text outside of its outermost element")
			}
		}
	}
	if !done {
		return nil, errors.New("it has no element")
	}
	return root, nil
}

// kinds are what an attribute "type" may say.
var kinds = []string{"number", "boolean", "null", "map", "list", "base64"}

// begin takes an element's attributes, and finds the key that it goes by.
func begin(token xml.StartElement) (*element, string, error) {
	if len(token.Attr) > maxAttributes {
		return nil, "", fmt.Errorf("the element %.80s has more than %d attributes", token.Name.Local, maxAttributes)
	}
	e, key := &element{}, token.Name.Local
	named := false
	for _, a := range token.Attr {
		switch {
		case a.Name.Space == "xmlns" || a.Name.Space == "" && a.Name.Local == "xmlns":
		case a.Name.Local == "type" && slices.Contains(kinds, a.Value) && e.kind == "":
			e.kind = a.Value
		case a.Name.Local == "name" && key == fieldName && !named:
			key, named = a.Value, true
		default:
			e.attrs = append(e.attrs, a)
		}
	}
	return e, key, nil
}

// value is what the element is, once it has ended.
func (e *element) value() (any, error) {
	text := e.text.String()
	trimmed := strings.TrimSpace(text)
	if e.kind != "" && e.kind != "list" && e.kind != "map" && len(e.items) > 0 {
		return nil, fmt.Errorf("a %s has no elements", e.kind)
	}
	switch e.kind {
	case "number":
		return expression.Number(trimmed)
	case "boolean":
		if trimmed != "true" && trimmed != "false" {
			return nil, fmt.Errorf("%.40q is neither true nor false", trimmed)
		}
		return trimmed == "true", nil
	case "null":
		return nil, nil
	case "list":
		if e.items == nil {
			return []any{}, nil
		}
		return e.items, nil
	case "base64":
		b, err := base64.StdEncoding.DecodeString(trimmed)
		if err != nil {
			return nil, errors.New("its text is not base64")
		}
		return string(b), nil
	}
	if e.kind == "" && len(e.items) == 0 && len(e.attrs) == 0 {
		return text, nil
	}
	m := make(map[string]any, len(e.items)+len(e.attrs)+1)
	several := map[string]bool{}
	for i, key := range e.keys {
		old, there := m[key]
		switch {
		case !there:
			m[key] = e.items[i]
		case several[key]:
			m[key] = append(old.([]any), e.items[i])
		default:
			m[key], several[key] = []any{old, e.items[i]}, true
		}
	}
	for _, a := range e.attrs {
		m["@"+a.Name.Local] = a.Value
	}
	if trimmed != "" {
		if len(e.items) == 0 {
			trimmed = text
		}
		m["#text"] = trimmed
	}
	return m, nil
}

// simpleName is a key that can be an element's name as it is.
var simpleName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,200}$`)

// SimpleName tells whether an element may be called so.
func SimpleName(s string) bool {
	return simpleName.MatchString(s) && !strings.HasPrefix(strings.ToLower(s), "xml")
}

// encodeXML writes a value as a document; keys in the order of their bytes.
func encodeXML(v any, root string) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(xml.Header)
	if err := writeXML(&b, root, v, 0); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func writeXML(b *bytes.Buffer, key string, v any, depth int) error {
	if depth > expression.MaxDepth {
		return fmt.Errorf("it nests deeper than %d", expression.MaxDepth)
	}
	name := key
	b.WriteByte('<')
	if SimpleName(key) && key != fieldName {
		b.WriteString(key)
	} else {
		name = fieldName
		if !inXML(key) {
			return fmt.Errorf("the key %q has characters that XML does not have", key)
		}
		b.WriteString(fieldName + ` name="`)
		escape(b, key)
		b.WriteByte('"')
	}
	end := func() { b.WriteString("</" + name + ">") }
	typed := func(kind, content string) {
		b.WriteString(` type="` + kind + `">` + content)
		end()
	}
	switch v := v.(type) {
	case nil:
		typed("null", "")
	case bool:
		typed("boolean", fmt.Sprint(v))
	case string:
		if !inXML(v) {
			typed("base64", base64.StdEncoding.EncodeToString([]byte(v)))
			break
		}
		b.WriteByte('>')
		escape(b, v)
		end()
	case []any:
		b.WriteString(` type="list">`)
		for _, item := range v {
			if err := writeXML(b, "item", item, depth+1); err != nil {
				return err
			}
		}
		end()
	case map[string]any:
		if len(v) == 0 {
			typed("map", "")
			break
		}
		b.WriteByte('>')
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if err := writeXML(b, key, v[key], depth+1); err != nil {
				return err
			}
		}
		end()
	default: // numbers
		n, err := json.Marshal(v)
		if err != nil {
			return err
		}
		typed("number", string(n))
	}
	return nil
}

// escape writes text so that it is read as it was.
func escape(b *bytes.Buffer, s string) { _ = xml.EscapeText(b, []byte(s)) } // a Buffer takes all

// inXML tells whether XML has all of a text's characters.
func inXML(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r == 0xFFFE || r == 0xFFFF {
			return false
		}
	}
	return true
}
