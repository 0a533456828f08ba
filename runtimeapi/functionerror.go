package runtimeapi

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// Error types that the service itself gives to failed invocations, as they
// appear in a caller's payload and in the log.
const (
	TypeExit            = "Runtime.ExitError"
	TypeOutOfMemory     = "Runtime.OutOfMemory"
	TypeTimedOut        = "Sandbox.Timedout"
	TypeTooLarge        = "Function.ResponseSizeTooLarge"
	TypeTruncated       = "Runtime.TruncatedResponse"
	TypeResponseMode    = "Runtime.InvalidResponseModeHeader"
	TypeUnknown         = "Runtime.Unknown"
	TypeFunctionUnknown = "Function.Unknown"
	TypeEntrypoint      = "Runtime.InvalidEntrypoint"
	TypeWorkingDir      = "Runtime.InvalidWorkingDir"
)

// FunctionError is a failure of a function or of its runtime, in the form that
// a caller of the function gets.
type FunctionError struct {
	Type string // such as TypeExit
	Body []byte // the caller's payload, JSON
}

// Error gives the type and the body, for the log.
func (e *FunctionError) Error() string { return e.Type + ": " + string(e.Body) }

// NewFunctionError makes a FunctionError whose body has the service's form
// {"errorType", "errorMessage"}.
func NewFunctionError(errorType, message string) *FunctionError {
	body, err := json.Marshal(struct {
		Type    string `json:"errorType"`
		Message string `json:"errorMessage"`
	}{errorType, message})
	if err != nil {
		panic(err) // two strings always have a JSON form
	}
	return &FunctionError{Type: errorType, Body: body}
}

// Exited is the error of an invocation whose runtime ended before it answered.
// signal is "" or a name such as "killed".
func Exited(requestID string, code int, signal string) *FunctionError {
	return NewFunctionError(TypeExit, "RequestId: "+requestID+" Error: "+ExitReason(code, signal))
}

// ExitReason words how a runtime ended: "Runtime exited with error: exit
// status 1".
func ExitReason(code int, signal string) string {
	switch {
	case signal != "":
		return "Runtime exited with error: signal: " + signal
	case code != 0:
		return "Runtime exited with error: exit status " + strconv.Itoa(code)
	default:
		return "Runtime exited without providing a reason"
	}
}

// OutOfMemory is the error of an invocation that ran into its function's
// memory limit. The service words it as a kill, and tells it from other kills
// by the type alone.
func OutOfMemory(requestID string) *FunctionError {
	return NewFunctionError(TypeOutOfMemory, "RequestId: "+requestID+" Error: "+ExitReason(0, "killed"))
}

// TimedOut is the error of an invocation that took longer than its function's
// timeout. The service has worded it so since 2024; before, the body had only
// an errorMessage that began with the time.
func TimedOut(requestID string, timeout time.Duration) *FunctionError {
	return NewFunctionError(TypeTimedOut, fmt.Sprintf("RequestId: %s Error: Task timed out after %.2f seconds", requestID, timeout.Seconds()))
}

// InvalidEntrypoint is the error of a function whose program could not be
// started; reason is such as "fork/exec /var/task/bootstrap: exec format error".
func InvalidEntrypoint(requestID, reason string) *FunctionError {
	return NewFunctionError(TypeEntrypoint, "RequestId: "+requestID+" Error: "+reason)
}

// InvalidWorkingDir is the error of a function whose working directory is not
// there; reason is such as "chdir /app: no such file or directory".
func InvalidWorkingDir(requestID, reason string) *FunctionError {
	return NewFunctionError(TypeWorkingDir, "RequestId: "+requestID+" Error: "+reason)
}

// tooLarge is the error of a response beyond limit bytes.
func tooLarge(limit int) *FunctionError {
	return NewFunctionError(TypeTooLarge, fmt.Sprintf("Response payload size exceeded maximum allowed payload size (%d bytes).", limit))
}

// truncated is the error of a response that broke off.
func truncated(requestID string) *FunctionError {
	return NewFunctionError(TypeTruncated, "RequestId: "+requestID+" Error: the response ended before it was complete")
}

// invalidMode is the error of a response with an unknown
// Lambda-Runtime-Function-Response-Mode.
func invalidMode(requestID string) *FunctionError {
	return NewFunctionError(TypeResponseMode, "RequestId: "+requestID+" Error: Invalid function response mode")
}

// validType returns what the service makes of an error type that a runtime
// reported: itself if it is of the form Runtime.Xyz or Function.Xyz, otherwise
// one of the two unknowns. A runtime may also report nothing.
func validType(t []byte) string {
	const runtime, function = "Runtime.", "Function."
	rest, fallback := t, TypeUnknown
	switch {
	case len(t) > len(runtime) && string(t[:len(runtime)]) == runtime:
		rest = t[len(runtime):]
	case len(t) >= len(function) && string(t[:len(function)]) == function:
		rest, fallback = t[len(function):], TypeFunctionUnknown
	default:
		return fallback
	}
	const longest = 128 // it goes into a log line
	if len(rest) < 2 || len(rest) > longest || rest[0] < 'A' || rest[0] > 'Z' {
		return fallback
	}
	for _, b := range rest {
		if (b|0x20 < 'a' || b|0x20 > 'z') && (b < '0' || b > '9') && b != '_' && b != '.' {
			return fallback
		}
	}
	return string(t)
}
