package proxy

import (
	"errors"
	"net/http"
	"strings"
	"time"
)

// Fault is what kept a call from its response. Mappings may say what each is
// answered with.
type Fault string

// The faults.
const (
	NoSuchPath      Fault = "NoSuchPath"
	NoSuchResource  Fault = "NoSuchResource"
	WrongMethod     Fault = "WrongMethod"
	Unauthorized    Fault = "Unauthorized"   // no credentials, or bad ones
	Forbidden       Fault = "Forbidden"      // good ones of somebody who may not
	Throttled       Fault = "Throttled"      // more calls than the API takes
	BadRequest      Fault = "BadRequest"     // what was sent does not fit the mapping
	BodyTooLarge    Fault = "BodyTooLarge"   // in either direction
	UnknownFormat   Fault = "UnknownFormat"  // of the request's body
	NotAcceptable   Fault = "NotAcceptable"  // no format that is asked for
	Conflict        Fault = "Conflict"       // the state has changed meanwhile
	FunctionFailed  Fault = "FunctionFailed" // the code threw, or ended
	FunctionTimeout Fault = "FunctionTimeout"
	Timeout         Fault = "Timeout"       // the call's own time was up
	Overloaded      Fault = "Overloaded"    // the execution service takes no more
	Unavailable     Fault = "Unavailable"   // the execution service can't be reached, or fails
	Refused         Fault = "Refused"       // the execution service has no such function, or will not run it
	MappingFailed   Fault = "MappingFailed" // the mapping can't make of the result what it is to
	StateMismatch   Fault = "StateMismatch" // the state is such that the change can't be made
	Internal        Fault = "Internal"      // a failure here, such as of the disk
	TooManyCalls    Fault = "TooManyCalls"  // asynchronous ones that wait
	NoSuchCall      Fault = "NoSuchCall"    // no asynchronous call with that handle
	CallerLeft      Fault = "CallerLeft"    // before there was a response
)

// Faults are all of them.
var Faults = []Fault{
	NoSuchPath, NoSuchResource, WrongMethod, Unauthorized, Forbidden, Throttled, BadRequest, BodyTooLarge, UnknownFormat, NotAcceptable,
	Conflict, FunctionFailed, FunctionTimeout, Timeout, Overloaded, Unavailable, Refused, MappingFailed, StateMismatch, Internal, TooManyCalls, NoSuchCall, CallerLeft,
}

var faultStatus = map[Fault]int{
	NoSuchPath: http.StatusNotFound, NoSuchResource: http.StatusNotFound, WrongMethod: http.StatusMethodNotAllowed,
	Unauthorized: http.StatusUnauthorized, Forbidden: http.StatusForbidden, Throttled: http.StatusTooManyRequests,
	BadRequest: http.StatusBadRequest, BodyTooLarge: http.StatusRequestEntityTooLarge, UnknownFormat: http.StatusUnsupportedMediaType,
	NotAcceptable: http.StatusNotAcceptable, Conflict: http.StatusConflict,
	FunctionFailed: http.StatusBadGateway, FunctionTimeout: http.StatusGatewayTimeout, Timeout: http.StatusGatewayTimeout,
	Overloaded: http.StatusServiceUnavailable, Unavailable: http.StatusServiceUnavailable, Refused: http.StatusBadGateway,
	MappingFailed: http.StatusInternalServerError, StateMismatch: http.StatusConflict, Internal: http.StatusInternalServerError,
	TooManyCalls: http.StatusServiceUnavailable, NoSuchCall: http.StatusNotFound, CallerLeft: 499,
}

// Status is the HTTP status of a fault to which no mapping gives another.
func (f Fault) Status() int { return faultStatus[f] }

func joinFaults() string {
	names := make([]string, len(Faults))
	for i, f := range Faults {
		names[i] = string(f)
	}
	return strings.Join(names, ", ")
}

// fault is the error of a call. Message is what the caller is told; Type and
// Detail are the function's own error, for the mapping and the decision.
type fault struct {
	Fault
	status     int // 0 is the fault's
	message    string
	typ        string
	detail     string
	retryAfter time.Duration
	allow      []string // methods, of WrongMethod
	challenge  string   // the header WWW-Authenticate; "" is none
	err        error    // for the log
}

func (f *fault) Error() string {
	s := string(f.Fault) + ": " + f.message
	if f.detail != "" {
		s += ": " + f.detail
	}
	if f.err != nil {
		s += ": " + f.err.Error()
	}
	return s
}

func (f *fault) Unwrap() error { return f.err }

func faultOf(err error) *fault {
	if f, ok := errors.AsType[*fault](err); ok {
		return f
	}
	return &fault{Fault: Internal, message: "The proxy failed; its log says why.", err: err}
}
