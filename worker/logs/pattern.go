package logs

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/hearth-faas/hearth"
)

// condition judges a decoded JSON message.
type condition func(message any) bool

func badPattern(format string, args ...any) error {
	return hearth.Errorf(hearth.InvalidParameter, "Invalid filter pattern: "+format, args...)
}

// ParsePattern reads a CloudWatch Logs filter pattern and returns what selects
// messages by it; nil selects all. Errors: InvalidParameter. What is
// understood:
//
//	error "exit status"     both terms must occur; case matters
//	?error ?warn            one of them must
//	error -"exit status"    the one must, the other must not
//	{ $.level = "ERROR" }   a property of a JSON message: = and != with text
//	                        (* stands for anything), numbers, true, false and
//	                        null, < <= > >= with numbers, IS, NOT EXISTS,
//	                        joined by && and || with parentheses
func ParsePattern(text string) (func(message string) bool, error) {
	text = strings.TrimSpace(text)
	switch {
	case text == "":
		return nil, nil
	case text[0] == '{':
		if text[len(text)-1] != '}' {
			return nil, badPattern("a JSON pattern ends with }")
		}
		p := jsonPattern{rest: text[1 : len(text)-1]}
		c, err := p.parse()
		if err != nil {
			return nil, err
		}
		return func(message string) bool {
			var v any
			return json.Unmarshal([]byte(message), &v) == nil && c(v)
		}, nil
	case text[0] == '[' || text[0] == '%':
		return nil, badPattern("patterns of fields and regular expressions are not supported; use terms or { $.property = value }")
	}
	var p terms
	for text != "" {
		list := &p.all
		switch text[0] {
		case '?':
			list, text = &p.any, text[1:]
		case '-':
			list, text = &p.none, text[1:]
		}
		term, rest, err := cutTerm(text)
		if err != nil {
			return nil, err
		}
		if term != "" {
			*list = append(*list, term)
		}
		text = strings.TrimLeft(rest, " \t\n")
	}
	return p.match, nil
}

// terms is a pattern of words and phrases.
type terms struct{ all, any, none []string }

func (p *terms) match(message string) bool {
	in := func(term string) bool { return strings.Contains(message, term) }
	absent := func(term string) bool { return !in(term) }
	return !slices.ContainsFunc(p.all, absent) && !slices.ContainsFunc(p.none, in) &&
		(len(p.any) == 0 || slices.ContainsFunc(p.any, in))
}

