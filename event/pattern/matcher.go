package pattern

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
)

// A leaf is a list of what a value may be.
type leaf struct {
	texts  map[string]struct{} // exact texts
	tests  []func(scalar) bool
	absent bool // also if there is no value
}

func (l *leaf) match(s scalar) bool {
	if s.kind == text {
		if _, ok := l.texts[s.text]; ok {
			return true
		}
	}
	for _, test := range l.tests {
		if test(s) {
			return true
		}
	}
	return false
}

// matcher adds {NAME: OPERAND} to a leaf.
func (c *compiler) matcher(l *leaf, m map[string]any, way string) error {
	name, of, err := only(m, way)
	if err != nil {
		return err
	}
	way = join(way, name)
	var test func(scalar) bool
	switch name {
	case "prefix", "suffix":
		test, err = affix(name, of, way)
	case "equals-ignore-case", "wildcard":
		test, err = ofText(name, of, way)
	case "exists":
		exists, ok := of.(bool)
		if !ok {
			return fail(way, "must be true or false")
		}
		if !exists {
			l.absent, c.absent = true, true
			return nil
		}
		test = func(scalar) bool { return true }
	case "cidr":
		test, err = cidr(of, way)
	case "numeric":
		test, err = numeric(of, way)
	case "anything-but":
		test, err = anythingBut(of, way)
	default:
		return fail(way, "no such matcher; there are %s", strings.Join(reserved, ", "))
	}
	if err != nil {
		return err
	}
	l.tests = append(l.tests, test)
	return nil
}

// only returns a matcher's one member.
func only(m map[string]any, way string) (name string, of any, _ error) {
	if len(m) != 1 {
		return "", nil, fail(way, "a matcher has one member, not %d", len(m))
	}
	for name, of = range m {
	}
	return name, of, nil
}

// affix is prefix and suffix, of a text or {"equals-ignore-case": TEXT}.
func affix(name string, of any, way string) (func(scalar) bool, error) {
	fold := false
	if m, ok := of.(map[string]any); ok {
		inner, v, err := only(m, way)
		if err != nil {
			return nil, err
		}
		if inner != "equals-ignore-case" {
			return nil, fail(join(way, inner), "only equals-ignore-case can stand in %s", name)
		}
		way, of, fold = join(way, inner), v, true
	}
	s, ok := of.(string)
	if !ok {
		return nil, fail(way, "must be text")
	}
	has := strings.HasPrefix
	switch {
	case fold && name == "prefix":
		has = foldPrefix
	case fold:
		has = foldSuffix
	case name == "suffix":
		has = strings.HasSuffix
	}
	return func(v scalar) bool { return v.kind == text && has(v.text, s) }, nil
}

// ofText is a matcher of one text against one text.
func ofText(name string, of any, way string) (func(scalar) bool, error) {
	s, ok := of.(string)
	if !ok {
		return nil, fail(way, "must be text")
	}
	switch name {
	case "prefix":
		return func(v scalar) bool { return v.kind == text && strings.HasPrefix(v.text, s) }, nil
	case "suffix":
		return func(v scalar) bool { return v.kind == text && strings.HasSuffix(v.text, s) }, nil
	case "equals-ignore-case":
		return func(v scalar) bool { return v.kind == text && strings.EqualFold(v.text, s) }, nil
	}
	g, err := compileGlob(s)
	if err != nil {
		return nil, fail(way, "%v", err)
	}
	return func(v scalar) bool { return v.kind == text && g.match(v.text) }, nil
}

func cidr(of any, way string) (func(scalar) bool, error) {
	s, ok := of.(string)
	if !ok {
		return nil, fail(way, "must be text")
	}
	network, err := netip.ParsePrefix(s)
	if err != nil {
		return nil, fail(way, "%q is no network such as 10.0.0.0/24 or 2001:db8::/32", s)
	}
	return func(v scalar) bool {
		if v.kind != text || len(v.text) > 64 {
			return false
		}
		a, err := netip.ParseAddr(v.text)
		return err == nil && network.Contains(a)
	}, nil
}

// anythingBut matches every value that is there and is none of what is named.
func anythingBut(of any, way string) (func(scalar) bool, error) {
	switch v := of.(type) {
	case string, json.Number:
		return excluding([]any{v}, way)
	case []any:
		return excluding(v, way)
	case map[string]any:
		name, of, err := only(v, way)
		if err != nil {
			return nil, err
		}
		way = join(way, name)
		switch name {
		case "prefix", "suffix", "equals-ignore-case", "wildcard":
		default:
			return nil, fail(way, "only prefix, suffix, equals-ignore-case and wildcard can stand in anything-but")
		}
		list, ok := of.([]any)
		if !ok {
			list = []any{of}
		}
		if len(list) == 0 {
			return nil, fail(way, "an empty list")
		}
		var tests []func(scalar) bool
		for i, item := range list {
			way := way
			if ok {
				way = fmt.Sprintf("%s[%d]", way, i)
			}
			if item == "" && (name == "prefix" || name == "suffix") {
				return nil, fail(way, "every text begins and ends with the empty one: nothing would match")
			}
			test, err := ofText(name, item, way)
			if err != nil {
				return nil, err
			}
			tests = append(tests, test)
		}
		return func(v scalar) bool {
			for _, test := range tests {
				if test(v) {
					return false
				}
			}
			return true
		}, nil
	}
	return nil, fail(way, "must be text, a number, a list of either, or a matcher")
}

// excluding is anything-but with texts, or with numbers.
func excluding(list []any, way string) (func(scalar) bool, error) {
	if len(list) == 0 {
		return nil, fail(way, "an empty list")
	}
	values := make([]scalar, len(list))
	for i, item := range list {
		s, err := scalarOf(item)
		if err != nil || s.kind != text && s.kind != number {
			return nil, fail(way, "a list of texts or numbers, not %s", show(item))
		}
		if s.kind != values[0].kind && i > 0 {
			return nil, fail(way, "texts and numbers cannot be mixed in one list")
		}
		values[i] = s
	}
	return func(v scalar) bool {
		for _, s := range values {
			if s.same(v) {
				return false
			}
		}
		return true
	}, nil
}
