package apigateway

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	hearth "github.com/hearth-faas/hearth"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/go-jose/go-jose/v4"
)

// issuer issues tokens, and publishes its keys.
type testIssuer struct {
	t     testing.TB
	url   string
	asked atomic.Int64 // for keys
	down  atomic.Bool

	mu   sync.Mutex
	keys []jose.JSONWebKey
}

func newIssuer(t testing.TB) *testIssuer {
	i := &testIssuer{t: t}
	s := httptest.NewServer(i)
	t.Cleanup(s.Close)
	i.url = s.URL
	return i
}

func (i *testIssuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var answer any = map[string]string{"issuer": i.url, "jwks_uri": i.url + "/keys"}
	if r.URL.Path == "/keys" {
		i.asked.Add(1)
		i.mu.Lock()
		set := jose.JSONWebKeySet{}
		for _, k := range i.keys {
			set.Keys = append(set.Keys, k.Public())
		}
		i.mu.Unlock()
		answer = set
	}
	if i.down.Load() {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		i.t.Error(err)
	}
}

// rotate makes a key, in place of those that there are.
func (i *testIssuer) rotate(kid string, alg jose.SignatureAlgorithm) jose.JSONWebKey {
	i.t.Helper()
	var key any
	var err error
	if strings.HasPrefix(string(alg), "ES") {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	} else {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		i.t.Fatal(err)
	}
	k := jose.JSONWebKey{Key: key, KeyID: kid, Algorithm: string(alg), Use: "sig"}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = []jose.JSONWebKey{k}
	return k
}

// token is one of the claims, signed by the key.
func (i *testIssuer) token(k jose.JSONWebKey, claims map[string]any) string {
	i.t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(k.Algorithm), Key: k}, nil)
	if err != nil {
		i.t.Fatal(err)
	}
	b, err := json.Marshal(claims)
	if err != nil {
		i.t.Fatal(err)
	}
	signed, err := s.Sign(b)
	if err != nil {
		i.t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		i.t.Fatal(err)
	}
	return text
}

// claims are good ones, with some changed; nil removes.
func (i *testIssuer) claims(now time.Time, changed map[string]any) map[string]any {
	m := map[string]any{"iss": i.url, "aud": "shop", "sub": "me", "exp": now.Add(time.Hour).Unix(), "iat": now.Unix(), "scope": "buy look", "list": []any{"a", 1}, "admin": true}
	for k, v := range changed {
		if m[k] = v; v == nil {
			delete(m, k)
		}
	}
	return m
}

