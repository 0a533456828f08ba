package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/apigatewayv2"
	gatewaytypes "github.com/aws/aws-sdk-go-v2/service/apigatewayv2/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/go-jose/go-jose/v4"

	"github.com/hearth-faas/hearth/jwt/jwttest"
)

// echoEvent answers with the event that it got.
const echoEvent = `
import json
def handler(event, context):
    return {"statusCode": 200, "headers": {"x-function": context.function_name}, "cookies": ["seen=1"], "body": json.dumps(event)}
`

// deployEcho makes the function echo, which APIs may call.
func (s *server) deployEcho() (arn string) {
	s.t.Helper()
	s.deploy(function{name: "echo", runtime: "python3.12", files: map[string]string{"index.py": echoEvent}})
	s.letAPIsCall("echo", "")
	return "arn:aws:lambda:us-east-1:000000000000:function:echo"
}

// letAPIsCall has a function's policy let API Gateway call it for what source
// names; "" is everything.
func (s *server) letAPIsCall(name, source string) {
	s.t.Helper()
	in := &lambda.AddPermissionInput{FunctionName: &name, StatementId: ptr("apis"), Action: ptr("lambda:InvokeFunction"), Principal: ptr("apigateway.amazonaws.com")}
	if source != "" {
		in.SourceArn = &source
	}
	if _, err := s.client().AddPermission(s.t.Context(), in); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) gateway() *apigatewayv2.Client { return apigatewayv2.NewFromConfig(s.config()) }

// event is what echoEvent answered with.
type apiEvent struct {
	Version, RouteKey, RawPath, Body string
	Headers, PathParameters          map[string]string
	StageVariables                   map[string]string
	RequestContext                   struct {
		APIID, Stage string
		Authorizer   struct {
			JWT struct {
				Claims map[string]string
				Scopes []string
			}
			IAM struct{ AccessKey, UserARN string }
		}
	}
}

func eventIn(t testing.TB, got fetched) (e apiEvent) {
	t.Helper()
	if got.status != 200 {
		t.Fatalf("%+v", got)
	}
	if err := json.Unmarshal([]byte(got.body), &e); err != nil {
		t.Fatalf("%v in %s", err, got.body)
	}
	return e
}

func TestTheAWSCommandLineMakesAnHTTPAPI(t *testing.T) {
	t.Parallel()
	s := start(t)
	arn := s.deployEcho()
	dir := t.TempDir()
	cli := func(args ...string) string { return s.run(dir, "aws", append([]string{"apigatewayv2"}, args...)...) }
	var api struct{ ApiId, ApiEndpoint string }
	if err := json.Unmarshal([]byte(cli("create-api", "--name", "hello", "--protocol-type", "HTTP", "--target", arn, "--output", "json")), &api); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(api.ApiEndpoint, "http://"+api.ApiId+".execute-api.us-east-1.localhost:") {
		t.Fatal(api.ApiEndpoint)
	}
	e := eventIn(t, fetch(t, "POST", api.ApiEndpoint+"/a/b?c=d", "text", "Content-Type", "text/plain"))
	if e.Version != "2.0" || e.RouteKey != "$default" || e.RawPath != "/a/b" || e.Body != "text" || e.RequestContext.APIID != api.ApiId || e.RequestContext.Stage != "$default" {
		t.Errorf("%+v", e)
	}
	// curl takes names under localhost for this machine, as browsers do.
	if out := s.run(dir, "curl", "-s", api.ApiEndpoint+"/curl"); !strings.Contains(out, `"rawPath": "/curl"`) {
		t.Errorf("curl: %s", out)
	}
	// Clients that don't can come by the path.
	if out := s.run(dir, "curl", "-s", s.endpoint+"/execute-api/"+api.ApiId+"/path"); !strings.Contains(out, `"rawPath": "/path"`) {
		t.Errorf("by the path: %s", out)
	}
	// What is exported is imported.
	cli("export-api", "--api-id", api.ApiId, "--specification", "OAS30", "--output-type", "YAML", "--stage-name", "$default", "api.yaml")
	var imported struct{ ApiId, ApiEndpoint string }
	if err := json.Unmarshal([]byte(cli("import-api", "--body", "file://api.yaml", "--output", "json")), &imported); err != nil {
		t.Fatal(err)
	}
	if got := fetch(t, "GET", imported.ApiEndpoint+"/", ""); got.status != 404 {
		t.Errorf("without a stage: %+v", got)
	}
	cli("create-stage", "--api-id", imported.ApiId, "--stage-name", "v1", "--auto-deploy")
	if e := eventIn(t, fetch(t, "GET", imported.ApiEndpoint+"/v1/x", "")); e.RequestContext.Stage != "v1" || e.RawPath != "/v1/x" {
		t.Errorf("%+v", e)
	}
	// Without the function's permission the client is told nothing of why.
	s.run(dir, "aws", "lambda", "remove-permission", "--function-name", "echo", "--statement-id", "apis")
	if got := fetch(t, "GET", api.ApiEndpoint+"/", ""); got.status != 500 || got.body != `{"message":"Internal Server Error"}` {
		t.Errorf("%+v", got)
	}
	s.letAPIsCall("echo", "arn:aws:execute-api:us-east-1:000000000000:"+api.ApiId+"/*/$default")
	eventIn(t, fetch(t, "GET", api.ApiEndpoint+"/", ""))
	if got := fetch(t, "GET", imported.ApiEndpoint+"/v1/x", ""); got.status != 500 {
		t.Errorf("an API that the policy does not name: %+v", got)
	}
	cli("delete-api", "--api-id", imported.ApiId)
	cli("delete-api", "--api-id", api.ApiId)
	if got := fetch(t, "GET", api.ApiEndpoint+"/", ""); got.status != 404 {
		t.Errorf("deleted: %+v", got)
	}
	if out := strings.TrimSpace(cli("get-apis", "--query", "length(Items)", "--output", "text")); out != "0" {
		t.Errorf("%s APIs are left", out)
	}
}

