package idempotent

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// source is where a part of a template comes from.
type source uint8

const (
	fromText source = iota
	fromEvent
	fromEnv
	fromSecret
)

// part is a piece of a template: text as it is, or something to fill in.
type part struct {
	from source
	text string // the text, or the name of a variable or secret
	path path
}

// template is a text with things to fill in.
type template []part

// maxText bounds a template, and what is made of it, in bytes.
const maxText = 4096

// parseTemplate reads a template.
func parseTemplate(s string) (template, error) {
	if len(s) > maxText {
		return nil, fmt.Errorf("it has %d bytes; %d are the limit", len(s), maxText)
	}
	if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
		return nil, errors.New("it is no text: not UTF-8, or with a NUL")
	}
	var t template
	text := func(s string) {
		if s == "" {
			return
		}
		if n := len(t); n > 0 && t[n-1].from == fromText {
			t[n-1].text += s
			return
		}
		t = append(t, part{text: s})
	}
	for s != "" {
		before, rest, found := strings.Cut(s, "${")
		if !found {
			text(s)
			break
		}
		if strings.HasSuffix(before, "$") {
			text(before + "{") // $${ is ${
			s = rest
			continue
		}
		text(before)
		inside, after, closed := strings.Cut(rest, "}")
		if !closed {
			return nil, fmt.Errorf("${%s has no }", rest)
		}
		p, err := parsePart(inside)
		if err != nil {
			return nil, err
		}
		t = append(t, p)
		s = after
	}
	return t, nil
}

func parsePart(s string) (part, error) {
	if strings.HasPrefix(s, "$") {
		p, err := parsePath(s)
		return part{from: fromEvent, text: s, path: p}, err
	}
	for prefix, from := range map[string]source{"env.": fromEnv, "secret.": fromSecret} {
		if name, ok := strings.CutPrefix(s, prefix); ok && name != "" {
			return part{from: from, text: name}, nil
		}
	}
	return part{}, fmt.Errorf("${%s} is none of ${$.FIELD}, ${env.NAME} and ${secret.NAME}", s)
}

// uses reports whether any part comes from there.
func (t template) uses(from source) bool {
	for _, p := range t {
		if p.from == from {
			return true
		}
	}
	return false
}

// cut splits a template where sep first stands in its text.
func (t template) cut(sep string) (before, after template, found bool) {
	for i, p := range t {
		if p.from != fromText {
			continue
		}
		if b, a, ok := strings.Cut(p.text, sep); ok {
			before = append(append(template{}, t[:i]...), part{text: b})
			return before, append(template{{text: a}}, t[i+1:]...), true
		}
	}
	return t, nil, false
}

// scope is what templates are filled in from.
type scope struct {
	event   json.RawMessage
	env     map[string]string
	secrets map[string]string
}

// expand fills t in. escape, if it is not nil, is applied to what comes from
// the event. shown is the same without what is secret.
func (t template) expand(s *scope, escape func(string) (string, error)) (text, shown string, err error) {
	var b, open strings.Builder
	for _, p := range t {
		v := p.text
		hidden := ""
		switch p.from {
		case fromEvent:
			if v, err = s.scalar(p); err == nil && escape != nil {
				v, err = escape(v)
			}
			if err != nil {
				return "", "", err
			}
		case fromEnv:
			value, ok := s.env[p.text]
			if !ok {
				return "", "", fmt.Errorf("the function has no variable %s", p.text)
			}
			v, hidden = value, "${env."+p.text+"}"
		case fromSecret:
			value, ok := s.secrets[p.text]
			if !ok {
				return "", "", fmt.Errorf("there is no secret %s", p.text)
			}
			v, hidden = value, "${secret."+p.text+"}"
		}
		if b.Len()+len(v) > maxText {
			return "", "", fmt.Errorf("what is filled in makes more than %d bytes", maxText)
		}
		b.WriteString(v)
		if hidden != "" {
			v = hidden
		}
		open.WriteString(v)
	}
	return b.String(), open.String(), nil
}

