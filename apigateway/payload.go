package apigateway

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/gateway"
)

// payload is the event that a function is called with.
func (c *call) payload(i *integration) ([]byte, error) {
	o := c.outgoing(i)
	r := *c.http
	u := *c.http.URL
	u.RawQuery = o.query
	r.URL, r.Header = &u, o.header
	path := c.path
	if o.path != "" {
		path = o.path
	}
	if i.PayloadFormat == "1.0" {
		e := c.event1(&r, path)
		e.RequestContext.Authorizer = c.who.authorizer1(c.integrated.Milliseconds())
		return gateway.Encode(e)
	}
	e := c.event2(&r, path)
	e.RequestContext.Authorizer = c.who.authorizer2()
	return gateway.Encode(e)
}

// event2 is the event in the payload format 2.0, without who called.
func (c *call) event2(r *http.Request, path string) *gateway.Event {
	e := gateway.NewEvent(r, gateway.Origin{
		Path: decodedPath(path), Body: c.body, RequestID: c.requestID, TraceID: c.traceID, Began: c.began, Signed: c.who.id != nil,
	})
	e.RouteKey = c.route.Key
	e.PathParameters = c.params
	if len(c.stage.Variables) > 0 {
		e.StageVariables = c.stage.Variables
	}
	x := &e.RequestContext
	x.AccountID, x.APIID, x.DomainPrefix = string(c.table.account), c.table.id, c.prefix
	x.RouteKey, x.Stage = c.route.Key, c.stage.Name
	return e
}

// event1 is a request in the payload format 1.0, in the service's order.
type event1 struct {
	Version               string              `json:"version"`
	Resource              string              `json:"resource"`
	Path                  string              `json:"path"`
	HTTPMethod            string              `json:"httpMethod"`
	Headers               map[string]string   `json:"headers"`
	MultiValueHeaders     map[string][]string `json:"multiValueHeaders"`
	QueryStringParameters map[string]string   `json:"queryStringParameters"`
	MultiValueQuery       map[string][]string `json:"multiValueQueryStringParameters"`
	RequestContext        context1            `json:"requestContext"`
	PathParameters        map[string]string   `json:"pathParameters"`
	StageVariables        map[string]string   `json:"stageVariables"`
	Body                  *string             `json:"body"`
	IsBase64Encoded       bool                `json:"isBase64Encoded"`
}

// context1 is how an event1 came.
type context1 struct {
	AccountID         string         `json:"accountId"`
	APIID             string         `json:"apiId"`
	Authorizer        map[string]any `json:"authorizer,omitempty"`
	DomainName        string         `json:"domainName"`
	DomainPrefix      string         `json:"domainPrefix"`
	ExtendedRequestID string         `json:"extendedRequestId"`
	HTTPMethod        string         `json:"httpMethod"`
	Identity          identity1      `json:"identity"`
	Path              string         `json:"path"`
	Protocol          string         `json:"protocol"`
	RequestID         string         `json:"requestId"`
	RequestTime       string         `json:"requestTime"`
	RequestTimeEpoch  int64          `json:"requestTimeEpoch"` // milliseconds
	ResourceID        *string        `json:"resourceId"`
	ResourcePath      string         `json:"resourcePath"`
	Stage             string         `json:"stage"`
}

// identity1 is who called; all that there is no Cognito for is null.
type identity1 struct {
	AccessKey                     *string `json:"accessKey"`
	AccountID                     *string `json:"accountId"`
	Caller                        *string `json:"caller"`
	CognitoAMR                    *string `json:"cognitoAmr"`
	CognitoAuthenticationProvider *string `json:"cognitoAuthenticationProvider"`
	CognitoAuthenticationType     *string `json:"cognitoAuthenticationType"`
	CognitoIdentityID             *string `json:"cognitoIdentityId"`
	CognitoIdentityPoolID         *string `json:"cognitoIdentityPoolId"`
	PrincipalOrgID                *string `json:"principalOrgId"`
	SourceIP                      string  `json:"sourceIp"`
	User                          *string `json:"user"`
	UserAgent                     string  `json:"userAgent"`
	UserARN                       *string `json:"userArn"`
}

