package wire

import (
	"encoding/json"

	"github.com/hearth-faas/hearth/apigateway"
)

// What belongs to an API: each is made and changed by a body that has some of
// its members.

// without refuses a body for members that Hearth does not have: what they ask
// for must not be left out without a word.
func (r *request) without(why string, names ...string) error {
	var members map[string]json.RawMessage
	if len(r.Body) == 0 || json.Unmarshal(r.Body, &members) != nil {
		return nil // the operation says what is wrong with it
	}
	for _, name := range names {
		switch string(members[name]) {
		case "", "null", `""`, "{}":
		default:
			return invalid("%s is not supported by Hearth: %s", name, why)
		}
	}
	return nil
}

func (r *request) route(n *apigateway.Route) error {
	if err := r.without("what serves a route checks what it gets.", "requestModels", "modelSelectionExpression"); err != nil {
		return err
	}
	return apigateway.Patch(n, r.Body, "requestParameters")
}

func (a *api) createRoute(r *request) (answer, error) {
	return created(a.APIs.PutRoute(r.ctx, r.account(), r.parts[1], "", r.route))
}

func (a *api) updateRoute(r *request) (answer, error) {
	return ok(a.APIs.PutRoute(r.ctx, r.account(), r.parts[1], r.parts[3], r.route))
}

func (a *api) deleteRequestParameter(r *request) (answer, error) {
	return gone(a.APIs.DeleteRequestParameter(r.ctx, r.account(), r.parts[1], r.parts[3], r.parts[5]))
}

func (a *api) getRoute(r *request) (answer, error) {
	return ok(a.APIs.Route(r.account(), r.parts[1], r.parts[3]))
}

func (a *api) listRoutes(r *request) (answer, error) {
	p, err := r.page()
	if err != nil {
		return answer{}, err
	}
	return listed(a.APIs.Routes(r.account(), r.parts[1], p))
}

func (a *api) deleteRoute(r *request) (answer, error) {
	return gone(a.APIs.DeleteRoute(r.ctx, r.account(), r.parts[1], r.parts[3]))
}

func (a *api) createRouteResponse(r *request) (answer, error) {
	return created(a.APIs.PutRouteResponse(r.ctx, r.account(), r.parts[1], r.parts[3], "", r.routeResponse))
}

func (a *api) updateRouteResponse(r *request) (answer, error) {
	return ok(a.APIs.PutRouteResponse(r.ctx, r.account(), r.parts[1], r.parts[3], r.parts[5], r.routeResponse))
}

func (r *request) routeResponse(n *apigateway.RouteResponse) error {
	return apigateway.Patch(n, r.Body)
}

func (a *api) getRouteResponse(r *request) (answer, error) {
	return ok(a.APIs.RouteResponse(r.account(), r.parts[1], r.parts[3], r.parts[5]))
}

func (a *api) listRouteResponses(r *request) (answer, error) {
	p, err := r.page()
	if err != nil {
		return answer{}, err
	}
	return listed(a.APIs.RouteResponses(r.account(), r.parts[1], r.parts[3], p))
}

func (a *api) deleteRouteResponse(r *request) (answer, error) {
	return gone(a.APIs.DeleteRouteResponse(r.ctx, r.account(), r.parts[1], r.parts[3], r.parts[5]))
}

func (r *request) integration(n *apigateway.Integration) error {
	return apigateway.Patch(n, r.Body, "requestParameters", "responseParameters", "requestTemplates")
}

func (a *api) createIntegration(r *request) (answer, error) {
	return created(a.APIs.PutIntegration(r.ctx, r.account(), r.parts[1], "", func(n *apigateway.Integration) error {
		n.PayloadFormat = "1.0"
		return r.integration(n)
	}))
}

func (a *api) updateIntegration(r *request) (answer, error) {
	return ok(a.APIs.PutIntegration(r.ctx, r.account(), r.parts[1], r.parts[3], r.integration))
}

func (a *api) getIntegration(r *request) (answer, error) {
	return ok(a.APIs.Integration(r.account(), r.parts[1], r.parts[3]))
}

func (a *api) listIntegrations(r *request) (answer, error) {
	p, err := r.page()
	if err != nil {
		return answer{}, err
	}
	return listed(a.APIs.Integrations(r.account(), r.parts[1], p))
}

func (a *api) deleteIntegration(r *request) (answer, error) {
	return gone(a.APIs.DeleteIntegration(r.ctx, r.account(), r.parts[1], r.parts[3]))
}

func (a *api) createAuthorizer(r *request) (answer, error) {
	return created(a.APIs.PutAuthorizer(r.ctx, r.account(), r.parts[1], "", func(n *apigateway.Authorizer) error { return apigateway.Patch(n, r.Body) }))
}

func (a *api) updateAuthorizer(r *request) (answer, error) {
	return ok(a.APIs.PutAuthorizer(r.ctx, r.account(), r.parts[1], r.parts[3], func(n *apigateway.Authorizer) error { return apigateway.Patch(n, r.Body) }))
}

func (a *api) getAuthorizer(r *request) (answer, error) {
	return ok(a.APIs.Authorizer(r.account(), r.parts[1], r.parts[3]))
}

func (a *api) listAuthorizers(r *request) (answer, error) {
	p, err := r.page()
	if err != nil {
		return answer{}, err
	}
	return listed(a.APIs.Authorizers(r.account(), r.parts[1], p))
}

func (a *api) deleteAuthorizer(r *request) (answer, error) {
	return gone(a.APIs.DeleteAuthorizer(r.ctx, r.account(), r.parts[1], r.parts[3]))
}

