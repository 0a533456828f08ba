package gateway

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/registry"
	"pgregory.net/rapid"
)

// What a function reads out of the event by the public library is what the
// client has sent.
func TestNoRequestIsAltered(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := url.Values{}
		for range rapid.IntRange(0, 4).Draw(t, "parameters") {
			values.Add(rapid.StringMatching(`[a-c ]{1,2}`).Draw(t, "name"), rapid.String().Draw(t, "value"))
		}
		body := rapid.SliceOf(rapid.Byte()).Draw(t, "body")
		if rapid.Bool().Draw(t, "is text") {
			body = []byte(rapid.String().Draw(t, "text"))
		}
		header := http.Header{"Content-Type": {rapid.SampledFrom([]string{"text/plain", "application/json", "image/png", ""}).Draw(t, "type")}}
		for range rapid.IntRange(0, 3).Draw(t, "headers") {
			header.Add(rapid.SampledFrom([]string{"X-A", "X-B"}).Draw(t, "header"), rapid.StringMatching(`[ -~]{0,8}`).Draw(t, "header value"))
		}
		cookies := rapid.SliceOfN(rapid.StringMatching(`[a-z]=[a-z0-9]{0,3}`), 0, 3).Draw(t, "cookies")
		if len(cookies) > 0 {
			header["Cookie"] = []string{strings.Join(cookies, "; ")}
		}
		path := "/" + rapid.StringMatching(`[a-z/%]{0,6}`).Draw(t, "path")
		u := &url.URL{Path: path, RawQuery: values.Encode()}
		q := &request{
			endpoint: &endpoint{URL: registry.URL{ID: testID}}, body: body, path: u.EscapedPath(), began: time.UnixMilli(rapid.Int64Range(0, 1<<41).Draw(t, "time")),
			http: &http.Request{Method: "POST", URL: u, Header: header, Host: testHost, RemoteAddr: "127.0.0.1:1", Proto: "HTTP/1.1"},
		}
		b, err := eventOf(q)
		if err != nil {
			t.Fatal(err)
		}
		var e events.LambdaFunctionURLRequest
		if err := json.Unmarshal(b, &e); err != nil {
			t.Fatalf("%v in %s", err, b)
		}
		got := []byte(e.Body)
		if e.IsBase64Encoded {
			if got, err = base64.StdEncoding.DecodeString(e.Body); err != nil {
				t.Fatal(err)
			}
		}
		if string(got) != string(body) || strings.Join(e.Cookies, ";") != strings.Join(cookies, ";") || e.RequestContext.TimeEpoch != q.began.UnixMilli() {
			t.Fatalf("%q became %s", body, b)
		}
		if path, err := url.PathUnescape(e.RawPath); err != nil || path != u.Path {
			t.Fatalf("path %q became %q", u.Path, e.RawPath)
		}
		if len(e.QueryStringParameters) != len(values) {
			t.Fatalf("%v became %v", values, e.QueryStringParameters)
		}
		for name, all := range values {
			if e.QueryStringParameters[name] != strings.Join(all, ",") {
				t.Fatalf("%q: %q became %q", name, all, e.QueryStringParameters[name])
			}
		}
		for name, all := range header {
			if name != "Cookie" && e.Headers[strings.ToLower(name)] != strings.Join(all, ",") {
				t.Fatalf("%q: %q became %q", name, all, e.Headers[strings.ToLower(name)])
			}
		}
	})
}

// What the public library's functions return comes out as they mean it.
func TestNoResponseIsAltered(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body := rapid.SliceOf(rapid.Byte()).Draw(t, "body")
		out := events.LambdaFunctionURLResponse{
			StatusCode: rapid.IntRange(200, 599).Draw(t, "status"), Body: base64.StdEncoding.EncodeToString(body), IsBase64Encoded: true,
			Cookies: rapid.SliceOfN(rapid.StringMatching(`[a-z]=[a-z]`), 0, 3).Draw(t, "cookies"),
			Headers: rapid.MapOfN(rapid.StringMatching(`X-[A-Z]`), rapid.StringMatching(`[ -~]{0,8}`), 0, 3).Draw(t, "headers"),
		}
		if rapid.Bool().Draw(t, "is text") {
			text := rapid.String().Draw(t, "text")
			out.Body, out.IsBase64Encoded, body = text, false, []byte(text)
		}
		payload, err := json.Marshal(out)
		if err != nil {
			t.Fatal(err)
		}
		a, err := AnswerOf(&hearth.Result{Payload: payload})
		if err != nil || a.Status != out.StatusCode || string(a.Body) != string(body) || strings.Join(a.Cookies, ";") != strings.Join(out.Cookies, ";") {
			t.Fatalf("%s became %+v, %v", payload, a, err)
		}
		for name, value := range out.Headers {
			if a.Header.Get(name) != value {
				t.Fatalf("%s became %+v", payload, a.Header)
			}
		}
	})
}

// However a response is cut into pieces, its prelude is the same.
func FuzzPrelude(f *testing.F) {
	f.Add([]byte(`{"statusCode":200,"headers":{"a":"b"},"cookies":["c"]}`+end+"body"), uint8(3))
	f.Add([]byte(`{}`+end+end), uint8(9))
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00"), uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, step uint8) {
		var one prelude
		want, body, wantErr := one.take(data)
		var l prelude
		size := int(step) + 1
		for rest := data; ; {
			n := min(size, len(rest))
			a, tail, err := l.take(rest[:n])
			rest = rest[n:]
			if err != nil || a != nil || len(rest) == 0 {
				if len(data) <= maxPrelude && (err == nil) != (wantErr == nil) || (a == nil) != (want == nil) && len(data) <= maxPrelude {
					t.Fatalf("in pieces %+v %v, at once %+v %v", a, err, want, wantErr)
				}
				if a != nil && want != nil && (a.Status != want.Status || string(tail)+string(rest) != string(body)) {
					t.Fatalf("%q and %q", string(tail)+string(rest), body)
				}
				return
			}
		}
	})
}

// Whatever a function returns, the answer is one that can be sent.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"statusCode":200,"headers":{"a":1},"cookies":["b"],"body":"aGk=","isBase64Encoded":true}`))
	f.Add([]byte(`"x"`))
	f.Add([]byte(` {"statusCode":null,"body":{}}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		a, err := AnswerOf(&hearth.Result{Payload: payload})
		if err == nil && (a.Status < 200 || a.Status > 999 || a.Header == nil) || err != nil && err != ErrFunction {
			t.Fatalf("%+v %v", a, err)
		}
	})
}
