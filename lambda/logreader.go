package lambda

import (
	"context"
	"time"

	hearth "github.com/hearth-faas/hearth"
)

// LogReader reads the functions' logs for the CloudWatch Logs operations. Tokens
// are opaque and the reader's own; one that it does not know is an error of
// kind InvalidParameter. A group or stream that does not exist is one of kind
// NotFound. Times are inclusive; a zero time is no bound. Safe for concurrent
// use.
type LogReader interface {
	// Groups lists an account's log groups whose names begin with prefix, by
	// name.
	Groups(ctx context.Context, account hearth.Account, prefix, token string, max int) (groups []LogGroup, next string, err error)
	// Streams lists a group's streams.
	Streams(ctx context.Context, account hearth.Account, group string, q StreamQuery) (streams []LogStream, next string, err error)
	// Events reads one stream in the order of time, page by page in both
	// directions. A page at either end may be empty, and its token on that
	// side is then the one that was given.
	Events(ctx context.Context, account hearth.Account, group, stream string, q EventQuery) (EventPage, error)
	// Filter reads a group's events over all or some streams in the order of
	// time.
	Filter(ctx context.Context, account hearth.Account, group string, q FilterQuery) (events []LogEvent, next string, err error)
}

// LogGroup is a log group. RetentionDays 0 is for ever.
type LogGroup struct {
	Name          string
	Created       time.Time
	StoredBytes   int64
	RetentionDays int
}

// LogStream is a log stream: an execution environment's log. Times are zero
// where there is no event.
type LogStream struct {
	Name          string
	Created       time.Time
	FirstEvent    time.Time
	LastEvent     time.Time
	LastIngestion time.Time
}

// LogEvent is a line of a log. ID is unique in its group.
type LogEvent struct {
	At       time.Time
	Ingested time.Time
	Stream   string
	Message  string
	ID       string
}

// StreamQuery selects streams by prefix and orders them, by name or by the
// last event.
type StreamQuery struct {
	Prefix     string
	ByTime     bool
	Descending bool
	Token      string
	Max        int
}

// EventQuery selects events of a stream. Without a token the page is the last,
// or the first if FromHead.
type EventQuery struct {
	From, To time.Time
	FromHead bool
	Token    string
	Max      int
}

// EventPage is a page of a stream, oldest event first. Forward is for what
// follows it, Backward for what comes before.
type EventPage struct {
	Events            []LogEvent
	Forward, Backward string
}

// FilterQuery selects events of a group. Streams, if not empty, are the names
// of the streams to read; else Prefix is what their names begin with. Match
// says which messages to return; nil is all.
type FilterQuery struct {
	Streams  []string
	Prefix   string
	From, To time.Time
	Match    func(message string) bool
	Token    string
	Max      int
}
