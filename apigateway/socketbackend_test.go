package apigateway

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"

	hearth "github.com/hearth-faas/hearth"
)

// asked is what a backend of a WebSocket API got.
type asked struct{ method, path, query, body, connection, about, sort, cookie string }

// serves has a route be served by an integration that is made so.
func (x *socketWorld) serves(key string, make func(i *Integration)) *Integration {
	x.t.Helper()
	i, err := x.PutIntegration(x.t.Context(), owner, x.id, "", func(i *Integration) error {
		i.PayloadFormat = "1.0"
		make(i)
		return nil
	})
	if err != nil {
		x.t.Fatal(err)
	}
	routes, _, err := x.Routes(owner, x.id, Page{})
	if err != nil {
		x.t.Fatal(err)
	}
	for _, r := range routes {
		if r.Key == key {
			if _, err := x.PutRoute(x.t.Context(), owner, x.id, r.ID, func(r *Route) error { r.Target = "integrations/" + i.ID; return nil }); err != nil {
				x.t.Fatal(err)
			}
			return i
		}
	}
	x.t.Fatalf("there is no route %s", key)
	return nil
}

// A backend over HTTP lets connections in, gets messages with who sent them, and
// is told of ends.
func TestAnHTTPBackendServesAWebSocket(t *testing.T) {
	x := newSocketWorld(t, connectRoute, disconnectRoute, "say", defaultRoute)
	got := make(chan asked, 10)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got <- asked{r.Method, r.URL.Path, r.URL.RawQuery, string(body), r.Header.Get("Connection-Id"), r.Header.Get("About"), r.Header.Get("Content-Type"), r.Header.Get("Cookie")}
		switch {
		case r.Header.Get("Cookie") == "stranger=1":
			w.WriteHeader(http.StatusUnauthorized)
		case strings.HasSuffix(r.URL.Path, "/broken"):
			w.WriteHeader(http.StatusTeapot)
			_, _ = w.Write([]byte{0xff, 0xfe})
		default:
			_, _ = io.WriteString(w, "heard "+string(body))
		}
	}))
	t.Cleanup(backend.Close)
	id := map[string]string{"integration.request.header.connection-id": "context.connectionId"}
	x.serves(connectRoute, func(i *Integration) {
		i.Type, i.Method, i.URI, i.RequestParameters = "HTTP_PROXY", "GET", backend.URL+"/in", id
	})
	x.serves(disconnectRoute, func(i *Integration) {
		i.Type, i.Method, i.URI, i.RequestParameters = "HTTP_PROXY", "DELETE", backend.URL+"/out", id
	})
	x.serves("say", func(i *Integration) {
		i.Type, i.Method, i.URI = "HTTP_PROXY", "POST", backend.URL+"/rooms/{room}"
		i.RequestParameters = map[string]string{
			"integration.request.header.connection-id": "context.connectionId", "integration.request.header.about": "'fixed'",
			"integration.request.path.room": "route.request.body.room", "integration.request.querystring.stage": "context.stage",
		}
	})
	if _, status := x.dial("Cookie", "stranger=1"); status != http.StatusUnauthorized {
		t.Errorf("a stranger gets %d", status)
	}
	<-got
	c, status := x.dial("Cookie", "friend=1")
	if status != http.StatusSwitchingProtocols {
		t.Fatalf("a friend gets %d", status)
	}
	in := <-got
	if in.method != "GET" || in.path != "/in" || in.query != "name=ada" || in.cookie != "friend=1" || in.connection == "" {
		t.Errorf("$connect: %+v", in)
	}
	message := `{"action":"say","room":"a/b"}`
	x.say(c, message)
	if text := x.hear(c); text != "heard "+message {
		t.Errorf("the client hears %s", text)
	}
	want := asked{"POST", "/rooms/a/b", "stage=live", message, in.connection, "fixed", "application/json", ""}
	if said := <-got; said != want {
		t.Errorf("the backend got %+v, want %+v", said, want)
	}
	x.say(c, `{"action":"say","room":"broken"}`)
	if kind, data, err := c.Read(t.Context()); err != nil || kind != websocket.MessageBinary || string(data) != "\xff\xfe" {
		t.Errorf("of what is no text the client gets %v %q %v", kind, data, err)
	}
	<-got
	x.say(c, "of a function") // the other routes are as they were
	if text := x.hear(c); text != "you said of a function" {
		t.Errorf("beside it: %s", text)
	}
	_ = c.CloseNow()
	if out := <-got; out.method != "DELETE" || out.path != "/out" || out.connection != in.connection || out.body != "" {
		t.Errorf("$disconnect: %+v", out)
	}
}