// cutTerm takes a term off the beginning of text: a word, or a phrase in double
// quotes, in which a backslash makes a quote or a backslash ordinary.
func cutTerm(text string) (term, rest string, err error) {
	if !strings.HasPrefix(text, `"`) {
		end := strings.IndexAny(text, " \t\n")
		if end < 0 {
			return text, "", nil
		}
		return text[:end], text[end:], nil
	}
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			return b.String(), text[i+1:], nil
		case c == '\\' && i+1 < len(text) && (text[i+1] == '"' || text[i+1] == '\\'):
			i++
			b.WriteByte(text[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", "", badPattern("a quote is not closed")
}

// jsonPattern parses what is between the braces.
type jsonPattern struct {
	rest  string
	depth int
}

func (p *jsonPattern) parse() (condition, error) {
	c, err := p.or()
	if err == nil && p.skip() != "" {
		err = badPattern("%q is left over", p.rest)
	}
	return c, err
}

func (p *jsonPattern) skip() string {
	p.rest = strings.TrimLeft(p.rest, " \t\n")
	return p.rest
}

// accept takes a token if it comes next.
func (p *jsonPattern) accept(token string) bool {
	if rest, ok := strings.CutPrefix(p.skip(), token); ok {
		p.rest = rest
		return true
	}
	return false
}

func (p *jsonPattern) or() (condition, error) {
	left, err := p.and()
	for err == nil && p.accept("||") {
		var right condition
		right, err = p.and()
		l := left
		left = func(v any) bool { return l(v) || right(v) }
	}
	return left, err
}

func (p *jsonPattern) and() (condition, error) {
	left, err := p.comparison()
	for err == nil && p.accept("&&") {
		var right condition
		right, err = p.comparison()
		l := left
		left = func(v any) bool { return l(v) && right(v) }
	}
	return left, err
}

func (p *jsonPattern) comparison() (condition, error) {
	if p.accept("(") {
		if p.depth++; p.depth > 32 {
			return nil, badPattern("too many parentheses")
		}
		c, err := p.or()
		p.depth--
		if err == nil && !p.accept(")") {
			err = badPattern("a parenthesis is not closed")
		}
		return c, err
	}
	path, err := p.selector()
	if err != nil {
		return nil, err
	}
	switch {
	case p.accept("NOT EXISTS"):
		return func(v any) bool { _, ok := path.find(v); return !ok }, nil
	case p.accept("IS"):
		return p.is(path)
	}
	for _, op := range []string{"!=", "<=", ">=", "=", "<", ">"} {
		if p.accept(op) {
			return p.compare(path, op)
		}
	}
	return nil, badPattern("an operator is missing before %q", p.rest)
}

// is reads what follows IS: TRUE, FALSE or NULL.
func (p *jsonPattern) is(path selector) (condition, error) {
	for word, want := range map[string]any{"TRUE": true, "FALSE": false, "NULL": nil} {
		if p.accept(word) {
			return func(v any) bool { got, ok := path.find(v); return ok && got == want }, nil
		}
	}
	return nil, badPattern("IS is followed by TRUE, FALSE or NULL")
}

func (p *jsonPattern) compare(path selector, op string) (condition, error) {
	quoted := strings.HasPrefix(p.skip(), `"`)
	var value string
	var err error
	if quoted {
		value, p.rest, err = cutTerm(p.rest)
		if err != nil {
			return nil, err
		}
	} else {
		end := strings.IndexAny(p.rest, " \t\n)&|")
		if end < 0 {
			end = len(p.rest)
		}
		value, p.rest = p.rest[:end], p.rest[end:]
		if value == "" {
			return nil, badPattern("a value is missing")
		}
	}
	number, notNumber := strconv.ParseFloat(value, 64)
	numeric := !quoted && notNumber == nil
	equal := func(got any) bool {
		switch got := got.(type) {
		case float64:
			return numeric && got == number
		case string:
			return wildcard(value, got)
		case bool:
			return !quoted && strconv.FormatBool(got) == strings.ToLower(value)
		case nil:
			return !quoted && strings.EqualFold(value, "null")
		default:
			return false
		}
	}
	switch op {
	case "=":
		return func(v any) bool { got, ok := path.find(v); return ok && equal(got) }, nil
	case "!=":
		return func(v any) bool { got, ok := path.find(v); return ok && !equal(got) }, nil
	}
	if !numeric {
		return nil, badPattern("%s compares numbers", op)
	}
	return func(v any) bool {
		got, _ := path.find(v)
		n, ok := got.(float64)
		if !ok {
			return false
		}
		switch op {
		case "<":
			return n < number
		case "<=":
			return n <= number
		case ">":
			return n > number
		default:
			return n >= number
		}
	}, nil
}

// wildcard compares text with a pattern in which * stands for any text.
func wildcard(pattern, text string) bool {
	first, rest, found := strings.Cut(pattern, "*")
	if !found {
		return pattern == text
	}
	text, ok := strings.CutPrefix(text, first)
	if !ok {
		return false
	}
	for {
		part, after, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(text, part)
		}
		i := strings.Index(text, part)
		if i < 0 {
			return false
		}
		text, rest = text[i+len(part):], after
	}
}

// selector names a property: the keys and indices after the $.
type selector []any // string or int

// selector reads $.a.b[0]["c"].
func (p *jsonPattern) selector() (selector, error) {
	if !p.accept("$") {
		return nil, badPattern("a property begins with $ where %q is", p.rest)
	}
	var path selector
	for {
		switch {
		case strings.HasPrefix(p.rest, "."):
			end := 1
			for end < len(p.rest) && !strings.ContainsRune(" \t\n.[]=!<>()&|", rune(p.rest[end])) {
				end++
			}
			if end == 1 {
				return nil, badPattern("a property's name is missing")
			}
			path = append(path, p.rest[1:end])
			p.rest = p.rest[end:]
		case strings.HasPrefix(p.rest, "["):
			end := strings.IndexByte(p.rest, ']')
			if end < 0 {
				return nil, badPattern("a bracket is not closed")
			}
			inner := strings.TrimSpace(p.rest[1:end])
			p.rest = p.rest[end+1:]
			if n, err := strconv.Atoi(inner); err == nil {
				path = append(path, n)
			} else {
				path = append(path, strings.Trim(inner, `"'`))
			}
		default:
			return path, nil
		}
	}
}

// find looks a property up; ok is false if it does not exist.
func (s selector) find(v any) (got any, ok bool) {
	for _, step := range s {
		switch step := step.(type) {
		case string:
			m, isMap := v.(map[string]any)
			if v, ok = m[step]; !isMap || !ok {
				return nil, false
			}
		case int:
			a, isArray := v.([]any)
			if !isArray || step < 0 || step >= len(a) {
				return nil, false
			}
			v = a[step]
		}
	}
	return v, true
}
