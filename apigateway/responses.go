package apigateway

import (
	"context"
	"maps"

	hearth "github.com/hearth-faas/hearth"
)

// RouteResponses lists the responses of a route.
func (s *Service) RouteResponses(account hearth.Account, api, route string, p Page) ([]*RouteResponse, string, error) {
	r, err := s.Route(account, api, route)
	if err != nil {
		return nil, "", err
	}
	list, next := page(r.Responses, p, nil)
	return list, next, nil
}

// RouteResponse finds a response of a route.
func (s *Service) RouteResponse(account hearth.Account, api, route, id string) (*RouteResponse, error) {
	r, err := s.Route(account, api, route)
	if err != nil {
		return nil, err
	}
	if n := r.Responses[id]; n != nil {
		return n, nil
	}
	return nil, notFound("RouteResponse", id)
}

// PutRouteResponse changes a response of a WebSocket API's route, or makes one
// if id is "".
func (s *Service) PutRouteResponse(ctx context.Context, account hearth.Account, api, route, id string, change func(*RouteResponse) error) (out *RouteResponse, _ error) {
	err := s.changeRoute(ctx, account, api, route, func(r *record, n *Route) (err error) {
		if !r.websocket() {
			return invalid("Route responses are for WebSocket APIs.")
		}
		old := &RouteResponse{ID: newID(7)}
		if id != "" {
			if old = n.Responses[id]; old == nil {
				return notFound("RouteResponse", id)
			}
		}
		if out, err = copyOf(old); err != nil {
			return err
		}
		if err := change(out); err != nil {
			return err
		}
		out.ID = old.ID
		if out.Key != defaultRoute {
			return invalid("routeResponseKey is $default: %.140q", out.Key)
		}
		for _, other := range n.Responses {
			if other.ID != out.ID {
				return conflict("RouteResponse with key %s already exists for this route", out.Key)
			}
		}
		n.Responses[out.ID] = out
		return nil
	})
	return out, err
}

// DeleteRouteResponse has the client sent no more what the function returns.
func (s *Service) DeleteRouteResponse(ctx context.Context, account hearth.Account, api, route, id string) error {
	return s.changeRoute(ctx, account, api, route, func(_ *record, n *Route) error {
		return forget(n.Responses, "RouteResponse", id)
	})
}

// changeRoute changes a route, whose responses may be changed in place.
func (s *Service) changeRoute(ctx context.Context, account hearth.Account, api, id string, f func(*record, *Route) error) error {
	return s.change(ctx, account, api, func(r *record) error {
		old := r.Routes[id]
		if old == nil {
			return notFound("Route", id)
		}
		n := *old
		if n.Responses = maps.Clone(old.Responses); n.Responses == nil {
			n.Responses = map[string]*RouteResponse{}
		}
		if err := f(r, &n); err != nil {
			return err
		}
		if len(n.Responses) == 0 {
			n.Responses = nil // as it is after it was read
		}
		r.Routes[id] = &n
		return nil
	})
}
