package sigv4_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/lambda/sigv4"
	"pgregory.net/rapid"
)

var now = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

type keys map[string]string // access key, or key + "+" + token → secret

func (k keys) Lookup(key, token string) (string, hearth.Identity, error) {
	if token != "" {
		key += "+" + token
	}
	secret, ok := k[key]
	if !ok {
		return "", hearth.Identity{}, hearth.Errorf(hearth.UnrecognizedClient, "The security token included in the request is invalid.")
	}
	return secret, hearth.Identity{Account: "000000000000"}, nil
}

var known = keys{"AKIDHEARTH": "secret/of+the=first", "ASIATEMP+token//of==a/session": "temporary"}

func verifier() *sigv4.Verifier {
	return sigv4.New(known, clock.NewFake(now), "us-east-1", "lambda", "sts", "logs", "hearth")
}

func hashOf(body []byte) string {
	h := sha256.Sum256(body)
	return hex.EncodeToString(h[:])
}

type signing struct {
	method, url, service, region string
	body                         string
	key, secret, token           string
	at                           time.Time
	header                       http.Header
	hash                         string
}

func (s signing) defaults() signing {
	set := func(p *string, v string) {
		if *p == "" {
			*p = v
		}
	}
	set(&s.method, "POST")
	set(&s.url, "http://127.0.0.1:9070/2015-03-31/functions/hello/invocations")
	set(&s.service, "lambda")
	set(&s.region, "us-east-1")
	set(&s.key, "AKIDHEARTH")
	set(&s.secret, "secret/of+the=first")
	set(&s.hash, hashOf([]byte(s.body)))
	if s.at.IsZero() {
		s.at = now
	}
	return s
}

