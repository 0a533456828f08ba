package server

import (
	"context"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/sqs"
)

// lateQueues lets the pollers, which are opened before them, use SQS's queues.
type lateQueues struct{ s *Server }

func (l lateQueues) Receive(ctx context.Context, arn string, o sqs.ReceiveOptions) ([]sqs.Message, error) {
	return l.s.queues.Receive(ctx, arn, o)
}

func (l lateQueues) Delete(ctx context.Context, arn string, handles ...string) []error {
	return l.s.queues.Delete(ctx, arn, handles...)
}

func (l lateQueues) ChangeVisibility(ctx context.Context, arn string, changes ...sqs.Visibility) []error {
	return l.s.queues.ChangeVisibility(ctx, arn, changes...)
}

func (l lateQueues) Release(ctx context.Context, arn string, handles ...string) []error {
	return l.s.queues.Release(ctx, arn, handles...)
}

func (l lateQueues) Attributes(ctx context.Context, account hearth.Account, name string, names []string) (map[string]string, error) {
	return l.s.queues.Attributes(ctx, account, name, names)
}

func (l lateQueues) Create(ctx context.Context, account hearth.Account, name string, attributes, tags map[string]string) error {
	return l.s.queues.Create(ctx, account, name, attributes, tags)
}

func (l lateQueues) Exists(account hearth.Account, name string) error {
	return l.s.queues.Exists(account, name)
}

func (l lateQueues) Send(ctx context.Context, arn string, body []byte, attributes map[string]string) error {
	return l.s.queues.Send(ctx, arn, body, attributes)
}

func (l lateQueues) ARN(account hearth.Account, name string) string {
	return l.s.queues.ARN(account, name)
}
