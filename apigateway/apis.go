package apigateway

import (
	"context"
	"slices"
	"strings"

	"github.com/coder/websocket"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/internal/traffic"
	"github.com/hearth-faas/hearth/registry"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/tags"
)

// protocolWebSocket is the protocolType of WebSocket APIs.
const protocolWebSocket = "WEBSOCKET"

const (
	maxAPIs         = 600
	maxRoutes       = 300
	maxIntegrations = 300
	maxAuthorizers  = 10
	maxStages       = 10
	maxDeployments  = 300
)

// Quick is what CreateApi makes beside the API: a route, its integration and
// the stage $default, so that the API can be called at once.
type Quick struct {
	Target      string // a function's ARN, or the URL of an HTTP server
	RouteKey    string // "" is $default
	Credentials string // a role, as whom the function is called
}

// At is the URL under which clients reach the API, of that by which HTTP does:
// WebSockets have schemes of their own.
func (a *API) At(url string) string {
	if a.Protocol == protocolWebSocket {
		return "ws" + strings.TrimPrefix(url, "http") // wss of https
	}
	return url
}

// CreateAPI makes an API of what fill says.
func (s *Service) CreateAPI(ctx context.Context, account hearth.Account, q Quick, fill func(*API) error) (*API, error) {
	return s.create(ctx, account, func(r *record) error {
		fixed := r.API
		if err := fill(&r.API); err != nil {
			return err
		}
		r.API.ID, r.API.Endpoint, r.API.Created, r.API.Managed = fixed.ID, fixed.Endpoint, fixed.Created, false
		if r.API.Protocol == "" {
			return invalid("protocolType is required: HTTP or WEBSOCKET.")
		}
		if err := checkAPI(&r.API); err != nil {
			return err
		}
		if r.websocket() {
			if q != (Quick{}) {
				return invalid("target, routeKey and credentialsArn are for HTTP APIs.")
			}
			r.API.Endpoint = r.API.At(r.API.Endpoint)
		}
		return s.quickCreate(r, q)
	})
}

// create makes an API, of which build makes the rest.
func (s *Service) create(ctx context.Context, account hearth.Account, build func(*record) error) (*API, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	s.mu.RLock()
	have := 0
	for _, other := range s.records {
		if other.Account == account {
			have++
		}
	}
	id := newID(10)
	for s.records[id] != nil {
		id = newID(10)
	}
	s.mu.RUnlock()
	if have >= maxAPIs {
		return nil, hearth.Errorf(hearth.TooManyRequests, "An account can have at most %d APIs.", maxAPIs)
	}
	r := &record{
		Version: recordVersion, Account: account, Stages: map[string]*Stage{}, deployments: map[string]*deployment{},
		content: content{map[string]*Route{}, map[string]*Integration{}, map[string]*Authorizer{}},
	}
	r.API.ID, r.API.Endpoint, r.API.Created = id, s.Endpoint(id), s.now()
	if err := build(r); err != nil {
		return nil, err
	}
	if err := s.commit(ctx, nil, r); err != nil {
		return nil, err
	}
	return &r.API, nil
}

// quickCreate makes what CreateApi makes if it is given a target.
func (s *Service) quickCreate(r *record, q Quick) error {
	if q.Target == "" {
		if q.RouteKey != "" || q.Credentials != "" {
			return invalid("routeKey and credentialsArn are for an API with a target: give a target, a function's ARN or an HTTP URL.")
		}
		return nil
	}
	i := &Integration{Managed: true, ID: newID(7), URI: q.Target, Credentials: q.Credentials, PayloadFormat: "1.0"}
	if strings.HasPrefix(q.Target, "arn:") {
		i.Type, i.PayloadFormat = "AWS_PROXY", "2.0"
	} else {
		i.Type, i.Method = "HTTP_PROXY", "ANY"
	}
	if err := s.checkIntegration(r, i); err != nil {
		return err
	}
	route := &Route{Managed: true, ID: newID(7), Key: q.RouteKey, Target: "integrations/" + i.ID}
	if route.Key == "" {
		route.Key = defaultRoute
	}
	r.Integrations[i.ID] = i
	if err := s.checkRoute(r, route); err != nil {
		return err
	}
	r.Routes[route.ID] = route
	r.Stages[defaultStage] = &Stage{
		Managed: true, AutoDeploy: true, Name: defaultStage, Created: s.now(), Updated: s.now(),
		Default: &RouteSettings{}, RouteSettings: map[string]RouteSettings{}, Variables: map[string]string{}, Tags: map[string]string{},
	}
	return nil
}

