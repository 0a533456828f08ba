package apigateway

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	hearth "github.com/hearth-faas/hearth"
)

const petstore = `
openapi: 3.0.1
info: {title: pets, version: "7", description: Pets}
tags:
  - {name: team, x-amazon-apigateway-tag-value: pets}
servers:
  - url: https://api.example.com/{basePath}
    variables: {basePath: {default: v1/pets}}
x-amazon-apigateway-cors:
  allowOrigins: ["https://a.example"]
  allowMethods: [GET]
paths:
  /$default:
    x-amazon-apigateway-any-method:
      responses: {}
      x-amazon-apigateway-integration: {$ref: '#/components/x-amazon-apigateway-integrations/f'}
  /list:
    parameters: []
    get:
      operationId: list
      security: [{jwt: [look]}]
      responses: {200: {description: ok}}
      x-amazon-apigateway-integration: {$ref: '#/components/x-amazon-apigateway-integrations/f'}
    post:
      security: [{asked: []}]
      responses: {}
      x-amazon-apigateway-integration:
        type: http_proxy
        httpMethod: ANY
        uri: https://backend.example/{proxy}
        payloadFormatVersion: 1.0
        responseParameters: {200: {'overwrite:statuscode': '201'}}
    delete:
      x-amazon-apigateway-auth: {type: AWS_IAM}
      responses: {}
      x-amazon-apigateway-integration: {$ref: '#/components/x-amazon-apigateway-integrations/f'}
    trace: {responses: {}}
components:
  securitySchemes:
    jwt:
      type: oauth2
      flows: {}
      x-amazon-apigateway-authorizer:
        type: jwt
        identitySource: $request.header.Authorization
        jwtConfiguration: {issuer: https://issuer.example, audience: [shop]}
    asked:
      type: apiKey
      name: X-Key
      in: header
      x-amazon-apigateway-authorizer:
        type: request
        identitySource: $request.header.X-Key, $request.querystring.key
        authorizerUri: arn:aws:lambda:us-east-1:111122223333:function:judge
        authorizerPayloadFormatVersion: "2.0"
        enableSimpleResponses: true
  x-amazon-apigateway-integrations:
    f: {type: aws_proxy, httpMethod: POST, uri: "arn:aws:lambda:us-east-1:111122223333:function:echo", payloadFormatVersion: 2.0}
`

// summary is what an API is made of, but for ids.
func (w *world) summary(id string) string {
	w.t.Helper()
	r, err := w.api2(id)
	if err != nil {
		w.t.Fatal(err)
	}
	var all []string
	for _, n := range r.Routes {
		i := Integration{}
		if at := r.Integrations[strings.TrimPrefix(n.Target, "integrations/")]; at != nil {
			i = *at
		}
		i.ID = ""
		a := Authorizer{}
		if n.AuthorizerID != "" {
			a = *r.Authorizers[n.AuthorizerID]
			a.ID = ""
		}
		b, err := json.Marshal([]any{n.Key, n.Authorization, n.Scopes, n.OperationName, i, a})
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, string(b))
	}
	slices.Sort(all)
	b, err := json.Marshal([]any{r.API.Name, r.API.Description, r.API.CORS, r.API.Tags, len(r.Integrations), len(r.Authorizers)})
	if err != nil {
		w.t.Fatal(err)
	}
	return string(b) + "\n" + strings.Join(all, "\n")
}

func (w *world) api2(id string) (*record, error) { return w.Service.api(owner, id) }

func TestAnAPIIsImportedAndExportedAsItIs(t *testing.T) {
	w := newWorld(t)
	a, err := w.Import(t.Context(), owner, Import{Document: []byte(petstore), BasePath: "split"})
	if err != nil {
		t.Fatal(err)
	}
	if a.Name != "pets" || a.Version != "7" || a.Tags["team"] != "pets" || len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0], "TRACE") {
		t.Errorf("%+v", a)
	}
	r, err := w.api2(a.ID)
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, n := range r.Routes {
		keys = append(keys, n.Key+" "+n.Authorization)
	}
	slices.Sort(keys)
	if want := []string{"$default NONE", "DELETE /pets/list AWS_IAM", "GET /pets/list JWT", "POST /pets/list CUSTOM"}; !reflect.DeepEqual(keys, want) {
		t.Errorf("%v", keys)
	}
	if len(r.Integrations) != 2 || len(r.Authorizers) != 2 {
		t.Errorf("%d integrations, %d authorizers", len(r.Integrations), len(r.Authorizers))
	}
	want := w.summary(a.ID)
	for _, yaml := range []bool{false, true} {
		b, err := w.Export(owner, a.ID, Export{YAML: yaml})
		if err != nil {
			t.Fatal(err)
		}
		again, err := w.Import(t.Context(), owner, Import{Document: b, FailOnWarnings: true})
		if err != nil {
			t.Fatalf("%v in\n%s", err, b)
		}
		if got := w.summary(again.ID); got != want {
			t.Errorf("exported as\n%s\nit is\n%s\nnot\n%s", b, got, want)
		}
	}
	bare, err := w.Export(owner, a.ID, Export{Bare: true})
	if err != nil || strings.Contains(strings.ReplaceAll(string(bare), "x-amazon-apigateway-any-method", ""), "x-amazon") {
		t.Errorf("%v %s", err, bare)
	}
	// What replaces it keeps the id, and nothing of before.
	if _, err := w.Reimport(t.Context(), owner, a.ID, Import{Document: []byte(`{"openapi":"3.0.0","info":{"title":"less"},"paths":{"/a":{"get":{}}}}`)}); err != nil {
		t.Fatal(err)
	}
	if r, err := w.api2(a.ID); err != nil || len(r.Routes) != 1 || len(r.Integrations) != 0 || r.API.Name != "less" || r.API.CORS != nil {
		t.Errorf("%+v %v", r, err)
	}
}

