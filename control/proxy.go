package control

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/proxy"
)

// Proxies keeps the resources and APIs of proxy endpoints. Safe for concurrent
// use. Errors are those of proxy.Service.
type Proxies interface {
	Resources(account hearth.Account, typ string) []proxy.Resource
	Resource(account hearth.Account, id string) (proxy.Resource, error)
	PutResource(ctx context.Context, account hearth.Account, r proxy.Resource) (proxy.Resource, error)
	RemoveResource(ctx context.Context, account hearth.Account, id string) error

	APIs(account hearth.Account) []proxy.API
	API(account hearth.Account, id string) (proxy.API, error)
	PutAPI(ctx context.Context, account hearth.Account, a *proxy.API) (proxy.API, error)
	RemoveAPI(ctx context.Context, account hearth.Account, id string) error

	Keys(account hearth.Account) []proxy.Key
	AddKey(ctx context.Context, account hearth.Account, name string) (proxy.Key, string, error)
	RemoveKey(ctx context.Context, account hearth.Account, name string) error

	Try(ctx context.Context, account hearth.Account, t *proxy.Trial) (*proxy.Tried, error)
	Export(account hearth.Account) proxy.Document
	Import(ctx context.Context, account hearth.Account, document []byte, keep bool) (proxy.Imported, error)
}

// importPath takes more than the other actions: maxImport bytes.
const (
	importPath = "/proxy/import"
	maxImport  = 32 << 20
)

// ProxyResources is the answer of /proxy/resources, by id.
type ProxyResources struct {
	Resources []proxy.Resource `json:"resources"`
	More      bool             `json:"more"` // after the last of these
}

// ProxyAPIs is the answer of /proxy/apis, by id.
type ProxyAPIs struct {
	APIs []proxy.API `json:"apis"`
}

// ProxyKey is a key with which proxy APIs are called. Key is there once, when it
// is made.
type ProxyKey struct {
	proxy.Key
	Text string `json:"key,omitempty"`
}

// ProxyKeys is the answer of /proxy/keys, by name.
type ProxyKeys struct {
	Keys []proxy.Key `json:"keys"`
}

// Removed is the answer of what was removed.
type Removed struct {
	Removed string `json:"removed"`
}

func (h *Handler) proxyResources(_ context.Context, a ask) (any, error) {
	if id := a.q.Get("id"); id != "" {
		r, err := h.Proxies.Resource(a.account, id)
		return ProxyResources{Resources: []proxy.Resource{r}}, err
	}
	limit, err := number(a.q, "limit", MaxDecisions, MaxDecisions)
	if err != nil {
		return nil, err
	}
	page := ProxyResources{Resources: []proxy.Resource{}}
	for _, r := range h.Proxies.Resources(a.account, a.q.Get("type")) {
		if r.ID <= a.q.Get("after") {
			continue
		}
		if page.More = len(page.Resources) == limit; page.More {
			break
		}
		page.Resources = append(page.Resources, r)
	}
	return page, nil
}