// checkAPI fills in what was left out, and refuses what cannot be.
func checkAPI(a *API) error {
	if a.KeySelection == "" {
		a.KeySelection = "$request.header.x-api-key"
	}
	if a.RouteSelection == "" && a.Protocol == "HTTP" {
		a.RouteSelection = "$request.method $request.path"
	}
	if a.AddressType == "" {
		a.AddressType = "ipv4"
	}
	if a.Tags == nil {
		a.Tags = map[string]string{}
	}
	switch {
	case a.Protocol != "HTTP" && a.Protocol != protocolWebSocket:
		return invalid("Invalid protocol specified. Must be one of [HTTP, WEBSOCKET]")
	case a.Name == "" || len(a.Name) > 128:
		return invalid("name must have between 1 and 128 characters.")
	case len(a.Description) > 1024:
		return invalid("description must have at most 1024 characters.")
	case len(a.Version) > 64:
		return invalid("version must have at most 64 characters.")
	case a.Protocol == "HTTP" && a.RouteSelection != "$request.method $request.path" && a.RouteSelection != "${request.method} ${request.path}":
		return invalid("routeSelectionExpression must be ${request.method} ${request.path} for an HTTP API.")
	case a.AddressType != "ipv4" && a.AddressType != "dualstack":
		return invalid("ipAddressType must be ipv4 or dualstack.")
	}
	if a.Protocol == protocolWebSocket {
		if a.CORS != nil {
			return invalid("corsConfiguration is for HTTP APIs.")
		}
		if t, err := parseTemplate(a.RouteSelection, requestSources); err != nil || len(t.parts) != 1 || t.parts[0].source != "request.body" || t.parts[0].name == "" {
			return invalid("routeSelectionExpression is required for a WebSocket API, and names a member of messages, such as $request.body.action: %.200q", a.RouteSelection)
		}
	}
	if err := checkTags(a.Tags); err != nil {
		return err
	}
	return checkCORS(a.CORS)
}

func checkTags(m map[string]string) error {
	if tags.Check(m) != nil {
		return invalid("A resource can have at most %d tags.", tags.Limit)
	}
	for k, v := range m {
		if k == "" || len(k) > 128 || len(v) > 256 || strings.HasPrefix(k, "aws:") {
			return invalid("A tag's key has between 1 and 128 characters and does not begin with aws:, its value has at most 256: %.140q", k)
		}
	}
	return nil
}

// checkCORS refuses what browsers would not take.
func checkCORS(c *registry.CORS) error {
	if c == nil {
		return nil
	}
	if c.MaxAge != nil && (*c.MaxAge < -1 || *c.MaxAge > 86400) {
		return invalid("The maxAge of the corsConfiguration must be between -1 and 86400 seconds.")
	}
	if c.AllowCredentials != nil && *c.AllowCredentials && slices.Contains(c.AllowOrigins, "*") {
		return invalid("If allowCredentials is true, then allowOrigins of the corsConfiguration can't contain *: list the origins.")
	}
	for _, o := range c.AllowOrigins {
		scheme, rest, ok := strings.Cut(o, "://")
		if o != "*" && (!ok || scheme == "" || rest == "" || strings.ContainsAny(rest, "/ ") || rest != "*" && strings.Contains(rest, "*")) {
			return invalid("Invalid format for origin %.200s: it is *, https://* or http://* for all of a scheme, or a scheme and a host, such as https://www.example.com.", o)
		}
	}
	for _, m := range c.AllowMethods {
		if m != "*" && !isMethod(m) {
			return invalid("Invalid method %.40q in the corsConfiguration.", m)
		}
	}
	for _, list := range [][]string{c.AllowHeaders, c.ExposeHeaders} {
		for _, h := range list {
			if h != "*" && !isToken(h) {
				return invalid("Invalid header %.80q in the corsConfiguration.", h)
			}
		}
	}
	return nil
}