// sign makes the request that a server would read, signed by the SDK.
func (s signing) sign(t testing.TB) *http.Request {
	t.Helper()
	s = s.defaults()
	r, err := http.NewRequest(s.method, s.url, strings.NewReader(s.body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range s.header {
		r.Header[k] = v
	}
	creds := aws.Credentials{AccessKeyID: s.key, SecretAccessKey: s.secret, SessionToken: s.token}
	if err := v4.NewSigner().SignHTTP(context.Background(), creds, r, s.hash, s.service, s.region, s.at); err != nil {
		t.Fatal(err)
	}
	return received(t, r)
}

func received(t testing.TB, r *http.Request) *http.Request {
	t.Helper()
	var wire bytes.Buffer
	if err := r.Write(&wire); err != nil {
		t.Fatal(err)
	}
	got, err := http.ReadRequest(bufio.NewReader(&wire))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestRequestsSignedByTheSDKAreAccepted(t *testing.T) {
	for name, s := range map[string]signing{
		"invoke":              {body: `{"a":1}`},
		"no body":             {method: "GET"},
		"query":               {method: "GET", url: "http://h/2015-03-31/functions?MaxItems=5&Marker=a%2Fb%3D%3D&x=%20y&FunctionVersion=ALL"},
		"ARN in the path":     {method: "GET", url: "http://h/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Afoo%3A1"},
		"colon unescaped":     {method: "GET", url: "http://h/2015-03-31/functions/arn:aws:lambda:us-east-1:000000000000:function:foo"},
		"session":             {key: "ASIATEMP", secret: "temporary", token: "token//of==a/session"},
		"sts":                 {service: "sts", url: "http://h/", body: "Action=GetCallerIdentity&Version=2011-06-15"},
		"unsigned payload":    {body: "anything", hash: "UNSIGNED-PAYLOAD", header: http.Header{"X-Amz-Content-Sha256": {"UNSIGNED-PAYLOAD"}}},
		"signed content hash": {body: "xyz", header: http.Header{"X-Amz-Content-Sha256": {hashOf([]byte("xyz"))}}},
		"spaces in a header":  {header: http.Header{"X-Amz-Client-Context": {"  a   b  c "}}},
		"four minutes old":    {at: now.Add(-4 * time.Minute)},
		"four minutes ahead":  {at: now.Add(4 * time.Minute)},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := verifier().Verify(s.sign(t), []byte(s.body))
			if err != nil {
				t.Fatal(err)
			}
			if c.Identity.Account != "000000000000" || c.Service != s.defaults().service || c.Presigned {
				t.Errorf("claim is %+v", c)
			}
		})
	}
}

func TestRefusalsAreTheServicesOwn(t *testing.T) {
	without := func(name string) func(*http.Request) {
		return func(r *http.Request) { delete(r.Header, name) }
	}
	edit := func(old, new string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), old, new, 1))
		}
	}
	for name, c := range map[string]struct {
		s    signing
		edit func(*http.Request)
		kind hearth.Kind
		text string
	}{
		"unsigned":            {edit: without("Authorization"), kind: hearth.MissingToken, text: "Missing Authentication Token"},
		"unknown key":         {s: signing{key: "AKIDOTHER"}, kind: hearth.UnrecognizedClient, text: "The security token included in the request is invalid."},
		"session unknown":     {s: signing{token: "x"}, kind: hearth.UnrecognizedClient, text: "The security token included in the request is invalid."},
		"wrong secret":        {s: signing{secret: "guess"}, kind: hearth.InvalidSignature, text: "The request signature we calculated does not match"},
		"foreign service":     {s: signing{service: "s3"}, kind: hearth.InvalidSignature, text: "Credential should be scoped to correct service: 'lambda'. Hearth serves hearth, lambda, logs, sts, and not 's3': have that service's clients use another endpoint (AWS_ENDPOINT_URL_ and its name)."},
		"foreign region":      {s: signing{region: "eu-west-1"}, kind: hearth.InvalidSignature, text: "Credential should be scoped to a valid region"},
		"old":                 {s: signing{at: now.Add(-6 * time.Minute)}, kind: hearth.InvalidSignature, text: "Signature expired: 20260304T050007Z is now earlier than 20260304T050107Z (20260304T050607Z - 5 min.)"},
		"ahead":               {s: signing{at: now.Add(6 * time.Minute)}, kind: hearth.InvalidSignature, text: "Signature not yet current: 20260304T051207Z is still later than 20260304T051107Z (20260304T050607Z + 5 min.)"},
		"no date":             {edit: without("X-Amz-Date"), kind: hearth.IncompleteSignature, text: "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."},
		"no signature":        {edit: edit("Signature=", "Sig="), kind: hearth.IncompleteSignature, text: "Authorization header requires 'Signature' parameter."},
		"no equal sign":       {edit: edit("Credential=", "Credential:"), kind: hearth.IncompleteSignature, text: "not a valid key=value pair (missing equal-sign) in Authorization header"},
		"basic":               {edit: edit("AWS4-HMAC-SHA256", "Basic"), kind: hearth.IncompleteSignature, text: "Unsupported AWS 'algorithm': 'Basic'."},
		"short scope":         {edit: edit("/aws4_request", ""), kind: hearth.IncompleteSignature, text: "Credential must have exactly 5 slash-delimited elements"},
		"other terminator":    {edit: edit("/aws4_request", "/aws5_request"), kind: hearth.InvalidSignature, text: "valid terminator: 'aws4_request'"},
		"scope of other day":  {edit: edit("20260304", "20260303"), kind: hearth.InvalidSignature, text: "Date in Credential scope does not match"},
		"host not signed":     {edit: edit("host;", ""), kind: hearth.InvalidSignature, text: "'Host' or ':authority' must be a 'SignedHeader'"},
		"signature cut":       {edit: func(r *http.Request) { a := r.Header["Authorization"]; a[0] = a[0][:len(a[0])-1] }, kind: hearth.InvalidSignature, text: "does not match"},
		"path changed":        {edit: func(r *http.Request) { r.URL.Path += "x" }, kind: hearth.InvalidSignature, text: "does not match"},
		"query added":         {edit: func(r *http.Request) { r.URL.RawQuery = "Qualifier=1" }, kind: hearth.InvalidSignature, text: "does not match"},
		"host changed":        {edit: func(r *http.Request) { r.Host = "other" }, kind: hearth.InvalidSignature, text: "does not match"},
		"method changed":      {edit: func(r *http.Request) { r.Method = "PUT" }, kind: hearth.InvalidSignature, text: "does not match"},
		"unsigned hash added": {edit: func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD") }, s: signing{body: "x", hash: hashOf([]byte("other"))}, kind: hearth.InvalidSignature, text: "does not match"},
	} {
		t.Run(name, func(t *testing.T) {
			r := c.s.sign(t)
			if c.edit != nil {
				c.edit(r)
			}
			_, err := verifier().Verify(r, []byte(c.s.body))
			if hearth.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want %s: %s", err, c.kind, c.text)
			}
		})
	}
}