// scalar is the text of an event's field that is a string, number or boolean.
func (s *scope) scalar(p part) (string, error) {
	raw, ok := p.path.in(s.event)
	if !ok {
		return "", fmt.Errorf("the event has no %s", p.text)
	}
	switch raw[0] {
	case '"':
		var v string
		if err := json.Unmarshal(raw, &v); err != nil || strings.ContainsRune(v, utf8.RuneError) || strings.ContainsRune(v, 0) {
			return "", fmt.Errorf("%s of the event is no text", p.text)
		}
		return v, nil
	case '{', '[', 'n':
		return "", fmt.Errorf("%s of the event is neither text nor a number", p.text)
	}
	return string(raw), nil
}

// expandJSON fills in the strings of a JSON document. One that is nothing but a
// field of the event becomes that field.
func expandJSON(doc json.RawMessage, s *scope) (json.RawMessage, error) {
	var v any
	dec := json.NewDecoder(strings.NewReader(string(doc)))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	v, err := filled(v, s)
	if err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

func filled(v any, s *scope) (any, error) {
	var err error
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			if v[k], err = filled(v[k], s); err != nil {
				return nil, err
			}
		}
	case []any:
		for i := range v {
			if v[i], err = filled(v[i], s); err != nil {
				return nil, err
			}
		}
	case string:
		t, err := parseTemplate(v)
		if err != nil {
			return nil, err
		}
		if len(t) == 1 && t[0].from == fromEvent {
			raw, ok := t[0].path.in(s.event)
			if !ok {
				return nil, fmt.Errorf("the event has no %s", t[0].text)
			}
			return raw, nil
		}
		text, _, err := t.expand(s, nil)
		return text, err
	}
	return v, nil
}

// path leads to a field: each step is the name of a member, or the index of an
// item.
type path []step

type step struct {
	name  string
	index int // of an item; -1 is a member
}

// parsePath reads the part of JSONPath that names one field: $, .name,
// ['name'] and [0].
func parsePath(s string) (path, error) {
	rest, ok := strings.CutPrefix(s, "$")
	if !ok {
		return nil, fmt.Errorf("%q does not begin with $", s)
	}
	var p path
	for rest != "" {
		switch {
		case strings.HasPrefix(rest, "['"):
			name, after, closed := strings.Cut(rest[2:], "']")
			if !closed {
				return nil, fmt.Errorf("%q: a [' has no ']", s)
			}
			p, rest = append(p, step{name, -1}), after
		case rest[0] == '[':
			number, after, _ := strings.Cut(rest[1:], "]")
			n, err := strconv.Atoi(number)
			if err != nil || n < 0 {
				return nil, fmt.Errorf("%q: [%s] is neither an index nor a name in quotes; one field is meant, not several", s, number)
			}
			p, rest = append(p, step{"", n}), after
		case rest[0] == '.':
			end := strings.IndexAny(rest[1:], ".[")
			if end < 0 {
				end = len(rest) - 1
			}
			name := rest[1 : 1+end]
			if name == "" || name == "*" {
				return nil, fmt.Errorf("%q: one field is meant, such as $.name", s)
			}
			p, rest = append(p, step{name, -1}), rest[1+end:]
		default:
			return nil, fmt.Errorf("%q is no path such as $.name", s)
		}
	}
	return p, nil
}

// in is the field of the document, as it stands there; false if there is none.
func (p path) in(doc json.RawMessage) (json.RawMessage, bool) {
	for _, s := range p {
		if s.index >= 0 {
			var items []json.RawMessage
			if json.Unmarshal(doc, &items) != nil || s.index >= len(items) {
				return nil, false
			}
			doc = items[s.index]
			continue
		}
		var members map[string]json.RawMessage
		if json.Unmarshal(doc, &members) != nil {
			return nil, false
		}
		var ok bool
		if doc, ok = members[s.name]; !ok {
			return nil, false
		}
	}
	doc = json.RawMessage(strings.TrimSpace(string(doc)))
	return doc, len(doc) > 0
}
