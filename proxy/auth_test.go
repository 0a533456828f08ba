package proxy_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/hearth-faas/hearth/jwt/jwttest"
	"github.com/hearth-faas/hearth/proxy"
)

// jwtAPI is a definition for bearers of the issuer's tokens.
func jwtAPI(i *jwttest.Issuer, more string) string {
	return fmt.Sprintf(`{"id": "a", "type": "t", "methods": ["GET"], "path": "/t/{resource}", "function": "f",
		"auth": {"kind": "jwt", "issuer": %q, "audience": ["shop", "other"], "scopes": ["buy", "sell"]},
		"mapping": {"event": "{'who': request.claims.sub, 'caller': request.caller, 'admin': request.claims.admin, 'list': request.claims.list, 'scopes': request.scopes, 'headers': headers}"}%s}`, i.URL, more)
}

func TestBearersOfAnIssuersTokensAreLetIn(t *testing.T) {
	w, i := newWorld(t), jwttest.New(t)
	w.exec.function("f", echo)
	w.resource("r", "t", `{}`)
	w.api(jwtAPI(i, ""))
	k, now := i.Rotate("one", jose.ES256), time.Now()
	token := i.Token(k, i.Claims(now, nil))
	got := w.call("GET", "/t/r", "", "Authorization", "Bearer "+token)
	var event struct {
		Who, Caller string
		Admin       bool
		List        []any
		Scopes      []string
		Headers     map[string]string
	}
	if err := json.Unmarshal([]byte(got.body), &event); err != nil || got.status != 200 {
		t.Fatalf("%+v (%v)", got, err)
	}
	if event.Who != "me" || event.Caller != "jwt/me" || !event.Admin || len(event.List) != 2 || strings.Join(event.Scopes, " ") != "buy look" {
		t.Errorf("the claims that the function gets are %s", got.body)
	}
	if strings.Contains(got.body, token) {
		t.Error("the function gets the token")
	}
	if got := w.call("GET", "/t/r", "", "Authorization", "bearer "+i.Token(k, i.Claims(now, map[string]any{"aud": nil, "client_id": "other", "sub": nil, "scope": nil, "scp": []string{"sell"}, "admin": false}))); got.status != 400 {
		t.Errorf("an expression about a claim that there is not answers with %+v", got)
	}
	ran := w.exec.runs.Load()
	other := i.Rotate("one", jose.ES256)
	for what, x := range map[string]struct {
		token, challenge string
		status           int
	}{
		"no token":         {"", "Bearer", 401},
		"nonsense":         {"Bearer a.b.c", "invalid_token", 401},
		"a signature":      {"AWS4-HMAC-SHA256 Credential=AKIA/20260101/us-east-1/execute-api/aws4_request, SignedHeaders=host, Signature=0", "invalid_token", 401},
		"another key":      {"Bearer " + i.Token(other, i.Claims(now, nil)), "invalid_token", 401},
		"expired":          {"Bearer " + i.Token(k, i.Claims(now, map[string]any{"exp": now.Add(-2 * time.Minute).Unix()})), "expired", 401},
		"another audience": {"Bearer " + i.Token(k, i.Claims(now, map[string]any{"aud": "evil"})), "another audience", 401},
		"another issuer":   {"Bearer " + i.Token(k, i.Claims(now, map[string]any{"iss": "https://evil.example"})), "another issuer", 401},
		"no scope":         {"Bearer " + i.Token(k, i.Claims(now, map[string]any{"scope": "look"})), `scope="buy sell" error="insufficient_scope"`, 403},
		"unsigned":         {"Bearer " + jwttest.Unsigned(`{"alg":"none"}`, i.Claims(now, nil)), "invalid_token", 401},
	} {
		var header []string
		if x.token != "" {
			header = []string{"Authorization", x.token}
		}
		if got := w.call("GET", "/t/r", "", header...); got.status != x.status || !strings.Contains(got.header.Get("WWW-Authenticate"), x.challenge) {
			t.Errorf("%s: %+v", what, got)
		}
	}
	if w.exec.runs.Load() != ran {
		t.Error("the function ran for a token that is not taken")
	}
}

func TestTheKeysOfAnIssuerThatIsDownCantBeHad(t *testing.T) {
	w, i := newWorld(t), jwttest.New(t)
	w.resource("r", "t", `{}`)
	w.api(jwtAPI(i, ""))
	i.Down.Store(true)
	token := i.Token(i.Rotate("one", jose.ES256), i.Claims(time.Now(), nil))
	if got := w.call("GET", "/t/r", "", "Authorization", "Bearer "+token); got.status != 401 || !strings.Contains(got.body, "can't be had") {
		t.Errorf("%+v", got)
	}
}

