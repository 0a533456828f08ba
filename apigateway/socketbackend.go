package apigateway

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/textproto"
	"strings"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/hearth-faas/hearth/gateway"
)

// What serves a route of a WebSocket API without a function: an HTTP server, or
// nothing at all (MOCK).

// checkSocketIntegration refuses what a WebSocket API's integration can't have.
func checkSocketIntegration(i *Integration) error {
	if i.Passthrough == "" {
		i.Passthrough = "WHEN_NO_MATCH"
	}
	switch {
	case i.Passthrough != "WHEN_NO_MATCH" && i.Passthrough != "WHEN_NO_TEMPLATES" && i.Passthrough != "NEVER":
		return invalid("passthroughBehavior is WHEN_NO_MATCH, WHEN_NO_TEMPLATES or NEVER: %.40q", i.Passthrough)
	case i.ContentHandling != "" && i.ContentHandling != toText && i.ContentHandling != toBinary:
		return invalid("contentHandlingStrategy is %s or %s: %.40q", toText, toBinary, i.ContentHandling)
	case i.Type == "AWS" || i.Type == "HTTP":
		return invalid("The integrationType %s maps requests and responses by templates in VTL, which Hearth does not have: use AWS_PROXY for a function, or HTTP_PROXY.", i.Type)
	case i.Type != "AWS_PROXY" && i.Type != "HTTP_PROXY" && i.Type != "MOCK":
		return invalid("Invalid integrationType %.40q: a WebSocket API has AWS_PROXY, HTTP_PROXY and MOCK.", i.Type)
	case i.PayloadFormat != "1.0":
		return invalid("The payloadFormatVersion of a WebSocket API's integration is 1.0.")
	case len(i.ResponseParameters) > 0:
		return invalid("Responses of a WebSocket API's integrations are not mapped by Hearth: leave responseParameters out.")
	case i.Type != "HTTP_PROXY" && len(i.RequestParameters) > 0:
		return invalid("requestParameters of a WebSocket API are for HTTP_PROXY: a function gets all of the request.")
	case i.Type == "HTTP_PROXY" && i.Method == "ANY":
		return invalid("A message has no method to be passed on: give the integrationMethod of HTTP_PROXY, such as POST.")
	case i.Type != "MOCK" && len(i.RequestTemplates) > 0:
		return invalid("requestTemplates are for MOCK here, where they say the status: the request is passed on as it is.")
	case i.Type == "MOCK" && i.URI != "":
		return invalid("MOCK calls nothing: leave integrationUri out.")
	}
	return nil
}

// mock is what MOCK answers.
type mock struct {
	selection *template
	statuses  map[string]int // by the key of the template
}

