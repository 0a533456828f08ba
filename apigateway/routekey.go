package apigateway

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// defaultRoute is the key of the route for what no other is for; defaultStage
// the name of the stage without a name in the path.
const (
	defaultRoute = "$default"
	defaultStage = "$default"
)

// RouteKey is a route key as it is matched: a method and a path, or neither
// for $default.
type RouteKey struct {
	Method   string // GET and so on, or ANY; "" is $default
	Segments []Segment
}

// Segment is what stands between two slashes of a route's path.
type Segment struct {
	Text string // a literal, decoded, or a variable's name
	Sort SegmentSort
}

// SegmentSort is what a segment matches.
type SegmentSort uint8

// The sorts, the more exact first.
const (
	Literal  SegmentSort = iota
	Variable             // one segment, not empty
	Greedy               // all that is left, not empty
)

var methods = []string{
	http.MethodDelete, http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPatch, http.MethodPost, http.MethodPut,
}

func isMethod(s string) bool { return slices.Contains(methods, s) }

// isToken tells whether s can be the name of a header.
func isToken(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

// ParseRouteKey reads a route key. Its error is what the caller is told.
func ParseRouteKey(key string) (RouteKey, error) {
	if key == defaultRoute {
		return RouteKey{}, nil
	}
	method, path, ok := strings.Cut(key, " ")
	wrong := func(why string) (RouteKey, error) {
		return RouteKey{}, invalid("The provided route key is not formatted properly for HTTP protocol: %.200q: %s. A route key is a method (or ANY) and a path, such as GET /pets/{id} or ANY /{proxy+}, or $default.", key, why)
	}
	switch {
	case !ok || method != "ANY" && !isMethod(method):
		return wrong("it has no method that there is")
	case !strings.HasPrefix(path, "/") || len(key) > 1024:
		return wrong("its path must begin with / and be no longer than 1,024 characters")
	}
	k := RouteKey{Method: method}
	names := map[string]bool{}
	parts := strings.Split(path[1:], "/")
	for i, part := range parts {
		s := Segment{Text: part}
		if name, ok := strings.CutPrefix(part, "{"); ok {
			if name, ok = strings.CutSuffix(name, "}"); !ok {
				return wrong("a variable must be a whole segment")
			}
			s.Sort = Variable
			if before, ok := strings.CutSuffix(name, "+"); ok {
				if i != len(parts)-1 {
					return wrong("only the last segment can be greedy")
				}
				s.Sort, name = Greedy, before
			}
			if !isVariable(name) || names[name] {
				return wrong("the names of variables consist of letters, digits, and . _ - $ :, and differ")
			}
			names[name] = true
			s.Text = name
		} else if strings.ContainsAny(part, "{}?#") {
			return wrong("{, }, ? and # can't stand in a path")
		} else if text, err := url.PathUnescape(part); err == nil {
			s.Text = text
		} else {
			return wrong("a percent sign must begin an escape")
		}
		k.Segments = append(k.Segments, s)
	}
	return k, nil
}

// routeKey reads a route key of the API. Those of WebSocket APIs are texts,
// which messages have at the place that the route selection expression names.
func (r *record) routeKey(key string) (RouteKey, error) {
	if !r.websocket() {
		return ParseRouteKey(key)
	}
	switch {
	case key == connectRoute, key == disconnectRoute, key == defaultRoute:
	case key == "" || len(key) > 128 || strings.HasPrefix(key, "$"):
		return RouteKey{}, invalid("The routeKey of a WebSocket API is $connect, $disconnect, $default, or a text of at most 128 characters that messages have: %.140q", key)
	}
	return RouteKey{}, nil
}

func isVariable(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && strings.IndexByte("._-$:", c) < 0 {
			return false
		}
	}
	return s != ""
}

// String is the key as it is written.
func (k RouteKey) String() string {
	if k.Method == "" {
		return defaultRoute
	}
	return k.Method + " " + k.path(func(name string) string { return name })
}

// path is the path with its variables' names as name says.
func (k RouteKey) path(name func(string) string) string {
	var b strings.Builder
	for _, s := range k.Segments {
		b.WriteByte('/')
		switch s.Sort {
		case Literal:
			b.WriteString(escapeSegment(s.Text))
		case Variable:
			b.WriteString("{" + name(s.Text) + "}")
		case Greedy:
			b.WriteString("{" + name(s.Text) + "+}")
		}
	}
	return b.String()
}

// escapeSegment encodes what else would mean something in a route key.
func escapeSegment(s string) string {
	return strings.NewReplacer("%", "%25", "/", "%2F", "{", "%7B", "}", "%7D", "?", "%3F", "#", "%23").Replace(s)
}

// shape is the same for two keys that match the same requests.
func (k RouteKey) shape() string { return k.Method + k.path(func(string) string { return "" }) }

// greedy tells whether the key's path ends in a greedy variable.
func (k RouteKey) greedy() bool {
	return len(k.Segments) > 0 && k.Segments[len(k.Segments)-1].Sort == Greedy
}

// compareKeys orders keys by which a request that both match takes: first those
// that match a whole path, then greedy ones, then $default; of equals the one
// that is more exact in the first segment that tells them apart, then the one
// that names the method.
func compareKeys(a, b RouteKey) int {
	rank := func(k RouteKey) int {
		switch {
		case k.Method == "":
			return 2
		case k.greedy():
			return 1
		}
		return 0
	}
	if c := cmp.Compare(rank(a), rank(b)); c != 0 {
		return c
	}
	for i := range min(len(a.Segments), len(b.Segments)) {
		if c := cmp.Compare(a.Segments[i].Sort, b.Segments[i].Sort); c != 0 {
			return c
		}
	}
	if c := cmp.Compare(len(b.Segments), len(a.Segments)); c != 0 {
		return c
	}
	if (a.Method == "ANY") != (b.Method == "ANY") {
		if a.Method == "ANY" {
			return 1
		}
		return -1
	}
	return strings.Compare(a.shape(), b.shape())
}

// match tells whether the key is for a request of the method and the path's
// segments, which are decoded, and what its variables are then.
func (k RouteKey) match(method string, segments []string) (ok bool) {
	if k.Method == "" {
		return true
	}
	if k.Method != "ANY" && k.Method != method || len(segments) < len(k.Segments) || len(segments) > len(k.Segments) && !k.greedy() {
		return false
	}
	for i, s := range k.Segments {
		switch s.Sort {
		case Literal:
			ok = segments[i] == s.Text
		case Variable:
			ok = segments[i] != ""
		case Greedy:
			ok = len(segments) > i+1 || segments[i] != ""
		}
		if !ok {
			return false
		}
	}
	return true
}

// variables are the values of the key's variables for a request that it
// matches; nil if it has none.
func (k RouteKey) variables(segments []string) map[string]string {
	var m map[string]string
	set := func(name, value string) {
		if m == nil {
			m = map[string]string{}
		}
		m[name] = value
	}
	for i, s := range k.Segments {
		switch s.Sort {
		case Variable:
			set(s.Text, segments[i])
		case Greedy:
			set(s.Text, strings.Join(segments[i:], "/"))
		}
	}
	return m
}

// segmentsOf splits an encoded path, and decodes its parts.
func segmentsOf(path string) []string {
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for i, p := range parts {
		if strings.IndexByte(p, '%') >= 0 {
			if decoded, err := url.PathUnescape(p); err == nil {
				parts[i] = decoded
			}
		}
	}
	return parts
}
