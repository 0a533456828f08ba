package lambda

import (
	"net/url"
	"strings"
)

// router finds the operation of a request. It is a tree over the segments of
// the URI templates, built once from the schemas and read by any number of
// goroutines. A lookup allocates nothing unless a label is percent-encoded.
type router struct{ root node }

type node struct {
	literals map[string]*node
	label    *node
	methods  map[string][]*operation // those with a constant query part first
}

// maxLabels is the most labels that a template of the API has.
const maxLabels = 3

// maxPath bounds a path in bytes. Longer than the longest ARN with every byte
// percent-encoded, and short enough that trying an ARN's slashes stays cheap.
const maxPath = 4096

// route is an operation and the values of its path's labels, in the path's
// order, still percent-encoded.
type route struct {
	op     *operation
	labels [maxLabels]string
}

func newRouter(ops []*operation) *router {
	r := &router{}
	for _, op := range ops {
		n := &r.root
		labels := 0
		for _, s := range op.path {
			if s.label != "" {
				if labels++; labels > maxLabels {
					panic("lambda: more labels than a route holds: " + op.name)
				}
				if n.label == nil {
					n.label = &node{}
				}
				n = n.label
				continue
			}
			if n.literals == nil {
				n.literals = map[string]*node{}
			}
			next := n.literals[s.literal]
			if next == nil {
				next = &node{}
				n.literals[s.literal] = next
			}
			n = next
		}
		if n.methods == nil {
			n.methods = map[string][]*operation{}
		}
		if len(op.query) > 0 {
			n.methods[op.method] = append([]*operation{op}, n.methods[op.method]...)
		} else {
			n.methods[op.method] = append(n.methods[op.method], op)
		}
	}
	return r
}

// find looks up a request by method, percent-encoded path and raw query. A
// label takes one segment, and more where its value is an ARN whose slashes a
// client sent as they are. A slash at the end is allowed: older SDKs send it.
func (r *router) find(method, path, query string) (route, bool) {
	var found route
	if len(path) > maxPath {
		return found, false
	}
	path = strings.TrimPrefix(path, "/")
	path = strings.TrimSuffix(path, "/")
	ok := r.root.find(&found, 0, method, path, query)
	return found, ok
}

func (n *node) find(found *route, labels int, method, rest, query string) bool {
	head, tail, more := strings.Cut(rest, "/")
	if next := n.literals[head]; next != nil {
		if next.step(found, labels, method, tail, more, query) {
			return true
		}
	}
	if n.label == nil || head == "" {
		return false
	}
	found.labels[labels] = head
	if n.label.step(found, labels+1, method, tail, more, query) {
		return true
	}
	if !isARN(head) {
		return false
	}
	// The shortest first, so that a template's literal end is not taken for a
	// part of the ARN.
	for end := len(head); more; {
		next := strings.IndexByte(rest[end+1:], '/')
		if more = next >= 0; more {
			end += 1 + next
			tail = rest[end+1:]
		} else {
			end, tail = len(rest), ""
		}
		found.labels[labels] = rest[:end]
		if n.label.step(found, labels+1, method, tail, more, query) {
			return true
		}
	}
	return false
}

// step goes on below n, or ends there if the path has no more segments.
func (n *node) step(found *route, labels int, method, tail string, more bool, query string) bool {
	if more {
		return n.find(found, labels, method, tail, query)
	}
	for _, op := range n.methods[method] {
		if op.query == nil || hasQuery(query, op.query) {
			found.op = op
			return true
		}
	}
	return false
}

func isARN(segment string) bool {
	return strings.HasPrefix(segment, "arn:") || strings.HasPrefix(segment, "arn%3A") || strings.HasPrefix(segment, "arn%3a")
}

func hasQuery(query string, constants map[string]string) bool {
	for key, value := range constants {
		if got, ok := queryValue(query, key); !ok || got != value {
			return false
		}
	}
	return true
}

// queryValue is the first value of key in a raw query. It costs no allocation
// unless something is percent-encoded.
func queryValue(query, key string) (string, bool) {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		k, v, _ := strings.Cut(pair, "=")
		if k != key {
			if !strings.ContainsAny(k, "%+") {
				continue
			}
			if k, err := url.QueryUnescape(k); err != nil || k != key {
				continue
			}
		}
		if !strings.ContainsAny(v, "%+") {
			return v, true
		}
		u, err := url.QueryUnescape(v)
		return u, err == nil
	}
	return "", false
}
