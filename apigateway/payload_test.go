package apigateway

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/gateway"

	"github.com/aws/aws-lambda-go/events"
)

// strict decodes what we send as a function in Go does, and refuses what its
// types do not know, but for what HTTP APIs have and the types leave out.
func strict(t *testing.T, payload []byte, into any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(payload))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatalf("%v in %s", err, payload)
	}
}

func TestEventsOfTheFormat2AreTheServices(t *testing.T) {
	w := newWorld(t)
	id, _ := w.api("2.0", "POST /pets/{kind}/{rest+}")
	w.stage(id, defaultStage, func(s *Stage) { s.Variables = map[string]string{"color": "red"} })
	w.send(id, "POST", "/pets/a%20cat/x/y?a=1&b=&a=2", "text", "Content-Type", "text/plain", "Cookie", "a=b; c=d", "X-Two", "1", "X-Two", "2", "User-Agent", "me")
	var e events.APIGatewayV2HTTPRequest
	strict(t, w.last().Payload, &e)
	for name, x := range map[string][2]string{
		"version": {e.Version, "2.0"}, "route": {e.RouteKey, "POST /pets/{kind}/{rest+}"}, "path": {e.RawPath, "/pets/a cat/x/y"}, "query": {e.RawQueryString, "a=1&b=&a=2"},
		"cookies": {strings.Join(e.Cookies, "|"), "a=b|c=d"}, "header": {e.Headers["x-two"], "1,2"}, "a": {e.QueryStringParameters["a"], "1,2"}, "b": {e.QueryStringParameters["b"], ""},
		"kind": {e.PathParameters["kind"], "a cat"}, "rest": {e.PathParameters["rest"], "x/y"}, "variable": {e.StageVariables["color"], "red"}, "body": {e.Body, "text"},
		"account": {e.RequestContext.AccountID, string(owner)}, "stage": {e.RequestContext.Stage, "$default"}, "api": {e.RequestContext.APIID, id}, "prefix": {e.RequestContext.DomainPrefix, id},
		"domain": {e.RequestContext.DomainName, Host(id, "us-east-1", "localhost")}, "method": {e.RequestContext.HTTP.Method, "POST"}, "ip": {e.RequestContext.HTTP.SourceIP, "192.0.2.1"},
		"agent": {e.RequestContext.HTTP.UserAgent, "me"}, "time": {e.RequestContext.Time, "14/Nov/2023:22:13:20 +0000"}, "cookie header": {e.Headers["cookie"], ""},
	} {
		if x[0] != x[1] {
			t.Errorf("%s is %q, not %q", name, x[0], x[1])
		}
	}
	if e.IsBase64Encoded || e.RequestContext.TimeEpoch != 1700000000000 || e.RequestContext.Authorizer != nil {
		t.Errorf("%+v", e)
	}
	inv := w.last()
	if want := "arn:aws:execute-api:us-east-1:111122223333:" + id + "/$default/POST/pets/{kind}/{rest+}"; inv.Caller != (hearth.Identity{Service: service}) || inv.Source.ARN != want || inv.Source.Account != owner {
		t.Errorf("it is called by %+v for %+v", inv.Caller, inv.Source)
	}
}

func TestEventsOfTheFormat1AreTheServices(t *testing.T) {
	w := newWorld(t)
	id, _ := w.api("1.0", "ANY /pets/{kind}")
	w.returns(`{"statusCode":200}`)
	w.send(id, "PUT", "/pets/a%20cat?a=1&a=2", "\x00\x01", "Content-Type", "image/png", "Cookie", "a=b", "X-Two", "1", "X-Two", "2", "User-Agent", "me")
	var e events.APIGatewayProxyRequest
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(w.last().Payload, &raw); err != nil {
		t.Fatal(err)
	}
	if string(raw["version"]) != `"1.0"` || string(raw["stageVariables"]) != "null" {
		t.Errorf("%s", w.last().Payload)
	}
	if err := json.Unmarshal(w.last().Payload, &e); err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string][2]string{
		"resource": {e.Resource, "/pets/{kind}"}, "path": {e.Path, "/pets/a cat"}, "method": {e.HTTPMethod, "PUT"}, "header": {e.Headers["X-Two"], "2"}, "headers": {strings.Join(e.MultiValueHeaders["X-Two"], "|"), "1|2"},
		"a": {e.QueryStringParameters["a"], "2"}, "all a": {strings.Join(e.MultiValueQueryStringParameters["a"], "|"), "1|2"}, "kind": {e.PathParameters["kind"], "a cat"}, "body": {e.Body, "AAE="},
		"cookie": {e.Headers["Cookie"], "a=b"}, "stage": {e.RequestContext.Stage, "$default"}, "ip": {e.RequestContext.Identity.SourceIP, "192.0.2.1"}, "resource path": {e.RequestContext.ResourcePath, "/pets/{kind}"},
		"time": {e.RequestContext.RequestTime, "14/Nov/2023:22:13:20 +0000"}, "protocol": {e.RequestContext.Protocol, "HTTP/1.1"},
	} {
		if x[0] != x[1] {
			t.Errorf("%s is %q, not %q", name, x[0], x[1])
		}
	}
	if !e.IsBase64Encoded {
		t.Error("a picture is text")
	}
}

