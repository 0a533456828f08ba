package e2e

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/apigatewayv2"
	gatewaytypes "github.com/aws/aws-sdk-go-v2/service/apigatewayv2/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
)

// asked is a request to a service that is signed.
type asked struct{ service, method, path, target, body string }

// byWire sends a signed request to a base URL and returns the status and what
// was answered.
func byWire(t *testing.T, client *http.Client, base string, keys aws.Credentials, a asked) (int, string) {
	t.Helper()
	r, err := http.NewRequest(a.method, base+a.path, strings.NewReader(a.body))
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case a.target != "":
		r.Header.Set("X-Amz-Target", a.target)
		r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	case strings.HasPrefix(a.body, "Action="):
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	sum := sha256.Sum256([]byte(a.body))
	if err := v4.NewSigner().SignHTTP(t.Context(), keys, r, hex.EncodeToString(sum[:]), a.service, "us-east-1", time.Now()); err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// Whoever is denied all that does not come by TLS is served by it and refused
// without, by every service; what needs no network is not in plain text.
func TestEveryServiceTellsPlainTextFromTLS(t *testing.T) {
	t.Parallel()
	cert, key, pool := selfSigned(t, t.TempDir())
	addr := net.JoinHostPort("127.0.0.1", freePort(t))
	s := start(t, "--tls-listen", addr, "--tls-cert", cert, "--tls-key", key)
	secure := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}}
	const unlessTLS = `"Condition":{"Bool":{"aws:SecureTransport":"false"}}`

	s.deploy(function{name: "sender", runtime: "python3.12", files: map[string]string{"queues.py": queuesInPython, "index.py": `
from queues import call
def handler(event, context):
    if 'url' in event:
        call(Action='SendMessage', QueueUrl=event['url'], MessageBody='from code')
    return 'done'
`}})
	const fn = "arn:aws:lambda:us-east-1:000000000000:function:sender"
	byURL := s.urlOf("sender", "", func(in *lambda.CreateFunctionUrlConfigInput) { in.AuthType = types.FunctionUrlAuthTypeAwsIam })
	api, err := s.gateway().CreateApi(t.Context(), &apigatewayv2.CreateApiInput{Name: ptr("a"), ProtocolType: gatewaytypes.ProtocolTypeHttp, Target: ptr(fn)})
	if err != nil {
		t.Fatal(err)
	}
	routes, err := s.gateway().GetRoutes(t.Context(), &apigatewayv2.GetRoutesInput{ApiId: api.ApiId})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.gateway().UpdateRoute(t.Context(), &apigatewayv2.UpdateRouteInput{ApiId: api.ApiId, RouteId: routes.Items[0].RouteId, AuthorizationType: gatewaytypes.AuthorizationTypeAwsIam}); err != nil {
		t.Fatal(err)
	}
	// What the function's own policy denies, API Gateway does not do.
	if _, err := s.client().PutResourcePolicy(t.Context(), &lambda.PutResourcePolicyInput{ResourceArn: ptr(fn), Policy: ptr(says(
		`{"Effect":"Deny","Principal":"*","Action":"*","Resource":"`+fn+`",`+unlessTLS+`}`,
		`{"Effect":"Allow","Principal":{"Service":"apigateway.amazonaws.com"},"Action":"lambda:InvokeFunction","Resource":"`+fn+`"}`))}); err != nil {
		t.Fatal(err)
	}
	queue := s.queue("closed", map[string]string{"Policy": says(
		`{"Effect":"Deny","Principal":"*","Action":"sqs:*","Resource":"*",`+unlessTLS+`}`,
		`{"Effect":"Allow","Principal":{"Service":"events.amazonaws.com"},"Action":"sqs:SendMessage","Resource":"*"}`)})
	role, err := iam.NewFromConfig(s.config()).CreateRole(t.Context(), &iam.CreateRoleInput{RoleName: ptr("r"), AssumeRolePolicyDocument: ptr(says(
		`{"Effect":"Allow","Principal":{"AWS":"000000000000"},"Action":"sts:AssumeRole"}`, `{"Effect":"Deny","Principal":"*","Action":"sts:AssumeRole",`+unlessTLS+`}`))})
	if err != nil {
		t.Fatal(err)
	}
	root := s.credentials()
	ann := member{s, root.AccessKeyID, root.SecretAccessKey, ""}.user("ann", says(`{"Effect":"Allow","Action":"*","Resource":"*"}`, `{"Effect":"Deny","Action":"*","Resource":"*",`+unlessTLS+`}`))
	annsKeys := aws.Credentials{AccessKeyID: ann.id, SecretAccessKey: ann.secret}

	send := asked{"sqs", "POST", "/", "AmazonSQS.SendMessage", fmt.Sprintf(`{"QueueUrl":%q,"MessageBody":"by TLS"}`, queue)}
	invoke := asked{"lambda", "POST", "/2015-03-31/functions/sender/invocations", "", `{}`}
	assume := asked{"sts", "POST", "/", "", "Action=AssumeRole&Version=2011-06-15&RoleSessionName=me&RoleArn=" + url.QueryEscape(*role.Role.Arn)}
	for _, c := range []struct {
		who  aws.Credentials
		what asked
	}{
		{annsKeys, asked{"lambda", "GET", "/2015-03-31/functions", "", ""}},
		{annsKeys, asked{"lambda", "GET", "/2015-03-31/functions/sender", "", ""}},
		{annsKeys, invoke},
		{annsKeys, asked{"lambda", "GET", "/lambda-url/" + strings.Split(strings.TrimPrefix(byURL, "http://"), ".")[0] + "/", "", ""}},
		{annsKeys, asked{"execute-api", "GET", "/execute-api/" + *api.ApiId + "/", "", ""}},
		{annsKeys, asked{"apigateway", "GET", "/v2/apis", "", ""}},
		{annsKeys, asked{"logs", "POST", "/", "Logs_20140328.DescribeLogGroups", "{}"}},
		{annsKeys, asked{"events", "POST", "/", "AWSEvents.ListEventBuses", "{}"}},
		{annsKeys, asked{"scheduler", "GET", "/schedules", "", ""}},
		{annsKeys, asked{"iam", "POST", "/", "", "Action=ListUsers&Version=2010-05-08"}},
		{annsKeys, asked{"sts", "POST", "/", "", "Action=GetAccessKeyInfo&Version=2011-06-15&AccessKeyId=" + root.AccessKeyID}},
		{annsKeys, asked{"sqs", "POST", "/", "AmazonSQS.ListQueues", "{}"}},
		{annsKeys, asked{"hearth", "GET", "/_hearth/v1/decisions", "", ""}},
		// By the resource's policy alone.
		{root, invoke}, {root, send}, {root, assume},
	} {
		if status, body := byWire(t, secure, "https://"+addr, c.who, c.what); status != 200 {
			t.Errorf("by TLS %+v: %d %s", c.what, status, body)
		}
		if status, body := byWire(t, http.DefaultClient, s.endpoint, c.who, c.what); status != 403 && (status != 400 || !strings.Contains(body, "AccessDeniedException")) {
			t.Errorf("in plain text %+v: %d %s", c.what, status, body)
		}
	}

	// Code in a sandbox and an event bus send to the queue, too.
	for _, step := range []asked{
		{"lambda", "POST", "/2015-03-31/functions/sender/invocations", "", fmt.Sprintf(`{"url":%q}`, queue)},
		{"events", "POST", "/", "AWSEvents.PutRule", `{"Name":"r","EventPattern":"{\"source\":[\"shop\"]}"}`},
		{"events", "POST", "/", "AWSEvents.PutTargets", `{"Rule":"r","Targets":[{"Id":"1","Arn":"arn:aws:sqs:us-east-1:000000000000:closed","Input":"\"from a rule\""}]}`},
		{"events", "POST", "/", "AWSEvents.PutEvents", `{"Entries":[{"Source":"shop","DetailType":"x","Detail":"{}"}]}`},
	} {
		if status, body := byWire(t, secure, "https://"+addr, root, step); status != 200 || strings.Contains(body, "errorMessage") {
			t.Fatalf("%+v: %d %s", step, status, body)
		}
	}
	cfg := s.config()
	cfg.BaseEndpoint, cfg.HTTPClient = ptr("https://"+addr), secure
	got := map[string]bool{}
	for end := time.Now().Add(patience); len(got) < 3; {
		out, err := sqs.NewFromConfig(cfg).ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &queue, MaxNumberOfMessages: 10, WaitTimeSeconds: 5, VisibilityTimeout: 600})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range out.Messages {
			got[*m.Body] = true
		}
		if time.Now().After(end) {
			break
		}
	}
	if !got["by TLS"] || !got["from code"] || !got[`"from a rule"`] {
		t.Errorf("received %v", got)
	}
}
