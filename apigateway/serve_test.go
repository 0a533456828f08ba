package apigateway

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/internal/traffic"
	"github.com/hearth-faas/hearth/outside"
	"github.com/hearth-faas/hearth/registry"
)

func ptr[T any](v T) *T { return &v }

func TestAStageIsFoundByThePathOrIsTheDefaultOne(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	id, integration := w.api("2.0", "GET /a")
	d, err := w.Deploy(ctx, owner, id, "", "by hand")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateStage(ctx, owner, id, func(s *Stage) error { s.Name, s.DeploymentID = "v1", d.ID; return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateStage(ctx, owner, id, func(s *Stage) error { s.Name = "empty"; return nil }); err != nil {
		t.Fatal(err)
	}
	w.route(id, integration, "GET /b", func(*Route) {})
	type event struct {
		RawPath        string
		RequestContext struct{ Stage string }
	}
	for path, want := range map[string]string{
		"/a": "$default /a", "/b": "$default /b", "/v1/a": "v1 /v1/a", "/v1/b": "", "/empty/a": "", "/c": "",
	} {
		got := w.send(id, "GET", path, "")
		if want == "" {
			if got.status != 404 {
				t.Errorf("%s: %+v", path, got)
			}
			continue
		}
		if e := decoded[event](t, got.body); e.RequestContext.Stage+" "+e.RawPath != want {
			t.Errorf("%s: %s", path, got.body)
		}
	}
	// By its path, and not at all once its own address is closed.
	if got := w.do(httptestRequest("GET", "http://127.0.0.1"+pathPrefix+id+"/v1/a", nil)); got.status != 200 {
		t.Errorf("by the path: %+v", got)
	}
	if _, err := w.UpdateAPI(ctx, owner, id, Quick{}, func(a *API) error { a.DisableEndpoint = true; return nil }); err != nil {
		t.Fatal(err)
	}
	if got := w.send(id, "GET", "/a", ""); got.status != 404 {
		t.Errorf("closed: %+v", got)
	}
}

func TestStageVariablesChooseTheFunction(t *testing.T) {
	w := newWorld(t)
	id, integration := w.api("2.0", "$default")
	w.integration(id, integration, func(i *Integration) {
		i.URI = "arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/arn:aws:lambda:us-east-1:111122223333:function:${stageVariables.name}:${stageVariables.alias}/invocations"
	})
	if got := w.send(id, "GET", "/", ""); got.status != 500 {
		t.Errorf("without the variables: %+v", got)
	}
	w.stage(id, defaultStage, func(s *Stage) { s.Variables = map[string]string{"name": "pets", "alias": "live"} })
	if got := w.send(id, "GET", "/", ""); got.status != 200 {
		t.Fatalf("%+v", got)
	}
	if inv := w.last(); inv.Name != "pets" || inv.Qualifier != "live" || inv.Account != owner {
		t.Errorf("%+v", inv)
	}
}

func TestTheGatewayAnswersBrowsers(t *testing.T) {
	w := newWorld(t)
	id, integration := w.api("2.0", "GET /a", "OPTIONS /own")
	w.returns(`{"statusCode":200,"headers":{"Access-Control-Allow-Origin":"https://evil.example"},"body":"x"}`)
	if _, err := w.UpdateAPI(t.Context(), owner, id, Quick{}, func(a *API) error {
		a.CORS = &registry.CORS{AllowOrigins: []string{"https://a.example"}, AllowMethods: []string{"GET"}, MaxAge: ptr(60)}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	preflight := []string{"Origin", "https://a.example", "Access-Control-Request-Method", "GET"}
	got := w.send(id, "OPTIONS", "/a", "", preflight...)
	if got.status != 204 || got.header.Get("Access-Control-Allow-Origin") != "https://a.example" || got.header.Get("Access-Control-Allow-Methods") != "GET" || got.header.Get("Access-Control-Max-Age") != "60" || w.ran() != 0 {
		t.Errorf("%+v", got)
	}
	if got := w.send(id, "OPTIONS", "/own", "", preflight...); got.status != 200 || w.ran() != 1 {
		t.Errorf("a route of its own: %+v", got)
	}
	if got := w.send(id, "GET", "/a", "", "Origin", "https://a.example"); got.header.Get("Access-Control-Allow-Origin") != "https://a.example" {
		t.Errorf("%+v", got)
	}
	if got := w.send(id, "GET", "/a", "", "Origin", "https://b.example"); got.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("another origin: %+v", got)
	}
	if got := w.send(id, "GET", "/none", "", "Origin", "https://a.example"); got.status != 404 || got.header.Get("Access-Control-Allow-Origin") != "https://a.example" {
		t.Errorf("a refusal: %+v", got)
	}
	if err := w.DeleteCORS(t.Context(), owner, id); err != nil {
		t.Fatal(err)
	}
	if got := w.send(id, "GET", "/a", "", "Origin", "https://b.example"); got.header.Get("Access-Control-Allow-Origin") != "https://evil.example" {
		t.Errorf("the function's own: %+v", got)
	}
	_ = integration
}

func TestRoutesAreBoundedByTheirStage(t *testing.T) {
	w := newWorld(t)
	id, integration := w.api("2.0", "GET /a", "GET /b")
	w.stage(id, defaultStage, func(s *Stage) {
		s.Default = &RouteSettings{Rate: ptr(1.0), Burst: ptr(2)}
		s.RouteSettings = map[string]RouteSettings{"GET /b": {Rate: ptr(1.0), Burst: ptr(1)}}
	})
	send := func(path string, want ...int) {
		t.Helper()
		for i, status := range want {
			if got := w.send(id, "GET", path, ""); got.status != status || status == 429 && got.body != `{"message":"Too Many Requests"}` {
				t.Errorf("%s, the %d. time: %+v", path, i+1, got)
			}
		}
	}
	send("/a", 200, 200, 429)
	send("/b", 200, 429)
	w.route(id, integration, "GET /c", func(*Route) {}) // a new table counts on
	send("/a", 429)
	w.clock.Advance(time.Second)
	send("/a", 200, 429)
	w.stage(id, defaultStage, func(s *Stage) { s.Default, s.RouteSettings = nil, nil })
	send("/a", 200, 200, 200)
}

func TestMappingsChangeWhatIsHandedOn(t *testing.T) {
	w := newWorld(t)
	id, integration := w.api("2.0", "POST /pets/{id}")
	w.integration(id, integration, func(i *Integration) {
		i.RequestParameters = map[string]string{
			"append:header.x-a": "$request.header.x-b", "overwrite:header.x-c": "${request.path.id}-${context.stage}", "remove:header.x-d": "''",
			"append:querystring.q": "$request.body.a.b[1]", "overwrite:path": "/other/$request", "overwrite:header.x-e": "$request.querystring.in",
		}
		i.RequestParameters["overwrite:path"] = "/other/${request.path.id}"
		i.ResponseParameters = map[string]map[string]string{"200": {
			"append:header.x-out": "$response.body.rawPath", "overwrite:statuscode": "201", "remove:header.x-gone": "",
		}}
	})
	got := w.send(id, "POST", "/pets/7?in=put", `{"a":{"b":[1,"two"]}}`, "X-B", "b", "X-C", "old", "X-D", "gone", "X-A", "a", "Content-Type", "application/json")
	if got.status != 201 || got.header.Get("X-Out") != "/other/7" {
		t.Fatalf("%+v", got)
	}
	e := decoded[struct {
		RawPath, RawQueryString string
		Headers                 map[string]string
	}](t, got.body)
	if e.RawPath != "/other/7" || e.RawQueryString != "in=put&q=two" || e.Headers["x-a"] != "a,b" || e.Headers["x-c"] != "7-$default" || e.Headers["x-d"] != "" || e.Headers["x-e"] != "put" {
		t.Errorf("%+v", e)
	}
	for key, value := range map[string]string{
		"set:header.a": "1", "append:header.authorization": "1", "append:header.x-amz-a": "1", "append:header.a b": "1", "append:path": "/", "overwrite:cookie.a": "1",
		"overwrite:statuscode": "1", "append:querystring": "1", "append:header.a": "$request.cookie.a", "append:header.b": "${request.header.a", "append:header.c": "$response.body",
	} {
		if m, err := parseMapping(key, value, false); err == nil {
			t.Errorf("%s %s is taken for %+v", key, value, m)
		}
	}
}

// The service documents $request.path as the path without the stage's name.
func TestThePathOfAMappingIsWithoutTheStage(t *testing.T) {
	w := newWorld(t)
	id, integration := w.api("2.0", "GET /pets/{id}")
	w.integration(id, integration, func(i *Integration) {
		i.RequestParameters = map[string]string{"append:header.x-path": "$request.path"}
	})
	if _, err := w.CreateStage(t.Context(), owner, id, func(s *Stage) error { s.Name, s.AutoDeploy = "v1", true; return nil }); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/v1/pets/7", "/pets/7"} {
		e := decoded[struct {
			RawPath string
			Headers map[string]string
		}](t, w.send(id, "GET", path, "").body)
		if e.RawPath != path || e.Headers["x-path"] != "/pets/7" {
			t.Errorf("%s: %+v", path, e)
		}
	}
}

func FuzzMappings(f *testing.F) {
	f.Add("append:header.x-a", "${request.header.a}$", `{"a":[1]}`)
	f.Add("overwrite:querystring.a", "$request.body.a[0]", `{"a":[1]}`)
	f.Add("overwrite:path", "/a${context.path}", ``)
	w := newWorld(f)
	id := w.quick(echo)
	f.Fuzz(func(t *testing.T, key, value, body string) {
		for _, response := range []bool{false, true} {
			m, err := parseMapping(key, value, response)
			if err != nil {
				continue
			}
			r := httptestRequest("POST", "http://"+Host(id, "us-east-1", "localhost")+"/a?b=c", nil)
			c := w.callOf(r)
			c.findStage()
			c.route, c.params = c.stage.find("POST", "/a")
			c.body = []byte(body)
			o := outgoing{query: "b=c", header: http.Header{}}
			o.apply([]mapping{m}, c.value)
			for name, values := range o.header {
				for _, v := range values {
					if strings.ContainsAny(name+v, "\r\n\x00") {
						t.Fatalf("%q %q sets a header %q: %q", key, value, name, v)
					}
				}
			}
		}
	})
}

func TestBackendsGetTheRequestAndNothingOfTheConnection(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		rw.Header().Set("X-Got", r.Method+" "+r.URL.EscapedPath()+"?"+r.URL.RawQuery+" "+string(b))
		rw.Header().Set("X-Via", r.Header.Get("Via")+" "+r.Header.Get("X-Hop")+r.Header.Get("Forwarded"))
		rw.Header().Set("Location", "/elsewhere")
		rw.WriteHeader(http.StatusFound)
		fmt.Fprint(rw, "answer")
	}))
	defer backend.Close()
	w := newWorld(t)
	id, integration := w.api("1.0", "ANY /x/{proxy+}")
	w.integration(id, integration, func(i *Integration) {
		i.Type, i.Method, i.URI = "HTTP_PROXY", "ANY", backend.URL+"/${stageVariables.base}/{proxy}?fixed=1"
	})
	w.stage(id, defaultStage, func(s *Stage) { s.Variables = map[string]string{"base": "b"} })
	got := w.send(id, "PUT", "/x/y/a%20b?q=1", "body", "Connection", "X-Hop", "X-Hop", "hop")
	if got.status != 302 || got.body != "answer" || got.header.Get("X-Got") != "PUT /b/y/a%20b?fixed=1&q=1 body" || got.header.Get("Location") != "/elsewhere" {
		t.Errorf("%+v", got)
	}
	if via := got.header.Get("X-Via"); strings.Contains(via, "hop") || !strings.Contains(via, "for=192.0.2.1") {
		t.Errorf("%s", via)
	}
	backend.Close()
	if got := w.send(id, "GET", "/x/y", ""); got.status != 503 || got.body != `{"message":"Service Unavailable"}` {
		t.Errorf("a backend that is gone: %+v", got)
	}
}

