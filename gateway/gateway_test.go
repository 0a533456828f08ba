package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/registry"
)

const (
	testAccount hearth.Account = "000000000000"
	testID                     = "abcdefghijklmnopqrstuvwxyz234567"
	testHost                   = testID + ".lambda-url.us-east-1.localhost:9000"
)

type testKeys struct{}

func (testKeys) Lookup(key, _ string) (string, hearth.Identity, error) {
	if key != "AKIDROOT" {
		return "", hearth.Identity{}, hearth.Errorf(hearth.UnrecognizedClient, "The security token included in the request is invalid.")
	}
	return "secret", hearth.Identity{Account: testAccount, ARN: "arn:aws:iam::000000000000:root", UserID: "000000000000"}, nil
}

// world is a Gateway over a fake function.
type world struct {
	t     *testing.T
	now   time.Time
	url   string
	index *Index
	// answer is the function; nil echoes the event.
	answer func(*hearth.Invocation) (*hearth.Result, error)

	mu   sync.Mutex
	seen []*hearth.Invocation
	done chan *hearth.Invocation // the client may have its answer before
}

func (w *world) Invoke(_ context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
	w.mu.Lock()
	w.seen = append(w.seen, inv)
	w.mu.Unlock()
	if w.answer == nil {
		return &hearth.Result{Payload: inv.Payload}, nil
	}
	return w.answer(inv)
}

func newWorld(t *testing.T, edit func(*registry.URL)) *world {
	t.Helper()
	w := &world{t: t, now: time.Now().UTC().Truncate(time.Second), index: &Index{}, done: make(chan *hearth.Invocation, 64)}
	u := &registry.URL{ID: testID, AuthType: "NONE", InvokeMode: "BUFFERED"}
	if edit != nil {
		edit(u)
	}
	w.index.Configured(registry.Configured{Account: testAccount, Function: "hello", Settings: &registry.Settings{URL: u}})
	g := New(Config{
		Index: w.index, Invoker: w, Credentials: testKeys{}, Clock: clock.NewFake(w.now), Region: "us-east-1",
		Done: func(inv *hearth.Invocation) { w.done <- inv },
		Log:  slog.New(slog.DiscardHandler),
	})
	server := httptest.NewServer(g.Over(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "next") })))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	t.Cleanup(server.Close)
	w.url = server.URL
	return w
}

func returns(payload string) func(*hearth.Invocation) (*hearth.Result, error) {
	return func(*hearth.Invocation) (*hearth.Result, error) {
		return &hearth.Result{Payload: []byte(payload)}, nil
	}
}

func (w *world) request(method, path, body string) *http.Request {
	w.t.Helper()
	r, err := http.NewRequest(method, w.url+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Host = testHost
	return r
}

// got is a response, read to its end.
type got struct {
	status int
	header http.Header
	body   string
	length int64
	err    error // while the body was read
}

func (w *world) do(r *http.Request) got {
	w.t.Helper()
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return got{resp.StatusCode, resp.Header, string(body), resp.ContentLength, err}
}

func (w *world) get(path string) got { w.t.Helper(); return w.do(w.request("GET", path, "")) }

func (w *world) event(r *http.Request) map[string]any {
	w.t.Helper()
	w.do(r)
	var e map[string]any
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.seen) == 0 {
		w.t.Fatal("the function was not called")
	}
	if err := json.Unmarshal(w.seen[len(w.seen)-1].Payload, &e); err != nil {
		w.t.Fatal(err)
	}
	return e
}

