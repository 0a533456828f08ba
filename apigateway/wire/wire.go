// Package wire is API Gateway v2 as its clients see it: APIs and what belongs
// to them as REST and JSON, under /v2. What they do is package apigateway's.
package wire

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
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
	path := raw.HTTP.URL.EscapedPath()
	unknown := hearth.Errorf(hearth.UnknownOperation, "API Gateway has no operation %s %s here: Hearth has HTTP APIs (v2), not REST APIs and WebSocket APIs", raw.HTTP.Method, raw.HTTP.URL.Path)
	rest, isV2 := strings.CutPrefix(path, "/v2/")
	if !isV2 {
		return answer{}, unknown
	}
	r := &request{Request: raw, ctx: raw.HTTP.Context(), query: raw.HTTP.URL.Query()}
	for p := range strings.SplitSeq(strings.TrimSuffix(rest, "/"), "/") {
		part, err := url.PathUnescape(p)
		if err != nil {
			return answer{}, invalid("The path can't be read: %s", err)
		}
		r.parts = append(r.parts, part)
	}
	if len(r.parts) > 2 && r.parts[0] == "tags" { // whose client did not encode the ARN's slashes
		r.parts = []string{"tags", strings.Join(r.parts[1:], "/")}
	}
	run := a.operation(r)
	if run == nil {
		return answer{}, unknown
	}
	if a.Authorize != nil {
		if err := a.Authorize(r.ctx, r.Caller, "apigateway:"+raw.HTTP.Method, a.APIs.ARN("/"+strings.Join(r.parts, "/"))); err != nil {
			return answer{}, err
		}
	}
	return run(r)
}

type operation func(*request) (answer, error)

// operation is the one that a request is for, by its method and path; nil if
// there is none.
func (a *api) operation(r *request) operation {
	shape := r.HTTP.Method + " " + r.parts[0]
	for i, p := range r.parts[1:] {
		if i%2 == 0 {
			p = "*"
		}
		shape += "/" + p
	}
	return map[string]operation{
		"POST apis": a.createAPI, "GET apis": a.listAPIs, "PUT apis": a.importAPI,
		"GET apis/*": a.getAPI, "PATCH apis/*": a.updateAPI, "DELETE apis/*": a.deleteAPI, "PUT apis/*": a.reimportAPI,
		"DELETE apis/*/cors":       a.deleteCORS,
		"GET apis/*/exports/*":     a.exportAPI,
		"POST apis/*/routes":       a.createRoute,
		"GET apis/*/routes":        a.listRoutes,
		"GET apis/*/routes/*":      a.getRoute,
		"PATCH apis/*/routes/*":    a.updateRoute,
		"DELETE apis/*/routes/*":   a.deleteRoute,
		"POST apis/*/integrations": a.createIntegration,
		"GET apis/*/integrations":  a.listIntegrations, "GET apis/*/integrations/*": a.getIntegration,
		"PATCH apis/*/integrations/*": a.updateIntegration, "DELETE apis/*/integrations/*": a.deleteIntegration,
		"POST apis/*/authorizers": a.createAuthorizer,
		"GET apis/*/authorizers":  a.listAuthorizers, "GET apis/*/authorizers/*": a.getAuthorizer,
		"PATCH apis/*/authorizers/*": a.updateAuthorizer, "DELETE apis/*/authorizers/*": a.deleteAuthorizer,
		"POST apis/*/stages": a.createStage, "GET apis/*/stages": a.listStages, "GET apis/*/stages/*": a.getStage,
		"PATCH apis/*/stages/*": a.updateStage, "DELETE apis/*/stages/*": a.deleteStage,
		"DELETE apis/*/stages/*/accesslogsettings": a.deleteAccessLog,
		"DELETE apis/*/stages/*/routesettings/*":   a.deleteRouteSettings,
		"DELETE apis/*/stages/*/cache/*":           a.resetAuthorizers,
		"POST apis/*/deployments":                  a.createDeployment, "GET apis/*/deployments": a.listDeployments,
		"GET apis/*/deployments/*": a.getDeployment, "PATCH apis/*/deployments/*": a.updateDeployment, "DELETE apis/*/deployments/*": a.deleteDeployment,
		"POST domainnames": a.createDomain, "GET domainnames": a.listDomains, "GET domainnames/*": a.getDomain,
		"PATCH domainnames/*": a.updateDomain, "DELETE domainnames/*": a.deleteDomain,
		"POST domainnames/*/apimappings": a.createMapping, "GET domainnames/*/apimappings": a.listMappings,
		"GET domainnames/*/apimappings/*": a.getMapping, "PATCH domainnames/*/apimappings/*": a.updateMapping, "DELETE domainnames/*/apimappings/*": a.deleteMapping,
		"GET tags/*": a.listTags, "POST tags/*": a.tag, "DELETE tags/*": a.untag,
	}[shape]
}

func invalid(format string, args ...any) error {
	return hearth.Errorf(hearth.Validation, format, args...)
}

// read decodes a request's body.
func (r *request) read(into any) error {
	if len(r.Body) == 0 {
		return nil
	}
	if err := json.Unmarshal(r.Body, into); err != nil {
		return invalid("The request's body can't be read: %s", err)
	}
	return nil
}

// page reads what a request says of the page that it wants.
func (r *request) page() (p apigateway.Page, _ error) {
	p.Max = 500
	if text := r.query.Get("maxResults"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 500 {
			return p, invalid("maxResults must be between 1 and 500: %.20q", text)
		}
		p.Max = n
	}
	b, err := base64.RawURLEncoding.DecodeString(r.query.Get("nextToken"))
	if err != nil {
		return p, invalid("Invalid nextToken.")
	}
	p.After = string(b)
	return p, nil
}

// list is a page of resources.
type list struct {
	Items any    `json:"items"`
	Next  string `json:"nextToken,omitempty"`
}

func listed[T any](items []T, next string, err error) (answer, error) {
	return ok(list{items, base64.RawURLEncoding.EncodeToString([]byte(next))}, err)
}