// What a backend says of a message is its client's, whatever its status: of a
// proxy integration the service passes the backend's output on as the payload,
// and has no integration responses that could tell statuses apart.
func TestAnHTTPBackendsAnswerIsPassedOnWhateverItsStatus(t *testing.T) {
	x := newSocketWorld(t, "say", defaultRoute)
	type answer struct {
		Status int    `json:"status"`
		Text   string `json:"text"`
	}
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var a answer
		if err := json.NewDecoder(r.Body).Decode(&a); err != nil {
			t.Error(err)
		}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(a.Status)
		if a.Text != "" {
			_, _ = io.WriteString(w, a.Text)
		}
	}))
	t.Cleanup(backend.Close)
	x.serves("say", func(i *Integration) { i.Type, i.Method, i.URI = "HTTP_PROXY", "POST", backend.URL })
	c, status := x.dial()
	if status != http.StatusSwitchingProtocols {
		t.Fatalf("dialled: %d", status)
	}
	for _, a := range []answer{
		{200, "fine"}, {201, `{"made":1}`}, {302, "found elsewhere"}, {400, `{"error":"what?"}`}, {403, "no"}, {404, "none"}, {429, "later"}, {500, "broken"}, {503, "away"},
		{204, ""}, {500, ""}, // which have nothing to be passed on
	} {
		text, err := json.Marshal(map[string]any{"action": "say", "status": a.Status, "text": a.Text})
		if err != nil {
			t.Fatal(err)
		}
		x.say(c, string(text))
		want := a.Text
		if want == "" {
			want = "you said and then"
			x.say(c, "and then") // of a function
		}
		if got := x.hear(c); got != want {
			t.Errorf("of %d the client hears %q, want %q", a.Status, got, want)
		}
	}
}

// A text that is no UTF-8 would end the client's connection.
func TestWhatIsNoTextIsSentAsBytes(t *testing.T) {
	x := newSocketWorld(t, "say")
	c, status := x.dial()
	if status != http.StatusSwitchingProtocols {
		t.Fatalf("dialled: %d", status)
	}
	for _, a := range []struct {
		handling, answer string
		kind             websocket.MessageType
		want             string
	}{
		{"", `{"statusCode":200,"body":"//4=","isBase64Encoded":true}`, websocket.MessageBinary, "\xff\xfe"},
		{"", `{"statusCode":200,"body":"//4="}`, websocket.MessageText, "//4="},
		{toText, `{"statusCode":200,"body":"//4=","isBase64Encoded":true}`, websocket.MessageText, "//4="},
		{toText, `{"statusCode":200,"body":"text"}`, websocket.MessageText, "text"},
		{toBinary, `{"statusCode":200,"body":"//4="}`, websocket.MessageBinary, "\xff\xfe"},
		{toBinary, `{"statusCode":200,"body":"aGk="}`, websocket.MessageBinary, "hi"},
	} {
		x.integrationOf(func(i *Integration) { i.ContentHandling = a.handling })
		x.returns(a.answer)
		x.say(c, `{"action":"say"}`)
		if kind, data, err := c.Read(t.Context()); err != nil || kind != a.kind || string(data) != a.want {
			t.Errorf("%q of %s: %v %q %v", a.handling, a.answer, kind, data, err)
		}
	}
	x.returns(`{"statusCode":200,"body":"!"}`)
	x.say(c, `{"action":"say"}`)
	if text := x.hear(c); !strings.Contains(text, "Internal Server Error") {
		t.Errorf("of what is no base64: %s", text)
	}
}

