package query

import (
	"encoding/xml"
	"errors"
	"net/http"
	"strings"

	hearth "github.com/hearth-faas/hearth"
)

// missingAction is of a request that names no operation.
const missingAction hearth.Kind = "MissingAction"

// codes are the names that services with this protocol give to errors which
// Lambda names otherwise. Of the rest, Exception is cut off.
var codes = map[hearth.Kind]string{
	hearth.InvalidSignature:   "SignatureDoesNotMatch",
	hearth.UnrecognizedClient: "InvalidClientTokenId",
	hearth.UnknownOperation:   "InvalidAction",
	hearth.Validation:         "ValidationError",
	hearth.Service:            "InternalFailure",
	hearth.NotBuilt:           "NotImplemented",
	hearth.EntityTooLarge:     "RequestEntityTooLarge",
	hearth.TooManyRequests:    "Throttling", // which SDKs try again
}

// statusOf is the status of an error: that of its kind, but for those that the
// protocol answers otherwise.
func statusOf(k hearth.Kind) int {
	switch k {
	case hearth.UnknownOperation, hearth.TooManyRequests, missingAction:
		return http.StatusBadRequest
	}
	return k.Status()
}

type errorResponse struct {
	XMLName   xml.Name `xml:"ErrorResponse"`
	Namespace string   `xml:"xmlns,attr"`
	Type      string   `xml:"Error>Type"`
	Code      string   `xml:"Error>Code"`
	Message   string   `xml:"Error>Message"`
	RequestID string   `xml:"RequestId"`
}

// encodeError is the answer to an error. One that is not a *hearth.Error is
// told without its text, which may hold what is none of the caller's business.
func encodeError(namespace string, err error, requestID string) (status int, body []byte) {
	e, ok := errors.AsType[*hearth.Error](err)
	if !ok {
		e = &hearth.Error{Kind: hearth.Service, Message: "An internal error occurred."}
	}
	code, ok := codes[e.Kind]
	if !ok {
		code = strings.TrimSuffix(string(e.Kind), "Exception")
	}
	status = statusOf(e.Kind)
	fault := "Sender"
	if status >= http.StatusInternalServerError && e.Kind != hearth.NotBuilt {
		fault = "Receiver"
	}
	body, err = xml.Marshal(errorResponse{Namespace: namespace, Type: fault, Code: code, Message: e.Message, RequestID: requestID})
	if err != nil {
		panic(err) // a fixed struct of strings
	}
	return status, body
}