func TestASlowBackendIsLeft(t *testing.T) {
	release := make(chan struct{})
	backend := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer backend.Close()
	defer close(release)
	w := newWorld(t)
	id, integration := w.api("1.0", "$default")
	w.integration(id, integration, func(i *Integration) {
		i.Type, i.Method, i.URI, i.TimeoutMillis = "HTTP_PROXY", "GET", backend.URL, 50
	})
	if got := w.send(id, "GET", "/", ""); got.status != 503 {
		t.Errorf("%+v", got)
	}
}

// As with the service: who calls has an answer when the time is up, and what
// has begun runs to its end.
func TestASlowFunctionIsNotWaitedForBeyondTheTimeout(t *testing.T) {
	w := newWorld(t)
	id, integration := w.api("2.0", "$default")
	w.integration(id, integration, func(i *Integration) { i.TimeoutMillis = 50 })
	release, ended := make(chan struct{}), make(chan struct{})
	w.run = func(inv *hearth.Invocation) (*hearth.Result, error) {
		defer close(ended)
		<-release
		return &hearth.Result{Payload: inv.Payload}, nil
	}
	if got := w.send(id, "GET", "/", ""); got.status != 503 || got.body != `{"message":"Service Unavailable"}` {
		t.Errorf("%+v", got)
	}
	close(release)
	<-ended
}

