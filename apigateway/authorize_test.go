package apigateway

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/jwt"
	"github.com/hearth-faas/hearth/jwt/jwttest"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/go-jose/go-jose/v4"
)

// jwtAPI is an API whose route needs a token of the issuer.
func (w *world) jwtAPI(i *jwttest.Issuer, scopes ...string) string {
	w.t.Helper()
	id, integration := w.api("2.0")
	a, err := w.PutAuthorizer(context.Background(), owner, id, "", func(a *Authorizer) error {
		a.Name, a.Type, a.IdentitySource = "jwt", "JWT", []string{"$request.header.Authorization"}
		a.JWT = &jwt.Trust{Audience: []string{"shop", "other"}, Issuer: i.URL}
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
			w, i := newWorld(t), jwttest.New(t)
			k := i.Rotate("one", alg)
			id, scoped := w.jwtAPI(i), w.jwtAPI(i, "buy", "sell")
			now := w.clock.Now()
			try := func(id, token string) response { return w.send(id, "GET", "/", "", "Authorization", token) }
			got := try(id, "Bearer "+i.Token(k, i.Claims(now, nil)))
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
			if got := try(scoped, i.Token(k, i.Claims(now, nil))); got.status != 200 {
				t.Errorf("with a scope, without Bearer: %+v", got)
			}
			if err := json.Unmarshal(w.last().Payload, &e); err != nil {
				t.Fatal(err)
			}
			if s := e.RequestContext.Authorizer.JWT.Scopes; len(s) != 1 || s[0] != "buy" {
				t.Errorf("scopes %v", s)
			}
			ran := w.ran()
			other := i.Rotate("one", alg) // which the server does not know
			for what, x := range map[string]struct {
				id, token string
				status    int
			}{
				"no token":         {id, "", 401},
				"nonsense":         {id, "Bearer a.b.c", 401},
				"too long":         {id, "Bearer " + strings.Repeat("a", 8<<10+1), 401},
				"another key":      {id, i.Token(other, i.Claims(now, nil)), 401},
				"expired":          {id, i.Token(k, i.Claims(now, map[string]any{"exp": now.Add(-time.Minute).Unix()})), 401},
				"no exp":           {id, i.Token(k, i.Claims(now, map[string]any{"exp": nil})), 401},
				"not yet":          {id, i.Token(k, i.Claims(now, map[string]any{"nbf": now.Add(time.Minute + time.Second).Unix()})), 401},
				"of the future":    {id, i.Token(k, i.Claims(now, map[string]any{"iat": now.Add(time.Hour).Unix()})), 401},
				"another issuer":   {id, i.Token(k, i.Claims(now, map[string]any{"iss": "https://evil.example"})), 401},
				"another audience": {id, i.Token(k, i.Claims(now, map[string]any{"aud": []string{"evil"}})), 401},
				"no audience":      {id, i.Token(k, i.Claims(now, map[string]any{"aud": nil})), 401},
				"no scope":         {scoped, i.Token(k, i.Claims(now, map[string]any{"scope": "look"})), 403},
				"exp as text":      {id, i.Token(k, i.Claims(now, map[string]any{"exp": "soon"})), 401},
				"none":             {id, jwttest.Unsigned(`{"alg":"none"}`, i.Claims(now, nil)), 401},
				"a shared secret":  {id, jwttest.Unsigned(`{"alg":"HS256","kid":"one"}`, i.Claims(now, nil)), 401},
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
				"a clock that is behind": {"exp": now.Add(-time.Minute + time.Second).Unix()},
				"a clock that is ahead":  {"nbf": now.Add(time.Minute).Unix(), "iat": now.Add(time.Minute).Unix()},
				"a client":               {"aud": nil, "client_id": "other"},
				"several audiences":      {"aud": []string{"evil", "other"}},
				"scp":                    {"scope": nil, "scp": []string{"buy"}},
			} {
				if got := try(scoped, i.Token(k, i.Claims(now, c))); got.status != 200 {
					t.Errorf("%s: %+v", what, got)
				}
			}
		})
	}
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

// An API acts as its roles: as one of another account it could call what only
// that account may.
func TestAnAPIHasNoRoleOfAnotherAccount(t *testing.T) {
	w := newWorld(t)
	id, integration := w.api("2.0", "GET /")
	const theirs = "arn:aws:iam::444455556666:role/any"
	_, err := w.PutIntegration(t.Context(), owner, id, integration, func(i *Integration) error { i.Credentials = theirs; return nil })
	_, aerr := w.PutAuthorizer(t.Context(), owner, id, "", func(a *Authorizer) error {
		a.Name, a.Type, a.URI, a.PayloadFormat, a.Credentials = "a", "REQUEST", echo, "2.0", theirs
		return nil
	})
	_, ierr := w.Import(t.Context(), owner, Import{Document: []byte(`{"openapi":"3.0.1","info":{"title":"t"},"paths":{"/a":{"get":{"x-amazon-apigateway-integration":{"type":"aws_proxy","uri":"` + echo + `","payloadFormatVersion":"2.0","credentials":"` + theirs + `"}}}}}`)})
	for what, err := range map[string]error{"an integration": err, "an authorizer": aerr, "a document": ierr} {
		if hearth.KindOf(err) != hearth.Validation || !strings.Contains(err.Error(), "own account") {
			t.Errorf("%s: %v", what, err)
		}
	}
	// One that is stored already is its own account's all the same.
	r, err := w.api2(id)
	if err != nil {
		t.Fatal(err)
	}
	i := *r.Integrations[integration]
	i.Credentials = theirs
	n := r.clone()
	n.Integrations[integration] = &i
	d := *n.deployments[n.Stages[defaultStage].DeploymentID]
	d.Content = n.current()
	n.deployments[d.ID] = &d
	w.show(n)
	if got := w.send(id, "GET", "/", ""); got.status != 200 || w.last().Caller.Account != owner {
		t.Errorf("%+v by %+v", got, w.last().Caller)
	}
}