func TestARequestBecomesAnEvent(t *testing.T) {
	w := newWorld(t, nil)
	r := w.request("POST", "/my/p%20ath%2F?a=1&a=2&b=%C3%A9+x&c", `{"a":"é"}`)
	r.Header = http.Header{
		"Content-Type": {"application/json"}, "User-Agent": {"me"}, "X-Two": {"1", "2"}, "Cookie": {"a=1; b=2", "c=3"},
		"X-Amzn-Trace-Id": {"Root=1-a-b"}, "X-Forwarded-For": {"198.51.100.1"}, "Accept-Encoding": {"identity"},
	}
	e := w.event(r)
	inv := w.seen[0]
	want := map[string]any{
		"version": "2.0", "routeKey": "$default", "rawPath": "/my/p%20ath%2F", "rawQueryString": "a=1&a=2&b=%C3%A9+x&c",
		"cookies": []any{"a=1", "b=2", "c=3"},
		"headers": map[string]any{
			"content-type": "application/json", "user-agent": "me", "x-two": "1,2", "x-amzn-trace-id": "Root=1-a-b", "accept-encoding": "identity",
			"content-length": "10", "host": testHost, "x-forwarded-for": "198.51.100.1, 127.0.0.1", "x-forwarded-port": "9000", "x-forwarded-proto": "http",
		},
		"queryStringParameters": map[string]any{"a": "1,2", "b": "é x", "c": ""},
		"requestContext": map[string]any{
			"accountId": "anonymous", "apiId": testID, "domainName": testID + ".lambda-url.us-east-1.localhost", "domainPrefix": testID,
			"http":      map[string]any{"method": "POST", "path": "/my/p%20ath%2F", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "me"},
			"requestId": inv.RequestID, "routeKey": "$default", "stage": "$default",
			"time": w.now.Format("02/Jan/2006:15:04:05") + " +0000", "timeEpoch": float64(w.now.UnixMilli()),
		},
		"body": `{"a":"é"}`, "isBase64Encoded": false,
	}
	if !reflect.DeepEqual(e, want) {
		t.Errorf("got  %v\nwant %v", e, want)
	}
	if inv.Account != testAccount || inv.Name != "hello" || inv.InvokedARN != "arn:aws:lambda:us-east-1:000000000000:function:hello" || inv.TraceID != "Root=1-a-b" ||
		inv.Source == nil || *inv.Source != (hearth.Source{URLAuthType: "NONE"}) || inv.Caller != (hearth.Identity{}) {
		t.Errorf("%+v", inv)
	}
	if done := <-w.done; done != inv {
		t.Errorf("done %v", done)
	}
}

func TestABodyIsTextOrBase64ByItsType(t *testing.T) {
	w := newWorld(t, nil)
	for _, c := range []struct{ contentType, encoding, body, want string }{
		{"text/plain", "", "hi", "hi"},
		{"application/vnd.api+json; charset=utf-8", "", "[1]", "[1]"},
		{"image/svg+xml", "", "<a/>", "<a/>"},
		{"text/plain", "", "\xff", "/w=="},
		{"text/plain", "gzip", "hi", "aGk="},
		{"application/x-www-form-urlencoded", "", "a=b", "YT1i"},
		{"", "", "hi", "aGk="},
	} {
		r := w.request("PUT", "/", c.body)
		r.Header.Set("Content-Type", c.contentType)
		if c.encoding != "" {
			r.Header.Set("Content-Encoding", c.encoding)
		}
		e := w.event(r)
		if e["body"] != c.want || e["isBase64Encoded"] != (c.want != c.body) {
			t.Errorf("%+v: %v %v", c, e["body"], e["isBase64Encoded"])
		}
	}
	if e := w.event(w.request("GET", "/", "")); e["body"] != nil || e["isBase64Encoded"] != false {
		t.Errorf("no body: %v", e)
	}
}

func TestAURLIsFoundByItsHostOrByAPath(t *testing.T) {
	w := newWorld(t, nil)
	for _, c := range []struct{ host, path, want string }{
		{testHost, "/x", "/x"},
		{strings.ToUpper(testID) + ".lambda-url.us-east-1.example.com", "/", "/"},
		{"127.0.0.1:9000", "/lambda-url/" + testID, "/"},
		{"127.0.0.1:9000", "/lambda-url/" + testID + "/a/b%2Fc?d", "/a/b%2Fc"},
		{testHost, "/lambda-url/" + testID + "/x", "/lambda-url/" + testID + "/x"},
	} {
		r := w.request("GET", c.path, "")
		r.Host = c.host
		if e := w.event(r); e["rawPath"] != c.want {
			t.Errorf("%s%s: %v", c.host, c.path, e["rawPath"])
		}
	}
	for _, host := range []string{"127.0.0.1:9000", "localhost", "lambda-url.localhost", testID + ".localhost"} {
		r := w.request("GET", "/2015-03-31/functions", "")
		r.Host = host
		if g := w.do(r); g.body != "next" {
			t.Errorf("%s: %+v", host, g)
		}
	}
	r := w.request("GET", "/", "")
	r.Host = "unknown.lambda-url.us-east-1.localhost"
	if g := w.do(r); g.status != 403 || g.body != `{"Message":null}` || g.header.Get("X-Amzn-Errortype") != "AccessDeniedException" {
		t.Errorf("unknown: %+v", g)
	}
	w.index.Configured(registry.Configured{Account: testAccount, Function: "hello", Settings: &registry.Settings{}})
	if g := w.get("/"); g.status != 403 {
		t.Errorf("deleted: %+v", g)
	}
}

