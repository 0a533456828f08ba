package door

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
)

func TestAClientIsWhoAskedTheTrustedProxies(t *testing.T) {
	networks := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("2001:db8:f::/64")}
	type header map[string][]string
	for name, c := range map[string]struct {
		standard   bool
		peer       string
		tls        bool
		header     header
		wantAddr   string
		wantSecure bool
		wantLeft   string // of the header that is read
	}{
		"a proxy by TLS":               {peer: "10.0.0.1:5", header: header{"X-Forwarded-For": {"192.0.2.7"}, "X-Forwarded-Proto": {"https"}}, wantAddr: "192.0.2.7:0", wantSecure: true},
		"a proxy in plain text":        {peer: "10.0.0.1:5", header: header{"X-Forwarded-For": {"192.0.2.7"}, "X-Forwarded-Proto": {"http"}}, wantAddr: "192.0.2.7:0"},
		"a WebSocket":                  {peer: "10.0.0.1:5", header: header{"X-Forwarded-For": {"192.0.2.7"}, "X-Forwarded-Proto": {"wss"}}, wantAddr: "192.0.2.7:0", wantSecure: true},
		"nothing said of how":          {peer: "10.0.0.1:5", header: header{"X-Forwarded-For": {"192.0.2.7"}}, wantAddr: "192.0.2.7:0"},
		"nor by a proxy that came so":  {peer: "10.0.0.1:5", tls: true, header: header{"X-Forwarded-For": {"192.0.2.7"}}, wantAddr: "192.0.2.7:0"},
		"a plain hop behind it":        {peer: "10.0.0.1:5", tls: true, header: header{"X-Forwarded-For": {"192.0.2.7"}, "X-Forwarded-Proto": {"http"}}, wantAddr: "192.0.2.7:0"},
		"one of two hops plain":        {peer: "10.0.0.1:5", header: header{"X-Forwarded-For": {"192.0.2.7, 10.0.0.2"}, "X-Forwarded-Proto": {"https, http"}}, wantAddr: "192.0.2.7:0"},
		"a stranger's words":           {peer: "192.0.2.9:5", header: header{"X-Forwarded-For": {"10.0.0.1"}, "X-Forwarded-Proto": {"https"}}, wantAddr: "192.0.2.9:5", wantLeft: "10.0.0.1"},
		"a stranger under TLS":         {peer: "192.0.2.9:5", tls: true, header: header{"X-Forwarded-For": {"10.0.0.1"}}, wantAddr: "192.0.2.9:5", wantSecure: true, wantLeft: "10.0.0.1"},
		"what the client made up":      {peer: "10.0.0.1:5", header: header{"X-Forwarded-For": {"127.0.0.1, 10.0.0.9, 192.0.2.7"}, "X-Forwarded-Proto": {"https"}}, wantAddr: "192.0.2.7:0", wantSecure: true, wantLeft: "127.0.0.1, 10.0.0.9"},
		"through two proxies":          {peer: "10.0.0.1:5", header: header{"X-Forwarded-For": {"127.0.0.1", "192.0.2.7,10.0.0.2"}, "X-Forwarded-Proto": {"https"}}, wantAddr: "192.0.2.7:0", wantSecure: true, wantLeft: "127.0.0.1"},
		"by trusted ones alone":        {peer: "10.0.0.1:5", header: header{"X-Forwarded-For": {"10.0.0.3, 10.0.0.2"}}, wantAddr: "10.0.0.3:0"},
		"the proxy itself":             {peer: "10.0.0.1:5", tls: true, wantAddr: "10.0.0.1:5", wantSecure: true},
		"what can't be read":           {peer: "10.0.0.1:5", header: header{"X-Forwarded-For": {"192.0.2.7, unknown"}}, wantAddr: "10.0.0.1:5", wantLeft: "192.0.2.7, unknown"},
		"what can't be read, then":     {peer: "10.0.0.1:5", header: header{"X-Forwarded-For": {"unknown, 10.0.0.2"}}, wantAddr: "10.0.0.2:0", wantLeft: "unknown"},
		"with ports":                   {peer: "10.0.0.1:5", header: header{"X-Forwarded-For": {"192.0.2.7:99"}}, wantAddr: "192.0.2.7:0"},
		"IPv6":                         {peer: "[2001:db8:f::1]:5", header: header{"X-Forwarded-For": {"2001:db8::7"}}, wantAddr: "[2001:db8::7]:0"},
		"IPv6 with a port":             {peer: "[2001:db8:f::1]:5", header: header{"X-Forwarded-For": {"[2001:db8::7]:99"}}, wantAddr: "[2001:db8::7]:0"},
		"IPv4 in IPv6":                 {peer: "[::ffff:10.0.0.1]:5", header: header{"X-Forwarded-For": {"::ffff:192.0.2.7"}}, wantAddr: "192.0.2.7:0"},
		"the header that is not read":  {peer: "10.0.0.1:5", header: header{"Forwarded": {"for=192.0.2.8;proto=https"}}, wantAddr: "10.0.0.1:5"},
		"the standard":                 {standard: true, peer: "10.0.0.1:5", header: header{"Forwarded": {"for=192.0.2.7;proto=https;by=10.0.0.1"}}, wantAddr: "192.0.2.7:0", wantSecure: true},
		"the standard in plain text":   {standard: true, peer: "10.0.0.1:5", tls: true, header: header{"Forwarded": {"For=192.0.2.7"}}, wantAddr: "192.0.2.7:0"},
		"the standard, quoted":         {standard: true, peer: "10.0.0.1:5", header: header{"Forwarded": {`proto="HTTPS";host="a,b;c";for="[2001:db8::7]:99"`}}, wantAddr: "[2001:db8::7]:0", wantSecure: true},
		"the standard, hidden":         {standard: true, peer: "10.0.0.1:5", header: header{"Forwarded": {"for=192.0.2.7, for=_hidden;proto=https"}}, wantAddr: "10.0.0.1:5", wantLeft: "for=192.0.2.7, for=_hidden;proto=https"},
		"the standard, two proxies":    {standard: true, peer: "10.0.0.1:5", header: header{"Forwarded": {"for=127.0.0.1;proto=https", "for=192.0.2.7;proto=https, for=10.0.0.2;proto=https"}}, wantAddr: "192.0.2.7:0", wantSecure: true, wantLeft: "for=127.0.0.1;proto=https"},
		"the standard, one hop plain":  {standard: true, peer: "10.0.0.1:5", header: header{"Forwarded": {"for=192.0.2.7;proto=http, for=10.0.0.2;proto=https"}}, wantAddr: "192.0.2.7:0"},
		"and not the other":            {standard: true, peer: "10.0.0.1:5", header: header{"X-Forwarded-Proto": {"https"}, "Forwarded": {"for=192.0.2.7;proto=http"}}, wantAddr: "192.0.2.7:0"},
		"the standard from a stranger": {standard: true, peer: "192.0.2.9:5", header: header{"Forwarded": {"for=10.0.0.1;proto=https"}}, wantAddr: "192.0.2.9:5", wantLeft: "for=10.0.0.1;proto=https"},
	} {
		var got *http.Request
		h := (&Proxies{Networks: networks, Standard: c.standard}).Over(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r }))
		r := httptest.NewRequest("GET", "http://hearth.example/", nil)
		r.RemoteAddr = c.peer
		if c.tls {
			r.TLS = &tls.ConnectionState{}
		}
		for k, v := range c.header {
			r.Header[k] = v
		}
		sent := r.Header.Clone()
		h.ServeHTTP(httptest.NewRecorder(), r)
		read := forwardedFor
		if c.standard {
			read = forwarded
		}
		if got.RemoteAddr != c.wantAddr || got.TLS != nil != c.wantSecure || got.Header.Get(read) != c.wantLeft {
			t.Errorf("%s: from %s, by TLS %v, with %q left; and not %s, %v, %q", name, got.RemoteAddr, got.TLS != nil, got.Header.Get(read), c.wantAddr, c.wantSecure, c.wantLeft)
		}
		if got.Header.Get(forwardedProto) != "" {
			t.Errorf("%s: %s is left, and would be believed", name, forwardedProto)
		}
		if len(r.Header) != len(sent) {
			t.Errorf("%s: the request that came was changed", name)
		}
	}
}