func TestAChangedBodyIsRefused(t *testing.T) {
	r := signing{body: "one"}.sign(t)
	if _, err := verifier().Verify(r, []byte("two")); hearth.KindOf(err) != hearth.InvalidSignature {
		t.Errorf("got %v", err)
	}
}

// suspended has keys of an account that is not let in.
type suspended struct{ keys }

func (s suspended) Lookup(key, token string) (string, hearth.Identity, error) {
	secret, id, err := s.keys.Lookup(key, token)
	if err == nil {
		err = hearth.Errorf(hearth.AccessDenied, "The account is suspended.")
	}
	return secret, id, err
}

// Why an account is not let in, is told only to whoever has a key of it; and
// nobody else passes for its root.
func TestWhoIsNotLetInMustProveThatHeIsHe(t *testing.T) {
	v := sigv4.New(suspended{known}, clock.NewFake(now), "us-east-1", "lambda")
	claim, err := v.Verify(signing{}.sign(t), nil)
	if hearth.KindOf(err) != hearth.AccessDenied || !claim.Refused() || claim.Identity.Account == "" {
		t.Errorf("he is told %v, refused: %v, and is %+v", err, claim.Refused(), claim.Identity)
	}
	claim, err = v.Verify(signing{secret: "another"}.sign(t), nil)
	if hearth.KindOf(err) != hearth.InvalidSignature || claim.Refused() || claim.Identity.Account != "" {
		t.Errorf("a stranger is told %v, refused: %v, and is %+v", err, claim.Refused(), claim.Identity)
	}
}

func presign(t testing.TB, target string, at time.Time, edit func(url.Values)) *http.Request {
	t.Helper()
	r, err := http.NewRequest("GET", target, nil)
	if err != nil {
		t.Fatal(err)
	}
	creds := aws.Credentials{AccessKeyID: "ASIATEMP", SecretAccessKey: "temporary", SessionToken: "token//of==a/session"}
	signed, _, err := v4.NewSigner().PresignHTTP(context.Background(), creds, r, hashOf(nil), "sts", "us-east-1", at)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(signed)
	if err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		q := u.Query()
		edit(q)
		u.RawQuery = q.Encode()
	}
	if r, err = http.NewRequest("GET", u.String(), nil); err != nil {
		t.Fatal(err)
	}
	return received(t, r)
}

