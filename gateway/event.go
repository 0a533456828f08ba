package gateway

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	hearth "github.com/hearth-faas/hearth"
)

// event is a request in the payload format 2.0, in the service's order.
type event struct {
	Version               string            `json:"version"`
	RouteKey              string            `json:"routeKey"`
	RawPath               string            `json:"rawPath"`
	RawQueryString        string            `json:"rawQueryString"`
	Cookies               []string          `json:"cookies,omitempty"`
	Headers               map[string]string `json:"headers"`
	QueryStringParameters map[string]string `json:"queryStringParameters,omitempty"`
	RequestContext        requestContext    `json:"requestContext"`
	Body                  *string           `json:"body,omitempty"`
	IsBase64Encoded       bool              `json:"isBase64Encoded"`
}

type requestContext struct {
	AccountID    string      `json:"accountId"`
	APIID        string      `json:"apiId"`
	Authorizer   *authorizer `json:"authorizer,omitempty"`
	DomainName   string      `json:"domainName"`
	DomainPrefix string      `json:"domainPrefix"`
	HTTP         httpContext `json:"http"`
	RequestID    string      `json:"requestId"`
	RouteKey     string      `json:"routeKey"`
	Stage        string      `json:"stage"`
	Time         string      `json:"time"`
	TimeEpoch    int64       `json:"timeEpoch"` // milliseconds
}

type authorizer struct {
	IAM iam `json:"iam"`
}

type iam struct {
	AccessKey       string  `json:"accessKey"`
	AccountID       string  `json:"accountId"`
	CallerID        string  `json:"callerId"`
	CognitoIdentity *string `json:"cognitoIdentity"` // there is no Cognito: null
	PrincipalOrgID  *string `json:"principalOrgId"`  // nor Organizations
	UserARN         string  `json:"userArn"`
	UserID          string  `json:"userId"`
}

type httpContext struct {
	Method    string `json:"method"`
	Path      string `json:"path"`
	Protocol  string `json:"protocol"`
	SourceIP  string `json:"sourceIp"`
	UserAgent string `json:"userAgent"`
}

// defaultRoute is what stands for the route and the stage that a URL has not.
const defaultRoute = "$default"

// eventOf makes the event of a request.
func eventOf(q *request) ([]byte, error) {
	r := q.http
	domain, _ := splitHost(r.Host)
	e := event{
		Version: "2.0", RouteKey: defaultRoute,
		RawPath: q.path, RawQueryString: r.URL.RawQuery,
		Cookies: cookiesOf(r.Header["Cookie"]), Headers: headersOf(q),
		QueryStringParameters: parametersOf(r.URL.RawQuery),
		RequestContext: requestContext{
			AccountID: "anonymous", APIID: q.ID, DomainName: domain, DomainPrefix: q.ID,
			HTTP: httpContext{
				Method: r.Method, Path: q.path, Protocol: r.Proto, SourceIP: sourceIP(r), UserAgent: r.UserAgent(),
			},
			RequestID: q.requestID, RouteKey: defaultRoute, Stage: defaultRoute,
			Time: q.began.UTC().Format("02/Jan/2006:15:04:05 -0700"), TimeEpoch: q.began.UnixMilli(),
		},
	}
	if c := q.caller; c != nil {
		e.RequestContext.AccountID = string(c.Account)
		e.RequestContext.Authorizer = &authorizer{iam{
			AccessKey: q.accessKey, AccountID: string(c.Account), CallerID: c.UserID, UserARN: c.ARN, UserID: c.UserID,
		}}
	}
	if len(q.body) > 0 {
		text := string(q.body)
		if e.IsBase64Encoded = !isText(r.Header, q.body); e.IsBase64Encoded {
			text = base64.StdEncoding.EncodeToString(q.body)
		}
		e.Body = &text
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(&e); err != nil {
		return nil, &hearth.Error{Op: "gateway.eventOf", Kind: hearth.Service, Message: "Internal Server Error", Err: err}
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
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
func headersOf(q *request) map[string]string {
	r := q.http
	headers := make(map[string]string, len(r.Header)+5)
	for name, values := range r.Header {
		if !unsaid[name] {
			headers[strings.ToLower(name)] = strings.Join(values, ",")
		}
	}
	if q.caller != nil { // what proves who the caller is, is not the function's
		delete(headers, "authorization")
		delete(headers, "x-amz-security-token")
	}
	_, port := splitHost(r.Host)
	proto := headers["x-forwarded-proto"] // of a proxy that speaks TLS for us
	if proto == "" {
		proto = "http"
	}
	if port == "" {
		if port = "80"; proto == "https" {
			port = "443"
		}
	}
	from := sourceIP(r)
	if before := headers["x-forwarded-for"]; before != "" {
		from = before + ", " + from
	}
	headers["host"] = r.Host
	headers["x-amzn-trace-id"] = q.traceID
	headers["x-forwarded-for"] = from
	headers["x-forwarded-port"] = port
	headers["x-forwarded-proto"] = proto
	return headers
}

// splitHost splits a host that may have no port.
func splitHost(hostport string) (host, port string) {
	if host, port, err := net.SplitHostPort(hostport); err == nil {
		return host, port
	}
	return hostport, ""
}

// sourceIP is the address at the other end of the connection.
func sourceIP(r *http.Request) string {
	host, _ := splitHost(r.RemoteAddr)
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