// integrationOf changes the function's integration.
func (x *socketWorld) integrationOf(change func(i *Integration)) {
	x.t.Helper()
	x.world.integration(x.id, x.integration, change)
}

func TestAConnectionNeedsWhatItsRouteRequires(t *testing.T) {
	x := newSocketWorld(t)
	x.route(x.id, x.integration, connectRoute, func(r *Route) {
		r.RequestParameters = map[string]RequestParameter{
			"route.request.header.Key": {Required: true}, "route.request.querystring.name": {Required: true}, "route.request.header.other": {},
		}
	})
	if _, status := x.dial(); status != http.StatusBadRequest || x.ran() != 0 {
		t.Errorf("without the header: %d, %d calls", status, x.ran())
	}
	if _, status := x.dial("Key", "1"); status != http.StatusSwitchingProtocols {
		t.Errorf("with it: %d", status)
	}
}

// MOCK lets in and refuses by a status, calls nothing, and says nothing.
func TestAMockServesAWebSocketWithoutAnything(t *testing.T) {
	x := newSocketWorld(t, connectRoute, "quiet", defaultRoute)
	mock := x.serves(connectRoute, func(i *Integration) { i.Type = "MOCK" })
	x.serves("quiet", func(i *Integration) {
		i.Type, i.TemplateSelection, i.RequestTemplates = "MOCK", "200", map[string]string{"200": `{"statusCode": 200}`}
	})
	c, status := x.dial()
	if status != http.StatusSwitchingProtocols {
		t.Fatalf("it gets %d", status)
	}
	x.say(c, `{"action":"quiet"}`)
	x.say(c, "and then")
	if text := x.hear(c); text != "you said and then" {
		t.Errorf("it hears %s", text)
	}
	if x.ran() != 1 {
		t.Errorf("%d functions ran", x.ran())
	}
	if _, err := x.PutIntegration(t.Context(), owner, x.id, mock.ID, func(i *Integration) error {
		i.RequestTemplates = map[string]string{`\$default`: `{"statusCode": 403}`}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, status := x.dial(); status != http.StatusForbidden {
		t.Errorf("of a MOCK that says 403 it gets %d", status)
	}
}

func TestWhatASocketsIntegrationCantBeIsRefused(t *testing.T) {
	x := newSocketWorld(t, defaultRoute)
	for want, make := range map[string]func(i *Integration){
		"AWS_PROXY for a function": func(i *Integration) { i.Type, i.URI = "AWS", echo },
		"VTL": func(i *Integration) {
			i.Type, i.RequestTemplates = "MOCK", map[string]string{"200": `{"statusCode": $input.path('$.x')}`}
		},
		"has no method": func(i *Integration) { i.Type, i.Method, i.URI = "HTTP_PROXY", "ANY", "http://backend.example/" },
		"HTTP endpoint": func(i *Integration) { i.Type, i.Method, i.URI = "HTTP_PROXY", "POST", "backend" },
		"integration.request.header.NAME": func(i *Integration) {
			i.Type, i.Method, i.URI, i.RequestParameters = "HTTP_PROXY", "POST", "http://backend.example/", map[string]string{"append:header.x": "1"}
		},
		"can't be set": func(i *Integration) {
			i.Type, i.Method, i.URI, i.RequestParameters = "HTTP_PROXY", "POST", "http://backend.example/", map[string]string{"integration.request.header.Host": "'x'"}
		},
		"calls nothing": func(i *Integration) { i.Type, i.URI = "MOCK", "http://backend.example/" },
		"is 1.0":        func(i *Integration) { i.Type, i.URI, i.PayloadFormat = "AWS_PROXY", echo, "2.0" },
	} {
		_, err := x.PutIntegration(t.Context(), owner, x.id, "", func(i *Integration) error {
			i.PayloadFormat = "1.0"
			make(i)
			return nil
		})
		if hearth.KindOf(err) != hearth.Validation || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