func TestWithoutTrustedProxiesNothingIsInTheWay(t *testing.T) {
	r := httptest.NewRequest("GET", "http://hearth.example/", nil)
	r.Header.Set(forwardedFor, "192.0.2.7")
	var got *http.Request
	new(Proxies).Over(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r })).ServeHTTP(httptest.NewRecorder(), r)
	if got != r {
		t.Error("the request is another one")
	}
}

func FuzzForwarded(f *testing.F) {
	for _, s := range []string{"192.0.2.7, 10.0.0.2", `for="[2001:db8::7]:99";proto=https, for=10.0.0.2`, `for="\"`, `;;,,"=`, `for="x\`} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, text string, standard bool) {
		p := &Proxies{Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}, Standard: standard}
		var got *http.Request
		h := p.Over(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r }))
		name, last := forwardedFor, "198.51.100.3"
		if standard {
			name, last = forwarded, "for=198.51.100.3"
		}
		r := httptest.NewRequest("GET", "http://hearth.example/", nil)
		r.RemoteAddr = "10.0.0.1:5"
		// What the client writes is before what the proxy does, on a line of its own
		// or, as most do it, the same one.
		for _, lines := range [][]string{{text, last}, {text + ", " + last}} {
			r.Header[name] = lines
			h.ServeHTTP(httptest.NewRecorder(), r)
			if got.RemoteAddr != "198.51.100.3:0" {
				t.Errorf("%q makes the client %s", lines, got.RemoteAddr)
			}
		}
	})
}
