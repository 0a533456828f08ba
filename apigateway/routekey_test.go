package apigateway

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestRouteKeysThatCannotBeAreRefused(t *testing.T) {
	for _, key := range []string{
		"", "GET", "get /", "TRACE /", "GET pets", "GET /{a", "GET /x{a}", "GET /{a}x", "GET /{a+}/b", "GET /{}", "GET /{+}", "GET /{a}/{a}",
		"GET /{a b}", "GET /a?b", "GET /a#b", "GET /%zz", "$defaults", "GET /" + strings.Repeat("a", 1024),
	} {
		if k, err := ParseRouteKey(key); err == nil {
			t.Errorf("%q is taken for %v", key, k)
		}
	}
}

func FuzzRouteKey(f *testing.F) {
	for _, s := range []string{"GET /a/{b}/{c+}", "$default", "ANY /", "PUT /a%2Fb/%7Bx%7D", "GET //"} {
		f.Add(s, "/a/b/c")
	}
	f.Fuzz(func(t *testing.T, s, path string) {
		k, err := ParseRouteKey(s)
		if err != nil {
			return
		}
		again, err := ParseRouteKey(k.String())
		if err != nil || again.String() != k.String() || compareKeys(k, again) != 0 {
			t.Fatalf("%q is written %q, which is read as %v %v", s, k, again, err)
		}
		segments := segmentsOf("/" + strings.TrimPrefix(path, "/"))
		if k.match("GET", segments) {
			k.variables(segments) // must not panic
		}
	})
}

// wins is the order of precedence again, in the words of the service's
// documentation and without sorting: of two keys that match, which one is
// taken.
func wins(a, b RouteKey) bool {
	class := func(k RouteKey) int {
		switch {
		case k.Method == "":
			return 3
		case slices.ContainsFunc(k.Segments, func(s Segment) bool { return s.Sort == Greedy }):
			return 2
		}
		return 1
	}
	if class(a) != class(b) {
		return class(a) < class(b)
	}
	for i := 0; i < len(a.Segments) && i < len(b.Segments); i++ {
		if a.Segments[i].Sort != b.Segments[i].Sort {
			return a.Segments[i].Sort < b.Segments[i].Sort
		}
	}
	if len(a.Segments) != len(b.Segments) {
		return len(a.Segments) > len(b.Segments)
	}
	return a.Method != "ANY" && b.Method == "ANY"
}

// The route that is found matches, and no other that does is to be preferred.
func TestTheMostExactRouteIsTaken(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		segment := rapid.SampledFrom([]string{"a", "b", "{x}", "{y}"})
		st := &stage{}
		shapes := map[string]bool{}
		for range rapid.IntRange(0, 12).Draw(t, "routes") {
			text := defaultRoute
			if rapid.IntRange(0, 9).Draw(t, "sort") > 0 {
				parts := rapid.SliceOfNDistinct(segment, 0, 3, rapid.ID).Draw(t, "path")
				if rapid.Bool().Draw(t, "greedy") {
					parts = append(parts, "{rest+}")
				}
				text = rapid.SampledFrom([]string{"GET", "POST", "ANY"}).Draw(t, "method") + " /" + strings.Join(parts, "/")
			}
			k, err := ParseRouteKey(text)
			if err != nil {
				t.Fatal(err)
			}
			if !shapes[k.shape()] {
				shapes[k.shape()] = true
				st.routes = append(st.routes, &route{Route: &Route{Key: text}, key: k})
			}
		}
		slices.SortFunc(st.routes, func(a, b *route) int { return compareKeys(a.key, b.key) })
		method := rapid.SampledFrom([]string{"GET", "POST", "PUT"}).Draw(t, "asked")
		path := "/" + strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", ""}), 0, 4).Draw(t, "at"), "/")
		got, variables := st.find(method, path)
		var matching []*route
		for _, r := range st.routes {
			if r.key.match(method, segmentsOf(path)) {
				matching = append(matching, r)
			}
		}
		if got == nil {
			if len(matching) > 0 {
				t.Fatalf("%s %s finds nothing, though %s matches", method, path, matching[0].Key)
			}
			return
		}
		for _, r := range matching {
			if r != got && wins(r.key, got.key) {
				t.Fatalf("%s %s finds %s, though %s is more exact", method, path, got.Key, r.Key)
			}
		}
		// The variables put back give the path.
		back := ""
		for _, s := range got.key.Segments {
			if s.Sort == Literal {
				back += "/" + s.Text
			} else {
				back += "/" + variables[s.Text]
			}
		}
		if got.key.Method != "" && back != path {
			t.Fatalf("%s of %s is %v", path, got.Key, variables)
		}
	})
}

func TestRoutesArePreferredAsTheServiceDocumentsIt(t *testing.T) {
	w := newWorld(t)
	keys := []string{"GET /pets/dog/1", "GET /pets/dog/{id}", "GET /pets/{proxy+}", "ANY /{proxy+}", "$default"}
	id, _ := w.api("2.0", keys...)
	for request, want := range map[string]string{
		"GET /pets/dog/1": keys[0], "GET /pets/dog/2": keys[1], "GET /pets/cat/1": keys[2], "POST /test/5": keys[3], "GET /": keys[4],
		"GET /pets": keys[3], "GET /pets/": keys[3],
	} {
		method, path, _ := strings.Cut(request, " ")
		got := w.send(id, method, path, "")
		if e := decoded[struct{ RouteKey string }](t, got.body); e.RouteKey != want {
			t.Errorf("%s takes %s, not %s", request, e.RouteKey, want)
		}
	}
}
