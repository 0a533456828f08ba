package proxy

import (
	"math"
	"strings"
	"testing"
)

func TestOnlyPublicAddressesAreCalledBack(t *testing.T) {
	for address, ok := range map[string]bool{
		"127.0.0.1:80": false, "[::1]:80": false, "10.1.2.3:80": false, "192.168.1.1:80": false, "172.16.0.1:1": false, "169.254.169.254:80": false,
		"0.0.0.0:80": false, "[::]:80": false, "100.64.0.1:80": false, "[fe80::1%eth0]:80": false, "[fd00::1]:80": false, "224.0.0.1:80": false,
		"[::ffff:127.0.0.1]:80": false, "255.255.255.255:80": false, "x": false, "93.184.216.34:443": true, "[2606:4700::1]:443": true,
	} {
		if why := RefusesInner(address); (why == "") != ok {
			t.Errorf("%s: %q", address, why)
		}
	}
}

func TestTemplatesTakePathsInOrder(t *testing.T) {
	var routes *routes
	byID := map[string]*compiled{}
	for _, text := range []string{"/", "/a", "/a/{x}", "/a/b", "/{x}/b", "/a/{rest+}", "/{x}", "/a/{x}/c"} {
		tpl, err := parseTemplate(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		byID[text] = &compiled{API: &API{ID: text, Methods: []string{"GET"}}, template: tpl}
	}
	routes = newRoutes(byID)
	for path, want := range map[string]string{
		"/": "/", "/a": "/a", "/a/": "/a", "/b": "/{x}", "/a/b": "/a/b", "/a/z": "/a/{x}", "/z/b": "/{x}/b", "/a/z/c": "/a/{x}/c", "/a/z/d": "/a/{rest+}", "/a/z/c/d": "/a/{rest+}",
		"/z/z": "", "/a%2Fb": "/{x}", "/%61/b": "/a/b",
	} {
		parts, ok := split(path)
		if !ok {
			t.Errorf("%s is no path", path)
		}
		c, _, _ := routes.find("GET", parts)
		got := ""
		if c != nil {
			got = c.ID
		}
		if got != want {
			t.Errorf("%s is for %q, want %q", path, got, want)
		}
	}
	for _, bad := range []string{"", "a", "//", "/a//b", "/{a}/{a}", "/{a+}/b", "/{}", "/{a", "/a}", "/{1}", "/../a", "/a?b", "/_calls", "/a b", "/" + strings.Repeat("a/", 33) + "a", "/" + strings.Repeat("a", 2050)} {
		if _, err := parseTemplate(bad); err == nil {
			t.Errorf("%.40q is a template", bad)
		}
	}
}

func FuzzTemplate(f *testing.F) {
	f.Add("/a/{x}/{rest+}", "/a/b%20c/d/e")
	f.Add("/", "/")
	f.Add("/{x}", "/%zz")
	f.Fuzz(func(t *testing.T, text, path string) {
		tpl, err := parseTemplate(text)
		if err != nil {
			return
		}
		if !tpl.clashes(tpl) || tpl.before(tpl) {
			t.Fatalf("%q does not clash with itself, or comes before itself", text)
		}
		parts, ok := split(path)
		if !ok {
			return
		}
		vars, ok := tpl.match(parts)
		if !ok {
			return
		}
		for _, s := range tpl.segments {
			if _, there := vars[s.variable]; s.variable != "" && !there {
				t.Fatalf("%q takes %q without %s", text, path, s.variable)
			}
		}
	})
}

func FuzzDefinition(f *testing.F) {
	f.Add([]byte(`{"id": "a", "type": "lamp", "methods": ["PUT"], "path": "/lamps/{resource}", "function": "lamp:live", "auth": {"kind": "key", "keys": ["k"]},
		"throttle": {"rate": 1, "burst": 2}, "async": {"mode": "asked", "callback": "query.?c"}, "mapping": {"require": [{"that": "true", "message": "m"}],
		"event": ["body.a", "+ 1"], "merge": "{'a': result}", "add": "{'/n': 1}", "status": "200", "errors": [{"on": "*", "type": "A*", "status": 500, "body": "error.type"}]}}`))
	f.Add([]byte(`{"id": "b", "resource": "r", "methods": ["GET"], "path": "/", "function": "arn:aws:lambda:us-east-1:111122223333:function:f", "cache": {"ttlMillis": 1, "key": "path"}, "mapping": {}, "auth": {"kind": ""}}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		a, err := DecodeAPI(doc)
		if err != nil {
			return
		}
		c, err := compile("111122223333", a)
		if err != nil {
			return
		}
		if c.template == nil || c.timeout <= 0 || len(a.Methods) == 0 || c.Auth.Kind == "" {
			t.Fatalf("%s is compiled to %+v", doc, c)
		}
	})
}

func TestSumsAreWholeNumbersWhileTheyCanBe(t *testing.T) {
	for _, c := range []struct{ a, b, want any }{
		{nil, int64(1), int64(1)}, {int64(2), int64(-3), int64(-1)}, {int64(1), 0.5, 1.5}, {int64(5), int64(0), int64(5)}, {int64(-1), int64(0), int64(-1)},
		{int64(math.MaxInt64), int64(1), float64(math.MaxInt64)}, {int64(math.MinInt64), int64(-1), float64(math.MinInt64)},
		{"x", int64(1), nil}, {math.MaxFloat64, math.MaxFloat64, nil},
	} {
		got, err := sum(c.a, c.b)
		if got != c.want || (err != nil) != (c.want == nil) {
			t.Errorf("%v + %v: %v %v, want %v", c.a, c.b, got, err, c.want)
		}
	}
}