func TestAnAnswerIsWhatTheFunctionReturned(t *testing.T) {
	w := newWorld(t, nil)
	for _, c := range []struct {
		payload string
		status  int
		body    string
		header  string // "Name: value" that must be there
	}{
		{`"Hello"`, 200, `"Hello"`, "Content-Type: application/json"},
		{`{"message":"Hello"}`, 200, `{"message":"Hello"}`, "Content-Type: application/json"},
		{`[1,2]`, 200, `[1,2]`, ""},
		{`null`, 200, `null`, ""},
		{`not JSON`, 200, `not JSON`, ""},
		{`{"statusCode":201,"headers":{"Content-Type":"text/html","X-Number":7},"body":"<p>"}`, 201, "<p>", "X-Number: 7"},
		{`{"statusCode":"404"}`, 404, "", "Content-Type: application/json"},
		{`{"statusCode":200,"body":"aGk=","isBase64Encoded":true}`, 200, "hi", ""},
		{`{"statusCode":200,"body":{"a":1}}`, 200, `{"a":1}`, ""},
		{`{"statusCode":200,"cookies":["a=1; Secure"],"headers":{"Set-Cookie":"b=2"}}`, 200, "", "Set-Cookie: a=1; Secure"},
		{`{"statusCode":200,"headers":{"Connection":"close","Date":"never"},"body":"x"}`, 200, "x", "X-Amzn-Remapped-Date: never"},
		{`{"statusCode":204,"body":"ignored"}`, 204, "", ""},
		{`{"statusCode":304,"body":"ignored","headers":{"ETag":"1"}}`, 304, "", "Etag: 1"},
		{`{"statusCode":100}`, 502, "Internal Server Error", ""},
		{`{"statusCode":"abc"}`, 502, "Internal Server Error", ""},
		{`{"statusCode":200,"headers":[]}`, 502, "Internal Server Error", ""},
		{`{"statusCode":200,"headers":{"a":{}}}`, 502, "Internal Server Error", ""},
		{`{"statusCode":200,"cookies":"a"}`, 502, "Internal Server Error", ""},
		{`{"statusCode":200,"body":"!","isBase64Encoded":true}`, 502, "Internal Server Error", ""},
	} {
		w.answer = returns(c.payload)
		g := w.get("/")
		name, value, _ := strings.Cut(c.header, ": ")
		if g.status != c.status || g.body != c.body || name != "" && !contains(g.header[name], value) || g.err != nil ||
			g.header.Get("X-Amzn-Requestid") == "" || !strings.HasPrefix(g.header.Get("X-Amzn-Trace-Id"), "Root=1-") {
			t.Errorf("%s: %+v", c.payload, g)
		}
	}
	w.answer = returns(`{"statusCode":200,"body":"four"}`)
	if g := w.do(w.request("HEAD", "/", "")); g.status != 200 || g.body != "" || g.length != 4 {
		t.Errorf("HEAD: %+v", g)
	}
}

func contains(values []string, value string) bool {
	for _, v := range values {
		if v == value {
			return true
		}
	}
	return false
}

func TestErrorsAreTheServices(t *testing.T) {
	w := newWorld(t, nil)
	fails := func(err error) func(*hearth.Invocation) (*hearth.Result, error) {
		return func(*hearth.Invocation) (*hearth.Result, error) { return nil, err }
	}
	for _, c := range []struct {
		answer func(*hearth.Invocation) (*hearth.Result, error)
		status int
		body   string
	}{
		{func(*hearth.Invocation) (*hearth.Result, error) {
			return &hearth.Result{FunctionError: "Unhandled", Payload: []byte(`{"errorMessage":"secret"}`)}, nil
		}, 502, "Internal Server Error"},
		{fails(hearth.Errorf(hearth.TooManyRequests, "Rate Exceeded.")), 429, `{"Message":"Rate Exceeded."}`},
		{fails(hearth.Errorf(hearth.EntityTooLarge, "too large")), 413, `{"Message":"too large"}`},
		{fails(hearth.Errorf(hearth.AccessDenied, "User: x is not authorized")), 403, `{"Message":"Forbidden"}`},
		{fails(hearth.Errorf(hearth.NotFound, "Function not found")), 404, `{"Message":"Function not found"}`},
		{fails(errors.New("secret")), 500, `{"Message":"Internal Server Error"}`},
	} {
		for _, mode := range []string{"BUFFERED", "RESPONSE_STREAM"} {
			w := newWorld(t, func(u *registry.URL) { u.InvokeMode = mode })
			w.answer = c.answer
			if g := w.get("/"); g.status != c.status || g.body != c.body {
				t.Errorf("%s, want %d: %+v", mode, c.status, g)
			}
			if <-w.done; len(w.done) != 0 {
				t.Error("done more than once")
			}
		}
	}
	large := strings.Repeat("x", hearth.MaxPayload+1)
	if g := w.do(w.request("POST", "/", large)); g.status != 413 {
		t.Errorf("a body that is too large: %+v", g)
	}
	r := w.request("POST", "/", large)
	r.ContentLength = -1
	if g := w.do(r); g.status != 413 {
		t.Errorf("a body of unknown length that is too large: %+v", g)
	}
	if len(w.seen) != 0 {
		t.Error("the function was called")
	}
}

