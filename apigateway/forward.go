package apigateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"

	"github.com/hearth-faas/hearth/gateway"
)

// maxResponse bounds a backend's response that mappings change, in bytes.
const maxResponse = 10 << 20

// hop are the headers that are of one connection, and not of the request.
var hop = []string{
	"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// withoutHop removes the headers of the connection, and those that Connection
// names.
func withoutHop(h http.Header) {
	for _, list := range h["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			h.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range hop {
		delete(h, name)
	}
}

// forward answers by an HTTP server.
func (c *call) forward(ctx context.Context, w http.ResponseWriter, i *integration) error {
	r, err := c.backendRequest(ctx, i)
	if err != nil {
		return err
	}
	began := c.s.Clock.Now()
	resp, err := c.s.client.Transport.RoundTrip(r)
	c.integrated = c.s.Clock.Now().Sub(began)
	if err != nil {
		return c.unreached(ctx, err)
	}
	defer resp.Body.Close()
	c.integrationIs, c.returned = resp.StatusCode, resp.StatusCode
	withoutHop(resp.Header)
	delete(resp.Header, "Content-Length")
	for name, values := range resp.Header {
		if gateway.Ours(name) {
			delete(resp.Header, name)
			resp.Header["X-Amzn-Remapped-"+name] = values
		}
	}
	if len(i.response[resp.StatusCode]) > 0 {
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse+1))
		switch {
		case err != nil:
			return c.unreached(ctx, err)
		case len(body) > maxResponse:
			return errInternal.because("the backend's response is too large to be mapped")
		}
		return c.answer(w, i, &gateway.Answer{Status: resp.StatusCode, Header: resp.Header, Body: body})
	}
	gateway.AllowOrigin(resp.Header, c.http, c.stage.cors)
	maps.Copy(w.Header(), resp.Header)
	if resp.Header["Content-Type"] == nil {
		w.Header()["Content-Type"] = nil // and let nobody guess it
	}
	c.status = resp.StatusCode
	w.WriteHeader(c.status)
	n, err := io.Copy(w, resp.Body)
	c.length = int(n)
	if err != nil {
		c.reason = "the response broke off: " + err.Error()
		c.note()
		// The status has been sent: all that can tell the client is that the
		// connection ends before the response does.
		panic(http.ErrAbortHandler)
	}
	return nil
}

// backendRequest makes the request for a backend.
func (c *call) backendRequest(ctx context.Context, i *integration) (*http.Request, error) {
	o := c.outgoing(i)
	u, err := url.Parse(i.url.text(c.value))
	if err != nil {
		return nil, errInternal.because("the integration's URL can't be read: " + err.Error())
	}
	if o.path != "" {
		if u.Path, err = url.PathUnescape(o.path); err != nil {
			return nil, errInternal.because("a mapping overwrites the path by what is none: " + o.path)
		}
		u.RawPath = o.path
	}
	if o.query != "" {
		if u.RawQuery != "" {
			u.RawQuery += "&"
		}
		u.RawQuery += o.query
	}
	method := i.Method
	if method == "ANY" {
		method = c.http.Method
	}
	r, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(c.body))
	if err != nil {
		return nil, errInternal.because("the integration's URL can't be read: " + err.Error())
	}
	r.Header = o.header.Clone()
	withoutHop(r.Header)
	if c.who.id != nil { // what proves who the caller is, is not the backend's
		r.Header.Del("Authorization")
		r.Header.Del("X-Amz-Security-Token")
	}
	if i.TLS != nil && i.TLS.ServerName != "" {
		r.Host = i.TLS.ServerName
	}
	proto := "http"
	if c.http.TLS != nil {
		proto = "https"
	}
	from := gateway.SourceIP(c.http)
	if strings.Contains(from, ":") {
		from = `"[` + from + `]"`
	}
	r.Header.Add("Forwarded", "for="+from+`;host="`+strings.ReplaceAll(c.http.Host, `"`, "")+`";proto=`+proto)
	r.Header.Add("Via", "HTTP/1.1 HearthHTTPAPI")
	r.Header.Set("X-Amzn-Trace-Id", c.traceID)
	if r.Header["User-Agent"] == nil {
		r.Header["User-Agent"] = nil // not Go's own
	}
	return r, nil
}

// unreached is the refusal for a backend that gave no answer.
func (c *call) unreached(ctx context.Context, err error) error {
	switch {
	case c.ctx.Err() != nil:
		return errGone
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return errUnavailable.because("the integration took longer than its timeout")
	}
	return errUnavailable.because("the backend gave no answer: " + err.Error())
}
