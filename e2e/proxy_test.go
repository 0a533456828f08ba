package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/go-jose/go-jose/v4"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/jwt/jwttest"
	"github.com/hearth-faas/hearth/proxy"
)

// A server serves the proxy APIs of its own accounts, each of which calls its own
// functions.
func TestProxyEndpointsOfAServersAccounts(t *testing.T) {
	t.Parallel()
	s := start(t)
	var made control.AccountMade
	out := s.must("account", "create", "team-a", "--json")
	if err := json.Unmarshal([]byte(out), &made); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	team := made.Account.ID
	theirs := aws.Credentials{AccessKeyID: made.AccessKeyID, SecretAccessKey: made.SecretAccessKey}
	provider := credentials.StaticCredentialsProvider{Value: theirs}
	cfg := s.config()
	cfg.Credentials = provider
	client := lambda.NewFromConfig(cfg)
	const code = "def handler(event, context):\n    return context.invoked_function_arn\n"
	_, err := client.CreateFunction(t.Context(), &lambda.CreateFunctionInput{
		FunctionName: ptr("f"), Runtime: types.RuntimePython312, Handler: ptr("index.handler"), Role: ptr("arn:aws:iam::" + string(team) + ":role/x"),
		Code: &types.FunctionCode{ZipFile: zipOf(t, map[string]string{"index.py": code})},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := lambda.NewFunctionActiveV2Waiter(client, promptly).Wait(t.Context(), &lambda.GetFunctionInput{FunctionName: ptr("f")}, patience); err != nil {
		t.Fatal(err)
	}
	c := &control.Client{Endpoint: s.endpoint, Region: cfg.Region, Credentials: provider}
	if _, err := c.PutProxyResource(t.Context(), proxy.Resource{ID: "r", Type: "thing"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.PutProxyAPI(t.Context(), []byte(`{"id": "open", "resource": "r", "methods": ["GET"], "path": "/open", "function": "f", "auth": {"kind": "none"}, "mapping": {}}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.PutProxyAPI(t.Context(), []byte(`{"id": "signed", "resource": "r", "methods": ["GET"], "path": "/signed", "function": "f", "auth": {"kind": "sigv4"}, "mapping": {}}`)); err != nil {
		t.Fatal(err)
	}
	get := func(url, host string, sign *aws.Credentials) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if host != "" {
			r.Host = host
		}
		if sign != nil {
			const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
			if err := v4.NewSigner().SignHTTP(t.Context(), *sign, r, empty, proxy.SigningService, cfg.Region, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		got, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer got.Body.Close()
		text, err := io.ReadAll(got.Body)
		if err != nil {
			t.Fatal(err)
		}
		return got.StatusCode, string(text)
	}
	arn := `"arn:aws:lambda:us-east-1:` + string(team) + `:function:f"`
	base := s.endpoint + proxy.PathPrefix + string(team)
	operator := s.credentials()
	for _, call := range []struct {
		what, url, host string
		sign            *aws.Credentials
		status          int
		says            string
	}{
		{"by path", base + "/open", "", nil, 200, arn},
		{"by host name", s.endpoint + "/open", string(team) + ".proxy.localhost", nil, 200, arn},
		{"at another account", s.endpoint + proxy.PathPrefix + string(hearth.DefaultAccount) + "/open", "", nil, 404, "NoSuchPath"},
		{"unsigned", base + "/signed", "", nil, 401, "Unauthorized"},
		{"signed", base + "/signed", "", &theirs, 200, arn},
		{"signed by another account", base + "/signed", "", &operator, 403, "Forbidden"},
	} {
		if status, text := get(call.url, call.host, call.sign); status != call.status || !strings.Contains(text, call.says) {
			t.Errorf("%s: %d %s, want %d %s", call.what, status, text, call.status, call.says)
		}
	}
	if list, err := s.controlClient().ProxyAPIs(t.Context(), ""); err != nil || len(list) != 0 {
		t.Errorf("another account sees %v (%v)", list, err)
	}
	s.must("account", "delete", "team-a", "--everything")
	if status, _ := get(base+"/open", "", nil); status != 404 {
		t.Errorf("an API of an account that is gone answers with %d", status)
	}
}

// Tokens of one issuer open proxy endpoints, of a server and of a process of
// their own.
func TestAnIssuersTokensOpenProxyEndpoints(t *testing.T) {
	t.Parallel()
	issuer := jwttest.New(t)
	key := issuer.Rotate("one", jose.RS256)
	token := func(changed map[string]any) string {
		return "Bearer " + issuer.Token(key, issuer.Claims(time.Now(), changed))
	}
	opened := []string{"--http-backends", strings.TrimPrefix(issuer.URL, "http://")}
	there := start(t, opened...)
	there.deploy(function{name: "f", runtime: "python3.12", files: map[string]string{"index.py": "def handler(event, context):\n    return event\n"}})
	dir, err := os.MkdirTemp(scratch, "proxy-")
	if err != nil {
		t.Fatal(err)
	}
	alone := startEndpoints(t, dir, there.endpoint, s08Credentials(t, there), opened...)
	for what, s := range map[string]*server{"a server": there, "endpoints alone": alone.server} {
		c := s.controlClient()
		if _, err := c.PutProxyResource(t.Context(), proxy.Resource{ID: "r", Type: "thing", State: json.RawMessage(`{"owner": "me"}`)}); err != nil {
			t.Fatal(err)
		}
		doc := `{"id": "a", "resource": "r", "methods": ["GET"], "path": "/a", "function": "f",
			"auth": {"kind": "jwt", "issuer": "` + issuer.URL + `", "audience": ["shop"], "scopes": ["buy"]},
			"mapping": {"require": [{"that": "request.claims.sub == resource.state.owner", "message": "it is somebody else's", "status": 403}],
				"event": "{'sub': request.claims.sub, 'admin': request.claims.admin}"}}`
		if _, err := c.PutProxyAPI(t.Context(), []byte(doc)); err != nil {
			t.Fatal(err)
		}
		url := s.endpoint + proxy.PathPrefix + string(hearth.DefaultAccount) + "/a"
		for _, call := range []struct {
			authorization string
			status        int
			says          string
		}{
			{token(nil), 200, `{"admin":true,"sub":"me"}`},
			{token(map[string]any{"sub": "you"}), 403, "somebody else's"},
			{token(map[string]any{"scope": "look"}), 403, "scopes"},
			{token(map[string]any{"aud": "elsewhere"}), 401, "another audience"},
			{"Bearer x", 401, "can't be read"},
		} {
			if got := fetch(t, "GET", url, "", "Authorization", call.authorization); got.status != call.status || !strings.Contains(got.body, call.says) {
				t.Errorf("%s: %d %s, want %d %s", what, got.status, got.body, call.status, call.says)
			}
		}
		page := fetch(t, "GET", s.endpoint+"/metrics", "").body
		if want := `hearth_proxy_api_requests_total{account="` + string(hearth.DefaultAccount) + `",api="a",code="4xx"} 4`; !strings.Contains(page, want) {
			t.Errorf("%s: the metrics have no %s", what, want)
		}
	}
}
