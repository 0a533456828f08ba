package apigateway

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/hearth-faas/hearth/jwt"
	"github.com/hearth-faas/hearth/registry"

	"go.yaml.in/yaml/v3"
)

// document is an OpenAPI 3 document, as far as it is about an API: schemas are
// not looked at, since an HTTP API does not check bodies.
type document struct {
	OpenAPI string   `json:"openapi"`
	Info    info     `json:"info"`
	Tags    []tag    `json:"tags,omitempty"`
	Servers []server `json:"servers,omitempty"`
	// Security is what operations need that do not say.
	Security []map[string][]string `json:"security,omitempty"`
	Paths    paths                 `json:"paths"`
	Parts    components            `json:"components,omitzero"`

	CORS    *registry.CORS `json:"x-amazon-apigateway-cors,omitempty"`
	Version string         `json:"x-amazon-apigateway-importexport-version,omitempty"`
}

type info struct {
	Title       string `json:"title"`
	Version     string `json:"version"`
	Description string `json:"description,omitempty"`
}

type tag struct {
	Name  string `json:"name"`
	Value string `json:"x-amazon-apigateway-tag-value,omitempty"`
}

type server struct {
	URL       string                    `json:"url"`
	Variables map[string]serverVariable `json:"variables,omitempty"`
	Endpoint  *endpoint                 `json:"x-amazon-apigateway-endpoint-configuration,omitempty"`
}

// endpoint is where an API is served beside its host names.
type endpoint struct {
	Disable bool `json:"disableExecuteApiEndpoint"`
}

type serverVariable struct {
	Default string `json:"default"`
}

// paths are operations by path and method; what is no operation (parameters,
// summary) is left aside.
type paths map[string]map[string]json.RawMessage

type operation struct {
	ID          string                    `json:"operationId,omitempty"`
	Parameters  []parameter               `json:"parameters,omitempty"`
	Responses   map[string]map[string]any `json:"responses"`
	Security    []map[string][]string     `json:"security,omitempty"`
	Auth        *auth                     `json:"x-amazon-apigateway-auth,omitempty"`
	Integration *declaredIntegration      `json:"x-amazon-apigateway-integration,omitempty"`
}

type parameter struct {
	Name     string            `json:"name"`
	In       string            `json:"in"`
	Required bool              `json:"required"`
	Schema   map[string]string `json:"schema,omitempty"`
}

type auth struct {
	Type string `json:"type"`
}

type components struct {
	Security     map[string]securityScheme      `json:"securitySchemes,omitempty"`
	Integrations map[string]declaredIntegration `json:"x-amazon-apigateway-integrations,omitempty"`
}

type securityScheme struct {
	Type       string              `json:"type"`
	Name       string              `json:"name,omitempty"`
	In         string              `json:"in,omitempty"`
	Flows      map[string]any      `json:"flows,omitzero"`
	Authorizer *declaredAuthorizer `json:"x-amazon-apigateway-authorizer,omitempty"`
}

type declaredAuthorizer struct {
	Type          string     `json:"type"`
	Name          string     `json:"name,omitempty"`
	Identity      texts      `json:"identitySource,omitempty"`
	URI           string     `json:"authorizerUri,omitempty"`
	Credentials   string     `json:"authorizerCredentials,omitempty"`
	PayloadFormat string     `json:"authorizerPayloadFormatVersion,omitempty"`
	TTLSeconds    *int       `json:"authorizerResultTtlInSeconds,omitempty"`
	Simple        bool       `json:"enableSimpleResponses,omitempty"`
	JWT           *jwt.Trust `json:"jwtConfiguration,omitempty"`
}

// texts is one text or a list of them; a text may list several with commas.
type texts []string

func (t *texts) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
		for part := range strings.SplitSeq(s, ",") {
			*t = append(*t, strings.TrimSpace(part))
		}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(t))
}

// MarshalJSON writes a list with commas, as the service does.
func (t texts) MarshalJSON() ([]byte, error) { return json.Marshal(strings.Join(t, ",")) }

type declaredIntegration struct {
	Ref                string                       `json:"$ref,omitempty"`
	Type               string                       `json:"type,omitempty"`
	Subtype            string                       `json:"subtype,omitempty"`
	Method             string                       `json:"httpMethod,omitempty"`
	URI                string                       `json:"uri,omitempty"`
	Credentials        string                       `json:"credentials,omitempty"`
	ConnectionType     string                       `json:"connectionType,omitempty"`
	ConnectionID       string                       `json:"connectionId,omitempty"`
	Description        string                       `json:"description,omitempty"`
	PayloadFormat      text                         `json:"payloadFormatVersion,omitempty"`
	TimeoutMillis      int                          `json:"timeoutInMillis,omitempty"`
	RequestParameters  map[string]string            `json:"requestParameters,omitempty"`
	ResponseParameters map[string]map[string]string `json:"responseParameters,omitempty"`
	TLS                *TLS                         `json:"tlsConfig,omitempty"`
}

// text is a text that YAML may take for a number, such as 2.0.
type text string

func (t *text) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, (*string)(t))
	}
	*t = text(b)
	if *t == "1" || *t == "2" {
		*t += ".0"
	}
	return nil
}

// maxOpenAPI bounds a document that is imported.
const maxOpenAPI = 6 << 20

// readDocument reads an OpenAPI document in JSON or YAML.
func readDocument(b []byte) (*document, error) {
	if len(b) == 0 {
		return nil, invalid("The body of an import is an OpenAPI 3.0 document, in JSON or YAML.")
	}
	if len(b) > maxOpenAPI {
		return nil, invalid("An OpenAPI document can have at most %d bytes.", maxOpenAPI)
	}
	if trimmed := strings.TrimLeft(string(b[:min(len(b), 64)]), " \t\r\n\ufeff"); !strings.HasPrefix(trimmed, "{") {
		var v any
		if err := yaml.Unmarshal(b, &v); err != nil {
			return nil, invalid("Unable to parse the OpenAPI document: %s", err)
		}
		var err error
		if b, err = json.Marshal(plain(v)); err != nil {
			return nil, invalid("Unable to parse the OpenAPI document: %s", err)
		}
	}
	d := new(document)
	if err := json.Unmarshal(b, d); err != nil {
		if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return nil, invalid("Unable to parse the OpenAPI document: a %s can't stand at %s", e.Value, cmp.Or(e.Field, "its top"))
		}
		return nil, invalid("Unable to parse the OpenAPI document: %s", err)
	}
	if !strings.HasPrefix(d.OpenAPI, "3.0") {
		return nil, invalid("Only OpenAPI 3.0 can be imported: the document's openapi is %.20q.", d.OpenAPI)
	}
	return d, nil
}

// plain gives maps the keys that JSON has.
func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			v[k] = plain(e)
		}
	case map[any]any:
		m := make(map[string]any, len(v))
		for k, e := range v {
			m[fmt.Sprint(k)] = plain(e)
		}
		return m
	case []any:
		for i, e := range v {
			v[i] = plain(e)
		}
	}
	return v
}