func TestPresignedRequestsHoldUntilTheyExpire(t *testing.T) {
	const target = "http://h/?Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Expires=900"
	c, err := verifier().Verify(presign(t, target, now.Add(-14*time.Minute), nil), nil)
	if err != nil || !c.Presigned || c.Service != "sts" {
		t.Fatalf("claim %+v, error %v", c, err)
	}
	_, err = verifier().Verify(presign(t, target, now.Add(-16*time.Minute), nil), nil)
	if hearth.KindOf(err) != hearth.InvalidSignature || !strings.Contains(err.Error(), "Signature expired: 20260304T045007Z is now earlier than 20260304T045107Z (20260304T050607Z - 15 min.)") {
		t.Errorf("expired: %v", err)
	}
	for name, edit := range map[string]func(url.Values){
		"longer expiry":   func(q url.Values) { q.Set("X-Amz-Expires", "1000") },
		"other action":    func(q url.Values) { q.Set("Action", "AssumeRole") },
		"no expiry":       func(q url.Values) { q.Del("X-Amz-Expires") },
		"a week and more": func(q url.Values) { q.Set("X-Amz-Expires", "604801") },
		"other signature": func(q url.Values) { q.Set("X-Amz-Signature", strings.Repeat("0", 64)) },
	} {
		if _, err := verifier().Verify(presign(t, target, now, edit), nil); hearth.KindOf(err) != hearth.InvalidSignature {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Date"} {
		_, err := verifier().Verify(presign(t, target, now, func(q url.Values) { q.Del(name) }), nil)
		if hearth.KindOf(err) != hearth.IncompleteSignature {
			t.Errorf("without %s: %v", name, err)
		}
	}
}

func TestTheSDKAndTheVerifierAgreeOnAnyRequest(t *testing.T) {
	v := verifier()
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.StringMatching(`[ -~äß€]{0,12}`)
		path := "/"
		for range rapid.IntRange(0, 4).Draw(rt, "segments") {
			path += url.PathEscape(rapid.StringMatching(`[a-zA-Z0-9:%/ $~*'()!+=&,;@_-]{1,10}`).Draw(rt, "segment")) + "/"
		}
		query := url.Values{}
		for range rapid.IntRange(0, 5).Draw(rt, "parameters") {
			query.Add(text.Draw(rt, "key"), text.Draw(rt, "value"))
		}
		body := rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(rt, "body")
		header := http.Header{}
		for range rapid.IntRange(0, 3).Draw(rt, "headers") {
			header.Set("X-Amz-"+rapid.StringMatching(`[A-Za-z]{1,8}`).Draw(rt, "name"), rapid.StringMatching(`[!-~]([ -~]{0,20}[!-~])?`).Draw(rt, "text"))
		}
		r := signing{url: "http://h" + path + "?" + query.Encode(), body: string(body), header: header}.sign(t)
		if _, err := v.Verify(r, body); err != nil {
			rt.Fatalf("%s: %v", r.URL, err)
		}
	})
}

func FuzzVerify(f *testing.F) {
	r := signing{}.sign(f)
	f.Add(r.Header.Get("Authorization"), "20260304T050607Z", "/a%2Fb?x=%20y&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=5")
	f.Add("AWS4-HMAC-SHA256 Credential=a/b/c/d/e,SignedHeaders=;host,Signature=0", "", "/")
	f.Add("", "1", "/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=////&X-Amz-SignedHeaders=host&X-Amz-Date=x&X-Amz-Signature=&X-Amz-Expires=1")
	v := verifier()
	f.Fuzz(func(t *testing.T, authorization, date, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		r := &http.Request{Method: "GET", URL: u, Host: "h", Header: http.Header{}}
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		r.Header.Set("X-Amz-Date", date)
		if _, err := v.Verify(r, nil); err == nil {
			t.Errorf("accepted %q %q %q", authorization, date, target)
		}
	})
}

func BenchmarkVerifyInvoke1KB(b *testing.B) {
	body := strings.Repeat("x", 1024)
	r := signing{body: body}.sign(b)
	v := verifier()
	payload := []byte(body)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(r, payload); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkResignInvoke1KB is the other way to verify: signing again with the
// SDK's signer and comparing.
func BenchmarkResignInvoke1KB(b *testing.B) {
	body := strings.Repeat("x", 1024)
	s := signing{body: body}.defaults()
	r := s.sign(b)
	signer := v4.NewSigner()
	creds := aws.Credentials{AccessKeyID: s.key, SecretAccessKey: s.secret}
	payload := []byte(body)
	b.ReportAllocs()
	for b.Loop() {
		again := r.Clone(context.Background())
		if err := signer.SignHTTP(context.Background(), creds, again, hashOf(payload), s.service, s.region, now); err != nil {
			b.Fatal(err)
		}
	}
}