// Whatever a name is resolved to, the address is judged that is dialled.
func TestTheMachineIsNotCalledByItsName(t *testing.T) {
	backend := httptest.NewServer(http.NotFoundHandler())
	defer backend.Close()
	w := newWorld(t)
	w.client = outside.NewClient(outside.Refuses)
	id, integration := w.api("1.0", "$default")
	w.integration(id, integration, func(i *Integration) {
		i.Type, i.Method, i.URI = "HTTP_PROXY", "GET", strings.Replace(backend.URL, "127.0.0.1", "localhost", 1)
	})
	if got := w.send(id, "GET", "/", ""); got.status != 503 {
		t.Errorf("%+v", got)
	}
}

func TestAccessLogsAreOneLineForEachRequest(t *testing.T) {
	w := newWorld(t)
	id, _ := w.api("2.0", "GET /a")
	w.stage(id, defaultStage, func(s *Stage) {
		s.AccessLog = &AccessLog{"arn:aws:logs:us-east-1:111122223333:log-group:access:*", `{"id":"$context.requestId","route":"$context.routeKey","status":$context.status,"agent":"$context.identity.userAgent","none":"$context.authorizer.x","why":$context.error.messageString}`}
	})
	w.send(id, "GET", "/a", "", "User-Agent", "me\"}\nforged")
	w.send(id, "GET", "/b", "", "User-Agent", "")
	if len(w.lines) != 2 {
		t.Fatal(w.lines)
	}
	type line struct {
		Route, Agent, None, Why string
		Status                  int
	}
	one := decoded[line](t, strings.Replace(strings.TrimPrefix(w.lines[0], "access "), `"why":-`, `"why":""`, 1))
	if one != (line{"GET /a", "me\"}\nforged", "-", "", 200}) || strings.Contains(w.lines[0], "\n") {
		t.Errorf("%q is %+v", w.lines[0], one)
	}
	two := decoded[line](t, strings.TrimPrefix(w.lines[1], "access "))
	if two != (line{"-", "-", "-", "Not Found", 404}) {
		t.Errorf("%q is %+v", w.lines[1], two)
	}
}

