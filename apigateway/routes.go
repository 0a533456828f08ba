package apigateway

import (
	"context"
	"strings"

	hearth "github.com/hearth-faas/hearth"
)

// Routes lists the routes of an API.
func (s *Service) Routes(account hearth.Account, api string, p Page) ([]*Route, string, error) {
	r, err := s.api(account, api)
	if err != nil {
		return nil, "", err
	}
	list, next := page(r.Routes, p, nil)
	return list, next, nil
}

// Route finds a route.
func (s *Service) Route(account hearth.Account, api, id string) (*Route, error) {
	r, err := s.api(account, api)
	if err != nil {
		return nil, err
	}
	if route := r.Routes[id]; route != nil {
		return route, nil
	}
	return nil, notFound("Route", id)
}

// PutRoute changes a route, or makes one if id is "".
func (s *Service) PutRoute(ctx context.Context, account hearth.Account, api, id string, change func(*Route) error) (out *Route, _ error) {
	err := s.change(ctx, account, api, func(r *record) (err error) {
		old := &Route{ID: newID(7)}
		switch {
		case id != "":
			if old = r.Routes[id]; old == nil {
				return notFound("Route", id)
			}
		default:
			if err := limit("routes", len(r.Routes), maxRoutes); err != nil {
				return err
			}
		}
		if out, err = copyOf(old); err != nil {
			return err
		}
		if err := change(out); err != nil {
			return err
		}
		out.ID, out.Managed, out.Responses = old.ID, old.Managed, old.Responses
		if err := s.checkRoute(r, out); err != nil {
			return err
		}
		r.Routes[out.ID] = out
		return nil
	})
	return out, err
}

// checkRoute refuses what cannot be in r.
func (s *Service) checkRoute(r *record, n *Route) error {
	key, err := r.routeKey(n.Key)
	if err != nil {
		return err
	}
	if !r.websocket() {
		n.Key = key.String()
	}
	for _, other := range r.Routes {
		if k, err := r.routeKey(other.Key); err == nil && other.ID != n.ID && k.shape() == key.shape() && (!r.websocket() || other.Key == n.Key) {
			return conflict("Route with key %s already exists for this API", n.Key)
		}
	}
	if r.websocket() {
		if err := checkSocketRoute(n); err != nil {
			return err
		}
	} else if n.ResponseSelection != "" || len(n.RequestParameters) > 0 {
		return invalid("routeResponseSelectionExpression and requestParameters are for WebSocket APIs.")
	}
	if n.Target != "" {
		id, ok := strings.CutPrefix(n.Target, "integrations/")
		if !ok {
			return invalid("The target of a route is integrations/ and the id of an integration: %.200q", n.Target)
		}
		if r.Integrations[id] == nil {
			return notFound("Integration", id)
		}
	}
	if n.KeyRequired {
		return invalid("API keys (apiKeyRequired) are not supported by Hearth: use an authorizer.")
	}
	if n.Authorization == "" {
		n.Authorization = "NONE"
	}
	a := r.Authorizers[n.AuthorizerID]
	switch n.Authorization {
	case "NONE", "AWS_IAM":
		n.AuthorizerID = ""
		if len(n.Scopes) > 0 {
			return invalid("authorizationScopes are for routes with the authorizationType JWT.")
		}
	case "JWT", "CUSTOM":
		sort := map[string]string{"JWT": "JWT", "CUSTOM": "REQUEST"}[n.Authorization]
		if n.AuthorizerID == "" {
			return invalid("A route with the authorizationType %s needs an authorizerId.", n.Authorization)
		}
		if a == nil {
			return notFound("Authorizer", n.AuthorizerID)
		}
		if a.Type != sort {
			return invalid("A route with the authorizationType %s needs an authorizer of the type %s; %s is of the type %s.", n.Authorization, sort, a.ID, a.Type)
		}
		if n.Authorization == "CUSTOM" && len(n.Scopes) > 0 {
			return invalid("authorizationScopes are for routes with the authorizationType JWT.")
		}
	default:
		return invalid("Invalid authorizationType %.40q: it is NONE, AWS_IAM, JWT or CUSTOM.", n.Authorization)
	}
	if len(n.Scopes) > 20 {
		return invalid("A route can have at most 20 authorizationScopes.")
	}
	return nil
}

// checkSocketRoute refuses what only routes of HTTP APIs can have.
func checkSocketRoute(n *Route) error {
	for key := range n.RequestParameters {
		if _, err := requestParameter(key); err != nil {
			return err
		}
		if n.Key != connectRoute {
			return invalid("requestParameters are for the route $connect: a message has none.")
		}
	}
	switch {
	case n.ResponseSelection != "" && n.ResponseSelection != defaultRoute:
		return invalid("routeResponseSelectionExpression is $default, or left out.")
	case n.ResponseSelection != "" && (n.Key == connectRoute || n.Key == disconnectRoute):
		return invalid("routeResponseSelectionExpression is for routes of messages.")
	case n.Authorization == "JWT":
		return invalid("The authorizationType JWT is for HTTP APIs: use CUSTOM and an authorizer of the type REQUEST.")
	case n.Authorization != "" && n.Authorization != "NONE" && n.Key != connectRoute:
		return invalid("Only the route $connect of a WebSocket API has an authorizationType: it is for the whole connection.")
	}
	return nil
}

// DeleteRequestParameter has a route expect nothing of a parameter any more.
func (s *Service) DeleteRequestParameter(ctx context.Context, account hearth.Account, api, id, key string) error {
	_, err := s.PutRoute(ctx, account, api, id, func(n *Route) error {
		return forget(n.RequestParameters, "RequestParameter", key)
	})
	return err
}

// DeleteRoute deletes a route.
func (s *Service) DeleteRoute(ctx context.Context, account hearth.Account, api, id string) error {
	return s.change(ctx, account, api, func(r *record) error {
		if r.Routes[id] == nil {
			return notFound("Route", id)
		}
		delete(r.Routes, id)
		return nil
	})
}
