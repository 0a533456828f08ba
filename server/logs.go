package server

import (
	"context"
	"strings"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/worker/logs"
)

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
