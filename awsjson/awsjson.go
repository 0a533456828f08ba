// Package awsjson is the AWS JSON protocol, 1.0 and 1.1: the operation stands
// in X-Amz-Target, the input and the output are JSON bodies. A Service is a
// table of operations; who reads the request and checks its signature is not
// here.
package awsjson

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	hearth "github.com/hearth-faas/hearth"
)

// Request is one request of a service, read whole, whose signature was
// checked. Services with other protocols may be served with it too.
type Request struct {
	Caller    hearth.Identity
	RequestID string
	HTTP      *http.Request // its body was read
	Body      []byte
}

// Handler serves the requests of one service. It is told of each with the
// signature checked, and answers it; the error is for the log. Safe for
// concurrent use.
type Handler interface {
	Serve(w http.ResponseWriter, r *Request) error
}

// Operation serves a request, and returns its output: nil is an empty object.
type Operation func(ctx context.Context, r *Request) (any, error)

// Op fits a function into a table of operations. Members of the body that I
// does not have are ignored, as services do; a body that is not JSON, or whose
// members have other types, is refused with Malformed.
func Op[I, O any](f func(ctx context.Context, r *Request, in *I) (*O, error)) Operation {
	return func(ctx context.Context, r *Request) (any, error) {
		in := new(I)
		if len(r.Body) > 0 {
			if err := json.Unmarshal(r.Body, in); err != nil {
				return nil, hearth.Errorf(Malformed, "The request's body can't be read: %s", err)
			}
		}
		out, err := f(ctx, r, in)
		if err != nil || out == nil {
			return nil, err
		}
		return out, nil
	}
}

// Nothing is the output of an operation that has none: return nil.
type Nothing struct{}

// Malformed is of a body that is not what the operation takes.
const Malformed = hearth.Malformed

// Code is how a service names an error.
type Code struct {
	Name   string // its shape, such as QueueDoesNotExist
	Status int    // 0 is 400
	Query  string // its name in the query protocol, if the service has both; "" is Name
}

// Service is a service that speaks the protocol. Its fields are set once.
// Safe for concurrent use.
type Service struct {
	Name       string // such as Amazon SQS, for messages
	Target     string // what stands before the operation in X-Amz-Target, such as AmazonSQS
	Version    string // of the protocol: 1.0 or 1.1
	Namespace  string // of the shapes of its errors, such as com.amazonaws.sqs; "" is none
	Operations map[string]Operation
	// Codes names the errors that the service has other names for than Hearth.
	Codes map[hearth.Kind]Code
	// Query has errors named in the header x-amzn-query-error too, for clients
	// that came to know the service by its query protocol.
	Query bool
}

// Speaks tells whether a request's target is the service's.
func (s *Service) Speaks(r *http.Request) bool {
	return strings.HasPrefix(r.Header.Get("X-Amz-Target"), s.Target+".")
}

// Serve implements Handler.
func (s *Service) Serve(w http.ResponseWriter, r *Request) error {
	name := strings.TrimPrefix(r.HTTP.Header.Get("X-Amz-Target"), s.Target+".")
	var out any
	var err error
	if run := s.Operations[name]; run != nil && r.HTTP.Method == http.MethodPost {
		out, err = run(r.HTTP.Context(), r)
	} else {
		err = hearth.Errorf(hearth.UnknownOperation, "%s has no operation %q here", s.Name, name)
	}
	body := []byte("{}")
	if err == nil && out != nil {
		body, err = json.Marshal(out)
	}
	if err != nil {
		s.Refuse(w, err)
		return err
	}
	s.send(w, http.StatusOK, body)
	return nil
}

// Refuse answers with an error. One that is not a *hearth.Error is told
// without its text, which may hold what is none of the caller's business.
func (s *Service) Refuse(w http.ResponseWriter, err error) {
	e, code := s.Describe(err)
	if s.Query {
		fault := "Sender"
		if code.Status >= http.StatusInternalServerError {
			fault = "Receiver"
		}
		w.Header().Set("X-Amzn-Query-Error", code.Query+";"+fault)
	}
	shape := code.Name
	if s.Namespace != "" {
		shape = s.Namespace + "#" + shape
	}
	body, err := json.Marshal(struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
	}{shape, e.Message})
	if err != nil {
		panic(err) // a fixed struct of strings
	}
	s.send(w, code.Status, body)
}

// Describe is the error as the service tells it, with nothing left out of its
// Code.
func (s *Service) Describe(err error) (*hearth.Error, Code) {
	e, ok := errors.AsType[*hearth.Error](err)
	if !ok {
		e = &hearth.Error{Kind: hearth.Service, Message: "An internal error occurred."}
	}
	code, ok := s.Codes[e.Kind]
	if !ok {
		code = Code{Name: string(e.Kind)}
		switch e.Kind {
		case hearth.Service:
			code = Code{Name: "InternalFailure", Status: http.StatusInternalServerError}
		case hearth.NotBuilt, hearth.Canceled:
			code.Status = e.Kind.Status()
		}
	}
	if code.Status == 0 {
		code.Status = http.StatusBadRequest
	}
	if code.Query == "" {
		code.Query = code.Name
	}
	return e, code
}

// send writes an answer. That it could not be written is the caller's affair,
// who has gone.
func (s *Service) send(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/x-amz-json-"+s.Version)
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
