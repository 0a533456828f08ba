package apigateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/gateway"
)

// The routes that clients cannot choose by a message.
const (
	connectRoute    = "$connect"
	disconnectRoute = "$disconnect"
)

var (
	errUpgrade    = &refusal{status: http.StatusUpgradeRequired, message: "Upgrade Required", sort: "BAD_REQUEST_PARAMETERS", header: http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}}}
	errBadRequest = &refusal{status: http.StatusBadRequest, message: "Bad Request", sort: "BAD_REQUEST_PARAMETERS"}
	errNoRoute    = &refusal{status: http.StatusForbidden, message: "Forbidden", sort: "ROUTE_NOT_FOUND"}
)

// missing is a parameter that the route requires and the request does not have;
// "" is none.
func (c *call) missing() string {
	for _, key := range sortedKeys(c.route.RequestParameters) {
		if !c.route.RequestParameters[key].Required {
			continue
		}
		p, err := requestParameter(key)
		if err != nil {
			return key // it was checked
		}
		if _, there := c.value(p.source, p.name); !there {
			return strings.TrimPrefix(key, "route.")
		}
	}
	return ""
}

// requestParameter reads the key of a request parameter of a route.
func requestParameter(key string) (part, error) {
	p, err := split(strings.TrimPrefix(key, "route."), requestSources)
	if err != nil || !strings.HasPrefix(key, "route.") || p.source != "request.header" && p.source != "request.querystring" {
		return p, invalid("The requestParameters of a route are route.request.header.NAME and route.request.querystring.NAME: %.200q", key)
	}
	return p, nil
}

// errServed: all of the call has been noted.
var errServed = errors.New("it was served")

// disconnect is how a WebSocket ended.
type disconnect struct {
	code   int
	reason string
}

// runSocket answers a request of a WebSocket API, or tells why it comes to
// nothing: a connection until it ends, or what is asked of one.
func (c *call) runSocket(w http.ResponseWriter) error {
	below, err := url.PathUnescape(c.below)
	if err != nil {
		return errForbidden
	}
	if id, ok := strings.CutPrefix(below, "/@connections/"); ok {
		return c.manage(w, id)
	}
	if below != "/" {
		return errForbidden
	}
	if c.http.Method != http.MethodGet || !strings.EqualFold(c.http.Header.Get("Upgrade"), "websocket") {
		return errUpgrade
	}
	return c.connect(w)
}

// connect opens a connection, and serves it until it ends.
func (c *call) connect(w http.ResponseWriter) error {
	c.event = "CONNECT"
	n := c.s.sockets.reserve(c.table.account, c.table.id, c.stage.Name, gateway.SourceIP(c.http), c.http.UserAgent())
	if n == nil {
		return errThrottled
	}
	defer c.s.sockets.release(n)
	c.socket = n
	options := &websocket.AcceptOptions{InsecureSkipVerify: true} // whose pages may connect is for an authorizer
	if c.route = c.stage.keyed(connectRoute); c.route != nil {
		if c.route.limiter != nil && !c.route.limiter.AllowN(c.s.Clock.Now(), 1) {
			return errThrottled
		}
		if name := c.missing(); name != "" {
			return errBadRequest.because("the request has no " + name + ", which the route " + connectRoute + " requires")
		}
		if err := c.authorize(w); err != nil {
			return err
		}
		if c.route.integration != nil {
			a, err := c.runRoute()
			if err != nil {
				return err
			}
			if a.Status/100 != 2 {
				return &refusal{status: a.Status, message: http.StatusText(a.Status), sort: "INTEGRATION_FAILURE", reason: "what serves " + connectRoute + " does not let the caller in"}
			}
			options.Subprotocols = a.Header.Values("Sec-Websocket-Protocol")
		}
	}
	f := &framed{ResponseWriter: w}
	conn, err := websocket.Accept(f, c.http, options)
	if err != nil {
		c.status, c.reason = http.StatusBadRequest, err.Error()
		c.note() // the client has been told
		return errServed
	}
	conn.SetReadLimit(maxMessage)
	c.status = http.StatusOK
	c.note()
	if !c.s.sockets.show(n, conn) {
		n.close(websocket.StatusGoingAway, "the server stops")
	}
	stop := n.watch(c.s.Clock)
	end := c.serveSocket(n)
	stop()
	c.s.sockets.hide(n)
	if end.code == int(websocket.StatusMessageTooBig) {
		f.conn.linger()
	}
	_ = conn.CloseNow()
	c.ended(n, end)
	return errServed
}

// serveSocket runs what messages ask for until the connection ends.
func (c *call) serveSocket(n *socket) disconnect {
	busy := make(chan struct{}, maxBusy)
	var wait sync.WaitGroup
	defer wait.Wait()
	for {
		_, body, err := n.conn.Read(c.ctx)
		if err != nil {
			return n.end(err)
		}
		n.touch(c.s.Clock.Now())
		busy <- struct{}{} // who sends faster than functions run is not read
		wait.Go(func() {
			defer func() { <-busy }()
			c.message(n, body)
		})
	}
}

// end tells how a connection ended, of the error that reading it came to.
func (n *socket) end(err error) disconnect {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.code != 0 {
		return disconnect{int(n.code), n.reason}
	}
	if e, ok := errors.AsType[websocket.CloseError](err); ok {
		return disconnect{int(e.Code), e.Reason}
	}
	if errors.Is(err, errFrame) || errors.Is(err, websocket.ErrMessageTooBig) {
		return disconnect{int(websocket.StatusMessageTooBig), "Message too long"}
	}
	return disconnect{int(websocket.StatusAbnormalClosure), "Connection closed abnormally"}
}