// What is no text as it stands decoded can't be told in JSON.
func TestAPathThatIsNoTextStaysEncoded(t *testing.T) {
	for path, want := range map[string]string{"/a%20b%2Fc%25": "/a b/c%", "/%ff": "/%ff", "/%zz": "/%zz"} {
		if got := decodedPath(path); got != want {
			t.Errorf("%s is %s", path, got)
		}
	}
}

func TestAnswersAreReadAsTheirFormatHasThem(t *testing.T) {
	w := newWorld(t)
	one, _ := w.api("1.0", "$default")
	two, _ := w.api("2.0", "$default")
	for _, x := range []struct {
		api, returned string
		status        int
		body, header  string
	}{
		{two, `{"message":"hi"}`, 200, `{"message":"hi"}`, "application/json"},
		{two, `"hi"`, 200, `"hi"`, "application/json"},
		{two, `{"statusCode":201,"headers":{"content-type":"text/x"},"cookies":["a=b","c=d"],"body":"aGk=","isBase64Encoded":true}`, 201, `hi`, "text/x"},
		{two, `{"statusCode":"x"}`, 500, `{"message":"Internal Server Error"}`, "application/json"},
		{one, `{"message":"hi"}`, 500, `{"message":"Internal Server Error"}`, "application/json"},
		{one, `"hi"`, 500, `{"message":"Internal Server Error"}`, "application/json"},
		{one, `null`, 500, `{"message":"Internal Server Error"}`, "application/json"},
		{one, `{"statusCode":200,"body":{}}`, 500, `{"message":"Internal Server Error"}`, "application/json"},
		{one, `{"statusCode":"204"}`, 204, ``, ""},
		{one, `{"statusCode":404,"headers":{"a":1,"content-type":"x/y"},"multiValueHeaders":{"A":["1","2"]},"body":"no"}`, 404, `no`, "x/y"},
		{one, `{"statusCode":200,"body":"aGk=","isBase64Encoded":true}`, 200, `hi`, "application/json"},
		{one, `{"statusCode":200,"body":"!","isBase64Encoded":true}`, 500, `{"message":"Internal Server Error"}`, "application/json"},
	} {
		w.returns(x.returned)
		got := w.send(x.api, "GET", "/", "")
		if got.status != x.status || got.body != x.body || got.header.Get("Content-Type") != x.header {
			t.Errorf("%s: %+v", x.returned, got)
		}
		if strings.Contains(x.returned, "cookies") && len(got.header["Set-Cookie"]) != 2 || strings.Contains(x.returned, "multi") && len(got.header["A"]) != 2 {
			t.Errorf("%s: %v", x.returned, got.header)
		}
	}
}

// Whatever a function returns in the format 1.0, the answer can be sent.
func FuzzAnswer1(f *testing.F) {
	f.Add([]byte(`{"statusCode":200,"headers":{"a":1},"multiValueHeaders":{"b":["c"]},"body":"aGk=","isBase64Encoded":true}`))
	f.Add([]byte(`{"statusCode":"9","headers":{"a":null}}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		a, err := answer1(&hearth.Result{Payload: payload})
		if err == nil && (a.Status < 200 || a.Status > 599) || err != nil && err != gateway.ErrFunction {
			t.Fatalf("%+v %v", a, err)
		}
	})
}

func TestWhatFailsIsToldAsTheServiceDoes(t *testing.T) {
	w := newWorld(t)
	id := w.quick(echo)
	for _, x := range []struct {
		result *hearth.Result
		err    error
		status int
	}{
		{&hearth.Result{FunctionError: "Unhandled", Payload: []byte(`{}`)}, nil, 500},
		{nil, hearth.Errorf(hearth.AccessDenied, "secret"), 500},
		{nil, hearth.Errorf(hearth.NotFound, "secret"), 500},
		{nil, hearth.Errorf(hearth.TooManyRequests, "secret"), 503},
		{nil, hearth.Errorf(hearth.RequestTooLarge, "secret"), 413},
	} {
		w.run = func(*hearth.Invocation) (*hearth.Result, error) { return x.result, x.err }
		got := w.send(id, "GET", "/", "")
		if got.status != x.status || strings.Contains(got.body, "secret") || !strings.HasPrefix(got.body, `{"message":"`) {
			t.Errorf("%v %v: %+v", x.result, x.err, got)
		}
	}
	w.run = nil
	if got := w.send(id, "POST", "/", strings.Repeat("x", 5<<20)); got.status != 413 { // in base64 more than a function takes
		t.Errorf("a large event: %d", got.status)
	}
	if got := w.send(id, "POST", "/", strings.Repeat("x", maxBody+1)); got.status != 413 {
		t.Errorf("a large body: %d", got.status)
	}
	if got := w.send(id, "GET", "/", "", "X-Large", strings.Repeat("x", maxHeader)); got.status != 431 {
		t.Errorf("large headers: %d", got.status)
	}
	if got := w.send("nosuchapi0", "GET", "/", ""); got.status != 404 || got.body != `{"message":"Not Found"}` {
		t.Errorf("no API: %+v", got)
	}
	r := w.do(httptestRequest("GET", "http://elsewhere/", nil))
	if r.status != 599 {
		t.Errorf("a request for nobody here: %d", r.status)
	}
}

func httptestRequest(method, url string, header http.Header) *http.Request {
	r, err := http.NewRequest(method, url, http.NoBody)
	if err != nil {
		panic(err)
	}
	r.RequestURI, r.RemoteAddr = r.URL.RequestURI(), "192.0.2.1:1"
	if header != nil {
		r.Header = header
	}
	return r
}
