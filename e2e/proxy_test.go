package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
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
	if err := lambda.NewFunctionActiveV2Waiter(client).Wait(t.Context(), &lambda.GetFunctionInput{FunctionName: ptr("f")}, time.Minute); err != nil {
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
