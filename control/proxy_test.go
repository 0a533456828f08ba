package control

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/proxy"
)

type proxyParts struct{ *parts }

var (
	aResource = proxy.Resource{ID: "l", Type: "lamp", State: json.RawMessage(`{"n":1}`), Metadata: map[string]string{"at": "x"}, Revision: 2, Created: noon, Changed: noon}
	yes       = true
	anAPI     = proxy.API{
		ID: "a", Description: "d", Type: "lamp", Methods: []string{"GET"}, Path: "/l/{resource}", Function: "f", Auth: proxy.Auth{Kind: "key", Keys: []string{"k"}},
		Throttle: &proxy.Throttle{Rate: 1.5, Burst: 2}, Cache: &proxy.Cache{TTLMillis: 1, Key: "path"}, TimeoutMillis: 5, Idempotent: &yes,
		Async: &proxy.Async{Mode: "asked", KeepSeconds: 5, Callback: "body"}, Revision: 3, Changed: noon,
		Mapping: proxy.Mapping{
			Require: []proxy.Requirement{{That: "true", Status: 422, Message: "m"}}, Event: "a\nb", Set: "{}", Conflict: "fail", Merge: "{}", Add: "{}", Status: "200", Headers: "{}", Body: "1", Root: "r",
			Errors: []proxy.ErrorMapping{{On: "*", Type: "T", Status: 500, Body: "1", Headers: "{}"}},
		},
	}
	aKey = proxy.Key{Name: "k", SHA256: "00", Created: noon}
)

// proxyBodies are what the actions are sent.
var proxyBodies = map[string]string{
	"/proxy/resources/put": `{"id": "l", "type": "lamp"}`, "/proxy/apis/put": `{"id": "a"}`, "/proxy/try": `{"id": "a", "method": "GET", "path": "/"}`, importPath: `{"hearthProxy": 1}`,
}

func (p proxyParts) Resources(hearth.Account, string) []proxy.Resource {
	return []proxy.Resource{aResource}
}

func (p proxyParts) Resource(hearth.Account, string) (proxy.Resource, error) { return aResource, p.err }

func (p proxyParts) PutResource(context.Context, hearth.Account, proxy.Resource) (proxy.Resource, error) {
	return aResource, p.err
}
func (p proxyParts) RemoveResource(context.Context, hearth.Account, string) error { return p.err }
func (p proxyParts) APIs(hearth.Account) []proxy.API                              { return []proxy.API{anAPI} }
func (p proxyParts) API(hearth.Account, string) (proxy.API, error)                { return anAPI, p.err }

func (p proxyParts) PutAPI(context.Context, hearth.Account, *proxy.API) (proxy.API, error) {
	return anAPI, p.err
}
func (p proxyParts) RemoveAPI(context.Context, hearth.Account, string) error { return p.err }
func (p proxyParts) Keys(hearth.Account) []proxy.Key                         { return []proxy.Key{aKey} }

func (p proxyParts) AddKey(context.Context, hearth.Account, string) (proxy.Key, string, error) {
	return aKey, "text", p.err
}
func (p proxyParts) RemoveKey(context.Context, hearth.Account, string) error { return p.err }

func (p proxyParts) Try(context.Context, hearth.Account, *proxy.Trial) (*proxy.Tried, error) {
	return &proxy.Tried{API: "a", Resource: "l", Event: json.RawMessage(`1`), State: json.RawMessage(`{}`), Response: &proxy.TriedResponse{Status: 200, Headers: map[string][]string{}, Body: "x"}, Fault: proxy.Timeout, Why: "w"}, p.err
}

func (p proxyParts) Export(hearth.Account) proxy.Document {
	return proxy.Document{Version: 1, Resources: []proxy.Resource{aResource}, APIs: []proxy.API{anAPI}}
}

func (p proxyParts) Import(context.Context, hearth.Account, []byte, bool) (proxy.Imported, error) {
	return proxy.Imported{Resources: 1, APIs: 2, Kept: 3}, p.err
}

func TestProxiesAreKeptThroughTheClient(t *testing.T) {
	c := serve(t, &parts{}, root, nil)
	ctx := t.Context()
	if list, err := c.ProxyResources(ctx, "lamp", ""); err != nil || len(list) != 1 || list[0].ID != "l" {
		t.Errorf("%+v %v", list, err)
	}
	if r, err := c.PutProxyResource(ctx, aResource); err != nil || r.Revision != 2 {
		t.Errorf("%+v %v", r, err)
	}
	if list, err := c.ProxyAPIs(ctx, "a"); err != nil || len(list) != 1 || list[0].Mapping.Event != "a\nb" {
		t.Errorf("%+v %v", list, err)
	}
	if k, err := c.AddProxyKey(ctx, "k"); err != nil || k.Text != "text" || k.Name != "k" {
		t.Errorf("%+v %v", k, err)
	}
	if n, err := c.ImportProxies(ctx, []byte(`{}`), true); err != nil || n.Kept != 3 {
		t.Errorf("%+v %v", n, err)
	}
	for _, of := range []string{"resources", "apis", "keys"} {
		if err := c.RemoveProxy(ctx, of, "x"); err != nil {
			t.Errorf("%s: %v", of, err)
		}
	}
}

// A process that has less than a server serves less.
func TestPathsThatAreNotServedAreNotThere(t *testing.T) {
	c := serve(t, &parts{}, root, nil)
	only := &Handler{
		Authenticate: func(*http.Request, []byte) (hearth.Identity, error) { return root, nil },
		Proxies:      proxyParts{&parts{}}, Serves: func(path string) bool { return path == "/proxy/keys" },
	}
	srv := httptest.NewServer(only)
	defer srv.Close()
	c.Endpoint = srv.URL
	if _, err := c.ProxyKeys(t.Context()); err != nil {
		t.Error(err)
	}
	_, err := raw(t, c, "/ps")
	if f, ok := errors.AsType[*Failure](err); !ok || f.Kind != hearth.UnknownOperation {
		t.Errorf("/ps: %v", err)
	}
}
