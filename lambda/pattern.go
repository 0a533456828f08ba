package lambda

import (
	"regexp"
	"strings"
)

// pattern is one of the model's regular expressions, which are Java's and must
// match the whole value. Go's have no lookaround, so its three uses in the
// model are taken out and checked apart: (?!x) where only groups and anchors
// stand before it, which says that no match of x may begin at the value's
// start; (?<!x) where only groups stand after it, which says that the value
// may not end with x.
type pattern struct {
	whole   *regexp.Regexp
	notHead *regexp.Regexp // nil: none
	notTail *regexp.Regexp
}

func compilePattern(java string) (*pattern, error) {
	p := &pattern{}
	rest := java
	for _, look := range []struct {
		opening string
		into    **regexp.Regexp
		anchor  func(body string) string
	}{
		{"(?!", &p.notHead, func(b string) string { return `^(?:` + strings.TrimPrefix(b, "^") + `)` }},
		{"(?<!", &p.notTail, func(b string) string { return `(?:` + b + `)$` }},
	} {
		i := strings.Index(rest, look.opening)
		if i < 0 {
			continue
		}
		end := i + closingParen(rest[i:])
		re, err := regexp.Compile(look.anchor(rest[i+len(look.opening) : end]))
		if err != nil {
			return nil, err
		}
		*look.into = re
		rest = rest[:i] + rest[end+1:]
	}
	var err error
	p.whole, err = regexp.Compile(`^(?:` + rest + `)$`)
	return p, err
}

// closingParen is the index of the parenthesis that closes the one at 0.
func closingParen(s string) int {
	depth, class := 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			i++
		case class:
			class = c != ']'
		case c == '[':
			class = true
		case c == '(':
			depth++
		case c == ')':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return len(s) - 1
}

func (p *pattern) match(s string) bool {
	return p.whole.MatchString(s) &&
		(p.notHead == nil || !p.notHead.MatchString(s)) &&
		(p.notTail == nil || !p.notTail.MatchString(s))
}
