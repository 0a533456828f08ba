package apigateway

import (
	"encoding/base64"
	"unicode/utf8"

	"github.com/hearth-faas/hearth/gateway"
)

// socketEvent is what functions get of WebSockets.
type socketEvent struct {
	Headers               map[string]string   `json:"headers,omitempty"`
	MultiValueHeaders     map[string][]string `json:"multiValueHeaders,omitempty"`
	QueryStringParameters map[string]string   `json:"queryStringParameters,omitempty"`
	MultiValueQuery       map[string][]string `json:"multiValueQueryStringParameters,omitempty"`
	StageVariables        map[string]string   `json:"stageVariables,omitempty"`
	RequestContext        socketContext       `json:"requestContext"`
	Body                  *string             `json:"body,omitempty"`
	IsBase64Encoded       bool                `json:"isBase64Encoded"`
}

// socketContext is how a socketEvent came.
type socketContext struct {
	RouteKey             string         `json:"routeKey"`
	Authorizer           map[string]any `json:"authorizer,omitempty"`
	MessageID            *string        `json:"messageId,omitempty"`
	DisconnectStatusCode *int           `json:"disconnectStatusCode,omitempty"`
	DisconnectReason     *string        `json:"disconnectReason,omitempty"`
	EventType            string         `json:"eventType"` // CONNECT, MESSAGE or DISCONNECT
	ExtendedRequestID    string         `json:"extendedRequestId"`
	RequestTime          string         `json:"requestTime"`
	MessageDirection     string         `json:"messageDirection"`
	Stage                string         `json:"stage"`
	ConnectedAt          int64          `json:"connectedAt"` // milliseconds
	RequestTimeEpoch     int64          `json:"requestTimeEpoch"`
	Identity             socketIdentity `json:"identity"`
	RequestID            string         `json:"requestId"`
	DomainName           string         `json:"domainName"`
	ConnectionID         string         `json:"connectionId"`
	APIID                string         `json:"apiId"`
}

// socketIdentity is who is at the other end.
type socketIdentity struct {
	SourceIP  string `json:"sourceIp"`
	UserAgent string `json:"userAgent,omitempty"`
}

// socketEvent is the event of a call of a WebSocket.
func (c *call) socketEvent() *socketEvent {
	n := c.socket
	host, _ := gateway.SplitHost(c.http.Host)
	e := &socketEvent{
		StageVariables: c.stage.Variables,
		RequestContext: socketContext{
			RouteKey: c.route.Key, EventType: c.event, ExtendedRequestID: c.requestID, RequestTime: c.began.UTC().Format(gateway.TimeFormat),
			MessageDirection: "IN", Stage: c.stage.Name, ConnectedAt: n.began.UnixMilli(), RequestTimeEpoch: c.began.UnixMilli(),
			Identity: socketIdentity{n.from, n.agent}, RequestID: c.requestID, DomainName: host, ConnectionID: n.id, APIID: c.table.id,
			Authorizer: c.who.authorizer1(c.integrated.Milliseconds()),
		},
	}
	if c.event != "MESSAGE" {
		e.head(c)
	}
	x := &e.RequestContext
	switch c.event {
	case "MESSAGE":
		x.MessageID = &c.requestID
		text := string(c.body)
		if !utf8.Valid(c.body) {
			text, e.IsBase64Encoded = base64.StdEncoding.EncodeToString(c.body), true
		}
		e.Body = &text
	case "DISCONNECT":
		code := c.disconnect.code
		x.DisconnectStatusCode, x.DisconnectReason = &code, &c.disconnect.reason
	}
	return e
}

// head sets what the request that became the connection had beside its path.
func (e *socketEvent) head(c *call) {
	e.Headers, e.MultiValueHeaders = map[string]string{"Host": c.http.Host}, map[string][]string{"Host": {c.http.Host}}
	for name, values := range c.http.Header {
		e.Headers[name], e.MultiValueHeaders[name] = values[len(values)-1], values
	}
	for name, values := range c.http.URL.Query() {
		if e.QueryStringParameters == nil {
			e.QueryStringParameters, e.MultiValueQuery = map[string]string{}, map[string][]string{}
		}
		e.QueryStringParameters[name], e.MultiValueQuery[name] = values[len(values)-1], values
	}
}

// askingSocket is what an authorizer's function is asked about a connection.
type askingSocket struct {
	Type      string `json:"type"`
	MethodARN string `json:"methodArn"`
	*socketEvent
}
