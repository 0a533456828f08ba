package e2e

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// urlOf makes a URL for a function or an alias of it.
func (s *server) urlOf(name, alias string, edit func(*lambda.CreateFunctionUrlConfigInput)) string {
	s.t.Helper()
	in := &lambda.CreateFunctionUrlConfigInput{FunctionName: &name, AuthType: types.FunctionUrlAuthTypeNone}
	if alias != "" {
		in.Qualifier = &alias
	}
	if edit != nil {
		edit(in)
	}
	out, err := s.client().CreateFunctionUrlConfig(context.Background(), in)
	if err != nil {
		s.t.Fatal(err)
	}
	return *out.FunctionUrl
}

// permit lets everybody call the URL, which takes two statements.
func (s *server) permit(name, alias string) {
	s.t.Helper()
	for _, in := range []lambda.AddPermissionInput{
		{StatementId: ptr("url"), Action: ptr("lambda:InvokeFunctionUrl"), FunctionUrlAuthType: types.FunctionUrlAuthTypeNone},
		{StatementId: ptr("invoke"), Action: ptr("lambda:InvokeFunction"), InvokedViaFunctionUrl: aws.Bool(true)},
	} {
		in.FunctionName, in.Principal = &name, ptr("*")
		if alias != "" {
			in.Qualifier = &alias
		}
		if _, err := s.client().AddPermission(context.Background(), &in); err != nil {
			s.t.Fatal(err)
		}
	}
}

// browser is an HTTP client for which all names under localhost are this
// machine, as they are for browsers.
var browser = &http.Client{Transport: &http.Transport{
	DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		if strings.HasSuffix(host, ".localhost") {
			host = "127.0.0.1"
		}
		return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(host, port))
	},
}}

// fetched is a response, read to its end.
type fetched struct {
	status int
	header http.Header
	body   string
	err    error // while the body was read
}

func fetch(t testing.TB, method, url, body string, header ...string) fetched {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return send(t, r)
}

func send(t testing.TB, r *http.Request) fetched {
	t.Helper()
	resp, err := browser.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return fetched{resp.StatusCode, resp.Header, string(b), err}
}

const echoURL = `
exports.handler = async (event) => {
  const q = event.queryStringParameters ?? {}
  if (q.fail) throw new Error('asked to')
  if (q.exit) process.exit(1)
  return { statusCode: 200, headers: { 'x-version': process.env.AWS_LAMBDA_FUNCTION_VERSION }, cookies: ['seen=1'], body: JSON.stringify(event) }
}
`

