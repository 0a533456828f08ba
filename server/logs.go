package server

import (
	"context"
	"strings"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/lambda"
	"github.com/hearth-faas/hearth/worker/logs"
)

// logReader is the log store in the words of CloudWatch Logs.
type logReader struct{ store *logs.Store }

func (l logReader) Groups(ctx context.Context, account hearth.Account, prefix, token string, max int) ([]lambda.LogGroup, string, error) {
	groups, next, err := l.store.Groups(ctx, account, prefix, token, max)
	out := make([]lambda.LogGroup, len(groups))
	for i, g := range groups {
		out[i] = lambda.LogGroup(g)
	}
	return out, next, err
}

func (l logReader) Streams(ctx context.Context, account hearth.Account, group string, q lambda.StreamQuery) ([]lambda.LogStream, string, error) {
	streams, next, err := l.store.Streams(ctx, account, group, logs.StreamQuery(q))
	out := make([]lambda.LogStream, len(streams))
	for i, s := range streams {
		out[i] = lambda.LogStream(s)
	}
	return out, next, err
}

func (l logReader) Events(ctx context.Context, account hearth.Account, group, stream string, q lambda.EventQuery) (lambda.EventPage, error) {
	page, err := l.store.Events(ctx, account, group, stream, logs.EventQuery(q))
	if err != nil {
		return lambda.EventPage{}, err
	}
	return lambda.EventPage{Events: logEvents(page.Events), Forward: page.Forward, Backward: page.Backward}, nil
}

func (l logReader) Filter(ctx context.Context, account hearth.Account, group string, q lambda.FilterQuery) ([]lambda.LogEvent, string, error) {
	events, next, err := l.store.Filter(ctx, account, group, logs.FilterQuery{
		Streams: q.Streams, Prefix: q.Prefix, From: q.From, To: q.To, Match: q.Match, Token: q.Token, Max: q.Max,
	})
	return logEvents(events), next, err
}

func logEvents(events []logs.Event) []lambda.LogEvent {
	out := make([]lambda.LogEvent, len(events))
	for i, e := range events {
		out[i] = lambda.LogEvent{At: e.At, Ingested: e.Ingested, Stream: e.Stream, Message: e.Message, ID: e.ID}
	}
	return out
}

// logLines is the log store in the words of the control API.
type logLines struct{ s *Server }

func (l logLines) Read(ctx context.Context, q control.LogQuery, emit func(control.LogLine) error) error {
	group := l.group(ctx, q)
	one := func(e logs.Event) error {
		return emit(control.LogLine{At: e.At, RequestID: e.RequestID, Stream: e.Stream, Message: strings.TrimSuffix(e.Message, "\n")})
	}
	filter := logs.FilterQuery{From: q.Since, RequestID: q.RequestID}
	if q.Follow {
		return l.s.logs.Follow(ctx, q.Account, group, filter, one)
	}
	for {
		page, next, err := l.s.logs.Filter(ctx, q.Account, group, filter)
		if err != nil {
			return err
		}
		for _, e := range page {
			if err := one(e); err != nil {
				return err
			}
		}
		if next == "" {
			return nil
		}
		filter.Token = next
	}
}

// group is the function's log group: the one that it is configured to have,
// or, once it has been deleted, the one that it had by its name.
func (l logLines) group(ctx context.Context, q control.LogQuery) string {
	f, err := l.s.registry.Get(ctx, q.Account, q.Function, "")
	if err != nil {
		f = &hearth.Function{Name: q.Function}
	}
	return f.LogGroup()
}
