// Package wire is API Gateway v2 as its clients see it: APIs and what belongs
// to them as REST and JSON, under /v2. What they do is package apigateway's.
package wire

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/apigateway"
	"github.com/hearth-faas/hearth/awsjson"
)

// Config is what the wire is made of.
type Config struct {
	APIs *apigateway.Service
	// Authorize tells whether a caller may do what an operation does: action is
	// apigateway: and the method, as the service has it, resource an ARN. nil is
	// always, in the caller's own account.
	Authorize func(ctx context.Context, caller hearth.Identity, action, resource string) error
	// Endpoint is where the API of that id is served, for whoever asks by r; nil
	// is where it was when it was made.
	Endpoint func(r *http.Request, id string) string
}

type api struct{ Config }

// New serves the APIs' control plane.
func New(c Config) awsjson.Handler { return &api{c} }

// codes are how the service names errors.
var codes = map[hearth.Kind]awsjson.Code{
	hearth.NotFound:         {Name: "NotFoundException", Status: http.StatusNotFound},
	hearth.Conflict:         {Name: "ConflictException", Status: http.StatusConflict},
	hearth.Validation:       {Name: "BadRequestException", Status: http.StatusBadRequest},
	hearth.InvalidParameter: {Name: "BadRequestException", Status: http.StatusBadRequest},
	hearth.TooManyRequests:  {Name: "TooManyRequestsException", Status: http.StatusTooManyRequests},
	hearth.Service:          {Name: "InternalServerErrorException", Status: http.StatusInternalServerError},
}

// request is one request while it is served.
type request struct {
	*awsjson.Request
	ctx   context.Context
	parts []string // of the path, decoded, after /v2
	query url.Values
}

func (r *request) account() hearth.Account { return r.Caller.Account }

// answer is what an operation answers with.
type answer struct {
	status int
	body   any    // as JSON, unless it is nil or raw is set
	raw    []byte // in place of body
	sort   string // of raw
}

func ok(body any, err error) (answer, error) { return answer{status: http.StatusOK, body: body}, err }

func created(body any, err error) (answer, error) {
	return answer{status: http.StatusCreated, body: body}, err
}

func gone(err error) (answer, error) { return answer{status: http.StatusNoContent}, err }

// Serve implements awsjson.Handler.
func (a *api) Serve(w http.ResponseWriter, r *awsjson.Request) error {
	out, err := a.run(r)
	var body []byte
	sort := "application/json"
	switch {
	case err != nil:
	case out.raw != nil:
		body, sort = out.raw, out.sort
	case out.body != nil:
		body, err = json.Marshal(out.body)
	}
	if err != nil {
		e, ok := errors.AsType[*hearth.Error](err)
		if !ok {
			e = &hearth.Error{Kind: hearth.Service, Message: "An internal error occurred."}
		}
		code, ok := codes[e.Kind]
		if !ok {
			code = awsjson.Code{Name: string(e.Kind), Status: e.Kind.Status()}
		}
		out.status = code.Status
		w.Header().Set("X-Amzn-ErrorType", code.Name)
		var merr error
		if body, merr = json.Marshal(map[string]string{"message": e.Message}); merr != nil {
			panic(merr) // strings
		}
	}
	if out.status != http.StatusNoContent {
		w.Header().Set("Content-Type", sort)
	}
	w.WriteHeader(out.status)
	if out.status != http.StatusNoContent {
		_, _ = w.Write(body) // a client that left needs no answer
	}
	return err
}

func (a *api) run(raw *awsjson.Request) (answer, error) {
	parts, ok := partsOf(raw.HTTP.URL)
	var op operation
	if ok {
		op, ok = operationOf(raw.HTTP.Method, parts)
	}
	if why := refused(parts); !ok && why != "" {
		return answer{}, hearth.Errorf(hearth.UnknownOperation, "%s", why)
	}
	if !ok {
		return answer{}, hearth.Errorf(hearth.UnknownOperation, "API Gateway has no operation %s %s here: Hearth has HTTP and WebSocket APIs (v2), not REST APIs", raw.HTTP.Method, raw.HTTP.URL.Path)
	}
	r := &request{Request: raw, ctx: raw.HTTP.Context(), parts: parts, query: raw.HTTP.URL.Query()}
	if a.Authorize != nil {
		if err := a.Authorize(r.ctx, r.Caller, "apigateway:"+raw.HTTP.Method, a.APIs.ARN("/"+strings.Join(r.parts, "/"))); err != nil {
			return answer{}, err
		}
		for _, role := range r.roles() {
			if err := a.Authorize(r.ctx, r.Caller, "iam:PassRole", role); err != nil {
				return answer{}, err
			}
		}
	}
	return op.run(a, r)
}

