package e2e

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/apigatewayv2"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
)

// Each client is told URLs that it reaches, and is answered there: under TLS by
// the name that it used, on the machine itself by the plain listener.
func TestURLsAreToldAsTheyAreReached(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key, pool := selfSigned(t, dir)
	port := freePort(t)
	s := start(t, "--tls-listen", "0.0.0.0:"+port, "--tls-cert", cert, "--tls-key", key)
	base := "https://" + net.JoinHostPort("127.0.0.1", port)
	secure := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	arn := s.deployEcho()
	s.must("url", "echo", "--create", "--auth", "none")
	far := s.config()
	far.BaseEndpoint, far.HTTPClient = aws.String(base), secure

	near, err := s.client().GetFunctionUrlConfig(t.Context(), &lambda.GetFunctionUrlConfigInput{FunctionName: aws.String("echo")})
	if err != nil || !strings.HasPrefix(*near.FunctionUrl, "http://") || !strings.Contains(*near.FunctionUrl, ".localhost:") {
		t.Errorf("on the machine: %+v, %v", near, err)
	}
	url, err := lambda.NewFromConfig(far).GetFunctionUrlConfig(t.Context(), &lambda.GetFunctionUrlConfigInput{FunctionName: aws.String("echo")})
	if err != nil || !strings.HasPrefix(*url.FunctionUrl, base+"/lambda-url/") || url.AuthType != types.FunctionUrlAuthTypeNone {
		t.Fatalf("under TLS: %+v, %v", url, err)
	}
	api, err := apigatewayv2.NewFromConfig(far).CreateApi(t.Context(), &apigatewayv2.CreateApiInput{Name: aws.String("a"), ProtocolType: "HTTP", Target: &arn})
	if err != nil || *api.ApiEndpoint != base+"/execute-api/"+*api.ApiId {
		t.Fatalf("an HTTP API: %+v, %v", api, err)
	}
	if local, err := s.gateway().GetApi(t.Context(), &apigatewayv2.GetApiInput{ApiId: api.ApiId}); err != nil || !strings.HasPrefix(*local.ApiEndpoint, "http://"+*api.ApiId+".execute-api.") {
		t.Errorf("the same on the machine: %+v, %v", local, err)
	}
	if all, err := apigatewayv2.NewFromConfig(far).GetApis(t.Context(), nil); err != nil || len(all.Items) != 1 || *all.Items[0].ApiEndpoint != *api.ApiEndpoint {
		t.Errorf("the list: %+v, %v", all, err)
	}
	exported, err := apigatewayv2.NewFromConfig(far).ExportApi(t.Context(), &apigatewayv2.ExportApiInput{ApiId: api.ApiId, OutputType: aws.String("JSON"), Specification: aws.String("OAS30")})
	if err != nil || !strings.Contains(string(exported.Body), *api.ApiEndpoint) {
		t.Errorf("the export: %v", err)
	}
	for _, at := range []string{*url.FunctionUrl, *api.ApiEndpoint + "/x"} {
		answer, err := secure.Get(at)
		if err != nil {
			t.Errorf("%s: %v", at, err)
			continue
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || answer.StatusCode != http.StatusOK {
			t.Errorf("%s answers %d %s, %v", at, answer.StatusCode, body, err)
		}
	}
	queues := sqs.NewFromConfig(far)
	if q, err := queues.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String("q")}); err != nil || *q.QueueUrl != base+"/000000000000/q" {
		t.Errorf("a queue: %+v, %v", q, err)
	}
	if out := s.must("env", "--public"); !strings.Contains(out, "AWS_ENDPOINT_URL="+base+"\n") {
		t.Errorf("hearth env --public says %s", out)
	}
	if out := s.must("env"); !strings.Contains(out, "AWS_ENDPOINT_URL=http://127.0.0.1:") {
		t.Errorf("hearth env says %s", out)
	}
	if out := s.must("account", "create", "team-a", "--json"); !strings.Contains(out, base) {
		t.Errorf("the account's profile names another endpoint: %s", out)
	}
}
