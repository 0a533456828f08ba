package resource

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/idempotent"
)

// page asks for a page's validators, by HEAD or, where the server has no such
// method, by GET without reading the body.
func (s *States) page(ctx context.Context, d *hearth.Dependency) (idempotent.State, error) {
	for _, method := range []string{http.MethodHead, http.MethodGet} {
		r, err := http.NewRequestWithContext(ctx, method, d.HTTP, nil)
		if err != nil {
			return idempotent.State{}, errors.New("it is no URL")
		}
		for name, value := range d.Headers {
			r.Header.Set(name, value)
		}
		answer, err := s.client.Do(r)
		if err != nil {
			return idempotent.State{}, plain(err)
		}
		answer.Body.Close() // unread: the connection is not worth the page
		if method == http.MethodHead && (answer.StatusCode == http.StatusMethodNotAllowed || answer.StatusCode == http.StatusNotImplemented) {
			continue
		}
		return stateOf(answer)
	}
	panic("not reached: GET is not tried twice")
}

// stateOf is what an answer tells. An ETag is trusted; a Last-Modified, which
// counts in seconds, only if it was over when the answer was given (RFC 9110,
// 8.8.2.2).
func stateOf(answer *http.Response) (idempotent.State, error) {
	switch answer.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusGone:
		return idempotent.State{Value: absent}, nil
	default:
		return idempotent.State{}, fmt.Errorf("the server answers %s", answer.Status)
	}
	h := answer.Header
	tag, modified := h.Get("ETag"), h.Get("Last-Modified")
	if tag == "" && modified == "" {
		return idempotent.State{}, errors.New("the server tells neither ETag nor Last-Modified")
	}
	state := idempotent.State{Value: strings.Join([]string{tag, modified, h.Get("Content-Length")}, " ")}
	if tag == "" {
		at, err := http.ParseTime(modified)
		now, err2 := http.ParseTime(h.Get("Date"))
		if err != nil || err2 != nil {
			return idempotent.State{}, errors.New("the server tells no ETag, and no times that can be read")
		}
		state.Unsettled = now.Sub(at) < 2*time.Second
	}
	return state, nil
}

// plain is the error of a request without its URL, which may have secrets in it.
func plain(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}
