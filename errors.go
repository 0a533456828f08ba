package hearth

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Kind is what sort of error it is. A kind that a caller of the Lambda API can
// see carries the API's own exception name; the table below gives its status.
type Kind string

// The kinds. Those that end in Exception are the Lambda API's.
const (
	InvalidParameter    Kind = "InvalidParameterValueException"
	Validation          Kind = "ValidationException"
	InvalidContent      Kind = "InvalidRequestContentException"
	NotFound            Kind = "ResourceNotFoundException"
	Conflict            Kind = "ResourceConflictException"
	AlreadyExists       Kind = "ResourceAlreadyExistsException" // of CloudWatch Logs
	TooManyTags         Kind = "TooManyTagsException"           // of CloudWatch Logs
	PreconditionFailed  Kind = "PreconditionFailedException"
	RequestTooLarge     Kind = "RequestTooLargeException"
	EntityTooLarge      Kind = "RequestEntityTooLargeException"
	UnsupportedMedia    Kind = "UnsupportedMediaTypeException"
	CodeStorageExceeded Kind = "CodeStorageExceededException"
	PolicyTooLong       Kind = "PolicyLengthExceededException"
	TooManyRequests     Kind = "TooManyRequestsException"
	NotReady            Kind = "ResourceNotReadyException"
	InvalidZip          Kind = "InvalidZipFileException"
	InvalidRuntime      Kind = "InvalidRuntimeException"
	Recursive           Kind = "RecursiveInvocationException"
	InUse               Kind = "ResourceInUseException"
	InvalidCode         Kind = "InvalidCodeSignatureException"
	UnverifiedCode      Kind = "CodeVerificationFailedException"
	NoSigningConfig     Kind = "CodeSigningConfigNotFoundException"
	KMSNotFound         Kind = "KMSNotFoundException"
	KMSDisabled         Kind = "KMSDisabledException"
	Service             Kind = "ServiceException"
	AccessDenied        Kind = "AccessDeniedException"
	MissingToken        Kind = "MissingAuthenticationTokenException"
	IncompleteSignature Kind = "IncompleteSignatureException"
	InvalidSignature    Kind = "InvalidSignatureException"
	UnrecognizedClient  Kind = "UnrecognizedClientException"
	ExpiredToken        Kind = "ExpiredTokenException"
	UnknownOperation    Kind = "UnknownOperationException"
	Malformed           Kind = "SerializationException" // of JSON services: a body that is not what the operation takes
	MalformedInput      Kind = "MalformedInput"         // the same of services with the query protocol
	CallbackTimeout     Kind = "CallbackTimeoutException"
	NotBuilt            Kind = "NotImplementedException" // Hearth's own: an operation of the API that it does not have yet

	DurableExecutionAlreadyStarted Kind = "DurableExecutionAlreadyStartedException"
	CapacityProviderLimit          Kind = "CapacityProviderLimitExceededException"
	VersionsPerProviderLimit       Kind = "FunctionVersionsPerCapacityProviderLimitExceededException"
	NoPublishedVersion             Kind = "NoPublishedVersionException"
	ProvisionedNotFound            Kind = "ProvisionedConcurrencyConfigNotFoundException"

	// Of IAM, whose errors have no Exception in their names.
	NoSuchEntity    Kind = "NoSuchEntity"
	EntityExists    Kind = "EntityAlreadyExists"
	DeleteConflict  Kind = "DeleteConflict"
	MalformedPolicy Kind = "MalformedPolicyDocument"
	LimitExceeded   Kind = "LimitExceeded"
	InvalidInput    Kind = "InvalidInput"

	InvalidPattern Kind = "InvalidEventPatternException" // of EventBridge

	// What keeps a function's image from being brought to where it runs; the
	// API has them as codes of reasons.
	ImageDeleted      Kind = "ImageDeleted"
	ImageAccessDenied Kind = "ImageAccessDenied"
	InvalidImage      Kind = "InvalidImage"

	// ContainerGone never reaches a caller: the manager tries another
	// container.
	ContainerGone Kind = "ContainerGone"
	// NodeGone never reaches a caller: another node is tried.
	NodeGone Kind = "NodeGone"
	// InitFailed never reaches a caller: a function's init phase failed that
	// nobody waited for.
	InitFailed Kind = "InitFailed"
	// Canceled: the caller went away.
	Canceled Kind = "Canceled"
)

