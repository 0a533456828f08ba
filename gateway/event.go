package gateway

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	hearth "github.com/hearth-faas/hearth"
)

// Event is a request in the payload format 2.0, in the service's order. A
// function's URL has no parameters of a path and no stage variables.
type Event struct {
	Version               string            `json:"version"`
	RouteKey              string            `json:"routeKey"`
	RawPath               string            `json:"rawPath"`
	RawQueryString        string            `json:"rawQueryString"`
	Cookies               []string          `json:"cookies,omitempty"`
	Headers               map[string]string `json:"headers"`
	QueryStringParameters map[string]string `json:"queryStringParameters,omitempty"`
	RequestContext        RequestContext    `json:"requestContext"`
	Body                  *string           `json:"body,omitempty"`
	PathParameters        map[string]string `json:"pathParameters,omitempty"`
	IsBase64Encoded       bool              `json:"isBase64Encoded"`
	StageVariables        map[string]string `json:"stageVariables,omitempty"`
}

// RequestContext is how an Event came.
type RequestContext struct {
	AccountID    string      `json:"accountId"`
	APIID        string      `json:"apiId"`
	Authorizer   *Authorizer `json:"authorizer,omitempty"`
	DomainName   string      `json:"domainName"`
	DomainPrefix string      `json:"domainPrefix"`
	HTTP         HTTPContext `json:"http"`
	RequestID    string      `json:"requestId"`
	RouteKey     string      `json:"routeKey"`
	Stage        string      `json:"stage"`
	Time         string      `json:"time"`
	TimeEpoch    int64       `json:"timeEpoch"` // milliseconds
}

// Authorizer is who called: one of its fields is set.
type Authorizer struct {
	IAM    *IAM            `json:"iam,omitempty"`
	JWT    *JWT            `json:"jwt,omitempty"`
	Lambda json.RawMessage `json:"lambda,omitempty"` // what a function said of the caller
}

// JWT is what a token says.
type JWT struct {
	Claims map[string]string `json:"claims"`
	Scopes []string          `json:"scopes"`
}

// IAM is who signed the request.
type IAM struct {
	AccessKey       string  `json:"accessKey"`
	AccountID       string  `json:"accountId"`
	CallerID        string  `json:"callerId"`
	CognitoIdentity *string `json:"cognitoIdentity"` // there is no Cognito: null
	PrincipalOrgID  *string `json:"principalOrgId"`  // nor Organizations
	UserARN         string  `json:"userArn"`
	UserID          string  `json:"userId"`
}

// HTTPContext is the request's first line, and whom it came from.
type HTTPContext struct {
	Method    string `json:"method"`
	Path      string `json:"path"`
	Protocol  string `json:"protocol"`
	SourceIP  string `json:"sourceIp"`
	UserAgent string `json:"userAgent"`
}

// defaultRoute is what stands for the route and the stage that a URL has not.
const defaultRoute = "$default"

// Origin is what an Event says beside what the request does.
type Origin struct {
	Path      string // percent-encoded
	Body      []byte
	RequestID string
	TraceID   string
	Began     time.Time
	Signed    bool // what proves who the caller is, is not handed on
}

// NewEvent makes the event of a request. What is left to set is whose it is:
// the ids of account and API, DomainPrefix, the authorizer; route and stage are
// $default.
func NewEvent(r *http.Request, o Origin) *Event {
	domain, _ := SplitHost(r.Host)
	e := &Event{
		Version: "2.0", RouteKey: defaultRoute,
		RawPath: o.Path, RawQueryString: r.URL.RawQuery,
		Cookies: cookiesOf(r.Header["Cookie"]), Headers: headersOf(r, o),
		QueryStringParameters: parametersOf(r.URL.RawQuery),
		RequestContext: RequestContext{
			AccountID: "anonymous", DomainName: domain,
			HTTP: HTTPContext{
				Method: r.Method, Path: o.Path, Protocol: r.Proto, SourceIP: SourceIP(r), UserAgent: r.UserAgent(),
			},
			RequestID: o.RequestID, RouteKey: defaultRoute, Stage: defaultRoute,
			Time: o.Began.UTC().Format(TimeFormat), TimeEpoch: o.Began.UnixMilli(),
		},
	}
	e.Body, e.IsBase64Encoded = BodyOf(r.Header, o.Body)
	return e
}

// TimeFormat is how events tell the time.
const TimeFormat = "02/Jan/2006:15:04:05 -0700"