// boto3API makes an API with all that one can have, by hand.
const boto3API = `
import boto3, json, sys
from botocore.exceptions import ClientError
fn, backend = sys.argv[1], sys.argv[2]
c = boto3.client("apigatewayv2")
api = c.create_api(Name="all", ProtocolType="HTTP", CorsConfiguration={"AllowOrigins": ["https://a.example"], "AllowMethods": ["GET"]}, Tags={"a": "b"})
id = api["ApiId"]
one = c.create_integration(ApiId=id, IntegrationType="AWS_PROXY", IntegrationUri="arn:aws:lambda:us-east-1:000000000000:function:${stageVariables.fn}", PayloadFormatVersion="1.0")
two = c.create_integration(ApiId=id, IntegrationType="AWS_PROXY", IntegrationUri=fn, PayloadFormatVersion="2.0", RequestParameters={"overwrite:header.x-mapped": "$request.path.id"})
http = c.create_integration(ApiId=id, IntegrationType="HTTP_PROXY", IntegrationMethod="ANY", IntegrationUri=backend + "/{proxy}")
def route(key, i, **more):
    return c.create_route(ApiId=id, RouteKey=key, Target="integrations/" + i["IntegrationId"], **more)
route("GET /one", one)
route("ANY /two/{id}", two)
route("ANY /http/{proxy+}", http)
route("GET /signed", two, AuthorizationType="AWS_IAM")
limited = route("GET /limited", two)
d = c.create_deployment(ApiId=id, Description="first")
c.create_stage(ApiId=id, StageName="live", DeploymentId=d["DeploymentId"], StageVariables={"fn": "echo"},
    RouteSettings={"GET /limited": {"ThrottlingRateLimit": 0.001, "ThrottlingBurstLimit": 1}},
    AccessLogSettings={"DestinationArn": "arn:aws:logs:us-east-1:000000000000:log-group:/access/all", "Format": '{"route":"$context.routeKey","status":"$context.status","id":"$context.requestId"}'})
assert c.get_api(ApiId=id)["Tags"] == {"a": "b"}
c.tag_resource(ResourceArn="arn:aws:apigateway:us-east-1::/apis/" + id, Tags={"c": "d"})
assert c.get_tags(ResourceArn="arn:aws:apigateway:us-east-1::/apis/" + id)["Tags"] == {"a": "b", "c": "d"}
pages = [len(c.get_routes(ApiId=id, MaxResults="3")["Items"]), len(c.get_routes(ApiId=id)["Items"])]
assert pages == [3, 5], pages
def error(f, **kw):
    try:
        f(**kw)
    except ClientError as e:
        return e.response["Error"]["Code"], e.response["ResponseMetadata"]["HTTPStatusCode"]
assert error(c.get_api, ApiId="none") == ("NotFoundException", 404)
assert error(c.create_route, ApiId=id, RouteKey="GET /one") == ("ConflictException", 409)
assert error(c.create_route, ApiId=id, RouteKey="nonsense") == ("BadRequestException", 400)
assert error(c.create_api, Name="w", ProtocolType="WEBSOCKET", RouteSelectionExpression="nonsense") == ("BadRequestException", 400)
assert error(c.delete_integration, ApiId=id, IntegrationId=two["IntegrationId"]) == ("ConflictException", 409)
print(json.dumps([id, api["ApiEndpoint"] + "/live"]))
`

