// Package pattern is EventBridge's language of event patterns: which events a
// rule, or a filter of an event source mapping, wants.
//
// A pattern is an object in the event's own shape, whose leaves are lists of
// what the value there may be: values, or matchers such as {"prefix": "a"}. All
// fields must match, of a list one. If the event has a list at that place, one
// of its items must match. If it has a list of objects, one object must match
// all that the pattern asks of it. "$or" holds alternatives.
//
// Numbers are compared as the service's own matcher does: by value, exact to
// six digits behind the point, between -5e9 and 5e9. So 300 matches 3.0e2,
// though the service's manual says that it does not. Numbers further out match
// only when they are written alike.
//
// "exists" asks about leaves. A place that holds an object, an empty list or
// nothing has no leaf.
package pattern

import (
	"encoding/json"
	"errors"
	"fmt"
)

// The service's limits.
const (
	// MaxSize bounds a pattern's text, in bytes.
	MaxSize = 4096
	// MaxCombinations bounds how many patterns without "$or" a pattern with
	// them stands for.
	MaxCombinations = 1000
)

// maxDepth bounds how deep objects lie in each other in a pattern.
const maxDepth = 32

// A Pattern is a compiled pattern. It does not change, so any number of
// goroutines may match with it.
type Pattern struct {
	text   string
	want   *place
	all    *object
	absent bool // something in it asks for a leaf that does not exist
	places int
}

// An Error says where a pattern is wrong, and how.
type Error struct {
	// Place is the way to what is wrong, such as detail.state[1].prefix; ""
	// is the pattern as a whole.
	Place  string
	Reason string
}

// Error is one sentence.
func (e *Error) Error() string {
	if e.Place == "" {
		return e.Reason
	}
	return e.Place + ": " + e.Reason
}

// String returns the text that p was compiled from.
func (p *Pattern) String() string { return p.text }

// Match tells whether p matches event, a JSON object. Its error says that
// event is none. Of a name that an object has twice the last counts.
func (p *Pattern) Match(event []byte) (bool, error) {
	if !json.Valid(event) {
		var v any
		return false, fmt.Errorf("the event is no JSON: %w", json.Unmarshal(event, &v))
	}
	r := reader{b: event}
	if r.space(); r.b[r.i] != '{' {
		return false, errNoObject
	}
	root := node{}
	r.value(p.want, &root)
	return p.match(&root), nil
}

// MatchValue is Match for an event that encoding/json has decoded into an any;
// its numbers may be json.Number or float64.
func (p *Pattern) MatchValue(event any) (bool, error) {
	if _, ok := event.(map[string]any); !ok {
		return false, errNoObject
	}
	root := node{}
	if err := decoded(p.want, event, &root); err != nil {
		return false, err
	}
	return p.match(&root), nil
}

var errNoObject = errors.New("the event is no JSON object")

func (p *Pattern) match(root *node) bool {
	m := matching{}
	if p.absent {
		m.present = make([]bool, p.places)
		m.mark(p.want, root)
	}
	return m.object(p.all, root)
}

// A matching is one look at one event.
type matching struct {
	present []bool // places that have a leaf anywhere in the event; nil if nobody asks
}

func (m *matching) mark(p *place, n *node) {
	if len(n.scalars) > 0 {
		m.present[p.id] = true
	}
	if len(n.elements) == 0 {
		return
	}
	for _, child := range p.children {
		for _, e := range n.elements {
			m.mark(child, e.at(child.ordinal))
		}
	}
}

// object tells whether one of the objects at n is what o asks for. What is no
// object has no fields, which is what some ask for.
func (m *matching) object(o *object, n *node) bool {
	if len(n.elements) == 0 {
		return m.element(o, nil)
	}
	for _, e := range n.elements {
		if m.element(o, e) {
			return true
		}
	}
	return false
}

func (m *matching) element(o *object, e element) bool {
	for _, f := range o.fields {
		n := e.at(f.at.ordinal)
		if f.leaf != nil {
			if !m.leaf(f.leaf, f.at, n) {
				return false
			}
		} else if !m.object(f.object, n) {
			return false
		}
	}
	for _, alternatives := range o.ors {
		if !m.any(alternatives, e) {
			return false
		}
	}
	return true
}

func (m *matching) any(alternatives []*object, e element) bool {
	for _, o := range alternatives {
		if m.element(o, e) {
			return true
		}
	}
	return false
}

func (m *matching) leaf(l *leaf, p *place, n *node) bool {
	if l.absent && !m.present[p.id] {
		return true
	}
	for _, s := range n.scalars {
		if l.match(s) {
			return true
		}
	}
	return false
}