// BodyOf is a body as an event has it: nil for none, in base64 unless it is
// text.
func BodyOf(h http.Header, body []byte) (text *string, encoded bool) {
	if len(body) == 0 {
		return nil, false
	}
	t := string(body)
	if encoded = !isText(h, body); encoded {
		t = base64.StdEncoding.EncodeToString(body)
	}
	return &t, encoded
}

// Encode is an event as JSON, in which nothing is escaped for HTML.
func Encode(event any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(event); err != nil {
		return nil, &hearth.Error{Op: "gateway.Encode", Kind: hearth.Service, Message: "Internal Server Error", Err: err}
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// eventOf makes the event of a request of a URL.
func eventOf(q *request) ([]byte, error) {
	e := NewEvent(q.http, Origin{
		Path: q.path, Body: q.body, RequestID: q.requestID, TraceID: q.traceID, Began: q.began, Signed: q.caller != nil,
	})
	e.RequestContext.APIID, e.RequestContext.DomainPrefix = q.ID, q.ID
	if c := q.caller; c != nil {
		e.RequestContext.AccountID = string(c.Account)
		e.RequestContext.Authorizer = &Authorizer{IAM: &IAM{
			AccessKey: q.accessKey, AccountID: string(c.Account), CallerID: c.UserID, UserARN: c.ARN, UserID: c.UserID,
		}}
	}
	return Encode(e)
}

// isText tells whether a body is handed on as it is: by its type, as the
// service does, and if a JSON string can hold it.
func isText(h http.Header, body []byte) bool {
	if h.Get("Content-Encoding") != "" {
		return false
	}
	kind := strings.ToLower(h.Get("Content-Type"))
	for _, text := range []string{"text", "json", "xml", "javascript"} {
		if strings.Contains(kind, text) {
			return utf8.Valid(body)
		}
	}
	return false
}

// unsaid are the headers that are of the connection and not of the request,
// and the cookies, which the event has apart.
var unsaid = map[string]bool{
	"Connection": true, "Keep-Alive": true, "Proxy-Connection": true, "Te": true, "Trailer": true,
	"Transfer-Encoding": true, "Upgrade": true, "Cookie": true,
}

// headersOf are the request's headers with the values of one name joined, and
// those that tell how the request came.
func headersOf(r *http.Request, o Origin) map[string]string {
	headers := make(map[string]string, len(r.Header)+5)
	for name, values := range r.Header {
		if !unsaid[name] {
			headers[strings.ToLower(name)] = strings.Join(values, ",")
		}
	}
	if o.Signed { // what proves who the caller is, is not the function's
		delete(headers, "authorization")
		delete(headers, "x-amz-security-token")
	}
	_, port := SplitHost(r.Host)
	proto := headers["x-forwarded-proto"] // of a proxy that speaks TLS for us
	switch {
	case r.TLS != nil:
		proto = "https"
	case proto == "":
		proto = "http"
	}
	if port == "" {
		if port = "80"; proto == "https" {
			port = "443"
		}
	}
	from := SourceIP(r)
	if before := headers["x-forwarded-for"]; before != "" {
		from = before + ", " + from
	}
	headers["host"] = r.Host
	headers["x-amzn-trace-id"] = o.TraceID
	headers["x-forwarded-for"] = from
	headers["x-forwarded-port"] = port
	headers["x-forwarded-proto"] = proto
	return headers
}

// SplitHost splits a host that may have no port.
func SplitHost(hostport string) (host, port string) {
	if host, port, err := net.SplitHostPort(hostport); err == nil {
		return host, port
	}
	return hostport, ""
}

// SourceIP is the address at the other end of the connection.
func SourceIP(r *http.Request) string {
	host, _ := SplitHost(r.RemoteAddr)
	return host
}

// cookiesOf splits cookies, of which a client may send several headers.
func cookiesOf(headers []string) (cookies []string) {
	for _, h := range headers {
		for c := range strings.SplitSeq(h, ";") {
			if c = strings.TrimSpace(c); c != "" {
				cookies = append(cookies, c)
			}
		}
	}
	return cookies
}

// parametersOf decodes a query and joins the values of one name by commas.
func parametersOf(query string) map[string]string {
	var parameters map[string]string
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, value = unescape(name), unescape(value)
		if parameters == nil {
			parameters = map[string]string{}
		}
		if before, ok := parameters[name]; ok {
			value = before + "," + value
		}
		parameters[name] = value
	}
	return parameters
}

// unescape decodes what was percent-encoded; what cannot be decoded is taken
// as it is.
func unescape(s string) string {
	if decoded, err := url.QueryUnescape(s); err == nil {
		return decoded
	}
	return s
}
