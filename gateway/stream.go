package gateway

import (
	"net/http"
	"time"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/stream"
)

// stream runs the function and passes its response on while it comes.
func (g *Gateway) stream(w http.ResponseWriter, q *request, inv *hearth.Invocation) {
	s := &response{w: w, out: stream.New(w, g.StreamStall), q: q}
	inv.Stream = s
	result, err := g.Invoker.Invoke(q.http.Context(), inv)
	if err == nil && result.FunctionError != "" {
		err = ErrFunction
	}
	if s.err != nil && !s.begun { // a prelude that cannot be understood
		err = s.err
	}
	if err == nil && !s.begun {
		err = s.whole(result)
	}
	broken := s.begun && (err != nil || s.err != nil)
	switch {
	case err != nil && !s.begun:
		g.fail(w, q, err)
	case broken:
		g.Log.Debug("a streamed response broke off", "request", q.requestID, "error", err, "client", s.err)
		if err != nil {
			g.logError(q, err)
		}
	default:
		if err := s.out.End(); err != nil {
			g.Log.Debug("the caller left before the answer's end", "request", q.requestID, "error", err)
		}
	}
	g.finish(inv)
	if broken {
		// The status has been sent: all that can tell the client is that the
		// connection ends before the response does.
		panic(http.ErrAbortHandler)
	}
}

// response is an HTTP response that is being streamed. It implements
// hearth.ResponseStream.
type response struct {
	w       http.ResponseWriter
	out     *stream.Writer
	q       *request
	prelude *prelude // not nil while it is being read
	begun   bool     // the header was written
	noBody  bool
	err     error // the first
}

// Start begins the response, unless its beginning is still to come.
func (s *response) Start(contentType string, deadline time.Time) error {
	s.out.Until(deadline)
	if contentType == integrationType {
		s.prelude = &prelude{}
		return nil
	}
	s.begin(&Answer{Status: http.StatusOK, Header: http.Header{"Content-Type": {contentType}}})
	return s.flush()
}

func (s *response) begin(a *Answer) {
	s.begun, s.noBody = true, !HasBody(a.Status)
	a.head(s.w, s.q)
	s.w.WriteHeader(a.Status)
}

func (s *response) flush() error {
	if s.err == nil {
		s.err = s.out.Flush()
	}
	return s.err
}

// Write passes a piece on.
func (s *response) Write(p []byte) (int, error) {
	n := len(p)
	if s.err == nil && s.prelude != nil {
		var a *Answer
		if a, p, s.err = s.prelude.take(p); a != nil {
			s.prelude = nil
			s.begin(a)
			if len(p) == 0 {
				s.err = s.out.Flush()
			}
		}
	}
	if s.err == nil && len(p) > 0 && !s.noBody {
		_, s.err = s.out.Write(p)
	}
	if s.err != nil {
		return 0, s.err
	}
	return n, nil
}

// whole answers what the function returned without streaming it. A URL of this
// mode does not look into it.
func (s *response) whole(r *hearth.Result) error {
	if s.prelude != nil { // the function ended amid it
		return ErrFunction
	}
	if r.ContentType == integrationType {
		a, err := AnswerOf(r)
		if err != nil {
			return err
		}
		s.begin(a)
		_, err = s.Write(a.Body)
		return err
	}
	contentType := r.ContentType
	if contentType == "" {
		contentType = "application/json"
	}
	s.begin(&Answer{Status: http.StatusOK, Header: http.Header{"Content-Type": {contentType}}})
	_, err := s.Write(r.Payload)
	return err
}