// sign signs a request as the SDKs do.
func (w *world) sign(r *http.Request, key, service, hash string) *http.Request {
	w.t.Helper()
	r.URL.Host = r.Host
	err := v4.NewSigner().SignHTTP(w.t.Context(), aws.Credentials{AccessKeyID: key, SecretAccessKey: "secret"}, r, hash, service, "us-east-1", w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	r.URL.Host = strings.TrimPrefix(w.url, "http://")
	return r
}

const hashOfHi = "8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4"

func TestAURLWithIAMTakesSignedRequestsOnly(t *testing.T) {
	w := newWorld(t, func(u *registry.URL) { u.AuthType = "AWS_IAM" })
	e := w.event(w.sign(w.request("POST", "/a%20b?c=d", "hi"), "AKIDROOT", "lambda", hashOfHi))
	ctx := e["requestContext"].(map[string]any)
	want := map[string]any{"iam": map[string]any{
		"accessKey": "AKIDROOT", "accountId": "000000000000", "callerId": "000000000000", "cognitoIdentity": nil, "principalOrgId": nil,
		"userArn": "arn:aws:iam::000000000000:root", "userId": "000000000000",
	}}
	if !reflect.DeepEqual(ctx["authorizer"], want) || ctx["accountId"] != "000000000000" {
		t.Errorf("%v", ctx)
	}
	if h := e["headers"].(map[string]any); h["authorization"] != nil || h["x-amz-date"] == nil {
		t.Errorf("headers %v", h)
	}
	if inv := w.seen[0]; inv.Caller.ARN != "arn:aws:iam::000000000000:root" || inv.Source.URLAuthType != "AWS_IAM" {
		t.Errorf("%+v", inv)
	}
	byPath := w.request("POST", "/lambda-url/"+testID+"/x", "hi")
	byPath.Host = strings.TrimPrefix(w.url, "http://")
	if e := w.event(w.sign(byPath, "AKIDROOT", "lambda", hashOfHi)); e["rawPath"] != "/x" {
		t.Errorf("%v", e["rawPath"])
	}
	before := len(w.seen)
	tampered := w.sign(w.request("POST", "/", "hi"), "AKIDROOT", "lambda", hashOfHi)
	tampered.Body = io.NopCloser(strings.NewReader("ho"))
	for what, r := range map[string]*http.Request{
		"unsigned": w.request("GET", "/", ""), "another key": w.sign(w.request("POST", "/", "hi"), "AKIDOTHER", "lambda", hashOfHi),
		"another service": w.sign(w.request("POST", "/", "hi"), "AKIDROOT", "s3", hashOfHi), "another body": tampered,
	} {
		if g := w.do(r); g.status != 403 || g.body != `{"Message":"Forbidden"}` {
			t.Errorf("%s: %+v", what, g)
		}
	}
	if len(w.seen) != before {
		t.Error("the function was called")
	}
}

func TestTheIndexFollowsTheSettings(t *testing.T) {
	var x Index
	set := func(qualifier, id string) {
		s := &registry.Settings{}
		if id != "" {
			s.URL = &registry.URL{ID: id}
		}
		x.Configured(registry.Configured{Account: testAccount, Function: "f", Qualifier: qualifier, Settings: s})
	}
	has := func(id, qualifier string) {
		t.Helper()
		if e := x.find(id); (e == nil) != (qualifier == "-") || e != nil && e.qualifier != qualifier {
			t.Errorf("%s: %+v", id, e)
		}
	}
	set("", "a")
	set("live", "b")
	has("a", "")
	has("b", "live")
	set("", "c") // deleted and made again
	has("a", "-")
	has("c", "")
	set("live", "")
	has("b", "-")
	set("other", "")
	has("c", "")
}

func TestAnEventTellsWhetherItsRequestCameByTLS(t *testing.T) {
	for _, c := range []struct {
		url, said   string
		proto, port string
	}{
		{"http://api.example/", "", "http", "80"}, {"https://api.example/", "", "https", "443"}, {"https://api.example:9443/", "", "https", "9443"},
		{"http://api.example/", "https", "https", "443"}, // by a proxy in front
		{"https://api.example/", "http", "https", "443"},
	} {
		r := httptest.NewRequest("GET", c.url, nil)
		if c.said != "" {
			r.Header.Set("X-Forwarded-Proto", c.said)
		}
		h := NewEvent(r, Origin{Path: "/"}).Headers
		if h["x-forwarded-proto"] != c.proto || h["x-forwarded-port"] != c.port {
			t.Errorf("%+v: %s, port %s", c, h["x-forwarded-proto"], h["x-forwarded-port"])
		}
	}
}