// event1 is the event in the payload format 1.0, without what an authorizer
// said.
func (c *call) event1(r *http.Request, path string) *event1 {
	two := c.event2(r, path)
	resource := defaultRoute
	if c.route.key.Method != "" {
		resource = c.route.key.path(func(name string) string { return name })
	}
	decoded := two.RawPath
	e := &event1{
		Version: "1.0", Resource: resource, Path: decoded, HTTPMethod: r.Method,
		Headers: map[string]string{}, MultiValueHeaders: map[string][]string{},
		PathParameters: c.params, StageVariables: two.StageVariables,
		Body: two.Body, IsBase64Encoded: two.IsBase64Encoded,
		RequestContext: context1{
			AccountID: two.RequestContext.AccountID, APIID: c.table.id, DomainName: two.RequestContext.DomainName, DomainPrefix: c.prefix,
			ExtendedRequestID: c.requestID, HTTPMethod: r.Method, Path: decoded, Protocol: r.Proto,
			RequestID: c.requestID, RequestTime: two.RequestContext.Time, RequestTimeEpoch: two.RequestContext.TimeEpoch,
			ResourcePath: resource, Stage: c.stage.Name,
			Identity: identity1{SourceIP: two.RequestContext.HTTP.SourceIP, UserAgent: r.UserAgent()},
		},
	}
	// The last value of a header stands alone, all of them beside it. Names are
	// as the client's HTTP has them, with capitals.
	for name, value := range two.Headers {
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		e.Headers[canonical], e.MultiValueHeaders[canonical] = value, []string{value}
		if values := r.Header[canonical]; len(values) > 1 {
			e.Headers[canonical], e.MultiValueHeaders[canonical] = values[len(values)-1], values
		}
	}
	if values := r.Header["Cookie"]; len(values) > 0 {
		e.Headers["Cookie"], e.MultiValueHeaders["Cookie"] = values[len(values)-1], values
	}
	for pair := range strings.SplitSeq(r.URL.RawQuery, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, value = unescape(name), unescape(value)
		if e.QueryStringParameters == nil {
			e.QueryStringParameters, e.MultiValueQuery = map[string]string{}, map[string][]string{}
		}
		e.QueryStringParameters[name] = value
		e.MultiValueQuery[name] = append(e.MultiValueQuery[name], value)
	}
	if id := c.who.id; id != nil {
		account, user := string(id.Account), id.UserID
		x := &e.RequestContext.Identity
		x.AccessKey, x.AccountID, x.Caller, x.User, x.UserARN = &c.who.accessKey, &account, &user, &user, &id.ARN
	}
	return e
}

// decodedPath is a path as events have it: decoded, as the service does it for
// HTTP APIs, and not for functions' URLs. What is no text then stays as it came.
func decodedPath(path string) string {
	if decoded, err := url.PathUnescape(path); err == nil && utf8.ValidString(decoded) {
		return decoded
	}
	return path
}

// unescape decodes what was percent-encoded; what cannot be is taken as it is.
func unescape(s string) string {
	if decoded, err := url.QueryUnescape(s); err == nil {
		return decoded
	}
	return s
}

// answer1 reads what a function returned in the payload format 1.0: an object
// with a statusCode, and nothing else will do.
func answer1(r *hearth.Result) (*gateway.Answer, error) {
	var out struct {
		StatusCode        json.RawMessage            `json:"statusCode"`
		Headers           map[string]json.RawMessage `json:"headers"`
		MultiValueHeaders map[string][]string        `json:"multiValueHeaders"`
		Body              *string                    `json:"body"`
		IsBase64Encoded   bool                       `json:"isBase64Encoded"`
	}
	if err := json.Unmarshal(r.Payload, &out); err != nil {
		return nil, gateway.ErrFunction
	}
	status, err := strconv.Atoi(strings.Trim(string(out.StatusCode), `"`))
	if err != nil || status < 200 || status > 599 {
		return nil, gateway.ErrFunction
	}
	a := &gateway.Answer{Status: status, Header: http.Header{}}
	for name, raw := range out.Headers {
		var text string
		switch {
		case raw[0] == '{' || raw[0] == '[':
			return nil, gateway.ErrFunction
		case string(raw) == "null":
			continue
		case json.Unmarshal(raw, &text) != nil:
			text = string(raw)
		}
		a.Header.Set(name, text)
	}
	// Those of several values win over the single ones of the same name.
	for name, values := range out.MultiValueHeaders {
		a.Header[textproto.CanonicalMIMEHeaderKey(name)] = values
	}
	switch {
	case out.Body == nil:
	case out.IsBase64Encoded:
		if a.Body, err = base64.StdEncoding.DecodeString(*out.Body); err != nil {
			return nil, gateway.ErrFunction
		}
	default:
		a.Body = []byte(*out.Body)
	}
	return a, nil
}
