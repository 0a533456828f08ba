package e2e

import (
	"net/http"
	"testing"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/apigatewayv2"
	gatewaytypes "github.com/aws/aws-sdk-go-v2/service/apigatewayv2/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
)

// signedGet gets url as whom the server's environment names.
func (s *server) signedGet(url string) fetched {
	s.t.Helper()
	r, err := http.NewRequest("GET", url, http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	cfg := s.config()
	keys, err := cfg.Credentials.Retrieve(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	if err := v4.NewSigner().SignHTTP(s.t.Context(), keys, r, empty, "execute-api", cfg.Region, time.Now()); err != nil {
		s.t.Fatal(err)
	}
	return send(s.t, r)
}

// Two accounts have HTTP APIs on one server: neither sees the other's, calls
// its functions or its signed routes unless it is let, and what one had goes
// with it.
func TestHTTPAPIsAreOfTheirAccount(t *testing.T) {
	t.Parallel()
	s := start(t)
	one, two := s.tenant("one"), s.tenant("two")
	ctx := t.Context()
	one.deploy(function{name: "echo", runtime: "python3.12", files: map[string]string{"index.py": echoEvent}})
	f := "arn:aws:lambda:us-east-1:" + one.id + ":function:echo"
	create := func(who *tenant) *apigatewayv2.CreateApiOutput {
		t.Helper()
		api, err := who.gateway().CreateApi(ctx, &apigatewayv2.CreateApiInput{Name: ptr("api"), ProtocolType: gatewaytypes.ProtocolTypeHttp, Target: &f})
		if err != nil {
			t.Fatal(err)
		}
		return api
	}
	mine, theirs := create(one), create(two)
	one.letAPIsCall("echo", "arn:aws:execute-api:us-east-1:"+one.id+":"+*mine.ApiId+"/*")
	eventIn(t, fetch(t, "GET", *mine.ApiEndpoint, ""))
	if got := fetch(t, "GET", *theirs.ApiEndpoint, ""); got.status != 500 || got.body != `{"message":"Internal Server Error"}` {
		t.Errorf("a function of another account answers unasked: %+v", got)
	}
	if _, err := one.client().AddPermission(ctx, &lambda.AddPermissionInput{
		FunctionName: ptr("echo"), StatementId: ptr("two"), Action: ptr("lambda:InvokeFunction"), Principal: ptr("apigateway.amazonaws.com"), SourceAccount: &two.id,
	}); err != nil {
		t.Fatal(err)
	}
	eventIn(t, fetch(t, "GET", *theirs.ApiEndpoint, "")) // it was let

	if _, err := two.gateway().GetApi(ctx, &apigatewayv2.GetApiInput{ApiId: mine.ApiId}); err == nil {
		t.Error("one sees the API of another account")
	}
	if _, err := two.gateway().DeleteApi(ctx, &apigatewayv2.DeleteApiInput{ApiId: mine.ApiId}); err == nil {
		t.Error("one deletes the API of another account")
	}
	routes, err := one.gateway().GetRoutes(ctx, &apigatewayv2.GetRoutesInput{ApiId: mine.ApiId})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := one.gateway().UpdateRoute(ctx, &apigatewayv2.UpdateRouteInput{ApiId: mine.ApiId, RouteId: routes.Items[0].RouteId, AuthorizationType: gatewaytypes.AuthorizationTypeAwsIam}); err != nil {
		t.Fatal(err)
	}
	eventIn(t, one.signedGet(*mine.ApiEndpoint+"/"))
	if got := two.signedGet(*mine.ApiEndpoint + "/"); got.status != 403 {
		t.Errorf("signed by another account: %+v", got)
	}

	name := &apigatewayv2.CreateDomainNameInput{DomainName: ptr("api.two.example"), DomainNameConfigurations: []gatewaytypes.DomainNameConfiguration{{EndpointType: gatewaytypes.EndpointTypeRegional}}}
	if _, err := two.gateway().CreateDomainName(ctx, name); err != nil {
		t.Fatal(err)
	}
	if _, err := one.gateway().CreateDomainName(ctx, name); err == nil {
		t.Error("a host name is taken twice")
	}
	if out, err := s.hearth("account", "delete", two.id, "--everything"); err != nil {
		t.Fatal(err, out)
	}
	if got := fetch(t, "GET", *theirs.ApiEndpoint, ""); got.status != 404 {
		t.Errorf("the API of an account that is gone: %+v", got)
	}
	if _, err := one.gateway().CreateDomainName(ctx, name); err != nil {
		t.Errorf("its host name is not free: %v", err)
	}
}