func (a *api) createStage(r *request) (answer, error) {
	return created(a.APIs.CreateStage(r.ctx, r.account(), r.parts[1], func(n *apigateway.Stage) error {
		if err := r.withoutCertificate(); err != nil {
			return err
		}
		at := n.Created
		err := apigateway.Patch(n, r.Body)
		n.Created = at
		return err
	}))
}

func (r *request) withoutCertificate() error {
	return r.without("backends of HTTP_PROXY are shown no certificate.", "clientCertificateId")
}

func (a *api) updateStage(r *request) (answer, error) {
	return ok(a.APIs.UpdateStage(r.ctx, r.account(), r.parts[1], r.parts[3], func(n *apigateway.Stage) error {
		if err := r.withoutCertificate(); err != nil {
			return err
		}
		tags := n.Tags
		err := apigateway.Patch(n, r.Body, "stageVariables", "routeSettings")
		n.Tags = tags // which have operations of their own
		return err
	}))
}

func (a *api) getStage(r *request) (answer, error) {
	return ok(a.APIs.Stage(r.account(), r.parts[1], r.parts[3]))
}

func (a *api) listStages(r *request) (answer, error) {
	p, err := r.page()
	if err != nil {
		return answer{}, err
	}
	return listed(a.APIs.Stages(r.account(), r.parts[1], p))
}

func (a *api) deleteStage(r *request) (answer, error) {
	return gone(a.APIs.DeleteStage(r.ctx, r.account(), r.parts[1], r.parts[3]))
}

func (a *api) deleteAccessLog(r *request) (answer, error) {
	return gone(a.APIs.DeleteAccessLog(r.ctx, r.account(), r.parts[1], r.parts[3]))
}

func (a *api) deleteRouteSettings(r *request) (answer, error) {
	return gone(a.APIs.DeleteRouteSettings(r.ctx, r.account(), r.parts[1], r.parts[3], r.parts[5]))
}

func (a *api) resetAuthorizers(r *request) (answer, error) {
	if r.parts[5] != "authorizers" {
		return answer{}, invalid("Only the cache of authorizers can be reset.")
	}
	return gone(a.APIs.ResetAuthorizers(r.account(), r.parts[1], r.parts[3]))
}

func (a *api) createDeployment(r *request) (answer, error) {
	var in struct{ Description, StageName string }
	if err := r.Read(&in); err != nil {
		return answer{}, err
	}
	return created(a.APIs.Deploy(r.ctx, r.account(), r.parts[1], in.StageName, in.Description))
}

func (a *api) updateDeployment(r *request) (answer, error) {
	var in struct{ Description *string }
	if err := r.Read(&in); err != nil {
		return answer{}, err
	}
	return ok(a.APIs.UpdateDeployment(r.ctx, r.account(), r.parts[1], r.parts[3], in.Description))
}

func (a *api) getDeployment(r *request) (answer, error) {
	return ok(a.APIs.Deployment(r.account(), r.parts[1], r.parts[3]))
}

func (a *api) listDeployments(r *request) (answer, error) {
	p, err := r.page()
	if err != nil {
		return answer{}, err
	}
	return listed(a.APIs.Deployments(r.account(), r.parts[1], p))
}

func (a *api) deleteDeployment(r *request) (answer, error) {
	return gone(a.APIs.DeleteDeployment(r.ctx, r.account(), r.parts[1], r.parts[3]))
}

func domain(r *request) func(*apigateway.Domain) error {
	return func(n *apigateway.Domain) error {
		var in struct{ MutualTlsAuthentication *struct{} }
		if err := r.Read(&in); err != nil {
			return err
		}
		if in.MutualTlsAuthentication != nil {
			return invalid("mutualTlsAuthentication is not supported by Hearth.")
		}
		return apigateway.Patch(n, r.Body)
	}
}

func (a *api) createDomain(r *request) (answer, error) {
	return created(a.APIs.CreateDomain(r.ctx, r.account(), domain(r)))
}

func (a *api) updateDomain(r *request) (answer, error) {
	return ok(a.APIs.UpdateDomain(r.ctx, r.account(), r.parts[1], domain(r)))
}

func (a *api) getDomain(r *request) (answer, error) {
	return ok(a.APIs.Domain(r.account(), r.parts[1]))
}

func (a *api) listDomains(r *request) (answer, error) {
	p, err := r.page()
	if err != nil {
		return answer{}, err
	}
	items, next := a.APIs.Domains(r.account(), p)
	return listed(items, next, nil)
}

func (a *api) deleteDomain(r *request) (answer, error) {
	return gone(a.APIs.DeleteDomain(r.ctx, r.account(), r.parts[1]))
}

func (a *api) createMapping(r *request) (answer, error) {
	return created(a.APIs.PutMapping(r.ctx, r.account(), r.parts[1], "", func(n *apigateway.Mapping) error { return apigateway.Patch(n, r.Body) }))
}

func (a *api) updateMapping(r *request) (answer, error) {
	return ok(a.APIs.PutMapping(r.ctx, r.account(), r.parts[1], r.parts[3], func(n *apigateway.Mapping) error { return apigateway.Patch(n, r.Body) }))
}

func (a *api) getMapping(r *request) (answer, error) {
	return ok(a.APIs.Mapping(r.account(), r.parts[1], r.parts[3]))
}

func (a *api) listMappings(r *request) (answer, error) {
	p, err := r.page()
	if err != nil {
		return answer{}, err
	}
	return listed(a.APIs.Mappings(r.account(), r.parts[1], p))
}

func (a *api) deleteMapping(r *request) (answer, error) {
	return gone(a.APIs.DeleteMapping(r.ctx, r.account(), r.parts[1], r.parts[3]))
}