func TestFunctionURLsServe(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.deploy(function{name: "echo", runtime: "nodejs20.x", files: map[string]string{"index.js": echoURL}})
	url := s.urlOf("echo", "", func(in *lambda.CreateFunctionUrlConfigInput) {
		in.Cors = &types.Cors{AllowOrigins: []string{"https://example.com"}, AllowMethods: []string{"POST"}, AllowHeaders: []string{"x-a"}, MaxAge: aws.Int32(60)}
	})
	if !strings.Contains(url, ".lambda-url.us-east-1.localhost:") {
		t.Fatal(url)
	}
	if got := fetch(t, "GET", url, ""); got.status != 403 || got.body != `{"Message":"Forbidden"}` {
		t.Errorf("before anybody was let in: %+v", got)
	}
	s.permit("echo", "")

	t.Run("an event and its answer", func(t *testing.T) {
		got := fetch(t, "POST", url+"a/b?c=d&c=e", `{"x":"é"}`, "Content-Type", "application/json", "Cookie", "k=v")
		var e struct {
			RawPath, Body         string
			Cookies               []string
			QueryStringParameters map[string]string
			RequestContext        struct {
				AccountID, RequestID string
				HTTP                 struct{ Method, SourceIP string }
			}
		}
		if err := json.Unmarshal([]byte(got.body), &e); err != nil {
			t.Fatalf("%v in %+v", err, got)
		}
		if got.status != 200 || got.header.Get("X-Version") != "$LATEST" || got.header.Get("Set-Cookie") != "seen=1" || got.header.Get("X-Amzn-Requestid") != e.RequestContext.RequestID ||
			e.RawPath != "/a/b" || e.Body != `{"x":"é"}` || e.Cookies[0] != "k=v" || e.QueryStringParameters["c"] != "d,e" ||
			e.RequestContext.AccountID != "anonymous" || e.RequestContext.HTTP.Method != "POST" || e.RequestContext.HTTP.SourceIP != "127.0.0.1" {
			t.Errorf("%+v", got)
		}
		out, err := s.hearth("explain", e.RequestContext.RequestID)
		if err != nil || !strings.Contains(out, "echo") {
			t.Errorf("hearth explain: %s %v", out, err)
		}
	})
	t.Run("curl, by name and by path", func(t *testing.T) {
		id, _, _ := strings.Cut(strings.TrimPrefix(url, "http://"), ".")
		for _, u := range []string{url + "p", s.endpoint + "/lambda-url/" + id + "/p"} {
			cmd := exec.Command("curl", "-sS", "--max-time", "30", u)
			cmd.Env = cleanEnv()
			if out, err := output(cmd); err != nil || !strings.Contains(out, `"rawPath":"/p"`) {
				t.Errorf("%s: %s %v", u, out, err)
			}
		}
	})
	t.Run("a browser's page", func(t *testing.T) {
		ask := []string{"Origin", "https://example.com", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "x-a"}
		if got := fetch(t, "OPTIONS", url, "", ask...); got.status != 200 || got.body != "" || got.header.Get("Access-Control-Allow-Origin") != "https://example.com" ||
			got.header.Get("Access-Control-Allow-Methods") != "POST" || got.header.Get("Access-Control-Allow-Headers") != "x-a" || got.header.Get("Access-Control-Max-Age") != "60" {
			t.Errorf("%+v", got)
		}
		ask[1] = "https://evil.example"
		if got := fetch(t, "OPTIONS", url, "", ask...); got.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%+v", got)
		}
		if got := fetch(t, "POST", url, "{}", "Origin", "https://example.com"); got.status != 200 || got.header.Get("Access-Control-Allow-Origin") != "https://example.com" {
			t.Errorf("%+v", got)
		}
		if got := fetch(t, "OPTIONS", url, ""); got.status != 200 || !strings.Contains(got.body, `"method":"OPTIONS"`) {
			t.Errorf("an OPTIONS that is no preflight is the function's: %+v", got)
		}
	})
	t.Run("errors", func(t *testing.T) {
		for _, q := range []string{"?fail=1", "?exit=1"} {
			if got := fetch(t, "GET", url+q, ""); got.status != 502 || got.body != "Internal Server Error" {
				t.Errorf("%s: %+v", q, got)
			}
		}
		if got := fetch(t, "POST", url, strings.Repeat("x", 7<<20)); got.status != 413 {
			t.Errorf("7 MiB: %+v", got)
		}
		if got := fetch(t, "GET", strings.Replace(url, "http://", "http://x", 1), ""); got.status != 403 || got.body != `{"Message":null}` {
			t.Errorf("an unknown URL: %+v", got)
		}
	})
	t.Run("an alias, signed", func(t *testing.T) {
		c := s.client()
		if _, err := c.PublishVersion(t.Context(), &lambda.PublishVersionInput{FunctionName: ptr("echo")}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.CreateAlias(t.Context(), &lambda.CreateAliasInput{FunctionName: ptr("echo"), Name: ptr("live"), FunctionVersion: ptr("1")}); err != nil {
			t.Fatal(err)
		}
		url := s.urlOf("echo", "live", func(in *lambda.CreateFunctionUrlConfigInput) { in.AuthType = types.FunctionUrlAuthTypeAwsIam })
		if got := fetch(t, "GET", url, ""); got.status != 403 {
			t.Errorf("unsigned: %+v", got)
		}
		const body = "signed body"
		r, err := http.NewRequest("PUT", url+"x?y=z", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		keys, err := c.Options().Credentials.Retrieve(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256([]byte(body))
		if err := v4.NewSigner().SignHTTP(t.Context(), keys, r, hex.EncodeToString(sum[:]), "lambda", "us-east-1", time.Now()); err != nil {
			t.Fatal(err)
		}
		got := send(t, r)
		if got.status != 200 || got.header.Get("X-Version") != "1" || !strings.Contains(got.body, `"userArn":"arn:aws:iam::000000000000:root"`) {
			t.Errorf("signed: %+v", got)
		}
	})
	t.Run("the command line", func(t *testing.T) {
		s.deploy(function{name: "byhand", runtime: "nodejs20.x", files: map[string]string{"index.js": echoURL}})
		out, err := s.hearth("url", "byhand", "--create", "--auth", "none")
		if err != nil {
			t.Fatal(err)
		}
		if got := fetch(t, "GET", strings.TrimSpace(out), ""); got.status != 200 {
			t.Errorf("%q: %+v", out, got)
		}
		if again, err := s.hearth("url", "byhand"); err != nil || again != out {
			t.Errorf("%q, then %q %v", out, again, err)
		}
		if _, err := s.hearth("url", "byhand", "--delete"); err != nil {
			t.Error(err)
		}
		if got := fetch(t, "GET", strings.TrimSpace(out), ""); got.status != 403 {
			t.Errorf("deleted: %+v", got)
		}
	})
	t.Run("after a power cut", func(t *testing.T) {
		s.kill9()
		again := startIn(t, s.dir)
		out, err := again.client().GetFunctionUrlConfig(t.Context(), &lambda.GetFunctionUrlConfigInput{FunctionName: ptr("echo")})
		if err != nil {
			t.Fatal(err)
		}
		if got := fetch(t, "GET", *out.FunctionUrl, ""); got.status != 200 {
			t.Errorf("%+v", got)
		}
	})
}

func TestFunctionURLsStream(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.streamer("streamer")
	streaming := func(in *lambda.CreateFunctionUrlConfigInput) { in.InvokeMode = types.InvokeModeResponseStream }
	url := s.urlOf("streamer", "", streaming)
	s.permit("streamer", "")

	t.Run("the first byte comes while the function runs", func(t *testing.T) {
		r, err := http.NewRequest("GET", url+"?mode=gate&tag=url", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := browser.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body := bufio.NewReader(resp.Body)
		first := make([]byte, len("first"))
		if _, err := io.ReadFull(body, first); err != nil || string(first) != "first" {
			t.Fatalf("%q %v", first, err)
		}
		s.tag("streamer", "url")
		if rest, err := io.ReadAll(body); err != nil || string(rest) != "second" || resp.ContentLength != -1 {
			t.Errorf("%q %v, length %d", rest, err, resp.ContentLength)
		}
	})
	t.Run("prelude", func(t *testing.T) {
		got := fetch(t, "GET", url+"?mode=http", "")
		if got.status != 201 || got.body != "<p>é</p>" || got.header.Get("Content-Type") != "text/html" || got.header.Get("X-Mine") != "yes" || len(got.header["Set-Cookie"]) != 2 || got.err != nil {
			t.Errorf("%+v", got)
		}
	})
	t.Run("failures", func(t *testing.T) {
		if got := fetch(t, "GET", url+"?mode=early", ""); got.status != 502 || got.body != "Internal Server Error" {
			t.Errorf("before the first byte: %+v", got)
		}
		if got := fetch(t, "GET", url+"?mode=late", ""); got.status != 200 || got.body != "part" || !errors.Is(got.err, io.ErrUnexpectedEOF) {
			t.Errorf("after it: %+v", got)
		}
	})
	t.Run("a custom runtime", func(t *testing.T) {
		s.deploy(function{name: "gostream", runtime: "provided.al2023", handler: "bootstrap", zip: goZip(t, "gostream")})
		url := s.urlOf("gostream", "", streaming)
		s.permit("gostream", "")
		if got := fetch(t, "GET", url, ""); got.status != 202 || got.body != "from Go" || got.header.Get("Set-Cookie") != "c=d" || got.header.Get("Content-Type") != "text/plain" {
			t.Errorf("%+v", got)
		}
	})
	t.Run("not streamed once its mode says so", func(t *testing.T) {
		_, err := s.client().UpdateFunctionUrlConfig(t.Context(), &lambda.UpdateFunctionUrlConfigInput{FunctionName: ptr("streamer"), InvokeMode: types.InvokeModeBuffered})
		if err != nil {
			t.Fatal(err)
		}
		if got := fetch(t, "GET", url+"?mode=http", ""); got.status != 201 || got.body != "<p>é</p>" || got.header.Get("Content-Length") != "9" {
			t.Errorf("%+v", got)
		}
	})
}