// compileMock reads the templates of MOCK, which are fixed texts here.
func compileMock(i *Integration) (*mock, error) {
	m := &mock{statuses: map[string]int{}}
	selection := strings.TrimPrefix(i.TemplateSelection, `\`) // as \$default is written
	if selection != "" && selection != defaultRoute {
		var err error
		if m.selection, err = parseTemplate(selection, requestSources|stageVariables); err != nil {
			return nil, err
		}
	}
	for key, text := range i.RequestTemplates {
		var said struct {
			Status int `json:"statusCode"`
		}
		if err := json.Unmarshal([]byte(text), &said); err != nil || said.Status < 100 || said.Status > 599 {
			return nil, invalid(`The template %.100q of MOCK is a JSON text with a status, such as {"statusCode": 200}: Hearth does not have VTL.`, key)
		}
		m.statuses[strings.TrimPrefix(key, `\`)] = said.Status
	}
	return m, nil
}

// status is what MOCK answers a call by; 200 unless a template says another.
func (m *mock) status(c *call) int {
	key := defaultRoute
	if m.selection != nil {
		key = m.selection.text(c.value)
	}
	for _, k := range []string{key, defaultRoute} {
		if status, ok := m.statuses[k]; ok {
			return status
		}
	}
	return http.StatusOK
}

// compileSocketMappings reads requestParameters of a WebSocket API, such as
// integration.request.header.id: context.connectionId.
func compileSocketMappings(i *Integration) (c mappings, err error) {
	if len(i.RequestParameters) > 20 {
		return c, invalid("An integration can have at most 20 requestParameters.")
	}
	for _, key := range sortedKeys(i.RequestParameters) {
		rest, ok := strings.CutPrefix(key, "integration.request.")
		where, name, named := strings.Cut(rest, ".")
		wrong := func(why string) (mappings, error) {
			return c, invalid("Invalid mapping expression specified: %.200q: %s.", key, why)
		}
		switch {
		case !ok || !named || name == "" || where != "header" && where != "querystring" && where != "path":
			return wrong("it is integration.request.header.NAME, .querystring.NAME or .path.NAME")
		case where == "header" && (!isToken(name) || isReserved(name)):
			return wrong("that header can't be set by mappings")
		case where == "header":
			name = textproto.CanonicalMIMEHeaderKey(name)
		}
		m := mapping{verb: "overwrite", where: where, name: name}
		value := i.RequestParameters[key]
		if text, ok := strings.CutPrefix(value, "'"); ok && strings.HasSuffix(text, "'") {
			m.value = &template{parts: []part{{literal: strings.TrimSuffix(text, "'")}}}
		} else if m.value, err = parseTemplate("$"+strings.TrimPrefix(value, "route."), requestSources|contextSources|stageVariables); err != nil {
			return wrong("it takes 'TEXT', context.NAME, stageVariables.NAME, or route.request.body, .header.NAME or .querystring.NAME")
		}
		c.request = append(c.request, m)
	}
	return c, nil
}

// outgoingOfSocket is what a backend gets of a WebSocket: of a message its text,
// and what mappings say; when a connection begins what the client has sent.
func (c *call) outgoingOfSocket(i *integration) outgoing {
	o := outgoing{header: http.Header{}}
	switch c.event {
	case "CONNECT":
		o.query, o.header = c.http.URL.RawQuery, maps.Clone(c.http.Header)
		for name := range o.header {
			if strings.HasPrefix(name, "Sec-Websocket-") && name != "Sec-Websocket-Protocol" {
				delete(o.header, name)
			}
		}
	case "MESSAGE":
		sort := "text/plain; charset=utf-8"
		switch {
		case json.Valid(c.body):
			sort = "application/json"
		case !utf8.Valid(c.body):
			sort = "application/octet-stream"
		}
		o.header.Set("Content-Type", sort)
	}
	c.params = map[string]string{}
	var rest []mapping
	for _, m := range i.request {
		if m.where == "path" {
			c.params[m.name] = m.value.text(c.value)
		} else {
			rest = append(rest, m)
		}
	}
	o.apply(rest, c.value)
	return o
}

// askBackend calls an HTTP server for a route. Of what it answers only what
// somebody waits for is read.
func (c *call) askBackend(ctx context.Context, i *integration) (*gateway.Answer, error) {
	r, err := c.backendRequest(ctx, i)
	if err != nil {
		return nil, err
	}
	began := c.s.Clock.Now()
	resp, err := c.s.client.Transport.RoundTrip(r)
	c.integrated = c.s.Clock.Now().Sub(began)
	if err != nil {
		return nil, c.unreached(ctx, err)
	}
	defer resp.Body.Close()
	c.integrationIs, c.returned = resp.StatusCode, resp.StatusCode
	a := &gateway.Answer{Status: resp.StatusCode, Header: resp.Header}
	if c.event != "MESSAGE" || !c.route.answers() {
		return a, nil
	}
	a.Body, err = io.ReadAll(io.LimitReader(resp.Body, maxMessage+1))
	switch {
	case err != nil:
		return nil, c.unreached(ctx, err)
	case len(a.Body) > maxMessage:
		return nil, errInternal.because("the backend's response is larger than a message may be")
	}
	return a, nil
}

// What contentHandlingStrategy makes of what an integration says to a client.
const (
	toText   = "CONVERT_TO_TEXT"   // what is no text is sent in base64
	toBinary = "CONVERT_TO_BINARY" // it is base64, and sent as the bytes that it stands for
)

// handled is what a client is sent of what an integration says.
func (i *Integration) handled(said []byte) (sent, error) {
	switch i.ContentHandling {
	case toBinary:
		data, err := base64.StdEncoding.DecodeString(string(said))
		if err != nil {
			return sent{}, errInternal.because("the integration's contentHandlingStrategy is " + toBinary + ", and what it answered is no base64")
		}
		return sent{websocket.MessageBinary, data}, nil
	case toText:
		if !utf8.Valid(said) {
			said = []byte(base64.StdEncoding.EncodeToString(said))
		}
	}
	return sentOf(said), nil
}
