package lambda

import (
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"

	hearth "github.com/hearth-faas/hearth"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/traits"
)

// Kinds that only the wire knows.
const (
	kindSerialization = hearth.Malformed
)

// errorShape is how an exception looks on the wire.
type errorShape struct {
	status  int
	message string // how the shape spells its message's member
	fault   string // "User" or "Server"
}

// errorShapes are the exceptions of the API's model by name.
var errorShapes = sync.OnceValue(func() map[string]errorShape {
	shapes := map[string]errorShape{}
	for _, entry := range sdk.TypeRegistry.Entries {
		trait, ok := smithy.SchemaTrait[*traits.HTTPError](entry.Schema)
		if !ok {
			continue
		}
		shape := errorShape{status: trait.Code, message: "message", fault: "User"}
		if trait.Code >= 500 {
			shape.fault = "Server"
		}
		for name := range entry.Schema.Members() {
			if strings.EqualFold(name, "message") {
				shape.message = name
			}
		}
		shapes[entry.Schema.ID().Name] = shape
	}
	return shapes
})

// shapeOf is the shape of kind; those that the model does not list (the
// signature's errors, ValidationException, Hearth's own) take their status
// from the table of kinds and spell their message in lower case.
func shapeOf(kind hearth.Kind) errorShape {
	if s, ok := errorShapes()[string(kind)]; ok {
		return s
	}
	s := errorShape{status: kind.Status(), message: "message"}
	if s.status >= 500 && kind != hearth.NotBuilt {
		s.fault = "Server"
	}
	return s
}

// asError finds what to tell the caller about err. What is not a
// *hearth.Error is told as a ServiceException without its text, which may
// hold what is none of the caller's business.
func asError(err error) *hearth.Error {
	if e, ok := errors.AsType[*hearth.Error](err); ok {
		return e
	}
	return &hearth.Error{Kind: hearth.Service, Message: "An internal error occurred.", Err: err}
}

// encodeError is the answer to an error, as the Lambda API gives it.
func encodeError(err error) answer {
	e := asError(err)
	shape := shapeOf(e.Kind)
	a := answer{status: shape.status, header: http.Header{
		"Content-Type":     {"application/json"},
		"X-Amzn-Errortype": {string(e.Kind)},
	}}
	if e.Kind == hearth.TooManyRequests {
		// Whole seconds, and at least one: what is throttled now is hardly
		// served at once.
		a.header["Retry-After"] = []string{strconv.Itoa(max(int(math.Ceil(e.RetryAfter.Seconds())), 1))}
	}
	b := make([]byte, 0, 64+len(e.Message))
	b = append(b, '{')
	if e.Reason != "" {
		b = append(b, `"Reason":`...)
		b = append(appendString(b, e.Reason), ',')
	}
	if shape.fault != "" {
		b = append(b, `"Type":"`+shape.fault+`",`...)
	}
	b = append(appendString(b, shape.message), ':')
	a.body = append(appendString(b, e.Message), '}')
	return a
}

// write sends a and returns what went wrong, which is the caller's
// connection.
func (a answer) write(w http.ResponseWriter, requestID string) error {
	h := w.Header()
	for name, values := range a.header {
		h[name] = values
	}
	h["X-Amzn-Requestid"] = []string{requestID}
	if a.status != http.StatusNoContent {
		h["Content-Length"] = []string{strconv.Itoa(len(a.body))}
	}
	w.WriteHeader(a.status)
	if a.status == http.StatusNoContent || len(a.body) == 0 {
		return nil
	}
	_, err := w.Write(a.body)
	return err
}

// logError writes down the errors that are the server's.
func logError(log *slog.Logger, requestID, op string, err error) {
	if e := asError(err); shapeOf(e.Kind).status >= 500 && e.Kind != hearth.NotBuilt {
		log.Error("request failed", "request", requestID, "operation", op, "error", err)
	}
}