// jwtAPI is an API whose route needs a token of the issuer.
func (w *world) jwtAPI(i *testIssuer, scopes ...string) string {
	w.t.Helper()
	id, integration := w.api("2.0")
	a, err := w.PutAuthorizer(context.Background(), owner, id, "", func(a *Authorizer) error {
		a.Name, a.Type, a.IdentitySource = "jwt", "JWT", []string{"$request.header.Authorization"}
		a.JWT = &JWT{Audience: []string{"shop", "other"}, Issuer: i.url}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.route(id, integration, "GET /", func(r *Route) { r.Authorization, r.AuthorizerID, r.Scopes = "JWT", a.ID, scopes })
	return id
}

func TestTokensAreTakenThatTheIssuerHasSigned(t *testing.T) {
	for _, alg := range []jose.SignatureAlgorithm{jose.RS256, jose.ES256} {
		t.Run(string(alg), func(t *testing.T) {
			w, i := newWorld(t), newIssuer(t)
			k := i.rotate("one", alg)
			id, scoped := w.jwtAPI(i), w.jwtAPI(i, "buy", "sell")
			now := w.clock.Now()
			try := func(id, token string) response { return w.send(id, "GET", "/", "", "Authorization", token) }
			got := try(id, "Bearer "+i.token(k, i.claims(now, nil)))
			if got.status != 200 {
				t.Fatalf("%+v", got)
			}
			var e events.APIGatewayV2HTTPRequest
			if err := json.Unmarshal(w.last().Payload, &e); err != nil {
				t.Fatal(err)
			}
			if j := e.RequestContext.Authorizer.JWT; j.Claims["sub"] != "me" || j.Claims["list"] != "[a 1]" || j.Claims["admin"] != "true" || j.Scopes != nil {
				t.Errorf("%+v", j)
			}
			if got := try(scoped, i.token(k, i.claims(now, nil))); got.status != 200 {
				t.Errorf("with a scope, without Bearer: %+v", got)
			}
			if err := json.Unmarshal(w.last().Payload, &e); err != nil {
				t.Fatal(err)
			}
			if s := e.RequestContext.Authorizer.JWT.Scopes; len(s) != 1 || s[0] != "buy" {
				t.Errorf("scopes %v", s)
			}
			ran := w.ran()
			other := i.rotate("one", alg) // which the server does not know
			for what, x := range map[string]struct {
				id, token string
				status    int
			}{
				"no token":         {id, "", 401},
				"nonsense":         {id, "Bearer a.b.c", 401},
				"too long":         {id, "Bearer " + strings.Repeat("a", maxToken+1), 401},
				"another key":      {id, i.token(other, i.claims(now, nil)), 401},
				"expired":          {id, i.token(k, i.claims(now, map[string]any{"exp": now.Add(-skew).Unix()})), 401},
				"no exp":           {id, i.token(k, i.claims(now, map[string]any{"exp": nil})), 401},
				"not yet":          {id, i.token(k, i.claims(now, map[string]any{"nbf": now.Add(skew + time.Second).Unix()})), 401},
				"of the future":    {id, i.token(k, i.claims(now, map[string]any{"iat": now.Add(time.Hour).Unix()})), 401},
				"another issuer":   {id, i.token(k, i.claims(now, map[string]any{"iss": "https://evil.example"})), 401},
				"another audience": {id, i.token(k, i.claims(now, map[string]any{"aud": []string{"evil"}})), 401},
				"no audience":      {id, i.token(k, i.claims(now, map[string]any{"aud": nil})), 401},
				"no scope":         {scoped, i.token(k, i.claims(now, map[string]any{"scope": "look"})), 403},
				"exp as text":      {id, i.token(k, i.claims(now, map[string]any{"exp": "soon"})), 401},
				"none":             {id, unsigned(`{"alg":"none"}`, i.claims(now, nil)), 401},
				"a shared secret":  {id, unsigned(`{"alg":"HS256","kid":"one"}`, i.claims(now, nil)), 401},
			} {
				got := try(x.id, x.token)
				if got.status != x.status || !strings.HasPrefix(got.header.Get("Www-Authenticate"), "Bearer") {
					t.Errorf("%s: %+v", what, got)
				}
			}
			if w.ran() != ran {
				t.Errorf("the function ran for a token that is not taken")
			}
			for what, c := range map[string]map[string]any{
				"a clock that is behind": {"exp": now.Add(-skew + time.Second).Unix()},
				"a clock that is ahead":  {"nbf": now.Add(skew).Unix(), "iat": now.Add(skew).Unix()},
				"a client":               {"aud": nil, "client_id": "other"},
				"several audiences":      {"aud": []string{"evil", "other"}},
				"scp":                    {"scope": nil, "scp": []string{"buy"}},
			} {
				if got := try(scoped, i.token(k, i.claims(now, c))); got.status != 200 {
					t.Errorf("%s: %+v", what, got)
				}
			}
		})
	}
}

// unsigned is a token that nobody has signed.
func unsigned(header string, claims map[string]any) string {
	b, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(header)) + "." + enc(b) + "." + enc([]byte("x"))
}

func TestKeysAreAskedForWhenTheyAreNewAndNotForEachToken(t *testing.T) {
	w, i := newWorld(t), newIssuer(t)
	one := i.rotate("one", jose.ES256)
	id := w.jwtAPI(i)
	try := func(token string, want int) {
		t.Helper()
		if got := w.send(id, "GET", "/", "", "Authorization", token); got.status != want {
			t.Errorf("%+v", got)
		}
	}
	asked := func(want int64) {
		t.Helper()
		if n := i.asked.Load(); n != want {
			t.Errorf("the keys were asked for %d times, not %d", n, want)
		}
	}
	claims := func() map[string]any { return i.claims(w.clock.Now(), nil) }
	var group sync.WaitGroup
	token := i.token(one, claims())
	for range 8 {
		group.Go(func() { try(token, 200) })
	}
	group.Wait()
	asked(1)
	two := i.rotate("two", jose.ES256)
	try(i.token(two, claims()), 401) // it was asked a moment ago
	asked(1)
	w.clock.Advance(keysAgain)
	try(i.token(two, claims()), 200)
	asked(2)
	try(i.token(one, claims()), 401) // it is gone
	// An issuer that is down does not keep out those whose keys are known.
	i.down.Store(true)
	w.clock.Advance(keysLife)
	try(i.token(two, claims()), 200)
	// One that was never asked does.
	w.issuers.init(w.Service)
	try(i.token(two, claims()), 401)
	i.down.Store(false)
	w.clock.Advance(keysAgain)
	try(i.token(two, claims()), 200)
}

func TestIssuersThatMayNotBeCalledAreNot(t *testing.T) {
	for _, url := range []string{"http://issuer.example", "ftp://issuer.example", "https://", "https://u:p@issuer.example", "https://issuer.example?x", "http://169.254.169.254", "issuer.example", "http://localhost.evil.example"} {
		if checkIssuer(url) == nil {
			t.Errorf("%s is taken for an issuer", url)
		}
	}
	for _, url := range []string{"https://issuer.example/tenant", "http://127.0.0.1:80", "http://localhost", "http://[::1]:1"} {
		if err := checkIssuer(url); err != nil {
			t.Error(err)
		}
	}
	if checkKeysURL("https://a.example", "http://127.0.0.1/keys") == nil || checkKeysURL("http://127.0.0.1", "http://10.0.0.1/keys") == nil || checkKeysURL("https://a.example", "https://b.example/keys") != nil {
		t.Error("keys are taken from where they should not, or not from where they should")
	}
	w, i := newWorld(t), newIssuer(t)
	w.client = newClient(func(netip.AddrPort) string { return "no" })
	k := i.rotate("one", jose.ES256)
	if got := w.send(w.jwtAPI(i), "GET", "/", "", "Authorization", i.token(k, i.claims(w.clock.Now(), nil))); got.status != 401 || i.asked.Load() != 0 {
		t.Errorf("%+v", got)
	}
}

// FuzzToken: whatever is sent as a token is refused as a bad token, unless an
// issuer would have to be asked.
func FuzzToken(f *testing.F) {
	f.Add(unsigned(`{"alg":"RS256","kid":"a"}`, map[string]any{"iss": "https://issuer.example", "aud": "shop", "exp": 1e11}))
	f.Add(unsigned(`{"alg":"ES256","crit":["b64"],"b64":false}`, map[string]any{"iss": 1}))
	f.Add("..")
	w := newWorld(f)
	w.client = newClient(func(netip.AddrPort) string { return "no" })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	f.Fuzz(func(t *testing.T, token string) {
		j, err := w.issuers.verify(ctx, &JWT{Audience: []string{"shop"}, Issuer: "https://issuer.example"}, token, time.Unix(1700000000, 0))
		if _, bad := errors.AsType[badToken](err); j != nil || !bad && !errors.Is(err, context.Canceled) && !errors.Is(err, errAddress) && !strings.Contains(err.Error(), "issuer.example") {
			t.Fatalf("%q: %+v %v", token, j, err)
		}
	})
}

// asked is an API whose route asks a function.
func (w *world) askedAPI(change func(*Authorizer)) (id, authorizer string) {
	w.t.Helper()
	id, integration := w.api("2.0")
	a, err := w.PutAuthorizer(context.Background(), owner, id, "", func(a *Authorizer) error {
		a.Name, a.Type, a.IdentitySource, a.PayloadFormat, a.Simple = "asked", "REQUEST", []string{"$request.header.X-Key"}, "2.0", true
		a.URI = "arn:aws:lambda:us-east-1:111122223333:function:judge"
		change(a)
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, key := range []string{"GET /a", "GET /b"} {
		w.route(id, integration, key, func(r *Route) { r.Authorization, r.AuthorizerID = "CUSTOM", a.ID })
	}
	return id, a.ID
}

// judges has the function judge return what it is given, and counts.
func (w *world) judges(judgement string) *atomic.Int64 {
	asked := new(atomic.Int64)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.run = func(inv *hearth.Invocation) (*hearth.Result, error) {
		if inv.Name != "judge" {
			return &hearth.Result{Payload: inv.Payload}, nil
		}
		asked.Add(1)
		return &hearth.Result{Payload: []byte(judgement)}, nil
	}
	return asked
}

func TestAFunctionSaysWhoMayCall(t *testing.T) {
	allow := `{"principalId":"me","policyDocument":{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"execute-api:Invoke","Resource":"arn:aws:execute-api:us-east-1:111122223333:*/$default/GET/a"}]},"context":{"n":1}}`
	for _, x := range []struct {
		format           string
		simple           bool
		said             string
		a, b             int // statuses
		source, question string
	}{
		{"2.0", true, `{"isAuthorized":true,"context":{"n":1}}`, 200, 200, "2.0", `"identitySource":["key"]`},
		{"2.0", true, `{"isAuthorized":false}`, 403, 403, "2.0", `"type":"REQUEST"`},
		{"2.0", true, `{}`, 500, 500, "2.0", ``},
		{"2.0", false, allow, 200, 403, "2.0", `"routeArn":"arn:aws:execute-api:us-east-1:111122223333:`},
		{"1.0", false, allow, 200, 403, "1.0", `"identitySource":"key"`},
		{"1.0", false, `{"isAuthorized":true}`, 500, 500, "1.0", `"methodArn":"arn:aws:execute-api:`},
		{"1.0", false, `"Unauthorized"`, 500, 500, "1.0", ``},
	} {
		w := newWorld(t)
		id, authorizer := w.askedAPI(func(a *Authorizer) { a.PayloadFormat, a.Simple, a.TTLSeconds = x.format, x.simple, ptr(0) })
		w.judges(x.said)
		for path, want := range map[string]int{"/a": x.a, "/b": x.b} {
			if got := w.send(id, "GET", path, "", "X-Key", "key"); got.status != want {
				t.Errorf("%s of %s: %+v", path, x.said, got)
			} else if want == 200 {
				var e events.APIGatewayV2HTTPRequest
				if err := json.Unmarshal([]byte(got.body), &e); err != nil || e.RequestContext.Authorizer.Lambda["n"] != 1.0 {
					t.Errorf("%v %s", err, got.body)
				}
			}
		}
		q := w.calls[0]
		if q.Name != "judge" || q.Source.ARN != "arn:aws:execute-api:us-east-1:111122223333:"+id+"/authorizers/"+authorizer || !strings.Contains(string(q.Payload), x.question) || !strings.Contains(string(q.Payload), `"version":"`+x.source+`"`) {
			t.Errorf("it was asked %+v %s", q.Source, q.Payload)
		}
		before := w.ran()
		if got := w.send(id, "GET", "/a", ""); got.status != 401 || w.ran() != before {
			t.Errorf("without the identity source: %+v", got)
		}
	}
}

func TestWhatAFunctionSaidIsKeptByTheIdentity(t *testing.T) {
	w := newWorld(t)
	id, _ := w.askedAPI(func(a *Authorizer) { a.TTLSeconds = ptr(60) })
	asked := w.judges(`{"isAuthorized":true}`)
	expect := func(key string, want int64) {
		t.Helper()
		if got := w.send(id, "GET", "/a", "", "X-Key", key); got.status != 200 || asked.Load() != want {
			t.Errorf("%+v, asked %d times, not %d", got, asked.Load(), want)
		}
	}
	expect("one", 1)
	expect("one", 1)
	expect("two", 2)
	if _, err := w.UpdateAPI(t.Context(), owner, id, Quick{}, func(a *API) error { a.Description = "x"; return nil }); err != nil {
		t.Fatal(err)
	}
	expect("one", 2) // a new table remembers
	w.clock.Advance(60 * time.Second)
	expect("one", 3)
	if err := w.ResetAuthorizers(owner, id, defaultStage); err != nil {
		t.Fatal(err)
	}
	expect("one", 4)
}

func TestSignedRoutesNeedASignatureOfTheAccount(t *testing.T) {
	w := newWorld(t)
	id, integration := w.api("2.0")
	w.route(id, integration, "POST /", func(r *Route) { r.Authorization = "AWS_IAM" })
	r := httptest.NewRequest("POST", "http://"+Host(id, "us-east-1", "localhost")+"/?a=b", strings.NewReader("body"))
	// The hash is that of "body".
	const hash = "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5"
	err := v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: "AKIAEXAMPLE", SecretAccessKey: "secret"}, r, hash, "execute-api", "us-east-1", w.clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	changed := r.Clone(t.Context())
	changed.Body = http.NoBody
	got := w.do(r)
	if got.status != 200 {
		t.Fatalf("%+v", got)
	}
	var e events.APIGatewayV2HTTPRequest
	if err := json.Unmarshal([]byte(got.body), &e); err != nil {
		t.Fatal(err)
	}
	if e.RequestContext.Authorizer.IAM.AccessKey != "AKIAEXAMPLE" || e.RequestContext.Authorizer.IAM.AccountID != string(owner) || e.Headers["authorization"] != "" || e.Body == "" {
		t.Errorf("%s", got.body)
	}
	if got := w.do(changed); got.status != 403 || got.body != `{"message":"Forbidden"}` {
		t.Errorf("another body: %+v", got)
	}
	if got := w.send(id, "POST", "/", "body"); got.status != 403 {
		t.Errorf("unsigned: %+v", got)
	}
	w.Authorize = func(_ context.Context, who hearth.Identity, action, resource string) error {
		if action != "execute-api:Invoke" || resource != "arn:aws:execute-api:us-east-1:111122223333:"+id+"/$default/POST/" || who.Account != owner {
			t.Errorf("%s %s", action, resource)
		}
		return hearth.Errorf(hearth.AccessDenied, "no")
	}
	again := func() *http.Request {
		n := httptest.NewRequest("POST", r.URL.String(), strings.NewReader("body"))
		n.Header = r.Header
		return n
	}
	if got := w.do(again()); got.status != 403 {
		t.Errorf("not allowed: %+v", got)
	}
	// Whatever his own policies allow, a caller of another account is not let in.
	w.Authorize = func(context.Context, hearth.Identity, string, string) error { return nil }
	w.table(id).account = "444455556666"
	if got := w.do(again()); got.status != 403 {
		t.Errorf("of another account: %+v", got)
	}
}
