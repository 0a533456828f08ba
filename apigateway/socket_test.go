package apigateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/coder/websocket"

	hearth "github.com/hearth-faas/hearth"
)

// sockets is a WebSocket API with the stage live, whose routes all have the
// function, behind a server that really listens.
type socketWorld struct {
	*world
	id, integration, url string
	events               chan events.APIGatewayWebsocketProxyRequest // that the function got
}

func newSocketWorld(t *testing.T, keys ...string) *socketWorld {
	x := &socketWorld{world: newWorld(t), events: make(chan events.APIGatewayWebsocketProxyRequest, 100)}
	ctx := t.Context()
	a, err := x.CreateAPI(ctx, owner, Quick{}, func(a *API) error {
		a.Name, a.Protocol, a.RouteSelection = "chat", "WEBSOCKET", "$request.body.action"
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(a.Endpoint, "ws://") {
		t.Errorf("the endpoint is %s", a.Endpoint)
	}
	i, err := x.PutIntegration(ctx, owner, a.ID, "", func(i *Integration) error {
		i.Type, i.URI, i.PayloadFormat = "AWS_PROXY", echo, "1.0"
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	x.id, x.integration = a.ID, i.ID
	for _, key := range keys {
		answers := key != connectRoute && key != disconnectRoute
		made := x.route(a.ID, i.ID, key, func(r *Route) {
			if answers {
				r.ResponseSelection = "$default"
			}
		})
		if answers {
			x.answers(made.ID)
		}
	}
	if _, err := x.CreateStage(ctx, owner, a.ID, func(s *Stage) error { s.Name, s.AutoDeploy = "live", true; return nil }); err != nil {
		t.Fatal(err)
	}
	x.run = func(inv *hearth.Invocation) (*hearth.Result, error) {
		var e events.APIGatewayWebsocketProxyRequest
		if err := json.Unmarshal(inv.Payload, &e); err != nil {
			t.Error(err)
		}
		x.events <- e
		if e.Headers["Refuse"] != "" {
			return &hearth.Result{Payload: []byte(`{"statusCode": 418}`)}, nil
		}
		if e.Body == `{"action":"fail"}` {
			return &hearth.Result{Payload: []byte(`{}`), FunctionError: "Unhandled"}, nil
		}
		answer, err := json.Marshal(map[string]any{"statusCode": 200, "headers": map[string]string{"Sec-WebSocket-Protocol": "chat"}, "body": "you said " + e.Body})
		return &hearth.Result{Payload: answer}, err
	}
	server := httptest.NewServer(x.Over(http.NotFoundHandler()))
	t.Cleanup(server.Close)
	x.url = "ws" + strings.TrimPrefix(server.URL, "http") + "/execute-api/" + x.id + "/live"
	return x
}

// answers has the client sent what the route's function returns.
func (x *socketWorld) answers(route string) (id string) {
	x.t.Helper()
	n, err := x.PutRouteResponse(x.t.Context(), owner, x.id, route, "", func(n *RouteResponse) error { n.Key = "$default"; return nil })
	if err != nil {
		x.t.Fatal(err)
	}
	return n.ID
}

// dial connects; the status is the refusal's, or 101.
func (x *socketWorld) dial(header ...string) (*websocket.Conn, int) {
	x.t.Helper()
	h := http.Header{}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	conn, resp, err := websocket.Dial(ctx, x.url+"?name=ada", &websocket.DialOptions{HTTPHeader: h, Subprotocols: []string{"chat"}})
	if err != nil && resp == nil {
		x.t.Fatal(err)
	}
	if conn != nil {
		x.t.Cleanup(func() { _ = conn.CloseNow() })
		conn.SetReadLimit(1 << 20)
	}
	return conn, resp.StatusCode
}

func (x *socketWorld) say(c *websocket.Conn, text string) {
	x.t.Helper()
	if err := c.Write(context.Background(), websocket.MessageText, []byte(text)); err != nil {
		x.t.Fatal(err)
	}
}

func (x *socketWorld) hear(c *websocket.Conn) string {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	_, b, err := c.Read(ctx)
	if err != nil {
		x.t.Fatal(err)
	}
	return string(b)
}

// closed is the status with which the server ends a connection.
func (x *socketWorld) closed(c *websocket.Conn) websocket.StatusCode {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for {
		if _, _, err := c.Read(ctx); err != nil {
			return websocket.CloseStatus(err)
		}
	}
}

func (x *socketWorld) event() events.APIGatewayWebsocketProxyRequest {
	x.t.Helper()
	select {
	case e := <-x.events:
		return e
	case <-time.After(2 * time.Minute):
		x.t.Fatal("no function was run")
	}
	panic("unreachable")
}

func TestMessagesGoToTheRouteThatTheyName(t *testing.T) {
	x := newSocketWorld(t, "$connect", "$disconnect", "$default", "greet")
	c, status := x.dial("X-Mine", "1")
	if status != 101 || c.Subprotocol() != "chat" {
		t.Fatal(status)
	}
	e := x.event()
	first := e.RequestContext
	if first.RouteKey != "$connect" || first.EventType != "CONNECT" || first.Stage != "live" || first.APIID != x.id || first.ConnectionID == "" || first.ConnectedAt == 0 ||
		e.Headers["X-Mine"] != "1" || e.QueryStringParameters["name"] != "ada" || first.Identity.SourceIP != "127.0.0.1" {
		t.Errorf("%+v", e)
	}
	if s := x.last().Source; s == nil || s.ARN != "arn:aws:execute-api:us-east-1:111122223333:"+x.id+"/live/$connect" {
		t.Errorf("the function is called for %+v", s)
	}
	for _, m := range []struct{ text, route string }{{`{"action":"greet"}`, "greet"}, {`{"action":"other"}`, "$default"}, {"no JSON", "$default"}, {`{"action":"$connect"}`, "$default"}} {
		x.say(c, m.text)
		e := x.event()
		if e.RequestContext.RouteKey != m.route || e.RequestContext.EventType != "MESSAGE" || e.RequestContext.MessageID == "" || e.RequestContext.ConnectionID != first.ConnectionID || e.Body != m.text {
			t.Errorf("%s: %+v", m.text, e)
		}
		if got := x.hear(c); got != "you said "+m.text {
			t.Errorf("%s is answered with %s", m.text, got)
		}
	}
	x.say(c, `{"action":"fail"}`)
	x.event()
	if got := x.hear(c); !strings.Contains(got, `"message":"Internal Server Error"`) || !strings.Contains(got, first.ConnectionID) {
		t.Error(got)
	}
	// What changes is seen by the next message of a connection that is open.
	x.route(x.id, x.integration, "new", func(*Route) {})
	x.say(c, `{"action":"new"}`)
	if e := x.event(); e.RequestContext.RouteKey != "new" {
		t.Errorf("%+v", e.RequestContext)
	}
	if err := c.Close(4001, "enough"); err != nil {
		t.Error(err)
	}
	e = x.event()
	if e.RequestContext.RouteKey != "$disconnect" || e.RequestContext.EventType != "DISCONNECT" || e.RequestContext.ConnectionID != first.ConnectionID {
		t.Errorf("%+v", e.RequestContext)
	}
	var left struct {
		RequestContext struct {
			DisconnectStatusCode int
			DisconnectReason     string
		}
	}
	if left = decoded[struct {
		RequestContext struct {
			DisconnectStatusCode int
			DisconnectReason     string
		}
	}](t, string(x.last().Payload)); left.RequestContext.DisconnectStatusCode != 4001 || left.RequestContext.DisconnectReason != "enough" {
		t.Errorf("%+v", left)
	}
}

func TestAClientIsAnsweredWhileTheRouteHasAResponse(t *testing.T) {
	x := newSocketWorld(t, "$connect", "$default")
	c, _ := x.dial()
	x.event()
	r := x.route(x.id, x.integration, "mute", func(r *Route) { r.ResponseSelection = "$default" })
	say := func(want string) {
		t.Helper()
		x.say(c, `{"action":"mute"}`)
		if e := x.event(); e.RequestContext.RouteKey != "mute" {
			t.Errorf("%+v", e.RequestContext)
		}
		x.say(c, "x") // behind which nothing else comes, once what was before has ended
		x.event()
		if got := x.hear(c); got != want {
			t.Errorf("the client hears %s, want %s", got, want)
		}
	}
	say("you said x")
	id := x.answers(r.ID)
	if _, err := x.PutRouteResponse(t.Context(), owner, x.id, r.ID, "", func(n *RouteResponse) error { n.Key = "$default"; return nil }); hearth.KindOf(err) != hearth.Conflict {
		t.Errorf("a second response: %v", err)
	}
	x.say(c, `{"action":"mute"}`)
	x.event()
	if got := x.hear(c); got != `you said {"action":"mute"}` {
		t.Error(got)
	}
	// What changes the route leaves its responses.
	if _, err := x.PutRoute(t.Context(), owner, x.id, r.ID, func(r *Route) error { r.OperationName, r.Responses = "n", nil; return nil }); err != nil {
		t.Fatal(err)
	}
	if list, _, err := x.RouteResponses(owner, x.id, r.ID, Page{}); err != nil || len(list) != 1 || list[0].ID != id {
		t.Errorf("%v %v", list, err)
	}
	if err := x.DeleteRouteResponse(t.Context(), owner, x.id, r.ID, id); err != nil {
		t.Fatal(err)
	}
	say("you said x")
	if _, err := x.RouteResponse(owner, x.id, r.ID, id); hearth.KindOf(err) != hearth.NotFound {
		t.Error(err)
	}
}

func TestWhoIsNotLetInHasNoConnection(t *testing.T) {
	x := newSocketWorld(t, "$connect", "$default")
	if _, status := x.dial("Refuse", "1"); status != 418 {
		t.Error(status)
	}
	x.event()
	if got := x.send(x.id, "GET", "/live", ""); got.status != 426 {
		t.Errorf("%+v", got)
	}
	if got := x.send(x.id, "GET", "/none", ""); got.status != 404 {
		t.Errorf("%+v", got)
	}
	// An authorizer's function.
	a, err := x.PutAuthorizer(t.Context(), owner, x.id, "", func(a *Authorizer) error {
		a.Name, a.Type, a.IdentitySource, a.URI = "judge", "REQUEST", []string{"route.request.header.X-Key"}, "arn:aws:lambda:us-east-1:111122223333:function:judge"
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	run := x.run
	x.mu.Lock()
	x.run = func(inv *hearth.Invocation) (*hearth.Result, error) {
		if inv.Name != "judge" {
			return run(inv)
		}
		var q struct {
			Type, MethodARN string
			Headers         map[string]string
		}
		if err := json.Unmarshal(inv.Payload, &q); err != nil || q.Type != "REQUEST" || q.MethodARN != "arn:aws:execute-api:us-east-1:111122223333:"+x.id+"/live/$connect" {
			t.Errorf("%s: %v", inv.Payload, err)
		}
		effect := "Deny"
		if q.Headers["X-Key"] == "good" {
			effect = "Allow"
		}
		return &hearth.Result{Payload: fmt.Appendf(nil, `{"principalId": "ada", "context": {"team": "a"}, "policyDocument": {"Version": "2012-10-17", "Statement": [{"Effect": %q, "Action": "execute-api:Invoke", "Resource": "*"}]}}`, effect)}, nil
	}
	x.mu.Unlock()
	routes, _, err := x.Routes(owner, x.id, Page{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		if r.Key == "$connect" {
			if _, err := x.PutRoute(t.Context(), owner, x.id, r.ID, func(r *Route) error {
				r.Authorization, r.AuthorizerID = "CUSTOM", a.ID
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for key, want := range map[string]int{"": 401, "bad": 403, "good": 101} {
		if _, status := x.dial("X-Key", key); status != want {
			t.Errorf("the key %q: %d, want %d", key, status, want)
		}
	}
	if e := x.event(); fmt.Sprint(e.RequestContext.Authorizer) == "" || !strings.Contains(fmt.Sprint(e.RequestContext.Authorizer), "ada") {
		t.Errorf("%+v", e.RequestContext.Authorizer)
	}
}

// sign signs a request of the management API as the account.
func (x *socketWorld) manage(method, connection, body string, good bool) response {
	x.t.Helper()
	r := httptest.NewRequest(method, "http://"+Host(x.id, "us-east-1", "localhost")+"/live/@connections/"+connection, strings.NewReader(body))
	key := aws.Credentials{AccessKeyID: "AKIAEXAMPLE", SecretAccessKey: "secret"}
	if !good {
		key.SecretAccessKey = "wrong"
	}
	if err := v4.NewSigner().SignHTTP(context.Background(), key, r, hashOf(body), "execute-api", "us-east-1", x.clock.Now()); err != nil {
		x.t.Fatal(err)
	}
	return x.do(r)
}

func TestConnectionsAreManagedByWhoMay(t *testing.T) {
	x := newSocketWorld(t, "$connect", "$disconnect")
	c, _ := x.dial()
	id := x.event().RequestContext.ConnectionID
	await(t, func() bool { return x.manage("GET", id, "", true).status == 200 })
	if got := x.manage("POST", id, "hello", true); got.status != 200 {
		t.Errorf("%+v", got)
	}
	if got := x.hear(c); got != "hello" {
		t.Error(got)
	}
	if got := x.manage("GET", id, "", true); !strings.Contains(got.body, `"connectedAt":"2023-11-14T22:13:20Z"`) || !strings.Contains(got.body, `"sourceIp":"127.0.0.1"`) {
		t.Errorf("%+v", got)
	}
	for what, got := range map[string]response{
		"ForbiddenException":       x.manage("POST", id, "hello", false),
		"GoneException":            x.manage("POST", "none", "hello", true),
		"PayloadTooLargeException": x.manage("POST", id, strings.Repeat("x", maxMessage+1), true),
	} {
		if got.header.Get("X-Amzn-Errortype") != what || got.status < 400 {
			t.Errorf("%s: %+v", what, got)
		}
	}
	x.say(c, `{"action":"other"}`) // there is no route for it
	if got := x.hear(c); !strings.Contains(got, `"message":"Forbidden"`) {
		t.Error(got)
	}
	if got := x.manage("DELETE", id, "", true); got.status != 204 {
		t.Errorf("%+v", got)
	}
	if code := x.closed(c); code != websocket.StatusNormalClosure {
		t.Error(code)
	}
	if e := x.event(); e.RequestContext.EventType != "DISCONNECT" {
		t.Errorf("%+v", e)
	}
	if got := x.manage("GET", id, "", true); got.status != 410 {
		t.Errorf("%+v", got)
	}
}

func TestConnectionsEndWhenTheyAreIdleOldOrTooLarge(t *testing.T) {
	x := newSocketWorld(t, "$connect", "$disconnect", "$default")
	open := func() *websocket.Conn {
		t.Helper()
		c, status := x.dial()
		if status != 101 {
			t.Fatal(status)
		}
		id := x.event().RequestContext.ConnectionID
		await(t, func() bool { return x.manage("GET", id, "", true).status == 200 }) // it is watched
		return c
	}
	ends := func(c *websocket.Conn, want websocket.StatusCode) {
		t.Helper()
		if code := x.closed(c); code != want {
			t.Errorf("it ends with %d, want %d", code, want)
		}
		if e := x.event(); e.RequestContext.EventType != "DISCONNECT" {
			t.Errorf("%+v", e)
		}
	}
	c := open()
	x.clock.Advance(socketIdle - time.Minute)
	x.say(c, "x")
	x.event()
	x.hear(c)
	x.clock.Advance(2 * time.Minute) // idle since the message only
	x.say(c, "x")
	x.event()
	x.hear(c)
	x.clock.Advance(socketIdle)
	ends(c, websocket.StatusGoingAway)

	c = open()
	for range int(socketLife/(5*time.Minute)) - 1 {
		x.clock.Advance(5 * time.Minute)
		x.say(c, "x")
		x.event()
		x.hear(c)
	}
	x.clock.Advance(5 * time.Minute)
	ends(c, websocket.StatusGoingAway)

	c = open()
	_ = c.Write(context.Background(), websocket.MessageText, make([]byte, maxFrame+1)) // which may be cut short
	ends(c, websocket.StatusMessageTooBig)

	c = open()
	w, err := c.Writer(context.Background(), websocket.MessageText)
	if err != nil {
		t.Fatal(err)
	}
	for range maxMessage/maxFrame + 1 {
		if _, err := w.Write([]byte(strings.Repeat("x", maxFrame))); err != nil {
			break // it is closed by then
		}
	}
	_ = w.Close()
	ends(c, websocket.StatusMessageTooBig)

	// As large as may be, in several frames.
	c = open()
	if w, err = c.Writer(context.Background(), websocket.MessageText); err != nil {
		t.Fatal(err)
	}
	for range maxMessage / (16 << 10) {
		if _, err := w.Write([]byte(strings.Repeat("x", 16<<10))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if e := x.event(); len(e.Body) != maxMessage {
		t.Errorf("%d bytes", len(e.Body))
	}
	x.hear(c)

	// The server stops.
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	drained := make(chan error, 1)
	go func() { drained <- x.Drain(ctx) }()
	ends(c, websocket.StatusGoingAway)
	if err := <-drained; err != nil {
		t.Error(err)
	}
	if _, status := x.dial(); status != 429 {
		t.Error(status)
	}
}

func TestAnAccountHasOnlySoManyConnections(t *testing.T) {
	x := newSocketWorld(t, "$connect")
	var open []*socket
	for range 2 {
		for range maxConnects {
			if n := x.sockets.reserve(owner, x.id, "live", "", ""); n != nil {
				open = append(open, n)
			}
		}
		if n := x.sockets.reserve(owner, x.id, "live", "", ""); n != nil {
			t.Error("more connections are made in a second than may be")
		}
		x.clock.Advance(time.Second)
	}
	for len(open) < maxSockets {
		n := x.sockets.reserve(owner, x.id, "live", "", "")
		if n == nil {
			x.clock.Advance(time.Second)
			continue
		}
		open = append(open, n)
	}
	x.clock.Advance(time.Second)
	if _, status := x.dial(); status != 429 {
		t.Error(status)
	}
	if n := x.sockets.reserve("999988887777", x.id, "live", "", ""); n == nil {
		t.Error("another account has none")
	}
	for _, n := range open {
		x.sockets.release(n)
	}
	if _, status := x.dial(); status != 101 {
		t.Error(status)
	}
}

func TestAllAccountsHaveRoomForOthersConnections(t *testing.T) {
	x := newWorld(t)
	x.sockets.most = 10
	got := []int{}
	for _, account := range []hearth.Account{"111111111111", "222222222222", "333333333333"} {
		n := 0
		for range 20 {
			if x.sockets.reserve(account, "a", "s", "", "") != nil {
				n++
			}
		}
		got = append(got, n)
	}
	if got[0] != 5 || got[1] != 5 || got[2] != 0 {
		t.Errorf("%v connections of three accounts, where there may be 10", got)
	}
}

func TestWhatAWebSocketAPICannotHaveIsRefused(t *testing.T) {
	x := newSocketWorld(t, "$connect", "a")
	ctx := t.Context()
	api := func(change func(*API)) error {
		_, err := x.CreateAPI(ctx, owner, Quick{}, func(a *API) error {
			a.Name, a.Protocol, a.RouteSelection = "x", "WEBSOCKET", "$request.body.action"
			change(a)
			return nil
		})
		return err
	}
	route := func(key string, change func(*Route)) error {
		_, err := x.PutRoute(ctx, owner, x.id, "", func(r *Route) error {
			r.Key, r.Target = key, "integrations/"+x.integration
			change(r)
			return nil
		})
		return err
	}
	_, quick := x.CreateAPI(ctx, owner, Quick{Target: echo}, func(a *API) error {
		a.Name, a.Protocol, a.RouteSelection = "x", "WEBSOCKET", "$request.body.action"
		return nil
	})
	_, stage := x.CreateStage(ctx, owner, x.id, func(s *Stage) error { s.Name = "$default"; return nil })
	_, token := x.PutAuthorizer(ctx, owner, x.id, "", func(a *Authorizer) error { a.Name, a.Type = "j", "JWT"; return nil })
	_, export := x.Export(owner, x.id, Export{})
	for what, err := range map[string]error{
		"no selection":             api(func(a *API) { a.RouteSelection = "" }),
		"a selection by header":    api(func(a *API) { a.RouteSelection = "$request.header.x" }),
		"a target":                 quick,
		"a stage without a name":   stage,
		"a JWT authorizer":         token,
		"an export":                export,
		"a route twice":            route("a", func(*Route) {}),
		"a route of its own":       route("$mine", func(*Route) {}),
		"an authorized message":    route("b", func(r *Route) { r.Authorization = "AWS_IAM" }),
		"an answer to $connect":    route("$default", func(r *Route) { r.ResponseSelection = "x" }),
		"an answer to $disconnect": route("$disconnect", func(r *Route) { r.ResponseSelection = "$default" }),
	} {
		if err == nil {
			t.Errorf("%s is taken", what)
		}
	}
	if err := api(func(a *API) { a.RouteSelection = "${request.body.a.b}" }); err != nil {
		t.Error(err)
	}
}

// FuzzFrames: however frames come in pieces, one that is too large is found,
// and none else.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{0x81, 0x85, 1, 2, 3, 4, 'h', 'e', 'l', 'l', 'o'}, uint8(1))
	f.Add([]byte{0x82, 0xfe, 0x80, 0x01, 1, 2, 3, 4}, uint8(3))
	f.Add([]byte{0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4}, uint8(2))
	f.Fuzz(func(t *testing.T, b []byte, piece uint8) {
		whole, pieces := new(frames).fit(b), true
		x := new(frames)
		for rest := b; len(rest) > 0 && pieces; {
			n := min(len(rest), int(piece)+1)
			pieces = x.fit(rest[:n])
			rest = rest[n:]
		}
		if whole != pieces {
			t.Errorf("%x fits: %v, and in pieces of %d: %v", b, whole, int(piece)+1, pieces)
		}
	})
}
