package proxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/hearth-faas/hearth/proxy/body"
	"github.com/hearth-faas/hearth/proxy/expression"
)

// The response of a call: of its result, or of a fault.

// ownHeaders are not for mappings: they are the connection's, the format's, or
// say what the proxy knows.
var ownHeaders = map[string]bool{
	"Connection": true, "Keep-Alive": true, "Proxy-Authenticate": true, "Proxy-Connection": true, "Te": true, "Trailer": true,
	"Transfer-Encoding": true, "Upgrade": true, "Content-Length": true, "Content-Type": true, "Date": true, "Allow": true,
}

// answer makes the response of a result.
func (q *call) answer(ctx context.Context, result any) (*response, error) {
	vars := q.variables()
	vars["result"] = result
	if q.after != nil {
		vars["resource"] = q.after.variables()
	}
	r := &response{Status: http.StatusOK, Header: http.Header{}}
	if q.status != nil {
		v, err := q.status.Eval(ctx, vars)
		if err != nil {
			return nil, misfit(ctx, "status", err)
		}
		n := v.(int64) // it is compiled to be one
		if n < 200 || n > 599 {
			return nil, misfit(ctx, "status", fmt.Errorf("%d is no status from 200 to 599", n))
		}
		r.Status = int(n)
	}
	if err := setHeaders(ctx, r.Header, q.compiled.headers, vars); err != nil {
		return nil, misfit(ctx, "headers", err)
	}
	v := result
	if q.compiled.body != nil {
		var err error
		if v, err = q.compiled.body.Eval(ctx, vars); err != nil {
			return nil, misfit(ctx, "body", err)
		}
	}
	if err := r.encode(q.format, v, q.root()); err != nil {
		return nil, misfit(ctx, "body", err)
	}
	return r, nil
}

func (c *compiled) root() string {
	if c.Mapping.Root != "" {
		return c.Mapping.Root
	}
	return "response"
}

// encode sets the response's body, where its status has one.
func (r *response) encode(f body.Format, v any, root string) (err error) {
	if r.Status == http.StatusNoContent || r.Status == http.StatusNotModified {
		return nil
	}
	r.Body, err = body.Encode(f, v, root)
	r.Header.Set("Content-Type", f.ContentType())
	r.Header.Set("Vary", "Accept")
	return err
}

// setHeaders sets those to which the expression comes, if there is one.
func setHeaders(ctx context.Context, h http.Header, x *expression.Expression, vars map[string]any) error {
	if x == nil {
		return nil
	}
	v, err := x.Eval(ctx, vars)
	if err != nil {
		return err
	}
	m, _ := v.(map[string]any) // nil is none
	for name, v := range m {
		key := http.CanonicalHeaderKey(name)
		if !httpguts.ValidHeaderFieldName(name) || ownHeaders[key] || strings.HasPrefix(key, "X-Hearth-") {
			return fmt.Errorf("the header %.80q is not for mappings", name)
		}
		values, ok := v.([]any)
		if !ok {
			values = []any{v}
		}
		for _, v := range values {
			switch v.(type) {
			case string, bool, int64, float64:
			default:
				return fmt.Errorf("the header %s is neither a text nor a list of them", name)
			}
			text := fmt.Sprint(v)
			if !httpguts.ValidHeaderFieldValue(text) {
				return fmt.Errorf("the header %s has characters that a header can't have", name)
			}
			h.Add(key, text)
		}
	}
	return nil
}

// answerFault makes the response of a fault: as the mapping says, or as they all
// look. q may know no more than its format.
func (q *call) answerFault(ctx context.Context, f *fault) *response {
	r := &response{Status: f.status, Header: http.Header{}}
	if r.Status == 0 {
		r.Status = f.Status()
	}
	v := any(map[string]any{"error": map[string]any{"kind": string(f.Fault), "message": f.message, "request": q.id}})
	for i := range q.errors {
		e := &q.errors[i]
		if e.On != "*" && e.On != f.Fault || e.pattern != nil && !e.pattern.MatchString(f.typ) {
			continue
		}
		r.Status = e.Status
		if q.version != nil && q.request != nil { // else there is nothing that expressions could be about
			if mapped, ok := q.mapFault(ctx, e, f, r.Header); ok {
				v = mapped
			}
		}
		break
	}
	if f.retryAfter > 0 && r.Status >= 400 {
		r.Header.Set("Retry-After", strconv.Itoa(int(math.Ceil(f.retryAfter.Seconds()))))
	}
	if len(f.allow) > 0 {
		r.Header.Set("Allow", strings.Join(f.allow, ", "))
	}
	if f.challenge != "" {
		r.Header.Set("WWW-Authenticate", f.challenge)
	}
	if err := r.encode(q.format, v, "error"); err != nil {
		// Of what a mapping made only; the other always has a form.
		_ = r.encode(body.JSON, map[string]any{"error": map[string]any{"kind": string(f.Fault), "message": f.message, "request": q.id}}, "error")
	}
	return r
}

// mapFault evaluates an error mapping; it reports false if that fails, and then
// the fault is answered as it is.
func (q *call) mapFault(ctx context.Context, e *compiledError, f *fault, h http.Header) (v any, ok bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second) // the call's time may be up
	defer cancel()
	vars := q.variables()
	text := f.detail
	if text == "" {
		text = f.message
	}
	vars["error"] = map[string]any{"kind": string(f.Fault), "type": f.typ, "message": text}
	own := http.Header{}
	if err := setHeaders(ctx, own, e.headers, vars); err != nil {
		return nil, false
	}
	if e.body == nil {
		maps.Copy(h, own)
		return nil, false
	}
	v, err := e.body.Eval(ctx, vars)
	if err != nil {
		return nil, false
	}
	maps.Copy(h, own)
	return v, true
}

// asFault is the fault of an error of perform, and the outcome's name.
func asFault(err error) (f *fault, outcome string) {
	switch {
	case err == nil:
		return nil, "ok"
	case errors.Is(err, errCached):
		return nil, "cached"
	}
	f = faultOf(err)
	return f, string(f.Fault)
}
