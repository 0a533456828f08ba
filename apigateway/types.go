package apigateway

import (
	"maps"
	"slices"
	"time"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/jwt"
	"github.com/hearth-faas/hearth/registry"
)

// The resources, in the words of the service. Their JSON is both what clients
// see and what is on disk.

// API is an HTTP or WebSocket API without what belongs to it.
type API struct {
	Endpoint         string            `json:"apiEndpoint,omitempty"`
	Managed          bool              `json:"apiGatewayManaged,omitempty"`
	ID               string            `json:"apiId"`
	KeySelection     string            `json:"apiKeySelectionExpression"`
	CORS             *registry.CORS    `json:"corsConfiguration,omitempty"`
	Created          time.Time         `json:"createdDate"`
	Description      string            `json:"description,omitempty"`
	DisableEndpoint  bool              `json:"disableExecuteApiEndpoint"`
	ImportInfo       []string          `json:"importInfo,omitempty"`
	AddressType      string            `json:"ipAddressType,omitempty"`
	Name             string            `json:"name"`
	Protocol         string            `json:"protocolType"`
	RouteSelection   string            `json:"routeSelectionExpression"`
	Tags             map[string]string `json:"tags"`
	Version          string            `json:"version,omitempty"`
	Warnings         []string          `json:"warnings,omitempty"`
	DisableSchemaVal bool              `json:"disableSchemaValidation,omitempty"`
}

// Route says which integration answers which requests.
type Route struct {
	Managed       bool     `json:"apiGatewayManaged,omitempty"`
	KeyRequired   bool     `json:"apiKeyRequired"`
	Scopes        []string `json:"authorizationScopes,omitempty"`
	Authorization string   `json:"authorizationType"` // NONE, AWS_IAM, JWT or CUSTOM
	AuthorizerID  string   `json:"authorizerId,omitempty"`
	OperationName string   `json:"operationName,omitempty"`
	// RequestParameters, of the route $connect of a WebSocket API, are what a
	// client must send to have a connection: by route.request.header.NAME or
	// route.request.querystring.NAME.
	RequestParameters map[string]RequestParameter `json:"requestParameters,omitempty"`
	ID                string                      `json:"routeId"`
	Key               string                      `json:"routeKey"` // METHOD /path, or $default; see routeKey
	// ResponseSelection, of a WebSocket API's, is $default if the client is sent
	// what the function returns, where the route has a response.
	ResponseSelection string                    `json:"routeResponseSelectionExpression,omitempty"`
	Responses         map[string]*RouteResponse `json:"routeResponses,omitempty"` // by id
	Target            string                    `json:"target,omitempty"`
}

// RequestParameter is what a route expects of one parameter of a request.
type RequestParameter struct {
	Required bool `json:"required"`
}

// RouteResponse is that a client is sent what the function of a route returns.
type RouteResponse struct {
	ID  string `json:"routeResponseId"`
	Key string `json:"routeResponseKey"` // $default
}

// Integration is what answers: a function, an HTTP server, or of a WebSocket API
// nothing.
type Integration struct {
	Managed            bool                         `json:"apiGatewayManaged,omitempty"`
	ConnectionID       string                       `json:"connectionId,omitempty"`
	ConnectionType     string                       `json:"connectionType"`
	ContentHandling    string                       `json:"contentHandlingStrategy,omitempty"` // of a WebSocket API's; see handled
	Credentials        string                       `json:"credentialsArn,omitempty"`
	Description        string                       `json:"description,omitempty"`
	ID                 string                       `json:"integrationId"`
	Method             string                       `json:"integrationMethod,omitempty"`
	Subtype            string                       `json:"integrationSubtype,omitempty"`
	Type               string                       `json:"integrationType"` // AWS_PROXY, HTTP_PROXY or MOCK
	URI                string                       `json:"integrationUri,omitempty"`
	Passthrough        string                       `json:"passthroughBehavior,omitempty"` // of a WebSocket API's: what there would be templates for
	PayloadFormat      string                       `json:"payloadFormatVersion"`          // 1.0 or 2.0
	RequestParameters  map[string]string            `json:"requestParameters,omitempty"`
	RequestTemplates   map[string]string            `json:"requestTemplates,omitempty"`            // of MOCK
	ResponseParameters map[string]map[string]string `json:"responseParameters,omitempty"`          // by status
	TemplateSelection  string                       `json:"templateSelectionExpression,omitempty"` // of MOCK
	TimeoutMillis      int                          `json:"timeoutInMillis"`
	TLS                *TLS                         `json:"tlsConfig,omitempty"`
}

// TLS says whose certificate an HTTP server must show.
type TLS struct {
	ServerName string `json:"serverNameToVerify,omitempty"`
}

// Stage is a named address of one deployment.
type Stage struct {
	AccessLog      *AccessLog               `json:"accessLogSettings,omitempty"`
	Managed        bool                     `json:"apiGatewayManaged,omitempty"`
	AutoDeploy     bool                     `json:"autoDeploy"`
	Created        time.Time                `json:"createdDate"`
	Default        *RouteSettings           `json:"defaultRouteSettings"`
	DeploymentID   string                   `json:"deploymentId,omitempty"`
	Description    string                   `json:"description,omitempty"`
	LastDeployment string                   `json:"lastDeploymentStatusMessage,omitempty"`
	Updated        time.Time                `json:"lastUpdatedDate"`
	RouteSettings  map[string]RouteSettings `json:"routeSettings"` // by route key
	Name           string                   `json:"stageName"`
	Variables      map[string]string        `json:"stageVariables"`
	Tags           map[string]string        `json:"tags"`
}

