package lambda

import (
	"encoding/base64"
	"errors"
	"net/http"
	"time"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/stream"

	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream"
	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream/eventstreamapi"
)

// maxChunk bounds the payload of one event of a response that was not
// streamed by the function, in bytes.
const maxChunk = 64 << 10

// invokeStream serves InvokeWithResponseStream. Until the function has sent
// its first byte, what goes wrong is an ordinary refusal; after it, the last
// event tells.
func (h *Handler) invokeStream(w http.ResponseWriter, c *call) {
	inv, err := h.takeIn(c)
	if err != nil {
		h.refuse(w, c, restJSON, err)
		return
	}
	s := &eventStream{http: w, out: stream.New(w, h.StreamStall), inv: inv, encoder: eventstream.NewEncoder()}
	inv.Stream = s
	result, err := h.Invoker.Invoke(c.ctx, inv)
	switch {
	case err != nil && !s.begun:
		h.refuse(w, c, restJSON, err)
	case err != nil:
		logError(h.Log, c.requestID, streamOperation.name, err)
		s.fail(err)
	case inv.DryRun:
		h.send(w, c, answer{status: http.StatusNoContent})
	default:
		s.complete(result)
	}
	if s.err != nil {
		h.Log.Debug("the caller left before the answer", "request", inv.RequestID, "error", s.err)
	}
	h.finish(inv)
}

// eventStream writes a function's response as the events of
// InvokeWithResponseStreamResponseEvent. It implements hearth.ResponseStream.
type eventStream struct {
	http    http.ResponseWriter
	out     *stream.Writer
	inv     *hearth.Invocation
	encoder *eventstream.Encoder
	begun   bool
	err     error // the first, after which the connection is of no use
}

// Start sends the head of the answer.
func (s *eventStream) Start(_ string, deadline time.Time) error {
	s.out.Until(deadline)
	s.begin(s.inv.Function.Version)
	if s.err == nil {
		s.err = s.out.Flush()
	}
	return s.err
}

func (s *eventStream) begin(version string) {
	if s.begun {
		return
	}
	s.begun = true
	header := s.http.Header()
	header["Content-Type"] = []string{"application/vnd.amazon.eventstream"}
	header["X-Amzn-Requestid"] = []string{s.inv.RequestID}
	header[headerExecutedVersion] = []string{version}
	header[headerTraceID] = []string{s.inv.TraceID}
	if s.inv.Function != nil && s.inv.Function.Shared == nil && s.inv.Function.Package.SHA256 != "" {
		header[headerCodeSHA256] = []string{s.inv.Function.Package.SHA256}
	}
	s.http.WriteHeader(http.StatusOK)
}

// Write sends a piece of the response.
func (s *eventStream) Write(p []byte) (int, error) {
	s.send(eventstreamapi.EventMessageType, eventstreamapi.EventTypeHeader, "PayloadChunk", "application/octet-stream", p)
	if s.err != nil {
		return 0, s.err
	}
	return len(p), nil
}

func (s *eventStream) send(kind, nameHeader, name, contentType string, payload []byte) {
	if s.err != nil {
		return
	}
	s.err = s.encoder.Encode(s.out, eventstream.Message{
		Headers: eventstream.Headers{
			{Name: nameHeader, Value: eventstream.StringValue(name)},
			{Name: eventstreamapi.ContentTypeHeader, Value: eventstream.StringValue(contentType)},
			{Name: eventstreamapi.MessageTypeHeader, Value: eventstream.StringValue(kind)},
		},
		Payload: payload,
	})
}

// complete sends what of the response was not streamed, and the last event.
func (s *eventStream) complete(r *hearth.Result) {
	s.begin(r.Version)
	s.out.Until(time.Time{})
	if r.FunctionError == "" {
		for rest := r.Payload; len(rest) > 0 && s.err == nil; {
			n := min(len(rest), maxChunk)
			_, _ = s.Write(rest[:n]) // its error is s.err
			rest = rest[n:]
		}
	}
	var b []byte
	member := func(name, value string) {
		separator := byte(',')
		if b == nil {
			separator = '{'
		}
		b = append(appendString(append(b, separator), name), ':')
		b = appendString(b, value)
	}
	if r.FunctionError != "" {
		member("ErrorCode", r.FunctionError)
		member("ErrorDetails", string(r.Payload))
	}
	if r.LogTail != nil {
		member("LogResult", base64.StdEncoding.EncodeToString(r.LogTail))
	}
	if b == nil {
		b = append(b, '{')
	}
	s.send(eventstreamapi.EventMessageType, eventstreamapi.EventTypeHeader, "InvokeComplete", "application/json", append(b, '}'))
	s.end()
}

// fail sends an exception as the last event: the response broke off by no
// fault of the function.
func (s *eventStream) fail(err error) {
	s.out.Until(time.Time{})
	if e := asError(err); e.Kind != hearth.Canceled {
		s.send(eventstreamapi.ExceptionMessageType, eventstreamapi.ExceptionTypeHeader, string(e.Kind), "application/json", encodeError(err).body)
	}
	s.end()
}

func (s *eventStream) end() {
	if err := s.out.End(); s.err == nil && !errors.Is(err, http.ErrNotSupported) {
		s.err = err
	}
}
