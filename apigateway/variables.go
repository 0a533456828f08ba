package apigateway

import (
	"encoding/json"
	"net/url"
	"strconv"
	"strings"

	"github.com/hearth-faas/hearth/gateway"
)

// value is the value of a variable of a template.
func (c *call) value(source, name string) (string, bool) {
	switch source {
	case "stageVariables":
		v, ok := c.stage.Variables[name]
		return v, ok
	case "path":
		// A greedy variable keeps its slashes.
		return strings.ReplaceAll(url.PathEscape(c.params[name]), "%2F", "/"), true
	case "context":
		return c.context(name)
	case "request.header":
		if strings.EqualFold(name, "host") {
			return c.http.Host, true
		}
		values := c.http.Header.Values(name)
		return strings.Join(values, ","), len(values) > 0
	case "request.querystring":
		values := c.http.URL.Query()[name]
		return strings.Join(values, ","), len(values) > 0
	case "request.body":
		return bodyAt(c.body, name)
	case "request.path":
		if name == "" {
			return c.below, true // without the stage's name
		}
		v, ok := c.params[name]
		return v, ok
	case "response.header":
		values := c.response.Values(name)
		return strings.Join(values, ","), len(values) > 0
	case "response.body":
		return bodyAt(c.responseBody, name)
	}
	return "", false
}

// context is the value of a variable of the request's context.
func (c *call) context(name string) (string, bool) {
	some := func(s string) (string, bool) { return s, s != "" }
	number := func(n int64) (string, bool) { return strconv.FormatInt(n, 10), true }
	switch name {
	case "accountId":
		return string(c.table.account), true
	case "apiId":
		return c.table.id, true
	case "stage":
		return c.stage.Name, true
	case "requestId", "extendedRequestId":
		return c.requestID, true
	case "requestTime":
		return c.began.UTC().Format(gateway.TimeFormat), true
	case "requestTimeEpoch":
		return number(c.began.UnixMilli())
	case "httpMethod":
		return c.http.Method, true
	case "path":
		return c.path, true
	case "protocol":
		return c.http.Proto, true
	case "routeKey":
		if c.route == nil {
			return "", false
		}
		return c.route.Key, true
	case "domainName":
		host, _ := gateway.SplitHost(c.http.Host)
		return host, true
	case "domainPrefix":
		return c.prefix, true
	case "customDomain.basePathMatched":
		return some(c.basePath)
	case "identity.sourceIp":
		return gateway.SourceIP(c.http), true
	case "identity.userAgent":
		return some(c.http.UserAgent())
	case "identity.accountId":
		return some(string(c.who.account()))
	case "identity.caller", "identity.user":
		return some(c.who.userID())
	case "identity.userArn":
		return some(c.who.arn())
	case "status":
		return number(int64(c.status))
	case "responseLength", "dataProcessed":
		return number(int64(c.length))
	case "responseLatency":
		return number(c.s.Clock.Now().Sub(c.began).Milliseconds())
	case "integrationLatency", "integration.latency":
		if c.integrationIs == 0 && c.integrated == 0 {
			return "", false
		}
		return number(c.integrated.Milliseconds())
	case "integrationStatus", "integration.integrationStatus":
		if c.integrationIs == 0 {
			return "", false
		}
		return number(int64(c.integrationIs))
	case "integration.status":
		if c.returned == 0 {
			return "", false
		}
		return number(int64(c.returned))
	case "integration.requestId", "awsEndpointRequestId":
		if c.integrationIs == 0 || c.route.integration.Type != "AWS_PROXY" {
			return "", false
		}
		return c.requestID, true
	case "connectionId", "eventType", "connectedAt", "messageDirection", "messageId":
		return c.socketVariable(name)
	case "error.message":
		return some(c.errorMessage)
	case "error.messageString":
		if c.errorMessage == "" {
			return "", false
		}
		return strconv.Quote(c.errorMessage), true
	case "error.responseType":
		return some(c.responseType)
	case "integrationErrorMessage", "integration.error", "authorizer.error":
		return some(c.reason)
	}
	if claim, ok := strings.CutPrefix(name, "authorizer.claims."); ok {
		if c.who.jwt == nil {
			return "", false
		}
		v, ok := c.who.jwt.Claims[claim]
		return v, ok
	}
	if property, ok := strings.CutPrefix(name, "authorizer."); ok && c.who.said != nil {
		if property == "principalId" {
			return some(c.who.said.principal)
		}
		return bodyAt(c.who.said.context, property)
	}
	return "", false
}

// socketVariable is the value of one that WebSockets have.
func (c *call) socketVariable(name string) (string, bool) {
	if c.socket == nil {
		return "", false
	}
	switch name {
	case "connectionId":
		return c.socket.id, true
	case "eventType":
		return c.event, true
	case "connectedAt":
		return strconv.FormatInt(c.socket.began.UnixMilli(), 10), true
	case "messageDirection":
		return "IN", true
	}
	return c.requestID, c.event == "MESSAGE"
}

// writeLog writes the call down in the stage's access log. A value is escaped
// as in JSON, so that no client can write a line of its own.
func (c *call) writeLog() {
	l := c.stage.log
	line := l.format.text(func(_, name string) (string, bool) {
		v, ok := c.context(name)
		if !ok || v == "" {
			return "-", true
		}
		if name == "error.messageString" {
			return v, true
		}
		b, err := json.Marshal(v)
		if err != nil {
			return "-", true
		}
		return string(b[1 : len(b)-1]), true
	})
	l.stream.Append(c.s.Clock.Now(), c.requestID, []byte(line))
}
