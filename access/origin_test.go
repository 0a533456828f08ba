package access_test

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/access"
)

func TestARequestsOriginIsReadFromWhatTheServerSawItself(t *testing.T) {
	for what, c := range map[string]struct {
		remote string
		tls    bool
		of     func(*http.Request) access.Origin
		want   access.Origin
	}{
		"plain":                    {"192.0.2.1:40", false, access.FromNetwork, access.Origin{IP: "192.0.2.1"}},
		"TLS":                      {"[2001:db8::1]:40", true, access.FromNetwork, access.Origin{IP: "2001:db8::1", Secure: true}},
		"of no network":            {"@", false, access.FromNetwork, access.Origin{}},
		"a name in place of an IP": {"s-1:40", false, access.FromNetwork, access.Origin{}},
		"code in a sandbox":        {"s-1:40", false, access.FromCode, access.Origin{Secure: true}},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr, r.TLS = c.remote, nil
		if c.tls {
			r.TLS = &tls.ConnectionState{}
		}
		r.Header.Set("User-Agent", "agent")
		r.Header.Set("Referer", "http://before/")
		// Anybody may say these.
		r.Header.Set("X-Forwarded-Proto", "https")
		r.Header.Set("X-Forwarded-For", "10.0.0.1")
		c.want.UserAgent, c.want.Referer = "agent", "http://before/"
		if got := c.of(r); got != c.want {
			t.Errorf("%s: %+v", what, got)
		}
	}
}

// Of what a context does not say how it came, nothing holds that would let it in.
func TestConditionsAskHowARequestCame(t *testing.T) {
	w := newWorld(t, false)
	const allow = `{"Effect":"Allow","Action":"*","Resource":"*"}`
	unless := func(name, condition string) hearth.Identity {
		return w.user(us, name, doc(allow, `{"Effect":"Deny","Action":"*","Resource":"*","Condition":`+condition+`}`))
	}
	bySecure := unless("secure", `{"Bool":{"aws:SecureTransport":"false"}}`)
	byIP := unless("ip", `{"NotIpAddress":{"aws:SourceIp":"192.0.2.0/24"}}`)
	byAgent := unless("agent", `{"StringNotLike":{"aws:UserAgent":"aws-cli/*"}}`)
	byReferer := w.user(us, "referer", doc(`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:Referer":"http://before/"}}}`))
	bare := context.Background()
	came := func(o access.Origin) context.Context { return access.Arrived(bare, o) }
	for _, c := range []struct {
		what string
		who  hearth.Identity
		ctx  context.Context
		want bool
	}{
		{"by TLS", bySecure, came(access.Origin{Secure: true}), true},
		{"in plain text", bySecure, came(access.Origin{IP: "192.0.2.7"}), false},
		{"inside", bySecure, came(access.Inside), true},
		{"nobody knows how", bySecure, bare, false},
		{"from near", byIP, came(access.Origin{IP: "192.0.2.7"}), true},
		{"from far", byIP, came(access.Origin{IP: "198.51.100.7", Secure: true}), false},
		{"from nowhere", byIP, came(access.Inside), false},
		{"of the agent", byAgent, came(access.Origin{UserAgent: "aws-cli/2"}), true},
		{"of another agent", byAgent, came(access.Origin{UserAgent: "curl/8"}), false},
		{"from that page", byReferer, came(access.Origin{Referer: "http://before/"}), true},
		{"from no page", byReferer, came(access.Origin{}), false},
	} {
		if v := w.judge.Judge(c.ctx, &access.Request{Caller: c.who, Action: invoke, Resource: fn}); v.Allowed != c.want {
			t.Errorf("%s: %v: %s", c.what, v.Allowed, v.Why)
		}
	}
}

// A service calls from inside, also when it does so for a request that came in
// plain text; where that came from is not asked about it.
func TestAServiceCallsFromInside(t *testing.T) {
	w := newWorld(t, false)
	ctx := access.Arrived(context.Background(), access.Origin{IP: "192.0.2.7"})
	r := &access.Request{Caller: hearth.Identity{Service: "events.amazonaws.com"}, Action: invoke, Resource: fn, Account: us}
	for condition, want := range map[string]bool{
		`{"Bool":{"aws:SecureTransport":"true"}}`:             true,
		`{"IpAddress":{"aws:SourceIp":"192.0.2.0/24"}}`:       false,
		`{"StringEquals":{"aws:PrincipalType":"AWSService"}}`: true,
	} {
		r.Policy = parse(t, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"events.amazonaws.com"},"Action":"*","Resource":"*","Condition":`+condition+`}]}`)
		if v := w.judge.Judge(ctx, r); v.Allowed != want {
			t.Errorf("%s: %v: %s", condition, v.Allowed, v.Why)
		}
	}
}

// Whatever is served behind Noting is judged by how its request came.
func TestNotingSaysHowRequestsCame(t *testing.T) {
	got := make(chan map[string][]string, 1)
	h := access.Noting(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got <- access.ContextOf(r.Context(), hearth.Identity{}, now, "us-east-1")
	}), access.FromNetwork)
	for secure, start := range map[string]func(http.Handler) *httptest.Server{"false": httptest.NewServer, "true": httptest.NewTLSServer} {
		s := start(h)
		resp, err := s.Client().Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		s.Close()
		c := <-got
		for key, want := range map[string]string{
			"aws:securetransport": secure, "aws:sourceip": "127.0.0.1", "aws:useragent": "Go-http-client/1.1",
			"aws:currenttime": "2030-01-02T03:04:05Z", "aws:epochtime": "1893553445",
		} {
			if len(c[key]) != 1 || c[key][0] != want {
				t.Errorf("by TLS %s: %s is %v and not %s", secure, key, c[key], want)
			}
		}
	}
}
