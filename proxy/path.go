package proxy

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// template is a path template: segments that are literal, or {NAME} for any one
// segment, or, as the last, {NAME+} for all that is left.
type template struct {
	text     string
	segments []segment
}

type segment struct {
	literal  string
	variable string // "" is literal
	rest     bool
}

// ResourceVariable is the path variable that says which resource a call is for,
// of an API that is for a type.
const ResourceVariable = "resource"

const (
	maxPath     = 2048
	maxSegments = 32
)

var variablePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)

// parseTemplate reads a path template.
func parseTemplate(text string) (*template, error) {
	if !strings.HasPrefix(text, "/") || len(text) > maxPath {
		return nil, fmt.Errorf("%.80q is no path: it begins with / and has up to %d bytes", text, maxPath)
	}
	t := &template{text: text}
	if text == "/" {
		return t, nil
	}
	parts := strings.Split(text[1:], "/")
	if len(parts) > maxSegments {
		return nil, fmt.Errorf("it has %d segments; at most %d are allowed", len(parts), maxSegments)
	}
	seen := map[string]bool{}
	for i, part := range parts {
		s := segment{literal: part}
		if inner, ok := strings.CutPrefix(part, "{"); ok {
			inner, ok = strings.CutSuffix(inner, "}")
			s.variable, s.rest = strings.CutSuffix(inner, "+")
			s.literal = ""
			switch {
			case !ok || !variablePattern.MatchString(s.variable):
				return nil, fmt.Errorf("%.80q is no variable, such as {id} or, as the last, {rest+}", part)
			case seen[s.variable]:
				return nil, fmt.Errorf("the variable {%s} comes twice", s.variable)
			case s.rest && i < len(parts)-1:
				return nil, fmt.Errorf("{%s+} takes all that is left, so nothing can follow it", s.variable)
			}
			seen[s.variable] = true
		} else if part == "" || part == "." || part == ".." || strings.ContainsAny(part, "{}?#%") || part[0] == '_' && i == 0 {
			return nil, fmt.Errorf("the segment %.80q can't be: it is empty, ., .., has one of { } ? # %%, or begins the path with _", part)
		} else {
			for _, r := range part {
				if r <= ' ' || r == 0x7F {
					return nil, fmt.Errorf("the segment %.80q has a space or a control character", part)
				}
			}
		}
		t.segments = append(t.segments, s)
	}
	return t, nil
}

// has tells whether the template has the variable.
func (t *template) has(variable string) bool {
	for _, s := range t.segments {
		if s.variable == variable {
			return true
		}
	}
	return false
}

// clashes tells whether both would take the same paths with equal right, so that
// nothing could say which is meant.
func (t *template) clashes(o *template) bool {
	if len(t.segments) != len(o.segments) {
		return false
	}
	for i, s := range t.segments {
		if s.literal != o.segments[i].literal || s.rest != o.segments[i].rest {
			return false
		}
	}
	return true
}

// before tells whether the template says more about a path than another does:
// of two that take the same path it is the one that is meant.
func (t *template) before(o *template) bool {
	for i := range min(len(t.segments), len(o.segments)) {
		if a, b := t.segments[i].weight(), o.segments[i].weight(); a != b {
			return a < b
		}
	}
	return len(t.segments) > len(o.segments)
}

func (s segment) weight() int {
	switch {
	case s.rest:
		return 2
	case s.variable != "":
		return 1
	}
	return 0
}

// split makes a percent-encoded path into its segments, decoded. It reports false
// for one that can't be.
func split(escaped string) ([]string, bool) {
	if !strings.HasPrefix(escaped, "/") || len(escaped) > 4*maxPath {
		return nil, false
	}
	escaped = strings.TrimSuffix(escaped[1:], "/")
	if escaped == "" {
		return nil, true
	}
	parts := strings.Split(escaped, "/")
	for i, part := range parts {
		var err error
		if parts[i], err = url.PathUnescape(part); err != nil {
			return nil, false
		}
	}
	return parts, true
}

// match gives the variables of a path that the template takes.
func (t *template) match(parts []string) (map[string]any, bool) {
	if len(parts) < len(t.segments) || len(parts) > len(t.segments) && (len(t.segments) == 0 || !t.segments[len(t.segments)-1].rest) {
		return nil, false
	}
	variables := map[string]any{}
	for i, s := range t.segments {
		switch {
		case s.rest:
			variables[s.variable] = strings.Join(parts[i:], "/")
		case s.variable != "":
			if parts[i] == "" {
				return nil, false
			}
			variables[s.variable] = parts[i]
		case s.literal != parts[i]:
			return nil, false
		}
	}
	return variables, true
}
