package lambda

import (
	"context"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/worker/logs"
)

// LogReader reads the functions' logs for the CloudWatch Logs operations;
// *logs.Store is one. Tokens are opaque and the reader's own: one that it does
// not know is an error of kind InvalidParameter. A group or stream that does
// not exist is one of kind NotFound. Safe for concurrent use.
type LogReader interface {
	// Groups lists an account's log groups whose names begin with prefix, by
	// name.
	Groups(ctx context.Context, account hearth.Account, prefix, token string, max int) (page []logs.Group, next string, err error)
	// Streams lists a group's streams.
	Streams(ctx context.Context, account hearth.Account, group string, q logs.StreamQuery) (page []logs.StreamInfo, next string, err error)
	// Events reads one stream in the order of time, page by page in both
	// directions.
	Events(ctx context.Context, account hearth.Account, group, stream string, q logs.EventQuery) (logs.EventPage, error)
	// Filter reads a group's events over all or some streams.
	Filter(ctx context.Context, account hearth.Account, group string, q logs.FilterQuery) (page []logs.Event, next string, err error)
}

// LogStore is a LogReader whose groups can be made and changed, too.
type LogStore interface {
	LogReader
	// CreateGroup makes an empty group. Errors: AlreadyExists, TooManyTags.
	CreateGroup(ctx context.Context, account hearth.Account, name string, n logs.NewGroup) error
	// DeleteGroup deletes a group with its events. Errors: NotFound, and
	// Validation for one that is protected.
	DeleteGroup(ctx context.Context, account hearth.Account, name string) error
	// SetRetention sets how many days a group's events are kept; 0 is as long
	// as those of others.
	SetRetention(ctx context.Context, account hearth.Account, name string, days int) error
	// Protect sets whether a group is protected against deletion.
	Protect(ctx context.Context, account hearth.Account, name string, protected bool) error
	GroupTags(ctx context.Context, account hearth.Account, name string) (map[string]string, error)
	TagGroup(ctx context.Context, account hearth.Account, name string, tags map[string]string) error
	UntagGroup(ctx context.Context, account hearth.Account, name string, keys []string) error
}

var _ LogStore = (*logs.Store)(nil)