// API finds an API.
func (s *Service) API(account hearth.Account, id string) (*API, error) {
	r, err := s.api(account, id)
	if err != nil {
		return nil, err
	}
	return &r.API, nil
}

// APIs lists those of the account.
func (s *Service) APIs(account hearth.Account, p Page) (list []*API, next string) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	found, next := page(s.records, p, func(r *record) bool { return r.Account == account })
	list = make([]*API, len(found))
	for i, r := range found {
		list[i] = &r.API
	}
	return list, next
}

// UpdateAPI changes an API. q changes what CreateApi made with a target.
func (s *Service) UpdateAPI(ctx context.Context, account hearth.Account, id string, q Quick, change func(*API) error) (out *API, _ error) {
	err := s.change(ctx, account, id, func(r *record) error {
		a, err := copyOf(&r.API)
		if err != nil {
			return err
		}
		if err := change(a); err != nil {
			return err
		}
		if r.websocket() && q != (Quick{}) {
			return invalid("target, routeKey and credentialsArn are for HTTP APIs.")
		}
		a.ID, a.Endpoint, a.Created, a.Managed, a.Protocol = r.API.ID, r.API.Endpoint, r.API.Created, r.API.Managed, r.API.Protocol
		if err := checkAPI(a); err != nil {
			return err
		}
		r.API = *a
		out = &r.API
		return s.quickUpdate(r, q)
	})
	return out, err
}

// quickUpdate changes the parts that CreateApi made.
func (s *Service) quickUpdate(r *record, q Quick) error {
	if q == (Quick{}) {
		return nil
	}
	managed := false
	for _, i := range r.Integrations {
		managed = managed || i.Managed
	}
	if !managed {
		return invalid("target, routeKey and credentialsArn change what create-api made of a target, and this API has no such integration: change its integrations and routes.")
	}
	for id, i := range r.Integrations {
		if !i.Managed || q.Target == "" && q.Credentials == "" {
			continue
		}
		n := *i
		if q.Target != "" {
			n.URI = q.Target
		}
		if q.Credentials != "" {
			n.Credentials = q.Credentials
		}
		if err := s.checkIntegration(r, &n); err != nil {
			return err
		}
		r.Integrations[id] = &n
	}
	for id, route := range r.Routes {
		if !route.Managed || q.RouteKey == "" {
			continue
		}
		n := *route
		n.Key = q.RouteKey
		if err := s.checkRoute(r, &n); err != nil {
			return err
		}
		r.Routes[id] = &n
		return nil
	}
	return nil
}

// DeleteAPI deletes an API and all that belongs to it. One that a host name
// shows is not.
func (s *Service) DeleteAPI(ctx context.Context, account hearth.Account, id string) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	r, err := s.api(account, id)
	if err != nil {
		return err
	}
	if name := s.shownBy(id, ""); name != "" {
		return conflict("The API %s can't be deleted while the domain name %s has an API mapping to it: delete the mapping first.", id, name)
	}
	err = s.Store.Update(ctx, func(tx store.Tx) error {
		for d := range r.deployments {
			if err := tx.Delete(deploymentsBucket, id+"/"+d); err != nil {
				return err
			}
		}
		return tx.Delete(recordsBucket, id)
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.records, id)
	s.mu.Unlock()
	s.tables.Delete(id)
	for _, counts := range []*traffic.Counts{s.traffic, s.messages} {
		counts.Forget(string(account), func(k traffic.Key) bool { return k[0] == id })
	}
	s.sockets.end(websocket.StatusGoingAway, "the API is gone", func(n *socket) bool { return n.api == id })
	return nil
}

// DeleteCORS has the API's functions answer for themselves again.
func (s *Service) DeleteCORS(ctx context.Context, account hearth.Account, id string) error {
	return s.change(ctx, account, id, func(r *record) error {
		r.API.CORS = nil
		return nil
	})
}

// shownBy is a host name that maps to the stage of an API; "" for all stages
// is any, and "" for none.
func (s *Service) shownBy(id, stage string) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for name, d := range s.domains {
		for _, m := range d.Mappings {
			if m.APIID == id && (stage == "" || m.Stage == stage) {
				return name
			}
		}
	}
	return ""
}
