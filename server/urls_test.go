package server

import (
	"crypto/tls"
	"net/http"
	"testing"
)

func TestAClientIsToldTheHostThatItReached(t *testing.T) {
	for _, c := range []struct {
		host, proto string
		tls         bool
		want        string
	}{
		{"127.0.0.1:9070", "", false, ""},
		{"127.8.8.8", "", false, ""},
		{"[::1]:9070", "", false, ""},
		{"[::ffff:127.0.0.1]:9070", "", false, ""},
		{"localhost:9070", "", false, ""},
		{"abc.lambda-url.us-east-1.LOCALHOST.", "", false, ""},
		{"127.0.0.1:8443", "", true, "https://127.0.0.1:8443"},
		{"hearth.example.com", "", true, "https://hearth.example.com"},
		{"hearth.example.com", "https", false, "https://hearth.example.com"},
		{"hearth.example.com", "http", false, "http://hearth.example.com"},
		{"10.0.0.5:9070", "", false, "http://10.0.0.5:9070"},
		{"[2001:db8::1]:9070", "", false, "http://[2001:db8::1]:9070"},
		{"", "", false, ""},
	} {
		r := &http.Request{Host: c.host, Header: http.Header{}}
		if c.proto != "" {
			r.Header.Set("X-Forwarded-Proto", c.proto)
		}
		if c.tls {
			r.TLS = &tls.ConnectionState{}
		}
		if got := reached(r); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
	if got := reached(nil); got != "" {
		t.Errorf("of nobody: %q", got)
	}
}