func TestBoto3MakesAnHTTPAPIOfAllParts(t *testing.T) {
	t.Parallel()
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		fmt.Fprintf(w, "%s %s %s", r.Method, r.URL, b)
	}))
	defer backend.Close()
	s := start(t, "--http-backends", strings.TrimPrefix(backend.URL, "http://"))
	arn := s.deployEcho()
	var made [2]string
	if err := json.Unmarshal([]byte(s.run(t.TempDir(), "python3", "-c", boto3API, arn, backend.URL)), &made); err != nil {
		t.Fatal(err)
	}
	id, url := made[0], made[1]
	whole := t

	t.Run("payload 1.0 by a stage variable", func(t *testing.T) {
		got := fetch(t, "GET", url+"/one", "")
		if e := eventIn(t, got); e.Version != "1.0" || e.StageVariables["fn"] != "echo" || got.header.Get("X-Function") != "echo" {
			t.Errorf("%+v", e)
		}
	})
	t.Run("payload 2.0 with a mapping", func(t *testing.T) {
		got := fetch(t, "PUT", url+"/two/7", "x")
		if e := eventIn(t, got); e.Version != "2.0" || e.PathParameters["id"] != "7" || e.Headers["x-mapped"] != "7" || got.header.Get("Set-Cookie") != "seen=1" {
			t.Errorf("%+v", e)
		}
	})
	t.Run("an HTTP backend", func(t *testing.T) {
		if got := fetch(t, "PATCH", url+"/http/a/b?c=d", "body"); got.status != 200 || got.body != "PATCH /a/b?c=d body" {
			t.Errorf("%+v", got)
		}
	})
	t.Run("a browser's question", func(t *testing.T) {
		got := fetch(t, "OPTIONS", url+"/one", "", "Origin", "https://a.example", "Access-Control-Request-Method", "GET")
		if got.status != 204 || got.header.Get("Access-Control-Allow-Origin") != "https://a.example" {
			t.Errorf("%+v", got)
		}
	})
	t.Run("a bounded route", func(t *testing.T) {
		eventIn(t, fetch(t, "GET", url+"/limited", ""))
		if got := fetch(t, "GET", url+"/limited", ""); got.status != 429 || got.body != `{"message":"Too Many Requests"}` {
			t.Errorf("%+v", got)
		}
	})
	t.Run("a signed route", func(t *testing.T) {
		if got := fetch(t, "GET", url+"/signed", ""); got.status != 403 || got.body != `{"message":"Forbidden"}` {
			t.Errorf("unsigned: %+v", got)
		}
		r, err := http.NewRequest("GET", url+"/signed", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		cfg := s.config()
		keys, err := cfg.Credentials.Retrieve(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
		if err := v4.NewSigner().SignHTTP(t.Context(), keys, r, empty, "execute-api", cfg.Region, time.Now()); err != nil {
			t.Fatal(err)
		}
		if e := eventIn(t, send(t, r)); e.RequestContext.Authorizer.IAM.AccessKey != keys.AccessKeyID || e.Headers["authorization"] != "" {
			t.Errorf("%+v", e)
		}
	})
	t.Run("a route that there is not", func(t *testing.T) {
		if got := fetch(t, "GET", url+"/none", ""); got.status != 404 || got.body != `{"message":"Not Found"}` {
			t.Errorf("%+v", got)
		}
	})
	t.Run("the access log has it all", func(t *testing.T) {
		wait := time.Now().Add(patience)
		for {
			out := s.run(t.TempDir(), "aws", "logs", "filter-log-events", "--log-group-name", "/access/all", "--query", "events[].message", "--output", "json")
			if strings.Contains(out, `\"route\":\"GET /one\",\"status\":\"200\"`) && strings.Contains(out, `\"route\":\"GET /limited\",\"status\":\"429\"`) && strings.Contains(out, `\"route\":\"-\",\"status\":\"404\"`) {
				break
			}
			if time.Now().After(wait) {
				t.Fatal(out)
			}
		}
	})
	t.Run("a host name of one's own", func(t *testing.T) {
		ctx, c := t.Context(), s.gateway()
		if _, err := c.CreateDomainName(ctx, &apigatewayv2.CreateDomainNameInput{DomainName: ptr("api.shop.example"), DomainNameConfigurations: []gatewaytypes.DomainNameConfiguration{{EndpointType: gatewaytypes.EndpointTypeRegional}}}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.CreateApiMapping(ctx, &apigatewayv2.CreateApiMappingInput{DomainName: ptr("api.shop.example"), ApiId: &id, Stage: ptr("live"), ApiMappingKey: ptr("v1")}); err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]int{"/v1/two/1": 200, "/two/1": 404, "/v1": 404} {
			r, err := http.NewRequest("GET", s.endpoint+path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = "api.shop.example"
			if got := send(t, r); got.status != want {
				t.Errorf("%s: %+v", path, got)
			}
		}
	})
	t.Run("after a kill", func(t *testing.T) {
		s.kill9()
		s = startIn(whole, s.dir, "--listen", strings.TrimPrefix(s.endpoint, "http://"))
		if e := eventIn(t, fetch(t, "GET", url+"/two/7", "")); e.PathParameters["id"] != "7" {
			t.Errorf("%+v", e)
		}
		r, err := http.NewRequest("GET", s.endpoint+"/v1/two/1", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "api.shop.example"
		eventIn(t, send(t, r))
	})
	t.Run("the machine itself is not called", func(t *testing.T) {
		if got := fetch(t, "GET", url+"/http/a", ""); got.status != 503 { // --http-backends was not said again
			t.Errorf("%+v", got)
		}
	})
}

func TestAnIssuersTokensOpenAnHTTPAPI(t *testing.T) {
	t.Parallel()
	issuer := jwttest.New(t)
	key := issuer.Rotate("one", jose.ES256)
	token := func(claims map[string]any) string { return issuer.Token(key, issuer.Claims(time.Now(), claims)) }
	s := start(t, "--http-backends", strings.TrimPrefix(issuer.URL, "http://"))
	arn := s.deployEcho()
	ctx, c := t.Context(), s.gateway()
	api, err := c.CreateApi(ctx, &apigatewayv2.CreateApiInput{Name: ptr("jwt"), ProtocolType: gatewaytypes.ProtocolTypeHttp, Target: &arn})
	if err != nil {
		t.Fatal(err)
	}
	auth, err := c.CreateAuthorizer(ctx, &apigatewayv2.CreateAuthorizerInput{
		ApiId: api.ApiId, Name: ptr("jwt"), AuthorizerType: gatewaytypes.AuthorizerTypeJwt, IdentitySource: []string{"$request.header.Authorization"},
		JwtConfiguration: &gatewaytypes.JWTConfiguration{Audience: []string{"shop"}, Issuer: &issuer.URL},
	})
	if err != nil {
		t.Fatal(err)
	}
	routes, err := c.GetRoutes(ctx, &apigatewayv2.GetRoutesInput{ApiId: api.ApiId})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.UpdateRoute(ctx, &apigatewayv2.UpdateRouteInput{
		ApiId: api.ApiId, RouteId: routes.Items[0].RouteId, AuthorizationType: gatewaytypes.AuthorizationTypeJwt, AuthorizerId: auth.AuthorizerId, AuthorizationScopes: []string{"buy"},
	}); err != nil {
		t.Fatal(err)
	}
	e := eventIn(t, fetch(t, "GET", *api.ApiEndpoint, "", "Authorization", "Bearer "+token(nil)))
	if j := e.RequestContext.Authorizer.JWT; j.Claims["sub"] != "me" || len(j.Scopes) != 1 || j.Scopes[0] != "buy" {
		t.Errorf("%+v", j)
	}
	if got := fetch(t, "GET", *api.ApiEndpoint, ""); got.status != 401 || got.body != `{"message":"Unauthorized"}` || got.header.Get("Www-Authenticate") == "" {
		t.Errorf("%+v", got)
	}
	if got := fetch(t, "GET", *api.ApiEndpoint, "", "Authorization", "Bearer "+token(map[string]any{"scope": "look"})); got.status != 403 {
		t.Errorf("%+v", got)
	}
	if got := fetch(t, "GET", *api.ApiEndpoint, "", "Authorization", "Bearer "+token(map[string]any{"aud": "elsewhere"})); got.status != 401 {
		t.Errorf("%+v", got)
	}
	// What was counted is on the page.
	page := fetch(t, "GET", s.endpoint+"/metrics", "").body
	for _, line := range []string{`,code="2xx",route="",stage="$default"} 1`, `,code="4xx",route="",stage="$default"} 3`} {
		if want := `hearth_http_api_requests_total{api="` + *api.ApiId + `"` + line; !strings.Contains(page, want) {
			t.Errorf("the metrics have no %s", want)
		}
	}
}

// Requests are answered without a failure while the API is changed by a client
// and stages go from deployment to deployment.
func TestAnHTTPAPIChangesWithoutAFailedCall(t *testing.T) {
	t.Parallel()
	s := start(t)
	arn := s.deployEcho()
	ctx, c := t.Context(), s.gateway()
	api, err := c.CreateApi(ctx, &apigatewayv2.CreateApiInput{Name: ptr("live"), ProtocolType: gatewaytypes.ProtocolTypeHttp, Target: &arn})
	if err != nil {
		t.Fatal(err)
	}
	var served atomic.Int64
	done := make(chan struct{})
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				got := fetch(t, "GET", *api.ApiEndpoint+"/x", "")
				if got.status != 200 {
					t.Errorf("%+v", got)
					return
				}
				served.Add(1)
			}
		})
	}
	stage := func(deployment *string) error {
		_, err := c.UpdateStage(ctx, &apigatewayv2.UpdateStageInput{ApiId: api.ApiId, StageName: ptr("v1"), DeploymentId: deployment})
		return err
	}
	changes := 0
	change := func(err error) {
		if changes++; err != nil {
			t.Error(err)
		}
	}
	_, err = c.CreateStage(ctx, &apigatewayv2.CreateStageInput{ApiId: api.ApiId, StageName: ptr("v1")})
	change(err)
	var last *string
	for n := 0; n < 25 || served.Load() < 200 && !t.Failed(); n++ {
		route, err := c.CreateRoute(ctx, &apigatewayv2.CreateRouteInput{ApiId: api.ApiId, RouteKey: ptr(fmt.Sprintf("GET /r%d", n))})
		change(err)
		d, err := c.CreateDeployment(ctx, &apigatewayv2.CreateDeploymentInput{ApiId: api.ApiId})
		change(err)
		if t.Failed() {
			break
		}
		change(stage(d.DeploymentId))
		if last != nil {
			_, err = c.DeleteDeployment(ctx, &apigatewayv2.DeleteDeploymentInput{ApiId: api.ApiId, DeploymentId: last})
			change(err)
		}
		last = d.DeploymentId
		_, err = c.DeleteRoute(ctx, &apigatewayv2.DeleteRouteInput{ApiId: api.ApiId, RouteId: route.RouteId})
		change(err)
	}
	close(done)
	group.Wait()
	t.Logf("%d requests were answered while %d changes were made", served.Load(), changes)
}

