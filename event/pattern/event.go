package pattern

import (
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// kind is what a value is in JSON.
type kind uint8

const (
	null kind = iota
	boolean
	number
	text
)

// A scalar is one value of an event, or of a pattern.
type scalar struct {
	kind       kind
	comparable bool   // a number that is compared by its key
	text       string // a text, or a number or boolean as it is written
	key        int64
}

// same tells whether two values are equal, as the service has it.
func (s scalar) same(o scalar) bool {
	if s.kind != o.kind {
		return false
	}
	return s.text == o.text || s.comparable && o.comparable && s.key == o.key
}

func numberOf(written string) scalar {
	s := scalar{kind: number, text: written}
	if f, err := strconv.ParseFloat(written, 64); err == nil {
		s.key, s.comparable = comparable(f)
	}
	return s
}

// scalarOf returns a decoded value.
func scalarOf(v any) (scalar, error) {
	switch v := v.(type) {
	case nil:
		return scalar{}, nil
	case bool:
		return scalar{kind: boolean, text: strconv.FormatBool(v)}, nil
	case string:
		return scalar{kind: text, text: v}, nil
	case json.Number:
		return numberOf(v.String()), nil
	case float64:
		return numberOf(strconv.FormatFloat(v, 'f', -1, 64)), nil
	}
	return scalar{}, fmt.Errorf("a value of Go's type %T is none of JSON", v)
}

// A node is what an event has at a place: lists are laid flat.
type node struct {
	scalars  []scalar
	elements []element
}

// An element is an object: those of its members that the pattern looks at.
// What it has not, costs nothing: an event may be a long list of small objects.
type element []member

type member struct {
	ordinal int // of the place
	node    node
}

var nothing node

// at returns the member with that ordinal; an empty node if there is none.
func (e element) at(ordinal int) *node {
	for i := range e {
		if e[i].ordinal == ordinal {
			return &e[i].node
		}
	}
	return &nothing
}

// decoded reads v, which is at place p, into n.
func decoded(p *place, v any, n *node) error {
	switch v := v.(type) {
	case map[string]any:
		if len(p.children) == 0 {
			return nil
		}
		var e element
		for name, child := range p.children {
			value, ok := v[name]
			if !ok {
				continue
			}
			m := member{ordinal: child.ordinal}
			if err := decoded(child, value, &m.node); err != nil {
				return err
			}
			e = append(e, m)
		}
		n.elements = append(n.elements, e)
		return nil
	case []any:
		for _, item := range v {
			if err := decoded(p, item, n); err != nil {
				return err
			}
		}
		return nil
	}
	if !p.leaf {
		return nil
	}
	s, err := scalarOf(v)
	n.scalars = append(n.scalars, s)
	return err
}

// A reader reads what a pattern looks at out of valid JSON, and skips the rest.
type reader struct {
	b []byte
	i int
}

func (r *reader) space() {
	for {
		switch r.b[r.i] {
		case ' ', '\t', '\r', '\n':
			r.i++
		default:
			return
		}
	}
}

// value reads the value here, which is at place p, into n.
func (r *reader) value(p *place, n *node) {
	r.space()
	switch c := r.b[r.i]; {
	case c == '{' && len(p.children) > 0:
		r.object(p, n)
	case c == '{' || c == '"' && !p.leaf:
		r.skip()
	case c == '[':
		r.i++
		for r.space(); r.b[r.i] != ']'; r.space() {
			if r.b[r.i] == ',' {
				r.i++
			}
			r.value(p, n)
		}
		r.i++
	case c == '"':
		n.scalars = append(n.scalars, scalar{kind: text, text: r.text()})
	default:
		begin := r.i
		r.skip()
		if !p.leaf {
			return
		}
		written := string(r.b[begin:r.i])
		switch c {
		case 'n':
			n.scalars = append(n.scalars, scalar{})
		case 't', 'f':
			n.scalars = append(n.scalars, scalar{kind: boolean, text: written})
		default:
			n.scalars = append(n.scalars, numberOf(written))
		}
	}
}

func (r *reader) object(p *place, n *node) {
	var e element
	r.i++
	for r.space(); r.b[r.i] != '}'; r.space() {
		if r.b[r.i] == ',' {
			r.i++
			r.space()
		}
		begin := r.i
		var child *place
		if r.quoted() && utf8.Valid(r.b[begin:r.i]) {
			child = p.children[string(r.b[begin+1:r.i-1])] // no allocation
		} else {
			child = p.children[unquoted(r.b[begin:r.i])]
		}
		r.space()
		r.i++ // the colon
		r.space()
		if child == nil {
			r.skip()
			continue
		}
		m := member{ordinal: child.ordinal}
		r.value(child, &m.node)
		if old := e.at(child.ordinal); old != &nothing {
			*old = m.node
		} else {
			e = append(e, m)
		}
	}
	r.i++
	n.elements = append(n.elements, e)
}

// text reads the text here.
func (r *reader) text() string {
	begin := r.i
	if r.quoted() && utf8.Valid(r.b[begin:r.i]) {
		return string(r.b[begin+1 : r.i-1])
	}
	return unquoted(r.b[begin:r.i])
}

// quoted goes over the text here, and tells whether it has no escapes.
func (r *reader) quoted() (plain bool) {
	plain = true
	for r.i++; r.b[r.i] != '"'; r.i++ {
		if r.b[r.i] == '\\' {
			plain = false
			r.i++
		}
	}
	r.i++
	return plain
}

// unquoted decodes a text as encoding/json does, which also replaces what is
// no UTF-8.
func unquoted(b []byte) string {
	var s string
	if json.Unmarshal(b, &s) != nil {
		return string(b) // cannot be: it is valid
	}
	return s
}

// skip goes over the value here.
func (r *reader) skip() {
	depth := 0
	for r.i < len(r.b) {
		switch r.b[r.i] {
		case '"':
			r.quoted()
			if depth == 0 {
				return
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return // the end of what a number or a word stands in
			}
			if depth--; depth == 0 {
				r.i++
				return
			}
		case ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return
			}
		}
		r.i++
	}
}
