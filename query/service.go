package query

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	hearth "github.com/hearth-faas/hearth"
)

// Service is a service that speaks the query protocol. Safe for concurrent
// use.
type Service struct {
	Name       string // such as IAM
	Version    string // of its API, such as 2010-05-08
	Namespace  string // of its XML
	Operations map[string]Operation
	// Authorize tells whether a caller may do an operation, before it is done;
	// nil is that all may.
	Authorize func(ctx context.Context, c *Call, action string) error
	// Beyond says of an operation that the service has elsewhere, and Hearth
	// does not have, why; "" is of a name that no operation has.
	Beyond func(action string) string
}

// Call is one request, whose signature was checked.
type Call struct {
	Caller    hearth.Identity
	Temporary bool // signed with a session's credentials
	RequestID string
	Form      url.Values // the parameters, Action among them
}

// Operation serves a call, and returns its output: nil is none.
type Operation func(ctx context.Context, c *Call) (any, error)

// Serve fits a function into a table of operations. The input is what is
// decoded from the form and checked against members.
func Serve[I, O any](members Members, f func(ctx context.Context, c *Call, in *I) (*O, error)) Operation {
	return func(ctx context.Context, c *Call) (any, error) {
		in := new(I)
		if err := decode(c.Form, in); err != nil {
			return nil, err
		}
		if err := members.check(in); err != nil {
			return nil, err
		}
		out, err := f(ctx, c, in)
		if err != nil || out == nil {
			return nil, err
		}
		return out, nil
	}
}

// Nothing is the output of an operation that has none: return nil.
type Nothing struct{}

// Serve answers a call: with the operation's output or with its error, which
// is returned too, for the log.
func (s *Service) Serve(ctx context.Context, c *Call) (status int, body []byte, err error) {
	action := c.Form.Get("Action")
	var out any
	switch run := s.Operations[action]; {
	case action == "":
		err = hearth.Errorf(missingAction, "Missing Action")
	case c.Form.Get("Version") != s.Version && c.Form.Get("Version") != "":
		err = s.unknown(action, c.Form.Get("Version"))
	case run != nil:
		if s.Authorize != nil {
			err = s.Authorize(ctx, c, action)
		}
		if err == nil {
			out, err = run(ctx, c)
		}
	default:
		if s.Beyond != nil && s.Beyond(action) != "" {
			err = hearth.Errorf(hearth.UnknownOperation, "%s", s.Beyond(action))
		} else {
			err = s.unknown(action, s.Version)
		}
	}
	if err == nil {
		body, err = encode(s.Namespace, action, out, c.RequestID)
	}
	if err != nil {
		status, body = s.Refuse(err, c.RequestID)
		return status, body, err
	}
	return http.StatusOK, body, nil
}

func (s *Service) unknown(action, version string) error {
	return hearth.Errorf(hearth.UnknownOperation, "Could not find operation %s for version %s", action, version)
}

// Refuse is the answer to an error.
func (s *Service) Refuse(err error, requestID string) (status int, body []byte) {
	return encodeError(s.Namespace, err, requestID)
}

// Beyond says for all of the names that Hearth's version of a service does not
// have them, and what it has instead.
func Beyond(service, has string, names ...string) func(action string) string {
	known := map[string]bool{}
	for _, name := range names {
		known[name] = true
	}
	return func(action string) string {
		if !known[action] {
			return ""
		}
		return fmt.Sprintf("%s's operation %s is not built in this version of Hearth: it has %s.", service, action, has)
	}
}
