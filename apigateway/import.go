package apigateway

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"

	hearth "github.com/hearth-faas/hearth"
)

// Import is an OpenAPI document, and how it is taken.
type Import struct {
	Document       []byte // OpenAPI 3.0, as JSON or YAML
	BasePath       string // what the path of its server means: ignore (or ""), prepend or split
	FailOnWarnings bool
}

// Import makes an API of a document. It has no stage yet.
func (s *Service) Import(ctx context.Context, account hearth.Account, in Import) (*API, error) {
	d, err := readDocument(in.Document)
	if err != nil {
		return nil, err
	}
	return s.create(ctx, account, func(r *record) error {
		r.API.Protocol = "HTTP"
		n, err := s.fill(r, d, in)
		if err == nil {
			*r = *n
		}
		return err
	})
}

// Reimport replaces an API's routes, integrations and authorizers, its name and
// how it answers browsers, by those of a document. Its stages stay.
func (s *Service) Reimport(ctx context.Context, account hearth.Account, id string, in Import) (out *API, _ error) {
	d, err := readDocument(in.Document)
	if err != nil {
		return nil, err
	}
	err = s.change(ctx, account, id, func(r *record) error {
		if r.websocket() {
			return invalid("Only HTTP APIs are imported.")
		}
		n, err := s.fill(r, d, in)
		if err != nil {
			return err
		}
		*r = *n
		out = &r.API
		return nil
	})
	return out, err
}

// importer puts a document into a record.
type importer struct {
	s        *Service
	r        *record
	d        *document
	prefix   string            // of all paths
	named    map[string]string // integrations by the name in components
	schemes  map[string]string // authorizers by the name of the scheme
	warnings []string
}

func (x *importer) warn(text string) { x.warnings = append(x.warnings, text) }

// fill is the record with what the document says in place of what it had.
func (s *Service) fill(old *record, d *document, in Import) (*record, error) {
	r := *old
	r.content = content{map[string]*Route{}, map[string]*Integration{}, map[string]*Authorizer{}}
	x := &importer{s: s, r: &r, d: d, named: map[string]string{}, schemes: map[string]string{}}
	a := &r.API
	if d.Info.Title != "" {
		a.Name = d.Info.Title
	}
	a.Description, a.Version, a.CORS = d.Info.Description, d.Info.Version, d.CORS
	for _, at := range d.Servers {
		if at.Endpoint != nil {
			a.DisableEndpoint = at.Endpoint.Disable
		}
	}
	tags := map[string]string{}
	for k, v := range a.Tags {
		tags[k] = v
	}
	for _, t := range d.Tags {
		if t.Value != "" {
			tags[t.Name] = t.Value
		}
	}
	a.Tags = tags
	if err := checkAPI(a); err != nil {
		return nil, err
	}
	if err := x.basePath(in.BasePath); err != nil {
		return nil, err
	}
	for _, name := range sortedKeys(d.Parts.Security) {
		if err := x.authorizer(name, d.Parts.Security[name]); err != nil {
			return nil, err
		}
	}
	for _, path := range sortedKeys(d.Paths) {
		for _, method := range sortedKeys(d.Paths[path]) {
			if err := x.operation(path, method, d.Paths[path][method]); err != nil {
				return nil, err
			}
		}
	}
	a.Warnings, a.ImportInfo = x.warnings, nil
	if in.FailOnWarnings && len(x.warnings) > 0 {
		return nil, invalid("Warnings found during import: %s", strings.Join(x.warnings, "; "))
	}
	return &r, nil
}

// RolesIn are the roles that a document has functions called with; none of one
// that can't be read.
func RolesIn(b []byte) (roles []string) {
	if len(b) == 0 {
		return nil
	}
	d, err := readDocument(b)
	if err != nil {
		return nil
	}
	for _, i := range d.Parts.Integrations {
		roles = append(roles, i.Credentials)
	}
	for _, scheme := range d.Parts.Security {
		if scheme.Authorizer != nil {
			roles = append(roles, scheme.Authorizer.Credentials)
		}
	}
	for _, methods := range d.Paths {
		for _, raw := range methods {
			var op operation
			if json.Unmarshal(raw, &op) == nil && op.Integration != nil {
				roles = append(roles, op.Integration.Credentials)
			}
		}
	}
	return roles
}

// basePath finds what stands before all paths.
func (x *importer) basePath(mode string) error {
	switch mode {
	case "", "ignore":
		return nil
	case "prepend", "split":
	default:
		return invalid("basepath must be ignore, prepend or split: %.40q", mode)
	}
	if len(x.d.Servers) == 0 {
		return nil
	}
	at := x.d.Servers[0].URL
	for name, v := range x.d.Servers[0].Variables {
		at = strings.ReplaceAll(at, "{"+name+"}", strings.TrimPrefix(v.Default, "/"))
	}
	u, err := url.Parse(at)
	if err != nil {
		return invalid("The URL of the document's server can't be read: %.200q", at)
	}
	x.prefix = strings.TrimSuffix(u.Path, "/")
	if mode == "split" { // its first part is the stage's name
		_, rest, found := strings.Cut(strings.TrimPrefix(x.prefix, "/"), "/")
		if x.prefix = ""; found {
			x.prefix = "/" + rest
		}
	}
	return nil
}

