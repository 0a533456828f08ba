package pattern

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// An object holds what a pattern asks of one object: all of its fields, and of
// each list of alternatives one.
type object struct {
	fields []field
	ors    [][]*object
}

// A field is what is asked of one member: of its leaves, or as an object.
type field struct {
	at     *place
	leaf   *leaf
	object *object
}

// A place is a field that a pattern looks at, wherever in the pattern it
// stands. The places are a tree, which tells what of an event is worth reading.
type place struct {
	id       int // among all of the pattern's
	ordinal  int // among its siblings
	leaf     bool
	children map[string]*place
}

type compiler struct {
	places int
	absent bool
}

// Compile reads a pattern. Its error is an *Error.
func Compile(text string) (*Pattern, error) {
	if len(text) > MaxSize {
		return nil, fail("", "the pattern has %d bytes; the limit is %d", len(text), MaxSize)
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return nil, fail("", "the pattern is no JSON: byte %d: %v", syntax.Offset, err)
		}
		return nil, fail("", "the pattern is no JSON: %v", err)
	}
	if rest := strings.TrimLeft(text[d.InputOffset():], " \t\r\n"); rest != "" {
		return nil, fail("", "something follows the pattern: %.20q", rest)
	}
	members, ok := v.(map[string]any)
	if !ok {
		return nil, fail("", "the pattern must be an object")
	}
	c := compiler{}
	want := c.place(nil, "")
	all, n, err := c.object(members, want, "", 0, false)
	if err != nil {
		return nil, err
	}
	if n > MaxCombinations {
		return nil, fail("", "$or makes %d combinations or more; the limit is %d", n, MaxCombinations)
	}
	return &Pattern{text: text, want: want, all: all, absent: c.absent, places: c.places}, nil
}

func fail(place, format string, args ...any) *Error {
	return &Error{Place: place, Reason: fmt.Sprintf(format, args...)}
}

func join(place, name string) string {
	if place == "" {
		return name
	}
	return place + "." + name
}

// place returns parent's child of that name, which is made if it is new.
func (c *compiler) place(parent *place, name string) *place {
	p := &place{id: c.places}
	if parent != nil {
		if old := parent.children[name]; old != nil {
			return old
		}
		if parent.children == nil {
			parent.children = map[string]*place{}
		}
		p.ordinal = len(parent.children)
		parent.children[name] = p
	}
	c.places++
	return p
}

// reserved are the matchers' names. As a field's name in an alternative they
// mean that somebody has written a matcher where a pattern belongs.
var reserved = []string{"anything-but", "cidr", "equals-ignore-case", "exists", "numeric", "prefix", "suffix", "wildcard"}

// object compiles what is asked of the object at a place. n is for how many
// patterns without $or it stands, at most a little over MaxCombinations.
func (c *compiler) object(members map[string]any, at *place, way string, depth int, alternative bool) (_ *object, n int, _ error) {
	if depth > maxDepth {
		return nil, 0, fail(way, "objects may lie in each other %d deep", maxDepth)
	}
	if len(members) == 0 {
		return nil, 0, fail(way, "an empty object matches nothing: leave it out, or ask for something")
	}
	o, n := &object{}, 1
	for _, name := range slices.Sorted(maps.Keys(members)) {
		way, more := join(way, name), 1
		if alternative && slices.Contains(reserved, name) {
			return nil, 0, fail(way, "a matcher's name cannot be a field's name in $or")
		}
		switch v := members[name].(type) {
		case map[string]any:
			child := c.place(at, name)
			sub, m, err := c.object(v, child, way, depth+1, alternative)
			if err != nil {
				return nil, 0, err
			}
			o.fields, more = append(o.fields, field{at: child, object: sub}), m
		case []any:
			if name == "$or" {
				alternatives, m, err := c.alternatives(v, at, way, depth)
				if err != nil {
					return nil, 0, err
				}
				o.ors, more = append(o.ors, alternatives), m
				break
			}
			l, err := c.leaf(v, way)
			if err != nil {
				return nil, 0, err
			}
			child := c.place(at, name)
			child.leaf = true
			o.fields = append(o.fields, field{at: child, leaf: l})
		default:
			return nil, 0, fail(way, "must be an object or a list, such as [%s]", show(v))
		}
		n = min(n*more, MaxCombinations+1)
	}
	// Leaves first: they are cheap, and most often decide.
	slices.SortStableFunc(o.fields, func(a, b field) int {
		switch {
		case a.leaf != nil && b.leaf == nil:
			return -1
		case a.leaf == nil && b.leaf != nil:
			return 1
		}
		return 0
	})
	return o, n, nil
}

func (c *compiler) alternatives(patterns []any, at *place, way string, depth int) (_ []*object, n int, _ error) {
	if len(patterns) < 2 {
		return nil, 0, fail(way, "needs two alternatives at least")
	}
	objects := make([]*object, len(patterns))
	for i, p := range patterns {
		way := fmt.Sprintf("%s[%d]", way, i)
		members, ok := p.(map[string]any)
		if !ok {
			return nil, 0, fail(way, "an alternative must be an object")
		}
		o, m, err := c.object(members, at, way, depth+1, true)
		if err != nil {
			return nil, 0, err
		}
		objects[i], n = o, min(n+m, MaxCombinations+1)
	}
	return objects, n, nil
}

func (c *compiler) leaf(values []any, way string) (*leaf, error) {
	if len(values) == 0 {
		return nil, fail(way, "an empty list matches nothing")
	}
	l := &leaf{}
	for i, value := range values {
		way := fmt.Sprintf("%s[%d]", way, i)
		switch v := value.(type) {
		case string:
			if l.texts == nil {
				l.texts = map[string]struct{}{}
			}
			l.texts[v] = struct{}{}
		case map[string]any:
			if err := c.matcher(l, v, way); err != nil {
				return nil, err
			}
		case []any:
			return nil, fail(way, "a list in a list")
		default:
			s, err := scalarOf(v)
			if err != nil {
				return nil, fail(way, "%v", err)
			}
			l.tests = append(l.tests, func(o scalar) bool { return s.same(o) })
		}
	}
	return l, nil
}

// show writes a value for an error, shortened.
func show(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return "…"
	}
	if len(b) > 40 {
		return string(b[:40]) + "…"
	}
	return string(b)
}