// next is a call of the connection that c has opened, by the table of now; its
// stage is nil if that is gone.
func (c *call) next(event string) *call {
	now := c.s.Clock.Now()
	m := &call{
		// The client may have left meanwhile: what it asked for is done.
		s: c.s, ctx: context.WithoutCancel(c.ctx), http: c.http, requestID: uuid.NewString(), traceID: gateway.NewTraceID(now), began: now,
		path: c.path, basePath: c.basePath, prefix: c.prefix, table: c.s.table(c.table.id), who: c.who, socket: c.socket, event: event,
	}
	if m.table != nil {
		m.stage = m.table.stages[c.stage.Name]
	}
	return m
}

// message runs what a message asks for.
func (c *call) message(n *socket, body []byte) {
	m := c.next("MESSAGE")
	if m.stage == nil {
		n.close(websocket.StatusGoingAway, "the stage is gone")
		return
	}
	m.body = body
	answer, err := m.reply()
	if err != nil {
		r, ok := errors.AsType[*refusal](err)
		if !ok {
			r = errInternal.because(err.Error())
		}
		m.failed(r)
		text, err := json.Marshal(map[string]string{"message": r.message, "connectionId": n.id, "requestId": m.requestID})
		if err != nil {
			panic(err) // strings
		}
		answer = sentOf(text)
	} else {
		m.status = http.StatusOK
	}
	m.length = len(answer.data)
	m.note()
	if answer.kind != 0 {
		_ = n.send(m.ctx, c.s.Clock.Now(), answer) // a client that left needs no answer
	}
}

// failed notes why a call comes to nothing.
func (c *call) failed(r *refusal) {
	c.status, c.errorMessage, c.responseType, c.reason = r.status, r.message, r.sort, r.reason
	if r.reason != "" && r.status >= http.StatusInternalServerError {
		c.s.Log.Warn("a message of a WebSocket API failed", "request", c.requestID, "api", c.table.id, "route", c.route.Key, "connection", c.socket.id, "reason", r.reason)
	}
}

// reply runs what serves a message, and returns what the client is sent.
func (c *call) reply() (sent, error) {
	key := c.stage.selection.text(c.value)
	if !strings.HasPrefix(key, "$") {
		c.route = c.stage.keyed(key)
	}
	if c.route == nil {
		c.route = c.stage.keyed(defaultRoute)
	}
	switch {
	case c.route == nil || c.route.integration == nil:
		return sent{}, errNoRoute
	case c.route.limiter != nil && !c.route.limiter.AllowN(c.s.Clock.Now(), 1):
		return sent{}, errThrottled
	}
	a, err := c.runRoute()
	if err != nil || !c.route.answers() || len(a.Body) == 0 {
		return sent{}, err
	}
	return c.route.integration.handled(a.Body)
}

// ended runs what serves the end of a connection.
func (c *call) ended(n *socket, end disconnect) {
	m := c.next("DISCONNECT")
	if m.stage == nil {
		return
	}
	m.disconnect, m.status = end, http.StatusOK
	if m.route = m.stage.keyed(disconnectRoute); m.route != nil && m.route.integration != nil {
		if _, err := m.runRoute(); err != nil {
			r, ok := errors.AsType[*refusal](err)
			if !ok {
				r = errInternal.because(err.Error())
			}
			m.failed(r)
		}
	}
	m.note()
}

// runRoute runs what serves the route. What it returned is read where somebody
// waits for it.
func (c *call) runRoute() (*gateway.Answer, error) {
	i := c.route.integration
	if i.broken != "" {
		return nil, errInternal.because("the integration " + i.ID + " can't be called: " + i.broken)
	}
	ctx, cancel := context.WithTimeout(c.ctx, time.Duration(i.TimeoutMillis)*time.Millisecond)
	defer cancel()
	switch i.Type {
	case "MOCK":
		c.returned = i.mock.status(c)
		return &gateway.Answer{Status: c.returned}, nil
	case "HTTP_PROXY":
		return c.askBackend(ctx, i)
	}
	payload, err := gateway.Encode(c.socketEvent())
	if err != nil {
		return nil, err
	}
	if len(payload) > hearth.MaxPayload {
		return nil, errTooLarge
	}
	began := c.s.Clock.Now()
	result, err := c.runFunction(ctx, i.function, i.Credentials, c.sourceARN(), payload)
	c.integrated = c.s.Clock.Now().Sub(began)
	if err != nil {
		return nil, c.notRun(ctx, err)
	}
	c.integrationIs = http.StatusOK
	if result.FunctionError != "" {
		return nil, errInternal.because("the function " + i.function.arn + " failed: " + result.FunctionError)
	}
	if c.event == "DISCONNECT" || c.event == "MESSAGE" && !c.route.answers() {
		return &gateway.Answer{}, nil
	}
	a, err := answer1(result)
	if err != nil {
		return nil, errInternal.because("the function " + i.function.arn + " returned what is no response")
	}
	c.returned = a.Status
	return a, nil
}

// answers tells whether a WebSocket's client is sent what the function returns.
func (r *route) answers() bool { return r.ResponseSelection != "" && len(r.Responses) > 0 }

// keyed is the route of a key, or nil.
func (st *stage) keyed(key string) *route {
	for _, r := range st.routes {
		if r.Key == key {
			return r
		}
	}
	return nil
}