func TestTerraformMakesHTTPAPIs(t *testing.T) {
	if _, err := exec.LookPath("terraform"); err != nil {
		lacking(t, "terraform is not here, and no package of Debian's has it")
	}
	t.Parallel()
	s := start(t)
	s.deploy(function{name: "echo", runtime: "python3.12", files: map[string]string{"index.py": echoEvent}})
	tf := &terraform{s, t.TempDir()}
	module, err := os.ReadFile(filepath.Join("testdata", "httpapi", "main.tf"))
	if err != nil {
		t.Fatal(err)
	}
	tf.write("main.tf", string(module))
	tf.init()
	variables := map[string]any{
		"function": "arn:aws:lambda:us-east-1:000000000000:function:echo", "queue": s.queue("orders", nil),
		"routes": map[string]string{"GET /pets": "NONE", "POST /pets": "JWT", "$default": "CUSTOM"}, "greeting": "hello", "origins": []string{"https://a.example"}, "imported": "/one",
	}
	tf.set(variables)
	tf.apply()
	out := tf.outputs()
	at := func(name string) string { return out[name].(string) }
	got := fetch(t, "GET", at("shop")+"/pets", "", "Origin", "https://a.example")
	if e := eventIn(t, got); e.Headers["x-greeting"] != "hello" || e.StageVariables["greeting"] != "hello" || got.header.Get("X-Stage") != "$default" || got.header.Get("Access-Control-Allow-Origin") != "https://a.example" {
		t.Errorf("%+v %v", e, got.header)
	}
	if got := fetch(t, "POST", at("shop")+"/pets", ""); got.status != 401 {
		t.Errorf("without a token: %+v", got)
	}
	if got := fetch(t, "GET", at("shop")+"/other", ""); got.status != 401 {
		t.Errorf("without a key: %+v", got)
	}
	if got := fetch(t, "POST", at("shop")+"/orders", `{"hello":"one order"}`); got.status != 200 || !strings.Contains(got.body, "<SendMessageResponse") {
		t.Errorf("a message is not sent: %+v", got)
	}
	if m, err := s.queues().ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: aws.String(variables["queue"].(string)), WaitTimeSeconds: 20}); err != nil || len(m.Messages) != 1 || *m.Messages[0].Body != "one order" {
		t.Errorf("the queue has %+v, %v", m, err)
	}
	eventIn(t, fetch(t, "GET", at("quick")+"/", ""))
	eventIn(t, fetch(t, "GET", at("imported")+"/one", ""))
	if want := "arn:aws:execute-api:us-east-1:000000000000:"; !strings.HasPrefix(at("execution_arn"), want) {
		t.Error(at("execution_arn"))
	}

	variables["routes"] = map[string]string{"GET /pets": "AWS_IAM", "PUT /pets/{id}": "NONE"}
	variables["greeting"], variables["origins"], variables["imported"] = "bye", []string{"https://b.example", "https://c.example"}, "/two"
	tf.set(variables)
	tf.apply()
	if got := fetch(t, "GET", at("shop")+"/pets", ""); got.status != 403 {
		t.Errorf("unsigned: %+v", got)
	}
	if e := eventIn(t, fetch(t, "PUT", at("shop")+"/pets/7", "")); e.Headers["x-greeting"] != "bye" {
		t.Errorf("%+v", e)
	}
	if got := fetch(t, "GET", at("imported")+"/one", ""); got.status != 404 {
		t.Errorf("a route that was replaced: %+v", got)
	}
	eventIn(t, fetch(t, "GET", at("imported")+"/two", ""))

	tf.run("destroy", "-auto-approve", "-input=false")
	list, err := s.gateway().GetApis(t.Context(), &apigatewayv2.GetApisInput{})
	if err != nil {
		t.Fatal(err)
	}
	names, err := s.gateway().GetDomainNames(t.Context(), &apigatewayv2.GetDomainNamesInput{})
	if err != nil || len(list.Items)+len(names.Items) != 0 {
		t.Errorf("left are %v %v, %v", list.Items, names, err)
	}
}