func TestDocumentsThatCannotBeAnAPIAreRefusedWhole(t *testing.T) {
	w := newWorld(t)
	for what, document := range map[string]string{
		"nothing":          "",
		"a text":           "nonsense",
		"swagger":          `{"swagger":"2.0"}`,
		"3.1":              `{"openapi":"3.1.0","info":{"title":"x"}}`,
		"no title":         `{"openapi":"3.0.0"}`,
		"no YAML":          "openapi: [",
		"an open scheme":   `{"openapi":"3.0.0","info":{"title":"x"},"paths":{"/a":{"get":{"security":[{"key":[]}]}}},"components":{"securitySchemes":{"key":{"type":"http"}}}}`,
		"no such scheme":   `{"openapi":"3.0.0","info":{"title":"x"},"paths":{"/a":{"get":{"security":[{"key":[]}]}}}}`,
		"no integration":   `{"openapi":"3.0.0","info":{"title":"x"},"paths":{"/a":{"get":{"x-amazon-apigateway-integration":{"$ref":"#/x"}}}}}`,
		"mock":             `{"openapi":"3.0.0","info":{"title":"x"},"paths":{"/a":{"get":{"x-amazon-apigateway-integration":{"type":"mock"}}}}}`,
		"one route twice":  `{"openapi":"3.0.0","info":{"title":"x"},"paths":{"/{a}":{"get":{}},"/{b}":{"get":{}}}}`,
		"an unsafe issuer": strings.Replace(petstore, "https://issuer.example", "http://issuer.example", 1),
	} {
		if _, err := w.Import(t.Context(), owner, Import{Document: []byte(document)}); hearth.KindOf(err) != hearth.Validation && hearth.KindOf(err) != hearth.Conflict {
			t.Errorf("%s: %v", what, err)
		} else if strings.Contains(err.Error(), "Go ") {
			t.Errorf("%s is told in Go's words: %v", what, err)
		}
	}
	if _, err := w.Import(t.Context(), owner, Import{Document: []byte(petstore), FailOnWarnings: true}); err == nil {
		t.Error("a document with warnings is taken")
	}
	if list, _ := w.APIs(owner, Page{}); len(list) != 0 {
		t.Errorf("left are %v", list)
	}
}

func FuzzImport(f *testing.F) {
	f.Add([]byte(petstore))
	f.Add([]byte(`{"openapi":"3.0.0","info":{"title":"x"},"paths":{"/a/{b}":{"get":{"x-amazon-apigateway-integration":{"type":"AWS_PROXY","uri":"arn:aws:lambda:us-east-1:111122223333:function:f"}}}}}`))
	f.Add([]byte("a: &a [*a]\nopenapi: 3.0.0\n"))
	f.Fuzz(func(t *testing.T, document []byte) {
		w := newWorld(t)
		a, err := w.Import(t.Context(), owner, Import{Document: document})
		if err != nil {
			if k := hearth.KindOf(err); k == hearth.Service {
				t.Fatal(err)
			}
			return
		}
		b, err := w.Export(owner, a.ID, Export{})
		if err != nil {
			t.Fatal(err)
		}
		again, err := w.Import(t.Context(), owner, Import{Document: b})
		if err != nil {
			t.Fatalf("%v in %s", err, b)
		}
		if got, want := w.summary(again.ID), w.summary(a.ID); got != want {
			t.Fatalf("%s\nis exported and imported as\n%s", want, got)
		}
	})
}

// What holds for all operations is not left out: they would be open.
func TestSecurityOfADocumentIsItsOperations(t *testing.T) {
	w := newWorld(t)
	const scheme = `"components":{"securitySchemes":{"jwt":{"type":"oauth2","flows":{},"x-amazon-apigateway-authorizer":{"type":"jwt","jwtConfiguration":{"issuer":"https://issuer.example","audience":["shop"]}}}}}`
	const document = `{"openapi":"3.0.1","info":{"title":"t"},"security":[{"jwt":["look"]}],
		"servers":[{"url":"https://a.example","x-amazon-apigateway-endpoint-configuration":{"disableExecuteApiEndpoint":true}}],
		"paths":{"/closed":{"get":{}},"/open":{"get":{"security":[]}},"/own":{"get":{"security":[{"jwt":["buy"]}]}}},` + scheme + `}`
	a, err := w.Import(t.Context(), owner, Import{Document: []byte(document)})
	if err != nil {
		t.Fatal(err)
	}
	routes, _, err := w.Routes(owner, a.ID, Page{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, r := range routes {
		got[r.Key] = r.Authorization + " " + strings.Join(r.Scopes, " ")
	}
	want := map[string]string{"GET /closed": "JWT look", "GET /open": "NONE ", "GET /own": "JWT buy"}
	if !reflect.DeepEqual(got, want) || !a.DisableEndpoint {
		t.Errorf("%v, %+v", got, a)
	}
	out, err := w.Export(owner, a.ID, Export{})
	if err != nil {
		t.Fatal(err)
	}
	again, err := w.Import(t.Context(), owner, Import{Document: out})
	if err != nil || !again.DisableEndpoint || w.summary(again.ID) != w.summary(a.ID) {
		t.Errorf("it comes back as something else: %v", err)
	}
	if _, err := w.Import(t.Context(), owner, Import{Document: []byte(strings.Replace(document, scheme, `"components":{}`, 1))}); hearth.KindOf(err) != hearth.Validation {
		t.Errorf("without the scheme: %v", err)
	}
}