func (h *Handler) putProxyResource(ctx context.Context, a ask) (any, error) {
	var r proxy.Resource
	dec := json.NewDecoder(bytes.NewReader(a.body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return nil, hearth.Errorf(hearth.InvalidParameter, "The body is no resource: %v.", err)
	}
	return h.Proxies.PutResource(ctx, a.account, r)
}

func (h *Handler) removeProxyResource(ctx context.Context, a ask) (any, error) {
	return Removed{a.q.Get("id")}, h.Proxies.RemoveResource(ctx, a.account, a.q.Get("id"))
}

func (h *Handler) proxyAPIs(_ context.Context, a ask) (any, error) {
	if id := a.q.Get("id"); id != "" {
		one, err := h.Proxies.API(a.account, id)
		return ProxyAPIs{[]proxy.API{one}}, err
	}
	return ProxyAPIs{some(h.Proxies.APIs(a.account))}, nil
}

func (h *Handler) putProxyAPI(ctx context.Context, a ask) (any, error) {
	api, err := proxy.DecodeAPI(a.body)
	if err != nil {
		return nil, err
	}
	return h.Proxies.PutAPI(ctx, a.account, api)
}

func (h *Handler) removeProxyAPI(ctx context.Context, a ask) (any, error) {
	return Removed{a.q.Get("id")}, h.Proxies.RemoveAPI(ctx, a.account, a.q.Get("id"))
}

func (h *Handler) proxyKeys(_ context.Context, a ask) (any, error) {
	return ProxyKeys{some(h.Proxies.Keys(a.account))}, nil
}

func (h *Handler) addProxyKey(ctx context.Context, a ask) (any, error) {
	k, text, err := h.Proxies.AddKey(ctx, a.account, a.q.Get("name"))
	return ProxyKey{k, text}, err
}

func (h *Handler) removeProxyKey(ctx context.Context, a ask) (any, error) {
	return Removed{a.q.Get("name")}, h.Proxies.RemoveKey(ctx, a.account, a.q.Get("name"))
}

func (h *Handler) tryProxy(ctx context.Context, a ask) (any, error) {
	var t proxy.Trial
	dec := json.NewDecoder(bytes.NewReader(a.body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&t); err != nil {
		return nil, hearth.Errorf(hearth.InvalidParameter, "The body does not say what to try: %v.", err)
	}
	return h.Proxies.Try(ctx, a.account, &t)
}

func (h *Handler) proxyExport(_ context.Context, a ask) (any, error) {
	return h.Proxies.Export(a.account), nil
}

func (h *Handler) proxyImport(ctx context.Context, a ask) (any, error) {
	keep := false
	if s := a.q.Get("keep"); s != "" {
		var err error
		if keep, err = strconv.ParseBool(s); err != nil {
			return nil, hearth.Errorf(hearth.InvalidParameter, "keep: %q is neither true nor false.", s)
		}
	}
	return h.Proxies.Import(ctx, a.account, a.body, keep)
}

// ProxyResources lists resources, of a type unless that is "", or the one with the
// id.
func (c *Client) ProxyResources(ctx context.Context, typ, id string) (all []proxy.Resource, err error) {
	v := url.Values{}
	set(v, "type", typ)
	set(v, "id", id)
	for {
		page, err := get[ProxyResources](ctx, c, "/proxy/resources", v)
		if err != nil {
			return nil, err
		}
		if all = append(all, page.Resources...); !page.More {
			return all, nil
		}
		v.Set("after", all[len(all)-1].ID)
	}
}

// PutProxyResource makes or changes a resource.
func (c *Client) PutProxyResource(ctx context.Context, r proxy.Resource) (proxy.Resource, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return proxy.Resource{}, err
	}
	return send[proxy.Resource](ctx, c, http.MethodPost, "/proxy/resources/put", nil, body)
}

// RemoveProxy takes away one of the resources, apis or keys.
func (c *Client) RemoveProxy(ctx context.Context, of, id string) error {
	name := "id"
	if of == "keys" {
		name = "name"
	}
	_, err := send[Removed](ctx, c, http.MethodPost, "/proxy/"+of+"/remove", url.Values{name: {id}}, nil)
	return err
}

// ProxyAPIs lists the APIs, or the one with the id.
func (c *Client) ProxyAPIs(ctx context.Context, id string) ([]proxy.API, error) {
	v := url.Values{}
	set(v, "id", id)
	list, err := get[ProxyAPIs](ctx, c, "/proxy/apis", v)
	return list.APIs, err
}

// PutProxyAPI makes or changes an API; document is its JSON.
func (c *Client) PutProxyAPI(ctx context.Context, document []byte) (proxy.API, error) {
	return send[proxy.API](ctx, c, http.MethodPost, "/proxy/apis/put", nil, document)
}

// ProxyKeys lists the keys.
func (c *Client) ProxyKeys(ctx context.Context) ([]proxy.Key, error) {
	list, err := get[ProxyKeys](ctx, c, "/proxy/keys", nil)
	return list.Keys, err
}

// AddProxyKey makes a key, whose text is told this once.
func (c *Client) AddProxyKey(ctx context.Context, name string) (ProxyKey, error) {
	return send[ProxyKey](ctx, c, http.MethodPost, "/proxy/keys/add", url.Values{"name": {name}}, nil)
}

// TryProxy thinks a call through.
func (c *Client) TryProxy(ctx context.Context, t proxy.Trial) (proxy.Tried, error) {
	body, err := json.Marshal(t)
	if err != nil {
		return proxy.Tried{}, err
	}
	return send[proxy.Tried](ctx, c, http.MethodPost, "/proxy/try", nil, body)
}

// ExportProxies gives all resources and APIs.
func (c *Client) ExportProxies(ctx context.Context) (proxy.Document, error) {
	return get[proxy.Document](ctx, c, "/proxy/export", nil)
}

// ImportProxies takes in what ExportProxies gave; with keep, resources that there
// are stay as they are.
func (c *Client) ImportProxies(ctx context.Context, document []byte, keep bool) (proxy.Imported, error) {
	return send[proxy.Imported](ctx, c, http.MethodPost, importPath, url.Values{"keep": {strconv.FormatBool(keep)}}, document)
}