// authorizer makes an authorizer of a scheme that has one.
func (x *importer) authorizer(name string, scheme securityScheme) error {
	in := scheme.Authorizer
	if in == nil {
		x.warn("The security scheme " + name + " has no x-amazon-apigateway-authorizer and is left out")
		return nil
	}
	a := &Authorizer{
		ID: newID(6), Name: name, Type: strings.ToUpper(in.Type), IdentitySource: in.Identity, URI: in.URI, Credentials: in.Credentials,
		PayloadFormat: in.PayloadFormat, TTLSeconds: in.TTLSeconds, Simple: in.Simple, JWT: in.JWT,
	}
	if a.Type == "JWT" && len(a.IdentitySource) == 0 {
		a.IdentitySource = []string{"$request.header.Authorization"}
	}
	if err := x.s.checkAuthorizer(x.r, a); err != nil {
		return invalid("The security scheme %s: %s", name, message(err))
	}
	x.r.Authorizers[a.ID], x.schemes[name] = a, a.ID
	return nil
}

// operation makes a route of an operation.
func (x *importer) operation(path, method string, raw json.RawMessage) error {
	key := strings.ToUpper(method) + " " + x.prefix + path
	switch {
	case method == "x-amazon-apigateway-any-method" && path == "/$default":
		key = defaultRoute
	case method == "x-amazon-apigateway-any-method":
		key = "ANY " + x.prefix + path
	case method == "trace":
		x.warn("The operation " + key + " is left out: an HTTP API has no TRACE")
		return nil
	case !isMethod(strings.ToUpper(method)):
		return nil // parameters, a summary
	}
	var op operation
	if err := json.Unmarshal(raw, &op); err != nil {
		return invalid("Unable to parse the operation %s: %s", key, err)
	}
	n := &Route{ID: newID(7), Key: key, OperationName: op.ID}
	if op.Integration == nil {
		x.warn("The operation " + key + " has no x-amazon-apigateway-integration and answers 404")
	} else {
		id, err := x.integration(*op.Integration)
		if err != nil {
			return invalid("The integration of %s: %s", key, message(err))
		}
		n.Target = "integrations/" + id
	}
	if op.Auth != nil && op.Auth.Type == "AWS_IAM" {
		n.Authorization = "AWS_IAM"
	}
	if op.Security == nil { // an empty list is none
		op.Security = x.d.Security
	}
	for _, need := range op.Security {
		for _, name := range sortedKeys(need) {
			id := x.schemes[name]
			switch {
			case id == "":
				// It must not be open for that it could not be understood.
				return invalid("The operation %s needs the security scheme %s, which has no x-amazon-apigateway-authorizer in components.securitySchemes.", key, name)
			case n.AuthorizerID != "":
				return invalid("The operation %s needs more than one security scheme: a route has one authorizer.", key)
			case x.r.Authorizers[id].Type == "JWT":
				n.Authorization, n.AuthorizerID, n.Scopes = "JWT", id, need[name]
			default:
				n.Authorization, n.AuthorizerID = "CUSTOM", id
			}
		}
	}
	if err := x.s.checkRoute(x.r, n); err != nil {
		return err
	}
	if len(x.r.Routes) >= maxRoutes {
		return invalid("An API can have at most %d routes.", maxRoutes)
	}
	x.r.Routes[n.ID] = n
	return nil
}

const integrationRef = "#/components/x-amazon-apigateway-integrations/"

// integration makes an integration, or finds the one of that name.
func (x *importer) integration(in declaredIntegration) (id string, err error) {
	name := ""
	if in.Ref != "" {
		var ok bool
		if name, ok = strings.CutPrefix(in.Ref, integrationRef); !ok {
			return "", invalid("$ref must begin with %s: %.200q", integrationRef, in.Ref)
		}
		if id := x.named[name]; id != "" {
			return id, nil
		}
		if in, ok = x.d.Parts.Integrations[name]; !ok {
			return "", invalid("%s names nothing that is there.", integrationRef+name)
		}
	}
	i := &Integration{
		ID: newID(7), Type: strings.ToUpper(in.Type), Subtype: in.Subtype, Method: strings.ToUpper(in.Method), URI: in.URI, Credentials: in.Credentials,
		ConnectionType: in.ConnectionType, ConnectionID: in.ConnectionID, Description: in.Description, PayloadFormat: string(in.PayloadFormat), TimeoutMillis: in.TimeoutMillis,
		RequestParameters: in.RequestParameters, ResponseParameters: in.ResponseParameters, TLS: in.TLS,
	}
	if i.Method == "X-AMAZON-APIGATEWAY-ANY-METHOD" {
		i.Method = "ANY"
	}
	if i.PayloadFormat == "" {
		i.PayloadFormat = "1.0"
	}
	if err := x.s.checkIntegration(x.r, i); err != nil {
		return "", err
	}
	x.r.Integrations[i.ID] = i
	if name != "" {
		x.named[name] = i.ID
	}
	return i.ID, nil
}
