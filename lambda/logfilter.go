package lambda

import (
	"regexp"
	"strings"

	hearth "github.com/hearth-faas/hearth"
)

// filterTerm is a part of a filter pattern over unstructured text.
type filterTerm struct {
	text  string
	regex *regexp.Regexp // instead of text
}

func (t filterTerm) in(message string) bool {
	if t.regex != nil {
		return t.regex.MatchString(message)
	}
	return strings.Contains(message, t.text)
}

// compileFilter compiles a CloudWatch Logs filter pattern over unstructured
// text: terms that must all be there, case-sensitively; "quoted phrases";
// -terms that must not be there; ?terms of which one is enough; and %regular
// expressions%. nil matches everything. Patterns over JSON ({ $.x = 1 }) and
// columns ([a, b]) are refused with an error that says so.
func compileFilter(pattern string) (func(string) bool, error) {
	rest := strings.TrimSpace(pattern)
	if rest == "" {
		return nil, nil
	}
	if rest[0] == '{' || rest[0] == '[' {
		return nil, notBuilt("A filter pattern over JSON or columns")
	}
	var all, none, any []filterTerm
	for rest != "" {
		into := &all
		switch rest[0] {
		case '-':
			into, rest = &none, rest[1:]
		case '?':
			into, rest = &any, rest[1:]
		}
		var t filterTerm
		var err error
		if t, rest, err = cutTerm(rest); err != nil {
			return nil, err
		}
		*into = append(*into, t)
		rest = strings.TrimLeft(rest, " \t")
	}
	return func(message string) bool {
		for _, t := range none {
			if t.in(message) {
				return false
			}
		}
		for _, t := range any {
			if t.in(message) {
				return true
			}
		}
		if len(any) > 0 { // as the service does, terms beside ?terms count for nothing
			return false
		}
		for _, t := range all {
			if !t.in(message) {
				return false
			}
		}
		return true
	}, nil
}

func cutTerm(s string) (t filterTerm, rest string, err error) {
	invalid := func() (filterTerm, string, error) {
		return filterTerm{}, "", hearth.Errorf(hearth.InvalidParameter, "Invalid filter pattern")
	}
	switch {
	case s == "":
		return invalid()
	case s[0] == '"':
		text, rest, ok := cutQuoted(s[1:])
		if !ok {
			return invalid()
		}
		return filterTerm{text: text}, rest, nil
	case s[0] == '%':
		expression, rest, ok := strings.Cut(s[1:], "%")
		if !ok {
			return invalid()
		}
		re, err := regexp.Compile(expression)
		if err != nil {
			return invalid()
		}
		return filterTerm{regex: re}, rest, nil
	}
	end := strings.IndexAny(s, " \t")
	if end < 0 {
		end = len(s)
	}
	return filterTerm{text: s[:end]}, s[end:], nil
}

// cutQuoted reads up to the closing quote; a backslash takes the next byte as
// it is.
func cutQuoted(s string) (text, rest string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:], true
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}