// The status of Lambda is one thing, that of the function's code another.
func TestAccessLogsTellWhatTheIntegrationDid(t *testing.T) {
	w := newWorld(t)
	id, _ := w.api("2.0", "GET /a")
	w.stage(id, defaultStage, func(s *Stage) {
		s.AccessLog = &AccessLog{"arn:aws:logs:us-east-1:111122223333:log-group:access", `$context.requestId $context.integration.requestId $context.integrationStatus $context.integration.status $context.status`}
	})
	w.returns(`{"statusCode": 404}`)
	w.send(id, "GET", "/a", "")
	w.send(id, "GET", "/none", "")
	request := w.last().RequestID
	if want := "access " + request + " " + request + " 200 404 404"; w.lines[0] != want {
		t.Errorf("%q, want %q", w.lines[0], want)
	}
	if !strings.HasSuffix(w.lines[1], " - - - 404") {
		t.Errorf("%q", w.lines[1])
	}
}

func TestHostNamesShowStagesByTheLongestPath(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	one, two := w.quick(echo), w.quick(echo)
	if _, err := w.CreateStage(ctx, owner, two, func(s *Stage) error { s.Name, s.AutoDeploy = "v2", true; return nil }); err != nil {
		t.Fatal(err)
	}
	name := func(name string) {
		if _, err := w.CreateDomain(ctx, owner, func(d *Domain) error {
			d.Name, d.Configurations = name, []DomainConfig{{CertificateARN: "arn:c"}}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	mapping := func(name, key, id, stage string) {
		if _, err := w.PutMapping(ctx, owner, name, "", func(m *Mapping) error { *m = Mapping{APIID: id, Key: key, Stage: stage}; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	name("API.example.com")
	name("*.wild.example")
	mapping("api.example.com", "orders", one, defaultStage)
	mapping("api.example.com", "orders/v2", two, "v2")
	mapping("*.wild.example", "", one, defaultStage)
	type event struct {
		RawPath        string
		RequestContext struct{ APIID, Stage, DomainName, DomainPrefix string }
	}
	for at, want := range map[string]string{
		"api.example.com/orders": one + " $default /", "Api.Example.Com:80/orders/7": one + " $default /7", "api.example.com/orders/v2": two + " v2 /v2/",
		"api.example.com/orders/v2/x": two + " v2 /v2/x", "api.example.com/orders/v21": one + " $default /v21", "api.example.com/ordersx": "", "api.example.com/": "",
		"a.wild.example/x": one + " $default /x",
	} {
		got := w.do(httptestRequest("GET", "http://"+at, nil))
		if want == "" {
			if got.status != 404 {
				t.Errorf("%s: %+v", at, got)
			}
			continue
		}
		e := decoded[event](t, got.body)
		if got := e.RequestContext.APIID + " " + e.RequestContext.Stage + " " + e.RawPath; got != want {
			t.Errorf("%s: %s, not %s", at, got, want)
		}
	}
	for _, own := range []string{"hearth.example.com", "*.example.com"} {
		w.Own = []string{"hearth.example.com"}
		if _, err := w.CreateDomain(ctx, owner, func(d *Domain) error {
			d.Name, d.Configurations = own, []DomainConfig{{}}
			return nil
		}); hearth.KindOf(err) != hearth.Validation {
			t.Errorf("%s is taken from the server: %v", own, err)
		}
	}
	w.Own = []string{"a.wild.example"}
	if got := w.do(httptestRequest("GET", "http://a.wild.example/x", nil)); got.status != 599 {
		t.Errorf("a name that became the server's own: %+v", got)
	}
	for host, want := range map[string]hearth.Account{"API.example.com": owner, "x.wild.example": "", "example.com": ""} {
		if got, ok := w.OwnerOf(host); got != want || ok != (want != "") {
			t.Errorf("%s is of %q", host, got)
		}
	}
	if _, err := w.CreateDomain(ctx, "444455556666", func(d *Domain) error {
		d.Name, d.Configurations = "api.example.com", []DomainConfig{{}}
		return nil
	}); hearth.KindOf(err) != hearth.Conflict {
		t.Errorf("another account takes the name: %v", err)
	}
	if err := w.DeleteAPI(ctx, owner, one); hearth.KindOf(err) != hearth.Conflict {
		t.Errorf("an API that is shown is deleted: %v", err)
	}
	if err := w.DeleteAccount(ctx, owner); err != nil {
		t.Fatal(err)
	}
	w.open()
	if len(w.records) != 0 || len(w.domains) != 0 {
		t.Errorf("left are %v %v", w.records, w.domains)
	}
	if got := w.do(httptestRequest("GET", "http://api.example.com/orders", nil)); got.status != 599 {
		t.Errorf("%+v", got)
	}
}

// While routes change, are deployed and stages go from one deployment to
// another, each request is answered by one state or the other.
func TestNoRequestFailsWhileAnAPIChanges(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	id, integration := w.api("2.0", "GET /always")
	d, err := w.Deploy(ctx, owner, id, "", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateStage(ctx, owner, id, func(s *Stage) error { s.Name, s.DeploymentID = "v1", d.ID; return nil }); err != nil {
		t.Fatal(err)
	}
	w.run = func(inv *hearth.Invocation) (*hearth.Result, error) {
		return &hearth.Result{Payload: []byte(`{}`)}, nil
	}
	var served atomic.Int64
	done := make(chan struct{})
	var group sync.WaitGroup
	for n := range 4 {
		group.Go(func() {
			path := []string{"/always", "/v1/always"}[n%2]
			for {
				select {
				case <-done:
					return
				default:
				}
				if got := w.send(id, "GET", path, ""); got.status != 200 {
					t.Errorf("%s: %+v", path, got)
					return
				}
				served.Add(1)
			}
		})
	}
	for i := 0; i < 50 || served.Load() < 500 && !t.Failed(); i++ {
		r := w.route(id, integration, "GET /some", func(*Route) {})
		if _, err := w.Deploy(ctx, owner, id, "v1", ""); err != nil {
			t.Error(err)
		}
		if err := w.DeleteRoute(ctx, owner, id, r.ID); err != nil {
			t.Error(err)
		}
		w.stage(id, "v1", func(s *Stage) { s.DeploymentID = d.ID })
		all, _, err := w.Deployments(owner, id, Page{})
		if err != nil {
			t.Error(err)
		}
		for _, old := range all {
			if old.ID != d.ID && !old.Auto {
				if err := w.DeleteDeployment(ctx, owner, id, old.ID); err != nil {
					t.Error(err)
				}
			}
		}
	}
	close(done)
	group.Wait()
}

// What was acknowledged is there when the store is opened again.
func TestAPIsSurvive(t *testing.T) {
	w := newWorld(t)
	id, integration := w.api("2.0", "GET /a")
	w.route(id, integration, "GET /b", func(*Route) {})
	if _, err := w.Deploy(context.Background(), owner, id, "", "kept"); err != nil {
		t.Fatal(err)
	}
	before, err := w.Export(owner, id, Export{Stage: defaultStage})
	if err != nil {
		t.Fatal(err)
	}
	w.open()
	after, err := w.Export(owner, id, Export{Stage: defaultStage})
	if err != nil || string(after) != string(before) {
		t.Errorf("%v\n%s\n%s", err, before, after)
	}
	if got := w.send(id, "GET", "/b", ""); got.status != 200 {
		t.Errorf("%+v", got)
	}
	all, _, err := w.Deployments(owner, id, Page{})
	if err != nil || len(all) != 2 {
		t.Errorf("%v %v", all, err)
	}
}

func TestRequestsAreCountedByStageAndByRouteWhereThatIsAskedFor(t *testing.T) {
	w := newWorld(t)
	r := prometheus.NewPedanticRegistry()
	w.traffic = traffic.New(r, "http_api", "HTTP APIs", "integration", "api", "stage", "route")
	w.run = func(inv *hearth.Invocation) (*hearth.Result, error) {
		w.clock.Advance(time.Second)
		return &hearth.Result{Payload: inv.Payload}, nil
	}
	id, _ := w.api("2.0", "GET /a", "GET /b")
	w.stage(id, defaultStage, func(s *Stage) {
		s.RouteSettings = map[string]RouteSettings{"GET /b": {DetailedMetrics: true}}
	})
	w.send(id, "GET", "/a", "")
	w.send(id, "GET", "/b", "")
	w.send(id, "GET", "/b", "")
	w.send(id, "GET", "/none", "")
	w.send("nosuchapi1", "GET", "/", "") // is of nobody
	want := strings.ReplaceAll(`# HELP hearth_http_api_requests_total Requests of HTTP APIs, by the class of their status.
# TYPE hearth_http_api_requests_total counter
hearth_http_api_requests_total{api="ID",code="2xx",route="",stage="$default"} 1
hearth_http_api_requests_total{api="ID",code="2xx",route="GET /b",stage="$default"} 2
hearth_http_api_requests_total{api="ID",code="4xx",route="",stage="$default"} 1
`, "ID", id)
	if err := testutil.GatherAndCompare(r, strings.NewReader(want), "hearth_http_api_requests_total"); err != nil {
		t.Error(err)
	}
	all, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() != "hearth_http_api_integration_seconds" {
			continue
		}
		for _, m := range f.GetMetric() {
			if h := m.GetHistogram(); h.GetSampleSum() != float64(h.GetSampleCount()) {
				t.Errorf("%d calls took their integrations %v s", h.GetSampleCount(), h.GetSampleSum())
			}
		}
	}
	if err := w.DeleteAPI(t.Context(), owner, id); err != nil {
		t.Fatal(err)
	}
	if n, err := testutil.GatherAndCount(r); n != 0 || err != nil {
		t.Errorf("%d numbers are left of an API that is gone (%v)", n, err)
	}
}
