package policy

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// pattern is a text of a policy with its variables filled in: runes, and the
// two wildcards. What a variable brought in is literal, whatever it holds.
type pattern []rune

const (
	anyRune  rune = -1 // ?
	anyRunes rune = -2 // *
)

// compile reads a policy's text. It reports false if the request's context
// lacks a variable that the text names without a default: such a text fits
// nothing.
func compile(text string, context map[string][]string, withVariables bool) (pattern, bool) {
	p := make(pattern, 0, len(text))
	for i := 0; i < len(text); {
		if withVariables && strings.HasPrefix(text[i:], "${") {
			if end := strings.IndexByte(text[i:], '}'); end > 0 {
				value, ok := variable(text[i+2:i+end], context)
				if !ok {
					return nil, false
				}
				p = append(p, []rune(value)...)
				i += end + 1
				continue
			}
		}
		r, size := utf8.DecodeRuneInString(text[i:])
		switch r {
		case '*':
			r = anyRunes
		case '?':
			r = anyRune
		}
		p = append(p, r)
		i += size
	}
	return p, true
}

// variable is the value of what stands between ${ and }: a key of the context,
// perhaps with a default in quotes, or one of the signs that have a meaning.
func variable(name string, context map[string][]string) (string, bool) {
	if name == "*" || name == "?" || name == "$" {
		return name, true
	}
	name, otherwise, hasDefault := strings.Cut(name, ",")
	// A variable that has several values cannot be put into a text.
	if values := context[strings.ToLower(strings.TrimSpace(name))]; len(values) == 1 {
		return values[0], true
	}
	otherwise = strings.TrimSpace(otherwise)
	if hasDefault && len(otherwise) >= 2 && otherwise[0] == '\'' && otherwise[len(otherwise)-1] == '\'' {
		return otherwise[1 : len(otherwise)-1], true
	}
	return "", false
}

// literal is the text with its wildcards as the signs that they are.
func (p pattern) literal() string {
	var b strings.Builder
	for _, r := range p {
		switch r {
		case anyRune:
			r = '?'
		case anyRunes:
			r = '*'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// split cuts at the first n-1 separators.
func (p pattern) split(sep rune, n int) (parts []pattern) {
	from := 0
	for i, r := range p {
		if r == sep && len(parts) < n-1 {
			parts = append(parts, p[from:i])
			from = i + 1
		}
	}
	return append(parts, p[from:])
}

// match tells whether the whole of s fits. Its time is at most len(p)*len(s):
// it goes back to the last * only.
func (p pattern) match(s string, fold bool) bool {
	t := []rune(s)
	same := func(a, b rune) bool {
		return a == anyRune || a == b || fold && unicode.ToLower(a) == unicode.ToLower(b)
	}
	i, j, star, from := 0, 0, -1, 0
	for j < len(t) {
		switch {
		case i < len(p) && p[i] == anyRunes:
			star, from = i, j
			i++
		case i < len(p) && same(p[i], t[j]):
			i++
			j++
		case star >= 0:
			from++
			i, j = star+1, from
		default:
			return false
		}
	}
	for i < len(p) && p[i] == anyRunes {
		i++
	}
	return i == len(p)
}