// AccessLog says where and how each request is written down.
type AccessLog struct {
	Destination string `json:"destinationArn,omitempty"` // a log group
	Format      string `json:"format,omitempty"`
}

// RouteSettings bound how often a route is called. nil is no bound.
type RouteSettings struct {
	DataTrace       bool     `json:"dataTraceEnabled,omitempty"`
	DetailedMetrics bool     `json:"detailedMetricsEnabled"`
	LoggingLevel    string   `json:"loggingLevel,omitempty"`
	Burst           *int     `json:"throttlingBurstLimit,omitempty"` // requests
	Rate            *float64 `json:"throttlingRateLimit,omitempty"`  // requests a second
}

// Deployment is a state of an API that stages can show. What it holds never
// changes.
type Deployment struct {
	Auto        bool      `json:"autoDeployed"`
	Created     time.Time `json:"createdDate"`
	ID          string    `json:"deploymentId"`
	Status      string    `json:"deploymentStatus"`
	StatusWhy   string    `json:"deploymentStatusMessage,omitempty"`
	Description string    `json:"description,omitempty"`
}

// Authorizer says how a caller shows who it is.
type Authorizer struct {
	Credentials      string     `json:"authorizerCredentialsArn,omitempty"`
	ID               string     `json:"authorizerId"`
	PayloadFormat    string     `json:"authorizerPayloadFormatVersion,omitempty"`
	TTLSeconds       *int       `json:"authorizerResultTtlInSeconds,omitempty"`
	Type             string     `json:"authorizerType"` // JWT or REQUEST
	URI              string     `json:"authorizerUri,omitempty"`
	Simple           bool       `json:"enableSimpleResponses,omitempty"`
	IdentitySource   []string   `json:"identitySource"`
	IdentityValidate string     `json:"identityValidationExpression,omitempty"`
	JWT              *jwt.Trust `json:"jwtConfiguration,omitempty"`
	Name             string     `json:"name"`
}

// Domain is a host name of the account's own.
type Domain struct {
	MappingSelection string            `json:"apiMappingSelectionExpression"`
	Name             string            `json:"domainName"`
	ARN              string            `json:"domainNameArn,omitempty"`
	Configurations   []DomainConfig    `json:"domainNameConfigurations"`
	RoutingMode      string            `json:"routingMode,omitempty"`
	Tags             map[string]string `json:"tags"`
}

// DomainConfig is how a host name is reached.
type DomainConfig struct {
	Target         string     `json:"apiGatewayDomainName,omitempty"`
	CertificateARN string     `json:"certificateArn,omitempty"`
	Certificate    string     `json:"certificateName,omitempty"`
	Uploaded       *time.Time `json:"certificateUploadDate,omitempty"`
	Status         string     `json:"domainNameStatus"`
	StatusWhy      string     `json:"domainNameStatusMessage,omitempty"`
	EndpointType   string     `json:"endpointType"`
	HostedZone     string     `json:"hostedZoneId,omitempty"`
	AddressType    string     `json:"ipAddressType,omitempty"`
	OwnershipARN   string     `json:"ownershipVerificationCertificateArn,omitempty"`
	SecurityPolicy string     `json:"securityPolicy"`
}

// Mapping shows a stage of an API below a path of a host name.
type Mapping struct {
	APIID string `json:"apiId"`
	ID    string `json:"apiMappingId"`
	Key   string `json:"apiMappingKey"` // "" is the whole host name
	Stage string `json:"stage"`
}

// content is what a deployment keeps of an API.
type content struct {
	Routes       map[string]*Route       `json:"routes"`
	Integrations map[string]*Integration `json:"integrations"`
	Authorizers  map[string]*Authorizer  `json:"authorizers"`
}

// shown is what a deployment shows: an API's content, and how it answers
// browsers.
type shown struct {
	content
	CORS *registry.CORS `json:"cors,omitempty"`
}

// current is what a deployment that is made now would show.
func (r *record) current() shown { return shown{r.content.clone(), r.API.CORS} }

// at is the stage with another deployment.
func (s *Stage) at(deployment string) *Stage {
	n := *s
	n.DeploymentID = deployment
	n.LastDeployment = "Successfully deployed stage with deployment ID '" + deployment + "'"
	return &n
}

// deployment is a Deployment with what it shows.
type deployment struct {
	Deployment
	Content shown `json:"content"`
}

// record is an API with all that belongs to it. A record that is in Service is
// never changed: a change makes a new one, which shares what stayed the same.
type record struct {
	Version int            `json:"v"` // recordVersion
	Account hearth.Account `json:"account"`
	API     API            `json:"api"`
	content
	Stages map[string]*Stage `json:"stages"`

	deployments map[string]*deployment // have records of their own
}

// websocket tells whether it is a WebSocket API.
func (r *record) websocket() bool { return r.API.Protocol == protocolWebSocket }

// recordVersion is the form that records have on disk.
const recordVersion = 1

// clone copies a record one level deep: the maps may be changed, what they
// hold may be replaced.
func (r *record) clone() *record {
	c := *r
	c.content = r.content.clone()
	c.Stages, c.deployments = maps.Clone(r.Stages), maps.Clone(r.deployments)
	return &c
}

func (c *content) clone() content {
	return content{maps.Clone(c.Routes), maps.Clone(c.Integrations), maps.Clone(c.Authorizers)}
}

// domain is a Domain with its mappings.
type domain struct {
	Version  int                 `json:"v"`
	Account  hearth.Account      `json:"account"`
	Domain   Domain              `json:"domain"`
	Mappings map[string]*Mapping `json:"mappings"`
}

// sorted are the values of a map in the order of their keys.
func sorted[T any](m map[string]T) []T {
	list := make([]T, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, m[k])
	}
	return list
}
