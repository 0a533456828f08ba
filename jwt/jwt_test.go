package jwt

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/jwt/jwttest"
	"github.com/hearth-faas/hearth/outside"
)

func trust(i *jwttest.Issuer) Trust { return Trust{Audience: []string{"shop"}, Issuer: i.URL} }

func TestKeysAreAskedForWhenTheyAreNewAndNotForEachToken(t *testing.T) {
	i, now := jwttest.New(t), clock.NewFake(time.Unix(1700000000, 0))
	x := NewIssuers(now, http.DefaultClient)
	one := i.Rotate("one", jose.ES256)
	token := func(k jose.JSONWebKey) string { return i.Token(k, i.Claims(now.Now(), nil)) }
	try := func(x *Issuers, token string, good bool) {
		t.Helper()
		if got, err := x.Verify(t.Context(), trust(i), token); (err == nil) != good {
			t.Errorf("%+v, %v", got, err)
		}
	}
	asked := func(want int64) {
		t.Helper()
		if n := i.Asked.Load(); n != want {
			t.Errorf("the keys were asked for %d times, not %d", n, want)
		}
	}
	var group sync.WaitGroup
	first := token(one)
	for range 8 {
		group.Go(func() { try(x, first, true) })
	}
	group.Wait()
	asked(1)
	two := i.Rotate("two", jose.ES256)
	try(x, token(two), false) // it was asked a moment ago
	asked(1)
	now.Advance(keysAgain)
	try(x, token(two), true)
	asked(2)
	try(x, token(one), false) // it is gone
	// An issuer that is down does not keep out those whose keys are known.
	i.Down.Store(true)
	now.Advance(keysLife)
	try(x, token(two), true)
	// One that was never asked does.
	x = NewIssuers(now, http.DefaultClient)
	try(x, token(two), false)
	i.Down.Store(false)
	now.Advance(keysAgain)
	try(x, token(two), true)
}

func TestIssuersThatMayNotBeCalledAreNot(t *testing.T) {
	for _, url := range []string{"http://issuer.example", "ftp://issuer.example", "https://", "https://u:p@issuer.example", "https://issuer.example?x", "http://169.254.169.254", "issuer.example", "http://localhost.evil.example"} {
		if CheckIssuer(url) == nil {
			t.Errorf("%s is taken for an issuer", url)
		}
	}
	for _, url := range []string{"https://issuer.example/tenant", "http://127.0.0.1:80", "http://localhost", "http://[::1]:1"} {
		if err := CheckIssuer(url); err != nil {
			t.Error(err)
		}
	}
	if checkKeysURL("https://a.example", "http://127.0.0.1/keys") == nil || checkKeysURL("http://127.0.0.1", "http://10.0.0.1/keys") == nil || checkKeysURL("https://a.example", "https://b.example/keys") != nil {
		t.Error("keys are taken from where they should not, or not from where they should")
	}
	i, now := jwttest.New(t), clock.System()
	k := i.Rotate("one", jose.ES256)
	x := NewIssuers(now, outside.NewClient(outside.Refuses))
	if got, err := x.Verify(t.Context(), trust(i), i.Token(k, i.Claims(now.Now(), nil))); !errors.Is(err, outside.ErrAddress) || i.Asked.Load() != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestATokenComesWithItsSchemeOrWithout(t *testing.T) {
	for text, want := range map[string]string{"Bearer a.b.c": "a.b.c", " bearer  a.b.c ": "a.b.c", "a.b.c": "a.b.c", "Bearer": "", "Bearer ": "", "": ""} {
		if got := Bearer(text); got != want {
			t.Errorf("%q is the token %q", text, got)
		}
	}
}

// FuzzVerify: whatever is sent as a token is refused as a bad token, unless an
// issuer would have to be asked.
func FuzzVerify(f *testing.F) {
	f.Add(jwttest.Unsigned(`{"alg":"RS256","kid":"a"}`, map[string]any{"iss": "https://issuer.example", "aud": "shop", "exp": 1e11}))
	f.Add(jwttest.Unsigned(`{"alg":"ES256","crit":["b64"],"b64":false}`, map[string]any{"iss": 1}))
	f.Add("..")
	x := NewIssuers(clock.NewFake(time.Unix(1700000000, 0)), outside.NewClient(func(netip.AddrPort) string { return "no" }))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	f.Fuzz(func(t *testing.T, token string) {
		got, err := x.Verify(ctx, Trust{Audience: []string{"shop"}, Issuer: "https://issuer.example"}, token)
		if _, bad := errors.AsType[BadToken](err); got != nil || !bad && !errors.Is(err, context.Canceled) && !errors.Is(err, outside.ErrAddress) && !strings.Contains(err.Error(), "issuer.example") {
			t.Fatalf("%q: %+v %v", token, got, err)
		}
	})
}

// BenchmarkVerify is a token whose issuer's keys are known.
func BenchmarkVerify(b *testing.B) {
	for _, alg := range []jose.SignatureAlgorithm{jose.RS256, jose.ES256} {
		b.Run(string(alg), func(b *testing.B) {
			i, now := jwttest.New(b), clock.System()
			k := i.Rotate("one", alg)
			token, x := i.Token(k, i.Claims(now.Now(), nil)), NewIssuers(now, http.DefaultClient)
			for b.Loop() {
				if _, err := x.Verify(b.Context(), trust(i), token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