// roles are those that a request has functions called with, which whoever makes
// it must be allowed to pass on.
func (r *request) roles() (roles []string) {
	var in struct{ CredentialsArn, AuthorizerCredentialsArn, Body string }
	if json.Unmarshal(r.Body, &in) != nil {
		return nil // the operation says what is wrong with it
	}
	for _, role := range append(apigateway.RolesIn([]byte(in.Body)), in.CredentialsArn, in.AuthorizerCredentialsArn) {
		if role != "" {
			roles = append(roles, role)
		}
	}
	return roles
}

// operation is one that the service has.
type operation struct {
	name string // as the service's model has it
	run  func(*api, *request) (answer, error)
}

// operations are by method and path, below /v2, with * for what is a name.
var operations = map[string]operation{
	"POST apis":              {"CreateApi", (*api).createAPI},
	"GET apis":               {"GetApis", (*api).listAPIs},
	"PUT apis":               {"ImportApi", (*api).importAPI},
	"GET apis/*":             {"GetApi", (*api).getAPI},
	"PATCH apis/*":           {"UpdateApi", (*api).updateAPI},
	"DELETE apis/*":          {"DeleteApi", (*api).deleteAPI},
	"PUT apis/*":             {"ReimportApi", (*api).reimportAPI},
	"DELETE apis/*/cors":     {"DeleteCorsConfiguration", (*api).deleteCORS},
	"GET apis/*/exports/*":   {"ExportApi", (*api).exportAPI},
	"POST apis/*/routes":     {"CreateRoute", (*api).createRoute},
	"GET apis/*/routes":      {"GetRoutes", (*api).listRoutes},
	"GET apis/*/routes/*":    {"GetRoute", (*api).getRoute},
	"PATCH apis/*/routes/*":  {"UpdateRoute", (*api).updateRoute},
	"DELETE apis/*/routes/*": {"DeleteRoute", (*api).deleteRoute},
	"DELETE apis/*/routes/*/requestparameters/*": {"DeleteRouteRequestParameter", (*api).deleteRequestParameter},
	"POST apis/*/routes/*/routeresponses":        {"CreateRouteResponse", (*api).createRouteResponse},
	"GET apis/*/routes/*/routeresponses":         {"GetRouteResponses", (*api).listRouteResponses},
	"GET apis/*/routes/*/routeresponses/*":       {"GetRouteResponse", (*api).getRouteResponse},
	"PATCH apis/*/routes/*/routeresponses/*":     {"UpdateRouteResponse", (*api).updateRouteResponse},
	"DELETE apis/*/routes/*/routeresponses/*":    {"DeleteRouteResponse", (*api).deleteRouteResponse},
	"POST apis/*/integrations":                   {"CreateIntegration", (*api).createIntegration},
	"GET apis/*/integrations":                    {"GetIntegrations", (*api).listIntegrations},
	"GET apis/*/integrations/*":                  {"GetIntegration", (*api).getIntegration},
	"PATCH apis/*/integrations/*":                {"UpdateIntegration", (*api).updateIntegration},
	"DELETE apis/*/integrations/*":               {"DeleteIntegration", (*api).deleteIntegration},
	"POST apis/*/authorizers":                    {"CreateAuthorizer", (*api).createAuthorizer},
	"GET apis/*/authorizers":                     {"GetAuthorizers", (*api).listAuthorizers},
	"GET apis/*/authorizers/*":                   {"GetAuthorizer", (*api).getAuthorizer},
	"PATCH apis/*/authorizers/*":                 {"UpdateAuthorizer", (*api).updateAuthorizer},
	"DELETE apis/*/authorizers/*":                {"DeleteAuthorizer", (*api).deleteAuthorizer},
	"POST apis/*/stages":                         {"CreateStage", (*api).createStage},
	"GET apis/*/stages":                          {"GetStages", (*api).listStages},
	"GET apis/*/stages/*":                        {"GetStage", (*api).getStage},
	"PATCH apis/*/stages/*":                      {"UpdateStage", (*api).updateStage},
	"DELETE apis/*/stages/*":                     {"DeleteStage", (*api).deleteStage},
	"DELETE apis/*/stages/*/accesslogsettings":   {"DeleteAccessLogSettings", (*api).deleteAccessLog},
	"DELETE apis/*/stages/*/routesettings/*":     {"DeleteRouteSettings", (*api).deleteRouteSettings},
	"DELETE apis/*/stages/*/cache/*":             {"ResetAuthorizersCache", (*api).resetAuthorizers},
	"POST apis/*/deployments":                    {"CreateDeployment", (*api).createDeployment},
	"GET apis/*/deployments":                     {"GetDeployments", (*api).listDeployments},
	"GET apis/*/deployments/*":                   {"GetDeployment", (*api).getDeployment},
	"PATCH apis/*/deployments/*":                 {"UpdateDeployment", (*api).updateDeployment},
	"DELETE apis/*/deployments/*":                {"DeleteDeployment", (*api).deleteDeployment},
	"POST domainnames":                           {"CreateDomainName", (*api).createDomain},
	"GET domainnames":                            {"GetDomainNames", (*api).listDomains},
	"GET domainnames/*":                          {"GetDomainName", (*api).getDomain},
	"PATCH domainnames/*":                        {"UpdateDomainName", (*api).updateDomain},
	"DELETE domainnames/*":                       {"DeleteDomainName", (*api).deleteDomain},
	"POST domainnames/*/apimappings":             {"CreateApiMapping", (*api).createMapping},
	"GET domainnames/*/apimappings":              {"GetApiMappings", (*api).listMappings},
	"GET domainnames/*/apimappings/*":            {"GetApiMapping", (*api).getMapping},
	"PATCH domainnames/*/apimappings/*":          {"UpdateApiMapping", (*api).updateMapping},
	"DELETE domainnames/*/apimappings/*":         {"DeleteApiMapping", (*api).deleteMapping},
	"GET tags/*":                                 {"GetTags", (*api).listTags},
	"POST tags/*":                                {"TagResource", (*api).tag},
	"DELETE tags/*":                              {"UntagResource", (*api).untag},
}