var statuses = map[Kind]int{
	InvalidParameter: 400, Validation: 400, InvalidContent: 400,
	NotFound: 404, ProvisionedNotFound: 404, CapacityProviderLimit: 400, VersionsPerProviderLimit: 400, NoPublishedVersion: 400, Conflict: 409, AlreadyExists: 400, TooManyTags: 400, PreconditionFailed: 412,
	RequestTooLarge: 413, EntityTooLarge: 413, UnsupportedMedia: 415,
	CodeStorageExceeded: 400, PolicyTooLong: 400, TooManyRequests: 429, NotReady: 502,
	InvalidZip: 502, InvalidRuntime: 502, ImageDeleted: 502, ImageAccessDenied: 502, InvalidImage: 502, Recursive: 400, InUse: 400,
	InvalidCode: 400, UnverifiedCode: 400, NoSigningConfig: 404, KMSNotFound: 502, KMSDisabled: 502, Service: 500,
	AccessDenied: 403, MissingToken: 403, IncompleteSignature: 403,
	InvalidSignature: 403, UnrecognizedClient: 403, ExpiredToken: 403, UnknownOperation: 404, Malformed: 400, MalformedInput: 400,
	CallbackTimeout: 400, DurableExecutionAlreadyStarted: 409,
	NoSuchEntity: 404, EntityExists: 409, DeleteConflict: 409, MalformedPolicy: 400, LimitExceeded: 409, InvalidInput: 400, InvalidPattern: 400,
	NotBuilt: 501, ContainerGone: 500, NodeGone: 500, InitFailed: 500, Canceled: 499,
}

// Status is the HTTP status of the kind; 500 for one that is not in the table.
func (k Kind) Status() int {
	if s, ok := statuses[k]; ok {
		return s
	}
	return 500
}

// Throttle reasons, as the Lambda API spells them (Error.Reason).
const (
	ReasonConcurrency         = "ConcurrentInvocationLimitExceeded"
	ReasonReservedConcurrency = "ReservedFunctionConcurrentInvocationLimitExceeded"
	ReasonRate                = "FunctionInvocationRateLimitExceeded"
	ReasonReservedRate        = "ReservedFunctionInvocationRateLimitExceeded"
	ReasonCaller              = "CallerRateLimitExceeded"
)

// Error is the one error type: what was being done, to what, what kind of
// failure it was, and why. Message is what a caller of the API is told; Err,
// the cause, is for the log.
type Error struct {
	Op      string // such as "registry.Create"
	Subject string // such as a function's ARN
	Kind    Kind
	Message string
	Reason  string // of a throttle
	// RetryAfter is when a throttled caller had better come again; 0 is not
	// known.
	RetryAfter time.Duration
	Err        error
}

// Error gives all of it, for the log.
func (e *Error) Error() string {
	var parts []string
	for _, s := range []string{e.Op, e.Subject, string(e.Kind), e.Message} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	if e.Err != nil && !strings.HasSuffix(e.Message, e.Err.Error()) {
		parts = append(parts, e.Err.Error())
	}
	return strings.Join(parts, ": ")
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an error with a message for the caller of the API. A %w in the
// format is kept as the cause.
func Errorf(kind Kind, format string, args ...any) *Error {
	wrapped := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Message: wrapped.Error(), Err: errors.Unwrap(wrapped)}
}

// KindOf is the kind of the first Error in err's chain: Service if there is
// none, "" if err is nil.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Service
}
