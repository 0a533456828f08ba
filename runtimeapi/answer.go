package runtimeapi

import (
	"net/http"
	"strconv"
)

// Answers that never change are kept as the bytes that go out.
var (
	continueAnswer = []byte("HTTP/1.1 100 Continue\r\n\r\n")
	acceptedBody   = []byte("{\"status\":\"OK\"}\n")
	acceptedAnswer = appendAnswer(nil, http.StatusAccepted, "application/json", nil, acceptedBody, false, false)
)

// The error types of answers to a runtime that asked for something impossible.
const (
	invalidTransition  = "InvalidStateTransition"
	invalidRequestID   = "InvalidRequestID"
	invalidModeHeader  = "InvalidFunctionResponseMode"
	entityTooLarge     = "RequestEntityTooLarge"
	truncatedRequest   = "TruncatedHTTPRequest"
	malformedRequest   = "MalformedHTTPRequest" // ours; the service's has no body
	unsupportedRequest = "UnsupportedHTTPRequest"
)

// appendAnswer appends a whole answer to dst. head says that the request was a
// HEAD, whose answer has no body; last, that the connection is closed after it.
func appendAnswer(dst []byte, status int, contentType string, header [][2]string, body []byte, head, last bool) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, ' ')
	dst = append(dst, http.StatusText(status)...)
	if contentType != "" {
		dst = append(dst, "\r\nContent-Type: "...)
		dst = appendHeaderValue(dst, contentType)
	}
	for _, h := range header {
		dst = append(dst, "\r\n"...)
		dst = append(dst, h[0]...)
		dst = append(dst, ": "...)
		dst = appendHeaderValue(dst, h[1])
	}
	if last {
		dst = append(dst, "\r\nConnection: close"...)
	}
	dst = append(dst, "\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(body)), 10)
	dst = append(dst, "\r\n\r\n"...)
	if !head {
		dst = append(dst, body...)
	}
	return dst
}

// appendEventHead appends the head of the answer to "next".
func appendEventHead(dst []byte, ev *Event) []byte {
	dst = append(dst, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: "...)
	dst = append(dst, ev.RequestID...)
	dst = append(dst, "\r\nLambda-Runtime-Deadline-Ms: "...)
	dst = strconv.AppendInt(dst, ev.Deadline.UnixMilli(), 10)
	dst = append(dst, "\r\nLambda-Runtime-Invoked-Function-Arn: "...)
	dst = appendHeaderValue(dst, ev.ARN)
	dst = appendHeader(dst, "\r\nLambda-Runtime-Trace-Id: ", ev.TraceID)
	dst = appendHeader(dst, "\r\nLambda-Runtime-Client-Context: ", ev.ClientContext)
	dst = appendHeader(dst, "\r\nLambda-Runtime-Cognito-Identity: ", ev.CognitoID)
	dst = appendHeader(dst, "\r\nLambda-Runtime-Aws-Tenant-Id: ", ev.TenantID)
	dst = append(dst, "\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(ev.Payload)), 10)
	return append(dst, "\r\n\r\n"...)
}

// appendHeader appends a header that is left out when it is empty.
func appendHeader(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	return appendHeaderValue(append(dst, name...), value)
}

// appendHeaderValue appends a value with its control characters made blanks:
// a caller's JSON may have line ends, which must not end the header.
func appendHeaderValue(dst []byte, value string) []byte {
	at := len(dst)
	dst = append(dst, value...)
	for i := at; i < len(dst); i++ {
		if dst[i] < ' ' || dst[i] == 0x7f {
			dst[i] = ' '
		}
	}
	return dst
}

// errorBody renders an error for the runtime, in the service's order.
func errorBody(errorType, message string) []byte {
	b := append([]byte(nil), `{"errorMessage":`...)
	b = strconv.AppendQuote(b, message) // ASCII of our own: Go's quoting is JSON's
	b = append(b, `,"errorType":`...)
	b = strconv.AppendQuote(b, errorType)
	return append(b, "}\n"...)
}

// answerMalformed maps a request that cannot be understood to its answer.
func answerMalformed(err error) (status int, errorType, message string) {
	switch err {
	case errHeadTooBig:
		return http.StatusRequestHeaderFieldsTooLarge, malformedRequest, err.Error()
	case errEncoding:
		return http.StatusNotImplemented, unsupportedRequest, err.Error()
	case errVersion:
		return http.StatusHTTPVersionNotSupported, unsupportedRequest, err.Error()
	case errExpectation:
		return http.StatusExpectationFailed, unsupportedRequest, err.Error()
	case errTruncated:
		return http.StatusBadRequest, truncatedRequest, "HTTP request detected as truncated"
	default:
		return http.StatusBadRequest, malformedRequest, errMalformed.Error()
	}
}
