package runtimeapi

import (
	"bytes"
	"net/http"
	"strings"
)

// endpoint is what a path means.
type endpoint uint8

const (
	unknown endpoint = iota
	ping
	next
	response
	errorReport
	initErrorReport
)

// methods are the one method that each endpoint has.
var methods = [...]string{
	ping: http.MethodGet, next: http.MethodGet, response: http.MethodPost,
	errorReport: http.MethodPost, initErrorReport: http.MethodPost,
}

// endpointOf tells what a path means, and the request id in it. SnapStart's
// restore/next and restore/error are unknown, as they are to the service in an
// environment that was not restored.
func endpointOf(path []byte) (ep endpoint, id []byte) {
	if string(path) == "/ping" { // kept by the service for those who found it
		return ping, nil
	}
	rest, ok := bytes.CutPrefix(path, []byte("/2018-06-01/"))
	if !ok {
		return unknown, nil
	}
	if rest, ok := bytes.CutPrefix(rest, []byte("runtime/invocation/")); ok {
		if string(rest) == "next" {
			return next, nil
		}
		id, last, _ := bytes.Cut(rest, []byte{'/'})
		switch {
		case len(id) == 0:
		case string(last) == "response":
			return response, id
		case string(last) == "error":
			return errorReport, id
		}
		return unknown, nil
	}
	switch string(rest) {
	case "runtime/init/error":
		return initErrorReport, nil
	case "ping":
		return ping, nil
	}
	return unknown, nil
}

// route serves the request that was just read; false if the connection ends.
func (c *conn) route() bool {
	ep, id := endpointOf(c.req.path)
	if ep == unknown {
		return c.mounted()
	}
	if string(c.req.method) != methods[ep] {
		return c.answer(http.StatusMethodNotAllowed, "", [][2]string{{"Allow", methods[ep]}}, nil)
	}
	switch ep {
	case next:
		return c.next()
	case response:
		return c.respond(id, StepResponse)
	case errorReport:
		return c.respond(id, StepErrorResponse)
	case initErrorReport:
		return c.initError()
	default:
		return c.answer(http.StatusOK, "text/plain", nil, []byte("pong"))
	}
}

// Mount is a place for another API on the same listener.
type Mount struct {
	Prefix  string // of the path, such as "/2020-01-01/extension/"
	Handler Handler
}

// Handler answers one request. It runs in its connection's goroutine and may
// take its time; it must return when Request.Gone is closed.
type Handler func(*Request) Reply

// Request is a request for a Handler, which may keep it.
type Request struct {
	Method, Path string
	Body         []byte
	// Gone is closed when the environment is.
	Gone <-chan struct{}
	head request
}

// Header returns the value of a header, "" if there is none. name is in lower
// case.
func (r *Request) Header(name string) string { return string(r.head.header(name)) }

// Reply is a Handler's answer.
type Reply struct {
	Status      int
	ContentType string
	Header      [][2]string
	Body        []byte
}

// maxMounted bounds the body of a request for a Handler.
const maxMounted = 1 << 20

// mounted serves a request that is not of the runtime API.
func (c *conn) mounted() bool {
	for _, m := range c.env.opt.Handlers {
		if !bytes.HasPrefix(c.req.path, []byte(m.Prefix)) {
			continue
		}
		c.env.mu.Lock()
		c.foreign = true
		c.env.mu.Unlock()
		r := &Request{Method: string(c.req.method), Path: string(c.req.path), Gone: c.env.closed}
		r.head.fields = bytes.Clone(c.req.fields)
		var err error
		if r.Body, err = c.body.readAll(maxMounted); err != nil {
			return c.unreadable(err, maxMounted)
		}
		reply := m.Handler(r)
		return c.answer(reply.Status, reply.ContentType, reply.Header, reply.Body)
	}
	return c.answer(http.StatusNotFound, "text/plain; charset=utf-8", nil, []byte("404 page not found\n"))
}

// contentTypes are the content types that are not worth an allocation each.
var contentTypes = []string{"application/json", "application/octet-stream", "application/vnd.awslambda.http-integration-response"}

// contentTypeOf returns b as a string.
func contentTypeOf(b []byte) string {
	for _, known := range contentTypes {
		if string(b) == known {
			return known
		}
	}
	return strings.ToValidUTF8(string(b), "")
}
