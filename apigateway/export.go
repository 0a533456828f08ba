package apigateway

import (
	"cmp"
	"encoding/json"
	"strings"

	hearth "github.com/hearth-faas/hearth"

	"go.yaml.in/yaml/v3"
)

// Export says how an API is exported.
type Export struct {
	Endpoint string // where the API is; "" is where it was when it was made
	Stage    string // whose deployment it is; "" is what there is now
	Bare     bool   // without what only API Gateway understands
	YAML     bool
}

// Export is an API as an OpenAPI 3.0 document, which Import takes.
func (s *Service) Export(account hearth.Account, id string, e Export) ([]byte, error) {
	r, err := s.api(account, id)
	if err != nil {
		return nil, err
	}
	if r.websocket() {
		return nil, invalid("Only HTTP APIs are exported.")
	}
	shown := r.current()
	url := cmp.Or(e.Endpoint, r.API.Endpoint)
	if e.Stage != "" {
		stage := r.Stages[e.Stage]
		if stage == nil {
			return nil, notFound("Stage", e.Stage)
		}
		d := r.deployments[stage.DeploymentID]
		if d == nil {
			return nil, invalid("The stage %s has no deployment yet: deploy the API first.", e.Stage)
		}
		shown = d.Content
		if e.Stage != defaultStage {
			url += "/{basePath}"
		}
	}
	d, err := describe(&r.API, &shown, e)
	if err != nil {
		return nil, err
	}
	d.Servers = []server{{URL: url}}
	if r.API.DisableEndpoint && !e.Bare {
		d.Servers[0].Endpoint = &endpoint{true}
	}
	if strings.HasSuffix(url, "/{basePath}") {
		d.Servers[0].Variables = map[string]serverVariable{"basePath": {e.Stage}}
	}
	b, err := json.MarshalIndent(d, "", "  ")
	if err != nil || !e.YAML {
		return b, err
	}
	// The document's order, which YAML keeps if it reads JSON, as nodes.
	var n yaml.Node
	if err := yaml.Unmarshal(b, &n); err != nil {
		return nil, err
	}
	block(&n)
	return yaml.Marshal(&n)
}

// block writes lists and maps in lines instead of brackets.
func block(n *yaml.Node) {
	n.Style = 0 // quotes come where they are needed
	for _, c := range n.Content {
		block(c)
	}
}

// describe makes the document.
func describe(a *API, c *shown, e Export) (*document, error) {
	d := &document{OpenAPI: "3.0.1", Info: info{a.Name, a.Version, a.Description}, Paths: paths{}}
	if d.Info.Version == "" {
		d.Info.Version = a.Created.Format("2006-01-02 15:04:05Z07:00")
	}
	if !e.Bare {
		d.CORS, d.Version = c.CORS, "1.0"
		for _, k := range sortedKeys(a.Tags) {
			d.Tags = append(d.Tags, tag{k, a.Tags[k]})
		}
		d.Parts.Integrations = map[string]declaredIntegration{}
	}
	d.Parts.Security = map[string]securityScheme{}
	names := map[string]string{} // of authorizers, by id
	for id, au := range c.Authorizers {
		names[id] = au.Name
		scheme := securityScheme{Type: "oauth2", Flows: map[string]any{}}
		if au.Type == "REQUEST" {
			scheme = securityScheme{Type: "apiKey", Name: "Unused", In: "header"}
			if t, err := parseTemplate(strings.Join(au.IdentitySource[:min(1, len(au.IdentitySource))], ""), requestSources); err == nil && len(t.parts) == 1 && t.parts[0].source == "request.header" {
				scheme.Name = t.parts[0].name
			}
		}
		if !e.Bare {
			scheme.Authorizer = &declaredAuthorizer{
				Type: strings.ToLower(au.Type), Identity: au.IdentitySource, URI: au.URI, Credentials: au.Credentials,
				PayloadFormat: au.PayloadFormat, TTLSeconds: au.TTLSeconds, Simple: au.Simple, JWT: au.JWT,
			}
		}
		d.Parts.Security[au.Name] = scheme
	}
	for _, r := range sorted(c.Routes) {
		if err := d.add(r, c, names, e); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// add puts a route into the document.
func (d *document) add(r *Route, c *shown, names map[string]string, e Export) error {
	key, err := ParseRouteKey(r.Key)
	if err != nil {
		return err
	}
	op := operation{ID: r.OperationName, Responses: map[string]map[string]any{"default": {"description": "Default response for " + r.Key}}}
	for _, s := range key.Segments {
		if s.Sort != Literal {
			op.Parameters = append(op.Parameters, parameter{Name: s.Text, In: "path", Required: true, Schema: map[string]string{"type": "string"}})
		}
	}
	if name := names[r.AuthorizerID]; name != "" {
		scopes := r.Scopes
		if scopes == nil {
			scopes = []string{}
		}
		op.Security = []map[string][]string{{name: scopes}}
	}
	if !e.Bare {
		if r.Authorization == "AWS_IAM" {
			op.Auth = &auth{"AWS_IAM"}
		}
		id := strings.TrimPrefix(r.Target, "integrations/")
		if i := c.Integrations[id]; i != nil {
			// By name, so that routes that share one still do after an import.
			d.Parts.Integrations[id] = declare(i)
			op.Integration = &declaredIntegration{Ref: integrationRef + id}
		}
	}
	path, method := "/"+defaultRoute, "x-amazon-apigateway-any-method"
	if key.Method != "" {
		_, path, _ = strings.Cut(r.Key, " ")
		if key.Method != "ANY" {
			method = strings.ToLower(key.Method)
		}
	}
	b, err := json.Marshal(op)
	if err != nil {
		return err
	}
	if d.Paths[path] == nil {
		d.Paths[path] = map[string]json.RawMessage{}
	}
	d.Paths[path][method] = b
	return nil
}

func declare(i *Integration) declaredIntegration {
	return declaredIntegration{
		Type: i.Type, Subtype: i.Subtype, Method: i.Method, URI: i.URI, Credentials: i.Credentials, ConnectionType: i.ConnectionType, Description: i.Description,
		PayloadFormat: text(i.PayloadFormat), TimeoutMillis: i.TimeoutMillis,
		RequestParameters: i.RequestParameters, ResponseParameters: i.ResponseParameters, TLS: i.TLS,
	}
}
