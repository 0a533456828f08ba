package wire_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/apigateway"
	"github.com/hearth-faas/hearth/apigateway/wire"
	"github.com/hearth-faas/hearth/awsjson"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/store/storetest"
)

type nobody struct{}

func (nobody) Lookup(string, string) (string, hearth.Identity, error) {
	return "", hearth.Identity{}, hearth.Errorf(hearth.UnrecognizedClient, "nobody")
}

func (nobody) Invoke(context.Context, *hearth.Invocation) (*hearth.Result, error) {
	return nil, hearth.Errorf(hearth.NotFound, "no function")
}

func open(t testing.TB) *apigateway.Service {
	s, err := apigateway.Open(t.Context(), apigateway.Config{
		Store: &storetest.Memory{}, Clock: clock.NewFake(time.Unix(1700000000, 0)), Region: "us-east-1", Invoker: nobody{}, Credentials: nobody{},
		Endpoint: func(id string) string { return "http://" + id }, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Requests follow one another, as a client sends them. @a and so on are the ids
// that earlier answers had.
func TestTheServiceAnswersAsItsProtocolHasIt(t *testing.T) {
	h := wire.New(wire.Config{APIs: open(t)})
	const f = "arn:aws:lambda:us-east-1:111111111111:function:f"
	ids := map[string]string{}
	for _, x := range []struct {
		request, body string
		status        int
		kind, want    string
		id            string // a pattern whose group is kept, and its name
	}{
		{"POST /v2/apis", `{"name":"a","protocolType":"HTTP","tags":{"k":"v"}}`, 201, "", `"createdDate":"2023-11-14T22:13:20Z"`, `@a "apiId":"(\w+)"`},
		{"POST /v2/apis", `{"name":"a","protocolType":"WEBSOCKET","routeSelectionExpression":"x"}`, 400, "BadRequestException", `routeSelectionExpression is required`, ""},
		{"POST /v2/apis", `{"name":"a","protocolType":"WEBSOCKET","routeSelectionExpression":"$request.body.action"}`, 201, "", `"apiEndpoint":"ws://`, `@w "apiId":"(\w+)"`},
		{"POST /v2/apis/@w/integrations", `{"integrationType":"AWS_PROXY","integrationUri":"` + f + `","contentHandlingStrategy":"CONVERT_TO_TEXT"}`, 201, "", `"contentHandlingStrategy":"CONVERT_TO_TEXT"`, `@n "integrationId":"(\w+)"`},
		{"GET /v2/apis/@w/integrations/@n", ``, 200, "", `"passthroughBehavior":"WHEN_NO_MATCH","payloadFormatVersion":"1.0","timeoutInMillis":29000`, ""},
		{"PATCH /v2/apis/@w/integrations/@n", `{"passthroughBehavior":"ALWAYS"}`, 400, "BadRequestException", `WHEN_NO_TEMPLATES`, ""},
		{"PATCH /v2/apis/@w/integrations/@n", `{"contentHandlingStrategy":"BASE64"}`, 400, "BadRequestException", `CONVERT_TO_BINARY`, ""},
		{"POST /v2/apis/@w/routes", `{"routeKey":"$connect","requestParameters":{"route.request.querystring.a":{"required":true},"route.request.header.b":{"required":false}}}`, 201, "", `"route.request.querystring.a":{"required":true}`, `@q "routeId":"(\w+)"`},
		{"PATCH /v2/apis/@w/routes/@q", `{"requestParameters":{"route.request.body.a":{"required":true}}}`, 400, "BadRequestException", `route.request.header.NAME`, ""},
		{"DELETE /v2/apis/@w/routes/@q/requestparameters/route.request.header.b", ``, 204, "", ``, ""},
		{"DELETE /v2/apis/@w/routes/@q/requestparameters/route.request.header.b", ``, 404, "NotFoundException", `route.request.header.b`, ""},
		{"GET /v2/apis/@w/routes/@q", ``, 200, "", `"requestParameters":{"route.request.querystring.a":{"required":true}}`, ""},
		{"POST /v2/apis/@w/routes", `{"routeKey":"say","requestParameters":{"route.request.querystring.a":{"required":true}}}`, 400, "BadRequestException", `for the route $connect`, ""},
		{"POST /v2/apis/@w/routes", `{"routeKey":"say","requestModels":{"$default":"m"}}`, 400, "BadRequestException", `requestModels is not supported by Hearth`, ""},
		{"POST /v2/apis/@w/routes", `{"routeKey":"say","requestModels":{},"modelSelectionExpression":"$request.body.x"}`, 400, "BadRequestException", `modelSelectionExpression is not supported`, ""},
		{"POST /v2/apis/@w/stages", `{"stageName":"live","clientCertificateId":"c"}`, 400, "BadRequestException", `clientCertificateId is not supported`, ""},
		{"POST /v2/apis", `{"name":"a"}`, 400, "BadRequestException", `protocolType is required`, ""},
		{"POST /v2/apis", `[`, 400, "BadRequestException", `can't be read`, ""},
		{"POST /v2/apis", `{"name":1,"protocolType":"HTTP"}`, 400, "BadRequestException", `can't be read`, ""},
		{"POST /v2/apis", `{"name":"q","protocolType":"HTTP","target":"ftp://x"}`, 400, "BadRequestException", `Invalid HTTP endpoint`, ""},
		{"POST /v2/apis", `{"name":"q","protocolType":"HTTP","target":"arn:aws:sqs:us-east-1:111111111111:q"}`, 400, "BadRequestException", `Invalid function ARN`, ""},
		{"GET /v2/apis/none", ``, 404, "NotFoundException", `Invalid API identifier specified none`, ""},
		{"GET /v2/apis/@a", ``, 200, "", `"routeSelectionExpression":"$request.method $request.path","tags":{"k":"v"}`, ""},
		{"PATCH /v2/apis/@a", `{"description":"d","tags":{"x":"y"},"apiId":"evil"}`, 200, "", `"tags":{"k":"v"}`, ""},
		{"PATCH /v2/apis/@a", `{"target":"https://elsewhere.example"}`, 400, "BadRequestException", `has no such integration`, ""},
		{"PATCH /v2/apis/@a", `{"corsConfiguration":{"allowOrigins":["https://*.example.com"]}}`, 400, "BadRequestException", `https://*`, ""},
		{"PATCH /v2/apis/@a", `{"corsConfiguration":{"allowOrigins":["*"],"allowCredentials":true}}`, 400, "BadRequestException", `allowCredentials`, ""},
		{"POST /v2/apis/@a/integrations", `{"integrationType":"AWS_PROXY","integrationUri":"` + f + `","payloadFormatVersion":"2.0","requestParameters":{"append:header.a":"1","append:header.b":"2"}}`, 201, "", `"connectionType":"INTERNET"`, `@i "integrationId":"(\w+)"`},
		{"PATCH /v2/apis/@a/integrations/@i", `{"requestParameters":{"append:header.a":"","append:header.c":"3"}}`, 200, "", `"requestParameters":{"append:header.b":"2","append:header.c":"3"}`, ""},
		{"POST /v2/apis/@a/integrations/@i/integrationresponses", `{"integrationResponseKey":"$default"}`, 404, "UnknownOperationException", `route response`, ""},
		{"POST /v2/apis/@a/integrations", `{"integrationType":"MOCK"}`, 400, "BadRequestException", `an HTTP API has`, ""},
		{"POST /v2/apis/@a/integrations", `{"integrationType":"AWS_PROXY","integrationSubtype":"SQS-SendMessage","payloadFormatVersion":"1.0"}`, 400, "BadRequestException", `integrationSubtype`, ""},
		{"POST /v2/apis/@a/routes", `{"routeKey":"GET /p/{id}","target":"integrations/@i"}`, 201, "", `"apiKeyRequired":false,"authorizationType":"NONE"`, `@r "routeId":"(\w+)"`},
		{"POST /v2/apis/@a/routes", `{"routeKey":"GET /p/{other}"}`, 409, "ConflictException", `already exists`, ""},
		{"POST /v2/apis/@a/routes", `{"routeKey":"GET /x","requestParameters":{"route.request.header.a":{"required":true}}}`, 400, "BadRequestException", `for WebSocket APIs`, ""},
		{"POST /v2/apis/@a/integrations", `{"integrationType":"AWS_PROXY","integrationUri":"` + f + `","contentHandlingStrategy":"CONVERT_TO_TEXT"}`, 400, "BadRequestException", `for WebSocket APIs`, ""},
		{"POST /v2/apis/@a/routes", `{"routeKey":"FETCH /"}`, 400, "BadRequestException", `route key`, ""},
		{"POST /v2/apis/@a/routes", `{"routeKey":"GET /x","target":"integrations/none"}`, 404, "NotFoundException", `Invalid Integration identifier`, ""},
		{"POST /v2/apis/@a/routes", `{"routeKey":"GET /x","authorizationType":"JWT"}`, 400, "BadRequestException", `authorizerId`, ""},
		{"DELETE /v2/apis/@a/integrations/@i", ``, 409, "ConflictException", `GET /p/{id}`, ""},
		{"POST /v2/apis/@a/authorizers", `{"name":"j","authorizerType":"JWT","identitySource":["$request.header.Authorization"],"jwtConfiguration":{"audience":["x"],"issuer":"https://i.example"}}`, 201, "", `"issuer":"https://i.example"`, `@z "authorizerId":"(\w+)"`},
		{"PATCH /v2/apis/@a/routes/@r", `{"authorizationType":"JWT","authorizerId":"@z","authorizationScopes":["s"]}`, 200, "", `"authorizationScopes":["s"]`, ""},
		{"DELETE /v2/apis/@a/authorizers/@z", ``, 409, "ConflictException", `is referenced in route`, ""},
		{"POST /v2/apis/@a/stages", `{"stageName":"v 1"}`, 400, "BadRequestException", `stageName`, ""},
		{"POST /v2/apis/@a/stages", `{"stageName":"v1","deploymentId":"none"}`, 404, "NotFoundException", `Invalid Deployment identifier`, ""},
		{"POST /v2/apis/@a/stages", `{"stageName":"v1","stageVariables":{"a":"1","b":"2"},"routeSettings":{"GET /p/{id}":{"throttlingRateLimit":1.5}}}`, 201, "", `"throttlingRateLimit":1.5`, ""},
		{"POST /v2/apis/@a/stages", `{"stageName":"v1"}`, 409, "ConflictException", `Stage already exists`, ""},
		{"PATCH /v2/apis/@a/stages/v1", `{"stageVariables":{"a":""},"accessLogSettings":{"destinationArn":"arn:aws:logs:us-east-1:111111111111:log-group:g","format":"$context.requestId"}}`, 200, "", `"stageVariables":{"b":"2"}`, ""},
		{"DELETE /v2/apis/@a/stages/v1/accesslogsettings", ``, 204, "", ``, ""},
		{"DELETE /v2/apis/@a/stages/v1/routesettings/GET%20%2Fp%2F%7Bid%7D", ``, 204, "", ``, ""},
		{"GET /v2/apis/@a/stages/v1", ``, 200, "", `"routeSettings":{},"stageName":"v1"`, ""},
		{"POST /v2/apis/@a/deployments", `{"stageName":"v1","description":"first"}`, 201, "", `"deploymentStatus":"DEPLOYED"`, `@d "deploymentId":"(\w+)"`},
		{"PATCH /v2/apis/@a/deployments/@d", `{}`, 200, "", `"description":"first"`, ""},
		{"DELETE /v2/apis/@a/deployments/@d", ``, 400, "BadRequestException", `Active stages pointing to this deployment`, ""},
		{"DELETE /v2/apis/@a/stages/v1/cache/authorizers", ``, 204, "", ``, ""},
		{"GET /v2/apis/@a/exports/OAS30?outputType=JSON&stageName=v1", ``, 200, "", `"openapi": "3.0.1"`, ""},
		{"GET /v2/apis/@a/exports/OAS30?outputType=XML", ``, 400, "BadRequestException", `JSON or YAML`, ""},
		{"GET /v2/apis/@a/exports/OAS20?outputType=JSON", ``, 400, "BadRequestException", `OAS30`, ""},
		{"PUT /v2/apis", `{"body":"{\"openapi\":\"3.0.0\",\"info\":{\"title\":\"imported\"},\"paths\":{}}"}`, 201, "", `"name":"imported"`, `@m "apiId":"(\w+)"`},
		{"POST /v2/domainnames", `{"domainName":"api.example.com","domainNameConfigurations":[{"certificateArn":"arn:c"}]}`, 201, "", `"domainNameStatus":"AVAILABLE"`, ""},
		{"POST /v2/domainnames", `{"domainName":"api","domainNameConfigurations":[{}]}`, 400, "BadRequestException", `domainName`, ""},
		{"POST /v2/domainnames", `{"domainName":"b.example.com","domainNameConfigurations":[{}],"mutualTlsAuthentication":{}}`, 400, "BadRequestException", `mutualTlsAuthentication`, ""},
		{"POST /v2/domainnames/api.example.com/apimappings", `{"apiId":"@a","stage":"none"}`, 404, "NotFoundException", `Stage`, ""},
		{"POST /v2/domainnames/api.example.com/apimappings", `{"apiId":"@a","stage":"v1","apiMappingKey":"/x/"}`, 400, "BadRequestException", `apiMappingKey`, ""},
		{"POST /v2/domainnames/api.example.com/apimappings", `{"apiId":"@a","stage":"v1"}`, 201, "", `"apiMappingKey":""`, `@p "apiMappingId":"(\w+)"`},
		{"POST /v2/domainnames/api.example.com/apimappings", `{"apiId":"@a","stage":"v1"}`, 409, "ConflictException", `key already exists`, ""},
		{"DELETE /v2/apis/@a/stages/v1", ``, 409, "ConflictException", `api.example.com`, ""},
		{"POST /v2/tags/arn:aws:apigateway:us-east-1::%2Fapis%2F@a", `{"tags":{"n":"1"}}`, 201, "", ``, ""},
		{"DELETE /v2/tags/arn:aws:apigateway:us-east-1::%2Fapis%2F@a?tagKeys=k", ``, 204, "", ``, ""},
		{"GET /v2/tags/arn:aws:apigateway:us-east-1::/apis/@a", ``, 200, "", `{"tags":{"n":"1"}}`, ""},
		{"GET /v2/tags/arn:aws:apigateway:us-east-1::%2Fvpclinks%2Fx", ``, 400, "BadRequestException", `only APIs, stages and domain names`, ""},
		{"POST /v2/domainnames/api.example.com/routingrules", ``, 404, "UnknownOperationException", `Routing rules are not supported by Hearth`, ""},
		{"GET /v2/apis?maxResults=1", ``, 200, "", `"nextToken"`, `@t "nextToken":"([\w-]+)"`},
		{"GET /v2/apis?maxResults=1&nextToken=@t", ``, 200, "", `{"items":[{`, ""},
		{"GET /v2/apis?maxResults=0", ``, 400, "BadRequestException", `maxResults`, ""},
		{"GET /v2/apis?nextToken=!", ``, 400, "BadRequestException", `nextToken`, ""},
		{"DELETE /v2/domainnames/api.example.com/apimappings/@p", ``, 204, "", ``, ""},
		{"DELETE /v2/domainnames/api.example.com", ``, 204, "", ``, ""},
		{"DELETE /v2/apis/@a/cors", ``, 204, "", ``, ""},
		{"DELETE /v2/apis/@a", ``, 204, "", ``, ""},
		{"GET /v2/apis/@a/routes", ``, 404, "NotFoundException", ``, ""},
		{"GET /restapis", ``, 404, "UnknownOperationException", `not REST APIs`, ""},
		{"POST /v2/portals", `{}`, 404, "UnknownOperationException", `Portals are not supported by Hearth`, ""},
		{"POST /v2/vpclinks", ``, 404, "UnknownOperationException", `VPC links are not supported`, ""},
		{"POST /v2/apis/@a/models", ``, 404, "UnknownOperationException", `Models are not supported`, ""},
	} {
		for name, id := range ids {
			x.request, x.body = strings.ReplaceAll(x.request, name, id), strings.ReplaceAll(x.body, name, id)
		}
		method, path, _ := strings.Cut(x.request, " ")
		w := httptest.NewRecorder()
		err := h.Serve(w, &awsjson.Request{Caller: hearth.Identity{Account: "111111111111"}, HTTP: httptest.NewRequest(method, path, http.NoBody), Body: []byte(x.body)})
		got, rerr := io.ReadAll(w.Body)
		if rerr != nil {
			t.Fatal(rerr)
		}
		if w.Code != x.status || w.Header().Get("X-Amzn-ErrorType") != x.kind || !strings.Contains(string(got), x.want) || (err == nil) != (x.status < 300) {
			t.Errorf("%s %s: %d %s %s", x.request, x.body, w.Code, w.Header().Get("X-Amzn-ErrorType"), got)
		}
		if name, pattern, ok := strings.Cut(x.id, " "); ok {
			m := regexp.MustCompile(pattern).FindStringSubmatch(string(got))
			if m == nil {
				t.Fatalf("%s: no %s in %s", x.request, name, got)
			}
			ids[name] = m[1]
		}
	}
}

func TestNobodySeesTheAPIsOfAnotherAccount(t *testing.T) {
	s := open(t)
	h := wire.New(wire.Config{APIs: s})
	a, err := s.CreateAPI(t.Context(), "111111111111", apigateway.Quick{}, func(a *apigateway.API) error {
		a.Name, a.Protocol = "mine", "HTTP"
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, request := range []string{
		"GET /v2/apis/" + a.ID, "PATCH /v2/apis/" + a.ID, "DELETE /v2/apis/" + a.ID, "POST /v2/apis/" + a.ID + "/routes", "GET /v2/apis/" + a.ID + "/stages",
		"POST /v2/apis/" + a.ID + "/deployments", "GET /v2/tags/arn:aws:apigateway:us-east-1::%2Fapis%2F" + a.ID, "GET /v2/apis/" + a.ID + "/exports/OAS30?outputType=JSON", "DELETE /v2/apis/" + a.ID + "/cors",
	} {
		method, path, _ := strings.Cut(request, " ")
		w := httptest.NewRecorder()
		body := []byte(`{"routeKey":"GET /"}`)
		if err := h.Serve(w, &awsjson.Request{Caller: hearth.Identity{Account: "222222222222"}, HTTP: httptest.NewRequest(method, path, http.NoBody), Body: body}); err == nil || w.Code != 404 {
			t.Errorf("%s: %d %s", request, w.Code, w.Body)
		}
	}
	w := httptest.NewRecorder()
	if err := h.Serve(w, &awsjson.Request{Caller: hearth.Identity{Account: "222222222222"}, HTTP: httptest.NewRequest("GET", "/v2/apis", http.NoBody)}); err != nil || w.Body.String() != `{"items":[]}` {
		t.Errorf("%v %s", err, w.Body)
	}
}

func TestWhoMayDoWhatIsAskedInTheServicesWords(t *testing.T) {
	var asked []string
	h := wire.New(wire.Config{APIs: open(t), Authorize: func(_ context.Context, _ hearth.Identity, action, resource string) error {
		asked = append(asked, action+" "+resource)
		return hearth.Errorf(hearth.AccessDenied, "no")
	}})
	w := httptest.NewRecorder()
	err := h.Serve(w, &awsjson.Request{Caller: hearth.Identity{Account: "111111111111"}, HTTP: httptest.NewRequest("DELETE", "/v2/apis/x/routes/y", http.NoBody)})
	if err == nil || w.Code != 403 || w.Header().Get("X-Amzn-ErrorType") != "AccessDeniedException" || len(asked) != 1 || asked[0] != "apigateway:DELETE arn:aws:apigateway:us-east-1::/apis/x/routes/y" {
		t.Errorf("%v %d %v", err, w.Code, asked)
	}
}

// Whoever may make integrations can't have functions called with roles that he
// may not pass on, also not by way of a document.
func TestRolesArePassedOnByThoseWhoMayOnly(t *testing.T) {
	var passed []string
	h := wire.New(wire.Config{APIs: open(t), Authorize: func(_ context.Context, _ hearth.Identity, action, resource string) error {
		if action != "iam:PassRole" {
			return nil
		}
		passed = append(passed, resource)
		return hearth.Errorf(hearth.AccessDenied, "no")
	}})
	const role = "arn:aws:iam::111111111111:role/r"
	document := `{\"openapi\":\"3.0.0\",\"info\":{\"title\":\"x\"},\"paths\":{\"/a\":{\"parameters\":[],\"get\":{\"x-amazon-apigateway-integration\":{\"credentials\":\"` + role + `\"}}}}}`
	for request, body := range map[string]string{
		"POST /v2/apis":                   `{"name":"x","credentialsArn":"` + role + `"}`,
		"PATCH /v2/apis/x/integrations/y": `{"credentialsArn":"` + role + `"}`,
		"POST /v2/apis/x/authorizers":     `{"authorizerCredentialsArn":"` + role + `"}`,
		"PUT /v2/apis":                    `{"body":"` + document + `"}`,
	} {
		passed = nil
		method, path, _ := strings.Cut(request, " ")
		w := httptest.NewRecorder()
		err := h.Serve(w, &awsjson.Request{Caller: hearth.Identity{Account: "111111111111"}, HTTP: httptest.NewRequest(method, path, http.NoBody), Body: []byte(body)})
		if err == nil || w.Code != 403 || len(passed) != 1 || passed[0] != role {
			t.Errorf("%s %s: %v %d %v", request, body, err, w.Code, passed)
		}
	}
}

func TestOperationsHaveTheServicesNames(t *testing.T) {
	h := wire.New(wire.Config{APIs: open(t)}).(interface{ OperationOf(*http.Request) string })
	for request, want := range map[string]string{
		"POST /v2/apis": "CreateApi", "PATCH /v2/apis/x/routes/y": "UpdateRoute", "DELETE /v2/apis/x/stages/y/routesettings/GET%20%2Fa": "DeleteRouteSettings",
		"GET /v2/tags/arn:aws:apigateway:us-east-1::/apis/x": "GetTags", "DELETE /v2/apis/x/routes/y/requestparameters/route.request.header.a": "DeleteRouteRequestParameter", "GET /v2/vpclinks": "", "GET /restapis": "", "GET /v2/": "",
	} {
		method, path, _ := strings.Cut(request, " ")
		if got := h.OperationOf(httptest.NewRequest(method, path, http.NoBody)); got != want {
			t.Errorf("%s is %q, not %q", request, got, want)
		}
	}
}
