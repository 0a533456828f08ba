package gateway

import (
	"net/http"
	"testing"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/registry"
)

func TestAPreflightIsAnsweredInTheFunctionsPlace(t *testing.T) {
	yes, hour := true, 3600
	ask := func(c *registry.CORS, origin, headers string) (got, int) {
		// It needs no signature: browsers send none.
		w := newWorld(t, func(u *registry.URL) { u.CORS, u.AuthType = c, "AWS_IAM" })
		r := w.request("OPTIONS", "/x", "")
		r.Header.Set("Origin", origin)
		r.Header.Set("Access-Control-Request-Method", "PUT")
		if headers != "" {
			r.Header.Set("Access-Control-Request-Headers", headers)
		}
		return w.do(r), len(w.seen)
	}
	const page = "https://example.com"
	for _, c := range []struct {
		what   string
		cors   registry.CORS
		origin string
		want   map[string]string
	}{
		{"everybody", registry.CORS{AllowOrigins: []string{"*"}, AllowMethods: []string{"GET", "PUT"}, AllowHeaders: []string{"a", "b"}, MaxAge: &hour, ExposeHeaders: []string{"x"}}, page,
			map[string]string{"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Methods": "GET,PUT", "Access-Control-Allow-Headers": "a,b", "Access-Control-Max-Age": "3600"}},
		{"one origin", registry.CORS{AllowOrigins: []string{"http://a", page}, AllowMethods: []string{"*"}}, page,
			map[string]string{"Access-Control-Allow-Origin": page, "Access-Control-Allow-Methods": "*", "Vary": "Origin"}},
		{"everybody with credentials", registry.CORS{AllowOrigins: []string{"*"}, AllowMethods: []string{"*"}, AllowHeaders: []string{"*"}, AllowCredentials: &yes}, page,
			map[string]string{"Access-Control-Allow-Origin": page, "Access-Control-Allow-Methods": "PUT", "Access-Control-Allow-Headers": "x-a", "Access-Control-Allow-Credentials": "true", "Vary": "Origin"}},
		{"all of a scheme", registry.CORS{AllowOrigins: []string{"http://a", "HTTPS://*"}, AllowMethods: []string{"GET"}}, page,
			map[string]string{"Access-Control-Allow-Origin": page, "Access-Control-Allow-Methods": "GET", "Vary": "Origin"}},
		{"another scheme", registry.CORS{AllowOrigins: []string{"https://*"}, AllowMethods: []string{"GET"}}, "http://example.com",
			map[string]string{"Vary": "Origin"}},
		{"another origin", registry.CORS{AllowOrigins: []string{page}, AllowMethods: []string{"*"}}, "https://example.com.evil",
			map[string]string{"Vary": "Origin"}},
	} {
		g, called := ask(&c.cors, c.origin, "x-a")
		if g.status != 200 || g.body != "" || called != 0 {
			t.Errorf("%s: %+v", c.what, g)
		}
		for _, name := range append(corsHeaders, "Vary") {
			if g.header.Get(name) != c.want[name] {
				t.Errorf("%s: %s is %q, want %q", c.what, name, g.header.Get(name), c.want[name])
			}
		}
	}
	if g, _ := ask(nil, page, ""); g.status != 403 {
		t.Errorf("without CORS it is a request like others: %+v", g)
	}
}

func TestAnswersTellBrowsersWhoMaySeeThem(t *testing.T) {
	w := newWorld(t, func(u *registry.URL) {
		u.CORS = &registry.CORS{AllowOrigins: []string{"https://a"}, ExposeHeaders: []string{"x-b", "x-c"}}
	})
	ask := func(origin string) http.Header {
		r := w.request("GET", "/", "")
		if origin != "" {
			r.Header.Set("Origin", origin)
		}
		return w.do(r).header
	}
	w.answer = returns(`{"statusCode":200,"headers":{"access-control-allow-origin":"*","Vary":"Accept"},"body":"x"}`)
	if h := ask("https://a"); len(h["Access-Control-Allow-Origin"]) != 1 || h.Get("Access-Control-Allow-Origin") != "https://a" ||
		h.Get("Access-Control-Expose-Headers") != "x-b,x-c" || len(h["Vary"]) != 2 {
		t.Errorf("%v", h)
	}
	for _, origin := range []string{"", "https://b"} {
		if h := ask(origin); h["Access-Control-Allow-Origin"] != nil {
			t.Errorf("%q: %v", origin, h)
		}
	}
	w.answer = func(*hearth.Invocation) (*hearth.Result, error) {
		return &hearth.Result{FunctionError: "Unhandled"}, nil
	}
	if h := ask("https://a"); h.Get("Access-Control-Allow-Origin") != "https://a" {
		t.Errorf("of an error: %v", h)
	}
	own := newWorld(t, nil)
	own.answer = returns(`{"statusCode":200,"headers":{"access-control-allow-origin":"*"}}`)
	if g := own.get("/"); g.header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("a function that does it by itself: %+v", g)
	}
}
