package wire

import (
	"net/http"

	"github.com/hearth-faas/hearth/apigateway"
)

// quick is what CreateApi and UpdateApi have beside the API.
type quick struct {
	CredentialsArn, RouteKey, Target string
}

func (r *request) quick() (q apigateway.Quick, err error) {
	var in quick
	err = r.Read(&in)
	return apigateway.Quick{Target: in.Target, RouteKey: in.RouteKey, Credentials: in.CredentialsArn}, err
}

// shown is an API as whoever asks reaches it.
func (a *api) shown(r *request, one *apigateway.API, err error) (*apigateway.API, error) {
	if err != nil || a.Endpoint == nil {
		return one, err
	}
	own := *one
	own.Endpoint = one.At(a.Endpoint(r.HTTP, one.ID))
	return &own, nil
}

func (a *api) createAPI(r *request) (answer, error) {
	q, err := r.quick()
	if err != nil {
		return answer{}, err
	}
	one, err := a.APIs.CreateAPI(r.ctx, r.account(), q, func(n *apigateway.API) error { return apigateway.Patch(n, r.Body) })
	return created(a.shown(r, one, err))
}

func (a *api) getAPI(r *request) (answer, error) {
	one, err := a.APIs.API(r.account(), r.parts[1])
	return ok(a.shown(r, one, err))
}

func (a *api) listAPIs(r *request) (answer, error) {
	p, err := r.page()
	if err != nil {
		return answer{}, err
	}
	items, next := a.APIs.APIs(r.account(), p)
	for i := range items {
		if items[i], err = a.shown(r, items[i], nil); err != nil {
			return answer{}, err
		}
	}
	return listed(items, next, nil)
}

func (a *api) updateAPI(r *request) (answer, error) {
	q, err := r.quick()
	if err != nil {
		return answer{}, err
	}
	one, err := a.APIs.UpdateAPI(r.ctx, r.account(), r.parts[1], q, func(n *apigateway.API) error {
		tags := n.Tags
		err := apigateway.Patch(n, r.Body)
		n.Tags = tags // which have operations of their own
		return err
	})
	return ok(a.shown(r, one, err))
}

func (a *api) deleteAPI(r *request) (answer, error) {
	return gone(a.APIs.DeleteAPI(r.ctx, r.account(), r.parts[1]))
}

func (a *api) deleteCORS(r *request) (answer, error) {
	return gone(a.APIs.DeleteCORS(r.ctx, r.account(), r.parts[1]))
}

// document is the OpenAPI document of an import.
func (r *request) document() (d apigateway.Import, err error) {
	var in struct{ Body string }
	if err := r.Read(&in); err != nil {
		return d, err
	}
	d.Document = []byte(in.Body)
	d.BasePath, d.FailOnWarnings = r.query.Get("basepath"), r.query.Get("failOnWarnings") == "true"
	return d, nil
}

func (a *api) importAPI(r *request) (answer, error) {
	d, err := r.document()
	if err != nil {
		return answer{}, err
	}
	one, err := a.APIs.Import(r.ctx, r.account(), d)
	return created(a.shown(r, one, err))
}

func (a *api) reimportAPI(r *request) (answer, error) {
	d, err := r.document()
	if err != nil {
		return answer{}, err
	}
	one, err := a.APIs.Reimport(r.ctx, r.account(), r.parts[1], d)
	return created(a.shown(r, one, err))
}

func (a *api) exportAPI(r *request) (answer, error) {
	if r.parts[3] != "OAS30" {
		return answer{}, invalid("The specification of an export is OAS30: %.40q", r.parts[3])
	}
	output := r.query.Get("outputType")
	if output != "JSON" && output != "YAML" {
		return answer{}, invalid("The outputType of an export is JSON or YAML: %.40q", output)
	}
	at := ""
	if a.Endpoint != nil {
		at = a.Endpoint(r.HTTP, r.parts[1])
	}
	b, err := a.APIs.Export(r.account(), r.parts[1], apigateway.Export{
		Endpoint: at, Stage: r.query.Get("stageName"), Bare: r.query.Get("includeExtensions") == "false", YAML: output == "YAML",
	})
	sort := "application/json"
	if output == "YAML" {
		sort = "application/yaml"
	}
	return answer{status: http.StatusOK, raw: b, sort: sort}, err
}

func (a *api) listTags(r *request) (answer, error) {
	m, err := a.APIs.Tags(r.account(), r.parts[1])
	if m == nil {
		m = map[string]string{}
	}
	return ok(map[string]any{"tags": m}, err)
}

func (a *api) tag(r *request) (answer, error) {
	var in struct{ Tags map[string]string }
	if err := r.Read(&in); err != nil {
		return answer{}, err
	}
	return created(struct{}{}, a.APIs.Tag(r.ctx, r.account(), r.parts[1], in.Tags, nil))
}

func (a *api) untag(r *request) (answer, error) {
	return gone(a.APIs.Tag(r.ctx, r.account(), r.parts[1], nil, r.query["tagKeys"]))
}