// A response that was kept is for those alone whose tokens say the same.
func TestAResponseIsNotKeptForBearersOfOtherClaims(t *testing.T) {
	w, i := newWorld(t), jwttest.New(t)
	w.exec.function("f", echo)
	w.resource("r", "t", `{}`)
	w.api(jwtAPI(i, `, "cache": {"ttlMillis": 60000}`))
	k, now := i.Rotate("one", jose.ES256), time.Now()
	get := func(changed map[string]any, want string) {
		t.Helper()
		if got := w.call("GET", "/t/r", "", "Authorization", "Bearer "+i.Token(k, i.Claims(now, changed))); got.status != 200 || got.header.Get("X-Hearth-Cache") != want {
			t.Errorf("%+v, want a %s", got, want)
		}
	}
	get(nil, "miss")
	get(nil, "hit")
	get(map[string]any{"admin": false}, "miss")
	get(map[string]any{"sub": "you"}, "miss")
	get(nil, "hit")
}

func TestAnAcceptedCallIsRunWithTheClaimsThatItCameWith(t *testing.T) {
	w, i := newWorld(t), jwttest.New(t)
	w.exec.function("f", echo)
	w.resource("r", "t", `{}`)
	w.api(jwtAPI(i, `, "async": {"mode": "always"}`))
	token := "Bearer " + i.Token(i.Rotate("one", jose.ES256), i.Claims(time.Now(), nil))
	accepted := w.call("GET", "/t/r", "", "Authorization", token)
	at := accepted.header.Get("Location")
	if accepted.status != 202 || at == "" {
		t.Fatalf("%+v", accepted)
	}
	if got := w.call("GET", at, ""); got.status != 401 || got.header.Get("WWW-Authenticate") != "Bearer" {
		t.Errorf("who has no token fetches the result: %+v", got)
	}
	var got answer
	await(t, "there is a result", func() bool {
		got = w.call("GET", at, "", "Authorization", token)
		return got.status != 202
	})
	if got.status != 200 || !strings.Contains(got.body, `"who":"me"`) {
		t.Errorf("%+v", got)
	}
}

func TestTrustIsCheckedWhenItIsStored(t *testing.T) {
	w := newWorld(t)
	for auth, says := range map[string]string{
		`{"kind": "jwt"}`: "auth.issuer",
		`{"kind": "jwt", "issuer": "http://issuer.example", "audience": ["a"]}`:                    "auth.issuer",
		`{"kind": "jwt", "issuer": "https://issuer.example"}`:                                      "auth.audience",
		`{"kind": "jwt", "issuer": "https://issuer.example", "audience": ["a"], "scopes": ["\""]}`: "auth.scopes",
		`{"kind": "jwt", "issuer": "https://issuer.example", "audience": ["a"], "keys": ["k"]}`:    "auth.keys",
		`{"kind": "key", "audience": ["a"]}`:                                                       "only the kind jwt",
	} {
		a, err := proxy.DecodeAPI([]byte(`{"id": "a", "resource": "r", "methods": ["GET"], "path": "/a", "function": "f", "mapping": {}, "auth": ` + auth + `}`))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.svc.PutAPI(t.Context(), account, a); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %s", auth, err, says)
		}
	}
}

func TestATrialAssumesAToken(t *testing.T) {
	w, i := newWorld(t), jwttest.New(t)
	w.resource("r", "t", `{}`)
	w.api(jwtAPI(i, ""))
	w.api(`{"id": "open", "resource": "r", "methods": ["GET"], "path": "/open", "function": "f", "mapping": {}}`)
	got, err := w.svc.Try(t.Context(), account, &proxy.Trial{ID: "a", Method: "GET", Path: "/t/r", Claims: json.RawMessage(`{"sub": "ada", "admin": true, "list": [], "scope": "buy"}`)})
	if err != nil || !strings.Contains(string(got.Event), `"caller":"jwt/ada"`) || !strings.Contains(string(got.Event), `"scopes":["buy"]`) {
		t.Errorf("%+v (%v)", got, err)
	}
	if got, err := w.svc.Try(t.Context(), account, &proxy.Trial{ID: "a", Method: "GET", Path: "/t/r"}); err != nil || got.Fault != proxy.BadRequest {
		t.Errorf("without claims: %+v (%v)", got, err)
	}
	for _, x := range []proxy.Trial{{ID: "a", Claims: json.RawMessage(`[]`)}, {ID: "open", Claims: json.RawMessage(`{}`)}} {
		x.Method, x.Path = "GET", "/open"
		if _, err := w.svc.Try(t.Context(), account, &x); err == nil {
			t.Errorf("%s has the claims %s", x.ID, x.Claims)
		}
	}
}