// refused is why there is nothing of what a path names, which the service has; ""
// if that is not known.
func refused(parts []string) string {
	for _, p := range parts {
		switch p {
		case "integrationresponses":
			return "Integration responses are not supported by Hearth, which does not have their templates (VTL): with a route response the client is sent what a function or an HTTP_PROXY answers."
		case "models":
			return "Models are not supported by Hearth: what serves a route checks what it gets."
		case "routingrules":
			return "Routing rules are not supported by Hearth: use API mappings, each with a path of its own."
		case "portals", "portalproducts":
			return "Portals are not supported by Hearth: export-api gives an API's OpenAPI document to whatever shows it."
		case "vpclinks":
			return "VPC links are not supported by Hearth, which reaches private addresses as it is."
		}
	}
	return ""
}

// partsOf are the parts of a path below /v2, decoded; false if it is none.
func partsOf(u *url.URL) (parts []string, ok bool) {
	rest, ok := strings.CutPrefix(u.EscapedPath(), "/v2/")
	if !ok {
		return nil, false
	}
	for p := range strings.SplitSeq(strings.TrimSuffix(rest, "/"), "/") {
		part, err := url.PathUnescape(p)
		if err != nil {
			return nil, false
		}
		parts = append(parts, part)
	}
	if len(parts) > 2 && parts[0] == "tags" { // whose client did not encode the ARN's slashes
		parts = []string{"tags", strings.Join(parts[1:], "/")}
	}
	return parts, true
}

// operationOf is the operation that a request is for; false if there is none.
func operationOf(method string, parts []string) (operation, bool) {
	shape := method + " " + parts[0]
	for i, p := range parts[1:] {
		if i%2 == 0 {
			p = "*"
		}
		shape += "/" + p
	}
	op, ok := operations[shape]
	return op, ok
}

// OperationOf names the operation that a request is of, as the service's model
// does; "" is none.
func (a *api) OperationOf(r *http.Request) string {
	parts, ok := partsOf(r.URL)
	if !ok {
		return ""
	}
	op, _ := operationOf(r.Method, parts)
	return op.name
}

func invalid(format string, args ...any) error {
	return hearth.Errorf(hearth.Validation, format, args...)
}

// page reads what a request says of the page that it wants.
func (r *request) page() (p apigateway.Page, err error) {
	p.Max, p.After, err = r.Page("maxResults", "nextToken", 500)
	return p, err
}

// list is a page of resources.
type list struct {
	Items any    `json:"items"`
	Next  string `json:"nextToken,omitempty"`
}

func listed[T any](items []T, next string, err error) (answer, error) {
	return ok(list{items, awsjson.Token(next)}, err)
}
